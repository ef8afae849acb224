"""A small valid config, edits of it, and what they are answered with."""

import copy

import pytest
import yaml

from infoconflict.config.loading import load_config
from infoconflict.errors import UserError

SMALL = yaml.safe_load("""
name: small
seeds: [0, 1]
grid: {models: [a], datasets: [films, news], attacks: [cba], defenses: [none, conflict]}
models:
  a: {source: tiny, architecture: llama}
  b: {source: hub, repo: owner/name, revision: v1.0}
datasets:
  films: {source: packaged, package: vader_film_reviews, instruction: Which one, labels: [negative, positive]}
  news:
    {source: local, train: news.csv, instruction: Which, labels: [world, sports], label_names: {0: world, 1: sports}}
attacks:
  cba: {method: cba, target_labels: {films: positive, news: sports}}
  rare: {method: badnets, target_labels: {films: positive}}
training:
  backdoored: {epochs: 3, lora: {rank: 8}}
merges:
  linear: {method: linear, t: 0.5}
  ties: {method: ties, density: 0.5, lambda: 2.0}
evidence:
  words: {branch: construction, provider: {kind: local_server, model: a}}
  asked: {branch: construction, provider: {kind: openai, model: gpt, api_key_env: MY_KEY}}
  replayed: {branch: construction, provider: {kind: recorded, path: replies.jsonl}}
defenses:
  none: {method: none}
  conflict: {method: conflict, merge: linear, evidence: words}
sweep: {merges: [ties]}
""")


def edited(edits: dict[str, object]) -> dict[str, object]:
    """Return SMALL with values set at dotted paths; ``...`` removes a key."""
    raw = copy.deepcopy(SMALL)
    for path, value in edits.items():
        *parents, last = path.split("/")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else place[int(parent)]
        if value is ...:
            del place[last]
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return raw


def problems(edits: dict[str, object]) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_config(edited(edits), file="c.yaml")
    return str(caught.value).splitlines()
