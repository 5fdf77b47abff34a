# The entry point of the project. It needs make and Python 3.11 to 3.14; everything else is installed into .venv at the
# versions of requirements.lock.

.DEFAULT_GOAL := help
.PHONY: tools lock-tools help demo up down test chaos soak drill balance lint format types bench bench-startup bench-steps bench-cache bench-detection lock wheel install clean bench-scores bench-loop bench-evaluation

# Each worker is a process. Without cached bytecode, each start would compile all modules.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Dependencies of marked tests, see tests/kit/marked_tools.py
TOOLS := .tools
CLIENTS := tests/clients

# The first suitable Python; `make PYTHON=/path/to/python …` selects another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$p && break; done)

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-16s\033[0m %s\n", $$1, $$2}' Makefile

demo: $(INSTALLED) ## Run the demo: a stack, a corpus, three questions, the balance act; ARGS=--no-balance
	@$(BIN)/poise demo $(ARGS)

up: $(INSTALLED) ## Start the stack in the background; its data is in .poise/
	@$(BIN)/poise status 2>/dev/null || $(BIN)/poise up --detach

down: $(INSTALLED) ## Stop the stack
	@$(BIN)/poise down

test: $(INSTALLED) $(TOOLS)/python-client/.installed ## Run all tests; tests whose tool (node, java, callgrind) is missing are skipped and named
	@$(BIN)/python -m pytest

tools: $(TOOLS)/node/.installed $(TOOLS)/java/.installed $(TOOLS)/python-client/.installed ## Install the dependencies of tests marked node and java, except node, npm and a JDK

chaos: $(INSTALLED) ## Run the chaos tests with ten times the load: killed processes, then hostile messages
	@POISE_CHAOS=$${POISE_CHAOS:-200000} POISE_CHAOS_RUNS=$${POISE_CHAOS_RUNS:-20000} POISE_HOSTILE=$${POISE_HOSTILE:-1000000} $(BIN)/python -m pytest tests/chaos

soak: $(INSTALLED) ## Run random attacks and operations on a mesh for 30 minutes; ARGS="--minutes 5 --seed 2"
	@PYTHONPATH=tests/kit:$$PYTHONPATH $(BIN)/python -m tests.soak $(ARGS)

drill: $(INSTALLED) ## Break one part after another of a separate mesh and show what a reader receives
	@$(BIN)/poise drill $(ARGS)

balance: $(INSTALLED) ## Show how the mesh detects a variant that gets worse; ARGS="--picture FILE.svg", --without-fault
	@$(BIN)/poise balance $(ARGS)

lint: $(INSTALLED) ## Check style and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED) ## Check types
	@$(BIN)/mypy
	@$(BIN)/mypy tests

bench: $(INSTALLED) ## Benchmark the messaging layer against its baselines; ARGS="--only noop", --quick, --write-docs
	@$(BIN)/python -m tests.benchmarks.messaging $(ARGS)

bench-startup: $(INSTALLED) ## Benchmark the start of a stack, up to its first answer
	@$(BIN)/python tests/benchmarks/startup.py

bench-steps: $(INSTALLED) ## Benchmark workflow steps against DBOS and Restate; ARGS="--only sequential", --quick, --write-docs
	@$(BIN)/python -m tests.benchmarks.steps $(ARGS)

bench-cache: $(INSTALLED) ## Benchmark and audit the answer cache with Zipf-distributed asks; ARGS="--quick", --write-docs
	@$(BIN)/python -m tests.benchmarks.cache $(ARGS)

bench-detection: $(INSTALLED) ## Benchmark the detection delay against a threshold and A/B tests; ARGS="--quick", --write-docs
	@$(BIN)/python -m tests.benchmarks.detection $(ARGS)

bench-scores: $(INSTALLED) ## Benchmark how well the scores separate right from wrong answers; ARGS="--plots FOLDER", --fit, --write, --embedding
	@$(BIN)/python -m tests.benchmarks.scores $(ARGS)

bench-loop: $(INSTALLED) ## Benchmark the latency of requests with and without evaluation; ARGS="--quick", --write-docs
	@$(BIN)/python -m tests.benchmarks.loop $(ARGS)

bench-evaluation: $(INSTALLED) ## Benchmark the throughput of one evaluation worker; ARGS="--records 2000"
	@$(BIN)/python -m tests.benchmarks.loop.throughput $(ARGS)

lock: $(INSTALLED) ## Update requirements.lock from pyproject.toml; UPGRADE=1 selects the newest versions
	@env -u PIP_FIND_LINKS -u UV_FIND_LINKS $(BIN)/uv pip compile pyproject.toml --extra dev --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		$(if $(UPGRADE),--upgrade) --quiet --output-file requirements.lock

lock-tools: $(INSTALLED) ## Update the lock files of the dependencies of marked tests
	@env -u PIP_FIND_LINKS -u UV_FIND_LINKS $(BIN)/uv pip compile $(CLIENTS)/python/requirements.in --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--upgrade --quiet --output-file $(CLIENTS)/python/requirements.lock
	@cd $(CLIENTS)/node && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved

wheel: $(INSTALLED) ## Build the wheel
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist

install: $(INSTALLED) ## Install into .venv
	@echo "Installed: $(BIN)/poise"

clean: ## Remove the environment and the caches of tools; the stack's data in .poise/ stays
	rm -rf $(VENV) $(TOOLS) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache

# pip installs uv, checked against its hash in the lock; uv installs the rest ten times as fast. `sync` also removes packages
# that are not locked. Only Poise itself is built from source, with the locked build tool.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Poise needs Python 3.11 to 3.14, but none is on the PATH: install one, or run make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/uv || { \
		echo "Creating $(VENV) …"; \
		$(PYTHON) -m venv --clear $(VENV) && \
		awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock && \
		$(call logged,$(BIN)/python -m pip install --disable-pip-version-check --no-input --retries 2 --no-deps --require-hashes -r $(VENV)/uv.lock); }
	@echo "Installing the packages of requirements.lock …"
	@$(call logged,env VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --require-hashes requirements.lock)
	@$(call logged,env VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --no-deps --no-build-isolation --editable .)
	@touch $@

$(TOOLS)/node/.installed: $(CLIENTS)/node/package-lock.json
	@echo "Installing the packages of $< …"
	@mkdir -p $(@D) && cp $(CLIENTS)/node/package.json $< $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

$(TOOLS)/java/.installed: $(CLIENTS)/java/client.jars $(INSTALLED)
	@echo "Downloading the files of $< …"
	@$(BIN)/python $(CLIENTS)/java/fetch.py $(@D)
	@touch $@

$(TOOLS)/python-client/.installed: $(CLIENTS)/python/requirements.lock $(INSTALLED)
	@echo "Installing the packages of $< …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(@D)/bin/python $<
	@touch $@

# Run a step of the installation. On failure, print the reason and what to do.
logged = { $(1) > $(VENV)/install.log 2>&1 || { \
	echo "Installation failed: $$(grep -vi '^ *$$\|hint:' $(VENV)/install.log | tail -n 1 | sed 's/^[^[:alnum:]]*//')" >&2; \
	echo "Check the network (and HTTPS_PROXY, if you need a proxy), then run make again. The full log is $(VENV)/install.log." >&2; \
	exit 1; }; }
