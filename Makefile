# make recipe=NAME     carries out a recipe (default: dpo-after-sft); set="key=value ..." overrides its options
#                      (values without spaces; others by .venv/bin/tuneforge run NAME --set 'key=a value')
# make test            installs what is missing, then lint, types, layers and all tests but the slowest
# make check           the fast part of it      make test-all  everything      make bench  the benchmarks

recipe ?= dpo-after-sft
set ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)

venv := .venv
bin := $(venv)/bin
stamp := $(venv)/.installed

# uv reads its own settings only: what pip is told about local wheels is passed on to it.
pip_links = $${PIP_FIND_LINKS:-$$($(PYTHON) -m pip config get global.find-links 2>/dev/null)}
links := $(venv)/.find-links
with_links = UV_FIND_LINKS="$${UV_FIND_LINKS:-$$(cat $(links))}"
new_enough := -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))'
# A test trains on one thread, and there are as many at once as processors.
pytest := $(bin)/pytest -n auto --dist worksteal

.PHONY: run install check test test-all bench lock clean

run: $(stamp)
	@$(with_links) $(bin)/tuneforge run $(recipe) $(foreach setting,$(set),--set '$(setting)')

install: $(stamp)

$(stamp): pyproject.toml constraints.txt
	@$(bin)/python $(new_enough) 2>/dev/null || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is older than Python 3.11: install that, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  rm -rf $(venv); \
	  $(PYTHON) -m venv $(venv) || { rm -rf $(venv); exit 1; }; }
	@test -x $(bin)/uv || $(bin)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@echo $(pip_links) | tr ' ' , > $(links)
	$(with_links) $(bin)/uv pip install --quiet --compile-bytecode --python $(bin)/python -c constraints.txt -e '.[all,dev]'
	@$(bin)/python -m compileall -q core plugins registry
	@touch $(stamp)

check: $(stamp)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(with_links) $(pytest) -q -m "not slow and not whole" tests

test: $(stamp)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(with_links) $(pytest) -m "not whole" tests

test-all: $(stamp)
	$(with_links) $(pytest) tests

bench: $(stamp)
	$(bin)/python -m benchmarks

# The versions that were tested together. torch stays at its version, without the build: that is the machine's business.
lock: $(stamp)
	grep '^torch==' constraints.txt > constraints.torch
	$(with_links) $(bin)/uv pip compile --quiet --no-header --no-annotate --extra all --extra deepspeed --extra dev --extra qlora --upgrade --python $(bin)/python \
	  -c constraints.torch pyproject.toml | sed 's/^\(torch==[0-9.]*\)+.*/\1/' > constraints.new
	mv constraints.new constraints.txt && rm constraints.torch

clean:
	rm -rf $(venv) build dist
