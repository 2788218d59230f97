# make demo      sets everything up, runs the main job on a small shop, shows the result
# make test      sets everything up and runs every test
# make test TEST="guards scheduler"   runs tests or groups of tests by name; TEST=list prints the names, ACCEPT=1
#                takes new output of SQL and isolation tests as expected. See pg_test/README.md
# make test-all  does so on PostgreSQL 15, 16, 17 and 18, one after another
# make torture   sets everything up and runs the long random test: MINUTES (10) of sessions, kills and
#                restores at random, for SEED (any); see pg_test/torture/run
# make bench     sets everything up and measures Segmenter against its peers (ten minutes; a minute
#                with BENCH_SCALE=0.05, see bench/run)
# make install   builds and installs the extension into the PostgreSQL of PG_CONFIG
# make installcheck   runs the SQL tests against the PostgreSQL that PGHOST, PGPORT, PGUSER name
# make deb       builds a Debian package into dist/, for the PostgreSQL that PG names
# make dist      packs the sources for PGXN into dist/
# make stop      stops the demo's cluster        make clean   removes all that was built
#
# PG=15 chooses the version for demo, test, bench and deb: 15, 16, 17 or 18.

PG ?= 15
PG_CONFIG ?= pg_config
VERSION = $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
export PG

.PHONY: demo test test-all torture bench all install installcheck deb dist stop clean

demo:
	@bin/demo

test:
	@ACCEPT="$(ACCEPT)" pg_test/run $(TEST)

test-all:
	@pg_test/versions 15 16 17 18

torture:
	@bin/install
	@pg_test/torture/run "$(SEED)" "$(MINUTES)"

bench:
	@bench/run

# What is built for a PG_CONFIG is built for its version. PGXN's client makes both, one after the other.
all install: PG = $(shell $(PG_CONFIG) --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')

all:
	PGRX_PG_CONFIG_PATH=$(PG_CONFIG) cargo build --release --no-default-features --features pg$(PG)

install:
	cargo pgrx install --release --no-default-features --features pg$(PG) --pg-config $(PG_CONFIG)

installcheck:
	@pg_test/installcheck

deb:
	@bin/deb

dist:
	@mkdir -p dist
	@git archive --format zip --prefix segmenter-$(VERSION)/ --output dist/segmenter-$(VERSION).zip HEAD
	@echo dist/segmenter-$(VERSION).zip

stop:
	@bin/cluster stop demo

clean:
	@bin/clean
	rm -rf dist
	cargo clean
