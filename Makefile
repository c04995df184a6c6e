# Every target sets up what it needs by itself; see .ci/setup.
SECONDS ?=
MINUTES ?= 5
PYTHON = .venv/bin/python

.PHONY: demo test lint bench soak clean

demo: ## simulated devices, a broker and the bridge; ends with Ctrl-C, or after SECONDS=20
	@.ci/setup demo
	@$(PYTHON) -m bridge demo $(if $(SECONDS),--seconds $(SECONDS))

test: lint ## all checks and tests
	@.ci/setup dev,demo mosquitto
	$(PYTHON) -m pytest -n 4 --dist worksteal

lint: ## style and types
	@.ci/setup dev,demo mosquitto
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: ## ratios against the wire and against peers, in one run
	@.ci/setup dev,demo mosquitto
	$(PYTHON) -m bench

soak: ## long runs with faults at random, MINUTES=5
	@.ci/setup dev,demo mosquitto
	SOAK_MINUTES=$(MINUTES) $(PYTHON) -m pytest -m soak

clean: ## remove everything that was made here
	rm -rf .venv .bench-venv* build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
