# Everything runs in .venv, which is made once and remade when pyproject.toml or constraints.txt change.
# The oldest supported libraries: make test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt
# -qq: errors only.
PYTHON ?= python3
VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
# A process a core, one thread of torch in each. worksteal keeps neighbours together, and what they share is made once.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist worksteal
INSTALL := $(BIN)/python -m pip -qq --disable-pip-version-check install --constraint $(CONSTRAINTS)
# Named one by one: runs, demos and what else lies in a checkout is not ours to spell.
SPELLED := src tests benchmarks docs scripts .ci .github $(wildcard *.md *.toml *.cff) Makefile .pre-commit-config.yaml

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint bench wheels wheel-test clean
# A target that failed half-way must not look made.
.DELETE_ON_ERROR:

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## generate scenes, train a small detector on this machine, evaluate it, draw its boxes
	$(BIN)/gfocal demo

test: $(VENV)/.dev ## the tests in minutes, and the wheel in an environment of its own
	$(BIN)/python -m pytest $(PARALLEL)
	@scripts/wheel_smoke.sh $(BIN)/python

test-all: $(VENV)/.dev ## every test, the slow ones too (under an hour)
	$(BIN)/python -m pytest $(PARALLEL) -m ""
	@scripts/wheel_smoke.sh $(BIN)/python

lint: $(VENV)/.dev ## style, format, types, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell --check-hidden $(SPELLED)

bench: $(VENV)/.dev ## speed beside a peer's, in the same run
	$(BIN)/python benchmarks/run.py

wheels: $(VENV)/.dev ## build gfocal, and gfocal-runtime of it, into dist
	$(BIN)/python -m build --no-isolation --outdir dist > /dev/null
	@wheel=$$(ls -t dist/gfocal-*.whl | head -n 1) && echo "$$wheel" && $(BIN)/python scripts/runtime_wheel.py "$$wheel"

wheel-test: $(VENV)/.dev ## build the wheel, install it elsewhere, use it
	@scripts/wheel_smoke.sh $(BIN)/python

clean: ## remove what make made, .venv too; runs and demos stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { echo "There is no '$(PYTHON)' here: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "gfocal needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments: install its venv package (on Debian and Ubuntu: python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The order-only prerequisite: the interpreter's own date says nothing.
$(VENV)/.run: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "Installing gfocal into $(VENV) (a few minutes the first time)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "Installing gfocal and its development tools into $(VENV) (a few minutes the first time)"
	$(INSTALL) -e ".[dev]"
	@touch $(VENV)/.run $@
