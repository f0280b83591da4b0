# `make demo` and `make test` need nothing but the toolchain: set-up is part of them.

CARGO_TARGET_DIR ?= target
# Relative to here, whatever the caller's folder.
export CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
DEBUG_BINARY := $(CARGO_TARGET_DIR)/debug/flightpath
RELEASE_BINARY := $(CARGO_TARGET_DIR)/release/flightpath

.PHONY: help demo test test-rust test-python build lint fmt bench fuzz chaos setup

help:
	@echo "make demo    a server on generated tables, and a session with it"
	@echo "make test    every test"
	@echo "make build   an optimized binary: $(RELEASE_BINARY)"
	@echo "make fuzz    random statements on both engines, compared: FUZZ_STATEMENTS of them, from FUZZ_SEED"
	@echo "make chaos   parts of a fleet killed, stopped and overloaded, and what must hold: CHAOS_FACTOR of the promised trials"
	@echo "make lint    formatting, clippy, licences and advisories (with cargo-deny, if installed)"
	@echo "make bench   measurements against other servers; prints tables"

setup:
	scripts/setup build

demo: setup
	scripts/setup python
	cargo build --workspace
	FLIGHTPATH_BINARY=$(DEBUG_BINARY) .venv/bin/python scripts/demo.py

test: test-rust test-python

# The binary itself is built too: tests start it. Always with the whole workspace, also for the targets that
# need nothing but the binary: alone it has fewer features, and its dependencies would be compiled twice.
test-rust: setup
	scripts/setup postgres
	cargo build --workspace
	cargo test --workspace

test-python: setup
	scripts/setup python postgres jdbc
	cargo build --workspace
	FLIGHTPATH_BINARY=$(DEBUG_BINARY) .venv/bin/python -m pytest -q integration-tests/python

build: setup
	cargo build --release -p flightpath
	@echo "$(RELEASE_BINARY)"

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny isn't installed: licences and advisories not checked"; fi

fmt:
	cargo fmt --all

bench: build
	scripts/setup python
	.venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-bench.txt
	FLIGHTPATH_BINARY=$(RELEASE_BINARY) .venv/bin/python benchmarks/run.py
	scripts/setup postgres
	cargo run --release --quiet -p flightpath-log-store --example record_rate -- 2000 20

FUZZ_STATEMENTS ?= 100000
FUZZ_SEED ?= 1

fuzz: setup
	scripts/setup python
	cargo build --workspace
	cd integration-tests/python && FLIGHTPATH_BINARY=$(DEBUG_BINARY) ../../.venv/bin/python -m differential \
		--statements $(FUZZ_STATEMENTS) --seed $(FUZZ_SEED) --out $(CARGO_TARGET_DIR)/fuzz.txt
	@echo "$(CARGO_TARGET_DIR)/fuzz.txt"

CHAOS_FACTOR ?= 0.01
CHAOS_OPTIONS ?=

chaos: setup
	scripts/setup python postgres
	cargo build --workspace
	cd integration-tests/python && FLIGHTPATH_BINARY=$(DEBUG_BINARY) ../../.venv/bin/python -m chaos \
		--factor $(CHAOS_FACTOR) --out $(CARGO_TARGET_DIR)/chaos.txt $(CHAOS_OPTIONS)
	@echo "$(CARGO_TARGET_DIR)/chaos.txt"
