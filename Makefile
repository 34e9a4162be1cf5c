# Needs Python 3.11 or later, as `python3` or PYTHON=..., and nothing else: everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
WEIGHTS := algorithms/embed/files/efficientnet_lite0.pth
export PIP_CONSTRAINT := $(CURDIR)/deploy/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo test test-minio chaos simulate lint types docs pictures benchmark clean
.DELETE_ON_ERROR:

install: $(INSTALLED) $(WEIGHTS)  ## the virtual environment and the weights of `embed`

demo: install  ## deploys the reference algorithms, runs them on real images, draws demo-output/demo.png
	$(BIN)/python examples/demo.py

test: install  ## the whole test suite
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

test-minio: install  ## the object store's contract against MinIO's own S3 front end
	$(BIN)/python -m pytest -m juicefs tests/storage

chaos: install  ## a hundred runs while processes are killed; takes some minutes
	$(BIN)/python -m pytest -m chaos -s tests/serving

SEEDS ?= 1000
FIRST ?= 10000

simulate: install  ## SEEDS=1000 simulations of the coordination of runs, from seed FIRST=10000 on, in about half a second each
	$(BIN)/python -m tests.simulation --first $(FIRST) --seeds $(SEEDS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install
	$(BIN)/mypy

docs: install  ## the parts of docs/ that are made from the code
	$(BIN)/python docs/http_api.py
	$(BIN)/python docs/run_states.py

pictures: install  ## the pictures of the algorithms' READMEs, into docs/algorithms
	$(BIN)/python algorithms/draw_pictures.py

benchmark: install  ## times against the bare store; takes some minutes
	$(BIN)/python tests/benchmarks/bench_runs.py

clean:
	rm -rf .venv demo-output t3d-output $(WEIGHTS)

$(INSTALLED): pyproject.toml deploy/constraints.txt
	@echo "Installing Python packages into .venv, some gigabytes: this takes some minutes, and says nothing meanwhile."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[local,torch,algorithms,dev]"
	touch $@

$(WEIGHTS): $(INSTALLED) algorithms/fetch_weights.py
	$(BIN)/python algorithms/fetch_weights.py
