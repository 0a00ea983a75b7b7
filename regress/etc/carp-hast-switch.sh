#!/bin/sh
# Runs etc/carp-hast-switch with stubs for everything of the system that it calls: a directory
# holds the state of a node, the stubs read and change it, and note what they were asked for.
#
#   carp-hast-switch.sh [shell]		the shell to run it with; /bin/sh otherwise
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

sed "s,%%PREFIX%%,/usr/local,g" etc/carp-hast-switch >"$top/carp-hast-switch"

# ---- the stubs. $NODE: carp (a state), role.<resource>, peer.<resource> (it is primary, there),
# mounts (device and point), pools, services, log, calls; fail.<command> makes a command fail.

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
stub ifconfig <<-'STUB'
	[ -e "$NODE/carp" ] || exit 1
	printf '%s: flags=8943<UP>\n\tinet 10.0.0.1\n' "$1"
	printf '\tcarp: BACKUP vhid 11 advbase 1 advskew 0\n'
	printf '\tcarp: %s vhid 1 advbase 1 advskew 0\n' "$(cat "$NODE/carp")"
STUB
stub hastctl <<-'STUB'
	echo "hastctl $*" >>"$NODE/calls"
	[ ! -e "$NODE/fail.hastctl" ] || exit 1
	case $1 in
	list)
		[ $# -gt 1 ] || exit 0
		printf '%s:\n  role: %s\n  provname: %s\n' "$2" "$(cat "$NODE/role.$2")" "$2"
		;;
	role)
		[ ! -e "$NODE/fail.role.$3" ] || { echo "no"; exit 1; }
		echo "$2" >"$NODE/role.$3"
		case $2 in
		primary) : >"$NODE/hast/$3" ;;
		*) rm -f "$NODE/hast/$3" ;;
		esac
		;;
	esac
STUB
stub pgrep <<-'STUB'
	resource=${2#hastd: }
	resource=${resource% *}
	[ -e "$NODE/peer.$resource" ]
STUB
stub fsck <<-'STUB'
	echo "fsck $*" >>"$NODE/calls"
	case $1 in
	-p) [ ! -e "$NODE/fail.fsck" ] || { echo "INCONSISTENT"; exit 8; } ;;
	esac
STUB
stub mount <<-'STUB'
	if [ "$*" = "-p" ]; then
		[ ! -e "$NODE/mounts" ] || awk '{ print $1 "\t" $2 "\tufs\trw\t0 0" }' "$NODE/mounts"
		exit 0
	fi
	echo "mount $*" >>"$NODE/calls"
	while [ $# -gt 2 ]; do shift; done
	echo "$1 $2" >>"$NODE/mounts"
STUB
stub umount <<-'STUB'
	echo "umount $*" >>"$NODE/calls"
	case $1 in
	-f)
		shift
		[ ! -e "$NODE/fail.force" ] || { echo "umount: busy"; exit 1; }
		;;
	*) [ ! -e "$NODE/busy" ] || exit 1 ;;
	esac
	grep -v " $1\$" "$NODE/mounts" >"$NODE/mounts.new" || true
	mv "$NODE/mounts.new" "$NODE/mounts"
STUB
stub zpool <<-'STUB'
	case $1 in
	list) [ ! -e "$NODE/pools" ] || cat "$NODE/pools"; exit 0 ;;
	esac
	echo "zpool $*" >>"$NODE/calls"
	verb=$1
	while [ $# -gt 1 ]; do shift; done
	case $verb in
	import) echo "$1" >>"$NODE/pools" ;;
	export)
		grep -vx "$1" "$NODE/pools" >"$NODE/pools.new" || true
		mv "$NODE/pools.new" "$NODE/pools"
		;;
	esac
STUB
stub service <<-'STUB'
	case $2 in
	onestatus) [ -e "$NODE/service.$1" ]; exit ;;
	onestart) : >"$NODE/service.$1" ;;
	onestop) rm "$NODE/service.$1" ;;
	esac
	echo "service $*" >>"$NODE/calls"
STUB
# A second passes at once, and a script of the case may use it.
stub sleep <<-'STUB'
	echo x >>"$NODE/slept"
	if [ -e "$NODE/meanwhile" ]; then . "$NODE/meanwhile"; fi
STUB
# FreeBSD's lockf, elsewhere util-linux's flock; -k: the file stays, -s: silently, -t: a timeout.
stub lockf <<-'STUB'
	shift 4
	lock=$1
	command=$2
	shift 2
	if [ -x /usr/bin/lockf ]; then
		exec /usr/bin/lockf -k -s "$lock" "$TEST_SHELL" "$command" "$@"
	fi
	exec flock "$lock" "$TEST_SHELL" "$command" "$@"
STUB

# ---- cases

passed=0
failed=0

fresh()
{
	rm -rf "$node"
	mkdir -p "$node/hast"
	for resource in data disk0 disk1; do
		echo secondary >"$node/role.$resource"
	done
	cat >"$node/conf" <<-'CONF'
		# two kinds, and what uses them
		vhid 1@em0
		timeout 5	# seconds
		ufs data /export -o noatime
		zfs tank disk0 disk1
		service nfsd
	CONF
	echo BACKUP >"$node/carp"
}

run()
{
	status=0
	env NODE="$node" TEST_SHELL="$shell" CARP_HAST_SWITCH_PATH="$bin:/usr/bin:/bin" \
		CARP_HAST_SWITCH_CONFIG="$node/conf" CARP_HAST_SWITCH_LOCK="$node/lock" \
		CARP_HAST_SWITCH_DEVICES="$node/hast" CARP_HAST_SWITCH_LIBRARY=etc/failover/switch.sh \
		"$shell" "$top/carp-hast-switch" "$@" >"$node/output" 2>&1 || status=$?
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
fsck -p -t ufs $node/hast/data
mount -t ufs -o noatime $node/hast/data /export
hastctl role primary disk0
hastctl role primary disk1
zpool import -f -d $node/hast tank
service nfsd onestart"
demotion="service nfsd onestop
zpool export tank
hastctl role secondary disk0
hastctl role secondary disk1
umount /export
hastctl role secondary data"

fresh
echo MASTER >"$node/carp"
run event 1@em0 MASTER
case_is "a master becomes primary, checks, mounts, imports, starts" "0 $promotion" "$status $(calls)"
rm -f "$node/calls"
run event 1@em0 MASTER
case_is "a second time nothing is left to do" "0 " "$status $(calls)"
echo BACKUP >"$node/carp"
run event 1@em0 BACKUP
case_is "a backup does the reverse, in reverse order" "0 $demotion" "$status $(calls)"
rm -f "$node/calls"
run event 1@em0 BACKUP
case_is "a second demotion finds nothing to do" "0 " "$status $(calls)"

fresh
echo MASTER >"$node/carp"
run event 1@em0 BACKUP
case_is "the state of now counts, not that of the event" "0 $promotion" "$status $(calls)"

fresh
echo MASTER >"$node/carp"
run event 11@em0 MASTER
case_is "another address is none of our business" "0 " "$status $(calls)"

fresh
run follow
case_is "without an event the address is followed" "0 " "$status $(calls)"
run primary
case_is "by hand the address is not asked" "0 $promotion" "$status $(calls)"

fresh
echo MASTER >"$node/carp"
: >"$node/peer.data"
run event 1@em0 MASTER
case_is "a connected primary is waited for, not overridden" "1 secondary 5" \
	"$status $(cat "$node/role.data") $(grep -c x "$node/slept")"
case_is "what does not depend on it is moved, services are not" "hastctl role primary disk0
hastctl role primary disk1
zpool import -f -d $node/hast tank" "$(calls)"
rm -f "$node/peer.data" "$node/calls"
run event 1@em0 MASTER
case_is "a later run goes on from there" "0 hastctl role primary data
fsck -p -t ufs $node/hast/data
mount -t ufs -o noatime $node/hast/data /export
service nfsd onestart" "$status $(calls)"

fresh
echo MASTER >"$node/carp"
: >"$node/peer.data"
# shellcheck disable=SC2016 # for the stub
echo '[ "$(grep -c x "$NODE/slept")" -lt 3 ] || rm -f "$NODE/peer.data"' >"$node/meanwhile"
run event 1@em0 MASTER
case_is "a primary that ends in time is replaced at once" "0 3 primary" \
	"$status $(grep -c x "$node/slept") $(cat "$node/role.data")"

fresh
echo MASTER >"$node/carp"
: >"$node/peer.data"
# shellcheck disable=SC2016
echo 'echo BACKUP >"$NODE/carp"' >"$node/meanwhile"
run event 1@em0 MASTER
case_is "a promotion that is no longer wanted ends" "1 1 " \
	"$status $(grep -c x "$node/slept") $(calls)"

fresh
: >"$node/fail.fsck"
run primary
case_is "a file system that is not well is not mounted" "1 0" \
	"$status $(grep -c '^mount ' "$node/calls" || true)"
echo "repair yes" >>"$node/conf"
run primary
case_is "unless it may be repaired" "0 1 1" \
	"$status $(grep -c 'fsck -y' "$node/calls") $(grep -c '^mount ' "$node/calls")"

fresh
run primary
: >"$node/busy"
rm -f "$node/calls"
run secondary
case_is "what is busy is unmounted by force after the timeout" "0 umount -f /export 5" \
	"$status $(grep -e 'umount -f' "$node/calls") $(grep -c x "$node/slept")"

fresh
run primary
: >"$node/busy"
: >"$node/fail.force"
run secondary
case_is "a device is not taken from under a file system" "1 primary secondary" \
	"$status $(cat "$node/role.data" "$node/role.disk0" | tr '\n' ' ' | sed 's/ $//')"

fresh
: >"$node/fail.hastctl"
run primary
case_is "a daemon that does not answer is waited for, then reported" \
	"1 hastd does not answer: nothing was done 5" \
	"$status $(cat "$node/log") $(grep -c x "$node/slept")"

fresh
: >"$node/fail.role.data"
run primary
case_is "a role that is refused is reported with the reason" \
	"1 resource data: unable to become primary: no" "$status $(head -n 1 "$node/log")"

fresh
: >"$node/fail.role.disk1"
run primary
case_is "a pool without all of its resources is not imported" "1 0" \
	"$status $(grep -c zpool "$node/calls" || true)"

fresh
echo "/dev/hast/other /export" >"$node/mounts"
run primary
case_is "something else that is mounted there does not matter, by its name" "0" "$status"

# Two at once: the second waits, finds everything done, and no step is done twice.
fresh
echo MASTER >"$node/carp"
run event 1@em0 MASTER &
run event 1@em0 MASTER
wait
case_is "two at once do every step once" "$promotion" "$(calls)"

wrong()
{
	fresh
	printf '%b' "$2" >"$node/conf"
	run primary
	case_is "configuration: $1" "78 $3" "$status $(sed 's/^[^:]*: [^:]*: //' "$node/output")"
}
wrong "no address" 'raw data\n' 'there is no line vhid'
wrong "nothing to do" 'vhid 1@em0\n' 'there is nothing to move'
wrong "a word that is none" 'vhid 1@em0\nxfs data /x\n' 'line 2: unknown word xfs'
wrong "an address without interface" 'vhid 1\n' 'line 1: vhid <vhid>@<interface>'
wrong "a timeout that is no number" 'timeout -1\n' 'line 1: timeout <seconds>'
wrong "a file system without place" 'vhid 1@em0\nufs data\n' 'line 2: ufs needs 2 words at least'
wrong "a last line without its end" 'vhid 1@em0\nrepair maybe' 'line 2: repair yes | no'

fresh
run
case_is "no argument: usage" 64 "$status"
run event 1@em0
case_is "half an event: usage" 64 "$status"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
