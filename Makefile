.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Where the data sets are, how many seeds, and further options of `tokd table`.
DATA_FFPP ?= data/ffpp
DATA_CELEBDF ?= data/celebdf
SEEDS ?= 1
OPTIONS ?=
REPRODUCED := $(addprefix reproduce-table,1 2 3 4 5 6 7) reproduce-figure3 reproduce-figure4

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  make reproduce-table1 … 7, reproduce-figure3 | 4   with DATA_FFPP=DIR DATA_CELEBDF=DIR SEEDS=N"

install: $(READY)  ## Make .venv with everything that the other targets need

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 …") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## Synthetic data, teacher, students, test: one table, two figures (about 6 minutes)
	$(BIN)/tokd tour

$(REPRODUCED): reproduce-%: $(READY)
	$(BIN)/tokd $(subst table,table ,$(subst figure,figure ,$*)) --seeds $(SEEDS) \
	  --data ffpp=$(DATA_FFPP) celebdf=$(DATA_CELEBDF) $(OPTIONS)

reproduce-table3-demo: $(READY)  ## Table 3 in small on synthetic data: 13 columns and a page (about 25 minutes)
	$(BIN)/tokd demo --out data/demo
	$(BIN)/tokd table 3 --dataset demo --data data/demo --workers 2 $(OPTIONS)

reproduce-table2-demo: $(READY)  ## Table 2 in small on synthetic data: all detectors and a page
	$(BIN)/tokd demo --out data/demo
	$(BIN)/tokd table 2 --dataset demo-c23 --data data/demo --workers 2 $(OPTIONS)

# Workers, and the processes that tests start, share compiled files.
test test-all: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)  ## The default test suite (minutes)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all: $(READY)  ## The slow tests too
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not gpu"

lint: $(READY)  ## Style: ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(READY)  ## Types: mypy --strict
	$(BIN)/mypy

bench: $(READY)  ## Speed, as ratios to a stated peer or lower bound (about 10 minutes)
	$(BIN)/python -m benchmarks

bench-all: $(READY)  ## The whole matrix, and how cost grows; goes on where it was (about an hour)
	$(BIN)/python -m benchmarks --all $(OPTIONS)

docs: $(READY)  ## These pages and the package's own, from its docstrings, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

clean:  ## Remove the virtual environment and caches; data/ and runs/ stay
	rm -rf $(VENV) site build *.egg-info .pytest_cache .mypy_cache .ruff_cache

.PHONY: help install demo $(REPRODUCED) reproduce-table2-demo reproduce-table3-demo test test-all lint type bench bench-all docs clean
