# Second Reader. `make` lists what there is.
# Runs with GNU make 3.81 and the BSD tools of macOS.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.lock
UV_VERSION := 0.13.8

.PHONY: help book test serve lint chapter nbval expected lock clean clean-all

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /|/' | \
		awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

book: $(INSTALLED) ## execute what has changed, build _build/html/index.html
	@$(BIN)/python -m book build

test: lint book ## everything CI runs: lint, types, unit tests, nbval, the built book's checks
	@$(BIN)/python -m book nbval
	@OMP_NUM_THREADS=1 PYTHONHASHSEED=0 MEDLIB_TEST_BOOK=1 $(BIN)/python -m pytest \
		-n 2 --dist loadfile --nbval -p book.nbval_plugin tests _build/nbval

serve: book ## the book at http://localhost:8000
	@$(BIN)/python -m http.server 8000 --bind localhost --directory _build/html

lint: $(INSTALLED) ## ruff, mypy, and which room imports which
	@$(BIN)/ruff check --no-cache medlib book studies tools tests
	@$(BIN)/ruff format --no-cache --check medlib book studies tools tests
	@$(BIN)/mypy
	@$(BIN)/lint-imports

chapter: $(INSTALLED) ## execute one chapter and those it needs: make chapter N=04
	@test -n "$(N)" || { echo "say which chapter: make chapter N=04" >&2; exit 2; }
	@$(BIN)/python -m book chapter $(N)

nbval: book ## run the chapters and compare their fixed tables with the stored ones
	@$(BIN)/python -m book nbval
	@OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m pytest \
		-n 2 --dist loadfile --nbval -p book.nbval_plugin _build/nbval

expected: $(INSTALLED) ## store the chapters' fixed tables as they are now; look at the diff
	@$(BIN)/python -m book expected

lock: $(INSTALLED) ## pin every dependency anew, with hashes and without addresses
	@$(VENV)/uv/bin/uv pip compile pyproject.toml --extra book --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--quiet --output-file requirements.lock

clean: ## remove the book; cohorts and runs stay
	rm -rf _build/html _build/book _build/sphinx _build/executed _build/failed _build/nbval

clean-all: ## remove everything made, the environment too
	rm -rf _build $(VENV)

$(INSTALLED): requirements.lock pyproject.toml
	@UV_VERSION=$(UV_VERSION) .ci/install $(VENV)
