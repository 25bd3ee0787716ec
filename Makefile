# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-clean test lint unit sanity units kernel molecule test-kernels test-long bench clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## make .venv and install system packages (if root)
	@tools/bootstrap
	@tools/system-packages

demo: setup ## set up, kill and rejoin the namespace of a real user
	@demo/run

demo-clean: setup ## remove what the demo made
	@demo/clean

test: setup ## all tests
	@tools/test

lint unit sanity units kernel molecule: setup ## one stage of the tests
	@tools/test $@

test-kernels: setup ## what must hold on every kernel, on old and new ones
	@tools/test kernels

test-long: setup ## what takes too long for every day: kills and errors at each call, more races, more fuzzing
	@ROOTLESS_TEST_LONG=1 tools/test long

bench: setup ## measure this collection beside its peers, and write benchmarks/results
	@benchmarks/run

clean: ## remove everything that was built here
	@rm -rf .venv .collections .ansible .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache tests/output .coverage* *.tar.gz
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
