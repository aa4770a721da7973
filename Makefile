# Squeeze and span. `make help` lists the targets.
CONFIG ?= configs/digits.yaml
ARGS ?=
VENV ?= .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.complete
quote = '$(subst ','\'',$(1))'
# train.epochs=10 behind a target is a variable to make; names in capitals are the Makefile's or the environment's.
CAPITALS := $(foreach c,A B C D E F G H I J K L M N O P Q R S T U V W X Y Z _,$(c)%)
TYPED = $(foreach v,$(filter-out $(CAPITALS),$(sort $(.VARIABLES))),$(if $(findstring command line,$(origin $(v))),$(v)))
OVERRIDES = $(foreach v,$(TYPED),$(call quote,$(v)=$(value $(v))))
# A config as a target, or under a name that is misspelt, would leave the stage with the digits.
GIVEN = $(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $(v))),$(if $(filter %.yaml %.yml,$(value $(v))),$(v))))
LOST := $(filter %.yaml %.yml,$(MAKECMDGOALS)) $(foreach v,$(filter $(CAPITALS),$(filter-out CONFIG ARGS,$(GIVEN))),$(v)=$(value $(v)))
$(if $(strip $(LOST)),$(error $(firstword $(LOST)): name a config as CONFIG=$(lastword $(subst =, ,$(firstword $(LOST))))))
RUN := STARTED_BY=make $(PYTHON) -m pipeline
ON_DEMO = $(if $(filter file,$(origin CONFIG)),$(CONFIG) configs/few-digits.yaml,$(call quote,$(CONFIG))) $(ARGS) $(OVERRIDES)
ON_CONFIG = $(call quote,$(CONFIG)) $(ARGS) $(OVERRIDES)
# The newest Python of 3.11 to 3.14 that is on the PATH; set BASE_PYTHON to choose.
BASE_PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && { echo $$p; break; }; done)

.DEFAULT_GOAL := help
# Two files of tests at once, in the order of tests/conftest.py.
ABREAST := -n 2 --dist loadfile --no-loadscope-reorder
TEACHER ?=
OUT ?= teachers/$(basename $(notdir $(patsubst %/,%,$(TEACHER))))
DISCRIMINATOR ?=
ARCHITECTURE ?=
DATA ?=

.PHONY: help setup run demo import teacher real generate train eval report tables quality-sweep pool-sweep worth test test-fast lint type check bench \
	accelerator-dry-run clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 24
	@echo
	@echo "  Every stage takes CONFIG=configs/x.yaml, overrides such as train.epochs=10, and ARGS='FILE …', YAML files of"
	@echo "  overrides. RAY_ADDRESS=… runs it on a cluster. python -m pipeline help SECTION.FIELD explains a field."

setup: $(STAMP) ## Create the environment in .venv (uv if there is one or it can be installed, else pip)

$(STAMP): requirements.lock
	@test -n "$(BASE_PYTHON)" || { echo "error: a Python from 3.11 to 3.14 is needed and none is on the PATH; set BASE_PYTHON=…" >&2; exit 2; }
	@echo "Installing into $(VENV): some 7 GB, once"
	@test -x $(PYTHON) || $(BASE_PYTHON) -m venv $(VENV)
	@uv=$$(command -v uv || { $(PYTHON) -m pip install -q uv >/dev/null 2>&1 && echo $(VENV)/bin/uv; }); \
	if [ -n "$$uv" ]; then "$$uv" pip install -p $(PYTHON) --compile-bytecode --require-hashes -r requirements.lock; \
	else PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pip install --require-hashes -r requirements.lock; fi
	@touch $@

run: $(STAMP) ## Run all stages from real images to a report; finished ones are skipped
	@$(RUN) run $(ON_CONFIG)

demo: $(STAMP) ## Run the demo: ten digits, with and without a teacher
	@$(RUN) run $(ON_DEMO)

teacher: $(STAMP) ## Train a GAN on the real shards (the digits have one already)
	@$(RUN) teacher $(ON_CONFIG)

import: $(STAMP) ## Import a GAN checkpoint as a teacher: TEACHER=FILE_OR_FOLDER OUT=teachers/NAME [DISCRIMINATOR=FILE ARCHITECTURE=FILE.json]
	@test -n "$(TEACHER)" || { echo "error: name the checkpoint: make import TEACHER=FILE_OR_FOLDER OUT=teachers/name" >&2; exit 2; }
	@$(RUN) import-teacher "$(TEACHER)" --out "$(OUT)" $(if $(DISCRIMINATOR),--discriminator "$(DISCRIMINATOR)") \
		$(if $(ARCHITECTURE),--architecture "$(ARCHITECTURE)") $(ARGS)

real: $(STAMP) ## Pack real images into shards
	@$(RUN) real $(ON_CONFIG)

generate: $(STAMP) ## Render the teacher's images and features into shards
	@$(RUN) generate $(ON_CONFIG)

train: $(STAMP) ## Train the student: squeeze and span, or another method
	@$(RUN) train $(ON_CONFIG)

eval: $(STAMP) ## Measure the student and its baselines on real images
	@$(RUN) eval $(ON_CONFIG)

report: $(STAMP) ## Write the results as one HTML page
	@$(RUN) report $(ON_CONFIG)

tables: $(STAMP) ## Run every row of the paper's tables 1, 2 and 5
	@$(RUN) tables $(ON_CONFIG)

quality-sweep: $(STAMP) ## Plot accuracy against the teacher's quality; needs teacher.snapshot_images
	@$(RUN) quality-sweep $(ON_CONFIG)

worth: $(STAMP) ## Measure what the teacher adds: train with and without it
	@$(RUN) worth $(ON_CONFIG)

pool-sweep: $(STAMP) ## Plot accuracy against the size of the pool, and compare with online rendering
	@$(RUN) pool-sweep $(ON_CONFIG)

test: $(STAMP) ## Run the test suite
	@$(PYTHON) -m pytest $(ABREAST) $(ARGS)

test-fast: $(STAMP) ## Run the tests that are neither slow nor need Ray
	@$(PYTHON) -m pytest $(ABREAST) -m "not slow and not ray" $(ARGS)

lint: $(STAMP) ## Check format and lint
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .

type: $(STAMP) ## Check types
	@$(PYTHON) -m mypy

check: lint type test ## Run lint, type and test

bench: $(STAMP) ## Run the benchmarks that fit a laptop
	@$(PYTHON) -m benchmarks.speed.render $(ARGS)
	@$(PYTHON) -m benchmarks.speed.render_biggan $(ARGS)
	@$(PYTHON) -m benchmarks.speed.render_stylegan3 $(ARGS)
	@$(PYTHON) -m benchmarks.speed.train_step $(ARGS)
	@$(PYTHON) -m benchmarks.speed.stream $(ARGS)
	@$(PYTHON) -m benchmarks.speed.probe --classes 10 $(ARGS)
	@$(PYTHON) -m benchmarks.scale --parts workers costs $(ARGS)

accelerator-dry-run: $(STAMP) ## Try both commands for a borrowed GPU on the CPU: DATA=cifar10-jpeg.tar.xz
	@$(PYTHON) -m benchmarks.accelerator dry-run $(if $(DATA),--data "$(DATA)")

clean: ## Remove caches of tools; keeps runs/ and store/
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
