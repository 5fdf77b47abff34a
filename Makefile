# Everything starts here and needs only make and Python 3.11 to 3.14. The rest is installed into .venv, pinned by
# requirements.lock.

.DEFAULT_GOAL := help
.PHONY: tools lock-tools help demo up down test chaos soak drill balance lint format types bench bench-startup bench-steps bench-cache bench-detection lock wheel install clean bench-scores bench-loop bench-evaluation

# Each worker is a process of its own: without bytecode kept, each start would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What marked tests need beside commands, see tests/kit/marked_tools.py
TOOLS := .tools
CLIENTS := tests/clients

# The first Python that will do; `make PYTHON=/path/to/python …` chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$p && break; done)

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-14s\033[0m %s\n", $$1, $$2}' Makefile

demo: $(INSTALLED) ## See it work: a stack, a corpus, three questions, the balance act; ARGS=--no-balance
	@$(BIN)/poise demo $(ARGS)

up: $(INSTALLED) ## Start the stack and leave it running; its data is kept in .poise/
	@$(BIN)/poise status 2>/dev/null || $(BIN)/poise up --detach

down: $(INSTALLED) ## Stop the stack
	@$(BIN)/poise down

test: $(INSTALLED) $(TOOLS)/python-client/.installed ## Run every test; one whose tool is not there (node, java, callgrind) is skipped by name
	@$(BIN)/python -m pytest

tools: $(TOOLS)/node/.installed $(TOOLS)/java/.installed $(TOOLS)/python-client/.installed ## Install what tests marked node and java need beside node, npm and a JDK

chaos: $(INSTALLED) ## Kill everything under load, then a flood of hostile messages, ten times as long as the tests do
	@POISE_CHAOS=$${POISE_CHAOS:-200000} POISE_CHAOS_RUNS=$${POISE_CHAOS_RUNS:-20000} POISE_HOSTILE=$${POISE_HOSTILE:-1000000} $(BIN)/python -m pytest tests/chaos

soak: $(INSTALLED) ## Attack and operate a mesh at random for 30 minutes; ARGS="--minutes 5 --seed 2"
	@PYTHONPATH=tests/kit:$$PYTHONPATH $(BIN)/python -m tests.soak $(ARGS)

drill: $(INSTALLED) ## Break one part after another of a mesh of its own, and see what a reader gets
	@$(BIN)/poise drill $(ARGS)

balance: $(INSTALLED) ## See a variant get quietly worse, and the mesh notice; ARGS="--picture FILE.svg", --without-trouble
	@$(BIN)/poise balance $(ARGS)

lint: $(INSTALLED) ## Check style and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Bring the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED) ## Check types
	@$(BIN)/mypy
	@$(BIN)/mypy tests

bench: $(INSTALLED) ## Measure the messaging layer against its baselines; ARGS="--only noop", --quick, --write-docs
	@$(BIN)/python -m tests.benchmarks.messaging $(ARGS)

bench-startup: $(INSTALLED) ## Measure the time from nothing to a stack that answers
	@$(BIN)/python tests/benchmarks/startup.py

bench-steps: $(INSTALLED) ## Measure a workflow's steps beside DBOS and Restate; ARGS="--only sequential", --quick, --write-docs
	@$(BIN)/python -m tests.benchmarks.steps $(ARGS)

bench-cache: $(INSTALLED) ## Measure the answer cache on a Zipf-like replay, and audit it; ARGS="--quick", --write-docs
	@$(BIN)/python -m tests.benchmarks.cache $(ARGS)

bench-detection: $(INSTALLED) ## Measure how soon a worse variant is noticed, beside a threshold and A/B tests; ARGS="--quick", --write-docs
	@$(BIN)/python -m tests.benchmarks.detection $(ARGS)

bench-scores: $(INSTALLED) ## Measure how well the scores tell right answers from wrong ones; ARGS="--plots FOLDER", --fit, --write, --embedding
	@$(BIN)/python -m tests.benchmarks.scores $(ARGS)

bench-loop: $(INSTALLED) ## Measure whether evaluation costs a request anything, on and off in turns; ARGS="--quick", --write-docs
	@$(BIN)/python -m tests.benchmarks.loop $(ARGS)

bench-evaluation: $(INSTALLED) ## Measure how fast one evaluation worker scores finished runs; ARGS="--records 2000"
	@$(BIN)/python -m tests.benchmarks.loop.throughput $(ARGS)

lock: $(INSTALLED) ## Renew requirements.lock from pyproject.toml, UPGRADE=1 to the newest versions
	@env -u PIP_FIND_LINKS -u UV_FIND_LINKS $(BIN)/uv pip compile pyproject.toml --extra dev --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		$(if $(UPGRADE),--upgrade) --quiet --output-file requirements.lock

lock-tools: $(INSTALLED) ## Renew the lock files of what marked tests need
	@env -u PIP_FIND_LINKS -u UV_FIND_LINKS $(BIN)/uv pip compile $(CLIENTS)/python/requirements.in --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--upgrade --quiet --output-file $(CLIENTS)/python/requirements.lock
	@cd $(CLIENTS)/node && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved

wheel: $(INSTALLED) ## Build the wheel of the library and the command line
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist

install: $(INSTALLED) ## Only install
	@echo "Installed: $(BIN)/poise"

clean: ## Remove the environment and what tools leave behind; the stack's data in .poise/ stays
	rm -rf $(VENV) $(TOOLS) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache

# uv comes first, by pip and by its own hash in the lock, and installs the rest ten times as fast. Sync also removes what
# is not locked. Nothing is built from source but Poise itself, with the locked build tool.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Poise needs Python 3.11 to 3.14, and there is none on the PATH: install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/uv || { \
		echo "Making $(VENV) …"; \
		$(PYTHON) -m venv --clear $(VENV) && \
		awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock && \
		$(call logged,$(BIN)/python -m pip install --disable-pip-version-check --no-input --retries 2 --no-deps --require-hashes -r $(VENV)/uv.lock); }
	@echo "Installing what requirements.lock names …"
	@$(call logged,env VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --require-hashes requirements.lock)
	@$(call logged,env VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --no-deps --no-build-isolation --editable .)
	@touch $@

$(TOOLS)/node/.installed: $(CLIENTS)/node/package-lock.json
	@echo "Installing what $< names …"
	@mkdir -p $(@D) && cp $(CLIENTS)/node/package.json $< $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

$(TOOLS)/java/.installed: $(CLIENTS)/java/client.jars $(INSTALLED)
	@echo "Fetching what $< names …"
	@$(BIN)/python $(CLIENTS)/java/fetch.py $(@D)
	@touch $@

$(TOOLS)/python-client/.installed: $(CLIENTS)/python/requirements.lock $(INSTALLED)
	@echo "Installing what $< names …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(@D)/bin/python $<
	@touch $@

# Runs a step of the installation; when it fails, says in one line why and what to do.
logged = { $(1) > $(VENV)/install.log 2>&1 || { \
	echo "Not installed: $$(grep -vi '^ *$$\|hint:' $(VENV)/install.log | tail -n 1 | sed 's/^[^[:alnum:]]*//')" >&2; \
	echo "Is the network there (HTTPS_PROXY, if you need one)? All of it is in $(VENV)/install.log; then run make again." >&2; \
	exit 1; }; }
