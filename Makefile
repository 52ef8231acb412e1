PYTHON ?= python3
VENV ?= .venv
SUITES ?= integration acceptance chaos
MINUTES ?= 120
RATE ?= 10
PROCESSES ?= 4

BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal
# The checks and tests choose their own database; a key is made where none is given. They start
# hundreds of processes, which need not all compile the same files.
SQLITE := env -u DATABASE_URL -u DEBUG -u PYTHONDONTWRITEBYTECODE
PRODUCTION = DATABASE_URL=sqlite:///$(VENV)/check.sqlite3 DEBUG=off HTTPS=on ALLOWED_HOSTS=example.org \
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))')

CHAOS := $(SQLITE) $(BIN)/python -m tests.chaos

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo install dev test unit sqlite postgres between chaos soak check format coverage pins audit hashes bench bench-peers clean

help: ## Say what each target does
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.installed ## Install, queue sample jobs, and run a worker and the web server
	@DEBUG=on $(BIN)/python manage.py migrate --verbosity 0
	@DEBUG=on exec $(BIN)/python manage.py queuectl demo

install: $(VENV)/.installed ## Create the virtual environment with what running needs

dev: $(VENV)/.installed-dev ## Add what testing and checking need

test: unit sqlite postgres ## Run every test, on SQLite and on PostgreSQL

unit: $(VENV)/.installed-dev ## Run the tests that need no database
	$(SQLITE) $(PYTEST) tests/unit

sqlite: $(VENV)/.installed-dev ## Run the other tests on a SQLite file
	$(SQLITE) $(PYTEST) $(SUITES:%=tests/%)

postgres: $(VENV)/.installed-dev ## Run the other tests on a PostgreSQL server of their own
	$(SQLITE) $(BIN)/python -m tests.postgres -- $(PYTEST) $(SUITES:%=tests/%) -m 'not one_database'

between: $(VENV)/.installed-dev ## Run the tests of tasks on Django 6.0, for which neither line stands; Python 3.12 or later
	@test -d build/django-6.0 || $(BIN)/pip install -q --no-deps --target build/django-6.0 'django==6.0.*'
	PYTHONPATH=build/django-6.0 $(SQLITE) $(BIN)/python -m pytest -q tests/unit/test_tasks.py tests/integration/test_backend.py

chaos: $(VENV)/.installed-dev ## Disturb workers in every way this machine allows, and find every broken build
	set -e; for database in sqlite postgresql; do \
		$(CHAOS) --database $$database --each --faults common,rare; \
		$(CHAOS) --database $$database --faults failpoints; \
		$(CHAOS) --database $$database --faults pairs --workers 3; \
		$(CHAOS) --database $$database --faults none --workers 1 --slots 1 --rate 12; \
		$(CHAOS) --database $$database --faults common --seconds 120; \
		$(CHAOS).crowd --database $$database; \
	done
	$(SQLITE) QUEUECTL_EVERY_STATEMENT=1 $(PYTEST) tests/integration/test_nth_statement.py tests/integration/test_nth_operation.py
	$(SQLITE) QUEUECTL_EVERY_STATEMENT=1 $(BIN)/python -m tests.postgres -- \
		$(PYTEST) tests/integration/test_nth_statement.py tests/integration/test_nth_operation.py
	$(SQLITE) $(BIN)/python -m tests.chaos.mutants
	$(SQLITE) $(BIN)/python -m tests.chaos.report build/chaos

soak: $(VENV)/.installed-dev ## Disturb workers on both databases in turn, for MINUTES in all, RATE jobs a second
	set -e; for database in sqlite postgresql; do \
		$(CHAOS) --database $$database --faults common,pairs --workers 4 --rate $(RATE) --seconds $$(($(MINUTES) * 30)) --soak; \
	done
	$(SQLITE) $(BIN)/python -m tests.chaos.report build/chaos

check: $(VENV)/.installed-dev ## Check format, lint, types, imports, migrations and deployment
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/djade --check --target-version 5.2 $$(find templates jobs -name '*.html')
	$(PRODUCTION) $(BIN)/mypy
	$(BIN)/lint-imports
	$(PRODUCTION) $(BIN)/python -W error manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(BIN)/python -W error manage.py check --deploy --fail-level WARNING

format: $(VENV)/.installed-dev ## Format the code and the templates
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/djade --target-version 5.2 $$(find templates jobs -name '*.html')

coverage: $(VENV)/.installed-dev ## Measure which lines and branches the tests on SQLite reach
	$(BIN)/coverage erase
	$(SQLITE) $(BIN)/coverage run -m pytest -q
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# Without their markers, so those of every Python; of a name with two versions the second is in a list of its own.
pins:
	@rm -rf build/audit && mkdir -p build/audit
	@sed -n -e 's/^psycopg\[binary\]==\([^; ]*\).*/psycopg-binary==\1/p' \
		-e 's/^[ "]*\([A-Za-z][A-Za-z0-9_.-]*\)\(\[[a-z]*\]\)*\(==[^;", ]*\).*/\1\3/p' \
		-e 's/^psycopg-binary/psycopg/p' requirements.txt pyproject.toml | sort -u | \
		awk -F== '{ print > ("build/audit/" ($$1 in seen ? "second" : "first") ".txt"); seen[$$1] }'

audit: pins ## Ask the public list of weaknesses about every version that is pinned, for running and for testing
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && \
		$(VENV)-audit/bin/pip install -q pip-audit==2.10.1; }
	status=0; for pins in build/audit/*.txt; do \
		$(VENV)-audit/bin/pip-audit --requirement $$pins --no-deps --disable-pip --strict || status=1; \
	done; exit $$status

hashes: $(BIN)/python ## Write build/requirements.txt: what would be installed here, with the hash of each file
	@mkdir -p build
	@$(BIN)/pip install -q --dry-run --ignore-installed --report build/hashes.json -r requirements.txt
	@$(BIN)/python -c 'import json; [print("{name}=={version} --hash=sha256:{0}".format( \
		each["download_info"]["archive_info"]["hashes"]["sha256"], **each["metadata"])) \
		for each in json.load(open("build/hashes.json"))["install"]]' > build/requirements.txt
	@echo 'Install it by: pip install --require-hashes -r build/requirements.txt'

bench: $(VENV)/.installed-dev ## Measure QueueCTL against xargs, GNU parallel and the bare ORM
	$(SQLITE) $(BIN)/python -m benchmarks $(BENCH)

bench-peers: $(VENV)/.installed-dev ## Measure other queues too, each in an environment of its own
	$(SQLITE) $(BIN)/python -m benchmarks --peers $(BENCH)

clean: ## Remove the virtual environments and caches, never a database or a key
	rm -rf .venv .venv-* build *.egg-info staticfiles htmlcov .coverage* .hypothesis
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'Error: Python 3.11 or later is needed; choose one: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'Error: this Python has no venv module; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'Creating $(VENV) ...'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt pyproject.toml | $(BIN)/python
	@echo 'Installing into $(VENV) ...'
	@$(BIN)/pip install -q -r requirements.txt
	@$(BIN)/pip install -q --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo 'Installing test and checking tools into $(VENV) ...'
	@$(BIN)/pip install -q -r requirements.txt -e '.[dev]'
	@touch $@
