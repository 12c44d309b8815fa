# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv first and are safe to repeat.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast lint types pytest docs mutants benchmark clean

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/.demo: pyproject.toml  # what a user needs, not the developers' tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -e $(VENV)/.ready || $(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/sparring demo --out demo

test: lint types pytest docs

lint: $(VENV)/.ready
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/python tests/structure.py

types: $(VENV)/.ready
	$(BIN)/pyright --pythonpath $(BIN)/python

pytest: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-fast: $(VENV)/.ready  # a minute and a half while you work: every room, without what is marked slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

docs: $(VENV)/.ready  # the site, into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

mutants: $(VENV)/.ready  # does a test notice each of the one-line faults in tests/mutants/table.toml?
	$(BIN)/python tests/mutants/run.py

benchmark: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --no-deps 'torchattacks>=3.5'
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/overhead.py

clean:
	rm -rf $(VENV) demo
