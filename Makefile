# Everything runs in .venv, which the first target that needs it builds from constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
# What may change the last bits on another processor; no verdict may change with it (CONTRIBUTING.md, "Numbers").
OTHER_KERNELS := MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default OMP_WAIT_POLICY=passive \
	CONTRALIGN_TEST_THREADS=2 CONTRALIGN_TEST_MISALIGN=1

.PHONY: demo test check format docs clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/contralign demo

test: $(VENV)/.ready check
	$(OTHER_KERNELS) $(BIN)/python -m pytest -m "numeric and not slow" -n 2
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell src tests recipes docs README.md CONTRIBUTING.md CHANGELOG.md
	$(BIN)/python -m pytest -m "not slow" -n 2

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.ready
	$(BIN)/python docs/make_api.py

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache
