#!/bin/sh
# One scenario over two FreeBSD machines that are joined by a network; to be started on both, in any
# order, as root:
#
#   two-nodes.sh first  <own address> <other's address> [<interface> <vhid> <shared address>]
#   two-nodes.sh second <own address> <other's address> [<interface> <vhid> <shared address>]
#
# The first one makes a file system, leaves something in it and steps down; the second one takes
# over, looks for it and adds to it. With an interface, the roles follow a CARP address, by
# carp-hast-switch; the kernel must have CARP, or the case is skipped.
#
# Prints lines and exits as run.sh does. HAST_PATIENCE: seconds that a condition is waited for,
# the start of the other machine among them.
set -u

here=$(cd "$(dirname "$0")" && pwd)
: "${HAST_PATIENCE:=900}"
: "${HAST_LOGS:=/tmp/hast-logs}"
prefix=$here/root/usr/local
hastd=$prefix/sbin/hastd
hastctl=$prefix/sbin/hastctl

# shellcheck source=regress/freebsd/lib.sh disable=SC1091
. "$here/lib.sh"

usage()
{
	sed -n '4,5s/^# *//p' "$0" >&2
	exit 64
}

case "$#:${1:-}" in
3:first | 3:second | 6:first | 6:second) ;;
*) usage ;;
esac
me=$1
own=$2
other=$3
interface=${4:-}
vhid=${5:-}
shared=${6:-}

work=/tmp/hast-two-nodes
config=$work/hast.conf
device=/dev/hast/pair

hast()
{
	command=$1
	shift
	"$hastctl" "$command" -c "$config" -N "$me" "$@"
}

answers_here()
{
	hast list pair >/dev/null 2>&1
}

role_is()
{
	[ "$(hast list pair | field role)" = "$1" ]
}

is_connected()
{
	[ "$(hast list pair | field status)" = complete ]
}

has_no_peer()
{
	! pgrep -f 'hastd: pair \(secondary\)' >/dev/null
}

is_mounted()
{
	mount -p | awk -v device="$device" '$1 == device { found = 1 } END { exit !found }'
}

set_up()
{
	rm -rf "$work"
	mkdir -p "$work/mnt" "$work/bin"
	mdconfig -a -t swap -s 64m >"$work/disk" || fail "mdconfig makes no disk"
	if [ "$me" = first ]; then first=$own second=$other; else first=$other second=$own; fi
	cat >"$config" <<-CONF
		on $me {
			control $work/control
			pidfile $work/pid
		}
		resource pair {
			local /dev/$(cat "$work/disk")
			on first {
				remote tcp4://$second
			}
			on second {
				remote tcp4://$first
			}
		}
	CONF
	must hast create pair
	"$hastd" -F -d -c "$config" -N "$me" >"$work/log" 2>&1 &
	echo $! >"$work/daemon"
	wait_for answers_here
}

# carp-hast-switch calls hastctl without options: this one has them.
set_up_carp()
{
	kldload -n carp 2>/dev/null || kldstat -qm carp || skip "the kernel has no CARP"
	cat >"$work/bin/hastctl" <<-STUB
		#!/bin/sh
		command=\$1
		shift
		exec "$hastctl" "\$command" -c "$config" -N "$me" "\$@"
	STUB
	chmod +x "$work/bin/hastctl"
	cat >"$work/switch.conf" <<-CONF
		vhid $vhid@$interface
		timeout $HAST_PATIENCE
		ufs pair $work/mnt
	CONF
	if [ "$me" = first ]; then skew=0; else skew=100; fi
	must ifconfig "$interface" vhid "$vhid" advskew "$skew" pass hast-suite alias "$shared/32"
}

switch()
{
	must env CARP_HAST_SWITCH_PATH="$work/bin:/sbin:/bin:/usr/sbin:/usr/bin" \
		CARP_HAST_SWITCH_CONFIG="$work/switch.conf" CARP_HAST_SWITCH_LOCK="$work/lock" \
		sh "$prefix/sbin/carp-hast-switch" follow
}

carp_is()
{
	ifconfig "$interface" | grep -q "carp: $1 vhid $vhid "
}

first()
{
	must hast role primary pair
	wait_for is_connected
	must newfs -U "$device"
	if [ -n "$interface" ]; then
		wait_for carp_is MASTER
		switch
		is_mounted || fail "the switch has mounted nothing"
	else
		must mount "$device" "$work/mnt"
	fi
	must cp /etc/services "$work/mnt/left"
	if [ -n "$interface" ]; then
		must ifconfig "$interface" vhid "$vhid" advskew 240
		wait_for carp_is BACKUP
		switch
		! is_mounted || fail "the switch has left it mounted"
	else
		must umount "$work/mnt"
		must hast role secondary pair
	fi
	wait_for role_is secondary
	# The other one has taken over and been connected.
	wait_for grep -q 'secondary' "$work/log"
	wait_for pgrep -f 'hastd: pair \(secondary\)'
	# It ends when it is done.
	wait_for has_no_peer
}

second()
{
	must hast role secondary pair
	wait_for pgrep -f 'hastd: pair \(secondary\)'
	if [ -n "$interface" ]; then
		wait_for carp_is MASTER
		switch
		is_mounted || fail "the switch has mounted nothing"
	else
		wait_for has_no_peer
		must hast role primary pair
		wait_for test -e "$device"
		must fsck_ffs -p "$device"
		must mount "$device" "$work/mnt"
	fi
	must cmp /etc/services "$work/mnt/left"
	must cp /etc/services "$work/mnt/added"
	wait_for is_connected
	must umount "$work/mnt"
	must fsck_ffs -n "$device"
}

tear_down()
{
	is_mounted && umount -f "$work/mnt"
	[ -z "$interface" ] || ifconfig "$interface" vhid "$vhid" -alias "$shared" 2>/dev/null
	hast role init pair
	[ ! -s "$work/daemon" ] || kill "$(cat "$work/daemon")"
	sleep 2
	destroy_gate hast/pair
	mdconfig -d -o force -u "$(cat "$work/disk")"
}

mkdir -p "$HAST_LOGS"
name=two-nodes-$me${interface:+-carp}
log=$HAST_LOGS/$name.log
(
	# shellcheck disable=SC2154 # it is assigned there
	trap 'status=$?; cp "$work/log" "$HAST_LOGS/$name.daemon" 2>/dev/null
		tear_down >/dev/null 2>&1; exit $status' EXIT
	[ "$(id -u)" -eq 0 ] || skip "not root"
	set_up
	[ -z "$interface" ] || set_up_carp
	"$me"
) >"$log" 2>&1
verdict "$name" $? "$log"
summary
