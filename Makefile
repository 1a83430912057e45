# make help shows what there is. Variables are set on the command line:
#   make extract DATASET=hmdb51 JOBS=8
#   make train MODALITY=flow PRESET=small ARGS="--accumulate 4"

.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON     ?= python3
DATASET    ?= hmdb51
DATA       ?= data/$(DATASET)
NAME        = $(if $(filter folder list,$(DATASET)),$(notdir $(abspath $(DATA))),$(DATASET))
SHARDS     ?= shards
RUNS       ?= runs/$(NAME)
MODALITIES ?= rgb flow rgbdiff
MODALITY   ?= rgb
FLOW       ?= tvl1
SPLIT      ?= 1
JOBS       ?=
PRESET     ?= $(filter hmdb51 ucf101,$(DATASET))
BACKBONE   ?= resnet18
WEIGHTS    ?= imagenet
ARGS       ?=
WORKERS    ?= logical
SECONDS    := 60

BIN      := .venv/bin
STAMP    := .venv/.installed
RUN      := $(RUNS)/$(MODALITY)-split$(SPLIT)
FLOW_ARG  = $(if $(filter flow,$(1)),--flow $(FLOW))

# One small network from scratch; no mirroring, which would turn left into right.
define DEMO_TRAIN
	$(BIN)/tsn-train fit --shards demo/shards/synthetic --modality $(1) --weights none --no-flip \
		--input-size 64 --optimizer adamw --lr 0.001 --head-lr-factor 1 --schedule cosine \
		--crop-scales 1,0.875 --batch-size 16 $(2) --out demo/runs/$(1)
	$(BIN)/tsn-train evaluate demo/runs/$(1) --num-snippets 5 --crops 1
endef

.PHONY: help install demo doctor download plan extract retry verify inspect repack train evaluate fuse report
.PHONY: predict test check fuzz bench bench-gpu docs docs-serve dist clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "Variables and their values now:"
	@$(foreach v,DATASET MODALITY MODALITIES FLOW SPLIT DATA SHARDS RUNS JOBS PRESET BACKBONE WEIGHTS ARGS,printf '  %-10s = %s\n' '$(v)' '$($(v))';)

install: $(STAMP) ## Make .venv and install everything into it, in versions known to work together

$(STAMP): setup.cfg pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed; name one with: make install PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "installing the versions of requirements.lock: 4 GB, some minutes without another word"; \
		$(BIN)/python -m pip install --quiet --requirement requirements.lock && \
		$(BIN)/python -m pip install --quiet --no-deps --editable .; \
	else \
		echo "Python 3.10: requirements.lock needs 3.11, installing the newest versions that fit: some minutes"; \
		$(BIN)/python -m pip install --quiet --editable '.[dev]'; \
	fi
	@touch $@

demo: install ## The whole way on synthetic videos, from extraction to a report (4 to 6 minutes)
	@echo "1 of 6: videos of which only the motion tells the class"
	$(BIN)/tsn-preprocess synth --out demo/data/synthetic
	@echo "2 of 6: shards of rgb, flow and rgbdiff"
	$(BIN)/tsn-preprocess extract --dataset synthetic --data demo/data/synthetic --out demo/shards \
		--modality rgb --modality flow --modality rgbdiff --flow farneback --bound 8 --size 160x120
	@echo "3 of 6: a network for rgb, which is meant to stay near chance (16.7 %)"
	$(call DEMO_TRAIN,rgb,--dropout 0.2 --epochs 6)
	@echo "4 of 6: a network for flow"
	$(call DEMO_TRAIN,flow,--dropout 0.2 --epochs 14)
	@echo "5 of 6: a network for rgbdiff"
	$(call DEMO_TRAIN,rgbdiff,--dropout 0 --num-segments 1 --epochs 36)
	@echo "6 of 6: the three together, and the report"
	$(BIN)/tsn-train fuse demo/runs/rgb demo/runs/flow demo/runs/rgbdiff --out demo/runs/fused
	$(BIN)/tsn-train report demo/runs/fused
	@echo
	@echo "Everything on one page, for a browser: demo/runs/fused/report.html"

doctor: install ## Check this machine: versions, decoders, speed, and what to do about each problem
	$(BIN)/tsn-doctor $(ARGS)

download: install ## Download DATASET (hmdb51 or ucf101) into DATA; interrupted, it goes on
	$(BIN)/tsn-preprocess download $(DATASET) --out $(DATA) $(ARGS)

plan: install ## Foretell what extracting DATASET from DATA costs, from a few of its videos
	$(BIN)/tsn-preprocess plan --dataset $(DATASET) --data $(DATA) $(ARGS)

extract: install ## Extract DATASET from DATA into SHARDS, in all MODALITIES
	$(BIN)/tsn-preprocess extract --dataset $(DATASET) --data $(DATA) --out $(SHARDS) \
		$(foreach modality,$(MODALITIES),--modality $(modality)) --flow $(FLOW) \
		$(if $(JOBS),--jobs $(JOBS)) $(ARGS)

retry: install ## Try the videos of DATASET that failed once more
	$(BIN)/tsn-preprocess retry $(SHARDS)/$(NAME) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

verify: install ## Check the shards of DATASET; ARGS=--repair makes damaged ones anew
	$(BIN)/tsn-preprocess verify $(SHARDS)/$(NAME) $(ARGS)

inspect: install ## Look at the shards of DATASET: pictures of some videos, and what is suspicious
	$(BIN)/tsn-preprocess inspect $(SHARDS)/$(NAME) $(ARGS)

repack: install ## Make other shards of those of DATASET: ARGS="--out raw --codec raw"
	$(BIN)/tsn-preprocess repack $(SHARDS)/$(NAME) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

train: install ## Train a network on MODALITY of DATASET, into RUNS
	$(BIN)/tsn-train fit --shards $(SHARDS)/$(NAME) --modality $(MODALITY) \
		$(call FLOW_ARG,$(MODALITY)) --split $(SPLIT) $(if $(PRESET),--preset $(PRESET)) \
		--backbone $(BACKBONE) --weights $(WEIGHTS) --out $(RUN) $(ARGS)

evaluate: install ## Test the network trained on MODALITY
	$(BIN)/tsn-train evaluate $(RUN) $(ARGS)

fuse: install ## Fuse the tested networks of all MODALITIES
	$(BIN)/tsn-train fuse $(foreach modality,$(MODALITIES),$(RUNS)/$(modality)-split$(SPLIT)) \
		--out $(RUNS)/fused-split$(SPLIT) $(ARGS)

report: install ## One page (HTML) about the tested networks of all MODALITIES and their fusion
	$(BIN)/tsn-train report $(RUNS)/fused-split$(SPLIT) $(ARGS)

predict: install ## Say what happens in VIDEO, by the networks of all MODALITIES
	$(BIN)/tsn-predict $(VIDEO) \
		$(foreach modality,$(MODALITIES),--run $(RUNS)/$(modality)-split$(SPLIT)) $(ARGS)

# Of tiny tensors, more threads per worker make nothing faster. A worker takes up to 1.3 GB of memory:
# as many as there are cores, but only four unless WORKERS says another number.
test: export OMP_NUM_THREADS ?= 1
test: install ## Run all tests and doctests, side by side; WORKERS=0 one after the other
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal \
		$(if $(filter logical,$(WORKERS)),--maxprocesses 4) $(ARGS)

check: install ## What CI checks besides the tests: lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: install ## Fuzz the readers of files for SECONDS each; needs the extra fuzz (atheris)
	$(BIN)/python -m fuzz --seconds $(SECONDS) $(ARGS)

bench: install ## Measure speed, memory and accuracy; writes benchmarks/results/*.json
	$(BIN)/python -m benchmarks $(ARGS)

bench-gpu: install ## Measure what a GPU does, against bars; ARGS="--small --device cpu" tries it
	$(BIN)/python -m benchmarks gpu $(ARGS)

docs: install ## Build the documentation site into site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)
	@echo "open site/index.html, or use: make docs-serve"

docs-serve: install ## Show the site at http://127.0.0.1:8000 while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve $(ARGS)

dist: install ## Build wheel and source distribution into dist/, and check them
	rm -rf build dist
	$(BIN)/python -m build $$($(BIN)/python -c 'import setuptools as s; \
		print("--no-isolation" * (int(s.__version__.split(".")[0]) >= 77))' 2>/dev/null)
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

clean: ## Remove what can be made again: .venv, caches, demo (never data, shards or runs)
	rm -rf .venv demo build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -not -path './data/*' -not -path './shards/*' -not -path './runs/*' -prune -exec rm -rf {} +
