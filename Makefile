# Every target sets up what it needs; a machine with Python 3.11+, make and pip is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run in as many processes as there are cores; JOBS=0 runs them in one.
JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo up test contract check lint types architecture bench overload chaos lock audit clean

help: ## Lists the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.runtime: deploy/requirements.lock pyproject.toml
	@echo "Setting up $(VENV) (about half a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: deploy/requirements-dev.lock $(VENV)/.runtime
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime ## Imports numbers on the embedded stack, shows the records, stops
	@$(BIN)/python -m deploy.local demo

up: $(VENV)/.runtime ## Keeps the embedded stack running and prints its URLs, a key and a curl line
	@$(BIN)/python -m deploy.local up

# As they come: ordered by how many tests a file has, the few that last minutes would be left for the end.
test: $(VENV)/.dev ## Runs every test
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

contract: $(VENV)/.dev ## Runs the contract suites and prints their tables: providers, published contracts
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -q --durations=0 --durations-min=60 tests/contract/providers tests/contract/dialects

lint: $(VENV)/.dev ## Checks style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev ## Checks types
	@$(BIN)/mypy

architecture: $(VENV)/.dev ## Checks that imports point downwards
	@$(BIN)/lint-imports

check: lint types architecture test ## Everything that must hold before a merge: what CI runs

# The engines beside which Trunkline is measured. Where they cannot be installed the bench says so.
$(VENV)/.bench: deploy/requirements-bench.lock $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements-bench.lock && touch $@ || echo "The other engines could not be installed: measuring without them"

bench: $(VENV)/.dev ## Measures Trunkline beside other engines, and real imports; BENCH=quick, JSON=file, ACCEPT=1
	@$(MAKE) --no-print-directory $(VENV)/.bench
	@$(BIN)/python -m tests.bench $(if $(JSON),--json $(JSON)) $(if $(ACCEPT),--accept)

chaos: $(VENV)/.dev ## Hurts everything under hundreds of imports and judges what is left; CHAOS=minute, CHAOS_SEED=7
	@$(BIN)/python -m tests.chaos

overload: $(VENV)/.dev ## Floods an idle stack with 2,000 imports and measures who waits for whom; ARGS="--jobs 20000"
	@$(BIN)/python -m tests.bench.overload $(ARGS)

# Names, versions and hashes: no address of where they came from.
LOCKED := --no-header --no-annotate --generate-hashes --no-emit-index-url --no-emit-find-links

lock: $(VENV)/.dev ## Resolves the pinned versions again
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(LOCKED) --extra local pyproject.toml -o deploy/requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(LOCKED) pyproject.toml -c deploy/requirements.lock -o deploy/requirements-image.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(LOCKED) --extra local --extra dev pyproject.toml -o deploy/requirements-dev.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(LOCKED) --extra otel pyproject.toml -c deploy/requirements-dev.lock -o deploy/requirements-image.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(LOCKED) --extra bench pyproject.toml -c deploy/requirements-dev.lock -o deploy/requirements-bench.lock

audit: ## Asks PyPI for known vulnerabilities of the pinned versions; needs a network, no part of check
	@test -x $(VENV)/audit/bin/python || $(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --vulnerability-service pypi -r deploy/requirements-dev.lock

clean: ## Removes the virtual environment and all local state
	@rm -rf $(VENV) .trunkline .mypy_cache .ruff_cache .pytest_cache
