# One door: people and CI type the same words.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
RUN_ARGS ?=

.PHONY: help setup demo test check bench mosquitto llama asyncapi clean

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/user.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $$($(PYTHON) --version) is $(PYTHON). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing (a few minutes the first time; torch alone is about 200 MB)"
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[train,hub]'
	@touch $@

$(VENV)/dev.done: $(VENV)/user.done
	$(PIP) install -c constraints.txt -e '.[train,hub,dev]'
	@touch $@

setup: $(VENV)/dev.done ## Make .venv with everything for working on the project

demo: $(VENV)/user.done ## Six devices of unequal memory tune one model, about three minutes
	$(BIN)/lorikeet-hub demo $(RUN_ARGS)

mosquitto:
	@if command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto; \
	else echo "mosquitto is missing: tests marked 'broker' are skipped. Install it with: sudo apt-get install mosquitto"; fi

llama: setup ## Compile llama-cpp-python once, for the tests and benches that run llama.cpp
	@.ci/llama $(BIN)/python

test: setup mosquitto llama ## Run all tests
	PATH="$$PATH:/usr/sbin" $(BIN)/python -m pytest

check: setup ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup mosquitto llama ## Measure what the README quotes
	@code=0; for table in spine memory wire learning serving; do \
	  PATH="$$PATH:/usr/sbin" $(BIN)/python -m bench.$$table $(RUN_ARGS) || code=1; \
	done; exit $$code

asyncapi: setup ## Write docs/asyncapi.yaml anew, after a message or a topic changed
	$(BIN)/python -m wire.asyncapi docs

clean: ## Remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
