# Every command a person types at the checkout. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help up down test test-fast check bench bench-peers bench-gate lock env clean

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
BEGUN   := $(VENV)/.install-begun
INSTALL_LOG := $(VENV)/install.log
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The first interpreter that is Python 3.11, by the usual names; PYTHON=... overrides.
PYTHON  ?= $(shell for p in python3.11 python3 python; do \
	if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; \
	then echo $$p; break; fi; done)

help: ## list the commands
	@while IFS= read -r line; do case "$$line" in \
	  [a-z]*:*' ## '*) printf '%-14s %s\n' "$${line%%:*}" "$${line#* ## }";; esac; done <$(firstword $(MAKEFILE_LIST))

# An installer that was killed leaves packages it will take for whole, so the next try begins with none.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "scorecat needs Python 3.11 and found none." >&2; \
	  echo "Install it (Debian/Ubuntu: apt-get install python3.11 python3.11-venv; pyenv: pyenv install 3.11)" >&2; \
	  echo "or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "environment: $(VENV) from requirements.lock (a few minutes the first time)"
	@$(PYTHON) -m venv $$(test ! -e $(BEGUN) || echo --clear) $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment: install its venv package (Debian/Ubuntu: apt-get install python3.11-venv)" >&2; exit 1; }
	@touch $(BEGUN)
	@{ $(PIP) --require-hashes -r requirements.lock && $(PIP) --no-deps --no-build-isolation -e .; } >$(INSTALL_LOG) 2>&1 || { \
	  tail -n 20 $(INSTALL_LOG) >&2; \
	  echo "The environment is not complete: above are the last words of the installer, all of them in $(INSTALL_LOG)." >&2; \
	  echo "Is the package index in reach, is there 2 GB of free disk? Then the same command tries again: make $(MAKECMDGOALS)" >&2; exit 1; }
	@rm $(BEGUN)
	@touch $(STAMP)

env: $(STAMP) ## create .venv from the hash-locked requirements

up: $(STAMP) ## train a demo model if there is none, start the service, return when it answers
	@$(BIN)/scorecat up $(ARGS)

down: ## stop everything that `make up` started
	@test ! -x $(BIN)/scorecat || $(BIN)/scorecat down $(ARGS)

test: $(STAMP) ## the whole test suite; ARGS goes to pytest in its place
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m tests.fast
	@$(BIN)/python -m tests.services
else
	@$(BIN)/python -m pytest $(ARGS)
endif

test-fast: $(STAMP) ## unit, property and contract tests (under a minute)
	@$(BIN)/python -m tests.fast $(ARGS)

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

lock: ## resolve pyproject.toml again into requirements.lock (needs uv)
	uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock" --extra dev pyproject.toml -o requirements.lock

clean: ## remove the environment and caches (keeps .scorecat, your models and state)
	@rm -rf $(VENV) .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
