# setup · demo · test · test-exhaustive · soak · check · fmt · crds · clean
#
# `make demo` and `make test` need python3 (3.11 or newer) and make; everything else they get
# themselves: a virtual environment in .venv, and for real hosts Debian packages through apt-get.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Where Python may not keep what it compiled, each of the thousand commands of a test run compiles all
# of sandboxer anew.
export PYTHONDONTWRITEBYTECODE :=
# Written when the environment is complete; newer pyproject.toml means install again.
READY  := $(VENV)/.ready

.PHONY: setup demo test test-exhaustive soak check fmt crds clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    show the main job on this machine, from nothing to a clean end"
	@echo "make test    all checks and all tests"
	@echo "make test-exhaustive  every fault at every call of every backend: an hour more"
	@echo "make soak    random faults for minutes, on three real hosts (SEED=… SANDBOXES=60 MINUTES=5)"
	@echo "make check   style, types, layers, generated files"
	@echo "make setup   the environment in $(VENV)"
	@echo "make fmt     format the code"
	@echo "make crds    generate crds/ from the kinds"

setup: $(READY)

$(READY): pyproject.toml .ci/setup
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash .ci/setup
	@touch $@

demo: setup
	@$(BIN)/python -m examples.demo

test: check
	@$(BIN)/python -m tests.rig install || test -z "$$CI"
	$(BIN)/pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

test-exhaustive: setup
	$(BIN)/pytest -n 2 --dist loadgroup --exhaustive $(PYTEST_ARGS)

soak: setup
	$(BIN)/python -m tests.soak --sandboxes $(or $(SANDBOXES),60) --minutes $(or $(MINUTES),5) \
		$(if $(SEED),--seed $(SEED)) $(SOAK_ARGS)

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m sandboxer.kinds.schema --check

fmt: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

crds: setup
	$(BIN)/python -m sandboxer.kinds.schema

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
