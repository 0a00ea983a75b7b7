# One cluster of ours: what everybody does with it.
# shellcheck shell=sh disable=SC2034,SC2154,SC2209 # work, hastctl: run.sh

case_create_role_newfs_mount_status()
{
	cluster
	must newfs -U "$(device a)"
	mkdir "$work/mnt"
	must mount "$(device a)" "$work/mnt"
	must cp -R /etc "$work/mnt/"
	must diff -r /etc "$work/mnt/etc"
	must umount "$work/mnt"
	must fsck_ffs -n "$(device a)"
	wait_for copies_are_equal
	equal primary "$(ctl a list test | field role)"
	equal secondary "$(ctl b list test | field role)"
	ctl a status test | grep -q '^test.*complete.*primary' || fail "status does not say so"
	stop a
	[ ! -e "$(device a)" ] || fail "the device outlives its role"
	stop b
}

case_processes_are_confined()
{
	cluster
	for node in a b; do
		process=$(worker $node)
		equal hast "$(ps -o user= -p "$process" | tr -d ' ')"
		[ "$(ps -o jid= -p "$process" | tr -d ' ')" != 0 ] || fail "worker of $node: no jail"
		# FLAGS of procstat, before the groups: C for capability mode.
		procstat -s "$process" | awk 'NR > 1 { print $(NF - 1) }' | grep -q C ||
			fail "worker of $node: not in capability mode: $(procstat -s "$process")"
		procstat -f "$process"
	done
}

# Descriptors of a worker: the standard ones, the channel, the disk, ggctl, the peer's two sockets,
# the wake-ups of driver and gate. No file besides.
case_census_of_descriptors()
{
	cluster
	for node in a b; do
		process=$(worker $node)
		procstat -f "$process" | tee "$work/census"
		equal 0 "$(awk -v disk="$(disk $node)" \
			'$4 == "v" && $3 + 0 > 2 && $NF != disk && $NF !~ /ggctl/' "$work/census" | wc -l | tr -d ' ')"
		open=$(awk '$3 ~ /^[0-9]+$/' "$work/census" | wc -l)
		[ "$open" -le 16 ] || fail "worker of $node: $open descriptors"
	done
	# The daemon holds no connection to a peer, and no disk.
	procstat -f "$(cat "$work/a.daemon")" | tee "$work/census"
	! grep -q "$(disk a)" "$work/census" || fail "the daemon holds the disk"
}

case_whole_disks_are_written_and_read()
{
	cluster
	size=$(diskinfo "$(device a)" | awk '{ print $3 }')
	dd if=/dev/random of="$work/image" bs=512 count=$((size / 512)) 2>/dev/null
	must dd if="$work/image" of="$(device a)" bs=1m
	must cmp "$work/image" "$(device a)"
	wait_for copies_are_equal
	must_not dd if=/dev/zero of="$(device a)" bs=512 seek=$((size / 512)) count=1
}

case_deletes_reach_both_copies()
{
	command -v trim >/dev/null || skip "no trim(8)"
	cluster
	write a 0 4096
	wait_for copies_are_equal
	must trim -f "$(device a)"
	write a 100 10
	wait_for copies_are_equal
	# While the secondary is away, too.
	write a 8192 4096
	stop b
	wait_for is_degraded a
	must trim -f -o 8m -l 2m "$(device a)"
	start b ours
	role b secondary
	wait_for is_complete a
	wait_for copies_are_equal
}

case_hooks_hear_of_everything()
{
	cat >"$work/hook" <<-HOOK
		#!/bin/sh
		echo "\$*" >>"$work/events"
	HOOK
	chmod +x "$work/hook"
	hook=$work/hook
	: >"$work/events"
	cluster
	wait_for grep -q '^role test init primary' "$work/events"
	wait_for grep -q '^role test init secondary' "$work/events"
	wait_for grep -q '^connect test' "$work/events"
	stop b
	wait_for grep -q '^disconnect test' "$work/events"
}

case_reload_adds_resources_and_keeps_the_device()
{
	cluster
	must newfs "$(device a)"
	mkdir "$work/mnt"
	must mount "$(device a)" "$work/mnt"
	process=$(worker a)
	for node in a b; do
		must truncate -s 16m "$work/more-$node.img"
	done
	more=more
	checksum=crc32
	configure
	for node in a b; do
		must kill -HUP "$(cat "$work/$node.daemon")"
		wait_for ctl $node list more
	done
	equal "$process" "$(worker a)"
	must cp /etc/services "$work/mnt/"
	must umount "$work/mnt"
	# A configuration that is not right changes nothing.
	echo "resource {" >>"$work/hast.conf"
	must kill -HUP "$(cat "$work/a.daemon")"
	wait_for grep -q 'hast.conf' "$work/a.log"
	configure
	equal primary "$(ctl a list test | field role)"
}

case_rc_script()
{
	nodes
	create a ours
	# The node is called as this host is: the script gives no name.
	sed "s,/usr/local,$here/root/usr/local,g" "$here/root/usr/local/etc/rc.d/hastd" >"$work/rc"
	hastd_config=$work/hast.conf
	hastd_pidfile=$work/a.pid
	export hastd_config hastd_pidfile
	must sh "$work/rc" onestart
	wait_for test -s "$work/a.pid"
	cp "$work/a.pid" "$work/a.daemon"
	must sh "$work/rc" onestatus
	must_not sh "$work/rc" onestart
	wait_for ctl a list test
	role a primary
	must sh "$work/rc" onereload
	must sh "$work/rc" onestop
	wait_for is_gone "$(cat "$work/a.daemon")"
	[ ! -e "$(device a)" ] || fail "stop does not give the role up"
	must_not sh "$work/rc" onestatus
}
