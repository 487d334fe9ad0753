# `make run` and `make test` need nothing but Python 3.11 (with venv) and gcc; everything else is fetched, locked.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .make
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run serve web test test-python test-web fuzz check format types bench lock clean

help:  ## show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(STAMPS)/run web  ## set everything up and serve on http://127.0.0.1:8000
	$(BIN)/lac serve

web: $(STAMPS)/run  ## build the web client if its sources have changed
	$(BIN)/python scripts/build_web.py

test: test-python test-web  ## set everything up and run every test

# CI=true: Hypothesis tries the same examples every time. `make fuzz`, and pytest without it, look for others.
WORKERS ?= 2
test-python: $(STAMPS)/dev web
	scripts/ensure-test-packages.sh
	CI=true $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-web: $(STAMPS)/dev web
	$(BIN)/python scripts/npm.py test

# `make test` tries 300 examples of each; this is about ten minutes on two cores.
FUZZ_EXAMPLES ?= 20000
fuzz: $(STAMPS)/dev  ## feed all parsers with garbage for longer (FUZZ_EXAMPLES=20000)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 0 tests/fuzz $(PYTEST_ARGS)

check: $(STAMPS)/dev web  ## run every static check: Python and TypeScript
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/openapi.py --check
	$(BIN)/python scripts/npm.py run check

format: $(STAMPS)/dev  ## format Python and TypeScript
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/npm.py run format

types: $(STAMPS)/dev  ## renew frontend/openapi.json and the TypeScript types made from it
	$(BIN)/python scripts/openapi.py

bench: $(STAMPS)/dev  ## reproduce the tables of docs/PERFORMANCE.md
	$(BIN)/python -m benchmarks

lock: $(STAMPS)/dev  ## renew requirements/*.txt from pyproject.toml
	scripts/lock.sh $(BIN)/python

clean:  ## remove what was built and fetched; ./data stays
	rm -rf $(VENV) $(STAMPS) lac_web/static frontend/node_modules frontend/*/node_modules frontend/*/dist

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv module is needed: apt-get install python3-venv"; exit 1; }

# --no-deps: the lock is complete, and --require-hashes refuses whatever is not in it.
$(STAMPS)/run: $(VENV)/pyvenv.cfg requirements/base.txt requirements/build.txt pyproject.toml
	$(PIP) install --require-hashes --no-deps -r requirements/base.txt -r requirements/build.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: $(STAMPS)/run requirements/dev.txt
	$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	@touch $@
