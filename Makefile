# NormCT: `make help` lists what there is. Nothing here installs system packages.
SHELL := /bin/bash -o pipefail
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES  ?= all
# pip options for torch alone, e.g. TORCH_PIP="--index-url <your CPU or CUDA wheel index>"
TORCH_PIP ?=
BIN := .venv/bin
# pip compiles one file at a time; compileall uses every core
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true

.PHONY: help demo test reruns cluster lint bench bundle detection detection-data detection-train detection-score detection-evaluate handoff-verify status clean-demo
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

# torch first and pinned: a looser request for it pulls another build
.venv/.base: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 is needed: install python3.11 and python3.11-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed, not $$($(PYTHON) -V): make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv (about 2 GB, a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) $(TORCH_PIP) torch==2.13.0
	$(PIP_INSTALL) -c constraints.txt -e .
	@$(COMPILE)
	@touch $@

.venv/.dev: .venv/.base
	$(PIP_INSTALL) -c constraints.txt -e '.[dev,bet,flow]'
	@$(COMPILE)
	@touch $@

demo: .venv/.base  ## set up, and run the whole pipeline on the embedded synthetic cohort
	$(BIN)/snakemake --cores $(CORES) --keep-going --rerun-incomplete --quiet rules host reason 2>&1 \
	  | grep --line-buffered -vE '^(Select jobs to execute|Execute [0-9]+ jobs|\[... ... .*\]$$)'

# a Slurm's jobs take every core: the test on one comes alone, after the others
test: .venv/.dev  ## set up, and run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m 'not study and not cluster' $(PYTEST_ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n0 -m 'cluster and not study' tests/slurm

reruns: .venv/.dev  ## for every config key: which rules run again when it changes (part of make test)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/workflow/test_workflow_reruns.py

cluster: .venv/.dev  ## the cluster page on a real Slurm, and what dies there (needs its packages; 10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n0 -x -m 'study or not study' tests/slurm

lint: .venv/.dev  ## style, types, imports between stages, workflow
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow

bench: .venv/.dev  ## measure; prints a table and writes results/bench.json
	$(BIN)/python -m benchmarks.run

bundle: .venv/.base  ## freeze the trained models: copies the bundle to bundles/<name>-<checksum>
	$(BIN)/python -m normct.score.copy_bundle $(or $(RESULTS),results)/score/bundle bundles

# hours; each stage goes on where it was. A freeze: make detection FREEZE=<commit> (docs/detection.md)
STAGE ?= all
detection: .venv/.base  ## the detection study on a synthetic cohort of its own (docs/detection.md), or one STAGE of it
	nice -n 10 $(BIN)/python -m benchmarks.detection $(STAGE) --cores $(CORES) $(if $(FREEZE),--freeze $(FREEZE))

detection-data detection-train detection-score detection-evaluate: .venv/.base
	@$(MAKE) --no-print-directory detection STAGE=$(@:detection-%=%)

# one method of it, where the training of all takes longer than a sitting
detection-train-%: .venv/.base
	@$(MAKE) --no-print-directory detection STAGE=train-$*

handoff-verify: .venv/.base  ## check a hand-off against its SHA256SUMS; of another run: RESULTS=folder
	$(BIN)/python -m normct.handoff.verify $(or $(RESULTS),results)/handoff

status: .venv/.base  ## what would run and why (ARGS="--configfile mine.yaml"), and jobs stuck in Slurm's queue
	@$(BIN)/snakemake --cores 1 --dry-run --nolock --rerun-incomplete $(ARGS) 2>&1 | $(BIN)/python -m normct.common.plan
	@$(BIN)/python -m normct.common.slurm_queue

clean-demo:  ## delete the demo's results
	rm -rf results/phantom results/cohort results/preprocess results/train results/score results/evaluate \
	  results/handoff results/logs
