# `make demo` and `make test` need Python 3.11 or later, git and make. The second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH := .venv-bench/bin
BENCH_STAMP := .venv-bench/.installed

.PHONY: demo test test-slow bench lint types check clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("gentheory needs Python 3.11 or later, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/gentheory run studies/quickstart.toml
	$(BIN)/gentheory report runs/quickstart

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

# Faults of whole clusters: each test starts a dozen processes.
test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

# The peers have an environment of their own, so that what they pin binds nobody else.
$(BENCH_STAMP): pyproject.toml constraints.txt requirements-bench.txt
	$(PYTHON) -m venv .venv-bench
	$(BENCH)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	$(BENCH)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-bench.txt
	touch $(BENCH_STAMP)

bench: $(BENCH_STAMP)
	$(BENCH)/python -m benchmarks --out reports/benchmarks

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/pyright

check: lint types test

clean:
	rm -rf .venv .venv-bench runs
