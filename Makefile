# Two commands on a fresh machine: `make demo` shows the bot at work, `make test` proves it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JS := tests/adapters/js

.PHONY: demo test browser pictures bench words lock clean

# Needs only what the bot needs; what tests it comes with the first `make test`. More: make demo ARGS="--data FOLDER".
demo: $(VENV)/runs
	$(BIN)/python -m bot demo $(ARGS)

test: $(VENV)/ready .venv-synapse/ready browser $(if $(shell command -v npm 2>/dev/null),$(JS)/node_modules/ready)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses auto --cov --cov-report=term --cov-report=xml

# The browser of the playground's stories: the machine's own Chromium or Chrome, else Debian's, else Playwright's.
# Where none can be had its stories are skipped; continuous integration (CI is set) fails.
browser: $(VENV)/ready
	@for name in "$$CHROMIUM" chromium chromium-browser google-chrome; do command -v "$$name" > /dev/null && exit; done; \
	if [ "$$(id -u)" = 0 ] && grep -qs '^ID=debian' /etc/os-release; then \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; \
	else \
		timeout 600 $(BIN)/playwright install chromium; \
	fi || echo "No browser could be fetched; without one the playground's stories cannot be told." >&2

# The pictures of the README, as the stories have taken them.
pictures: browser
	$(BIN)/python -m pytest tests/browser
	cp build/pictures/playground.webp docs/pictures/
	cp build/pictures/playground-telegram-light-1400.png docs/pictures/playground-light.png
	cp build/pictures/playground-telegram-dark-1400.png docs/pictures/playground-dark.png

bench: $(VENV)/ready .venv-peers/ready .venv-synapse/ready
	$(BIN)/python bench/throughput.py --labbot-text /start
	$(BIN)/python bench/stages.py
	$(BIN)/python bench/scale.py
	$(BIN)/python bench/announcements.py
	$(BIN)/python bench/announcements_matrix.py
	$(BIN)/python bench/announcement_kills.py
	$(BIN)/python bench/events.py
	$(BIN)/python bench/reminder_kills.py
	$(BIN)/python bench/playground.py
	$(BIN)/python bench/polls.py
	$(BIN)/python bench/scenario.py
	$(BIN)/python bench/matrix.py
	$(BIN)/python bench/matrix_kills.py

# The exact versions of the locks, checked by hash; the project itself last, so that it may change freely.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

$(VENV)/runs: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements.lock
	touch $@

$(VENV)/ready: $(VENV)/runs requirements-dev.lock pyproject.toml
	$(PIP) --require-hashes -r requirements-dev.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

.venv-peers/ready: bench/requirements-peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -r bench/requirements-peers.txt
	touch $@

# A real homeserver for the tests, in an environment of its own: it pins what labbot pins otherwise.
.venv-synapse/ready: requirements-synapse.txt
	$(PYTHON) -m venv .venv-synapse
	.venv-synapse/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-synapse.txt
	touch $@

# Matrix's own client library, for the tests where Node is there.
$(JS)/node_modules/ready: $(JS)/package-lock.json
	npm ci --prefix $(JS) --no-audit --no-fund --silent
	touch $@

# Reads every translatable sentence from the code and brings the catalogues up to date with them.
words: $(VENV)/ready
	$(BIN)/pybabel --quiet extract --width=100 -k T -k N:1,2 -k command --no-location --sort-output --omit-header \
		-o locales/bot.pot bot handlers
	$(BIN)/pybabel --quiet update --width=100 --domain bot --no-fuzzy-matching --ignore-obsolete -i locales/bot.pot -d locales
	sed -i '/POT-Creation-Date/d' locales/*/LC_MESSAGES/bot.po

# Needs uv; the project and its tests do not.
lock:
	uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header -o requirements.lock
	uv pip compile --quiet pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header -c requirements.lock -o requirements-dev.lock
	echo matrix-synapse==1.163.2 | uv pip compile --quiet - --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header -o requirements-synapse.txt

clean:
	rm -rf $(VENV) .venv-peers .venv-synapse $(JS)/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
