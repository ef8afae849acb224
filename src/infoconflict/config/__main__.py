"""``python -m infoconflict.config``: the schema, a check, the tables of keys."""

import sys

from infoconflict.config.docs import refresh_readme, schema_text
from infoconflict.config.loading import read_config
from infoconflict.errors import UserError
from infoconflict.grid import build_grid


def main(arguments: list[str]) -> int:
    """Run ``schema``, ``check FILE...`` or ``readme FILE`` and return an exit status."""
    match arguments:
        case ["schema"]:
            sys.stdout.write(schema_text())
        case ["readme", path]:
            refresh_readme(path)
        case ["check", *paths] if paths:
            for path in paths:
                try:
                    grid = build_grid(read_config(path))
                except UserError as error:
                    sys.stderr.write(f"{error}\n")
                    return 1
                sys.stdout.write(f"{path}: valid; {len(grid.cells)} cells to run, {len(grid.excluded)} left out\n")
        case _:
            sys.stderr.write("usage: python -m infoconflict.config schema | check FILE... | readme FILE\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
