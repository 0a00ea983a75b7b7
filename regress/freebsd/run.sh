#!/bin/sh
# The suite of hast in a FreeBSD machine: unit tests, break-out tests, scenarios, and
# interoperability with the base system's hastd. To be run as root in a virtual machine that is there
# for it, with nothing but the base system; everything is in the folder of this script.
#
#   run.sh [pattern ...]	the cases whose names match one of the shell patterns; all otherwise
#   run.sh --list		their names
#
# One line per case, the last line is `N passed, N failed, N skipped`; exits 0 if none failed. Logs
# are in $HAST_LOGS (/tmp/hast-logs). HAST_PATIENCE: seconds that a condition is waited for (300);
# HAST_LIMIT: seconds that a case may take (1800); HAST_ALL=1: every combination of replication,
# checksum and compression instead of nine that have each pair.
set -u

here=$(cd "$(dirname "$0")" && pwd)
: "${HAST_LOGS:=/tmp/hast-logs}"
# Programs of a release for the scenarios; those with assertions for the tests that start some.
hastd=${HASTD:-$here/root/usr/local/sbin/hastd}
hastctl=${HASTCTL:-$here/root/usr/local/sbin/hastctl}
export hastd hastctl HAST_LOGS

# shellcheck source=regress/freebsd/lib.sh disable=SC1091
. "$here/lib.sh"

# The files of cases define functions case_<name>.
for file in "$here"/cases/*.sh; do
	# shellcheck disable=SC1090 # each of them
	. "$file"
done

# All names: test binaries, then functions in the order of their files, then combinations.
names()
{
	while read -r file _; do
		echo "test:$file"
	done <"$here/tests/LIST"
	sed -n 's/^case_\([a-z_0-9]*\)()$/\1/p' "$here"/cases/*.sh
	interop_combinations
}

# A binary of unit or regression tests, run where it expects to be.
test_binary()
{
	[ -x "$here/tests/$1" ] || fail "there is no tests/$1"
	directory=$(awk -v file="$1" '$1 == file { print $2 }' "$here/tests/LIST")
	cd "$here/tree/$directory" || fail "there is no tree/$directory"
	CARGO_MANIFEST_DIR=$(pwd)
	HAST_PROGRAMS=$here/programs
	INSTA_UPDATE=no
	INSTA_FORCE_PASS=0
	INSTA_WORKSPACE_ROOT=$here/tree
	RUST_BACKTRACE=1
	export CARGO_MANIFEST_DIR HAST_PROGRAMS INSTA_UPDATE INSTA_FORCE_PASS INSTA_WORKSPACE_ROOT \
		RUST_BACKTRACE
	must "$here/tests/$1"
}

# One case, in a process of its own.
run_case()
{
	# At the end of the shell $1 may be that of the script.
	case_name=$1
	work=$(mktemp -d /tmp/hast.XXXXXX)
	# The workers' user has to get through.
	chmod 0755 "$work"
	case $1 in
	test:*)
		trap 'rm -rf "$work"' EXIT
		test_binary "${1#test:}"
		;;
	*)
		trap 'status=$?; trap "" TERM; keep_logs "$case_name"; cleanup >/dev/null 2>&1
			rm -rf "$work"; exit $status' EXIT
		trap 'exit 124' TERM INT
		case $1 in
		interop:*) interop_combination "$1" ;;
		*) "case_$1" ;;
		esac
		;;
	esac
}

keep_logs()
{
	for node in a b; do
		[ ! -s "$work/$node.log" ] || cp "$work/$node.log" "$HAST_LOGS/$1.$node"
	done
}

selected()
{
	[ $# -gt 1 ] || return 0
	name=$1
	shift
	for pattern in "$@"; do
		# shellcheck disable=SC2254 # a pattern
		case $name in
		$pattern) return 0 ;;
		esac
	done
	return 1
}

# The paths that are built into the tests lead to the tree of this folder, for the time of the run.
made_tree=""
place_tree()
{
	tree=$(cat "$here/TREE")
	[ ! -e "$tree" ] || return 0
	mkdir -p "$(dirname "$tree")" && ln -s "$here/tree" "$tree" && made_tree=$tree
}

case "${1:-}" in
--list)
	names
	exit
	;;
--case)
	run_case "$2"
	exit
	;;
-*)
	echo "usage: run.sh [--list | pattern ...]" >&2
	exit 64
	;;
esac

if [ "$(uname -s)" != FreeBSD ]; then
	echo "run.sh: this is $(uname -s), not FreeBSD" >&2
	exit 69
fi
mkdir -p "$HAST_LOGS"
trap '[ -z "$made_tree" ] || rm -f "$made_tree"' EXIT
place_tree

echo "$(head -n 1 "$here/VERSION") on $(uname -sr), $(uname -m)"
for name in $(names); do
	selected "$name" "$@" || continue
	log=$HAST_LOGS/$name.log
	status=0
	timeout -k 60 "$HAST_LIMIT" sh "$here/run.sh" --case "$name" >"$log" 2>&1 </dev/null || status=$?
	verdict "$name" "$status" "$log"
done
summary
