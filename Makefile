# Needs make, git and a Python 3.11 or newer; everything else comes into .venv, and nothing is changed outside this folder, but for
# `make test`: its servers and mail programs are Debian packages, see tools/system_packages.sh.
#
#   PYTHON=…  the Python that makes the virtual environment (default: the first fit one that tools/find_python.sh finds)
#   DATA=…    the folder that `make run` keeps its mail and its certificate in (default: var)
#   ARGS=…    more options for the command that is run
#   TESTS=…   the tests to run, as trial takes them (default: all)

VENV := .venv
BIN := $(VENV)/bin
DATA ?= var
ARGS ?=
TESTS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
export PYTHON

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint demo bench changelog clean distclean

help:
	@echo "make run        start the mail server in this folder, state below DATA=$(DATA); options in ARGS='…'"
	@echo "make test       ruff, mypy and all tests (TESTS='tests.core' for some); the last line is the count"
	@echo "make lint       ruff and mypy alone"
	@echo "make demo       show a session that moves from one network to another"
	@echo "make bench      measure against peers"
	@echo "make changelog  show the next section of CHANGELOG.md"
	@echo "make clean      remove what tests and builds left; make distclean: the virtual environment too"

# Mail, certificate and passwords are kept below DATA; see `make run ARGS=--help`.
run: $(VENV)/.run
	@mkdir -p '$(DATA)'
	cd '$(DATA)' && exec '$(CURDIR)/$(BIN)/twistd' --nodaemon --pidfile= mem-continuity --data . $(ARGS)

test: $(VENV)/.test
	@tools/system_packages.sh
	@$(BIN)/python tools/run_tests.py $(TESTS)

lint: $(VENV)/.test
	@$(BIN)/python tools/run_tests.py --lint

demo: $(VENV)/.test
	@$(BIN)/python demo/handover.py $(ARGS)

bench: $(VENV)/.test
	@$(BIN)/python bench/run.py $(ARGS)

changelog: $(VENV)/.test
	@$(BIN)/towncrier build --draft

$(BIN)/python:
	@python=$$(sh tools/find_python.sh) && echo "making $(VENV) with $$python" && "$$python" -m venv --clear $(VENV)

$(VENV)/.run: setup.py pyproject.toml | $(BIN)/python
	@echo "installing mem-continuity into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: setup.py pyproject.toml tests/interop/programs/node/package-lock.json | $(BIN)/python
	@echo "installing mem-continuity and the tools of its tests into $(VENV) (the first time takes a minute)"
	@$(PIP) --editable '.[test,dev]'
	@$(BIN)/python -m tests.interop.programs.node_packages
	@touch $@ $(VENV)/.run

clean:
	rm -rf build dist mem_continuity.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis twisted/plugins/dropin.cache
	find mem_continuity twisted tests bench demo tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV)
