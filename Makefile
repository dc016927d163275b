# Every target builds .venv when it is missing. EXPERIMENT names a file of sweeps/experiment.
PYTHON ?= python3
EXPERIMENT ?= cpu
RUNS ?= runs
ARGS ?=
PY := .venv/bin/python
RUN := $(RUNS)/$(EXPERIMENT)
.DEFAULT_GOAL := help
.PHONY: help sweep data plan status peek fit extrapolate emergence plots report test test-slow bench lint clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

test: .venv/installed ## the tests, without the slow ones
	$(PY) -m pytest -q -m 'not slow'

test-slow: .venv/installed ## the slow tests
	$(PY) -m pytest -q -m slow

lint: .venv/installed ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean: ## remove the virtual environment (never the runs)
	rm -rf .venv build *.egg-info
