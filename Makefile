# make demo      sets everything up, runs the main job on a small shop, shows the result
# make test      sets everything up and runs every test
# make bench     sets everything up and measures Segmenter against its peers (ten minutes; a minute
#                with BENCH_SCALE=0.05, see bench/run)
# make install   builds and installs the extension into the PostgreSQL of PG_CONFIG
# make installcheck   runs the SQL tests against the PostgreSQL that PGHOST, PGPORT, PGUSER name
# make stop      stops the demo's cluster        make clean   removes all that was built
#
# PG=15 chooses the version for demo and test.

PG ?= 15
PG_CONFIG ?= pg_config
export PG

.PHONY: demo test bench install installcheck stop clean

demo:
	@bin/demo

test:
	@pg_test/run

bench:
	@bench/run

install:
	cargo pgrx install --release --no-default-features --features pg$(PG) --pg-config $(PG_CONFIG)

installcheck:
	@pg_test/installcheck

stop:
	@bin/cluster stop demo

clean:
	@bin/clean
	cargo clean
