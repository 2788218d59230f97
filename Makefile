# make demo      sets up what it needs, runs the main job on a small shop, shows the result
# make test      sets everything up and runs every test
# make test TEST="guards scheduler"   runs tests or groups of tests by name; TEST=list prints the names, ACCEPT=1
#                takes new output of SQL and isolation tests as expected. See pg_test/README.md
# make test-all  does so on every supported version of PostgreSQL, one after another
# make torture   sets everything up and runs the long random test: MINUTES (10) of sessions, kills and
#                restores at random, for SEED (any); see pg_test/torture/run
# make bench     sets everything up and measures Segmenter against its peers (ten minutes; a minute
#                with BENCH_SCALE=0.05, see bench/run)
# make           compiles the extension for the PostgreSQL of PG_CONFIG
# make install   copies it there, below DESTDIR if that is set
# make installcheck   runs the SQL tests against the PostgreSQL that PGHOST, PGPORT, PGUSER name
# make docs      writes docs/queries.md, the page that is made of the headers in sql/query
# make schema    writes the install script, sql/segmenter--<version>.sql, after a change of an SQL object
# make deb       builds a Debian package into dist/, for the PostgreSQL that PG names
# make dist      packs the sources for PGXN into dist/
# make stop      stops the demo's cluster        make clean   removes all that was built
#
# PG=<version> chooses the PostgreSQL of demo, test, torture, bench, schema and deb, from the list in versions.

VERSIONS := $(shell awk '/^[0-9]/ { print $$1 }' versions)
PG ?= $(firstword $(VERSIONS))
PG_CONFIG ?= pg_config
VERSION := $(shell sed -n '/^version = /{ s/^version = "\(.*\)"$$/\1/p; q; }' Cargo.toml)
export PG

# For all and install: the version of the PostgreSQL that PG_CONFIG belongs to, and the library for it.
SERVER := $(shell $(PG_CONFIG) --version 2>/dev/null | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
DLSUFFIX := $(if $(filter Darwin,$(shell uname -s)),.dylib,.so)
LIBRARY := target/install/$(SERVER)/segmenter$(DLSUFFIX)
SOURCES := Cargo.toml Cargo.lock build.rs $(shell find src core sql -type f 2>/dev/null)

.PHONY: all demo test test-all torture bench install installcheck docs schema deb dist stop clean

all: $(LIBRARY)

demo:
	@bin/demo

test:
	@ACCEPT="$(ACCEPT)" pg_test/run $(TEST)

test-all:
	@pg_test/versions $(VERSIONS)

torture:
	@bin/setup test
	@bin/install
	@pg_test/torture/run "$(SEED)" "$(MINUTES)"

bench:
	@bench/run

$(LIBRARY): $(SOURCES)
	$(if $(filter $(SERVER),$(VERSIONS)),,$(error $(PG_CONFIG) is not the pg_config of a supported PostgreSQL ($(VERSIONS))))
	PGRX_PG_CONFIG_PATH=$(PG_CONFIG) cargo build --locked --lib --release --target-dir target --no-default-features --features pg$(SERVER)
	@mkdir -p $(@D)
	@cp target/release/libsegmenter$(DLSUFFIX) $@

install: all
	packaging/install $(LIBRARY) $(PG_CONFIG) $(DESTDIR)

docs:
	UPDATE=1 cargo test --quiet --package segmenter-core --test queries

schema:
	@bin/schema

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
