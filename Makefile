# make demo    the main job on drawn pictures: no camera, no network, no torch; installs only what a device needs
# make test    every check there is: style, types, import rules, tests
# make bench   the measurements of docs/performance.md
# make clean   removes the environments and caches that the above made
#
# Needs python3 (3.10 to 3.13) with its venv module, or uv. PYTHON=/path/to/python3 chooses the interpreter.

PYTHON ?= python3
ENV := .venv
DEMO_ENV := .venv-demo
BIN := $(ENV)/bin

.PHONY: demo test bench clean
.DEFAULT_GOAL := test

demo: $(DEMO_ENV)/.stamp
	$(DEMO_ENV)/bin/edgevand demo

test: $(ENV)/.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

bench: $(ENV)/.stamp
	set -e; for program in bench/[!_]*.py; do echo "== $$program"; $(BIN)/python "$$program"; done

clean:
	rm -rf $(ENV) $(DEMO_ENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The environments; made anew only when what they hold has changed.
$(ENV)/.stamp: pyproject.toml scripts/venv.sh
	PYTHON="$(PYTHON)" sh scripts/venv.sh $(ENV) ".[export,builtin,dev]"
	touch $@

$(DEMO_ENV)/.stamp: pyproject.toml scripts/venv.sh
	PYTHON="$(PYTHON)" sh scripts/venv.sh $(DEMO_ENV) "."
	touch $@
