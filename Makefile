# make demo | test | bench | lint. Everything happens in .venv; a second call installs nothing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench lint
.DELETE_ON_ERROR:

$(VENV)/.installed: requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e ".[dev]"
	touch $@

demo: $(VENV)/.installed
	OPEN_BROWSER=$${OPEN_BROWSER:-1} $(BIN)/python app.py

test: $(VENV)/.installed-dev
	@command -v chromium >/dev/null || echo "No browser found, its tests are skipped. To run them: apt-get install chromium"
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-dev
	$(BIN)/python bench/serving.py
	$(BIN)/python bench/ray_example.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
