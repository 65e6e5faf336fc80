PYTHON ?= python3
BIN := .venv/bin

.PHONY: all install demo test test-slow test-again test-exhaustive test-deploy test-deploy-short try-bucket lint docs site screenshots fuzz crash chaos bench bench-growth bench-pages release clean

all: lint test  ## what a change must pass

install: .venv/.installed  ## create .venv with everything for running and developing

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install  ## a signed webhook in, files in a bucket out, all on this machine
	$(BIN)/batch-receiver demo

test: install  ## the tests, with coverage
	$(BIN)/pytest --numprocesses 4 -m "not slow and not exhaustive" --cov --cov-report=term

test-slow: install  ## single faults, a short chaos run, every benchmark at a small size
	$(BIN)/pytest --numprocesses 3 -m "slow and not exhaustive"

test-again: install  ## what failed in the last run, one after the other
	$(BIN)/pytest --last-failed --last-failed-no-failures none

test-exhaustive: install  ## every byte of a submission cut, a store under chaos: minutes for each
	$(BIN)/pytest --numprocesses 2 -m exhaustive

test-deploy: install  ## images and compose in podman, as root: an upgrade, restarts, the console, all exits, and try.yaml
	@tests/deploy/containers.sh $(BIN)/pytest tests/deploy/test_containers.py tests/deploy/test_try.py

test-deploy-short: install  ## of these what takes a minute: an upgrade with a batch under way, early and orderly ends
	@tests/deploy/containers.sh $(BIN)/pytest tests/deploy/test_containers.py -k "previous or console or ends or first_moments"

try-bucket: install  ## whether STORAGE_URL, with its cloud's variables, does what is needed; in a minute
	@$(BIN)/python -m tests.support.try_bucket "$(STORAGE_URL)"

lint: install  ## style, formatting, types, and documentation that says what the code does
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m docs.json_schemas --check

docs: install  ## the parts of the documentation that come from the code
	$(BIN)/python -m docs.generate
	$(BIN)/python -m docs.json_schemas

site: install  ## the documentation as a site, in .cache/site; a broken link ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

screenshots: install  ## the pictures of the README, taken anew; needs Chromium
	$(BIN)/python -m tests.console.screenshots docs/images

fuzz: install  ## ten minutes of hostile bytes at signatures, events, result lines and the port
	$(BIN)/python -m tests.fuzz --seconds 600

crash: install  ## every point at which a worker can be killed, or overtaken by another, one after the other
	$(BIN)/python -m tests.crash

chaos: install  ## 200 batches under kills, restarts and a Gemini that misbehaves; then the bucket is compared
	$(BIN)/python -m tests.chaos

bench: install  ## every figure of the README, measured here
	$(BIN)/python -m bench

bench-growth: install  ## whether a key of a large batch costs what one of a small batch does; minutes
	$(BIN)/python -m bench.growth

bench-pages: install  ## how long the console's pages take with 10,000 batches while deliveries arrive; minutes
	$(BIN)/python -m bench.pages

release:  ## dist/: wheel and sdist, reproducible, with checksums and a list of what they need, tried on each Python here
	@.ci/release

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache demo-output dist
