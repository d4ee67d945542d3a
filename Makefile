# make app: the page with the demo checkpoints.   make test: format, lint, types, tests.
PYTHON ?= python3
VENV := .venv
ARGS ?=

.PHONY: app test
app: $(VENV)/.ready
	$(VENV)/bin/python app.py $(ARGS)

# One thread each: two threads on a busy machine are slower than one.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/.ready
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest $(ARGS)

$(VENV)/.ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Hormesis needs Python 3.11 or later: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
