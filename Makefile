# What is done with a checkout, by people and by continuous integration. `make` lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# the first that fits is taken; one of your own: make demo PYTHON=/opt/python/bin/python3
PYTHON ?= python3.13 python3.12 python3.11 python3
TEST_PROCESSES ?= 3

VENV := .venv
BIN := $(VENV)/bin
# compiling every module of every package takes most of an installation; Python compiles the few
# that are imported when they are
# so they must be kept, or every process would compile them anew: torch alone takes seconds
export PYTHONDONTWRITEBYTECODE :=
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# the tools that benchmarks are run beside: their requirements and ours do not go together
PEERS := .venv-peers
# one script for each table of docs/measurements.md
BENCHMARKS := loop recording reading listing starting layers pages live_pages lessons
APT_GET := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n) env DEBIAN_FRONTEND=noninteractive apt-get -qq

.PHONY: help demo serve worker test check lint types tests slow faults gpu bench bench-quick bench-gpu peers format chromium extras clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings are TRICKLAB_ variables, as in: make demo TRICKLAB_PORT=9000 (see .env.example)"

demo: $(VENV)/installed ## Install, queue the sample comparison once, serve http://127.0.0.1:8321
	@$(BIN)/tricklab demo

serve: $(VENV)/installed ## Install and serve, with one worker beside
	@$(BIN)/tricklab serve

worker: $(VENV)/installed ## Install and train queued runs, without a server
	@$(BIN)/tricklab worker

test: chromium $(VENV)/installed-dev extras check ## Install what the tests need and run every check: what CI runs

check: lint types tests ## Lint, formatting, strict types, tests; nothing from the system is installed

lint: $(VENV)/installed-dev ## Lint and formatting
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check

types: $(VENV)/installed-dev ## Strict types
	@$(BIN)/mypy

tests: $(VENV)/installed-dev ## Tests, import rules among them, in TEST_PROCESSES processes
	@$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

slow: $(VENV)/installed-dev ## Tests that take longer than the ordinary suite allows
	@$(BIN)/python -m pytest -q -m "slow and not gpu"

# As root it can mount a small disk to fill up; otherwise that promise is left out, and says so.
faults: $(VENV)/installed-dev ## Every promise of docs/reliability.md, long: a line each, an hour on two cores
	@cd tests && PYTHONPATH=..:. $(abspath $(BIN))/python -m faults $(FAULTS)

gpu: $(VENV)/installed-dev ## Tests that need an NVIDIA GPU
	@$(BIN)/python -m pytest -q -m gpu

bench: $(VENV)/installed-dev peers ## Every benchmark beside its peers, an hour; keep the machine quiet meanwhile
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py $(BENCH) || failed=1; done; exit $${failed:-0}

# Peers that are not installed are named as such.
bench-quick: $(VENV)/installed-dev ## The same with fewer repetitions and sizes, in five minutes
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --quick $(BENCH) || failed=1; done; exit $${failed:-0}

bench-gpu: $(VENV)/installed-dev ## Recipes with and without each speed trick, on a CUDA device
	@$(BIN)/python benchmarks/tricks.py $(BENCH)

peers: $(PEERS)/tried ## Install the tools the benchmarks compare with, into .venv-peers

format: $(VENV)/installed-dev ## Format the code and mend what the linter can
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

clean: ## Delete the environment and everything built or cached; runs are kept
	@rm -rf $(VENV) $(PEERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A name on PATH proves little: it may be a version manager's empty shim, or lack the venv module.
$(BIN)/pip:
	@fitting=; without_venv=; \
	for python in $(PYTHON); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if "$$python" -c 'import ensurepip' 2>/dev/null; then fitting=$$python; break; fi; \
		without_venv=$${without_venv:-$$python}; \
	done; \
	if [ -n "$$fitting" ]; then \
		echo "Making $(VENV) with $$fitting"; \
		"$$fitting" -m venv $(VENV); \
	elif [ -n "$$without_venv" ]; then \
		echo "$$without_venv cannot make an environment: its venv module is missing." >&2; \
		echo "On Debian and Ubuntu: apt-get install $$(basename "$$without_venv")-venv" >&2; \
		exit 1; \
	else \
		echo "Tricklab needs Python 3.11 or later; none of these is: $(PYTHON)" >&2; \
		echo "Install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=…" >&2; \
		exit 1; \
	fi

$(VENV)/installed: pyproject.toml | $(BIN)/pip
	@echo "Installing Tricklab and PyTorch into $(VENV); the first time takes minutes"
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/pip
	@echo "Installing Tricklab, PyTorch and what the tests need into $(VENV)"
	@$(PIP_INSTALL) -e '.[dev,postgres]'
	@touch $@ $(VENV)/installed

# All at once, so that they fit each other; else one by one, so that the rest is there.
$(PEERS)/tried: pyproject.toml | $(BIN)/pip
	@echo "Installing the tools that benchmarks compare with into $(PEERS)"
	@$(BIN)/python -m venv $(PEERS)
	@PYTHONPATH=benchmarks $(BIN)/python -m harness.peers > $(PEERS)/wanted
	@install="$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check"; \
	$$install -r $(PEERS)/wanted || while read -r peer; do \
		$$install "$$peer" || echo "$$peer cannot be had here; benchmarks say so"; \
	done < $(PEERS)/wanted
	@touch $@

# The browser is the system's own: nothing is downloaded from elsewhere.
chromium:
	@command -v chromium >/dev/null \
	|| { echo "Installing chromium"; $(APT_GET) update && $(APT_GET) install -y chromium; } >&2 \
	|| { \
		echo "The browser tests need Chromium, and apt-get is not here or not permitted." >&2; \
		echo "Install it so that the command chromium is on PATH (Debian: apt-get install chromium;" >&2; \
		echo "elsewhere, link another name of it to chromium), then run make test again." >&2; \
		exit 1; \
	}

# PostgreSQL's programs and Fashion-MNIST widen the tests; without them those few are skipped. Asked
# for once, and of root only: on a person's own machine a database server is not ours to start.
extras: $(VENV)/asked-for-extras

$(VENV)/asked-for-extras: | $(BIN)/pip
	@if [ "$$(id -u)" = 0 ]; then \
		for package in postgresql dataset-fashion-mnist; do \
			dpkg -s $$package >/dev/null 2>&1 && continue; \
			echo "Installing $$package"; \
			{ $(APT_GET) install -y $$package || { $(APT_GET) update && $(APT_GET) install -y $$package; }; } \
				>/dev/null 2>&1 || echo "It cannot be had here; its tests are skipped"; \
		done; \
	fi
	@touch $@
