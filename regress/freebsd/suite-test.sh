#!/bin/sh
# Tests run.sh and lib.sh where there is no FreeBSD: a bundle of a few cases, with stubs for what
# only FreeBSD has. Prints one line per case; exits 1 if any failed.
#
#   suite-test.sh [shell]	HASTCTL: a hastctl that checks the configuration which lib.sh writes
set -eu
here=$(cd "$(dirname "$0")" && pwd)
shell=$(command -v "${1:-sh}")
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
mkdir -p "$top/bundle/cases" "$top/bundle/tests" "$top/bundle/tree/sub" "$top/bin" "$top/logs"

stub()
{
	{
		echo "#!$shell"
		cat
	} >"$top/bin/$1"
	chmod +x "$top/bin/$1"
}
echo 'case $* in -s) echo FreeBSD ;; -n) echo thishost ;; *) echo FreeBSD test ;; esac' | stub uname
echo 'exit 0' | stub sleep
for command in mount sysctl mdconfig ggatel; do
	echo "echo $command \$* >>$top/calls" | stub "$command"
done
# There is no process to kill.
echo "echo pkill \$* >>$top/calls; exit 1" | stub pkill
# The shell that is tested runs the cases as well.
ln -s "$shell" "$top/bin/sh"

cp "$here/run.sh" "$here/lib.sh" "$top/bundle/"
echo "hast test" >"$top/bundle/VERSION"
echo "$top/built/here" >"$top/bundle/TREE"
printf 'good sub\nbad .\n' >"$top/bundle/tests/LIST"
cat >"$top/bundle/tests/good" <<TEST
#!$shell
[ "\$(pwd)" = "$top/bundle/tree/sub" ] && [ -d "$top/built/here/sub" ] &&
	[ "\$HAST_PROGRAMS" = "$top/bundle/programs" ]
TEST
printf '#!%s\nexit 101\n' "$shell" >"$top/bundle/tests/bad"
chmod +x "$top/bundle/tests/good" "$top/bundle/tests/bad"
cat >"$top/bundle/cases/10.sh" <<'CASES'
case_passes()
{
	must true
	must_not false
	printf 'test:\n  role: primary\n  dirty: 0 (0B)\n' >"$work/list"
	equal primary "$(field role <"$work/list")"
	equal "" "$(field nosuch <"$work/list")"
}

case_fails()
{
	equal 1 2
}

case_waits_in_vain()
{
	wait_for false
}

case_is_skipped()
{
	skip "not here"
}

case_hangs()
{
	/bin/sleep 60
}
CASES
cat >"$top/bundle/cases/20.sh" <<'CASES'
interop_combinations()
{
	echo interop:ours:async
}

interop_combination()
{
	equal interop:ours:async "$1"
}
CASES

right=0
wrong=0
case_is()
{
	if [ "$2" = "$3" ]; then
		right=$((right + 1))
		echo "ok $1"
	else
		wrong=$((wrong + 1))
		printf 'FAILED %s\nexpected: %s\nfound:    %s\n' "$1" "$2" "$3"
	fi
}

run()
{
	status=0
	output=$(env PATH="$top/bin:$PATH" HAST_LOGS="$top/logs" HAST_PATIENCE=2 HAST_LIMIT=5 \
		"$shell" "$top/bundle/run.sh" "$@" 2>&1) || status=$?
	output=$(echo "$output" | sed "s,$top,TOP,g")
}

run --list
case_is "names of binaries, cases and combinations" "test:good test:bad passes fails waits_in_vain is_skipped hangs interop:ours:async" \
	"$(echo "$output" | tr '\n' ' ' | sed 's/ $//')"
run
case_is "a line for each case, and the sum" "1 hast test on FreeBSD test, FreeBSD test
ok test:good
FAILED test:bad: exit status 101 of: TOP/bundle/tests/bad; see TOP/logs/test:bad.log
ok passes
FAILED fails: expected '1', found '2'; see TOP/logs/fails.log
FAILED waits_in_vain: after 2 s this is still not so: false; see TOP/logs/waits_in_vain.log
skip is_skipped: not here
FAILED hangs: more than 5 s; see TOP/logs/hangs.log
ok interop:ours:async
3 passed, 4 failed, 1 skipped" "$status $output"
case_is "every scenario was cleaned up after, the one that hung too" 6 \
	"$(grep -c '^pkill' "$top/calls")"
case_is "the place of the tree is gone again" "" "$(ls "$top/built")"
run 'pass*' 'is_*'
case_is "patterns choose" "0 2" "$status $(echo "$output" | grep -c -e '^ok passes' -e '^skip is_')"
run --nonsense
case_is "wrong usage" 64 "$status"

# The configuration of two nodes, for every name.
(
	# shellcheck disable=SC2034 # read by configure, as what follows
	work=$top
	PATH=$top/bin:$PATH
	# shellcheck source=regress/freebsd/lib.sh disable=SC1091
	. "$here/lib.sh"
	# shellcheck disable=SC2034 # read by configure
	more=more hook=/bin/true
	echo md7 >"$top/a.disk"
	echo md8 >"$top/b.disk"
	configure
)
case_is "a node is called as the host, each has its address and device" \
	"thishost 127.0.0.1 b 127.0.0.2 testa /dev/md7 testb /dev/md8" \
	"$(awk '$1 == "on" && !seen[$2]++ { print $2 }
		$1 == "listen" { sub(".*/", "", $2); print $2 }
		$1 == "local" && /md/ { print $2 }
		$1 == "name" && /test/ { print $2 }' "$top/hast.conf" | tr '\n' ' ' | sed 's/ $//')"
if [ -n "${HASTCTL:-}" ]; then
	for node in thishost b; do
		status=0
		output=$("$HASTCTL" config check -c "$top/hast.conf" -N "$node" 2>&1) || status=$?
		case_is "the configuration is right for $node" "0" "$status"
		[ "$status" -eq 0 ] || echo "$output"
	done
fi

echo "$right passed, $wrong failed"
[ "$wrong" -eq 0 ]
