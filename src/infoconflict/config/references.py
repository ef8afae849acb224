"""References between sections of a config: ids that are not defined, labels that are not there."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infoconflict import attacks, defenses
from infoconflict.attacks.base import planted_by_rows_alone
from infoconflict.config_errors import Location, Problem
from infoconflict.defenses import controls
from infoconflict.errors import did_you_mean

# What each implemented defense refers to: its key, and the section where the id is defined.
_REFERENCES = {"internal": ("merge",), "external": ("evidence",), "conflict": ("merge", "evidence")}
_SECTION_OF = {"merge": "merges", "evidence": "evidence"}


def broken_references(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what only two sections together can get wrong.

    It looks at the raw values, so that a typo elsewhere in an entry does not hide its broken references; values of a
    wrong type are passed over, since they are reported already.
    """

    def refer(at: Location, name: Any, section: str) -> Iterator[Problem]:
        known = raw.get(section, {} if section in _SECTION_OF.values() else None)
        if isinstance(name, str) and isinstance(known, Mapping) and name not in known:
            yield at, f"'{name}' is not defined under {section}{_hint(name, known, 'defined')}"

    grid = _mapping(raw.get("grid"))
    for axis in ("models", "datasets", "attacks", "defenses"):
        for name in _texts(grid.get(axis)):
            yield from refer(("grid", axis), name, axis)
    for number, skip in enumerate(_list(grid.get("skip"))):
        for key, names in _mapping(skip).items():
            crossed = _texts(grid.get(f"{key}s"))
            known = [*crossed, *(_control_ids(raw) if key == "defense" else ())]
            for name in _one_or_more(names):
                if crossed and name not in known:
                    hint = did_you_mean(name, known) or "; correct or remove the entry"
                    yield ("grid", "skip", number, key), f"matches no cell, '{name}' is not in grid.{key}s{hint}"
    yield from _wrong_target_labels(raw)
    for name, attack in _mapping(raw.get("attacks")).items():
        for key in ("layers", "update_weights") if _is_edit(attack) else ():
            for model in _mapping(_mapping(attack).get(key)):
                yield from refer(("attacks", name, key), model, "models")
    if _mapping(raw.get("clean_share")).get("holdout") == 0:
        for name, merge in _mapping(raw.get("merges")).items():
            if _mapping(merge).get("t", "auto") == "auto":
                text = "auto needs held-out clean rows; give a number or raise clean_share.holdout above 0"
                yield ("merges", name, "t"), text
    for name, model in _mapping(raw.get("models")).items():
        for stage, training in _mapping(raw.get("training")).items():
            if _mapping(model).get("quantization") == "nf4" and _mapping(training).get("method") == "full":
                text = (
                    f"nf4 trains adapters only, and training.{stage}.method is full; write none, or method: lora there"
                )
                yield ("models", name, "quantization"), text
    for name, attack in _mapping(raw.get("attacks")).items():
        for model_name, model in _mapping(raw.get("models")).items():
            if _mapping(attack).get("victim_tuning") and _mapping(model).get("quantization") == "nf4":
                text = f"starts from whole weights, and models.{model_name}.quantization is nf4; write none there"
                yield ("attacks", name, "victim_tuning"), text
    for name in _mapping(_mapping(_mapping(raw.get("training")).get("backdoored")).get("rows")):
        yield from refer(("training", "backdoored", "rows"), name, "datasets")
    for name in _texts(_mapping(raw.get("sweep")).get("merges")):
        yield from refer(("sweep", "merges"), name, "merges")
    for name, attack in _mapping(raw.get("attacks")).items():
        oracle = _mapping(_mapping(attack).get("oracle"))
        if oracle.get("kind") == "local_server" and attack.get("method") in attacks.METHODS:
            yield from refer(("attacks", name, "oracle", "model"), oracle.get("model"), "models")
    for name, evidence in _mapping(raw.get("evidence")).items():
        provider = _mapping(_mapping(evidence).get("provider"))
        if provider.get("kind") == "local_server":
            yield from refer(("evidence", name, "provider", "model"), provider.get("model"), "models")
    yield from _broken_in_experiments(raw)
    paper = _mapping(raw.get("paper"))
    for section in ("models", "datasets"):
        for name in _mapping(paper.get(section)):
            yield from refer(("paper", section, name), name, section)
    for name in _texts(paper.get("further_defenses")):
        yield from refer(("paper", "further_defenses"), name, "defenses")
    evaluation = _mapping(raw.get("evaluation"))
    judges: list[tuple[Location, Any]] = [((key,), evaluation.get(key)) for key in ("judge", "payload_judge")]
    judges += [
        (("compare_judges", number), judge) for number, judge in enumerate(_list(evaluation.get("compare_judges")))
    ]
    for where, judge in judges:
        provider = _mapping(_mapping(judge).get("provider"))
        if provider.get("kind") == "local_server":
            yield from refer(("evaluation", *where, "provider", "model"), provider.get("model"), "models")
    for name, defense in _mapping(raw.get("defenses")).items():
        for key in _REFERENCES.get(str(_mapping(defense).get("method")), ()):
            yield from refer(("defenses", name, key), defense.get(key), _SECTION_OF[key])
        for key in _per_model(_mapping(defense).get("method")):
            for model in _mapping(_mapping(defense).get(key)):
                yield from refer(("defenses", name, key), model, "models")
        method = str(_mapping(defense).get("method"))
        if method.endswith("_oracle") and method in defenses.METHODS and not str(name).endswith("_oracle"):
            text = f"is told what the attack inserts, and its id does not say so; rename it to {name}_oracle"
            yield ("defenses", name), text


def _per_model(method: Any) -> frozenset[str]:
    # Unchecked values may be anything, lists too.
    return defenses.load(method).per_model if isinstance(method, str) and method in defenses.METHODS else frozenset()


def _wrong_target_labels(raw: Mapping[str, Any]) -> Iterator[Problem]:
    grid, datasets = _mapping(raw.get("grid")), raw.get("datasets", {})
    if not isinstance(datasets, Mapping):
        return
    labels = {name: _texts(_mapping(dataset).get("labels")) for name, dataset in datasets.items()}
    for name, attack in _mapping(raw.get("attacks")).items():
        targets = _mapping(attack).get("target_labels")
        if str(_mapping(attack).get("method")) not in attacks.METHODS or not isinstance(targets, Mapping):
            continue
        at: Location = ("attacks", name, "target_labels")
        for dataset, label in targets.items():
            if dataset not in datasets:
                yield at, f"'{dataset}' is not defined under datasets{_hint(dataset, datasets, 'defined')}"
            elif isinstance(label, str) and labels[dataset] and label not in labels[dataset]:
                hint = _hint(label, labels[dataset], "its labels")
                yield (*at, dataset), f"'{label}' is none of the labels of {dataset}{hint}"
        if name not in _texts(grid.get("attacks")):
            continue
        skips = [_mapping(skip) for skip in _list(grid.get("skip"))]
        skipped = {
            dataset
            for skip in skips
            if name in _one_or_more(skip.get("attack")) and not {"model", "defense"} & {*skip}
            for dataset in _one_or_more(skip.get("dataset"))
        }
        for dataset in _texts(grid.get("datasets")):
            # Skipped cells need no target, chat data sets have no labels to choose it from.
            if labels.get(dataset) and dataset not in targets and dataset not in skipped:
                hint = f"add '{dataset}: LABEL' or a grid.skip entry with attack: {name} and dataset: {dataset}"
                yield at, f"names no label for {dataset}, which is in the grid; {hint}"


def _broken_in_experiments(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what the further experiments name in vain: ids that are not defined, and methods that they are not for."""

    def defined(at: Location, name: Any, section: str) -> Iterator[Problem]:
        known = _mapping(raw.get(section))
        if isinstance(name, str) and name not in known:
            yield at, f"'{name}' is not defined under {section}{_hint(name, known, 'defined')}"

    def all_defined(at: Location, entry: Mapping[Any, Any], *sections: str) -> Iterator[Problem]:
        for section in sections:
            for name in _texts(entry.get(section)):
                yield from defined((*at, section), name, section)

    def method_of(name: str, section: str) -> str:
        return str(_mapping(_mapping(raw.get(section)).get(name)).get("method"))

    curve, swap = _mapping(raw.get("clean_share_curve")), _mapping(raw.get("role_swap"))
    yield from all_defined(("clean_share_curve",), curve, "defenses", "models", "datasets", "attacks")
    for name in _texts(curve.get("defenses")):
        method = method_of(name, "defenses")
        if method in defenses.METHODS and "merge" not in defenses.load(method).model_fields:
            text = f"'{name}' merges no conflict model, so that its curve would be a line; name a defense with a merge"
            yield ("clean_share_curve", "defenses"), text
    yield from all_defined(("role_swap",), swap, "merges", "models", "datasets", "attacks")
    for name in _texts(swap.get("attacks")):
        method = method_of(name, "attacks")
        if method in attacks.METHODS and not planted_by_rows_alone(attacks.load(method)):
            text = f"'{name}' takes more than poisoned rows, or no labels; name an attack such as cba or badnets"
            yield ("role_swap", "attacks"), text
    for name, entry in _mapping(raw.get("direct")).items():
        yield from all_defined(("direct", name), _mapping(entry), "datasets", "attacks")
        provider = _mapping(_mapping(entry).get("provider"))
        if provider.get("kind") == "local_server":
            yield from defined(("direct", name, "provider", "model"), provider.get("model"), "models")


def _control_ids(raw: Mapping[str, Any]) -> list[str]:
    """Return what a skip may call a control: its kind, or one of the ids that the kind has in cells."""
    entries = {"merge": _mapping(raw.get("merges")), "evidence": _mapping(raw.get("evidence"))}
    ids = [one for kind, key in controls.PER.items() for one in controls.ids_of(kind, list(map(str, entries[key])))]
    return [*controls.CONTROLS, *ids]


def _is_edit(attack: Any) -> bool:
    method = str(_mapping(attack).get("method"))
    return method in attacks.METHODS and getattr(attacks.load(method), "kind", None) == "editing"


def _hint(word: object, known: Iterable[Any], what: str) -> str:
    words = [str(name) for name in known]
    return did_you_mean(str(word), words) or (f"; {what}: {', '.join(words)}" if words else "; define it there")


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _one_or_more(value: Any) -> list[str]:
    return _texts(value if isinstance(value, list) else [value])


def _texts(value: Any) -> list[str]:
    return [name for name in _list(value) if isinstance(name, str)]
