"""What a stranger's tokenizer makes of texts, asked for in a process of its own.

Its patterns may run, or grow a text, without end; the process has bounds on time and memory. It runs this file by itself, so
nothing of the package is imported here.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MOST_TEXTS = 100
MOST_SECONDS, MOST_BYTES = 60, 2 << 30
"""Of processor time and address space. Ours."""


def texts_apart(
    own: Path, base: Path, texts: Sequence[str], *, most_seconds: int = MOST_SECONDS, most_bytes: int = MOST_BYTES
) -> int | None:
    """Return for how many texts two ``tokenizer.json`` give other ids; None if one fails or goes beyond the bounds."""
    done = subprocess.run(
        [sys.executable, "-I", __file__, str(own), str(base)],
        input=json.dumps([most_seconds, most_bytes, *texts]),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
    )
    return int(done.stdout) if done.returncode == 0 else None


def main() -> None:
    """Write the number that :func:`texts_apart` returns."""
    seconds, size, *texts = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    from tokenizers import Tokenizer

    both = []
    for file in sys.argv[1:]:
        tokenizer = Tokenizer.from_file(file)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        both.append([tokenizer.encode(text).ids for text in texts])
    sys.stdout.write(str(sum(one != other for one, other in zip(*both, strict=True))))


if __name__ == "__main__":
    main()
