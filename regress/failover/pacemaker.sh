#!/bin/sh
# etc/ocf/hast with the real Pacemaker and Corosync: two nodes, each a container of namespaces with
# its own file system, network, host name and processes, joined by a bridge in a third namespace. A
# file system on the resource is written to all the time: records that are made durable one by one.
# The node that serves it is killed, and later the resource is moved in an orderly way. No record
# that was acknowledged may be lost.
#
#	pacemaker.sh programs		the directory of hastd and hastctl
#
# For root on Debian; what is missing makes it say so and exit 0. Everything is gone afterwards but
# the packages, which are kept in $HAST_FAILOVER_CACHE (/var/tmp/hast-failover).
set -eu

programs=$(cd "$1" && pwd)
self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cd "$(dirname "$0")/../.."
source=$(pwd)
cache=${HAST_FAILOVER_CACHE:-/var/tmp/hast-failover}

skip()
{
	echo "skipped: $*"
	exit 0
}

[ "$(id -u)" -eq 0 ] || skip "it takes root"
grep -qw overlay /proc/filesystems || skip "there is no overlayfs"
unshare -m -u -n -p -i -f true 2>/dev/null || skip "there are no namespaces"
sh regress/failover/root.sh "$cache" >"$cache.log" 2>&1 || skip "packages cannot be had, see $cache.log"

# The packages are mounted where nobody else sees it.
if [ -z "${HAST_FAILOVER_INSIDE:-}" ]; then
	HAST_FAILOVER_INSIDE=yes exec unshare -m --propagation private "$self" "$programs"
fi
mount -t overlay overlay -o "lowerdir=/,upperdir=$cache/packages,workdir=$cache/work" "$cache/root"

# Below the cache, since the upper layer of an overlay cannot be on one.
top=$(mktemp -d "$cache/run.XXXXXX")
pids=""
# The first processes of the nodes, read by their names.
# shellcheck disable=SC2034
alpha="" beta=""

cleanup()
{
	status=$?
	trap - EXIT
	for pid in $pids; do
		kill -9 "$pid" 2>/dev/null || true
	done
	wait
	if [ "$status" -ne 0 ]; then
		for file in "$top"/shared/*.log; do
			echo "---- $file"
			grep -v "info:" "$file" | tail -n 20
		done
	fi
	rm -rf "$top"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

fail()
{
	echo "FAILED: $*"
	exit 1
}

# Waits for a condition for so many seconds.
wait_for()
{
	deadline=$(($(date +%s) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$deadline" ] || fail "in vain: $*"
		sleep 0.1
	done
}

now_ms()
{
	date +%s%3N
}

# ---- nodes

mkdir "$top/shared"
unshare -n sh -c 'ip link add bridge type bridge && ip link set bridge up && exec sleep infinity' &
bridge=$!
pids=$bridge
wait_for 20 nsenter -t "$bridge" -n ip link show bridge

# boot alpha|beta: its first process is noted in $alpha or $beta.
boot()
{
	name=$1
	address=$2
	mkdir -p "$top/$name/upper" "$top/$name/work" "$top/$name/root"
	cat >"$top/$name/init" <<-INIT
		set -eu
		mount --make-rprivate /
		mount -t overlay overlay -o "lowerdir=$cache/root,upperdir=$top/$name/upper,workdir=$top/$name/work" "$top/$name/root"
		cd "$top/$name/root"
		mount -t proc proc proc
		mount --rbind /sys sys
		mount --rbind /dev dev
		mount -t tmpfs tmpfs dev/shm
		mount -t tmpfs -o mode=755 tmpfs run
		mkdir -p shared source programs data run/lock var/run
		mount --bind "$top/shared" shared
		mount --bind "$source" source
		mount --bind "$programs" programs
		hostname $name
		ip link set lo up
		# A first process that reaps whoever is left to it.
		exec chroot . /bin/sh -c ': >/run/booted; while :; do sleep 3600 & wait; done'
	INIT
	# --fork: the first process in there is the shell's child, and all end with it.
	unshare -m -u -n -p -i --fork --kill-child sh "$top/$name/init" >"$top/shared/boot.$name.log" 2>&1 &
	outer=$!
	pids="$pids $outer"
	wait_for 20 pgrep -P "$outer"
	pid=$(pgrep -P "$outer")
	eval "$name=$pid"
	wait_for 20 at "$name" test -e /run/booted
	nsenter -t "$bridge" -n ip link add "$name" type veth peer name eth0 netns "$pid"
	nsenter -t "$bridge" -n ip link set "$name" master bridge
	nsenter -t "$bridge" -n ip link set "$name" up
	at "$name" ip address add "$address/24" dev eth0
	at "$name" ip link set eth0 up
}

# at node command: in the node.
at()
{
	eval "pid=\$$1"
	shift
	nsenter -t "$pid" -m -u -n -p -i -r -w "$@"
}

# Its processes end all at once, as in a loss of power.
kill_node()
{
	eval "pid=\$$1"
	kill -9 "$pid"
}

cat >"$top/shared/hast.conf" <<-CONF
	user nobody
	resource data {
	    timeout 3
	    local /data/disk
	    on alpha { remote 192.0.2.2 source 192.0.2.1 }
	    on beta { remote 192.0.2.1 source 192.0.2.2 }
	}
CONF
cat >"$top/shared/corosync.conf" <<-CONF
	totem {
	    version: 2
	    cluster_name: hast
	    transport: udpu
	    token: 3000
	}
	nodelist {
	    node {
	        ring0_addr: 192.0.2.1
	        name: alpha
	        nodeid: 1
	    }
	    node {
	        ring0_addr: 192.0.2.2
	        name: beta
	        nodeid: 2
	    }
	}
	quorum {
	    provider: corosync_votequorum
	    two_node: 1
	    wait_for_all: 0
	}
	logging {
	    to_logfile: yes
	    logfile: /run/corosync.log
	    to_syslog: no
	}
CONF

# start alpha|beta: what runs on a node; its data are there already if it comes back.
start()
{
	# shellcheck disable=SC2016 # for the shell in there
	at "$1" sh -eu -c '
		name=$1
		mkdir -p /etc/corosync /usr/lib/ocf/resource.d/hast /mnt
		cp /shared/hast.conf /etc/hast.conf
		cp /shared/corosync.conf /etc/corosync/corosync.conf
		ln -sf /programs/hastctl /programs/hastd /usr/sbin/
		install -m 755 /source/etc/ocf/hast /usr/lib/ocf/resource.d/hast/hast
		install -m 755 /source/regress/failover/filesystem /usr/lib/ocf/resource.d/hast/filesystem
		if [ ! -e /data/disk ]; then
			truncate -s 64M /data/disk
			hastctl create data
		fi
		setsid hastd -F -d >>"/shared/hastd.$name.log" 2>&1 </dev/null &
		setsid corosync -f >>"/shared/corosync.$name.log" 2>&1 </dev/null &
		until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.1; done
		PCMK_logfile="/shared/pacemaker.$name.log" PCMK_logpriority=notice \
			setsid pacemakerd -f >>"/shared/pacemakerd.$name.log" 2>&1 </dev/null &
		setsid sh /source/regress/failover/records.sh "$name" >>"/shared/records.$name.log" 2>&1 </dev/null &
	' sh "$1"
}

boot alpha 192.0.2.1
boot beta 192.0.2.2
start alpha
start beta

# ---- what the cluster is to do

cat >"$top/shared/cib.xml" <<-XML
	<resources>
	 <clone id="data-clone">
	  <meta_attributes id="data-meta">
	   <nvpair id="m1" name="promotable" value="true"/>
	   <nvpair id="m2" name="promoted-max" value="1"/>
	   <nvpair id="m3" name="clone-max" value="2"/>
	   <nvpair id="m4" name="notify" value="true"/>
	  </meta_attributes>
	  <primitive id="data" class="ocf" provider="hast" type="hast">
	   <instance_attributes id="data-ia"><nvpair id="d1" name="resource" value="data"/></instance_attributes>
	   <operations>
	    <op id="o1" name="monitor" interval="3s" role="Promoted" timeout="20s"/>
	    <op id="o2" name="monitor" interval="4s" role="Unpromoted" timeout="20s"/>
	    <op id="o3" name="promote" interval="0" timeout="60s"/>
	   </operations>
	  </primitive>
	 </clone>
	 <primitive id="fs" class="ocf" provider="hast" type="filesystem">
	  <operations><op id="f1" name="start" interval="0" timeout="60s"/><op id="f2" name="stop" interval="0" timeout="60s"/></operations>
	 </primitive>
	</resources>
XML
cat >"$top/shared/constraints.xml" <<-XML
	<constraints>
	 <rsc_colocation id="c1" rsc="fs" with-rsc="data-clone" with-rsc-role="Promoted" score="INFINITY"/>
	 <rsc_order id="c2" first="data-clone" first-action="promote" then="fs" then-action="start" kind="Mandatory"/>
	</constraints>
XML

is_promoted()
{
	at "$1" hastctl status data | grep -q 'data.*primary'
}

is_unmounted()
{
	! at "$1" mountpoint -q /mnt
}

is_secondary()
{
	at "$1" hastctl status data | grep -q 'data.*secondary'
}

are_members()
{
	[ "$(at alpha crm_node -l | grep -c member)" -eq 2 ]
}

wait_for 60 at alpha crm_attribute -n stonith-enabled -v false
# No fencing device: power is lost for real here. Where it may not be, have one.
wait_for 20 at alpha crm_attribute -n no-quorum-policy -v ignore
wait_for 60 are_members

# ---- the agent by itself, with the cluster's own tools

at alpha ocf-tester -n data -o resource=data /usr/lib/ocf/resource.d/hast/hast \
	>"$top/shared/ocf-tester.log" 2>&1 || fail "ocf-tester"
tail -n 1 "$top/shared/ocf-tester.log"

# ---- the cluster

wait_for 20 at alpha cibadmin --replace -o resources --xml-file /shared/cib.xml
wait_for 20 at alpha cibadmin --replace -o constraints --xml-file /shared/constraints.xml

acknowledged()
{
	cat "$top"/shared/acknowledged.* 2>/dev/null | wc -l
}

more()
{
	[ "$(acknowledged)" -ge "$1" ]
}

wait_for 120 more 20
if is_promoted alpha; then
	first=alpha
	second=beta
else
	first=beta
	second=alpha
fi
echo "promoted: $first"
wait_for 60 at "$first" hastctl wait --synced --timeout 1 data

before=$(acknowledged)
since=$(now_ms)
kill_node "$first"
wait_for 120 more $((before + 1))
echo "$first lost its power after $before records; the next one $(($(now_ms) - since)) ms later, on $second"
is_promoted "$second" || fail "$second is not primary"

case $first in
alpha) boot alpha 192.0.2.1 ;;
beta) boot beta 192.0.2.2 ;;
esac
start "$first"
wait_for 120 is_secondary "$first"
wait_for 60 at "$second" hastctl wait --synced --timeout 1 data
wait_for 60 more $(($(acknowledged) + 20))

before=$(acknowledged)
since=$(now_ms)
at "$second" crm_attribute -N "$second" -n standby -v on
wait_for 120 is_promoted "$first"
wait_for 60 more $(($(acknowledged) + 5))
echo "$second in standby after $before records: served by $first $(($(now_ms) - since)) ms later"

# ---- nothing is lost

at "$first" crm_resource --resource fs --set-parameter target-role --meta --parameter-value Stopped >/dev/null
wait_for 60 is_unmounted "$first"
at "$first" crm_resource --resource fs --set-parameter target-role --meta --parameter-value Started >/dev/null
touch "$top/shared/stop"
wait_for 60 at "$first" mountpoint -q /mnt
at "$first" sh -c 'cat /mnt/records/*' | sort >"$top/found"
sort "$top"/shared/acknowledged.* >"$top/wanted"
lost=$(comm -13 "$top/found" "$top/wanted" | wc -l)
[ "$lost" -eq 0 ] || fail "$lost acknowledged records are lost"
echo "$(acknowledged) records, none lost"
