#!/bin/sh
# cargo with a linker for FreeBSD: builds executables, which the checks alone do not.
#
#   cross.sh folder command [option ...]	command: build or test, as of cargo
#
# Everything goes below the folder. zig links, for FreeBSD 14 and later; it is installed there from
# PyPI when it is missing. With FREEBSD_SYSROOT=<dir>, an unpacked base.txz of the system, clang and
# lld link against that one (13.x, or any later one). One folder is for one linker: cargo would build
# everything anew after each change.
set -eu
cd "$(dirname "$0")/../.."

[ $# -ge 2 ] || {
	sed -n '4s/^# *//p' "$0" >&2
	exit 64
}
folder=$1
command=$2
shift 2
target=x86_64-unknown-freebsd
mkdir -p "$folder"
FREEBSD_TARGET_DIR=$(cd "$folder" && pwd)
export FREEBSD_TARGET_DIR

if [ -n "${FREEBSD_SYSROOT:-}" ]; then
	for program in clang ld.lld; do
		command -v "$program" >/dev/null 2>&1 || {
			echo "freebsd: $program is needed with FREEBSD_SYSROOT" >&2
			exit 1
		}
	done
	[ -e "$FREEBSD_SYSROOT/usr/lib/crt1.o" ] || {
		echo "freebsd: $FREEBSD_SYSROOT is no FreeBSD system: it has no usr/lib/crt1.o" >&2
		exit 1
	}
	release=$(sed -n 's/^#define[[:space:]]*__FreeBSD_version[[:space:]]*\([0-9]*\)[0-9]\{5\}.*/\1/p' \
		"$FREEBSD_SYSROOT/usr/include/sys/param.h")
	export CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER=clang
	export CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_RUSTFLAGS="\
-Clink-arg=--target=x86_64-unknown-freebsd${release:-13} \
-Clink-arg=--sysroot=$FREEBSD_SYSROOT -Clink-arg=-fuse-ld=lld"
	cargo=/usr/bin/cargo
else
	tools=$FREEBSD_TARGET_DIR/tools
	if [ ! -e "$tools/complete" ]; then
		rm -rf "$tools"
		python3 -m venv "$tools"
		"$tools/bin/pip" install --quiet ziglang==0.17.1 cargo-zigbuild==0.24.1
		: >"$tools/complete"
	fi
	FREEBSD_PATH=$tools/bin
	export FREEBSD_PATH
	cargo=$tools/bin/cargo-zigbuild
	[ "$command" != build ] || command=zigbuild
fi

exec sh regress/freebsd/toolchain.sh run "$cargo" "$command" -Zbuild-std=std,panic_abort \
	--target "$target" --locked "$@"
