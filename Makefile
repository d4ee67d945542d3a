# make app: the page with the demo checkpoints.   make test: format, lint, types, tests.
# make coverage: the tests again, and the share of every package's branches that they take.
PYTHON ?= python3
VENV := .venv
ARGS ?=

.PHONY: app test coverage
app: $(VENV)/.ready
	$(VENV)/bin/python app.py $(ARGS)

# Two workers, as two cores are the least; a file stays with one worker, because its tests share a fitted model or a
# running page. One thread each: two threads on a busy machine are slower than one.
PYTEST := $(VENV)/bin/pytest -n 2 --dist loadfile
test coverage: export OMP_NUM_THREADS = 1
test: $(VENV)/.ready
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(PYTEST) $(ARGS)

coverage: $(VENV)/.ready
	$(PYTEST) --cov --cov-report= $(ARGS)
	$(VENV)/bin/python -m benchmarks.branches

$(VENV)/.ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Hormesis needs Python 3.11 or later: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
