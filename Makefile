# `make help` lists the targets. Those that need system packages, a virtual
# environment or a build make them first, and only if something changed.

SHELL = /bin/sh
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL = help
# Set-up steps follow each other; what is slow runs side by side by itself.
.NOTPARALLEL:

VENV = .venv
PY = $(VENV)/bin/python
PIP = $(PY) -m pip install -q --disable-pip-version-check
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# Tests wait most of their time: for a timeout, a peer, a process to start.
TEST_JOBS ?= $(shell echo $$((3 * $(JOBS))))

SOURCES := $(sort $(wildcard csrc/*/*.c))
HEADERS := $(sort $(wildcard csrc/*/*.h))
C_FILES := $(SOURCES) $(HEADERS) $(sort $(wildcard tests/c/*.[ch] \
             tests/faults/*.[ch] fuzz/*.[ch] bench/*.[ch] bench/*/*.[ch]))

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | \
	  awk -F"|" '{ printf "  %-18s%s\n", $$1, $$2 }'

# ---------------------------------------------------------------- to use it

.PHONY: demo test build
demo: build ## set everything up and serve the chat page (PORT=8000 to choose)
	@exec $(PY) -m twspy.demo $(if $(PORT),--port $(PORT))

test: packages-test ctest $(VENV)/built node-packages pytest ## set everything up and run all tests

build: packages-build $(VENV)/built ## build the package into .venv

# ------------------------------------------------------------------- checks

# Set, it has `tidy` and `coverage` do the brief part that CI does.
QUICK ?=

.PHONY: ctest pytest asan valgrind tsan lint types check
CORE = $(MAKE) -s -j$(JOBS) -f tools/core.mk

SANITIZE ?= address,undefined
# Which C tests: a pattern for the end of `test_name`.
ONLY ?= .*
C_TESTS = $$($(CORE) SANITIZE=$(SANITIZE) names | tr ' ' '\n' | grep -E '/test_($(ONLY))$$')
ctest: packages-build ## run the C tests with sanitizers (CC=clang, SANITIZE=thread, ONLY='frame|mask')
	@$(CORE) SANITIZE=$(SANITIZE) $(if $(filter .*,$(ONLY)),tests,$(C_TESTS))
	@ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 \
	  UBSAN_OPTIONS=print_stacktrace=1 \
	  TSAN_OPTIONS=allocator_may_return_null=1:suppressions=$(CURDIR)/tools/tsan.supp \
	  $$(tools/find_python.sh) \
	  tools/run_ctests.py --jobs $(TEST_JOBS) $(C_TESTS)

# Those that are long for the sake of chance, of size or of all splits tell
# valgrind nothing new; in others almost all of the time is OpenSSL's or zlib's.
VALGRIND_LEFT_OUT = _(stress|slow|hostile|inflating|nonces|assembler|assembler_limits|client_compress|client_write|deflate|keepalive|poller_threads|server_threads|serving|utf8)$$|_tls(_(bio|certificate|context|error|files|handshake|info|memory|platform|site))?$$
VALGRIND_TESTS = $$($(CORE) SANITIZE= names | tr ' ' '\n' | grep -vE '$(VALGRIND_LEFT_OUT)')
valgrind: packages-dev ## run the C tests under valgrind
	@$(CORE) SANITIZE= tests
	@TWS_TESTS_BRIEF=1 $$(tools/find_python.sh) tools/run_ctests.py --jobs $(TEST_JOBS) --timeout 600 --wrap \
	  'valgrind -q --fair-sched=try --suppressions=tools/valgrind.supp --leak-check=full --errors-for-leak-kinds=definite,indirect,possible --error-exitcode=99' \
	  $(VALGRIND_TESTS)

# In the others nothing runs beside them.
THREADED = accepting|client_compress|client_write|condition|deflate_pool|engine_stress|keepalive_server|poller_threads|pool|racing|resolve|server|server_threads|serving|stats|tls_session_cache|tls_stress|wakeup|watchdog|worker
tsan: packages-dev ## run the C tests that have threads with the thread sanitizer (ONLY='.*' for all)
	@$(MAKE) -s ctest CC=clang SANITIZE=thread ONLY='$(if $(filter command line,$(origin ONLY)),$(ONLY),$(THREADED))'

pytest: $(VENV)/built $(VENV)/for-tests node-packages ## run the Python tests only (ARGS='-k name')
	@$(PY) -m pytest -n $(TEST_JOBS) --dist worksteal $(ARGS)

.PHONY: conformance
conformance: $(VENV)/built $(VENV)/for-tests ## RFC 6455 section by section, as server and as client; prints the table (ARGS='-k utf8')
	@$(PY) -m pytest -n $(TEST_JOBS) -q tests/conformance $(ARGS)

# A second build beside the plain one: PYTHONSAFEPATH keeps the plain one in the
# working directory out. The sanitizer must be the first library of a process.
# Two frames for each allocation tell what csrc leaks from what CPython leaks;
# LEAK_FRAMES=30 says more about an allocation, but finds no leak.
ASAN_LIB = build/asan/lib
LEAK_FRAMES ?= 2
ASAN_SHARES ?= $(TEST_JOBS)
# What is elsewhere drives other programs, the same code once more, or no C. A
# forked child may find a lock of the sanitizer's allocator held for ever.
ASAN_TESTS = tests/unit tests/integration ! -name test_forked_handlers.py
asan: packages-dev $(VENV)/built $(VENV)/for-tests node-packages ## run the Python tests on a build with sanitizers
	@echo "Building twspy with sanitizers"
	@rm -rf $(ASAN_LIB) && mkdir -p $(ASAN_LIB)
	@cp -R twspy $(ASAN_LIB) && rm -f $(ASAN_LIB)/twspy/*.so
	@CC=gcc TWSPY_SANITIZE=address,undefined $(PY) setup.py -q build_ext \
	  --build-temp build/asan/temp --build-lib $(ASAN_LIB)
	@TWSPY_TEST_BUILD=$(CURDIR)/$(ASAN_LIB) PYTHONPATH=$(CURDIR)/$(ASAN_LIB) \
	  PYTHONSAFEPATH=1 PYTHONMALLOC=malloc \
	  ASAN_OPTIONS=detect_leaks=1:malloc_context_size=$(LEAK_FRAMES) \
	  LSAN_OPTIONS=suppressions=$(CURDIR)/tools/lsan.supp:print_suppressions=0 \
	  UBSAN_OPTIONS=print_stacktrace=1 \
	  SANITIZER="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
	  tools/run_asan.sh $(PY) build/asan/logs \
	  $(if $(ARGS),1 $(ARGS),$(ASAN_SHARES) $(ASAN_TESTS))

EXAMPLES ?= 2000
properties: $(VENV)/built $(VENV)/for-tests ## Hypothesis tries more examples, drawn anew (EXAMPLES=2000)
	@EXAMPLES=$(EXAMPLES) $(PY) -m pytest --timeout 0 tests/properties $(ARGS)

.PHONY: werror properties
WERROR = build/werror-$(notdir $(firstword $(CC)))
werror: packages-dev $(PY) ## build with warnings as errors (CC=clang)
	@echo "Building twspy with $(CC), warnings as errors"
	@TWSPY_WERROR=1 CC="$(CC)" $(PY) setup.py -q build_ext \
	  --build-temp $(WERROR)/temp --build-lib $(WERROR)/lib

# How the extension is compiled, for tools that read C: CPython's headers are
# not ours to correct.
PYTHON_INCLUDE = $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("include"))')
EXTENSION_FLAGS = -std=c11 -D_GNU_SOURCE -Icsrc -isystem $(PYTHON_INCLUDE) \
  $$(pkg-config --cflags openssl zlib) $$(cat tools/warnings.txt)

.PHONY: analyze tidy
analyze: packages-dev $(PY) ## gcc's warnings and its static analyzer
	@$(PY) tools/run_analyzer.py --known tools/analyzer.txt --jobs $(JOBS) \
	  $(SOURCES) -- gcc $(EXTENSION_FLAGS) -O2 -DNDEBUG

# The analyzer is most of the time. What is told beside findings counts what
# other people's headers have.
tidy: packages-dev $(PY) ## clang's warnings and clang-tidy (QUICK=1: without its analyzer)
	@mkdir -p build; flags="$(EXTENSION_FLAGS)"; printf '%s\n' $(SOURCES) | \
	  xargs -P $(JOBS) -I '{}' clang-tidy --quiet \
	  $(if $(QUICK),--checks=-clang-analyzer-*) '{}' -- $$flags \
	  2> build/tidy.log || { cat build/tidy.log; exit 1; }

# Counted are lines and branches of C, but for those of assertions, and of
# Python; what the C tests reach alone, and what all tests reach together.
COVERAGE = build/coverage
COUNTED = build/core/gcc-coverage
# The C tests that QUICK=1 builds and runs, as the gate is on this layer.
COUNTED_TESTS = $(if $(QUICK),$(patsubst csrc/protocol/%.c,$(COUNTED)/test_%,$(wildcard csrc/protocol/*.c)),$$($(CORE) CC=gcc SANITIZE=coverage names))
GCOVR = $(VENV)/bin/gcovr -j $(JOBS) -r . --filter 'csrc/$(if $(QUICK),protocol/)' \
  --merge-mode-functions=separate --exclude-branches-by-pattern '\s*assert\('
coverage: packages-dev $(VENV)/for-checks $(if $(QUICK),,$(VENV)/built node-packages) ## which lines and branches run in tests (QUICK=1: of protocol, in its C tests)
	@rm -rf $(COVERAGE) && mkdir -p $(COVERAGE)/lib
	@$(CORE) CC=gcc SANITIZE=coverage $(COUNTED_TESTS)
	@find $(COUNTED) -name '*.gcda' -delete
	@$(if $(QUICK),TWS_TESTS_BRIEF=1) $$(tools/find_python.sh) tools/run_ctests.py \
	  --jobs $(TEST_JOBS) $(COUNTED_TESTS) > $(COVERAGE)/c.log || \
	  { cat $(COVERAGE)/c.log; exit 1; }
	@tail -n 1 $(COVERAGE)/c.log
	@$(GCOVR) --json $(COVERAGE)/c.json \
	  --json-summary $(COVERAGE)/c-summary.json $(COUNTED) 2> $(COVERAGE)/c.err || \
	  { cat $(COVERAGE)/c.err; exit 1; }
	@$(if $(QUICK),,$(MAKE) -s coverage-python)
	@$(PY) tools/report_coverage.py --at-least csrc/protocol=95 \
	  --called csrc/protocol=$(COVERAGE)/c.json $(if $(QUICK),,--files) \
	  'C tests=$(COVERAGE)/c-summary.json' $(if $(QUICK),,\
	  'all tests=$(COVERAGE)/all-summary.json' Python=$(COVERAGE)/python.json)

# The build stands beside the plain one, as that of `make asan` does. Counts are
# written when a process ends by itself, which those of pytest-xdist do not;
# what a killed one has left behind is told in python.err, and left out.
.PHONY: coverage coverage-python
coverage-python:
	@echo "Building twspy with counters"
	@cp -R twspy $(COVERAGE)/lib && rm -f $(COVERAGE)/lib/twspy/*.so
	@CC=gcc TWSPY_COVERAGE=1 $(PY) setup.py -q build_ext \
	  --build-temp $(COVERAGE)/temp --build-lib $(COVERAGE)/lib
	@TWSPY_TEST_BUILD=$(CURDIR)/$(COVERAGE)/lib PYTHONPATH=$(CURDIR)/$(COVERAGE)/lib \
	  PYTHONSAFEPATH=1 COVERAGE_FILE=$(CURDIR)/$(COVERAGE)/python.data \
	  COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml SANITIZER= \
	  tools/run_asan.sh $(PY) $(COVERAGE)/logs $(TEST_JOBS) tests/unit tests/integration
	@$(GCOVR) --json $(COVERAGE)/extension.json $(COVERAGE)/temp 2> $(COVERAGE)/extension.err || \
	  { cat $(COVERAGE)/extension.err; exit 1; }
	@mkdir -p $(COVERAGE)/html/c
	@$(GCOVR) -a $(COVERAGE)/c.json -a $(COVERAGE)/extension.json \
	  --json-summary $(COVERAGE)/all-summary.json \
	  --html-nested $(COVERAGE)/html/c/index.html 2> $(COVERAGE)/html.err || \
	  { cat $(COVERAGE)/html.err; exit 1; }
	@export COVERAGE_FILE=$(CURDIR)/$(COVERAGE)/python.data; { \
	  $(VENV)/bin/coverage combine -q && \
	  $(VENV)/bin/coverage json -q -o $(COVERAGE)/python.json && \
	  $(VENV)/bin/coverage html -q -d $(COVERAGE)/html/python; \
	  } 2> $(COVERAGE)/python.err || { cat $(COVERAGE)/python.err; exit 1; }
	@echo "Line by line: $(COVERAGE)/html"

lint: packages-dev $(VENV)/for-checks ## style of Python and C, layers, banned calls, a test for each file
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@clang-format --dry-run -Werror $(C_FILES)
	@$(PY) tools/check_layers.py
	@$(PY) tools/check_capi.py
	@$(PY) tools/check_mirror.py
	@$(VENV)/bin/pre-commit validate-config

types: $(VENV)/built $(VENV)/for-checks ## mypy, pyright, and the stub against the module
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy tools tests/typed/uses.py
	@$(VENV)/bin/basedpyright -p tests/typed --pythonpath $(PY)
	@$(VENV)/bin/stubtest --allowlist tests/typed/stubtest.txt twspy._twspy

check: lint types ## lint and types

.PHONY: dist
dist: packages-build $(VENV)/for-tests $(VENV)/for-checks $(VENV)/for-dist ## build source archive and wheel as for a release, and use them; into dist/
	@$(PY) tools/check_packages.py dist

# ------------------------------------------------------------ fuzzing, bench

.PHONY: fuzz fuzz-replay bench leaks soak faults
faults: $(VENV)/built $(VENV)/for-tests ## every call that can fail does once; some minutes
	@TWSPY_FAULTS_DEPTH=0 $(PY) -m pytest -n $(JOBS) tests/faults $(ARGS)

leaks: $(VENV)/built ## 100,000 connections and 1,000,000 messages; memory must stay flat
	@$(PY) tests/leaks/churn.py $(ARGS)

MINUTES ?= 10
soak: $(VENV)/built $(VENV)/for-tests ## clients of every kind come and go for MINUTES=10; nothing may be lost or left
	@$(PY) tests/soak/soak.py $(MINUTES) $(ARGS)

SECONDS ?= 60
FUZZ_SANITIZE = fuzzer-no-link,address,undefined
FUZZERS = build/core/clang-fuzzer-no-link-address-undefined
fuzz: packages-dev ## run each fuzzer, JOBS at a time (SECONDS=60, FUZZ=frame for one)
	@$(CORE) CC=clang SANITIZE=$(FUZZ_SANITIZE) fuzzers
	@tools/run_fuzzers.sh $(FUZZERS) $(JOBS) $(SECONDS) $(FUZZ)

fuzz-replay: packages-dev ## give each fuzzer the inputs that are kept, once
	@$(CORE) CC=clang SANITIZE=$(FUZZ_SANITIZE) fuzzers
	@tools/run_fuzzers.sh $(FUZZERS) $(JOBS) replay $(FUZZ)

# What others need is installed into build/peers. One of the smaller programs:
# BENCH=bench/idle.py ARGS='--clients 5000'.
BENCH ?= bench/run.py
BENCH_ARGS = $(if $(QUICK),--quick) $(if $(CELLS),--cells '$(CELLS)') \
  $(if $(PEERS),--peers '$(PEERS)') $(if $(ROUNDS),--rounds $(ROUNDS))
bench: $(VENV)/built $(VENV)/for-tests ## measure beside others, into docs/benchmarks (QUICK=1, CELLS=small,tls PEERS=twspy,uws ROUNDS=5)
	@$(PY) $(BENCH) $(if $(filter bench/run.py,$(BENCH)),$(BENCH_ARGS)) $(ARGS)

# ------------------------------------------------------------- documentation

.PHONY: docs
docs: $(VENV)/built $(VENV)/for-docs ## the documentation as web pages: build/docs/index.html
	@PYTHONWARNINGS=error $(PY) docs/figures.py --check
	@$(PY) -m sphinx -q -W --keep-going -n -b html -d build/docs-cache \
	  docs build/docs
	@echo "Open build/docs/index.html"

# ------------------------------------------------------------------- editing

.PHONY: format clean
format: packages-dev $(VENV)/for-checks ## format Python and C
	@$(VENV)/bin/ruff check -q --fix .
	@$(VENV)/bin/ruff format .
	@clang-format -i $(C_FILES)

clean: ## remove everything that was built or installed here
	rm -rf build dist $(VENV) tests/interop/node_modules *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f twspy/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -------------------------------------------------------------------- set-up

.PHONY: packages-build packages-test packages-dev node-packages FORCE
packages-build packages-test packages-dev: packages-%:
	@tools/setup.sh $*

$(PY):
	@python=$$(tools/find_python.sh); \
	  echo "Making a virtual environment with $$python"; \
	  "$$python" -m venv $(VENV)
	@$(PIP) --upgrade pip 'setuptools>=77'

# What a build depends on beside the content of files: which files there are,
# the compiler and the switches. This file changes only if one of them does.
$(VENV)/inputs: FORCE | $(PY)
	@printf '%s\n' '$(SOURCES) $(HEADERS)' "$(CURDIR) $(CC) $$CFLAGS" \
	  "$$TWSPY_DEBUG $$TWSPY_WERROR $$TWSPY_SANITIZE $$TWSPY_COVERAGE" \
	  > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(VENV)/built: $(VENV)/inputs setup.py pyproject.toml twspy/_version.py \
               $(SOURCES) $(HEADERS)
	@echo "Building twspy"
	@PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --no-deps -e .
	@touch $@

# The lists stand in pyproject.toml: those of the tests and of the checks.
EXTRAS = import sys, tomllib; \
  lists = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
  print(*(r for extra in sys.argv[1:] \
          for r in lists['optional-dependencies'][extra]), sep='\n')

$(VENV)/for-tests: pyproject.toml | $(PY)
	@echo "Installing what the tests need"
	@$(PY) -c "$(EXTRAS)" test > $@.txt
	@$(PIP) -r $@.txt
	@touch $@

$(VENV)/for-checks: pyproject.toml $(VENV)/for-tests
	@echo "Installing what the checks need"
	@$(PY) -c "$(EXTRAS)" dev > $@.txt
	@$(PIP) -r $@.txt
	@touch $@

$(VENV)/for-dist: pyproject.toml | $(PY)
	@echo "Installing what packages are made with"
	@$(PY) -c "$(EXTRAS)" dist > $@.txt
	@$(PIP) -r $@.txt
	@touch $@

$(VENV)/for-docs: pyproject.toml | $(PY)
	@echo "Installing what the documentation needs"
	@$(PY) -c "$(EXTRAS)" docs > $@.txt
	@$(PIP) -r $@.txt
	@touch $@

NODE_STAMP = tests/interop/node_modules/.stamp
node-packages: packages-test $(NODE_STAMP)

$(NODE_STAMP): tests/interop/package.json
	@echo "Installing the Node packages of the tests"
	@cd tests/interop && npm install --no-package-lock --no-audit \
	  --no-fund --ignore-scripts --loglevel=error
	@touch $@
