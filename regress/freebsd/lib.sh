# Sourced by run.sh and two-nodes.sh: cases, conditions, nodes. POSIX sh and FreeBSD's base system.
# shellcheck shell=sh disable=SC2034,SC2154 # shared with the files that source this

# Seconds that a condition is waited for. A machine that is emulated, and twenty times slower than
# real, is meant to pass: what is well takes as long as it takes, only failures take this long.
: "${HAST_PATIENCE:=300}"
# Seconds that a whole case may take.
: "${HAST_LIMIT:=1800}"

# Exit status of a case that cannot be run here.
SKIPPED=77

# ---- cases

# A line of the log of a case.
say()
{
	echo "== $*"
}

# Ends a case.
fail()
{
	say "FAILED: $*"
	exit 1
}

skip()
{
	say "skipped: $*"
	exit "$SKIPPED"
}

# Waits until a command succeeds, looking each second; what failed to happen is said.
wait_for()
{
	left=$HAST_PATIENCE
	until "$@"; do
		[ "$left" -gt 0 ] || fail "after $HAST_PATIENCE s this is still not so: $*"
		left=$((left - 1))
		sleep 1
	done
}

# Runs a command that must succeed.
must()
{
	say "$*"
	"$@" || fail "exit status $? of: $*"
}

# Runs a command that must not succeed.
must_not()
{
	say "not: $*"
	if "$@"; then
		fail "this should have failed: $*"
	fi
}

equal()
{
	[ "$1" = "$2" ] || fail "expected '$1', found '$2'"
}

# A field of what `list` says: field <name>, from standard input.
field()
{
	sed -n "s/^[[:space:]]*$1: *//p" | head -n 1
}

# Counts and prints the result of a case: verdict <name> <exit status> <log>.
passed=0
failed=0
skipped=0
verdict()
{
	case $2 in
	0)
		passed=$((passed + 1))
		echo "ok $1"
		;;
	"$SKIPPED")
		skipped=$((skipped + 1))
		echo "skip $1: $(sed -n 's/^== skipped: //p' "$3" | tail -n 1)"
		;;
	*)
		failed=$((failed + 1))
		reason=$(sed -n 's/^== FAILED: //p' "$3" | tail -n 1)
		[ "$2" -ne 124 ] || reason="more than $HAST_LIMIT s"
		echo "FAILED $1: ${reason:-exit status $2}; see $3"
		;;
	esac
}

summary()
{
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ]
}

# ---- nodes
#
# Two of them on this host: a, which is called as this host is, since the base system's programs
# know no other name, and b. Each has a memory disk and an address of the loopback.

node_a=$(uname -n)
node_b=b
theirs=/sbin/hastd
their_ctl=/sbin/hastctl

replication=memsync
checksum=none
compression=hole
hook=""
more=""

# Size of the disks in MiB.
: "${HAST_DISK_MIB:=48}"

# The name of a node in hast.conf.
named()
{
	eval "echo \"\$node_$1\""
}

configure()
{
	{
		echo "replication $replication"
		echo "checksum $checksum"
		echo "compression $compression"
		[ -z "$hook" ] || echo "exec $hook"
		for node in a b; do
			echo "on $(named $node) {"
			echo "	control $work/$node.ctl"
			echo "	pidfile $work/$node.pid"
			echo "	listen tcp4://$(address $node)"
			echo "}"
		done
		resource_section test ""
		[ -z "$more" ] || resource_section "$more" .img
	} >"$work/hast.conf"
}

# resource_section <name> <suffix>: with a suffix the disks are files.
resource_section()
{
	echo "resource $1 {"
	for node in a b; do
		if [ "$node" = a ]; then peer=b; else peer=a; fi
		echo "	on $(named $node) {"
		echo "		name $1$node"
		if [ -n "$2" ]; then
			echo "		local $work/$1-$node$2"
		else
			echo "		local $(disk $node)"
		fi
		echo "		remote tcp4://$(address $peer)"
		echo "		source tcp4://$(address $node)"
		echo "	}"
	done
	echo "}"
}

address()
{
	case $1 in
	a) echo 127.0.0.1 ;;
	b) echo 127.0.0.2 ;;
	esac
}

disk()
{
	echo "/dev/$(cat "$work/$1.disk")"
}

device()
{
	echo "/dev/hast/test$1"
}

# Makes disks and configuration.
nodes()
{
	[ "$(id -u)" -eq 0 ] || skip "not root"
	ifconfig lo0 | grep -q 'inet 127\.0\.0\.2 ' || must ifconfig lo0 alias 127.0.0.2/32
	for node in a b; do
		mdconfig -a -t swap -s "${HAST_DISK_MIB}m" >"$work/$node.disk" ||
			fail "mdconfig makes no disk"
		: >"$work/$node.log"
		echo ours >"$work/$node.who"
	done
	configure
}

# create <node> ours|theirs
create()
{
	case $2 in
	ours) must "$hastctl" create -c "$work/hast.conf" -N "$(named "$1")" test ;;
	theirs)
		[ "$1" = a ] || fail "the base system's hastctl knows this host's name only"
		must "$their_ctl" create -c "$work/hast.conf" test
		;;
	esac
}

# start <node> ours|theirs: the daemon, and waits until it answers.
start()
{
	say "start $1 ($2)"
	echo "$2" >"$work/$1.who"
	case $2 in
	ours)
		"$hastd" -F -d -c "$work/hast.conf" -N "$(named "$1")" >>"$work/$1.log" 2>&1 &
		;;
	theirs)
		[ "$1" = a ] || fail "the base system's hastd knows this host's name only"
		"$theirs" -F -d -c "$work/hast.conf" >>"$work/$1.log" 2>&1 &
		;;
	esac
	echo $! >"$work/$1.daemon"
	wait_for answers "$1"
}

answers()
{
	kill -0 "$(cat "$work/$1.daemon")" 2>/dev/null ||
		fail "the daemon of $1 has ended: $(tail -n 3 "$work/$1.log")"
	ctl "$1" list test >/dev/null 2>&1
}

# ctl <node> <command> ...: the program that belongs to its daemon, or what $control says.
control=""
ctl()
{
	node=$1
	command=$2
	shift 2
	case ${control:-$(cat "$work/$node.who")} in
	ours) "$hastctl" "$command" -c "$work/hast.conf" -N "$(named "$node")" "$@" ;;
	theirs) "$their_ctl" "$command" -c "$work/hast.conf" "$@" ;;
	esac
}

# Ends a daemon in an orderly way.
stop()
{
	say "stop $1"
	pid=$(cat "$work/$1.daemon")
	kill "$pid"
	wait_for is_gone "$pid"
}

is_gone()
{
	! kill -0 "$1" 2>/dev/null
}

# The process of a node's worker.
worker()
{
	ctl "$1" list test | field workerpid
}

# Ends a daemon and its worker as a failing node would.
crash()
{
	say "crash $1"
	process=$(worker "$1")
	kill -9 "$(cat "$work/$1.daemon")"
	[ -z "$process" ] || [ "$process" = 0 ] || kill -9 "$process" 2>/dev/null || true
	[ -z "$process" ] || [ "$process" = 0 ] || wait_for is_gone "$process"
}

role()
{
	must ctl "$1" role "$2" test
	[ "$2" != primary ] || wait_for test -e "$(device "$1")"
}

is_complete()
{
	[ "$(ctl "$1" list test | field status)" = complete ]
}

is_degraded()
{
	[ "$(ctl "$1" list test | field status)" = degraded ]
}

# Where a node's data area begins.
data_offset()
{
	"$hastctl" dump -c "$work/hast.conf" -N "$(named "$1")" test | field localoff
}

# A checksum of a node's data area, read from the disk.
data_sum()
{
	offset=$(data_offset "$1")
	[ -n "$offset" ] || fail "dump tells no localoff of $1"
	dd if="$(disk "$1")" bs="$offset" skip=1 2>/dev/null | sha256
}

copies_are_equal()
{
	if ! sum_a=$(data_sum a) || ! sum_b=$(data_sum b); then
		fail "the copies cannot be read"
	fi
	[ "$sum_a" = "$sum_b" ]
}

# Takes away a provider of GEOM gate whose worker is dead, as the end of its node would. What uses
# it gets errors; without this it would wait for ever.
destroy_gate()
{
	unit=$(sysctl -n kern.geom.confxml | awk -v name="<name>$1</name>" '
		index($0, name) { found = 1 }
		found && /<unit>/ { gsub(/[^0-9]/, ""); print; exit }')
	[ -z "$unit" ] || ggatel destroy -f -u "$unit"
}

# Writes so many KiB of what nobody knows, at an offset in KiB, and reads them back.
write()
{
	dd if=/dev/random of="$work/block" bs=1k count="$3" 2>/dev/null
	must dd if="$work/block" of="$(device "$1")" bs=1k seek="$2" conv=sync 2>/dev/null
	dd if="$(device "$1")" of="$work/back" bs=1k skip="$2" count="$3" 2>/dev/null
	cmp -s "$work/block" "$work/back" || fail "what was written to $1 does not read back"
}

# Both nodes up, a primary, b secondary, connected.
cluster()
{
	nodes
	create a "${creator_a:-ours}"
	create b ours
	start a "${1:-ours}"
	start b ours
	role b secondary
	role a primary
	wait_for is_complete a
}

# Takes away every provider of GEOM gate: the machine is there for the suite. Not by their names, for
# which GEOM has to be asked, and it does not answer as long as it waits for one of them.
destroy_gates()
{
	for unit in 0 1 2 3 4 5 6 7; do
		ggatel destroy -f -u "$unit"
	done
}

no_worker_is_left()
{
	destroy_gates
	! pkill -9 -f '^hastd: (test|more) \((primary|secondary)\)'
}

# Whatever a case has left. Daemons first, which would start workers again; then devices: what waits
# for them would hinder all else. A worker that was killed may end only when no device is left.
cleanup()
{
	for node in a b; do
		[ ! -s "$work/$node.daemon" ] || kill -9 "$(cat "$work/$node.daemon")"
	done
	destroy_gates
	for node in a b; do
		mount -p | awk -v device="$(device $node)" '$1 == device { print $2 }' |
			while read -r point; do
				umount -f "$point"
			done
	done
	wait_for no_worker_is_left
	for node in a b; do
		[ ! -s "$work/$node.disk" ] || mdconfig -d -o force -u "$(cat "$work/$node.disk")"
	done
}
