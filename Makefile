# What can be done here; `make` alone lists it.
#
#     make PYTHON=python3.12 ...      another interpreter than the one found
#     make TENSORFLOW=gpu ...         TensorFlow with CUDA instead of the smaller one without (switch after distclean)

TENSORFLOW ?= cpu
EXTRAS = $(TENSORFLOW),demo,dev

# TensorFlow has no wheels for Pythons beyond these.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; \
	done)

BIN = .venv/bin
INSTALLED = .venv/installed-$(TENSORFLOW)
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check

MINUTES ?= 30

.PHONY: help install serve test lint types docs protos bench bench-parts soak fuzz constraints clean distclean

help:
	@echo 'make serve        make two small models and serve them'
	@echo 'make test         lint, check types, run the tests'
	@echo 'make lint types   only these'
	@echo 'make docs protos  remake the generated files: docs/configuration.md, the descriptor set'
	@echo 'make bench        measure serving_app beside other servers: two hours (BENCH=--quick for twenty minutes)'
	@echo 'make bench-parts  measure single parts of it'
	@echo 'make soak         disturb a serving app for half an hour and check every promise (MINUTES=…)'
	@echo 'make fuzz         give every reader and both front ends bad inputs for half an hour (MINUTES=…)'
	@echo 'make constraints  take up the newest versions of what is depended on'
	@echo 'make clean        remove what was made, but for the environment in .venv'
	@echo 'make distclean    remove that too'

install: $(INSTALLED)

# tensorflow-serving-api is a client that the tests compare with. It asks for the whole of the `tensorflow` package,
# which would be installed over the one of TENSORFLOW, and runs with either: hence without its dependencies.
$(INSTALLED): pyproject.toml constraints.txt
	@if [ -z '$(PYTHON)' ]; then \
		echo 'No Python from 3.11 to 3.13 was found. Install one, or name it: make PYTHON=/path/of/python ...' >&2; exit 1; fi
	@if [ ! -x $(BIN)/python ] && ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		echo '$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; fi
	@echo 'Installing into .venv/ (minutes, once)'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(PIP) install -c constraints.txt -e '.[$(EXTRAS)]'
	@$(PIP) install -c constraints.txt --no-deps tensorflow-serving-api
	@touch $@

serve: install
	@$(BIN)/serving-app demo

test: lint types
	@command -v c++ >/dev/null || { echo 'The tests build a library of custom operations and need a C++ compiler.' \
		'On Debian and Ubuntu: apt-get install g++' >&2; exit 1; }
	$(BIN)/python -m tests

lint: install
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

docs: install
	$(BIN)/python -m serving_app.config.document

protos: install
	$(BIN)/python -m serving_app.protocol.compile_protos

bench: install
	@$(PIP) install -c constraints.txt -e '.[$(EXTRAS),bench]'
	$(BIN)/python -m benchmarks.suite --write docs/benchmarks $(BENCH)

bench-parts: install
	@set -e; for script in benchmarks/bench_*.py; do \
		echo "== $$script"; $(BIN)/python -m benchmarks.$$(basename $$script .py); done

soak: install
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

fuzz: install
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

# The package is installed and removed again: what stays is what it depends on, as one line of name and version each.
constraints:
	rm -rf .venv-constraints
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet '.[cpu,demo,dev]'
	.venv-constraints/bin/python -m pip install --quiet --no-deps tensorflow-serving-api
	.venv-constraints/bin/python -m pip uninstall --quiet --yes serving-app
	grep '^#' constraints.txt > .venv-constraints/constraints.txt
	.venv-constraints/bin/python -m pip freeze >> .venv-constraints/constraints.txt
	mv .venv-constraints/constraints.txt constraints.txt
	rm -rf .venv-constraints build

clean:
	rm -rf .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find serving_app tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-constraints .bench
