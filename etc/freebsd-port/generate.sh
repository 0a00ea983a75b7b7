#!/bin/sh
# Makes the port: the files beside this one, Makefile.crates, which lists the crates of Cargo.lock,
# and pkg-plist, which lists what etc/install.sh installs. Output: target/freebsd-port/.
set -eu
cd "$(dirname "$0")/../.."
port=target/freebsd-port
rm -rf "$port"
mkdir -p "$port"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
sed "s/^DISTVERSION=.*/DISTVERSION=	$version/" etc/freebsd-port/Makefile >"$port/Makefile"
cp etc/freebsd-port/pkg-descr etc/freebsd-port/pkg-message "$port/"

{
	echo "# Generated from Cargo.lock."
	printf 'CARGO_CRATES='
	# Packages that have a source come from the registry; the others are this tree.
	awk '
		/^\[\[package\]\]/ { name = version = "" }
		$1 == "name" { name = $3 }
		$1 == "version" { version = $3 }
		$1 == "source" {
			gsub(/"/, "", name)
			gsub(/"/, "", version)
			printf "%s\t%s-%s", (count++ ? " \\\n" : ""), name, version
		}
		END { print "" }' Cargo.lock
} >"$port/Makefile.crates"

mkdir "$work/programs"
: >"$work/programs/hastd"
printf '#!/bin/sh\n' >"$work/programs/hastctl"
chmod +x "$work/programs/hastctl"
sh etc/install.sh "$work/root" /PREFIX "$work/programs" FreeBSD
# The administrator's files are installed as samples; the licence is the framework's to install.
(cd "$work/root/PREFIX" && find . -type f | LC_ALL=C sort) |
	sed 's,^\./,,; s,^share/examples/hast,%%EXAMPLESDIR%%,; s,^\(etc/.*\.sample\)$,@sample \1,' |
	grep -v '^share/licenses/' >"$port/pkg-plist"

echo "$port: $(grep -c '^	\|=	' "$port/Makefile.crates") crates, $(wc -l <"$port/pkg-plist") files"
