# `make test` on a bare machine: Python 3.11 or newer with pip, and a network, are all it needs.

PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup run test lint bench eval data weights format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv from uv.lock

run: $(READY) ## Segment the sample cases
	$(BIN)/python -m tests.cases.run

test: $(READY) ## Run the tests
	$(BIN)/python -m pytest

lint: $(READY) ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY) ## Measure quality, memory and speed (CASES=DIR, OFFICIAL=DIR; see README)
	@status=0; \
	$(BIN)/python -m tests.bench $(if $(CASES),--cases "$(CASES)") || status=1; \
	$(BIN)/python -m tests.scoring $(if $(OFFICIAL),--official "$(OFFICIAL)") || status=1; \
	$(BIN)/python -m tests.speed || status=1; \
	exit $$status

# Results are named after the cases' folder, so that those of different cases keep apart.
eval: CASES := $(or $(CASES),tests/cases)
eval: METHOD := $(or $(METHOD),gamt)
eval: OUT := $(or $(OUT),out/eval-$(notdir $(abspath $(CASES)/..))-$(notdir $(abspath $(CASES))))
eval: CORES := $(if $(filter gamt%,$(METHOD)),$(shell getconf _NPROCESSORS_ONLN),1)
eval: $(READY) ## Evaluate METHOD on CASES as the challenge does (also GTS, NAME, OUT)
	@status=0; \
	$(BIN)/python -m evaluation run --cases "$(CASES)" $(if $(GTS),--gts "$(GTS)") \
		--method "$(METHOD)" $(if $(NAME),--name "$(NAME)") \
		--out "$(OUT)" --workers $(CORES) || status=$$?; \
	$(BIN)/python -m evaluation leaderboard "$(OUT)" || status=$$?; \
	$(BIN)/python -m evaluation report "$(OUT)" || status=$$?; \
	exit $$status

data: $(READY) ## Fetch the challenge's validation set into data/
	$(BIN)/python -m evaluation fetch --to data

weights: $(READY) ## Fetch the checkpoints of the presets all-data and coreset
	$(BIN)/gamt weights fetch sam_vit_l sam_med2d

format: $(READY) ## Apply the style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove all that make and the tools made
	rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist out

$(READY): pyproject.toml uv.lock | $(UV)
	$(UV) sync --locked --all-extras --compile-bytecode --python $(PYTHON)
	@touch $@

.tools/bin/uv:
	$(PYTHON) -m pip install --quiet --upgrade --target .tools uv
