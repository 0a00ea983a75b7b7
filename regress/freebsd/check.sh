#!/bin/sh
# Type-checks and lints the whole workspace, tests and benchmarks included, for FreeBSD. Symbols that do
# not exist there show only when something is linked: link.sh.
#
# Where the compiler's packages cannot be installed this says so and is skipped, unless CI is set.
set -eu
cd "$(dirname "$0")/../.."

if ! sh regress/freebsd/toolchain.sh install; then
	if [ -n "${CI:-}" ]; then
		exit 1
	fi
	echo "freebsd: SKIPPED: nothing was checked for FreeBSD" >&2
	exit 0
fi

# cargo-clippy itself, not `cargo clippy`, which would take the first one of ~/.cargo/bin.
sh regress/freebsd/toolchain.sh run /usr/bin/cargo-clippy clippy -Zbuild-std=std,panic_abort \
	--target x86_64-unknown-freebsd --workspace --all-targets --locked "$@" -- -D warnings
echo "freebsd: the workspace checks for FreeBSD with $(/usr/bin/rustc --version)"
