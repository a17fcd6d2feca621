# Every target sets up what it needs in .venv; nothing has to be installed or activated before. PYTHON names another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Dependencies of which more is used than they document, and an environment with their newest releases.
FENCED := aiokafka httptools
COMPAT := .venv-compat
COMPAT_PIP := $(COMPAT)/bin/python -m pip --quiet --disable-pip-version-check

# A pipe fails with the first of its commands that does.
SHELL := bash
.SHELLFLAGS := -o pipefail -c

# Says how far pip has come: on a terminal in one line, elsewhere in one line for each forty packages.
PROGRESS = awk -v total="$$(grep -c '^[^ \#]*==' constraints.txt)" -v terminal="$$(test -t 2 && echo 1)" ' \
    function say(text) { printf terminal ? "\r\033[K  %s" : "  %s\n", text > "/dev/stderr"; fflush() } \
    /^ *Collecting / { if (++n % (terminal ? 1 : 40) == 0) say(n " of about " total " packages") } \
    /^Installing collected packages/ { say("installing " n " packages") } \
    END { if (terminal) printf "\r\033[K" > "/dev/stderr" }'

.DEFAULT_GOAL := help
.PHONY: help demo test check compat bench lock clean

help:
	@echo "make demo     real answers through a real Kafka, until Ctrl-C   (ONCE=1: stop after the answers)"
	@echo "make test     check, then every test                            (ARGS='-k gateway': what pytest takes)"
	@echo "make check    format, lint, types and who imports whom"
	@echo "make compat   what is used of dependencies beyond their documents, against their newest releases"
	@echo "make bench    Forebay beside what people write by hand          (ARGS=--help: what it takes)"
	@echo "make lock     write constraints.txt from pyproject.toml         (UPGRADE=1: newest versions of all)"
	@echo "make clean    remove .venv and caches; a broker's data in .forebay stays"

# The shell outlives Ctrl-C so that an orderly stop is not reported as an error.
demo: $(READY)
	@trap : INT; PYTHONPATH=examples $(BIN)/python -m imaging.demo --up $(if $(ONCE),--once) $(ARGS); \
	status=$$?; [ $$status -eq 130 ] || exit $$status

test: check
	@$(BIN)/python -m pytest $(ARGS)

check: $(READY)
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-logo

# An environment of its own, where the newest releases stand in place of the locked ones, whatever bounds pyproject.toml has.
compat: $(BIN)/python
	@rm -rf $(COMPAT) && $(PYTHON) -m venv $(COMPAT)
	@$(COMPAT_PIP) install --require-hashes --only-binary :all: --requirement constraints.txt
	@$(COMPAT_PIP) install --no-index --no-build-isolation --no-deps --editable .
	@$(COMPAT_PIP) install --upgrade --no-deps $(FENCED)
	@$(COMPAT)/bin/python -m pip list --disable-pip-version-check --format freeze | grep $(FENCED:%=-e '^%==')
	@$(COMPAT)/bin/python -m pytest -m compat $(ARGS)

bench: $(READY)
	@trap : INT; $(BIN)/python -m benchmarks $(ARGS); status=$$?; [ $$status -eq 130 ] || exit $$status

# uv alone, not $(READY): a lock that lacks a new dependency must not stand in the way of its own renewal.
lock: $(BIN)/uv
	@$(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --extra dev $(if $(UPGRADE),--upgrade) --output-file constraints.txt pyproject.toml

clean:
	@rm -rf $(VENV) $(COMPAT) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Wheels only: a build from source would fetch whatever tools it names, in any version.
# The project comes last and without an index, so that a dependency missing from the lock is an error instead of a download.
$(READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "$(if $(wildcard $@),Bringing $(VENV) up to date,Setting up $(VENV) (once, about a minute))" >&2
	@$(BIN)/python -m pip --disable-pip-version-check --no-color install --progress-bar off --require-hashes --only-binary :all: \
	    --requirement constraints.txt 2>$(VENV)/setup.log | $(PROGRESS) || { cat $(VENV)/setup.log >&2; exit 1; }
	@$(PIP) install --no-index --no-build-isolation --editable '.[dev]' || { \
	    echo "constraints.txt lacks what pyproject.toml asks for: run 'make lock'" >&2; exit 1; }
	@touch $@

$(BIN)/uv: | $(BIN)/python
	@sed -n '/^uv==/,/[^\\]$$/p' constraints.txt | $(PIP) install --require-hashes --requirement /dev/stdin

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Forebay needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there)." \
        "Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	    exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
