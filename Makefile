# Every verb needs only Python 3.11 or newer, make and git; the first one that runs sets up .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: book live editions crawl pdf test test-all lint format bench course clean
.DEFAULT_GOAL := book

book: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" HF_HUB_OFFLINE=1 $(BIN)/jupyter-book build . -W -n --keep-going
	PATH="$(CURDIR)/$(BIN):$$PATH" HF_HUB_OFFLINE=1 $(BIN)/python book/_ext/translate.py build ko
	@echo
	@echo "The book is built. Open file://$(CURDIR)/_build/html/index.html"

# the built book with cells that run on a kernel of this machine, in a browser; Ctrl-C ends it
live: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python book/_ext/reader_server.py

# notebooks for readers, students and teachers; they install from a public repository with: make editions REPOSITORY=URL
editions: $(READY)
	$(BIN)/python book/_ext/notebooks.py _build/editions $(if $(REPOSITORY),--repository $(REPOSITORY))

# the numbers of the built book's prose, then every page in Chromium: light, dark and as narrow as a telephone
crawl: $(READY)
	$(BIN)/python book/_ext/printed.py _build/html
	$(BIN)/python book/_ext/crawl.py _build/html

# the built book on paper; without solutions and hidden code with: make pdf SOLUTIONS=0 CODE=0
pdf: $(READY)
	$(BIN)/python book/_ext/pdf.py _build/html _build/spot-the-difference.pdf \
	  --solutions "$(or $(SOLUTIONS),1)" --code "$(or $(CODE),1)"

# a worker a core, each with one thread of torch's (tests/conftest.py); a file stays with one worker, for its fixtures
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-all: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks

# make course SUBMISSIONS=folder also grades FOLDER/STUDENT/NAME.ipynb
course: $(READY)
	$(BIN)/python -m coursework $(if $(SUBMISSIONS),--submissions "$(SUBMISSIONS)")

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gadkit needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-build-isolation --no-deps -e .
	@touch $@
