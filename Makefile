# The two that matter: `make export` and `make test`. Both set up .venv by themselves, once.
#
# Your own model:  make export MODEL=my.pth CALIBRATION=photos/ LABELS=labels.txt [ARCH=mobilenet_v2]
# More pip options: make setup PIP_FLAGS="..."   (an index with CPU builds of torch, for instance)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PIP_FLAGS ?=
OUT ?= dist
RUN ?= runs/synthetic
MODEL ?=
CALIBRATION ?=
LABELS ?=
ARCH ?=
CONTRACT ?=
IMAGES ?=
TRAIN_FLAGS ?=
EXPORT_FLAGS ?=
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
COVERAGE_FLAGS ?=
SERVE_FLAGS ?=
DATA ?=
CHOOSE_FLAGS ?=
WORKERS ?= 2

# Without MODEL, the built-in example: a classifier of drawn snakes, trained here.
ifeq ($(MODEL),)
MODEL_FILE := $(RUN)/checkpoint.safetensors
CALIBRATION_DIR := $(if $(CALIBRATION),$(CALIBRATION),$(RUN)/data/train)
IMAGES_DIR := $(if $(IMAGES),$(IMAGES),$(RUN)/data/validation)
else
MODEL_FILE := $(MODEL)
CALIBRATION_DIR := $(CALIBRATION)
IMAGES_DIR := $(IMAGES)
endif

.PHONY: help setup export train parity parity-arm64 parity-all serve android choose bench bench-int8 bench-train coverage-table verify test test-all lint clean distclean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-16s%s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@echo "== Setting up $(VENV) (once; about two minutes) =="
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11 setup"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
	  --constraint constraints.txt --editable '.[all,test,lint]'
	@touch $@
	@echo "== $(VENV) is ready =="

setup: $(STAMP) ## build .venv from the constraints file

# The checkpoint is there from the first epoch on; this stamp says that training ended.
$(RUN)/.trained: | $(STAMP)
	@echo "== No trained checkpoint yet: training on drawn snakes (about five minutes on two free cores) =="
	$(BIN)/exporter train --synthetic --out $(RUN) $(TRAIN_FLAGS) \
	  $$(test -e $(RUN)/last.ckpt && echo --resume || echo --force)
	@touch $@

train: $(STAMP) ## train on the built-in drawn snakes (again)
	@rm -f $(RUN)/.trained
	$(BIN)/exporter train --synthetic --out $(RUN) --force $(TRAIN_FLAGS)
	@touch $(RUN)/.trained

export: $(STAMP) $(if $(MODEL),,$(RUN)/.trained) ## make dist/ and prove it (MODEL=... CALIBRATION=... LABELS=... or CONTRACT=... for yours)
	@echo "== Exporting $(MODEL_FILE) to $(OUT)/ =="
	$(BIN)/exporter export $(MODEL_FILE) --out $(OUT) \
	  $(if $(CALIBRATION_DIR),--calibration $(CALIBRATION_DIR)) \
	  $(if $(IMAGES_DIR),--images $(IMAGES_DIR)) $(if $(ARCH),--arch $(ARCH)) \
	  $(if $(LABELS),--labels $(LABELS)) $(if $(CONTRACT),--contract $(CONTRACT)) $(EXPORT_FLAGS)

parity: $(STAMP) ## prove every file in dist/ again, on its golden images or IMAGES=...
	$(BIN)/exporter parity $(OUT) $(if $(IMAGES),--images $(IMAGES))

parity-arm64: $(STAMP) ## the same with a phone processor's kernels, emulated (fetches 50 MB once)
	$(BIN)/exporter fetch arm64
	$(BIN)/exporter parity $(OUT) --runtime litert-arm64 $(if $(IMAGES),--images $(IMAGES))

parity-all: $(STAMP) ## the same in every runtime there is, a browser's and devices' results too
	$(BIN)/exporter fetch arm64 browser || echo "(what could not be fetched is listed as 'not run')"
	$(BIN)/exporter parity $(OUT) --runtime all $(if $(IMAGES),--images $(IMAGES))

serve: $(STAMP) ## a page that runs the .tflite files in your browser, or on your phone
	$(BIN)/exporter serve $(OUT) $(SERVE_FLAGS)

android: $(STAMP) ## copy the model in dist/ into android_demo's assets
	$(BIN)/exporter android $(OUT) --app android_demo

choose: $(STAMP) ## which architecture to take, on drawn snakes or DATA=photos/ (CHOOSE_FLAGS="--budget-ms 20")
	$(BIN)/exporter choose $(if $(DATA),--data $(DATA),--synthetic) $(CHOOSE_FLAGS)

verify: $(STAMP) ## checksums, labels and operators of every file in dist/
	$(BIN)/exporter verify $(OUT)

bench: $(STAMP) ## the figures in the README, measured here
	PYTHONPATH=.:tests $(BIN)/python -m bench $(BENCH_FLAGS)

bench-int8: $(STAMP) ## int8 beside other quantizers; fetches 4.8 GB once (BENCH_FLAGS="--peers none": ours)
	PYTHONPATH=.:tests $(BIN)/python -m bench.int8 $(BENCH_FLAGS)

bench-train: $(STAMP) ## the figures of docs/training.md, about half an hour (BENCH_FLAGS="--only frozen")
	PYTHONPATH=.:tests $(BIN)/python -m bench.train --page docs/training.md $(BENCH_FLAGS)

coverage-table: $(STAMP) ## every architecture through every format: writes docs/coverage.md (hours; COVERAGE_FLAGS="--side 96": less)
	PYTHONPATH=.:tests $(BIN)/python -m zoo_coverage $(COVERAGE_FLAGS)

lint: $(STAMP) ## ruff, mypy and the layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## lint, then the tests
	$(BIN)/pytest -n $(WORKERS) -m "not slow" $(PYTEST_FLAGS)

test-all: lint ## the same with the slow, wide sweeps
	$(BIN)/pytest -n $(WORKERS) $(PYTEST_FLAGS)

clean: ## remove dist/, what devices sent, and caches; keeps .venv and runs/
	rm -rf $(OUT) $(OUT).failed $(OUT).devices $(OUT)-quantize-report .exporter-cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

distclean: clean ## remove .venv, runs/ and choose/ too
	rm -rf $(VENV) runs choose
