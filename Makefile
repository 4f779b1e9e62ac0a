# Each target installs what it needs. Required: Python >= 3.11 with venv (or uv), git and make; no
# root, no Redis.

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
# Two workers: the slow tests run load, servers and browsers of their own on both cores.
PYTEST := $(PYTHON) -m pytest -n 2 --dist worksteal
# Folders with packages from npm.
NPM := tests/interop tests/interop/better_auth tests/browser examples/express

.PHONY: help setup demo test test-all faults lint lint-deploy supply sbom audit licences format bench
.PHONY: providers settings lock clean keycloak kratos conformance

help:
	@echo "make demo       see a logout end a session, on a real Valkey (ONCE=1: then stop)"
	@echo "make test       the tests, in under three minutes"
	@echo "make test-all   all tests, including slow ones and those with real providers"
	@echo "make faults     faults under load, with three seeds (or FAULTS_SEED)"
	@echo "make conformance TARGET=URL   the cases of the specification, against any receiver"
	@echo "make lint       ruff, mypy, import-linter; hadolint, checkov, Kubernetes' schemas"
	@echo "make bench      throughput, latency and memory, next to peers (ARGS='latency memory': parts)"
	@echo "make supply     bill of materials, audit and licences of the dependencies"
	@echo "make providers  docs/providers.md, from app/config/providers.toml"
	@echo "make settings   docs/settings.md, from the model in app/config"
	@echo "make setup      a virtual environment in .venv, for .venv/bin/python -m app"
	@echo "make format     format the code with ruff"
	@echo "make lock       resolve the dependencies again (needs uv)"

setup: $(READY)

# With uv, otherwise venv and pip, verified by the hashes of requirements/dev.lock. Bytecode is compiled
# now: if Python is configured to write none, each start would repeat it, a sixth of its time.
$(READY): requirements/dev.lock pyproject.toml clients/python/pyproject.toml
	@echo "Setting up $(VENV); the first time this takes a minute or two."
	@set -e; \
	if command -v uv >/dev/null && uv venv -q --clear --python '>=3.11' $(VENV); then \
		install="uv pip install -q --compile-bytecode --python $(PYTHON)"; \
	else \
		for python in python3 python3.14 python3.13 python3.12 python3.11; do \
			$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
				2>/dev/null && break; \
			python=; \
		done; \
		if [ -z "$$python" ]; then \
			echo "Install Python 3.11 or later with its venv module (Debian: python3-venv), or uv."; \
			exit 1; \
		fi; \
		rm -rf $(VENV); $$python -m venv $(VENV); \
		install="$(PYTHON) -m pip install -q --disable-pip-version-check"; \
	fi; \
	$$install --require-hashes -r requirements/dev.lock; \
	$$install --no-deps --no-build-isolation -e ./clients/python -e .; \
	$(PYTHON) -m compileall -q app clients/python; \
	touch $@

demo: $(READY)
	@$(PYTHON) -m examples.demo $(if $(ONCE),--once)

# Four: two wait for half of the time.
test: $(READY)
	$(PYTEST) -n 4 -m "not slow and not interop" $(ARGS)

# The providers from npm. Without npm or its registry, their tests are skipped with that reason.
%/node_modules/.ready: %/package-lock.json
	@if command -v npm >/dev/null; then \
		npm ci --prefix $* --no-audit --no-fund --loglevel=error && touch $@ || \
		{ ! npm ping --loglevel=silent && mkdir -p $(@D) && touch $(@D)/.out-of-reach; }; \
	fi

test-all: $(READY) $(NPM:%=%/node_modules/.ready) keycloak kratos
	$(PYTEST) $(ARGS)

# From Maven's registry into the user's cache.
keycloak: $(READY)
	@$(PYTHON) -m tests.interop.keycloak_dist

# From Go's module proxy, built into the same cache: five minutes, once.
kratos: $(READY)
	@$(PYTHON) -m tests.interop.kratos_dist

# Against any receiver: docs/conformance.md describes its configuration.
conformance: $(READY)
	@$(PYTHON) -m tests.conformance $(TARGET) $(ARGS)

# Prints a table of all runs; the measurements stay in .cache/faults.jsonl.
faults: export FAULTS_FILE := $(CURDIR)/.cache/faults.jsonl
faults: $(READY)
	@rm -f "$$FAULTS_FILE"; failed=; \
	draw='import random; print(*random.sample(range(1000000), 3))'; \
	for seed in $${FAULTS_SEED:-$$($(PYTHON) -c "$$draw")}; do \
		FAULTS_SEED=$$seed $(PYTEST) tests/faults $(ARGS) || failed="$$failed $$seed"; \
	done; \
	$(PYTHON) -m tests.faults.table "$$FAULTS_FILE"; \
	if [ -n "$$failed" ]; then echo "failed with FAULTS_SEED:$$failed"; exit 1; fi

lint: $(READY) lint-deploy
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Tools with many dependencies: each group has its own environment, verified by hashes.
.cache/%/.ready: requirements/%.lock | $(READY)
	@echo "Setting up .cache/$*; the first time this takes a minute."
	@$(PYTHON) -m venv --clear .cache/$*
	@.cache/$*/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

lint-deploy: .cache/deploy/.ready
	.cache/deploy/bin/hadolint Dockerfile examples/Dockerfile
	k8s/check .cache/deploy/bin

# The contents of the image: the receiver and its dependencies, without tests and tools.
.cache/runtime/.ready: requirements/runtime.lock requirements/build.lock pyproject.toml | $(READY)
	@$(PYTHON) -m venv --clear .cache/runtime
	@.cache/runtime/bin/python -m pip install -q --disable-pip-version-check --require-hashes \
		-r requirements/runtime.lock -r requirements/build.lock
	@.cache/runtime/bin/python -m pip install -q --no-deps --no-build-isolation ./clients/python .
	@.cache/runtime/bin/python -m pip uninstall -q -y pip setuptools \
		$$(sed -n 's/^\([a-z-]*\)==.*/\1/p' requirements/build.lock) 2>/dev/null
	@touch $@

supply: sbom audit licences

sbom: .cache/runtime/.ready .cache/supply/.ready
	@mkdir -p dist
	@.cache/supply/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file dist/sbom.cdx.json .cache/runtime/bin/python
	@echo "dist/sbom.cdx.json"

# A known vulnerability is a failure. An unreachable database fails a release (REQUIRE_AUDIT=1), and is
# only reported otherwise.
audit: .cache/supply/.ready
	@rm -f .cache/audit.json
	@.cache/supply/bin/pip-audit --require-hashes --disable-pip --progress-spinner off \
		--requirement requirements/runtime.lock --format json --output .cache/audit.json \
		2> .cache/audit.log && echo "audit: no known vulnerabilities" || \
		{ if [ -s .cache/audit.json ]; then cat .cache/audit.json; exit 1; fi; \
		echo "audit: the database of vulnerabilities is unreachable; nothing was checked."; \
		$(if $(REQUIRE_AUDIT),exit 1,:); }

# Read a licence before you add it to the list. docs/licences.md lists those in use.
LICENCES := MIT;Apache;BSD;ISC;PSF-2.0;Mozilla Public License 2.0;MPL-2.0
licences: .cache/runtime/.ready .cache/supply/.ready
	@{ echo "# Licences of what is in the image"; echo; \
		echo "Written by \`make licences\`, which fails for a licence that is not allowed."; echo; \
		.cache/supply/bin/pip-licenses --python .cache/runtime/bin/python --no-version \
		--ignore-packages backchannel-logout-receiver backchannel-logout-client \
		--format markdown --partial-match --allow-only '$(LICENCES)'; } > .cache/licences.md
	@cp .cache/licences.md docs/licences.md; echo "docs/licences.md"

# The peers come from npm and, unpacked but not installed, from Debian; the table names those that
# are unavailable. It takes twelve minutes on an idle machine.
bench: $(READY) bench/peers/node_modules/.ready
	@$(PYTHON) -m bench.servers.debian
	@$(PYTHON) -m bench $(ARGS)

providers: $(READY)
	@$(PYTHON) -m docs.generate.provider_page > docs/providers.md; echo "docs/providers.md"

settings: $(READY)
	@$(PYTHON) -m docs.generate.settings_page > docs/settings.md; echo "docs/settings.md"

format: $(READY)
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

# Hashes, but no download URLs: every installer finds the files in its own index.
LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-package backchannel-logout-client --upgrade
lock:
	$(LOCK) pyproject.toml -o requirements/runtime.lock
	$(LOCK) pyproject.toml --extra otel -c requirements/runtime.lock -o requirements/otel.lock
	$(LOCK) pyproject.toml --group dev -o requirements/dev.lock
	for group in build deploy supply; do $(LOCK) --group $$group -o requirements/$$group.lock; done

clean:
	rm -rf $(VENV) $(NPM:%=%/node_modules) bench/peers/node_modules data dist clients/python/dist
