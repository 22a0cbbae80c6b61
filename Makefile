# make demo | test | test-long | bench | lint | default. Everything happens in .venv; a second call installs nothing.
# Other packages than the index at hand offers: pip's own settings, such as PIP_EXTRA_INDEX_URL.
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The first one found of the versions that the tests ran with.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name && break; done)

.PHONY: demo test test-long bench lint default data-named
.DELETE_ON_ERROR:

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

# PyTorch first: without an accelerator its CPU build (+cpu), where the index at hand offers one. The default build for
# Linux brings CUDA. An environment whose making was interrupted may have a python and no pip.
$(VENV)/.torch: requirements.txt $(BIN)/python
	@echo "Installing into $(VENV), once: 390 MB to download, 1.7 GB on disk; then 80 MB of weights. 2 to 7 minutes."
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@wanted=$$(sed -n 's/^torch==//p' requirements.txt); \
	if command -v nvidia-smi || command -v rocm-smi || ls -d /dev/nvidia0 /dev/kfd 2>/dev/null; then \
		echo "That is an accelerator: PyTorch's default build, some GB."; \
	elif build=$$($(PIP) index versions torch 2>/dev/null | grep -o "$${wanted%.*}[.0-9]*+cpu" | head -n 1 | grep .); then \
		wanted=$$build; \
	elif [ "$$(uname -s)" = Linux ]; then \
		echo "The package index offers no CPU build of PyTorch, and the default one may bring CUDA, 2.5 GB more."; \
		echo "To avoid that: PIP_EXTRA_INDEX_URL=ADDRESS make demo, with the address of PyTorch's CPU builds."; \
	fi; \
	set -x; $(PIP) install "torch==$$wanted"
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -e ".[dev]"
	@touch $@

demo: $(VENV)/.installed
	export OPEN_BROWSER=$${OPEN_BROWSER:-1}; exec $(BIN)/python app.py

# Which lines no test runs in its own process: pages and commands run in others.
COVERAGE := --cov=modeling --cov=train --cov=space --cov-report=term:skip-covered
test: $(VENV)/.installed-dev
	@command -v chromium >/dev/null || echo "No browser found, its tests are skipped. To run them: apt-get install chromium"
	$(BIN)/python -m pytest $(COVERAGE)

# By hand and before a release: what takes long by nature.
test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m long

bench: $(VENV)/.installed-dev
	$(BIN)/python bench/serving.py
	$(BIN)/python bench/ray_example.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# From labelled pictures to the embedded default: docs/default-checkpoint.md. CACHE keeps what is done, if you like elsewhere.
default: data-named $(VENV)/.installed-dev
	$(BIN)/python -m train default "$(DATA)" $(if $(CACHE),--cache "$(CACHE)")

data-named:
	@test -n "$(DATA)" || { echo "make default DATA=FOLDER: a folder of Parquet files of labelled pictures, with" \
		"pictures.csv (family, kind and evidence of each)."; exit 1; }
