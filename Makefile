# Every command a person types at the checkout. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help up down test test-fast test-property test-clients check bench bench-peers bench-gate lock env clean

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
CLIENTS := .venv-clients
# The first interpreter that is Python 3.11, by the usual names; PYTHON=... overrides.
PYTHON  ?= $(shell for p in python3.11 python3 python; do \
	if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; \
	then echo $$p; break; fi; done)

help: ## list the commands
	@while IFS= read -r line; do case "$$line" in \
	  [a-z]*:*' ## '*) printf '%-14s %s\n' "$${line%%:*}" "$${line#* ## }";; esac; done <$(firstword $(MAKEFILE_LIST))

# $(call create_env,FOLDER,LOCK): an environment of what LOCK names. An installer that was killed leaves packages which
# the next one would take for whole, so the next try begins with none.
define create_env
	@test -n "$(PYTHON)" || { echo "scorecat needs Python 3.11 and found none." >&2; \
	  echo "Install it (Debian/Ubuntu: apt-get install python3.11 python3.11-venv; pyenv: pyenv install 3.11)" >&2; \
	  echo "or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "environment: $(1) from $(2) (a few minutes the first time)"
	@$(PYTHON) -m venv $$(test ! -e $(1)/.begun || echo --clear) $(1) || { \
	  echo "$(PYTHON) cannot make a virtual environment: install its venv package (Debian/Ubuntu: apt-get install python3.11-venv)" >&2; exit 1; }
	@touch $(1)/.begun
	$(call install,$(1),--require-hashes -r $(2))
endef

# $(call install,FOLDER,WHAT): pip's many warnings go to a file, of which a failure shows the end.
define install
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2) >>$(1)/install.log 2>&1 || { \
	  tail -n 20 $(1)/install.log >&2; \
	  echo "The environment is not complete: above are the installer's last words, all of them are in $(1)/install.log." >&2; \
	  echo "Is the package index in reach, and 2 GB of disk free? The same command tries again: make $(MAKECMDGOALS)" >&2; exit 1; }
endef

$(STAMP): requirements.lock pyproject.toml
	$(call create_env,$(VENV),requirements.lock)
	$(call install,$(VENV),--no-deps --no-build-isolation -e .)
	@rm $(VENV)/.begun && touch $@

$(CLIENTS)/.installed: tests/clients/requirements.lock
	$(call create_env,$(CLIENTS),$<)
	@rm $(CLIENTS)/.begun && touch $@

env: $(STAMP) ## create .venv from the hash-locked requirements

up: $(STAMP) ## train a demo model if there is none, start the service, return when it answers
	@$(BIN)/scorecat up $(ARGS)

down: ## stop everything that `make up` started
	@test ! -x $(BIN)/scorecat || $(BIN)/scorecat down $(ARGS)

FAST := tests/unit tests/property tests/contract

test: $(STAMP) ## the whole test suite; ARGS goes to pytest in its place
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m pytest $(FAST) -n logical
	@$(BIN)/python -m pytest tests/cluster
	@$(BIN)/python -m pytest tests/e2e tests/chaos
else
	@$(BIN)/python -m pytest $(ARGS)
endif

test-fast: $(STAMP) ## unit, property and contract tests
	@$(BIN)/python -m pytest $(FAST) -n logical $(ARGS)

test-property: $(STAMP) ## the random tests alone, with ten times the examples and other seeds each time
	@$(BIN)/python -m pytest $(FAST) -m hypothesis --times-examples 10 --timeout 3600 $(ARGS)

test-clients: $(STAMP) $(CLIENTS)/.installed ## clients and file writers of others (MLflow, KServe, Triton, polars, ...) against the service
	@$(BIN)/python -m tests.real_clients $(ARGS)

check: $(STAMP) ## lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(STAMP) ## the benchmarks, as ratios within one run
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(STAMP) ## the service against MLServer, LitServe and BentoML, each in its own environment
	@$(BIN)/python -m benchmarks.peers $(ARGS)

bench-gate: $(STAMP) ## five rounds online, and exit code 1 when a ratio is worse than the stored one
	@mkdir -p build && $(BIN)/python -m benchmarks.online --rounds 5 --seconds 4 --json build/bench.json $(ARGS)
	@$(BIN)/python -m benchmarks.gate build/bench.json

LOCK := uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock"
lock: ## resolve pyproject.toml and the clients' requirements again into their lock files (needs uv)
	$(LOCK) --extra dev pyproject.toml -o requirements.lock
	$(LOCK) tests/clients/requirements.in -o tests/clients/requirements.lock

clean: ## remove the environments and caches (keeps .scorecat, your models and state)
	@rm -rf $(VENV) $(CLIENTS) .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
