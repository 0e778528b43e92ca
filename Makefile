# Everything a person types. `make help` lists it; README.md explains it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:
.PHONY: help run demo setup test test-fast check bench faults audit clean browser

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

# A Python >= 3.11 that can make virtual environments. `make run PYTHON=/path/to/python` chooses another one.
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python)
# Tests wait for servers much of their time: one process more than two cores have.
TEST_PROCESSES ?= 3
FITS := import sys; sys.version_info >= (3, 11) or sys.exit(3); import venv, ensurepip

help: ## What there is to type
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(INSTALLED) ## Install what is missing and start the server; Ctrl-C stops it
	@exec $(PY) manage.py up

demo: $(INSTALLED) ## Load a month of flights into the running server, or one of its own
	@exec $(PY) -m examples.flights.demo

setup: $(INSTALLED_DEV) ## Install everything, for the checks and tests too

test: $(INSTALLED_DEV) browser ## The whole test suite, in TEST_PROCESSES processes with stores of their own
	@exec $(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile

test-fast: $(INSTALLED_DEV) ## The tests that take no browser and less than ten seconds each
	@exec $(PY) -m pytest -m "not slow and not browser"

check: $(INSTALLED_DEV) ## Format, lint, types, import contracts, system checks, missing migrations
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) manage.py check
	$(PY) -W ignore manage.py makemigrations --check --dry-run

bench: $(INSTALLED_DEV) ## Measure, print a table, write bench/results/
	@exec $(PY) -m bench

faults: $(INSTALLED_DEV) ## The tests that kill, stop and starve processes, for minutes
	@exec env FAULT_SECONDS=$${FAULT_SECONDS:-150} $(PY) -m pytest tests/integration tests/acceptance -k "kill or fault or stop"

audit: $(INSTALLED_DEV) ## Dependencies that do not fit together, or have a published vulnerability
	$(PY) -m pip check
	$(PY) -m pip_audit --disable-pip --no-deps -r requirements.txt

clean: ## Remove what the tools leave behind; data and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache staticfiles htmlcov .coverage
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(INSTALLED): requirements.txt
	@if ! $(PY) -c '$(FITS)' 2>/dev/null; then \
	  for python in $(CANDIDATES); do \
	    if "$$python" -c '$(FITS)' >/dev/null 2>&1; then found="$$python"; break; fi; \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && bare="$$python"; \
	  done; \
	  if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	    echo "$$bare cannot make virtual environments (no ensurepip): install python3-venv, or say make PYTHON=..." >&2; exit 1; \
	  elif [ -z "$$found" ]; then \
	    echo "Python 3.11 or newer is needed and none of these is one: $(CANDIDATES). Say make PYTHON=..." >&2; exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$found"; \
	  "$$found" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "Installing requirements.txt"
	@$(PIP) -r requirements.txt
	@touch $@

$(INSTALLED_DEV): requirements-dev.txt $(INSTALLED)
	@echo "Installing requirements-dev.txt"
	@$(PIP) -r requirements-dev.txt
	@touch $@

# The browser tests need Chromium, which no wheel brings. Its absence skips them and fails nothing.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null 2>&1 && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "Installing Chromium for the browser tests"; \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium) >/dev/null 2>&1 && exit 0; \
	  echo "Browser tests will be skipped: apt-get could not install Chromium"; \
	else \
	  echo "Browser tests will be skipped: there is no Chromium, and only root can install it with apt-get"; \
	fi
