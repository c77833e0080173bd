# Every way to run Podstream from a checkout. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
SUPPORTED := 3.11 3.12 3.13
export PODSTREAM_HOME ?= $(CURDIR)/var

INSTALLED := $(VENV)/.installed
JARS := $(VENV)/.jars

UV_INSTALL = $(BIN)/uv pip install --python $(BIN)/python --require-hashes --no-deps
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar on \
	--require-hashes --no-deps
FETCH_JARS = $(BIN)/python -c 'from jobs.spark_jars import ensure_jars; ensure_jars()'

.PHONY: help setup init kafka-up mongo-up spark-up dashboard-up mongo-shell demo down status \
	test test-all test-pure pure check coverage smoke bench clean clean-data prerequisites

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

prerequisites:
	@[ -n "$(PYTHON)" ] && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Podstream needs Python 3.11 or newer: install it (Debian/Ubuntu: apt install" \
		"python3.11 python3.11-venv), or say where it is: make PYTHON=/path/to/python3.11"; exit 1; }
	@java=java; \
	if [ -x "$${JAVA_HOME:-/none}/bin/java" ]; then java="$${JAVA_HOME}/bin/java"; fi; \
	shown="$$("$$java" -version 2>&1 || true)"; \
	version="$$(sed -nE 's/.* version "(1\.)?([0-9]+).*/\2/p' <<<"$$shown" | head -1)"; \
	[ "$${version:-0}" -ge 17 ] \
		|| { echo "Podstream needs Java 17 or newer: install it (Debian/Ubuntu: apt install" \
		"openjdk-17-jre-headless), or point JAVA_HOME at it."; exit 1; }

setup: $(JARS) ## virtual environment from the lock file, and the Java parts (once)
	@echo "Set up: $(BIN)/podstream is ready."

# PySpark comes first, because its Ivy then fetches the jars while the other packages arrive. uv asks
# the registry's own address, pip the one it is configured for: what uv cannot have, pip may.
$(INSTALLED): requirements.lock installer.lock pyproject.toml | prerequisites
	@echo "Setting up $(VENV): all packages of requirements.lock, checked by their hashes."
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -q \
		--require-hashes --no-deps -r installer.lock
	@spark=$$(mktemp); trap 'rm -f "$$spark"; wait' EXIT; \
	awk '/^[a-z]/ {wanted = /^pyspark==/} wanted' requirements.lock >"$$spark"; \
	if $(UV_INSTALL) -r "$$spark"; then \
		$(FETCH_JARS) & \
		$(UV_INSTALL) -r requirements.lock || $(PIP_INSTALL) -r requirements.lock; \
		wait; \
	else \
		$(PIP_INSTALL) -r requirements.lock; \
	fi
	@$(BIN)/python -m pip install --disable-pip-version-check -q \
		--no-deps --no-build-isolation -e .
	@touch $@

$(JARS): $(INSTALLED) jobs/ivy.xml | prerequisites
	@$(FETCH_JARS)
	@touch $@

init: setup ## set up, start broker and MongoDB in the background, create topics and indexes
	@$(BIN)/podstream up --detach --only broker --only mongo
	@$(BIN)/podstream topology apply

kafka-up: setup ## start the broker only, in the background
	@$(BIN)/podstream up --detach --only broker

mongo-up: setup ## start MongoDB only, in the background
	@$(BIN)/podstream up --detach --only mongo

spark-up: init ## start the Spark application (and the services it needs), in the background
	@$(BIN)/podstream up --detach --only spark

dashboard-up: init ## start the dashboard (and the services it needs), in the background
	@$(BIN)/podstream up --detach --only dashboard

mongo-shell: setup ## a Python shell with the database open as `db`
	@$(BIN)/podstream mongo-shell

demo: setup ## everything, with a demo catalogue and simulated listeners; Ctrl-C stops it
	@exec $(BIN)/podstream up --demo

down: ## stop every process of the instance
	@$(BIN)/podstream down

status: ## processes, memory, lag, rows
	@$(BIN)/podstream status

test: setup ## every test tier, the quick ones first
	@$(BIN)/python -m tests.tiers $(TIERS)

test-all: setup ## the same, with every kill point, every storm and many more generated examples
	@$(BIN)/python -m tests.tiers --all

# pyenv's shims are in the PATH also for versions that they do not run.
test-pure: ## the tiers without servers, on each supported Python that is here
	@for version in $(SUPPORTED); do \
		python=; \
		for found in "$$(command -v python$$version)" ~/.pyenv/versions/$$version.*/bin/python; do \
			if "$$found" -c "" 2>/dev/null; then python="$$found"; fi; \
		done; \
		if [ -n "$$python" ]; then \
			echo "Python $$version:"; \
			$(MAKE) --no-print-directory PYTHON="$$python" VENV=".venv-$$version" pure; \
		else \
			echo "Python $$version is not on this machine: nothing was run on it."; \
		fi; \
	done

pure: setup
	@$(BIN)/python -m tests.tiers --pure

check: setup ## lint, format, types, imports, generated docs, licences and vulnerabilities of the pins
	@.ci/check $(BIN)

coverage: setup ## branch coverage of the pure parts, by package; at least 95 % of each
	@$(BIN)/python -m pytest -q -n auto --cov --cov-report= tests/unit tests/flow tests/oracle
	@$(BIN)/python .ci/branches.py

smoke: setup ## the headless whole: temporary home, free ports, start, look, stop
	@$(BIN)/podstream smoke

bench: setup ## every benchmark; each prints JSON
	@for script in $(filter-out benchmarks/machine.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python "$$script"; done

clean: ## remove the environment, the jars and every cache; the data stays
	@rm -rf $(VENV) .venv-* .jars build *.egg-info .*_cache .hypothesis .coverage*

clean-data: ## stop the instance and remove all of its data
	@[ ! -x $(BIN)/podstream ] || $(BIN)/podstream down
	@rm -rf "$(CURDIR)/var"
