PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-$(shell printf %s '$(CURDIR)' | cksum | cut -d' ' -f1)
.DEFAULT_GOAL := help
.PHONY: help demo test lint types check clean
help:  ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-6s %s\n", $$1, $$2}'
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'make: $(PYTHON) is missing or older than 3.11; try: make PYTHON=python3.11'; exit 1; }
	@rm -f $(VENV)/.installed-*
	@$(BIN)/pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; } || \
	  { rm -rf $(VENV); $(PYTHON) -m virtualenv -q $(VENV) 2>/dev/null; } || \
	  { rm -rf $(VENV); echo 'make: $(PYTHON) cannot make $(VENV). Install your system package python3-venv, or: $(PYTHON) -m pip install virtualenv'; exit 1; }
	$(BIN)/pip install --quiet --editable '.[dev]' $(PIPFLAGS)
	@touch $@
demo: $(STAMP)  ## the main job on the embedded data: extract, fit, report
	$(BIN)/cacheclip demo
test: $(STAMP)  ## all tests; ARGS="-k name" for some
	$(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)
lint: $(STAMP)  ## style and import direction
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports
types: $(STAMP)  ## mypy
	$(BIN)/mypy
check: $(STAMP)  ## what CI runs
	@$(MAKE) --no-print-directory --jobs 2 lint types test
clean:  ## remove .venv and caches
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
