# Each target works alone on a bare clone of a machine with Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCUMENTED := $(VENV)/.documented

.PHONY: demo test slow lint style types pytest bench format lock ui docs findings clean help

help:
	@echo "make demo   runs the imbalance sweep and prints its verdicts (about four minutes on two cores)"
	@echo "make test   lint, types and tests"
	@echo "make slow   tests that need minutes: Ray heads, ten kills of one training"
	@echo "make lint   ruff and mypy"
	@echo "make bench  every benchmark beside its peer; OFFICIAL=CHECKOUT of the paper's code adds the generator's,"
	@echo "             LOADER=PYTHON of an environment with open_clip's loader the feed's (see benchmarks/feed.py)"
	@echo "make ui     MLflow's pages on the demo's runs"
	@echo "make findings  docs/findings.md, from the ledgers in docs/results"
	@echo "make docs   the documentation site in site/, links checked"
	@echo "make lock   pins the newest versions in requirements.lock; what cluster nodes and documents need beside it, and"
	@echo "             what measuring alone needs, are pinned to fit"

demo: $(INSTALLED)
	$(BIN)/gapctl sweep sweeps/imbalance.yaml

# The types are looked at while tests wait for Ray and MLflow.
test: style
	@$(MAKE) --no-print-directory --jobs=2 types pytest

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: style types

style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	nice -n 19 $(BIN)/mypy

pytest: $(INSTALLED)
	$(BIN)/python -m pytest

bench: $(INSTALLED)
	$(BIN)/python benchmarks/bench.py $(if $(OFFICIAL),--official $(OFFICIAL)) $(if $(LOADER),--loader $(LOADER))

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(INSTALLED)
	$(BIN)/gapctl ui sweeps/imbalance.yaml

findings: $(INSTALLED)
	$(BIN)/python docs/make_findings.py

docs: $(DOCUMENTED)
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html, or read and search it with: $(BIN)/mkdocs serve"

$(INSTALLED): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m compileall -q platform dashboards
	@touch $@

# Beside what gapctl needs; the stamp is older than the environment's once that was synchronised, which removes these.
$(DOCUMENTED): requirements-docs.lock $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --requirement requirements-docs.lock
	@touch $@

lock: $(INSTALLED)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --group dev \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --group cluster --constraint requirements.lock \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml \
	  | grep -vxFf requirements.lock > requirements-cluster.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group measure --constraint requirements.lock \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o requirements-measure.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --group docs --constraint requirements.lock \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml \
	  | grep -vxFf requirements.lock > requirements-docs.lock

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
