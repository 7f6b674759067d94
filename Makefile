# Everything happens in .venv; nothing is installed or upgraded outside of it.
PYTHON ?= python3
UNSLOTH ?= requirements-unsloth.lock
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench lock clean

help:
	@echo 'make demo      install, then the main job from real text to a measured model'
	@echo 'make test      install, then the tests (PYTEST="-k broker" for some)'
	@echo 'make check     install, then formatting, lint, types, layers, dependencies, dead code'
	@echo 'make bench     install, then the benchmarks'
	@echo 'make install   only .venv; UNSLOTH= leaves Unsloth out'
	@echo 'make format    let ruff put the sources in order'
	@echo 'make lock      resolve pyproject.toml anew into requirements.lock'
	@echo 'make clean     remove .venv and what the tools have cached'

install: .venv/.installed

.venv/.installed: pyproject.toml requirements.lock requirements-unsloth.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo '$(PYTHON) is older than 3.11; name another: make install PYTHON=python3.12' >&2; exit 3; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet -c requirements.lock -e '.[train,dev]'
	$(if $(UNSLOTH),$(PIP) install --quiet --no-deps -r $(UNSLOTH))
	@touch $@

demo: install
	$(BIN)/tuneyard demo

test: install
	$(BIN)/pytest -n 2 $(PYTEST)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	@set -e; for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(BIN)/python "$$benchmark"; done

# The lock says what a fresh resolve brings: nothing that an older .venv happens to hold.
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet -e '.[train,dev]'
	sed -n '/^#/p' requirements.lock > build/requirements.lock
	build/lock/bin/python -m pip freeze --all --exclude-editable \
	  | grep -viE '^(pip|wheel)==' | sed 's/+[a-z0-9.]*$$//' >> build/requirements.lock
	mv build/requirements.lock requirements.lock
	rm -rf build/lock

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
