# All commands of developers. Each target makes its virtual environment; a bare machine needs only Python and make.

PYTHON ?= python3
RUN_DIR ?= .run
BIN := .venv/bin
# A make that is killed cannot stop its programs, so the kernel does.
DIE_WITH_PARENT := tools/devstack/src/safevideo_devstack/backends/die_with_parent.py

.DEFAULT_GOAL := help
.PHONY: webhook-register kyc-sync help run test check bench chaos people fuzz migrate env-example metrics-list asyncapi lock kyc-page performers-page roles-page manifests images images-test lint-deploy kubernetes-test clean venv

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: STACK=embedded|local  LOCAL_DATABASE=mariadb|mysql  PORT_OFFSET=1000  RUN_DIR=.run  PYTHON=python3  ARGS=… (of test, bench, chaos and fuzz)"

run: venv ## start the whole system and send demo webhooks; STACK=local takes real Kafka, MariaDB and Redis
	@exec $(BIN)/python -I -S $(DIE_WITH_PARENT) $$PPID $(BIN)/python -m safevideo_devstack.run

test: venv ## run all tests in parallel on the best backends available; ARGS="-k performer" runs some, one by one
	@$(BIN)/python -m pytest -n auto $(ARGS)

check: venv ## check style, types, imports, and that documents agree with the code
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/contracts deploy/tests

bench: venv ## measure webhook-ingest and a worker against their limits, on a real Kafka and MariaDB
	@$(BIN)/python tests/load/run.py $(ARGS)

chaos: venv ## kill, freeze and restart workers, database and brokers under load; CHAOS_SECONDS=300 is how long, CHAOS_BROKERS=3 takes three, ARGS=people is `make people`
	@if [ "$(ARGS)" = people ]; then exec $(MAKE) --no-print-directory people ARGS=; fi; \
	export STACK=local CHAOS_SECONDS=$${CHAOS_SECONDS:-30} CHAOS_EVENTS=$${CHAOS_EVENTS:-10000} \
		CHAOS_SYNC_PERFORMERS=1000 CHAOS_SYNC_KILLS=10 CHAOS_JOBS=$${CHAOS_JOBS:-100} CHAOS_STANDSTILL_SECONDS=$${CHAOS_STANDSTILL_SECONDS:-5} \
		CHAOS_QUIET_SECONDS=8 CHAOS_EVENTS_PER_SECOND=300 WORKER_KILLS=5 RUN_KILLS=5 WAITING_JOBS=10000; \
		exec $(BIN)/python -m pytest -s --show-capture=no tests/chaos tests/e2e/test_worker_kills.py tests/e2e/test_make_run_kills.py \
		libs/common/tests/integration/protections/test_protections.py::test_jobs_wait_for_an_hour_untouched_and_then_run_once \
		services/sync-worker/tests/integration/performers/test_scan_kills.py $(ARGS)

people: venv ## fail each I/O of each act on people, let each two meet at each, and 400 random sequences (PEOPLE_EXAMPLES); hours
	@PEOPLE=long $(BIN)/python -m pytest -s --show-capture=no tests/people $(ARGS)

fuzz: venv ## send malformed and forged requests to webhook-ingest, any record to a worker, and every end of every type; ARGS="--seconds 60" is how long
	@ENDS=all $(BIN)/python -m pytest -q -s -k "at_an_end" services/gateway/tests services/kyc-worker/tests services/sync-worker/tests libs/common/tests/unit
	@$(BIN)/python -m safevideo_testkit.fuzz $(ARGS)

migrate: venv ## migrate the schema of DATABASE_URL to this checkout (`make run` does so by itself)
	@$(BIN)/safevideo migrate

webhook-register: venv ## tell Sharegram to send webhooks to URL=https://…/webhooks/sharegram
	@$(BIN)/safevideo webhook register "$(URL)"

kyc-sync: venv ## fetch the result of a KYC request from Sharegram: REQUEST_ID=123
	@$(BIN)/safevideo kyc sync --request-id "$(REQUEST_ID)"

env-example: venv ## write .env.example from the settings classes
	@$(BIN)/python tools/docs/env_example.py > .env.example.new && mv .env.example.new .env.example

asyncapi: venv ## write docs/asyncapi.yaml from the types of the events
	@$(BIN)/python tools/docs/asyncapi.py > docs/asyncapi.yaml.new && mv docs/asyncapi.yaml.new docs/asyncapi.yaml

metrics-list: venv ## write docs/metrics.md from the catalog of metrics
	@$(BIN)/python tools/docs/metrics_page.py > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md

lock: venv ## pin the dependencies of the pyproject.toml files with hashes; ARGS=--upgrade takes newer versions
	@$(BIN)/python tools/requirements.py | $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
		--no-header --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file constraints.txt $(ARGS) -

manifests: venv ## write the manifests and dashboards that repeat what the code says
	@$(BIN)/python tools/docs/manifests.py deploy/kubernetes/components
	@$(BIN)/python tools/docs/dashboards.py deploy/observability/grafana/dashboards

kyc-page: venv ## write docs/kyc.md from the state machine of a KYC request
	@$(BIN)/python tools/docs/kyc_page.py > docs/kyc.md.new && mv docs/kyc.md.new docs/kyc.md

performers-page: venv ## write docs/performers.md from the statuses of a performer
	@$(BIN)/python tools/docs/performers_page.py > docs/performers.md.new && mv docs/performers.md.new docs/performers.md

roles-page: venv ## write docs/roles.md from the roles that the endpoints declare
	@$(BIN)/python tools/docs/roles_page.py > docs/roles.md.new && mv docs/roles.md.new docs/roles.md

images: ## build the container images; VERSION=1.2.3 is their tag; LOCAL_BASE=1 needs no image registry
	@deploy/docker/build.sh $(VERSION)

lint-deploy: ## check the Dockerfile with hadolint, and the manifests strictly against three versions of Kubernetes
	@PYTHON=$(PYTHON) deploy/tests/lint.sh

images-test: venv ## build the images, run them with read-only roots and limits, and send a webhook through; root on Debian
	@deploy/docker/tests/run.sh $(ARGS)

kubernetes-test: venv lint-deploy ## run the manifests and images on a real Kubernetes, with faults; root on Debian, builds Kubernetes once
	@deploy/kubernetes/tests/run.sh $(ARGS)

clean: ## remove all state of `make run`: data, secrets, logs
	@$(PYTHON) tools/devstack/clean.py $(RUN_DIR)

venv:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Python 3.11 or newer is needed and $(PYTHON) is not there."; \
		echo "On Debian 12 or newer: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) tools/devstack/bootstrap.py
