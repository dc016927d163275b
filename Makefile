# Every target builds .venv when it is missing. EXPERIMENT names a file of sweeps/experiment.
PYTHON ?= python3
EXPERIMENT ?= cpu
RUNS ?= runs
ARGS ?=
PY := .venv/bin/python
# one word for the shell, whatever it holds
quote = '$(subst ','\'',$(1))'
HERE := $(if $(filter ~/%,$(RUNS)),$(patsubst ~/%,$(HOME)/%,$(RUNS)),$(RUNS))
# the folder's name: an experiment's, or ARGS="name=..."
RUN := $(call quote,$(HERE)/$(or $(patsubst name=%,%,$(lastword $(filter name=%,$(ARGS)))),$(EXPERIMENT)))
LAUNCH := $(PY) -m lmscale.launch $(call quote,experiment=$(EXPERIMENT)) $(call quote,runs="$(subst ",\",$(HERE))") $(if $(PART),$(call quote,part=$(PART)))
# one ladder of an experiment that has several
LADDER := $(if $(PART),--where $(call quote,part == "$(PART)"))
.DEFAULT_GOAL := help
comma := ,
# the experiment's own horizon is of its own target
AIM := target.tokens=null $(patsubst %,target.%,$(subst $(comma), ,$(TARGET)))
# make ignores a misspelt variable, and would train another experiment
VARIABLES := $(strip PYTHON EXPERIMENT PART RUNS ARGS BUDGET TARGET A B $(if $(filter export,$(MAKECMDGOALS)),RUN OUT))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(VARIABLES),$(GIVEN))
$(if $(UNKNOWN),$(error $(firstword $(UNKNOWN)): no such variable; use one of $(VARIABLES), or ARGS="$(firstword $(UNKNOWN))=..." for a field of the config))
.PHONY: help sweep data plan candidates status peek fit extrapolate compare forecast verify emergence plots report watch export test test-slow bench docs lint clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

sweep: .venv/installed ## data, plan, train what is missing, analyse, report
	@$(LAUNCH) action=sweep $(ARGS); status=$$?; \
	  if [ $$status -le 1 ]; then \
	    if [ -d $(RUN)/forecasts ]; then $(PY) -m analysis verify $(RUN); fi; \
	    $(PY) -m analysis report $(RUN) || exit $$?; \
	  fi; exit $$status

data: .venv/installed ## scan the corpus into its manifest
	@$(LAUNCH) action=data $(ARGS)

plan: .venv/installed ## the table of runs: N, D, C, packs, memory, time
	@$(LAUNCH) action=plan $(ARGS)

candidates: .venv/installed ## the points of a plan, as JSON for analysis design
	@$(LAUNCH) action=candidates $(ARGS)

status: .venv/installed ## the ledger: what is done, running, failed
	@$(LAUNCH) action=status $(ARGS)

peek: .venv/installed ## samples of every component as text
	@$(LAUNCH) action=peek $(ARGS)

fit: .venv/installed ## fit a law to the runs
	@$(PY) -m analysis fit $(RUN) $(LADDER) $(ARGS)

extrapolate: .venv/installed ## predict beyond them: make extrapolate BUDGET=1e14
	@$(PY) -m analysis extrapolate $(RUN) $(LADDER) $(if $(BUDGET),--budget $(BUDGET)) $(ARGS)

compare: .venv/installed ## two recipes: make compare A=adamw B=muon TARGET=1e15 (experiments, folders or files)
	@$(if $(and $(A),$(B)),,$(error make compare A=... B=...: name two experiments, run folders or tables))$(PY) -m analysis compare \
	  $(foreach word,$(A) $(B),$(call quote,$(if $(wildcard $(word)),$(word),$(HERE)/$(word)))) $(if $(TARGET),--target $(call quote,$(TARGET))) $(LADDER) $(ARGS)

forecast: .venv/installed ## register a prediction: TARGET=dial=128, params=1e6,tokens=2e7 or budget=1e14
	@$(if $(filter dial=%,$(TARGET)),$(LAUNCH) action=forecast $(foreach word,$(AIM),$(call quote,$(word))) $(ARGS),$(PY) -m analysis forecast $(RUN) $(LADDER) \
	  $(if $(filter budget=%,$(TARGET)),--budget $(call quote,$(patsubst budget=%,%,$(TARGET))),$(if $(TARGET),--at $(call quote,$(TARGET)))) $(ARGS))

verify: .venv/installed ## train the targets of all forecasts, then score them
	@$(LAUNCH) action=verify $(ARGS)

emergence: .venv/installed ## classify every task's curve over size
	@$(PY) -m analysis emergence $(RUN) $(ARGS)

plots: .venv/installed ## the pictures alone
	@$(PY) -m analysis plots $(RUN) $(ARGS)

report: .venv/installed ## the report alone
	@$(PY) -m analysis report $(RUN) $(ARGS)

export: .venv/installed ## a run's model for transformers: make export RUN=ID OUT=FOLDER
	@$(if $(filter command%,$(origin RUN)),,$(error make export RUN=...: name a run, by its folder or its id))$(PY) -m lmscale.export \
	  $(call quote,$(RUN)) --out $(call quote,$(or $(OUT),models/$(notdir $(RUN)))) --runs $(call quote,$(HERE)) $(ARGS)

watch: .venv/installed ## a page of a ladder that still trains, on this machine (ARGS="--port 8000")
	@$(PY) -m analysis watch $(RUN) $(ARGS)

bench: .venv/installed ## the benchmarks beside their baselines: under ten minutes on two idle cores
	@$(PY) -m benchmarks.bench $(ARGS)

test: .venv/installed ## the tests, without the slow ones
	$(PY) -m pytest -q -n 2 -m 'not slow'

test-slow: .venv/installed ## the slow tests
	CHECK_SHAPES=1 $(PY) -m pytest -q -n 2 --dist loadfile -m 'slow and not alone'
	$(PY) -m pytest -q -m 'slow and alone'

lint: .venv/installed ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: .venv/installed ## the site of the docs, in build/site; every warning is an error
	@$(PY) -c 'import mkdocstrings' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	@echo "build/site/index.html (search needs: python -m http.server -d build/site)"

clean: ## remove the virtual environment (never the runs)
	rm -rf .venv build *.egg-info
