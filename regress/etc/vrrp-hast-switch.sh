#!/bin/sh
# Runs etc/keepalived/vrrp-hast-switch with stubs for everything of the system that it calls, as
# carp-hast-switch.sh does, which covers what both have in common (etc/failover/switch.sh).
#
#   vrrp-hast-switch.sh [shell]		the shell to run it with; /bin/sh otherwise
#
# One line per case; exits 1 if any failed.
set -eu
cd "$(dirname "$0")/../.."
shell=$(command -v "${1:-sh}")

top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
bin=$top/bin
node=$top/node
mkdir "$bin"
sed "s,%%PREFIX%%,/usr,g; s,%%SYSCONFDIR%%,/etc,g" etc/keepalived/vrrp-hast-switch \
	>"$top/vrrp-hast-switch"

# ---- the stubs. $NODE: address (it is here), role.<resource>, peer.<resource> (it is primary,
# there), mounts, unit.<unit>, script (it runs), log, calls; fail.<command> makes a command fail.

stub()
{
	{
		echo "#!$shell"
		echo 'set -u'
		cat
	} >"$bin/$1"
	chmod +x "$bin/$1"
}

stub logger <<-'STUB'
	shift 4
	echo "$*" >>"$NODE/log"
STUB
stub ip <<-'STUB'
	[ "$*" = "-o address show dev eth0 to 192.0.2.10" ] || { echo "ip $*" >>"$NODE/calls"; exit 1; }
	[ ! -e "$NODE/address" ] || echo "2: eth0    inet 192.0.2.10/24 scope global eth0"
STUB
stub hastctl <<-'STUB'
	echo "hastctl $*" >>"$NODE/calls"
	case $1 in
	list)
		[ $# -gt 1 ] || exit 0
		printf '%s:\n  role: %s\n' "$2" "$(cat "$NODE/role.$2")"
		[ ! -e "$NODE/peer.$2" ] || printf '  status: %s\n' "$(cat "$NODE/peer.$2")"
		;;
	role)
		echo "$2" >"$NODE/role.$3"
		rm -f "$NODE/hast/$3" "$NODE/peer.$3"
		[ "$2" != primary ] || ln -s "$NODE/nbd0" "$NODE/hast/$3"
		;;
	esac
STUB
stub fsck <<-'STUB'
	echo "fsck $*" >>"$NODE/calls"
	[ ! -e "$NODE/fail.fsck" ] || { echo "UNEXPECTED INCONSISTENCY"; exit "$(cat "$NODE/fail.fsck")"; }
STUB
stub mount <<-'STUB'
	echo "mount $*" >>"$NODE/calls"
	while [ $# -gt 2 ]; do shift; done
	echo "$(readlink -f "$1") $2 ext4 rw 0 0" >>"$NODE/mounts"
STUB
stub umount <<-'STUB'
	echo "umount $*" >>"$NODE/calls"
	[ ! -e "$NODE/busy" ] || exit 1
	grep -v " $1 " "$NODE/mounts" >"$NODE/mounts.new" || true
	mv "$NODE/mounts.new" "$NODE/mounts"
STUB
stub fuser <<-'STUB'
	echo "fuser $*" >>"$NODE/calls"
	rm -f "$NODE/busy"
STUB
stub systemctl <<-'STUB'
	case $1 in
	is-active) [ -e "$NODE/unit.$3" ]; exit ;;
	start) : >"$NODE/unit.$2" ;;
	stop) rm "$NODE/unit.$2" ;;
	esac
	echo "systemctl $*" >>"$NODE/calls"
STUB
stub own <<-'STUB'
	case $1 in
	status) [ -e "$NODE/script" ]; exit ;;
	esac
	echo "own $*" >>"$NODE/calls"
	[ ! -e "$NODE/fail.own" ] || { echo "no"; exit 1; }
	case $1 in
	start) : >"$NODE/script" ;;
	stop) rm -f "$NODE/script" ;;
	esac
STUB
stub sleep <<-'STUB'
	echo x >>"$NODE/slept"
STUB

# ---- cases

passed=0
failed=0

fresh()
{
	rm -rf "$node"
	mkdir -p "$node/hast"
	for resource in data raw0; do
		echo secondary >"$node/role.$resource"
	done
	: >"$node/mounts"
	: >"$node/nbd0"
	cat >"$node/conf" <<-CONF
		address 192.0.2.10@eth0
		timeout 5
		fs data /export -o noatime
		raw raw0
		service nfs-server
		script $bin/own a b
	CONF
}

run()
{
	status=0
	env NODE="$node" MOUNTS="$node/mounts" VRRP_HAST_SWITCH_PATH="$bin:/usr/bin:/bin" \
		VRRP_HAST_SWITCH_CONFIG="$node/conf" VRRP_HAST_SWITCH_LOCK="$node/lock" \
		VRRP_HAST_SWITCH_DEVICES="$node/hast" \
		VRRP_HAST_SWITCH_LIBRARY=etc/failover/switch.sh \
		"$shell" "$top/vrrp-hast-switch" "$@" >"$node/output" 2>&1 || status=$?
}

# What was done, without questions.
calls()
{
	[ ! -e "$node/calls" ] || grep -v '^hastctl list' "$node/calls" || true
}

case_is()
{
	if [ "$2" = "$3" ]; then
		passed=$((passed + 1))
		echo "ok $1"
	else
		failed=$((failed + 1))
		echo "FAILED $1"
		echo "expected: $2"
		echo "found:    $3"
		[ ! -e "$node/log" ] || sed 's/^/log:      /' "$node/log"
		cat "$node/output"
	fi
}

promotion="hastctl role primary data
fsck -a $node/hast/data
mount -o noatime $node/hast/data /export
hastctl role primary raw0
systemctl start nfs-server
own start a b"
demotion="own stop a b
systemctl stop nfs-server
hastctl role secondary raw0
umount /export
hastctl role secondary data"

chmod +x "$top/vrrp-hast-switch"
fresh
: >"$node/address"
run event INSTANCE shared MASTER 100
case_is "who has the address becomes primary, checks, mounts, starts" "0 $promotion" "$status $(calls)"
rm -f "$node/calls"
run event INSTANCE shared MASTER 100
case_is "a second time nothing is left to do" "0 " "$status $(calls)"
rm -f "$node/address"
run event INSTANCE shared BACKUP 100
case_is "who has lost it does the reverse, in reverse order" "0 $demotion" "$status $(calls)"
rm -f "$node/calls"
run event INSTANCE shared FAULT 100
case_is "a second demotion only asks the script again" "0 own stop a b" "$status $(calls)"

fresh
: >"$node/address"
run event INSTANCE shared BACKUP 100
case_is "the address counts, not the event" "0 $promotion" "$status $(calls)"

for there in complete degraded; do
	fresh
	echo "$there" >"$node/peer.data"
	run primary
	case_is "a connected primary is waited for, not overridden ($there)" \
		"1 secondary primary 5" \
		"$status $(cat "$node/role.data") $(cat "$node/role.raw0") $(grep -c x "$node/slept")"
	case_is "what uses it is not started ($there)" "hastctl role primary raw0" "$(calls)"
done

fresh
echo 1 >"$node/fail.fsck"
run primary
case_is "a file system that was repaired is mounted" "0 1" "$status $(grep -c '^mount ' "$node/calls")"
fresh
echo 4 >"$node/fail.fsck"
run primary
case_is "one that was not is not mounted" "1 0" "$status $(grep -c '^mount ' "$node/calls" || true)"
fresh
echo "/dev/sdz /export ext4 rw 0 0" >"$node/mounts"
run primary
case_is "nor is one where something else is" "1 0" "$status $(grep -c '^mount ' "$node/calls" || true)"

fresh
run primary
: >"$node/busy"
run secondary
case_is "a device is not taken from under a file system that is in use" "1 primary secondary 5" \
	"$status $(cat "$node/role.data") $(cat "$node/role.raw0") $(grep -c x "$node/slept")"
echo "busy kill" >>"$node/conf"
run secondary
case_is "unless what uses it may be killed" "0 secondary fuser -k -m /export" \
	"$status $(cat "$node/role.data") $(grep fuser "$node/calls")"

fresh
run primary
: >"$node/fail.own"
run secondary
case_is "a role is kept as long as a script cannot be stopped" "1 primary primary" \
	"$status $(cat "$node/role.data") $(cat "$node/role.raw0")"

# Two at once: the second waits, finds everything done, and no step is done twice.
fresh
: >"$node/address"
run event INSTANCE shared MASTER 100 &
run event INSTANCE shared MASTER 100
wait
case_is "two at once do every step once" "$promotion" "$(calls)"

fresh
run check
case_is "a daemon that answers is well" 0 "$status"

wrong()
{
	fresh
	printf '%b' "$2" >"$node/conf"
	run primary
	case_is "configuration: $1" "78 $3" "$status $(sed 's/^[^:]*: [^:]*: //' "$node/output")"
}
wrong "no address" 'raw data\n' 'there is no line address'
wrong "an address without interface" 'address 192.0.2.10\n' 'line 1: address <address>@<interface>'
wrong "an option for ip" 'address -x@eth0\n' 'line 1: address <address>@<interface>'
wrong "a word of the other kit" 'address 192.0.2.10@eth0\nufs data /x\n' 'line 2: unknown word ufs'
wrong "a file system without place" 'address 192.0.2.10@eth0\nfs data\n' 'line 2: fs needs 2 words at least'
wrong "neither keep nor kill" 'busy perhaps\n' 'line 1: busy keep | kill'

fresh
run
case_is "no argument: usage" 64 "$status"
run event INSTANCE shared
case_is "half an event: usage" 64 "$status"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
