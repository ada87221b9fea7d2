# `make test` on a bare machine: Python 3.11 or newer with pip, and a network, are all it needs.

PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
BIN := .venv/bin
# Four sets of packages in one environment: SMALL is what the embedded segmenter, its pictures and
# `gamt` on NIfTI need; SERVER adds what `gamt serve` and `gamt annotate` need, READY the evaluator,
# both the other image formats; ALL adds torch and the tools. Each only adds, so a smaller set never
# takes away from a larger one.
SMALL := .venv/.ready-small
SERVER := .venv/.ready-server
READY := .venv/.ready
ALL := .venv/.ready-all
SYNC = $(UV) sync --locked --inexact --python $(PYTHON)
SYNC_SMALL = $(SYNC) --no-default-groups --group samples --extra explain
SYNC_SERVER = $(SYNC_SMALL) --extra server --extra itk
SYNC_READY = $(SYNC_SMALL) --extra evaluation --extra itk
SYNC_ALL = $(SYNC) --all-extras
EXPORT = $(UV) export --quiet --locked --no-emit-project

# A process a core, each with one thread: more would wait for each other. The tests of a file stay in
# one process, so that they share what is costly to make.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# A second version of what is in .venv already, for the tests of the server.
OLDER_CLIENT := .tools/nninteractive-client-2.5.1

# Another implementation of SAM 2, for the tests of checkpoints.
SAM2 := .tools/sam2-1.1.0

# The page of `gamt annotate`, and npm: the machine's where its Node is new enough, or else our own.
PAGE := src/gamt/server/page
NODE_IS_NEW := const [a, b] = process.versions.node.split("."); process.exit(a > 22 || a == 22 && b >= 19 ? 0 : 1)
NPM := $(or $(shell node -e '$(NODE_IS_NEW)' 2>/dev/null && command -v npm),.tools/node/bin/npm)
WITH_NODE = PATH="$(abspath $(dir $(NPM))):$$PATH"
RUN_NPM = $(WITH_NODE) npm --loglevel=error
FETCH = ci --ignore-scripts --no-audit --no-fund
PACKAGES := $(PAGE)/node_modules/.package-lock.json
BUILT := $(PAGE)/dist/index.html
# What measures the page's accessibility.
LIGHTHOUSE := tests/page/node_modules/.package-lock.json

.PHONY: help setup setup-all run annotate serve test test-fast coverage test-page test-napari \
	test-peers test-cluster test-container lint audit bench bench-accuracy bench-page soak faults fuzz bench-container eval data \
	weights page wheel sbom docker \
	docker-run docker-serve docker-save format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv from uv.lock with all that runs and evaluates, without torch

setup-all: $(ALL) ## The same with torch for SAM, and the tools for development

run: $(SMALL) ## Segment the sample cases
	$(BIN)/python -m tests.cases.run

annotate: $(SERVER) $(BUILT) ## Open a page to click in (ANNOTATE="scan.nii.gz ..."; see gamt annotate --help)
	$(BIN)/gamt annotate $(ANNOTATE)

serve: $(SERVER) ## Serve 3D Slicer and napari (SERVE="--host 0.0.0.0 ..."; see gamt serve --help)
	$(BIN)/gamt serve $(SERVE)

test: $(ALL) $(SAM2) ## Run the tests
	$(PYTEST)

test-fast: $(ALL) $(SAM2) ## Run the tests but for the slow ones
	$(PYTEST) -m "not cluster and not container and not napari and not page and not peers and not slow"

coverage: $(ALL) $(SAM2) ## Run the tests, and measure which lines and branches they reach
	$(PYTEST) --cov

test-page: $(ALL) $(BUILT) $(LIGHTHOUSE) ## Test the page of gamt annotate in a browser (SHORT=yes: without the slow tests)
	@command -v chromedriver >/dev/null || { \
		echo "no chromedriver: on Debian, apt install chromium chromium-driver" >&2; exit 1; }
	$(WITH_NODE) $(BIN)/python -m pytest -m "page$(if $(SHORT), and not slow)" tests/page

test-napari: $(ALL) ## Test the server with napari's own plugin, in a window on a virtual display
	@command -v xvfb-run >/dev/null || { echo "no xvfb-run: on Debian, apt install xvfb xauth" \
		"libgl1-mesa-dri libegl1 libgl1 libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4" \
		"libxcb-image0 libxcb-keysyms1 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0" >&2; exit 1; }
	UV_PROJECT_ENVIRONMENT=.tools/napari $(UV) sync --locked --only-group napari --python $(PYTHON)
	$(BIN)/python -m pytest -m napari tests/napari

test-peers: $(ALL) ## Test the evaluator with packages of other groups, 6.3 GB (SHORT=yes: a minute, without the slow tests)
	UV_PROJECT_ENVIRONMENT=.tools/peers $(UV) sync --locked --no-default-groups --group peers \
		--extra evaluation --compile-bytecode --python $(PYTHON)
	$(BIN)/python -m pytest -m "peers$(if $(SHORT), and not slow)" tests/peers

test-cluster: $(ALL) ## Test Dask's processes, separate hosts, and Slurm (SHORT=yes: without the slow tests)
	@PATH="$$PATH:/usr/sbin"; command -v slurmd >/dev/null && command -v munged >/dev/null || { \
		echo "no slurmd or munged: on Debian, apt install slurm-wlm munge iproute2" >&2; exit 1; }
	$(BIN)/python -m pytest -m "cluster$(if $(SHORT), and not slow)" tests/cluster

test-container: $(ALL) ## Build the container and run its tests, with the engine that answers
	$(BIN)/python -m pytest -m container tests/container

lint: $(ALL) $(PACKAGES) ## Check style, types, and who imports whom; check and test the page's modules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(RUN_NPM) --prefix $(PAGE) run --silent check
	$(RUN_NPM) --prefix $(PAGE) test --silent

audit: $(ALL) ## Look for known vulnerabilities in all packages, and for weak workflows (MUST=--must)
	@mkdir -p out
	$(EXPORT) --all-extras --all-groups --output-file out/requirements.txt
	$(BIN)/python -m benchmarks.audit $(MUST) out/requirements.txt
	$(BIN)/zizmor --offline --quiet .github

bench: CORES := $(shell getconf _NPROCESSORS_ONLN)
bench: $(ALL) $(BUILT) ## Measure quality, memory and speed (CASES=DIR, OFFICIAL=DIR; see README)
	@status=0; \
	$(BIN)/python -m benchmarks.bench $(if $(CASES),--cases "$(CASES)") || status=1; \
	$(BIN)/python -m benchmarks.first_clicks --workers $(CORES) || status=1; \
	$(BIN)/python -m benchmarks.prompts --workers $(CORES) || status=1; \
	$(BIN)/python -m benchmarks.scoring $(if $(OFFICIAL),--official "$(OFFICIAL)") || status=1; \
	$(BIN)/python -m benchmarks.interaction || status=1; \
	$(BIN)/python -m benchmarks.speed || status=1; \
	$(BIN)/python -m benchmarks.models || status=1; \
	$(BIN)/python -m benchmarks.memory || status=1; \
	$(BIN)/python -m benchmarks.cluster overhead || status=1; \
	$(BIN)/python -m benchmarks.cluster plan || status=1; \
	$(BIN)/python -m benchmarks.serving || status=1; \
	$(BIN)/python -m benchmarks.annotating || status=1; \
	$(BIN)/python -m benchmarks.hostile || status=1; \
	exit $$status

bench-accuracy: CORES := $(shell getconf _NPROCESSORS_ONLN)
bench-accuracy: $(ALL) ## Compare candidates without a checkpoint; with CASES=DIR, the loop's bars
	$(SYNC_ALL) --group accuracy
	@status=0; \
	$(BIN)/python -m benchmarks.accuracy $(if $(CASES),--cases "$(CASES)") || status=1; \
	$(if $(CASES),$(BIN)/python -m benchmarks.loop_bars --cases "$(CASES)" \
		--workers $(CORES) || status=1;) \
	exit $$status

bench-page: $(ALL) $(BUILT) ## Measure the page of gamt annotate in a browser
	$(BIN)/python -m benchmarks.page

soak: $(ALL) ## Let random users work on a server, and check its answers (MINUTES, 20 without, twice)
	$(BIN)/python -m benchmarks.soak $(if $(MINUTES),--minutes "$(MINUTES)")
	$(BIN)/python -m benchmarks.soak --encodes $(if $(MINUTES),--minutes "$(MINUTES)")

faults: $(ALL) ## Break the method in every way known: slow, failing and killed, and bad methods (25 minutes)
	@status=0; \
	$(BIN)/python -m benchmarks.faults || status=1; \
	$(BIN)/python -m benchmarks.bad_methods || status=1; \
	exit $$status

fuzz: $(ALL) ## Spoil files at random, and look at what comes of them (SHORT=yes: a fiftieth; FUZZ="--only 7 ...")
	$(BIN)/python -m benchmarks.fuzz $(if $(SHORT),--short) $(FUZZ)

bench-container: $(ALL) ## Measure the container's start-up and rebuild
	$(BIN)/python -m benchmarks.container

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

weights: $(SMALL) ## Fetch the checkpoints of all presets, 4.7 GB
	$(BIN)/gamt weights fetch sam_vit_l sam_med2d sam2.1_hiera_large medsam2

page: $(BUILT) ## Build the page of gamt annotate

wheel: $(BUILT) | $(UV) ## Build the Python package, with the page, into dist/
	$(UV) build --wheel --out-dir dist

sbom: | $(UV) ## List all Python packages that a release may run with, as CycloneDX into dist/
	@mkdir -p dist
	$(EXPORT) --all-extras --no-default-groups --format cyclonedx1.5 --output-file dist/gamt.cdx.json

# The challenge's naming rule: the team is the file's name up to the first dot, lower-cased, the image
# the team up to the first underscore.
TEAM ?= gamt
IMAGE := $(shell echo '$(TEAM)' | tr A-Z a-z | cut -d_ -f1):latest
ENGINE ?= $(shell for e in docker podman; do $$e info >/dev/null 2>&1 && echo $$e && break; done)
PRESET ?= default
INPUTS ?= inputs
OUTPUTS ?= outputs
GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo '--gpus device=0')

docker: engine ## Build the container (PRESET, TEAM, BUILD_ARGS)
	$(ENGINE) build --network host --build-arg PRESET=$(PRESET) $(BUILD_ARGS) --tag $(IMAGE) .

docker-run: engine ## Run the container on INPUTS and OUTPUTS with the challenge's command
	@mkdir -p "$(OUTPUTS)"
	$(ENGINE) container run $(GPU) -m 32G --name $(TEAM) --rm \
		-v "$(abspath $(INPUTS))":/workspace/inputs/ \
		-v "$(abspath $(OUTPUTS))":/workspace/outputs/ \
		$(IMAGE) /bin/bash -c "sh predict.sh"

# The key of the environment, if there is one, is the server's. BIND and PORT are where it listens.
BIND ?= 127.0.0.1
PORT ?= 1527
SERVE_IMAGE := gamt-serve:latest
# The server prints the address of the host it believes to be on.
SERVE_HOST := $(if $(filter 127.%,$(BIND)),localhost,$(shell hostname))

docker-serve: engine ## Build the container with gamt serve, and run that (PRESET, BIND, PORT, SERVE)
	$(ENGINE) build --network host --build-arg PRESET=$(PRESET) --build-arg SERVER=yes $(BUILD_ARGS) \
		--tag $(SERVE_IMAGE) .
	@# 143: it was told to stop.
	$(ENGINE) container run $(GPU) --rm --init --name gamt-serve --hostname $(SERVE_HOST) \
		--read-only --tmpfs /tmp --env NN_INTERACTIVE_API_KEY --publish $(BIND):$(PORT):$(PORT) \
		--health-interval 5s --health-start-period 10s --health-cmd \
		'python -c "from urllib.request import urlopen; urlopen(\"http://127.0.0.1:$(PORT)/healthz\")"' \
		$(SERVE_IMAGE) python -P -m gamt serve --host 0.0.0.0 --port $(PORT) $(SERVE) \
		|| [ $$? -eq 143 ]

docker-save: docker $(READY) ## Build, save as out/TEAM.tar.gz, load that back and run it
	@mkdir -p out
	$(ENGINE) save $(IMAGE) | gzip > "out/$(TEAM).tar.gz.partial"
	mv "out/$(TEAM).tar.gz.partial" "out/$(TEAM).tar.gz"
	$(ENGINE) rmi $(IMAGE)
	$(BIN)/python -m evaluation run --cases tests/cases --method "$(ENGINE):out/$(TEAM).tar.gz" \
		--out out/docker-save --restart
	ls -l "out/$(TEAM).tar.gz"

.PHONY: engine
engine:
	@[ -n "$(ENGINE)" ] || { echo "no container engine answers: start docker, or install podman" >&2; exit 1; }

format: $(ALL) ## Apply the style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove all that make and the tools made
	rm -rf .venv .tools .coverage* .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist out
	rm -rf $(PAGE)/dist $(PAGE)/node_modules tests/page/node_modules

$(SMALL): pyproject.toml uv.lock | $(UV)
	$(SYNC_SMALL)
	@touch $@

$(SERVER): pyproject.toml uv.lock | $(UV)
	$(SYNC_SERVER)
	@touch $@ $(SMALL)

# A larger set holds the smaller ones, and so stands for them.
$(READY): pyproject.toml uv.lock | $(UV)
	$(SYNC_READY)
	@touch $@ $(SMALL)

$(ALL): pyproject.toml uv.lock $(OLDER_CLIENT) | $(UV)
	$(SYNC_ALL)
	@touch $@ $(READY) $(SERVER) $(SMALL)

$(OLDER_CLIENT): tests/server/client-2.5.1.txt | $(UV)
	$(UV) pip install --quiet --python $(PYTHON) --target $@ --no-deps --require-hashes \
		--requirements $<
	@touch $@

# Its set-up imports torch, so it is built with the packages of .venv.
$(SAM2): tests/segmenters/sam2-1.1.0.txt | $(ALL)
	SAM2_BUILD_CUDA=0 $(UV) pip install --quiet --python $(BIN)/python --target $@ --no-deps \
		--no-build-isolation --require-hashes --requirements $<
	@touch $@

$(BUILT): $(PACKAGES) $(PAGE)/build.js $(shell find $(PAGE)/src $(PAGE)/notices -type f)
	$(RUN_NPM) --prefix $(PAGE) run --silent build

%/node_modules/.package-lock.json: %/package.json %/package-lock.json | $(NPM)
	$(RUN_NPM) --prefix $* $(FETCH)
	@touch $@

.tools/node/bin/npm: | $(UV)
	UV_PROJECT_ENVIRONMENT=.tools/node $(UV) sync --quiet --locked --only-group node --python $(PYTHON)

.tools/bin/uv:
	$(PYTHON) -m pip install --quiet --upgrade --target .tools uv
