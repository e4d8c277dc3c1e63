# Two commands do all the set-up: `make demo` and `make test`. Needs Python 3.11 or 3.12 and make, nothing else.
# Another interpreter: `make demo PYTHON=python3.12`.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
# Processes that share out the tests; each may hold 2 GiB.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))

.DEFAULT_GOAL := help
.PHONY: help demo smoke test test-slurm check install install-dev install-cluster docs bench format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo "Foley needs Python 3.11 or 3.12; found $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sentence,prompts,prompted]'
	@# Its pins (torch 2.1, torchvision, xformers) fit nothing else; what it imports is in the extra `prompted`.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps audiocraft
	@$(BIN)/python workflow/fix_torchaudio.py
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sentence,prompts,prompted,dev]'
	@# The peer of a benchmark, which asks for an older soxr; what it imports is in the extra `dev`.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps audiomentations
	@$(BIN)/python workflow/fix_torchaudio.py
	@touch $@

install: $(VENV)/installed ## make .venv with what the workflow needs

install-dev: $(VENV)/installed-dev ## the same, with what the tests and benchmarks need

demo: $(VENV)/installed ## run the default experiment on embedded data (minutes) and say where the report is
	$(BIN)/snakemake --cores $(CORES)
	@echo
	@echo "The report:  file://$(CURDIR)/results/report/index.html"
	@echo "All scores:  results/scores.parquet"
	@echo "Go on with:  source $(BIN)/activate && snakemake --cores all"

smoke: $(VENV)/installed-dev ## run the study of prompted generators on tiny random checkpoints, offline (minutes)
	$(BIN)/python tests/smoke_parts.py $(CORES)

check: $(VENV)/installed-dev ## formatting, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/mypy

test: check ## check, then all tests; real audio is used when FOLEY_SHARED_DATA or ../shared/data is there
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=25

$(VENV)/installed-cluster: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sentence,prompts,prompted,dev,cluster]'
	@$(BIN)/python workflow/fix_torchaudio.py
	@touch $@

install-cluster: $(VENV)/installed-cluster ## the same, with what a Slurm cluster needs

test-slurm: $(VENV)/installed-cluster ## tests on a real Slurm cluster that they start on this machine; as root on Debian (ONLY=ci: the main ones)
	@packages=$$($(BIN)/python tests/slurm/cluster.py packages); test -z "$$packages" || { apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null; }
	$(BIN)/python -m pytest tests/slurm -m 'slurm$(if $(ONLY), and $(ONLY))'

docs: $(VENV)/installed-dev ## write the docs that are made from the code: config, tables, schema, DAG
	$(BIN)/python docs/make_docs.py

bench: $(VENV)/installed-dev ## run the benchmarks and write docs/benchmarks.md
	$(BIN)/python benchmarks/run.py

format: $(VENV)/installed-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow

clean: ## remove results and caches, keep .venv
	rm -rf results .foley .snakemake .pytest_cache .mypy_cache .ruff_cache
