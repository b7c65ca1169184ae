# `make demo` and `make test` set up everything they need in .venv on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
IN     ?= examples/parrots.png
OUT    ?= demo-output

.PHONY: demo test test-serve coverage lint docs linkcheck wheel clean

demo: $(VENV)/installed
	$(VENV)/bin/restore sr --scale 4 "$(IN)" "$(OUT)/$(notdir $(basename $(IN)))-x4.png" --overwrite

# Tests start processes, and each would compile all modules anew.
test coverage: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal

# The page of `restore serve` in Chromium, and the server under load; each takes too long for every run.
test-serve: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m slow tests/serve

coverage: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal --cov --cov-report=term:skip-covered

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The documentation site, in build/site.
docs: $(VENV)/installed-docs
	$(VENV)/bin/python -m sphinx -W --keep-going -b html docs build/site

# Asks every address that the documentation names.
linkcheck: $(VENV)/installed-docs
	$(VENV)/bin/python -m sphinx -W --keep-going -D plot_gallery=0 -b linkcheck docs build/linkcheck

# The source distribution, and the wheel that is built from it. What is in build/ of an earlier one would go into both.
wheel: $(VENV)/installed-release
	rm -rf build dist
	$(VENV)/bin/python -m build
	$(VENV)/bin/python -m twine check --strict dist/*
	$(VENV)/bin/python tools/smoke.py --borrow dist/*.whl

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("restore needs Python 3.11 or newer; try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-release: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[release]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) $(OUT) build dist docs/auto_gallery
