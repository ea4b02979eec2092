# Sealtrail: everything is set up from here; `make` shows what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python of 3.11 or later, unless PYTHON says which one.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := contract producers processors auditors deploy bench tests
# More options for pytest, for example PYTEST="-k merkle".
PYTEST ?=
# Raised to what the tests reach, never lowered without saying why. 88 until commands and clients came that
# speak to real servers alone (access lists, certificates, recovery): test-integration runs them, and processes
# that tests start are not counted. The benchmark measures and is not measured.
COVERAGE := 84

.PHONY: help
help: ## Show the targets
	@echo "Usage: make TARGET [PYTHON=python3.12]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)$$/\1\t\2/' \
		| while IFS=$$'\t' read -r name text; do printf '  %-18s %s\n' "$$name" "$$text"; done

$(READY): requirements/all.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Sealtrail needs Python 3.11 or later: make PYTHON=/path/to/python3" >&2; exit 3; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.PHONY: install
install: $(READY) ## Create .venv with everything in it, hashes checked

.PHONY: system
system: requirements/debian.txt ## Install Debian's packages that some tests use (as root; else it says which are missing)
	@missing=$$(while read -r name; do dpkg -s "$$name" >/dev/null 2>&1 || echo "$$name"; done < $<); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "missing, install them as root:" $$missing >&2; exit 3; fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

.PHONY: demo
demo: $(READY) ## Run real history through the whole pipeline (KEEP=1 leaves it up, REAL=1 takes real servers, REPO=path another repository, ARGS=--json)
	@$(BIN)/sealtrail demo $(ARGS)

.PHONY: test
test: $(READY) ## Run all unit tests: warnings are errors, coverage has a floor
	$(BIN)/python -m pytest --cov --cov-report=term --cov-fail-under=$(COVERAGE) $(PYTEST)

.PHONY: check
check: $(READY) ## Check format, lint, types and the imports between rooms
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: test-install
test-install: $(READY) ## Install each extra into a clean environment and import its room
	$(BIN)/python -m pytest tests/install $(PYTEST)

.PHONY: test-integration
test-integration: test-scenarios test-real ## Run the whole pipeline with every attack hidden in honest traffic: embedded, then on real servers (Java, Maven)

# What looks at the one scene that all attacks are played in: the catalogue's rows of it, and the gate's.
PLAYED := $(addprefix tests/attacks/,test_hidden_attacks.py test_rows.py test_proofs.py test_gate.py)
.PHONY: test-scenarios
test-scenarios: $(READY) ## The embedded half of test-integration: attacks, recovery
	$(BIN)/python -m pytest $(PLAYED) tests/scenarios $(PYTEST)

# Which of it: REAL=tests/real/test_registry.py
REAL := tests/attacks/test_hidden_attacks.py tests/real
.PHONY: test-real
test-real: $(READY) ## The half on real servers: the same attacks, access lists, schema evolution
	$(BIN)/python -m pytest $(REAL) --servers real $(PYTEST)

.PHONY: catalogue
catalogue: $(READY) ## Throw all 84 rows of tests/catalogue.toml at the system and print what happened (ROWS="A1 B3")
	@$(BIN)/python -m tests.catalogue $(ROWS)

# Of the next two: what must be shown in full; CI runs smaller ones.
EVENTS ?= 1000000
FORGERIES ?= 1000
EDITS ?= 1000
SEED ?= 1

.PHONY: forgeries
forgeries: $(READY) ## Hide seeded forgeries of all kinds in honest events: all found and named, no false alarm (EVENTS FORGERIES SEED)
	@$(BIN)/python -m tests.attacks.forgeries $(EVENTS) $(FORGERIES) $(SEED)

.PHONY: edits
edits: $(READY) ## Edit rows and drop parts of a full store at random: all located by the audit, and its speed (EVENTS EDITS SEED)
	@$(BIN)/python -m tests.attacks.make_edits $(EVENTS) $(EDITS) $(SEED)

.PHONY: crash-test
crash-test: $(READY) ## Kill the worker and the broker during 100,000 events: nothing lost, nothing doubled (ARGS="EVENTS KILLS SEED")
	$(BIN)/python -m tests.crash.run $(ARGS)

.PHONY: scale-test
scale-test: $(READY) ## Three workers on real Kafka, one killed every 20 s for 5 minutes, one frozen, one leaving (ARGS="--short --embedded")
	$(BIN)/python -m tests.crash.scale $(ARGS)

.PHONY: broker-test
broker-test: $(READY) ## Three real Kafka brokers, one killed, then the leader, then all, during 200,000 events (ARGS="--events N --away S")
	$(BIN)/python -m tests.crash.brokers $(ARGS)

# Apache Kafka where Java and Maven are, else the embedded servers; SERVERS=real or embedded says which.
SERVERS ?= $(shell if command -v java >/dev/null && command -v mvn >/dev/null; then echo real; else echo embedded; fi)
FAULTS = SERVERS=$(SERVERS) MINUTES="$(MINUTES)" SEED="$(SEED)" $(BIN)/python -m

.PHONY: faults
faults: $(READY) ## Break something every 15 s under load for an hour: nothing lost, nothing forged (MINUTES=60 SEED= SERVERS=real)
	@$(FAULTS) tests.faults.campaign

.PHONY: faults-quick
faults-quick: $(READY) ## The same for three minutes, always with the same seed
	@EVERY_S=10 SERVERS=$(SERVERS) MINUTES=3 SEED=20261125 $(BIN)/python -m tests.faults.campaign

.PHONY: store-away
store-away: $(READY) ## Take the store away under load: memory stays bounded, then all is drained (MINUTES=10 SERVERS=real)
	@$(FAULTS) tests.faults.store_away

.PHONY: keys-test
keys-test: $(READY) ## Keys rotated and revoked under load on real Kafka: nothing lost, nothing gets in (ARGS="--short --embedded")
	$(BIN)/python -m tests.crash.keys $(ARGS)

.PHONY: bench
bench: $(READY) ## Measure rates, latency, memory, storage, lineage and cost; a table, one line of JSON, plots (ARGS="--section rates --real")
	$(BIN)/sealtrail bench --plots docs/performance $(ARGS)

.PHONY: bench-quick
bench-quick: $(READY) ## Compare the ratios of the pipeline's variants with committed floors, within three minutes
	$(BIN)/sealtrail bench --quick

.PHONY: bench-sdk
bench-sdk: $(READY) ## Measure events a second from emit() in services' processes to rows that readers see (ARGS="EVENTS PRODUCERS")
	$(BIN)/python -m tests.bench.rate $(ARGS)

.PHONY: simulate
simulate: $(READY) ## Simulated worlds from seeds, each of which must end lawfully; planted mistakes must be found (SEEDS=10000 FIRST=1)
	$(BIN)/python -m tests.simulation.run $(or $(SEEDS),1000) $(or $(FIRST),1) $(or $(PROCESSES),$(shell nproc))

.PHONY: fuzz
fuzz: $(READY) ## Fuzz every parser of hostile bytes with atheris; crashes become assets (SECONDS=300)
	$(BIN)/python -m tests.fuzz.fuzz $(or $(SECONDS),60) $(TARGETS)

.PHONY: mutations
mutations: $(READY) ## Mutated messages through validation: none crashes, none is accepted, memory stays flat (MESSAGES=10000000 SEED=1)
	$(BIN)/python -m tests.fuzz.mutations $(or $(MESSAGES),1000000) $(or $(PROCESSES),2) $(or $(SEED),1) $(or $(MINUTES),0)

.PHONY: format
format: $(READY) ## Format the code and mend what ruff can mend
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-strip-extras --no-emit-index-url --no-emit-find-links

.PHONY: lock
lock: ## Resolve pyproject.toml anew into the hash-pinned requirements/*.txt
	$(COMPILE) pyproject.toml --extra dev --constraint requirements/versions.in --output-file requirements/all.txt
	$(COMPILE) pyproject.toml --constraint requirements/all.txt --output-file requirements/base.txt
	echo hatchling | $(COMPILE) - --constraint requirements/all.txt --output-file requirements/build.txt
	for extra in producer processor auditor local signers; do \
		$(COMPILE) pyproject.toml --extra $$extra --constraint requirements/all.txt --output-file requirements/$$extra.txt; done

# docker compose, or the older docker-compose; a deployment of its own for three of each.
COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
COMPOSE_ENV = deploy/compose/$(if $(CLUSTER),cluster,single).env
# Never root: who calls make as root gets the user of sealtrail_local/compose.py.
COMPOSE_UID := $(shell id -u | sed 's/^0$$/10001/')
COMPOSE_GID := $(shell if [ "$$(id -u)" = 0 ]; then echo 10001; else id -g; fi)

.PHONY: secrets
secrets: $(READY) ## Make passwords and certificates for docker-compose.yml (deploy/secrets), or renew what is due
	@$(BIN)/python -m sealtrail_local.compose deploy/secrets

.PHONY: up
up: secrets ## Start all in containers: Kafka, registry, ClickHouse, workers, Grafana (CLUSTER=1: three of each; ARGS="--scale worker=3")
	SEALTRAIL_UID=$(COMPOSE_UID) SEALTRAIL_GID=$(COMPOSE_GID) $(COMPOSE) --env-file $(COMPOSE_ENV) up --build --detach $(ARGS)

.PHONY: down
down: ## Stop the containers; what they stored stays (CLUSTER=1 as for up)
	SEALTRAIL_UID=$(COMPOSE_UID) SEALTRAIL_GID=$(COMPOSE_GID) $(COMPOSE) --env-file $(COMPOSE_ENV) down $(ARGS)

.PHONY: compose-check
compose-check: $(READY) ## Check docker-compose.yml for every profile, and what it mounts
	$(BIN)/python -m pytest -q tests/local/compose $(PYTEST)

.PHONY: server-sums
server-sums: $(READY) ## Fetch Kafka and Apicurio as their pom.xml name them, and pin the SHA-256 of each file anew
	$(BIN)/python -m sealtrail_local.real.fetch

.PHONY: clean
clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
