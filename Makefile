# Everything runs from nothing but Python 3.11: each target makes the virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --retries 10 --timeout 60

# Official test persons of the national register; the tests that need them skip loudly without.
export DATAKLUIS_TEST_PERSONS ?= ../shared/data/gbav-test-persons.jsonl

.PHONY: demo test soak fuzz bench lint types check clean

demo: $(STAMP)
	$(BIN)/kluis demo

test: $(STAMP)
	$(BIN)/python -m pytest

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak -s

# Coverage-guided runs over every parser, 200,000 each; docs/fuzz.md says what they found.
fuzz: $(STAMP)
	$(PIP) install --quiet --editable '.[dev,fuzz]'
	$(BIN)/python tests/fuzz/run.py

bench: $(STAMP)
	$(BIN)/python -m bench

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz

# Retried, because a download can fail halfway.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	for try in 1 2 3; do $(PIP) install --quiet --editable '.[dev]' && break; \
	  test $$try -lt 3 || exit 1; sleep 5; done
	touch $@
