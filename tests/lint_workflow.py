"""Run ``snakemake --lint`` and fail on any complaint that is not accepted below, with the reason why it is."""

import re
import subprocess
import sys
from pathlib import Path

ACCEPTED = {
    "Specify a conda environment or container for each rule.": "one locked environment runs all rules, see envs/",
    "Mixed rules and functions in same snakefile.": "an input function stands beside the only rule that uses it",
}


def accepted(complaint: str) -> bool:
    """Say whether a complaint is to be left as it is."""
    if path := re.match(r'Absolute path "(/[^/]*)', complaint):
        # The linter takes any quoted text that begins with a slash for one, the end of a relative path, too.
        return path[1] == "/" or not Path(path[1]).exists()
    return complaint in ACCEPTED


def unaccepted(report: str) -> list[str]:
    """Return the complaints of a lint report that are not accepted, each with the rule or file it is about."""
    found, place = [], ""
    for line in report.splitlines():
        if match := re.match(r"Lints for (.*):$", line):
            place = match[1]
        elif (match := re.match(r" {4}\* (.*):$", line)) and not accepted(match[1]):
            found.append(f"{place}: {match[1]}")
    return found


def main() -> int:
    """Return an exit status: 0 if nothing is left to mend."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    report = done.stdout + done.stderr
    if done.returncode and "Lints for " not in report:
        sys.stderr.write(report)
        return 1
    complaints = unaccepted(report)
    sys.stderr.writelines(f"{complaint}\n" for complaint in complaints)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
