# The front door. `make demo` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
EXTRAS := embedded,demo,parquet,plot,test,lint
CAMPAIGNS ?= 10
KILLS     ?=
MALFORMED ?= 100000
SEED      ?=
SEEDS     ?= 1000
MINUTES   ?= 30
RUNS      ?= 5
SCALE     ?= 0.2
SCREENSHOTS ?=
BUILDER   ?= docker
IMAGE_ARGS ?=

.PHONY: help demo test simulate lint format chaos bench bench-device scale soak accuracy docs page-test dashboards dashboards-test alerts-test redis-test image deploy-test systemd-test image-test kubernetes-test clean
.DEFAULT_GOAL := help

help: ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(VENV)/.installed ## live ticks from this computer, forecast before your eyes; Ctrl-C ends everything
	@$(BIN)/foretick demo

test: $(VENV)/.installed ## the whole test suite, as CI runs it
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

chaos: $(VENV)/.installed ## kill it by the hundred: CAMPAIGNS=10 or KILLS=1000; MALFORMED=100000 entries; SEED=… repeats one
	FORETICK_TEST_CAMPAIGNS=$(CAMPAIGNS) FORETICK_TEST_KILLS=$(KILLS) FORETICK_TEST_SEED=$(SEED) \
	FORETICK_TEST_MALFORMED=$(MALFORMED) $(BIN)/python -m pytest -m chaos tests/chaos $(PYTEST_ARGS)

simulate: $(VENV)/.installed ## the commit protocol against a Redis that fails anywhere, in virtual time: SEEDS=10000; SEED=… repeats one
	@PYTHONPATH=tests:tests/simulation $(BIN)/python tests/simulation/simulate.py --seeds $(SEEDS) $(if $(SEED),--seed $(SEED))

lint: $(VENV)/.installed ## style, types and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml daemon

format: $(VENV)/.installed ## rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed ## speed beside peers, into docs/speed.json and docs/speed.svg; a quiet machine, 11 minutes: RUNS=5 SCALE=0.2
	@cd bench && ../$(BIN)/python throughput.py --runs $(RUNS) --scale $(SCALE) --json ../docs/speed.json
	@cd bench && ../$(BIN)/python latency.py --json ../docs/speed.json
	@cd bench && ../$(BIN)/python parts.py --json ../docs/speed.json
	@cd bench && ../$(BIN)/python metrics.py
	@$(BIN)/python docs/scripts/speed.py

scale: $(VENV)/.installed ## cost of a tick, memory and checkpoints from ten series to a million, into docs/scale.png; 3 to 8 minutes
	@cd bench && ../$(BIN)/python scale.py
	@cd bench && ../$(BIN)/python memory.py

bench-device: $(VENV)/.installed ## the network's steps and learning on the CPU and each CUDA device; a minute
	@cd bench && ../$(BIN)/python device.py

soak: $(VENV)/.installed ## whether anything grows under steady load: MINUTES=30; samples in soak.csv, soak.png
	@cd bench && ../$(BIN)/python soak.py --minutes $(MINUTES) --out ../soak

.venv-bench/.installed: bench/requirements.txt constraints.txt
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -r bench/requirements.txt
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --no-deps deep-river==0.3.4
	@touch $@

accuracy: $(VENV)/.installed .venv-bench/.installed ## the peers and our profiles on real series, into docs/accuracy.md: ONLY=naive,lean for some
	@cd bench && ../.venv-bench/bin/python accuracy.py $(if $(ONLY),--only $(ONLY))

docs: $(VENV)/.installed ## write the pages and pictures that are made from the code
	$(BIN)/python docs/scripts/configuration.py
	$(BIN)/python docs/scripts/licences.py
	$(BIN)/python docs/scripts/pictures.py
	$(BIN)/python docs/scripts/speed.py

dashboards: $(VENV)/.installed ## write Grafana's dashboards; RUNBOOK=https://… puts your runbook's address into them and the alerts
	$(BIN)/python deploy/grafana/dashboards.py $(if $(RUNBOOK),--runbook $(RUNBOOK))

page-test: $(VENV)/.installed ## the live page in a real Chromium; SCREENSHOTS=FOLDER keeps pictures; 2 minutes
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt 'playwright>=1.49'
	FORETICK_TEST_SCREENSHOTS=$(SCREENSHOTS) $(BIN)/python -m pytest -m heavy tests/integration/test_page_browser.py $(PYTEST_ARGS)

redis-test: $(VENV)/.installed ## a Redis Cluster under load: replicas 1 -> 3 -> 2, a master that dies, a slot that moves; 2 minutes
	$(BIN)/python -m pytest -m heavy tests/integration/test_redis_scaling.py $(PYTEST_ARGS)

dashboards-test: $(VENV)/.installed ## every panel's query against a real Prometheus and real daemons under load; 2 minutes
	$(BIN)/python -m pytest -m heavy tests/deploy/test_dashboards_live.py $(PYTEST_ARGS)

alerts-test: $(VENV)/.installed ## alerts staged: broken, heard through a real Alertmanager, mended, cleared; 4 minutes
	$(BIN)/python -m pytest -m heavy tests/deploy/test_alerts_live.py $(PYTEST_ARGS)

.venv-deploy/.installed: tests/deploy/requirements.txt
	@test -x .venv-deploy/bin/python || $(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/pip install --quiet --disable-pip-version-check -r tests/deploy/requirements.txt
	@touch $@

image: ## build the container image foretick:local: BUILDER=docker (podman, buildah); IMAGE_ARGS='--build-arg …'
	$(BUILDER) build $(IMAGE_ARGS) --tag foretick:local .

deploy-test: systemd-test image-test kubernetes-test ## all three, on a Debian as root; 15 minutes at the first time

systemd-test: $(VENV)/.installed ## the units in a real systemd; needs debootstrap, systemd-container; 4 minutes
	$(BIN)/python -m pytest -m heavy -p no:randomly tests/deploy/test_systemd_machine.py $(PYTEST_ARGS)

image-test: $(VENV)/.installed .venv-deploy/.installed ## the image built and run; needs debootstrap, buildah, runc; 10 minutes
	PATH="$(CURDIR)/.venv-deploy/bin:$$PATH" $(BIN)/python -m pytest -m heavy tests/deploy/test_image.py $(PYTEST_ARGS)

kubernetes-test: $(VENV)/.installed .venv-deploy/.installed ## the overlays rendered and judged; needs kubectl; 2 minutes
	PATH="$(CURDIR)/.venv-deploy/bin:$$PATH" $(BIN)/python -m pytest -m heavy tests/deploy/test_kubernetes_rendered.py $(PYTEST_ARGS)

clean: ## forget the virtual environment and every cache
	rm -rf $(VENV) .venv-bench .venv-deploy .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist
