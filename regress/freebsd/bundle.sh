#!/bin/sh
# Builds a tar for a FreeBSD machine that has only the base system: programs, manual pages, files of
# etc/, every unit-test and regression binary, their data, and the suite that runs them.
#
# By default zig links, for FreeBSD 14 and later. With FREEBSD_SYSROOT=<dir>, an unpacked base.txz of
# the system, clang and lld link against it (13.x, or any later one).
#
# Output: target/freebsd-bundle/hast-freebsd.tar.gz
set -eu
cd "$(dirname "$0")/../.."
tree=$(pwd)
target=x86_64-unknown-freebsd
# Another one than that of the checks: linkers differ, and each would make the other build all anew.
output=$tree/target/freebsd-bundle
tools=$output/tools
bundle=$output/hast-freebsd
FREEBSD_TARGET_DIR=$output
export FREEBSD_TARGET_DIR
mkdir -p "$output"

sh regress/freebsd/toolchain.sh install

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
	build=/usr/bin/cargo
	verb=build
	linked="clang and lld, FreeBSD ${release:-13}"
else
	if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
		python3 -m venv "$tools"
		"$tools/bin/pip" install --quiet ziglang==0.17.1 cargo-zigbuild==0.24.1
	fi
	build=$tools/bin/cargo-zigbuild
	verb=zigbuild
	FREEBSD_PATH=$tools/bin
	export FREEBSD_PATH
	linked="zig, FreeBSD 14"
fi

# cargo, for FreeBSD: a command and its options.
cross()
{
	command=$1
	shift
	sh regress/freebsd/toolchain.sh run "$build" "$command" -Zbuild-std=std,panic_abort \
		--target "$target" --locked "$@"
}

cross "$verb" --release --bins
# The tests are built as they are tested elsewhere, with debug assertions.
cross test --workspace --no-run --message-format=json >"$output/tests.json"
cross "$verb" --workspace --bins

rm -rf "$bundle"
mkdir -p "$bundle/tests" "$bundle/programs" "$bundle/tree"

sh etc/install.sh "$bundle/root" /usr/local "$output/$target/release" FreeBSD
# What the regression tests start: built as they are.
for program in "$output/$target/debug/"*; do
	if [ -f "$program" ] && [ -x "$program" ]; then
		cp "$program" "$bundle/programs/"
	fi
done

# <folder of the package> <kind> <name> <path>, one line per test binary.
python3 - "$output/tests.json" >"$bundle/tests.list" <<'PYTHON'
import json, os, sys

for line in open(sys.argv[1]):
    message = json.loads(line)
    if message.get("reason") != "compiler-artifact" or not message.get("executable"):
        continue
    if not message["profile"]["test"]:
        continue
    directory = os.path.relpath(os.path.dirname(message["manifest_path"]))
    kind = message["target"]["kind"][0]
    print(directory, kind, message["target"]["name"], message["executable"])
PYTHON
: >"$bundle/tests/LIST"
while read -r directory kind name path; do
	[ "$kind" != bench ] || continue
	package=$directory
	[ "$directory" != . ] || package=hast
	file=$package-$kind-$name
	cp "$path" "$bundle/tests/$file"
	echo "$file $directory" >>"$bundle/tests/LIST"
done <"$bundle/tests.list"
rm "$bundle/tests.list"

# Files that tests read, at their places in the tree. Their names are built into the tests as
# absolute paths: the suite makes the place where this tree is now lead there.
git ls-files regress/data regress/etc regress/freebsd etc docs man '*.snap' '*.toml' |
	while read -r file; do
		mkdir -p "$bundle/tree/$(dirname "$file")"
		cp "$file" "$bundle/tree/$file"
	done
echo "$tree" >"$bundle/TREE"

cp regress/freebsd/run.sh regress/freebsd/two-nodes.sh regress/freebsd/lib.sh \
	regress/freebsd/Kyuafile "$bundle/"
mkdir -p "$bundle/cases"
cp regress/freebsd/cases/*.sh "$bundle/cases/"
cp docs/freebsd.md LICENSE "$bundle/"
cat >"$bundle/VERSION" <<VERSION
hast $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1), $(git rev-parse --short HEAD)
linked by $linked; $(/usr/bin/rustc --version)
VERSION

tar -C "$(dirname "$bundle")" -czf "$bundle.tar.gz" "$(basename "$bundle")"
echo "freebsd: $bundle.tar.gz: $(wc -l <"$bundle/tests/LIST") test binaries, linked by $linked"
