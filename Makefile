# What a newcomer and CI run. Every target makes `.venv` first, with Python 3.11 or newer and nothing else installed.
#
#   make demo               a small corpus from photographs, on this machine, without the internet
#   make test               the tests that take seconds        make test-slow   the others
#   make lint               ruff and mypy
#   make bench NAME=...     one benchmark, beside the peers that it names; its options in ARGS=
#   make schemas            write schemas/json anew            make constraints  resolve constraints.txt anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
EXTRAS := browse,demo,dev,beam,ray,s3,train,video,youtube

.DEFAULT_GOAL := test
.DELETE_ON_ERROR:
.PHONY: demo test test-slow lint bench schemas constraints clean

demo: $(READY)
	$(BIN)/emu demo --output emu-demo

test: $(READY)
	$(BIN)/pytest -m 'not slow'

test-slow: $(READY)
	$(BIN)/pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench:
	@test -n '$(NAME)' || { echo 'usage: make bench NAME=..., for one of benchmarks/*.py' >&2; exit 2; }
	@test -f 'benchmarks/$(NAME).py' || { echo 'benchmarks/$(NAME).py is not there' >&2; exit 2; }
	@$(MAKE) --no-print-directory $(READY) $(if $(wildcard benchmarks/peers.txt),$(PEERS)/.ready)
	PEERS_PYTHON=$(PEERS)/bin/python $(BIN)/python 'benchmarks/$(NAME).py' $(ARGS)

schemas: $(READY)
	$(BIN)/python -m schemas.json_schema

# One pin for all extras together: what pip would install into an empty environment.
constraints: $(READY)
	$(BIN)/pip install --quiet --dry-run --ignore-installed --report $(VENV)/report.json '.[$(EXTRAS)]'
	$(BIN)/python .ci/pins.py $(VENV)/report.json > constraints.txt

clean:
	rm -rf $(VENV) $(PEERS) emu-demo

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed; name one: make PYTHON=python3.11' >&2; exit 2; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# The peers of benchmarks pin versions that ours cannot live with.
$(PEERS)/.ready: benchmarks/peers.txt
	test -x $(PEERS)/bin/pip || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet -r benchmarks/peers.txt
	touch $@
