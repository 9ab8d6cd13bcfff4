# Thin targets over scripts/. `make setup` is called by every other target and is quick when nothing changed.
.PHONY: help setup demo demo-quick test test-integrations test-faults test-asan test-tsan fuzz bench \
  bench-micro bench-codecs bench-bytes bench-overlap bench-nodes bench-checks bench-analysis bench-planner bench-plans \
  bench-replanning bench-kernels bench-training bench-allreduce bench-scale bench-groups \
  bench-simulate docs wheel test-wheel lint format

# Benchmarks one after the other, whatever -j says.
.NOTPARALLEL:

help:
	@echo 'make setup       install everything into .venv/ (called by the others)'
	@echo 'make demo        train ResNet-18 four ways on two ranks and compare (about 5 minutes)'
	@echo 'make demo-quick  the same with few steps (about a minute)'
	@echo 'make test        lint and all tests, C++ and Python'
	@echo 'make test-integrations training frameworks, in an environment of their own (a few minutes)'
	@echo 'make test-faults 30 killed and 10 frozen ranks (about 3 minutes)'
	@echo 'make test-asan   the C++ tests under AddressSanitizer and UBSan'
	@echo 'make test-tsan   the C++ tests under ThreadSanitizer'
	@echo 'make fuzz        look for bytes that break a decoder (needs clang; SECONDS_EACH=60)'
	@echo 'make bench       the short benchmarks: kernels, analysis, allreduce, scale, training (about 20'
	@echo '                 minutes); each writes benchmarks/results and its tables in docs/benchmarks.md'
	@echo 'make bench-micro micro-benchmarks of single functions of kernels and planner'
	@echo 'make bench-kernels speed of kernels and methods against memory and PyTorch (about a minute)'
	@echo 'make bench-codecs bits and errors of all levels beside an ideal quantiser (two minutes)'
	@echo 'make bench-bytes counted bytes against the network interface (needs user namespaces)'
	@echo 'make bench-overlap one lane against two on a slow link (needs root)'
	@echo 'make bench-nodes  node first against flat on a link between two nodes (needs root)'
	@echo 'make bench-plans how many fewer bytes plans send than their uniform reference'
	@echo 'make bench-replanning what making plans costs the training'
	@echo 'make bench-checks what frames, flags and hashes cost of a step'
	@echo 'make bench-planner the exact solver against HiGHS and dynamic programmes (about 3 minutes)'
	@echo 'make bench-analysis errors of all levels of all layers on one core'
	@echo 'make bench-training whole steps against DDP and its hooks on four links (needs root)'
	@echo 'make bench-allreduce one tensor against Gloo and MPI, 1 KiB to 256 MiB'
	@echo 'make bench-scale 2 to 8 ranks, 1 to 1,000 layers: bytes, time, memory'
	@echo 'make bench-groups FSDP2 in 1 to 16 parameter groups: bytes and time (half a minute)'
	@echo 'make bench-simulate steps of larger jobs on paper'
	@echo 'make docs        the documentation site, build/docs/site (needs doxygen)'
	@echo 'make wheel       the wheel and the source distribution, build/wheel/dist'
	@echo 'make test-wheel  install the wheel in an empty Debian and train there (needs root and debootstrap)'
	@echo 'make lint        formatters, linters and types, changing nothing'
	@echo 'make format      formatters, changing files'

setup:
	@scripts/setup

demo: setup
	@.venv/bin/python -m experiments.resnet18.demo

demo-quick: setup
	@.venv/bin/python -m experiments.resnet18.demo --quick --output runs/demo-quick

test: setup
	@scripts/test

test-integrations: setup
	@scripts/test_integrations

test-faults: setup
	@.venv/bin/python -m pytest -m 'slow or not slow' python/tests/test_faults.py

test-asan: setup
	@scripts/cpp_tests asan

test-tsan: setup
	@scripts/cpp_tests tsan

fuzz:
	@scripts/fuzz

bench: bench-kernels bench-analysis bench-allreduce bench-scale bench-training

bench-micro: setup
	@scripts/bench

bench-codecs: setup
	@.venv/bin/python -m benchmarks.codecs

bench-bytes: setup
	@.venv/bin/python -m benchmarks.bytes

bench-overlap: setup
	@.venv/bin/python -m benchmarks.overlap

bench-nodes: setup
	@.venv/bin/python -m benchmarks.nodes

bench-groups: setup
	@.venv/bin/python -m benchmarks.parameter_groups

bench-plans: setup
	@.venv/bin/python -m benchmarks.plans

bench-replanning: setup
	@.venv/bin/python -m benchmarks.replanning

bench-checks: setup
	@.venv/bin/python -m benchmarks.checks

bench-planner: setup
	@.venv/bin/python -m benchmarks.planner

bench-analysis: setup
	@.venv/bin/python -m benchmarks.analysis

bench-kernels: setup
	@.venv/bin/python -m benchmarks.kernels

bench-training: setup
	@.venv/bin/python -m benchmarks.step_training

bench-allreduce: setup
	@.venv/bin/python -m benchmarks.allreduce

bench-scale: setup
	@.venv/bin/python -m benchmarks.scale

bench-simulate: setup
	@.venv/bin/python -m benchmarks.simulate

docs: setup
	@scripts/docs

wheel: setup
	@scripts/wheel

test-wheel: wheel
	@scripts/test_wheel

lint: setup
	@scripts/lint

format: setup
	@scripts/lint --fix
