# Every target makes or reuses .venv by itself; python3 (3.10 or newer, with venv) and make are all it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# one process for each processor, at most four, for each may need 4 GB; the tests of a file stay together
IN_PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-all lint bench docs house clean

demo: $(VENV)/installed
	$(BIN)/stunet demo -o stunet_demo

test: $(VENV)/installed-for-development
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-all: $(VENV)/installed-for-development
	$(BIN)/python -m pytest -m "" $(IN_PARALLEL)

lint: $(VENV)/installed-for-development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/xenon --max-absolute B src

bench: $(VENV)/installed-for-development
	$(BIN)/python bench/bad_inputs.py
	$(BIN)/python bench/agreement.py
	$(BIN)/python bench/inference_memory.py
	$(BIN)/python bench/inference.py
	$(BIN)/python bench/start.py
	$(BIN)/python bench/batch.py
	$(BIN)/python bench/scaling.py

docs: $(VENV)/installed-for-development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group docs
	$(BIN)/mkdocs build --strict

house: $(VENV)/installed
	$(BIN)/python docs/draw_house.py

clean:
	rm -rf $(VENV) stunet_demo site

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

$(VENV)/installed-for-development: $(VENV)/installed
	$(PIP) -e .[all] --group dev
	touch $@
