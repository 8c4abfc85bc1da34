# make demo, make test, make check, make docs, make bench, make wheel, make clean.
# Each sets up what it needs in .venv by itself. Another Python: make PYTHON=python3.12 test

export NO_MKDOCS_2_WARNING := 1

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
# The 0.4.1 release bears the name of this package, so the tests that compare with it get it in a folder of its own.
SEED := $(VENV)/seed-0.4.1

# A .venv counts only if its Python runs and is new enough, and if it was made here: a moved one has scripts that point
# to where it was. Otherwise it is made anew.
HEALTHY := $(shell $(RUN) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& [ "$$(cat $(VENV)/.place 2>/dev/null)" = "$$(pwd -P)" ] && echo yes)

.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench wheel clean FORCE

help:
	@echo 'make demo    trains and evaluates small models on real images, about 3 minutes; pictures go to demo-output/'
	@echo 'make test    runs the tests'
	@echo 'make check   lint, types, dependency direction, documentation'
	@echo 'make docs    builds the documentation into site/'
	@echo 'make bench   times the models beside their peers on this machine'
	@echo 'make wheel   builds the release into dist/: for Linux with kernels built ahead, for any machine, and the source'
	@echo 'make clean   removes .venv and everything that the other targets made'

demo: $(VENV)/.demo
	$(BIN)/swin demo

test: $(VENV)/.dev
	$(RUN) -m pytest -n auto --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(RUN) tools/count_parameters.py --check
	$(RUN) tools/make_model_zoo.py --check
	$(RUN) tools/draw_rooms.py --check
	$(RUN) -m mkdocs build --strict --quiet

docs: $(VENV)/.dev
	$(RUN) -m mkdocs build --strict
	@echo 'open site/index.html'

bench: $(VENV)/.dev
	$(BIN)/swin benchmark

# zig alone is larger than all that the tests need, so only this target gets it.
wheel: $(VENV)/.dev
	$(RUN) -m pip install --quiet --target $(VENV)/zig --upgrade ziglang==0.15.2
	PYTHONPATH=$(VENV)/zig $(RUN) tools/make_wheels.py

clean:
	rm -rf $(VENV) site build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo: pyproject.toml $(VENV)/.place
	$(RUN) -m pip install -e '.[train,export]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.place
	$(RUN) -m pip install -e '.[dev]'
	$(RUN) -m pip install --quiet --upgrade --no-deps --target $(SEED) swin-transformer-pytorch==0.4.1 einops
	@touch $@ $(VENV)/.demo

# Some machines list a python3.12 that does not start, and some a Python without venv: each is tried before it is taken.
$(VENV)/.place: $(if $(HEALTHY),,FORCE)
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "setting up $(VENV) with $$("$$python" --version)"; \
			rm -rf $(VENV) && "$$python" -m venv $(VENV) && pwd -P > $@; exit $$?; \
		fi; \
	done; \
	echo 'No Python 3.11 or later with venv was found: install one (Debian and Ubuntu: apt install python3-venv), or name it: make PYTHON=/path/to/python3 demo' >&2; \
	exit 1

FORCE:
