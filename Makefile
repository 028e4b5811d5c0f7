# make demo        score the example clips and compare with the reference
# make test        the tests, PyTorch parity included, but for a few that take a minute or more each
# make test-all    those too
# make test-fast   the tests that need neither PyTorch nor the full-size network
# make newest      those on the newest Python here, with the newest release of everything in an environment of its own
# make lowest      those on Python 3.11, with the lowest versions that pyproject.toml admits
# make bench       speed beside PyTorch, ONNX Runtime and OpenVINO: an hour or more, on an idle machine
# make bench SECTIONS="comparisons stages"  these sections alone, merged into the results of the others
# make bench-quick the ratios alone: under 5 minutes once the full-size network and its ONNX export are made
# make bench-scale  what the pipeline around the network costs: 1,000 to 100,000 trials, processes, Ray
# make check       before a commit: style, types and the fast tests
# make docs        the documentation site, in docs/_build
# make lint        formatting and style
# make types       mypy --strict over the package, the tests, the benchmarks and the examples

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all test-fast newest lowest bench bench-quick bench-scale check docs lint types clean

demo: $(VENV)/installed-report
	$(BIN)/python -m examples.demo

test: $(VENV)/installed-parity
	$(BIN)/python -m pytest -m "not long" --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/installed-parity
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/installed-test
	$(BIN)/python -m pytest -m "not full and not slow and not long and not parity" --numprocesses 2 --dist loadfile --no-loadscope-reorder

newest lowest:
	.ci/versions $@

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.speed full $(if $(SECTIONS),--only $(SECTIONS))

bench-quick: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.speed quick

bench-scale: $(VENV)/installed-parity
	$(BIN)/python -m benchmarks.scale

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build
	@echo "docs/_build/index.html"

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-parity
	$(BIN)/python -m mypy

check: lint types test-fast

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'spectra-jax needs Python 3.11 or newer; name one with PYTHON=...')"
	$(PYTHON) -m venv $(VENV)

# Each stamp says which extras are installed; editing what is required installs again.
$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/installed-report: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[report]"
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[docs,report]"
	touch $@ $(VENV)/installed-report $(VENV)/installed

$(VENV)/installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[test,report]"
	touch $@ $(VENV)/installed

$(VENV)/installed-parity: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[test,report,parity,verify,serve,ray,docs,onnx]"
	touch $@ $(VENV)/installed-test $(VENV)/installed

$(VENV)/installed-bench: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[bench]"
	touch $@ $(VENV)/installed
