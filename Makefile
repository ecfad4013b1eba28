# The two commands of the README, and what they stand on.

PYTHON ?= python3.11
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: compare test setup check browser docs notebooks clean

compare: $(VENV)/.complete
	$(RUN) compare.py

# Side by side: one waits for a network, another computes. Three, so that no processor of two idles.
test: $(VENV)/.complete
	@$(MAKE) --jobs 3 --no-print-directory setup check browser
	$(RUN) -m pytest --numprocesses 3 --dist loadfile

setup: $(VENV)/.complete
	$(RUN) compare.py setup --quiet

check: $(VENV)/.complete
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The documentation, in site/: open site/index.html. Needs no network, neither to build nor to read.
docs: $(VENV)/.complete
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --config-file docs/site/mkdocs.yml

# The report's page is tested in Debian's Chromium; without it those tests fail, the others run.
browser:
	@command -v chromium > /dev/null || command -v chromium-browser > /dev/null || \
	command -v google-chrome > /dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then root=; else root=sudo; fi; \
	  $$root apt-get update -qq && \
	  $$root env DEBIAN_FRONTEND=noninteractive \
	    apt-get install --yes -qq --no-install-recommends chromium > /dev/null; \
	} || echo "expected Chromium; it could not be installed: the tests of pages will fail" >&2

# Executes every notebook and keeps what it shows.
notebooks: setup
	$(RUN) -m tests.notebooks

$(VENV)/.complete: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt \
	  --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) results site
