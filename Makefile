# All a fresh clone needs is python3.11, make and a package index.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint docs clean

demo: $(VENV)/package
	$(BIN)/python benchmarks/demo.py --figure demo/predicted_change.png

test: $(VENV)/test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2

lint: $(VENV)/lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# the tutorials are executed, and any error or warning fails the build
docs: $(VENV)/docs
	rm -rf docs/api/generated docs/tutorials/*.ipynb
	cp tutorials/*.ipynb docs/tutorials/
	PYTHONWARNINGS=ignore $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html

$(VENV)/package: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable .
	touch $@

$(VENV)/test $(VENV)/lint $(VENV)/docs: $(VENV)/%: $(VENV)/package
	$(INSTALL) --group $*
	touch $@

clean:
	rm -rf $(VENV) demo docs/_build docs/api/generated docs/tutorials/*.ipynb
