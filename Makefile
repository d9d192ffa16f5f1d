# Every target makes or reuses .venv by itself; python3 (3.10 or newer, with venv) and make are all it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# one process for each processor, at most four, for each may need 4 GB; the tests of a file stay together
IN_PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo serve test test-all lint bench fuzz audit gpu docs house page clean

demo: $(VENV)/installed
	$(BIN)/stunet demo -o stunet_demo

serve: $(VENV)/installed-to-serve
	$(BIN)/stunet serve

test: $(VENV)/installed-for-development $(VENV)/peers
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-all: $(VENV)/installed-for-development $(VENV)/peers
	$(BIN)/python -m pytest -m "" $(IN_PARALLEL)

lint: $(VENV)/installed-for-development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/xenon --max-absolute B src

bench: $(VENV)/installed-for-development
	$(BIN)/python bench/bad_inputs.py
	PYTHONPATH=. $(BIN)/python bench/hostile_inputs.py
	$(BIN)/python bench/agreement.py
	$(BIN)/python bench/inference_memory.py
	$(BIN)/python bench/inference.py
	$(BIN)/python bench/start.py
	$(BIN)/python bench/batch.py
	$(BIN)/python bench/scaling.py

# gives damaged files to all readers for so many minutes; the tests do it for about one
MINUTES ?= 30

fuzz: $(VENV)/installed-for-development
	$(BIN)/python -m tests.fuzz.run $(MINUTES)

# known weaknesses of the installed libraries, and a list of all of them
audit: $(VENV)/installed-for-development
	$(PIP) --group audit
	$(BIN)/python packaging/audit.py

# what a GPU has to prove; DEVICE=cpu SIZES=tiny tries it without one
DEVICE ?= cuda
SIZES ?= small base large

gpu: $(VENV)/installed-for-development
	sh bench/gpu_check.sh -p $(BIN)/python -d $(DEVICE) -s "$(SIZES)"

docs: $(VENV)/installed-for-development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group docs
	$(BIN)/mkdocs build --strict

house: $(VENV)/installed
	$(BIN)/python docs/draw_house.py

# bundles the viewer of the page anew, from the npm registry; needs npm, which nothing else here does
page:
	cd packaging/niivue && npm ci --no-fund --no-audit && npm run build

clean:
	rm -rf $(VENV) stunet_demo site

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

$(VENV)/installed-to-serve: $(VENV)/installed
	$(PIP) -e .[serve,dicom]
	touch $@

$(VENV)/installed-for-development: $(VENV)/installed
	$(PIP) -e .[all] --group dev
	touch $@

# What Debian has for the tests: DICOM programs to compare with, and the browser that drives the page of `stunet serve`.
# Where they cannot be installed, those tests are skipped and counted.
$(VENV)/peers: $(VENV)/bin/python tests/install_peers.sh
	-sh tests/install_peers.sh
	touch $@
