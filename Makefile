# The two commands of the README, and what they stand on.

PYTHON ?= python3.11
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: compare test setup check clean

compare: setup
	$(RUN) compare.py

test: setup check
	$(RUN) -m pytest

setup: $(VENV)/.complete
	$(RUN) compare.py --setup --quiet

check: $(VENV)/.complete
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

$(VENV)/.complete: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) results
