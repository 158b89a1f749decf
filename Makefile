# Every command of the project. `make` lists them; `make demo` and `make test` set up what they need by themselves.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stop test unit program contract conformance cluster node chaos bench lint format lock image clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made
TIERS := unit program contract conformance cluster node chaos
# In CI everything has to be there: a test that is skipped fails the run.
STRICT := $(if $(CI),--fail-on-skip)
RUN := $(BIN)/python -m tests.harness.tiers $(STRICT)

help:  ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install all that tests and demo need; quick where it is there
	@$(PYTHON) tests/harness/packages.py components
	@$(BIN)/python -m tests.harness.tools >/dev/null

$(STAMP): requirements-dev.lock pyproject.toml hatch_build.py $(wildcard protos/*.proto)
	@$(PYTHON) tests/harness/packages.py python
	@echo "making .venv from requirements-dev.lock"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --requirement requirements-dev.lock
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## Play the StatefulSet story on a real cluster (BACKEND=rbd: on Ceph; KEEP=1: leave it up; CLUSTER=current: on yours)
	@$(BIN)/python -m tests.demo $(if $(BACKEND),--backend=$(BACKEND)) $(if $(KEEP),--keep) $(if $(CLUSTER),--cluster=$(CLUSTER))

demo-stop: $(STAMP)  ## End the cluster that `make demo KEEP=1` left up
	@$(BIN)/python -m tests.demo --stop

test: setup  ## Run every tier, with one summary
	@$(RUN) $(TIERS)

unit: $(STAMP)  ## Our code on fakes: seconds
	@$(RUN) unit

program: $(STAMP)  ## The program as its operator meets it: flags, signals, endpoints
	@$(RUN) program

contract: $(STAMP)  ## Every backend against the one suite they all pass
	@$(RUN) contract

conformance: setup  ## csi-sanity, all of it
	@$(RUN) conformance

cluster: setup  ## A real API server, controller manager and scheduler
	@$(RUN) cluster

node: setup  ## A kubelet and containerd: real Pods
	@$(RUN) node

chaos: setup  ## kill -9 at every step, and full disks
	@$(RUN) chaos

bench: setup  ## How fast claims are bound and deleted, and at what cost (BACKEND=rbd: CSI calls against bare librbd)
	@mkdir -p build
ifeq ($(BACKEND),rbd)
	@$(BIN)/python -m tests.bench.rbd --json build/bench-rbd.json
else
	@$(BIN)/python -m tests.bench.claims --json build/bench-claims.json
	@$(BIN)/python -m tests.bench.pods --json build/bench-pods.json
endif
	@echo "the figures are in build/bench-*.json too"

lint: $(STAMP)  ## Style, types, and who may import whom
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP)  ## Bring the code into the project's style
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: $(STAMP)  ## Resolve the locked versions anew, for the image and for development
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version=3.11 --generate-hashes --no-strip-extras --no-emit-index-url \
	  --custom-compile-command='make lock' --output-file=requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version=3.11 --generate-hashes --no-strip-extras --no-emit-index-url \
	  --custom-compile-command='make lock' --output-file=requirements-dev.lock --group=dev pyproject.toml

image: setup  ## Build the container image without a daemon or a registry, and print the archive's path
	@$(BIN)/python -m tests.harness.image_build

clean:  ## Remove what was made in this folder (not the user's cache)
	@rm -rf .venv build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@rm -rf provisioner/generated
