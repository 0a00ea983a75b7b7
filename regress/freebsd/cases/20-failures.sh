# One cluster of ours: what happens to it.
# shellcheck shell=sh disable=SC2034,SC2154

# A worker dies under a mounted file system that is being written to: no application sees an error.
case_takeover_of_a_device_in_use()
{
	cluster
	must newfs -U "$(device a)"
	mkdir "$work/mnt"
	must mount "$(device a)" "$work/mnt"
	(
		number=0
		while [ ! -e "$work/enough" ]; do
			number=$((number + 1))
			dd if=/dev/random of="$work/mnt/file" bs=64k count=32 conv=fsync 2>/dev/null ||
				echo "$number" >>"$work/errors"
			echo "$number" >"$work/progress"
		done
	) &
	writer=$!
	round=0
	while [ "$round" -lt 3 ]; do
		round=$((round + 1))
		before=$(cat "$work/progress" 2>/dev/null || echo 0)
		process=$(worker a)
		must kill -9 "$process"
		wait_for has_other_worker a "$process"
		wait_for has_progressed "$before"
	done
	: >"$work/enough"
	wait "$writer"
	[ ! -e "$work/errors" ] || fail "applications saw errors: $(cat "$work/errors")"
	grep -q 'recovered' "$work/a.log" || fail "the device was not taken over"
	must umount "$work/mnt"
	must fsck_ffs -n "$(device a)"
	wait_for is_complete a
	wait_for copies_are_equal
}

has_other_worker()
{
	new=$(worker "$1")
	[ -n "$new" ] && [ "$new" != 0 ] && [ "$new" != "$2" ]
}

has_progressed()
{
	[ "$(cat "$work/progress" 2>/dev/null || echo 0)" -gt $(($1 + 1)) ]
}

case_failover_with_fsck()
{
	cluster
	must newfs -U "$(device a)"
	mkdir "$work/mnt"
	must mount "$(device a)" "$work/mnt"
	must cp -R /etc "$work/mnt/"
	# With soft updates fsync(2) puts a file's name onto the disk, but not that of a new directory
	# above it; sync(8) does not wait. So it is on any disk.
	must fsync "$work/mnt/etc/services" "$work/mnt/etc" "$work/mnt"
	crash a
	destroy_gate hast/testa
	umount -f "$work/mnt"
	role b primary
	must fsck_ffs -p "$(device b)"
	must mount "$(device b)" "$work/mnt"
	must cmp /etc/services "$work/mnt/etc/services"
	must cp /etc/services "$work/mnt/after"
	must umount "$work/mnt"
	# The old primary comes back as secondary and gets what it has missed.
	start a ours
	role a secondary
	wait_for is_complete b
	wait_for copies_are_equal
}

case_a_secondary_takes_away_a_dead_primarys_device()
{
	cluster
	crash a
	[ -e "$(device a)" ] || fail "the provider went with its worker"
	role b primary
	start a ours
	role a secondary
	wait_for is_complete b
	[ ! -e "$(device a)" ] || fail "a secondary has a device"
}

case_degraded_writes_are_synchronised_and_no_more()
{
	cluster
	write a 0 8192
	wait_for copies_are_equal
	stop b
	wait_for is_degraded a
	write a 16384 64
	write a 30000 3
	must_not copies_are_equal
	start b ours
	role b secondary
	wait_for is_complete a
	wait_for copies_are_equal
	# 4 extents of 2 MiB at the very most, and not the whole disk.
	grep 'Synchronization complete' "$work/a.log" | tail -n 1
}

case_the_first_write_after_the_secondary_left_is_not_lost()
{
	for replication in memsync fullsync async; do
		say "replication $replication"
		[ "$replication" != memsync ] || cluster
		configure
		must kill -HUP "$(cat "$work/a.daemon")"
		must ctl b role init test
		write a 1024 4
		write a 2048 4
		role b secondary
		wait_for is_complete a
		wait_for copies_are_equal
	done
}

case_split_brain_is_noticed_and_mended()
{
	cluster
	write a 0 64
	crash b
	wait_for is_degraded a
	write a 64 64
	crash a
	destroy_gate hast/testa
	start b ours
	role b primary
	write b 128 64
	must ctl b role init test
	start a ours
	role a primary
	role b secondary
	wait_for grep -q 'Split-brain condition' "$work/a.log"
	must_not is_complete a
	# The way back that the handbook tells: the copy that is given up is made anew.
	must ctl b role init test
	create b ours
	role b secondary
	wait_for is_complete a
	wait_for copies_are_equal
}

# Whatever the peer does, the device answers from the moment it exists.
case_a_device_without_peer_is_served_at_once()
{
	nodes
	create a ours
	start a ours
	role a primary
	must timeout "$HAST_PATIENCE" dd if="$(device a)" of=/dev/null bs=64k count=16
	wait_for is_degraded a
	write a 0 64
}

# The kernel looks at a device that was made or written to, and asks its worker for that. A worker
# that is killed meanwhile does not end before it was answered, which the next one has to do.
case_takeover_while_the_kernel_looks_at_the_device()
{
	cluster
	(
		while [ ! -e "$work/enough" ]; do
			dd if=/dev/zero of="$(device a)" bs=64k count=1 2>/dev/null || echo error >>"$work/errors"
			echo >>"$work/progress"
		done
	) &
	writer=$!
	round=0
	while [ "$round" -lt 4 ]; do
		round=$((round + 1))
		process=$(worker a)
		must kill -9 "$process"
		before=$(wc -l <"$work/progress")
		wait_for has_written_more "$before"
	done
	: >"$work/enough"
	wait "$writer"
	[ ! -e "$work/errors" ] || fail "applications saw errors"
	wait_for is_complete a
	wait_for copies_are_equal
}

has_written_more()
{
	[ "$(wc -l <"$work/progress")" -gt $(($1 + 2)) ]
}
