# Everything a newcomer needs; `make help` lists it. The virtual environment makes itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
USABLE := $(VENV)/.usable
READY := $(VENV)/.ready
# pip draws bars in a terminal, and says in a log what it fetches and installs.
PIP = $(BIN)/python -m pip install --no-compile --disable-pip-version-check --constraint constraints.txt
OUT ?= demo-output
SEEDS ?= 0,1,2,3,4
IMAGES ?= 10000000
FOLDER ?= bench-output
SHARDS ?= 1000,10000
MINUTES ?= 30
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Containers often set it; every process would then compile torch again, for seconds, and the tests
# start a thousand of them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install install-user demo demo-fashion demo-icons demo-seeds test test-wheel fuzz test-operate test-operate-ci debian check
.PHONY: format operate-sqlite operate-postgres bench-overhead bench-topk bench-gather bench-data bench-flaky bench-score bench-score-gpu simulate bench-crops bench-train bench-loader bench-photos bench-recipes bench-fashion bench-icons bench-precision bench-features bench-operate clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(READY)  ## Make the virtual environment for work on protege: tests and linters, too

install-user: $(USABLE)  ## Make it with what a user needs, and nothing for tests

$(USABLE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else f"protege needs Python 3.11 or 3.12, and this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# Python compiles what is used when it is used; to compile everything here would take a minute.
	@echo "installing torch (some hundred megabytes), then protege, into $(VENV) ..."
	$(PIP) torch
	$(PIP) --editable '.[demo,photos]'
	touch $(USABLE)

$(READY): $(USABLE)
	@echo "installing what tests and linters need ..."
	$(PIP) --editable '.[demo,photos,bench,test]'
	touch $(READY)

demo: $(USABLE)  ## Run the whole method on digits, in a few minutes
	$(BIN)/protege demo --out $(OUT)

demo-fashion: $(USABLE)  ## Run it on photographs of goods, of Fashion-MNIST
	$(BIN)/protege demo --data fashion --out $(OUT)

demo-icons: $(USABLE)  ## Run it on icons: find the cameras among 40,000 drawings
	$(BIN)/protege demo --data icons --out $(OUT)

demo-seeds: $(USABLE)  ## Run the demo over five seeds, each also with a random choice
	$(BIN)/protege demo --out $(OUT) --seeds $(SEEDS)

test: $(READY)  ## Run every test that needs nothing but Python packages
	# The files with the longest tests come first in this order, so that no process waits for the other.
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		--ignore tests/operate --ignore tests/browser

test-wheel: $(READY)  ## Build the wheel, install it, and run a tiny campaign in a folder elsewhere
	$(BIN)/python -m tests.wheel

test-operate: $(READY) debian  ## Run the tests of the server and, in a browser, of its UI
	# One after the other: at once they would take less time, but starve Prefect's server on SQLite.
	$(MAKE) operate-sqlite
	$(MAKE) operate-postgres

test-operate-ci: $(READY) debian  ## The same on PostgreSQL, and on SQLite what a user does first
	$(MAKE) operate-postgres
	$(BIN)/python -m pytest tests/browser tests/operate --database sqlite -m short

operate-sqlite operate-postgres: operate-%: $(READY)
	$(BIN)/python -m pytest tests/browser tests/operate --database $*

fuzz: $(READY)  ## Try damaged and odd inputs for 30 minutes; MINUTES=5 SEED=1 for others
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

debian:
	command -v chromium >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		( $(SUDO) apt-get update -qq && \
		  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq chromium postgresql >/dev/null )

check: $(READY)  ## Lint, formatting and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-overhead: $(READY)  ## Measure what a campaign costs beside its work
	$(BIN)/python -m tests.bench.overhead

bench-topk: $(READY)  ## Measure topk against DuckDB and Polars; IMAGES=100000000 for the large one
	IMAGES=$(IMAGES) $(BIN)/python -m tests.bench.topk

bench-gather: $(READY)  ## Measure gather against cp and DuckDB, with 15 GB in FOLDER; DATASETS=python for another
	$(BIN)/python -m tests.bench.gather $(FOLDER) $(if $(DATASETS),--datasets-python $(DATASETS))

bench-data: $(READY)  ## Measure how images come in against tar and a decoder, in FOLDER; PEERS=python for others
	$(BIN)/python -m tests.bench.data $(FOLDER) $(if $(PEERS),--peers-python $(PEERS))

bench-score: $(READY)  ## Measure score against its network and its decoders, in FOLDER; PEERS=python for others
	$(BIN)/python -m tests.bench.score $(FOLDER) $(if $(PEERS),--peers-python $(PEERS))

bench-score-gpu: $(READY)  ## Measure score of large networks on a GPU, in FOLDER
	$(BIN)/python -m tests.bench.score_gpu $(FOLDER)

bench-flaky: $(READY)  ## Run the digits campaign on a store with bad days, in FOLDER, and compare
	$(BIN)/python -m tests.bench.flaky $(FOLDER)

simulate: $(READY)  ## Simulate many shards on a store that takes its time, in FOLDER; SHARDS=1000,10000
	$(BIN)/python -m tests.bench.simulate $(FOLDER) --shards $(SHARDS)

bench-crops: $(READY)  ## Measure which crops and brighter copies are found, in 5 minutes
	$(BIN)/python -m tests.bench.crops

bench-train: $(READY)  ## Measure a training against a bare loop: speed, checkpoints, resume
	$(BIN)/python -m tests.bench.train

bench-loader: $(READY)  ## Measure what the reader of a training feeds to a device, without one
	$(BIN)/python -m tests.bench.loader

bench-photos: $(READY)  ## Measure what the preset photos gains on Debian's clip art; an hour or more
	$(BIN)/python -m tests.bench.photos $(OUT)/photos --seeds $(SEEDS)

bench-recipes: $(READY)  ## Measure what digits gain by a recipe; RECIPE=noisy-student, half an hour
	$(BIN)/python -m tests.bench.recipes $(OUT)/recipes --recipe $(or $(RECIPE),noisy-student) --seeds $(SEEDS)

bench-fashion: $(READY)  ## Measure every recipe on goods, by the number of labels: 7 hours, goes on where it was
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.fashion $(OUT)/fashion-bench --seeds $(SEEDS)

bench-icons: $(READY)  ## Measure what is found among drawings of anything; an hour
	$(BIN)/python -m tests.bench.icons $(OUT)/icons-bench

bench-precision: $(READY)  ## Measure how well a committee says how right each class is; half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.precision $(OUT)/precision

bench-features: $(READY)  ## Measure what features are worth that were learned without labels; half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.features $(OUT)/features

bench-operate: $(READY) debian  ## Measure the server: up, submit, idle retraining, zombie, cancel
	$(BIN)/python -m tests.bench.operate

clean:  ## Remove the virtual environment and the demo's output
	rm -rf $(VENV) $(OUT) fuzz-output build *.egg-info .mypy_cache .ruff_cache .pytest_cache
