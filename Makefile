# Every target sets up what it needs by itself; see .ci/setup.
SECONDS ?=
MINUTES ?= 5
REPEATS ?= 20
PYTHON = .venv/bin/python
# install.sh takes the pure Python part of wheels for another kind of machine; with hidapi and all it wants its own:
# make wheels WHEELS_FOR="--platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 --python-version 3.13"
WHEELS_FOR ?=

.PHONY: demo test test-homeassistant lint bench soak lock sbom wheels addon clean

demo: ## simulated devices, a broker and the bridge; ends with Ctrl-C, or after SECONDS=20
	@.ci/setup demo
	@$(PYTHON) -m bridge demo $(if $(SECONDS),--seconds $(SECONDS))

test: lint ## all checks and tests
	@.ci/setup dev,demo mosquitto shellcheck
	$(PYTHON) -m pytest -n 8 --dist worksteal

test-homeassistant: ## a real Home Assistant core against the demo; sets the core up, needs Python 3.13 or 3.14 for it
	@.ci/setup dev,demo mosquitto
	$(PYTHON) -m tests.e2e

lint: ## style and types
	@.ci/setup dev,demo mosquitto
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: ## ratios against the wire and against peers, in one run
	@.ci/setup dev,demo mosquitto
	$(PYTHON) -m bench

soak: ## long runs with faults at random, MINUTES=5, and each row of the matrix REPEATS=20 times; docs/soak.md, faults.md
	@.ci/setup dev,demo mosquitto
	SOAK_MINUTES=$(MINUTES) FAULT_REPEATS=$(REPEATS) FLOOD=1000000 NEW_EXAMPLES=1 $(PYTHON) -m pytest -n 3 --dist worksteal -m 'soak or hypothesis'
	$(PYTHON) -m tests.soak --minutes $(MINUTES) --report docs/soak.md
	$(PYTHON) -m pytest -n 4 --dist worksteal -p tests.faults.ledger --repeat-rows $(REPEATS) --rows-report=docs/faults.md

lock: ## newer packages for installations, with their hashes, and the list of parts
	@.ci/setup dev,demo mosquitto
	$(PYTHON) tools/lock.py
	$(PYTHON) tools/sbom.py

sbom: ## the list of parts alone
	@.ci/setup dev,demo mosquitto
	$(PYTHON) tools/sbom.py

wheels: ## the packages for an install without network, or on Venus OS: into ./wheels
	@.ci/setup dev,demo
	rm -rf wheels
	$(PYTHON) -m pip download --quiet --no-deps --only-binary :all: --require-hashes $(WHEELS_FOR) -d wheels -r requirements.lock

addon: ## Home Assistant's add-on as a folder that needs nothing beside it, into build/addon
	@.ci/setup dev,demo
	$(PYTHON) tools/addon.py

clean: ## remove everything that was made here
	rm -rf .venv .bench-venv* .homeassistant wheels build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
