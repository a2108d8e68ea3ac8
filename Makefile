# make run    set up, make a demonstration of calls dated yesterday, run the night on it
# make test   set up with the test tools, run the suite
# make docs   set up, write the generated pages, build the site into build/docs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The networks of ensemble/voices are made with what is installed already. Setuptools' warning is of imports by mistake.
INSTALL := PYTHONWARNINGS="ignore:Editable installation" $(BIN)/python -m pip install --quiet --no-build-isolation --editable
# One more than cores: browser tests and locks wait more than they compute.
WORKERS := $(shell echo $$(( $$(nproc) + 1 )))

.PHONY: run test coverage lint slow telling-mutants mutants docs clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" > $(VENV)/build.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/build.txt

$(VENV)/.run-ready: $(BIN)/python pyproject.toml
	$(INSTALL) ".[app,demo,train]"
	touch $@

$(VENV)/.test-ready: $(BIN)/python pyproject.toml
	$(INSTALL) ".[test]"
	touch $@ $(VENV)/.run-ready

$(VENV)/.docs-ready: $(BIN)/python pyproject.toml
	$(INSTALL) ".[docs]"
	touch $@

run: $(VENV)/.run-ready
	$(BIN)/callanalytics demo --out demo-calls --days-before 2
	$(BIN)/callanalytics run --since 4d --input demo-calls --out night-out || test $$? -eq 3
	$(BIN)/callanalytics report --since yesterday --out night-out
	$(BIN)/callanalytics query --out night-out "SELECT call_id, queue, duration_s, frustration_score, flagged, reasons FROM call_summary ORDER BY frustration_score DESC LIMIT 5"
	$(BIN)/callanalytics query --out night-out "SELECT role, emotion, count(*) AS n_segments FROM segment_emotions GROUP BY ALL ORDER BY role, n_segments DESC"
	@echo
	@$(BIN)/callanalytics report --since yesterday --out night-out --email-body text | sed -n 1,2p
	@echo "Report: $(CURDIR)/night-out/reports/index.html"
	@echo "Hear and judge the calls: $(BIN)/callanalytics open --out night-out"

# What the tests import is compiled once, and not by each of the processes that they start. A worker has one
# thread: those of three workers on two cores would wait for each other and halve the speed of what is linear algebra.
test: export PYTHONDONTWRITEBYTECODE =
test: export OMP_NUM_THREADS = 1

# A worker that is killed ends the run with what it did: pytest-xdist would wait for its files for ever.
test: $(VENV)/.test-ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart=0 $(COVERAGE)
	@$(BIN)/python benchmarks/covered.py $(MEASURED)

# The same, measured: a fifth slower, which is why `make test` says what was measured last. Fails where a module of
# the night is covered too little. The page in build/coverage shows the lines and branches that no test took.
coverage:
	$(MAKE) test MEASURED=build/coverage.json \
	  COVERAGE="--cov --cov-report=json:build/coverage.json --cov-report=html:build/coverage"

slow: $(VENV)/.test-ready
	$(BIN)/python -m pytest -m slow

telling-mutants: $(VENV)/.test-ready
	$(BIN)/python benchmarks/telling_mutants.py

# Takes hours and goes on where it was stopped; `rm -r mutants` begins anew. The data of others is left out.
mutants: $(VENV)/.test-ready
	CALLANALYTICS_DATA=/nonexistent $(BIN)/python benchmarks/mutants.py --survivors

docs: $(VENV)/.docs-ready
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict --quiet
	@echo "Documents: $(CURDIR)/build/docs/index.html"

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-calls night-out build dist mutants *.egg-info
