# `make demo` and `make test` do everything on a machine with Python 3.11 and git: they make .venv, install the locked
# versions into it, and run. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# What a user may set: `make demo CORES=8`, `make demo ARGS="--configfile config/paper.yaml -n"`.
CORES ?= 2
ARGS ?=
RUN ?=
PYTEST ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
SUMMARY ?= $(BIN)/python -c 'from infoconflict.reporting.summary import print_summary; \
  print_summary("results/metrics", "results/report/index.html")'

# Programs that jobs start by name, and nothing of another Python.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) |
	  while IFS='|' read -r target about; do printf '  make %-15s %s\n' "$$target" "$$about"; done

# ---- the main job ----------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(INSTALLED) ## the default config from poison to report, then a summary table
	@$(BIN)/snakemake --cores $(CORES) --rerun-incomplete $(ARGS)
	@$(SUMMARY)

.PHONY: ledger
ledger: $(INSTALLED) ## what the config is predicted to cost, and has cost: make ledger ARGS="--configfile config/paper.yaml"
	@$(BIN)/snakemake ledger --cores 1 --quiet all $(ARGS)

.PHONY: diff
diff: $(INSTALLED) ## which cells changed since an earlier run, and why: make diff RUN=folder
	@$(BIN)/python -m infoconflict.diff "$(or $(RUN),$(error say which run, as in: make diff RUN=folder))"

# The sentence that ended a step, after all that Snakemake says of it: the last line of a log of this run.
LAST_WORD := last_word() { find "$$1/logs" -name '*.log' -newer "$$1/purify.yaml" -exec tail -qn 1 {} + 2> /dev/null | \
  sed -n 's/^Error: //p' | tail -n 1 >&2 || true; }; last_word

# Values reach Python through the environment, so that they may hold spaces and quotes. Killed at any time, it goes on.
.PHONY: purify
purify: export OUT ?= results/purified
purify: $(INSTALLED) ## a stranger's model, checked and merged: MODEL=... BASE=... DATA=... [LABEL_NAMES=... SUSPECT_TRIGGERS=...]
	@$(BIN)/python -m infoconflict.purify.options
	@out="$$(cd "$$OUT" && pwd)"
	@$(BIN)/snakemake --snakefile workflow/rules/purify.smk --directory "$$out" --configfile "$$out/purify.yaml" \
	  --cores $(CORES) --rerun-incomplete $(ARGS) || { $(LAST_WORD) "$$out"; exit 1; }
	@echo "The page is $$out/report.html, the purified model is in $$out/model"

# Nothing but a clean end takes Snakemake's own lock away; kill -9, a lost terminal and a power cut leave it.
.PHONY: unlock
unlock: $(INSTALLED) ## let a run that was killed by force go on; OUT=... if it was a purification
ifdef OUT
	@out="$$(cd "$$OUT" && pwd)"
	@$(BIN)/snakemake --snakefile workflow/rules/purify.smk --directory "$$out" --configfile "$$out/purify.yaml" --unlock $(ARGS)
else
	@$(BIN)/snakemake --unlock $(ARGS)
endif

# ---- checks ----------------------------------------------------------------------------------------------------------

.PHONY: test
test: lint test-unit test-workflow test-slurm ## all checks: lint, unit, workflow and Slurm tests

.PHONY: lint
lint: $(INSTALLED) ## style, types, formatting of Python and Snakemake files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/python tests/lint_workflow.py

.PHONY: format
format: $(INSTALLED) ## mend what lint would say about formatting
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .
	$(BIN)/snakefmt Snakefile workflow

.PHONY: docs
docs: $(INSTALLED) ## the config's schema and the tables of its README, from the code
	$(BIN)/python -m infoconflict.config schema > config/.schema && mv config/.schema config/config.schema.json
	$(BIN)/python -m infoconflict.config readme config/README.md

.PHONY: test-unit
test-unit: $(INSTALLED) ## functions and scripts, in two processes
	$(BIN)/python -m pytest tests --ignore tests/workflow --ignore tests/slurm -n 2 $(PYTEST)

.PHONY: test-workflow
test-workflow: $(INSTALLED) ## the tiny config from end to end, and which edit reruns what, in two processes
	$(BIN)/python -m pytest tests/workflow -n 2 $(PYTEST)

.PHONY: test-slurm
test-slurm: $(INSTALLED) ## the profile on a real one-node Slurm (needs root, slurm-wlm and munge)
	$(BIN)/python -m pytest tests/slurm $(PYTEST)

.PHONY: benchmark
benchmark: $(VENV)/.installed-bench ## speed and memory beside peers, each pair in one run
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

# ---- environment -----------------------------------------------------------------------------------------------------

.PHONY: install
install: $(INSTALLED) ## only make .venv

# Whole or not at all: the stamp is the last thing written, and the next `make` installs again where it is missing or old.
$(INSTALLED): requirements.lock pyproject.toml
	@python=""
	for candidate in python3.11 python3; do
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then python=$$candidate; break; fi
	done
	if [ -z "$$python" ]; then
	  echo "Python 3.11 is not on PATH (found: $$(python3 --version 2>&1 || true)); install it, with its venv module, and run make again." >&2
	  exit 1
	fi
	if ! $(BIN)/python -m pip --version > /dev/null 2>&1; then
	  echo "Making $(VENV) with $$($$python --version)"
	  "$$python" -m venv --clear $(VENV) || { echo "No virtual environment could be made; on Debian install python3.11-venv and run make again." >&2; exit 1; }
	fi
	echo "Installing the versions of requirements.lock (minutes, once)"
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.installed-bench: requirements-bench.lock $(INSTALLED)
	@$(PIP) install -r requirements-bench.lock
	touch $@

.PHONY: clean-venv
clean-venv: ## remove .venv
	rm -rf $(VENV)

# Newest versions that go together; then run all tests, and say in CHANGELOG.md whether numbers changed.
.PHONY: lock
lock: ## resolve pyproject.toml anew and write the lock files and envs/
	@folder=$$(mktemp -d)
	trap 'rm -rf "$$folder"' EXIT
	python3.11 -m venv "$$folder/venv"
	pip="$$folder/venv/bin/python -m pip --quiet --disable-pip-version-check"
	frozen() { $$pip freeze --all --exclude pip --exclude infoconflict | grep -viE '^(nvidia|cuda|triton)' | sed 's/+.*//' | LC_ALL=C sort -f; }
	write() { { grep '^#' "$$1"; cat "$$2"; } > "$$folder/new"; cp "$$folder/new" "$$1"; }
	$$pip install '.[dev]' setuptools
	frozen > "$$folder/main"
	$$pip install '.[dev,gpu]' -c "$$folder/main"
	frozen | grep -vxFf "$$folder/main" > "$$folder/gpu"
	$$pip uninstall -y $$(sed 's/==.*//' "$$folder/gpu")
	$$pip install '.[dev,bench]' -c "$$folder/main"
	frozen | grep -vxFf "$$folder/main" > "$$folder/bench"
	write requirements.lock "$$folder/main"
	write requirements-gpu.lock "$$folder/gpu"
	write requirements-bench.lock "$$folder/bench"
	python3.11 envs/render.py

# Recipes of several lines are one script.
.ONESHELL:
