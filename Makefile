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

.PHONY: help install run test torture bench bench-quick pictures lint types check lock floors locked audit clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 13

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

# What looks for barriers on pages. npm is a part of Node.js; nothing else in the tests needs it.
$(VENV)/axe-core: Makefile
	@command -v npm >/dev/null || { echo "The tests need axe-core from npm. On Debian: apt-get install npm" >&2; exit 1; }
	@npm install --silent --no-audit --no-fund --no-save --prefix $@ axe-core@4.14.1
	@touch $@

install: $(VENV)/installed  ## make .venv with all that running needs

run: install  ## install, then serve with demo content; more flags: make run ARGS="--port 9000"
	@exec $(BIN)/python run.py --demo $(ARGS)

# First, because it says all that is missing at once.
.PHONY: programs
programs:
	@missing=; \
	command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || \
		missing="$$missing chromium-headless-shell"; \
	command -v nginx >/dev/null || missing="$$missing nginx-light"; \
	command -v ip >/dev/null || missing="$$missing iproute2"; \
	test -d $(VENV)/axe-core || command -v npm >/dev/null || missing="$$missing npm"; \
	test -z "$$missing" || { echo "The tests need more programs. On Debian: apt-get install$$missing" >&2; exit 1; }

test: programs $(VENV)/installed-for-tests $(VENV)/axe-core  ## install what tests need, then run them all
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

torture: $(VENV)/installed-for-tests  ## break MongoDB, servers and connections for half an hour: make torture ARGS="--row kills --scale 0.1"
	@$(BIN)/python -m tests.ledger.torture $(ARGS)

bench: $(VENV)/installed-for-tests  ## measure Copydesk and what else one could use, half an hour: make bench ARGS="--shape burst"
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/installed-for-tests  ## the same with less of everything, in two minutes
	@$(BIN)/python -m benchmarks --quick $(ARGS)

pictures: $(VENV)/installed-for-tests  ## make the pictures in docs/img again: make pictures ARGS="--only bell"
	@$(PIP) --editable '.[embedded,test,pictures]'
	@$(BIN)/python -m docs.pictures $(ARGS)

lint: $(VENV)/installed-for-tests  ## look for defects and style
	@$(BIN)/ruff check .

types: $(VENV)/installed-for-tests  ## check the types
	@$(BIN)/mypy

check: lint types test  ## all three

# Tools that only these need are kept out of what Copydesk itself runs in.
lock:  ## renew deploy/requirements.lock from setup.cfg: make lock ARGS="--upgrade"
	@test -x $(VENV)/lock/bin/uv || { $(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv==0.13.8; }
	@sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml | $(VENV)/lock/bin/uv pip compile setup.cfg - --quiet --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-header --output-file deploy/requirements.lock $(ARGS)

floors: $(VENV)/installed-for-tests  ## whether the lowest versions that setup.cfg allows do
	@$(BIN)/python -m tests.supply.fresh floors

locked: $(VENV)/installed-for-tests  ## whether deploy/requirements.lock installs with its hashes, and a server starts from it
	@$(BIN)/python -m tests.supply.fresh locked

audit:  ## known vulnerabilities of what is locked; fails also for what it could not look up
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet pip-audit==2.10.1; }
	@$(VENV)/audit/bin/python tests/supply/audit.py $(ARGS)

clean:  ## remove what was built and cached; the data and .venv stay
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage*
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
