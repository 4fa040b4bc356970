# make demo and make test are all that a fresh machine needs: each makes .venv, installs, and runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# One worker a core, each with one thread: tests/conftest.py. A worker that is done takes from another.
PYTEST_OPTIONS := -n auto --dist=worksteal --durations=10
PYTEST := $(BIN)/python -m pytest $(PYTEST_OPTIONS)

.PHONY: help demo test test-elsewhere test-slow docs docs-check lint format bench gpu-check figures clean coverage \
	test-lower-bounds test-newest test-extras test-matrix clean-clone-check wheel-check

help:
	@echo "make demo       install; train, sample and learn on the data set that ships inside"
	@echo "make test       install; ruff, mypy, import-linter and the tests, one worker a core"
	@echo "make test-elsewhere  the tests with other processors' arithmetic, and on a busy machine"
	@echo "make test-slow  the tests that take minutes"
	@echo "make coverage   the tests with a floor under the share of lines that they run"
	@echo "make test-extras  each extra in an environment of its own, and what it is for"
	@echo "make test-matrix  oldest and newest versions, coverage, extras, a clean clone; hours"
	@echo "make wheel-check  a wheel, used from an empty folder in an empty environment"
	@echo "make docs       the site, into site/; a warning is an error"
	@echo "make docs-check  the site in headless Chromium: it loads, is searched, and nothing overflows"
	@echo "make lint       ruff, mypy and import-linter alone"
	@echo "make format     let ruff rewrite what it can"
	@echo "make bench      speed, beside the machine's own matrix-multiply rate"
	@echo "make gpu-check  everything that runs on a GPU: that it is right, then how fast it is"
	@echo "make figures    draw figs/ again"
	@echo "Settings: PYTHON=python3.12 (the interpreter for .venv), VENV=.venv"

$(VENV)/.installed: requirements.txt setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: lint
	$(PYTEST)

# ELSEWHERE="-m 'arithmetic and not slow'" takes the part that leans on floating point most.
ELSEWHERE ?=
test-elsewhere: $(VENV)/.installed-dev
	bash .ci/elsewhere.sh $(PYTEST) $(ELSEWHERE)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

# A little under the 96 % that were measured; what falls below it lacks tests.
COVERAGE_FLOOR ?= 94
coverage: $(VENV)/.installed-dev
	$(PYTEST) --cov=synther --cov-report=term:skip-covered \
		--cov-fail-under=$(COVERAGE_FLOOR)

# Oldest Python and oldest dependencies together, then the newest Python with the newest ones.
OLDEST_PYTHON ?= python3.10
NEWEST_PYTHON ?= python3.13
test-lower-bounds:
	bash .ci/lower_bounds.sh $(OLDEST_PYTHON) .venv-oldest $(PYTEST_OPTIONS)

test-newest:
	$(MAKE) PYTHON=$(NEWEST_PYTHON) VENV=.venv-newest test

test-extras:
	bash .ci/extras.sh

wheel-check: $(VENV)/.installed-dev
	bash .ci/wheel.sh $(BIN)/python

clean-clone-check:
	bash .ci/clean_clone.sh

test-matrix: coverage test-lower-bounds test-newest test-extras clean-clone-check

docs: $(VENV)/.installed-dev
	$(BIN)/python -m pip install -e '.[docs]'
	$(BIN)/mkdocs build --strict

# The browser itself comes from outside: apt install chromium, or playwright install chromium.
docs-check: docs
	$(BIN)/python -m pytest -m slow -rs tests/test_site.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/diffusion_speed.py
	$(BIN)/python benchmarks/offline_speed.py
	$(BIN)/python benchmarks/online_speed.py
	$(BIN)/python benchmarks/sampling_speed.py

# GPU_CHECK="--quick" takes 3 minutes in place of 10, "--full" 30, "--only parity" one part.
GPU_CHECK ?=
gpu-check: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu_check.py $(GPU_CHECK)

figures: $(VENV)/.installed
	$(BIN)/python figs/draw_overview.py
	$(BIN)/python figs/draw_fidelity_novelty.py
	$(BIN)/python figs/draw_offline_learning.py
	$(BIN)/python figs/draw_online_learning.py
	$(BIN)/python figs/draw_sampler_study.py
	$(BIN)/python figs/draw_row_quality.py
	$(BIN)/python figs/draw_guided_study.py

clean:
	rm -rf $(VENV) demo_results build dist *.egg-info
