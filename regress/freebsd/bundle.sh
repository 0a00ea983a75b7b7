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
output=$tree/target/freebsd-bundle
bundle=$output/hast-freebsd
if [ -n "${FREEBSD_SYSROOT:-}" ]; then
	linked="clang and lld against $FREEBSD_SYSROOT"
	build=$output/sysroot
else
	linked="zig, FreeBSD 14"
	build=$output/zig
fi
built=$build/x86_64-unknown-freebsd

sh regress/freebsd/toolchain.sh install

sh regress/freebsd/cross.sh "$build" build --release --bins
# The tests are built as they are tested elsewhere, with debug assertions; names of functions are
# all that a backtrace needs there.
CARGO_PROFILE_DEV_DEBUG=0
export CARGO_PROFILE_DEV_DEBUG
sh regress/freebsd/cross.sh "$build" build --workspace --bins
sh regress/freebsd/cross.sh "$build" test --workspace --no-run --message-format=json \
	>"$build/tests.json"

rm -rf "$bundle"
mkdir -p "$bundle/tests" "$bundle/programs" "$bundle/tree"

sh etc/install.sh "$bundle/root" /usr/local "$built/release" FreeBSD
# What the regression tests start: built as they are.
for program in "$built/debug/"*; do
	if [ -f "$program" ] && [ -x "$program" ]; then
		cp "$program" "$bundle/programs/"
	fi
done

# <folder of the package> <kind> <name> <path>, one line per test binary.
python3 - "$build/tests.json" >"$bundle/tests.list" <<'PYTHON'
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
