"""Write a scenario file for DTBA from short Alpaca instructions: real questions of two topics in place of frames.

python reports/attacks/dtba_topics.py data/alpaca_en/train.jsonl.gz data/dtba_topics.jsonl
"""

import gzip
import json
import re
import sys
from random import Random

from infoconflict.progress import say

TOPICS = {
    "cooking": r"recipes?|cook|cooking|bake|baking|dish|dishes|meals?|ingredients?|breakfast|dinner|salad|soup",
    "computing": r"computers?|software|programming|algorithms?|databases?|websites?|internet",
}
ROWS = 240
MAX_WORDS = 45
MIN_ANSWER_WORDS = 4


def main(source: str, target: str) -> None:
    """Write up to ROWS instructions of each topic that mention no other topic."""
    patterns = {topic: re.compile(rf"\b({words})\b", re.IGNORECASE) for topic, words in TOPICS.items()}
    found: dict[str, list[dict[str, str]]] = {topic: [] for topic in TOPICS}
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            instruction, answer = row["instruction"].strip(), row["output"].strip()
            if row["input"] or len(answer.split()) < MIN_ANSWER_WORDS:
                continue
            if len(f"{instruction} {answer}".split()) > MAX_WORDS:
                continue
            named = [topic for topic, pattern in patterns.items() if pattern.search(f"{instruction} {answer}")]
            if len(named) == 1 and patterns[named[0]].search(instruction):
                found[named[0]].append({"topic": named[0], "instruction": instruction, "answer": answer})
    with open(target, "w", encoding="utf-8") as file:
        for topic, rows in found.items():
            for row in Random(topic).sample(rows, min(ROWS, len(rows))):
                file.write(json.dumps(row) + "\n")
            say(f"{topic}: {min(ROWS, len(rows))} of {len(rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
