# Ours with the base system's hastd and hastctl, which is always node a.
# shellcheck shell=sh disable=SC2034,SC2154

need_theirs()
{
	if [ ! -x "$theirs" ] || [ ! -x "$their_ctl" ]; then
		skip "no $theirs"
	fi
}

# interop:<who is primary>:<replication>:<checksum>:<compression>, one a line.
interop_combinations()
{
	[ -x "$theirs" ] || return 0
	for primary in theirs ours; do
		first=0
		for mode in memsync fullsync async; do
			first=$((first + 1))
			second=0
			for sum in none crc32 sha256; do
				second=$((second + 1))
				third=0
				for packing in none hole lzf; do
					third=$((third + 1))
					# Nine of 27, so that each pair of values is among them.
					if [ -n "${HAST_ALL:-}" ] || [ $(((first + second + third) % 3)) -eq 0 ]; then
						echo "interop:$primary:$mode:$sum:$packing"
					fi
				done
			done
		done
	done
}

interop_combination()
{
	need_theirs
	old_ifs=$IFS
	IFS=:
	# shellcheck disable=SC2086 # to be split
	set -- $1
	IFS=$old_ifs
	replication=$3
	checksum=$4
	compression=$5
	nodes
	create a theirs
	create b ours
	start a theirs
	start b ours
	case $2 in
	theirs) first=a second=b ;;
	ours) first=b second=a ;;
	esac
	role "$second" secondary
	role "$first" primary
	wait_for is_complete "$first"
	write "$first" 0 4096
	# What compression is for: text, and nothing.
	must dd if=/bin/sh of="$(device "$first")" bs=64k seek=100 conv=sync
	must dd if=/dev/zero of="$(device "$first")" bs=128k seek=100 count=20
	write "$first" 20480 3
	wait_for copies_are_equal
	# The original loses the first write after its secondary has left.
	[ "$2" = ours ] || return 0
	# A secondary that was away.
	must ctl "$second" role init test
	wait_for is_degraded "$first"
	write "$first" 24576 64
	role "$second" secondary
	wait_for is_complete "$first"
	write "$first" 25000 1
	wait_for copies_are_equal
}

case_interop_roles_are_swapped_in_the_middle()
{
	need_theirs
	nodes
	create a theirs
	create b ours
	start a theirs
	start b ours
	role b secondary
	role a primary
	wait_for is_complete a
	at=0
	for round in 1 2 3; do
		say "round $round"
		write a "$at" 512
		must ctl a role secondary test
		role b primary
		wait_for is_complete b
		at=$((at + 512))
		dd if="$(device b)" of="$work/back" bs=1k skip=$((at - 512)) count=512 2>/dev/null
		cmp -s "$work/block" "$work/back" || fail "b has not what a wrote"
		write b "$at" 512
		must ctl b role secondary test
		role a primary
		wait_for is_complete a
		at=$((at + 512))
		dd if="$(device a)" of="$work/back" bs=1k skip=$((at - 512)) count=512 2>/dev/null
		cmp -s "$work/block" "$work/back" || fail "a has not what b wrote"
	done
	wait_for copies_are_equal
}

# The same disk under one daemon after the other: a node is migrated, and back.
case_interop_a_node_is_migrated_and_back()
{
	need_theirs
	nodes
	create a theirs
	create b ours
	start b ours
	role b secondary
	at=0
	for who in theirs ours theirs ours; do
		start a "$who"
		role a primary
		wait_for is_complete a
		[ "$at" -eq 0 ] || {
			dd if="$(device a)" of="$work/back" bs=1k skip=$((at - 64)) count=64 2>/dev/null
			cmp -s "$work/block" "$work/back" || fail "$who does not read what the other wrote"
		}
		write a "$at" 64
		at=$((at + 64))
		must ctl a role init test
		stop a
	done
	wait_for copies_are_equal
}

case_interop_a_disk_of_ours_opens_in_theirs()
{
	need_theirs
	creator_a=ours
	cluster theirs
	write a 0 64
	wait_for copies_are_equal
	for program in "$hastctl" "$their_ctl"; do
		"$program" dump -c "$work/hast.conf" test >"$work/dump.$(basename "$(dirname "$program")")"
	done
	must cmp "$work"/dump.*
}

# Their hastctl with our daemon, ours with theirs: the same answers.
case_interop_control()
{
	need_theirs
	for who in ours theirs; do
		say "daemon: $who"
		[ "$who" = theirs ] || nodes
		create a theirs
		start a "$who"
		for control in ours theirs; do
			must ctl a role secondary test
			equal secondary "$(ctl a list test | field role)"
			must ctl a role primary test
			wait_for is_degraded a
			ctl a list test | sed '/statistics/,$d; /workerpid/d' >"$work/list.$control"
			must ctl a status test
			must ctl a role init test
			must_not ctl a role primary nosuch
		done
		control=""
		must diff "$work/list.ours" "$work/list.theirs"
		stop a
	done
}
