#!/bin/sh
# Two nodes on this machine, a failover under load, nothing lost. Called by `make demo`, which has
# built the programs. As root the nodes have networks of their own, otherwise loopback addresses.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
"${CARGO:-cargo}" build --release --locked --quiet -p hast-regress --bin hast-demo
HAST_PROGRAMS=${HAST_PROGRAMS:-$target/release} exec "$target/release/hast-demo"
