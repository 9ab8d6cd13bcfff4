# Thin targets over scripts/. Every one of them sets the project up first, which is quick when
# nothing changed.
.DEFAULT_GOAL := help
PYTHON_ENV := .venv/bin/python

.PHONY: help setup demo demo-quick test test-asan test-tsan bench lint format clean

help:  ## List the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup:  ## Install what is needed into .venv/ and build the package
	@scripts/setup

demo: setup  ## Train four ways on two processes and write a report (about 5 minutes)
	@$(PYTHON_ENV) -m experiments.resnet18.demo

demo-quick: setup  ## The same in less than 90 seconds
	@$(PYTHON_ENV) -m experiments.resnet18.demo --quick

test: setup  ## Lint, build and run every test
	@scripts/test

test-asan: setup  ## C++ tests under the address and undefined-behaviour sanitizers
	@scripts/cpp_test asan

test-tsan: setup  ## C++ tests under the thread sanitizer
	@scripts/cpp_test tsan

bench: setup  ## Build and run the C++ micro-benchmarks
	@scripts/bench

lint: setup  ## Check format and style, change nothing
	@scripts/lint

format: setup  ## Format all C++ and Python files in place
	@scripts/lint --fix

clean:  ## Remove everything that was built or installed here
	rm -rf build .venv
