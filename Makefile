# Each target makes what it needs, from a bare Python 3.10-3.13 on.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
RUN = $(VENV)/bin/python
# JAX compiles the same small flows again and again.
KEEP = JAX_COMPILATION_CACHE_DIR='$(CURDIR)/$(VENV)/jax' JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
BESIDES = --ignore tests/test_scripts.py --ignore tests/test_crashes.py --ignore tests/test_notebook.py \
          --ignore tests/test_play.py --ignore tests/test_size.py --ignore tests/test_change.py \
          --ignore tests/test_docs.py --ignore tests/test_pictures.py --ignore tests/test_safety.py

.PHONY: help train sample play notebook test test-torch gpu lint soak clean

help:  ## what can be made
	@sed -n 's/^\([a-z][a-z-]*\):.*##  *\(.*\)/make \1: \2/p' Makefile

train: $(VENV)/.run  ## train on MNIST, 20 epochs, into weights/
	$(RUN) nice.py

sample: $(VENV)/.run  ## digits at once, from the shipped weights or your own
	$(RUN) sample.py

play:  ## the page to play with, at the address it prints; nothing to install
	@$(PYTHON) -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null || \
	  { echo "port $(PORT) is in use, another is not: make play PORT=8765"; exit 1; }
	@echo "http://127.0.0.1:$(PORT)/play/"
	@$(PYTHON) -m http.server $(PORT) --bind 127.0.0.1

notebook: $(VENV)/.test  ## run nice.ipynb from its first cell to its last, and keep the outputs in it
	KERAS_BACKEND=tensorflow $(RUN) tools/execute.py

test: $(VENV)/.test  ## every test on TensorFlow, and on JAX those that could end otherwise there
	KERAS_BACKEND=tensorflow $(RUN) -m pytest -q -n 2
	KERAS_BACKEND=jax $(KEEP) $(RUN) -m pytest -q -n 2 $(BESIDES)

test-torch: $(VENV)/.test  ## the same on PyTorch, which it installs
	$(RUN) -m pip install --quiet "torch>=2.4,<3"
	KERAS_BACKEND=torch $(RUN) -m pytest -q -n 2 $(BESIDES)

gpu:  ## check and measure all on a GPU, with the JAX of this Python, into gpu.txt
	$(PYTHON) tools/gpu.py --output gpu.txt

lint: $(VENV)/.test  ## what the code should look like
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

soak: $(VENV)/.test  ## hours of killed trainings and mutated files; the commands of the README
	KERAS_BACKEND=tensorflow $(RUN) tools/soak_kills.py --count 200
	KERAS_BACKEND=jax $(RUN) tools/soak_kills.py --count 50
	$(RUN) tools/soak_mutations.py --count 20000
	$(RUN) tools/readme.py

clean:  ## remove the virtual environment
	rm -rf $(VENV)

# Of the Python that makes it, and of the one that made it.
CHECK = -c 'import sys; v = sys.version_info; sys.exit(not (3, 10) <= v < (3, 14) and \
  "Python 3.10 to 3.13 is needed, not {}.{}: make clean, then make PYTHON=python3.12".format(*v))'

$(VENV)/.run: requirements.txt
	@test -e $(RUN) || $(PYTHON) $(CHECK)
	@test -e $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) $(CHECK)
	@echo "installing TensorFlow and what it needs into $(VENV): 2.2 GB, a minute or two"
	@$(RUN) -m pip install --quiet -r $<
	@touch $@

$(VENV)/.test: requirements-test.txt $(VENV)/.run
	@echo "installing what the tests need into $(VENV)"
	@$(RUN) -m pip install --quiet -r $<
	@touch $@
