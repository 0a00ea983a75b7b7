#!/bin/sh
# The Debian package: installed, looked at and removed again in a root directory of its own.
#
#	package.sh file.deb
set -eu

package=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/../.."
cache=${HAST_FAILOVER_CACHE:-/var/tmp/hast-failover}

if [ "$(id -u)" -ne 0 ] || ! grep -qw overlay /proc/filesystems; then
	echo "skipped: it takes root and overlayfs"
	exit 0
fi
if ! sh regress/failover/root.sh "$cache" >"$cache.log" 2>&1; then
	echo "skipped: packages cannot be had, see $cache.log"
	exit 0
fi

top=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$top"' EXIT
mkdir "$top/upper" "$top/work" "$top/root"
cp "$package" "$top/package.deb"

cat >"$top/inside" <<-'INSIDE'
	set -eu
	fail()
	{
		echo "FAILED: $*"
		exit 1
	}
	export DEBIAN_FRONTEND=noninteractive
	dpkg -i /package.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "installation"; }
	getent passwd hast >/dev/null || fail "there is no user hast"
	for file in $(dpkg -L hast); do
		[ -e "$file" ] || fail "$file is missing"
		! grep -qsI '%%[A-Z]' "$file" || [ -d "$file" ] || fail "$file: %% was not replaced"
	done
	dpkg -L hast | grep -qx /etc/logrotate.d/hast || fail "no logrotate"
	for file in /usr/share/bash-completion/completions/hastctl \
		/usr/share/zsh/vendor-completions/_hastctl \
		/usr/share/fish/vendor_completions.d/hastctl.fish \
		/usr/lib/ocf/resource.d/hast/hast /usr/sbin/vrrp-hast-switch; do
		dpkg -L hast | grep -qx "$file" || fail "no $file"
	done
	systemd-analyze --man=no verify hastd.service vrrp-hast-follow.service 2>&1 | tee /tmp/verify
	[ ! -s /tmp/verify ] || fail "systemd-analyze verify"
	bash -c '. /usr/share/bash-completion/completions/hastctl && complete -p hastctl' >/dev/null
	cp /usr/share/examples/hast/hast.conf.sample /etc/hast.conf
	hastctl config check -N hasta
	vrrp-hast-switch check 2>&1 | grep -q "cannot be read" || fail "vrrp-hast-switch without configuration"
	dpkg --purge hast >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "removal"; }
	[ ! -e /usr/sbin/hastd ] || fail "hastd is left"
	[ -e /etc/hast.conf ] || fail "the administrator's configuration is gone"
	echo "the package installs, is whole, and goes"
INSIDE

# shellcheck disable=SC2016 # for the shell in there
unshare -m --propagation private sh -eu -c '
	mount -t overlay overlay -o "lowerdir=/,upperdir=$1/packages,workdir=$1/work" "$1/root"
	mount -t overlay overlay -o "lowerdir=$1/root,upperdir=$2/upper,workdir=$2/work" "$2/root"
	mount -t proc proc "$2/root/proc"
	mount --rbind /dev "$2/root/dev"
	cp "$2/package.deb" "$2/inside" "$2/root/"
	exec chroot "$2/root" sh /inside
' sh "$cache" "$top"
