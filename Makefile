# make recipe=NAME     carries out a recipe (default: dpo-after-sft); set="key=value ..." overrides its options
# make test            installs what is missing, then lint, types, layers and all tests but the slowest
# make check           the fast part of it      make test-all  everything      make bench  the benchmarks

recipe ?= dpo-after-sft
set ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)

venv := .venv
bin := $(venv)/bin
stamp := $(venv)/.installed

# uv reads its own settings only: what pip is told about local wheels is passed on to it.
links := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
ifndef UV_FIND_LINKS
ifneq ($(strip $(links)),)
export UV_FIND_LINKS := $(shell echo $(links) | tr ' ' ',')
endif
endif

.PHONY: run install check test test-all bench lock clean

run: $(stamp)
	@$(bin)/tuneforge run $(recipe) $(foreach setting,$(set),--set '$(setting)')

install: $(stamp)

$(stamp): pyproject.toml constraints.txt
	@test -x $(bin)/python || $(PYTHON) -m venv $(venv)
	@test -x $(bin)/uv || $(bin)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(bin)/uv pip install --quiet --compile-bytecode --python $(bin)/python -c constraints.txt -e '.[all,dev]'
	@$(bin)/python -m compileall -q core plugins registry
	@touch $(stamp)

check: $(stamp)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/pytest -q -m "not slow and not whole" tests

test: $(stamp)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/pytest -m "not whole" tests

test-all: $(stamp)
	$(bin)/pytest tests

bench: $(stamp)
	$(bin)/python -m benchmarks

# The versions that were tested together. torch stays at its version, without the build: that is the machine's business.
lock: $(stamp)
	grep '^torch==' constraints.txt > constraints.torch
	$(bin)/uv pip compile --quiet --no-header --no-annotate --all-extras --upgrade --python $(bin)/python \
	  -c constraints.torch pyproject.toml | sed 's/^\(torch==[0-9.]*\)+.*/\1/' > constraints.new
	mv constraints.new constraints.txt && rm constraints.torch

clean:
	rm -rf $(venv) build dist
