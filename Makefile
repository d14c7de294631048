# Everything is installed into .venv. `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# cpu: a small install without CUDA code. gpu: with CUDA, Linux only. Left out: what .venv holds, or else cpu.
EXTRA ?= $(if $(wildcard $(VENV)/.installed-gpu),gpu,cpu)
PYTEST_ARGS ?=

# The interpreter that the user names, or else the first of these for which TensorFlow 2.21 has wheels.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

INSTALLED := $(VENV)/.installed-$(EXTRA)
TESTABLE := $(VENV)/.installed-$(EXTRA)-test
DOCUMENTED := $(VENV)/.installed-$(EXTRA)-docs
# The peers of the benchmark have an environment of their own, so that nothing else depends on them.
PEERS := .venv-bench
# The Pythons that `make nightly` and `make release` try, if they are there. Those of `make nightly` have an environment
# in this folder.
EACH := $(or $(PYTHON),python3.11 python3.12 python3.13)
NIGHTLY := .venv-nightly

INSTALL_cpu := $(PIP) install -r requirements/cpu.txt && $(PIP) install --no-deps 'tf-keras==2.21.*' -e .
INSTALL_gpu := $(PIP) install -e '.[gpu]'
SIZE_cpu := 0.5 GB to download, about a minute
SIZE_gpu := 3.6 GB to download, 2 to 10 minutes

.PHONY: help demo test test-all nightly examples faults mutants lint docs bench speed gpu-check wheel release clean

help:
	@echo 'make demo      train a hybrid Flow-GAN on handwritten digits and their labels, then evaluate and export it'
	@echo 'make test      run the tests in 5 minutes; PYTEST_ARGS="-k nice" passes options on'
	@echo 'make test-all  run the tests that take longer, too'
	@echo 'make nightly   run the tests with the next TensorFlow, Keras, NumPy and TFP, on each Python that is there'
	@echo 'make examples  run the notebooks, and check their numbers'
	@echo 'make faults    kill trainings, fill disks, damage files and try odd flags, for an hour'
	@echo 'make mutants   put 150 small faults into the package, one at a time, for hours, and count how many tests find'
	@echo 'make lint      check style, formatting and types'
	@echo 'make docs      build the documentation, with an API reference, in site/'
	@echo 'make bench     compare the speed with PyTorch, JAX and others, and count the size of the CIFAR-10 model'
	@echo 'make speed     check the speed of a training step against matrix products, and of a step with labels'
	@echo 'make gpu-check compare numbers and speed of a GPU with the CPU, to paste into an issue'
	@echo 'make wheel     build the distributions, and use the wheel outside of the checkout'
	@echo 'make release   try the distributions on each Python that is there, with all that they require; uploads nothing'
	@echo 'make clean     remove what make and Python left, .venv included; runs/ stays'
	@echo
	@echo 'EXTRA=gpu installs TensorFlow with CUDA, PYTHON=python3.12 chooses the interpreter.'

demo: $(INSTALLED)
	$(BIN)/python bin/train --condition=label --objective=hybrid --lambda=0.1 --steps=800 --workdir=runs/demo

test: $(TESTABLE)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

test-all: $(TESTABLE)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m '' --timeout=1200 $(PYTEST_ARGS)

# A release and a nightly build share their files, so both leave before one comes.
nightly:
	@mkdir -p build && rm -f build/nightly-*.log
	@for python in $(EACH); do \
	  "$$python" -c '$(SUPPORTED)' 2> /dev/null || { echo "$$python is not there"; continue; }; \
	  name=$${python##*/}; new=$(NIGHTLY)/$$name; log=build/nightly-$$name.log; \
	  echo "$$name runs the tests, and writes $$log"; \
	  { $(MAKE) --no-print-directory VENV=$$new PYTHON=$$python EXTRA=cpu $$new/.installed-cpu-test && \
	    $$new/bin/python -m pip --quiet uninstall --yes tensorflow-probability tfp-nightly tf-keras tf-keras-nightly && \
	    $$new/bin/python -m pip --quiet install --upgrade --no-deps -r requirements/nightly.txt && \
	    $$new/bin/python -m pip list && \
	    $$new/bin/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS); \
	  } > $$log 2>&1 || echo "FAILED with $$name, see $$log" >> $$log; \
	  grep -E '^((FAILED|ERROR|keras|numpy|tensorflow(.cpu)?|tf.keras.nightly|tfp-nightly) |=.* in [0-9])' $$log; \
	done
	@ls build/nightly-*.log > /dev/null && ! grep -q '^FAILED with' build/nightly-*.log

faults: $(TESTABLE)
	FLOWGAN_TEST_FAULTS=long $(BIN)/python -m pytest -n 2 -m '' --timeout=3600 tests/faults $(PYTEST_ARGS)

# A stopped run continues where it was; after a change to the package, remove build/mutants*. The limits are for a whole
# room's tests, and generous, so that other load on the machine kills no fault. DRAW='--count=100 --commits=150' draws
# from the modules that changed most.
DRAW ?= --count=150 --seed=0
mutants: $(TESTABLE)
	mkdir -p build
	[ -e build/mutants.json ] || $(BIN)/python -m benchmarks.mutants draw $(DRAW) --json=build/mutants.json
	$(BIN)/python -m benchmarks.mutants run build/mutants.json --whole_room --cpu=1800 --wall=7200 \
	  --json=build/mutants-result.json

examples: $(TESTABLE)
	$(BIN)/python -m pytest -m slow tests/test_examples.py

lint: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DOCUMENTED)
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs site
	@echo 'site/index.html'

bench: $(INSTALLED) $(PEERS)/.installed
	mkdir -p build
	$(BIN)/python -m benchmarks.compare --json=build/bench.json
	$(BIN)/python -m benchmarks.plot build/bench.json build/bench.png
	$(BIN)/python -m benchmarks.size

# A half to three quarters is usual. The check compares with products of the same run, and is generous in case of other
# load.
speed: $(INSTALLED)
	$(BIN)/python -m benchmarks.compare --tasks=nice_train,nice_sample,nice_log_prob,jet_train,jet_log_prob --peers= \
	  --dtypes=float32 --rounds=9 --seconds=0.25 --least_share=0.15
	$(BIN)/python -m benchmarks.labels --rounds=15 --most=1.25

gpu-check: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu_check

wheel: $(TESTABLE)
	rm -rf build/lib build/bdist.* dist  # benchmarks keep their state in build
	$(BIN)/python -m build --quiet
	.ci/try-wheel

# PYTHON='python3.12 python3.13' names others. Whoever uploads dist/ does so by hand.
release: wheel
	$(BIN)/python -m twine check --strict dist/*
	@first=; for python in $(EACH); do \
	  "$$python" -c '$(SUPPORTED)' 2> /dev/null || { echo "$$python is not there"; continue; }; \
	  .ci/try-release "$$python" dist/*.whl || exit 1; \
	  first=$${first:-$$python}; \
	done; .ci/try-release "$$first" dist/*.tar.gz

clean:
	rm -rf $(VENV) $(PEERS) $(NIGHTLY) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find bin flowgan_tf tests benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The two kinds of TensorFlow share their files: another EXTRA starts from an empty environment.
$(INSTALLED): setup.py requirements/base.txt requirements/cpu.txt
	@case '$(EXTRA)' in cpu|gpu) ;; *) echo 'make: EXTRA=$(EXTRA), expected cpu or gpu' >&2; exit 2 ;; esac
	@if [ ! -e $@ ]; then \
	  for python in $(PYTHONS) ''; do \
	    if [ -n "$$python" ] && "$$python" -c '$(SUPPORTED)' 2> /dev/null; then break; fi; \
	  done; \
	  if [ -e $(VENV) ] && [ -z '$(wildcard $(VENV)/.made-by-make $(VENV)/.installed-*)' ]; then \
	    echo 'make: $(VENV) exists, and make did not make it; move it away, or name another: make VENV=...' >&2; exit 2; \
	  fi; \
	  if [ -z "$$python" ]; then \
	    echo 'make: Python 3.11, 3.12 or 3.13 is needed, tried $(PYTHONS); name one: make PYTHON=...' >&2; exit 2; \
	  fi; \
	  echo "Creating $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV) && touch $(VENV)/.made-by-make; \
	fi
	@echo 'Installing flowgan_tf with TensorFlow ($(EXTRA)) into $(VENV): $(SIZE_$(EXTRA))'
	@$(INSTALL_$(EXTRA))
	@touch $@

$(PEERS)/.installed: $(INSTALLED) requirements/bench.txt
	@echo 'Installing the peers of the benchmark into $(PEERS)'
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --quiet --disable-pip-version-check install -r requirements/bench.txt
	@touch $@

$(TESTABLE): $(INSTALLED) requirements/test.txt
	@echo 'Installing what the tests need into $(VENV)'
	@$(PIP) install -r requirements/test.txt
	@touch $@

$(DOCUMENTED): $(INSTALLED) requirements/docs.txt
	@echo 'Installing what the documentation needs into $(VENV)'
	@$(PIP) install -r requirements/docs.txt
	@touch $@
