from tests.lint_workflow import unaccepted

REPORT = """\
Lints for snakefile workflow/rules/common.smk:
    * Mixed rules and functions in same snakefile.:
      Small one-liner functions used only once should be defined as lambda

Lints for rule answer (line 78, workflow/rules/answer.smk):
    * No log directive defined:
      Without a log directive, all output will be printed to the terminal.
    * Specify a conda environment or container for each rule.:
      This way, the used software for each specific step is documented.
"""


def test_only_what_is_not_accepted_is_reported():
    assert unaccepted(REPORT) == ["rule answer (line 78, workflow/rules/answer.smk): No log directive defined"]
    assert unaccepted("") == []


def test_absolute_paths():
    report = """\
Lints for snakefile workflow/rules/report.smk:
    * Absolute path "/results/", " in line 3:
      Do not define absolute paths inside of the workflow.
    * Absolute path "/usr/share/dict" in line 4:
      Do not define absolute paths inside of the workflow.
"""
    assert unaccepted(report) == ['snakefile workflow/rules/report.smk: Absolute path "/usr/share/dict" in line 4']
