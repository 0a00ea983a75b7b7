#!/bin/sh
# The Debian package under a real systemd: a container boots, installs it, and hastd.service starts,
# becomes primary, is reloaded and stopped, with the unit's restrictions in force.
#
#	systemd.sh file.deb
set -eu

package=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/../.."
cache=${HAST_FAILOVER_CACHE:-/var/tmp/hast-failover}

skip()
{
	echo "skipped: $*"
	exit 0
}

[ "$(id -u)" -eq 0 ] || skip "it takes root"
grep -qw overlay /proc/filesystems || skip "there is no overlayfs"
unshare -m -u -n -p -i -C -f true 2>/dev/null || skip "there are no namespaces"
sh regress/failover/root.sh "$cache" >"$cache.log" 2>&1 || skip "packages cannot be had, see $cache.log"

top=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$top"' EXIT
mkdir "$top/upper" "$top/work" "$top/root"
cp "$package" "$top/package.deb"

# What is done when the system is up.
cat >"$top/go" <<-'GO'
	set -eux
	trap 'systemctl poweroff -f -f' EXIT
	dpkg -i /package.deb
	hostname alpha
	printf 'resource data {\n on alpha { local /data remote none }\n}\n' >/etc/hast.conf
	truncate -s 32M /data
	hastctl create data
	# Returns when the control socket answers.
	systemctl start hastd
	hastctl role primary data
	hastctl list -d data | grep 'user: hast'
	systemctl reload hastd
	systemctl is-active hastd
	[ "$(systemctl show -P NRestarts hastd)" = 0 ]
	systemctl stop hastd
	journalctl -u hastd --no-pager
	# Each line has its priority: there is no error among them.
	journalctl -u hastd -p err --no-pager | grep -q -- '-- No entries --'
	echo "the unit works under systemd" >/result
GO
cat >"$top/go.service" <<-'UNIT'
	[Unit]
	After=basic.target
	[Service]
	Type=oneshot
	StandardOutput=file:/log
	StandardError=inherit
	ExecStart=/bin/sh /go
UNIT
cat >"$top/boot" <<-'BOOT'
	set -eu
	cache=$1
	top=$2
	mount --make-rprivate /
	mount -t overlay overlay -o "lowerdir=/,upperdir=$cache/packages,workdir=$cache/work" "$cache/root"
	mount -t overlay overlay -o "lowerdir=$cache/root,upperdir=$top/upper,workdir=$top/work" "$top/root"
	cd "$top/root"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	for directory in run tmp dev; do
		mount -t tmpfs -o mode=755 tmpfs "$directory"
	done
	for node in null zero random urandom tty; do
		: >"dev/$node"
		mount --bind "/dev/$node" "dev/$node"
	done
	cp "$top/package.deb" "$top/go" .
	mkdir -p etc/systemd/system/multi-user.target.wants
	cp "$top/go.service" etc/systemd/system/
	ln -s ../go.service etc/systemd/system/multi-user.target.wants/
	ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target
	# The package may start what it installs.
	rm -f usr/sbin/policy-rc.d
	exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		chroot . /lib/systemd/systemd --log-level=warning --log-target=console
BOOT
timeout -k 5 180 unshare -m -u -n -p -i -C --fork --kill-child sh "$top/boot" "$cache" "$top" \
	>"$top/console" 2>&1 || true
if [ ! -s "$top/upper/result" ]; then
	tail -n 20 "$top/console"
	tail -n 60 "$top/upper/log" 2>/dev/null || true
	echo "FAILED: the unit under systemd"
	exit 1
fi
cat "$top/upper/result"
