.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY)  ## Make .venv with everything that the other targets need

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 …") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## Synthetic data, teacher, students, test: one table, two figures (about 10 minutes)
	$(BIN)/tokd tour

test: $(READY)  ## The default test suite (minutes)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all: $(READY)  ## The slow tests too
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not gpu"

lint: $(READY)  ## Style: ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(READY)  ## Types: mypy --strict
	$(BIN)/mypy

bench: $(READY)  ## Speed, as ratios to a stated peer or lower bound
	$(BIN)/python -m benchmarks

clean:  ## Remove the virtual environment and caches; data/ and runs/ stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

.PHONY: help install demo test test-all lint type bench clean
