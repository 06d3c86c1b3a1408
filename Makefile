# What a person does with this tree. Everything it makes is in .venv/ and .run/.

# tests wait more than they compute; each of these processes has a broker of its own
JOBS = 3
ALONE = .venv/bin/pytest --timeout=300
PYTEST = $(ALONE) -n $(JOBS)
# where CI is set, what failed beside other tests is named, and has to pass by itself; elsewhere it has failed
AGAIN = || { [ -n "$$CI" ] && echo "=== what failed beside others, again, one at a time:" && $(ALONE) --lf --lfnf=none; }
SHELL_SCRIPTS = .ci/run debian/package debian/tests/service debian/tests/unit debian/*.postinst debian/*.postrm tests/support/prepare tests/support/root tests/system/from_nothing

.PHONY: help demo test test-unit faults fuzz soak bench test-cgroup test-packages lint format from-nothing deb clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: ## the whole of taskqueue at work in a minute, from nothing: broker, daemons, workitems, tasks over HTTP
	@tests/support/prepare demo
	@.venv/bin/python examples/demo.py $(ARGS)

test: ## all tests, against a private broker; ARGS=… goes to pytest
	@tests/support/prepare test
	@$(PYTEST) $(ARGS) $(AGAIN)

test-unit: ## the tests that need no broker
	@tests/support/prepare test
	@$(PYTEST) tests/unit $(ARGS)

test-cgroup: ## max_memory by cgroup v2, in an emulated machine with Debian's kernel (root only; some minutes)
	@tests/support/prepare test
	@tests/support/prepare vm
	@.venv/bin/python tests/system/cgroup_vm.py

faults: ## what happens under faults: FAULT=… SEED=… N=…, see tests/faults/faults.py --list
	@tests/support/prepare test
	@PYTHONPATH=tests/support .venv/bin/python tests/faults/faults.py --jobs $(JOBS) \
		$(FAULT) $(if $(SEED),--seed $(SEED)) $(if $(N),--count $(N))

fuzz: ## hostile messages against dispatcher and listener: SEED=… N=…
	@tests/support/prepare test
	@TASKQUEUE_SLOW_TESTS=1 FUZZ_SEED=$(SEED) FUZZ_CASES=$(N) .venv/bin/pytest -s -k 100000 tests/system/dispatcher/test_fuzz.py

soak: ## the mix of all faults for HOURS=…
	@tests/support/prepare test
	@PYTHONPATH=tests/support .venv/bin/python tests/faults/faults.py mix --hours $(or $(HOURS),1)

bench: ## taskqueue beside its peers and the broker's limit: FIGURE=… ROUNDS=… QUICK=1 ALL=1, see docs/performance.rst
	@tests/support/prepare bench
	@PYTHONPATH=tests/support .venv/bin/python -m bench $(FIGURE) \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(COUNT),--count $(COUNT)) $(if $(QUICK),--quick) $(if $(ALL),--all)

lint: ## ruff, mypy --strict, shellcheck
	@tests/support/prepare lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict
	shellcheck $(SHELL_SCRIPTS)

format: ## let ruff lay out the sources
	@tests/support/prepare lint
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

test-packages: ## the packages, in clean roots of Debian 12 and 13 (root only); ARGS=… goes to pytest
	@tests/support/prepare test
	@tests/support/prepare packages
	@$(MAKE) --no-print-directory -j2 --output-sync=target packages-of-bookworm packages-of-trixie

packages-of-%: ALONE = .venv/bin/pytest --timeout=900 -o cache_dir=.pytest_cache/$* -k $* tests/packages
packages-of-%:
	@$(ALONE) $(ARGS) $(AGAIN)

from-nothing: ## make demo and make test in clean roots of Debian 12 and 13 (root only)
	tests/system/from_nothing bookworm demo test
	tests/system/from_nothing trixie demo test

deb: ## Debian packages of what is committed, into dist/
	@tests/support/prepare deb
	@debian/package dist

clean: ## remove all that was made
	@! command -v python3 >/dev/null || python3 tests/support/broker.py stop .run
	rm -rf --one-file-system .run .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
