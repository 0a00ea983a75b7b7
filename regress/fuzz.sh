#!/bin/sh
# Runs every fuzz target for a fixed number of executions, on the captures as seeds.
#   regress/fuzz.sh EXECUTIONS [TARGET ...]
# New inputs collect in fuzz/corpus/TARGET; an input that crashes is left in fuzz/artifacts/.
set -eu
cd "$(dirname "$0")/.."

executions=$1
shift

# What cargo-fuzz would pass, without the address sanitizer: the code under test has no unsafe.
# A stable compiler takes these options with RUSTC_BOOTSTRAP.
host=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" \
	cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml --target "$host"

if [ $# -eq 0 ]; then
	for file in fuzz/fuzz_targets/*.rs; do
		set -- "$@" "$(basename "$file" .rs)"
	done
fi
for target in "$@"; do
	case $target in
	nv | packet | lzf) seeds=$(find regress/data/wire -mindepth 1 -type d) ;;
	control) seeds=regress/data/control ;;
	conf | toml) seeds="regress/data/conf etc" ;;
	metadata) seeds=regress/data/metadata ;;
	*) seeds="" ;;
	esac
	mkdir -p "fuzz/corpus/$target" fuzz/artifacts
	echo "fuzzing $target: $executions executions"
	# shellcheck disable=SC2086 # a list of directories
	"fuzz/target/$host/release/$target" "fuzz/corpus/$target" $seeds -runs="$executions" \
		-max_len=8192 -timeout=20 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix="fuzz/artifacts/$target-" 2>&1 |
		grep -E 'number_of_executed_units|average_exec_per_sec|ERROR|SUMMARY|panicked' || true
	# The pipe hides the status: a finding leaves a file.
	for artifact in "fuzz/artifacts/$target"-*; do
		if [ -e "$artifact" ]; then
			echo "$target: see $artifact" >&2
			exit 1
		fi
	done
done
