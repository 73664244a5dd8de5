# Two commands on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: run test lint format docs tables constraints clean

run: $(VENV)/.installed  ## perform SegNet at smoke scale on the embedded data
	$(BIN)/encore run segnet --scale smoke

test: $(VENV)/.installed-dev  ## the whole suite
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed-dev  ## format, lint, types, layering
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-dev  ## build the site into build/site, links checked
	$(BIN)/python -m mkdocs build --strict

tables: $(VENV)/.installed  ## write the measured claims into the README
	$(BIN)/python -m encore.results.tables README.md

constraints: $(VENV)/.installed-dev  ## pin every version anew
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--no-annotate --constraint constraints.in --output-file constraints.txt --upgrade

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
