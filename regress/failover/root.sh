#!/bin/sh
# Makes a root directory that has what the cluster tests need: this machine's own, with the changes
# of installing Debian's packages kept apart, so that no accounts and no services are left behind.
#
#	root.sh directory
#
# The changes end up in directory/packages, the upper layer of an overlay of /.
set -eu

packages="pacemaker corosync resource-agents pacemaker-cli-utils libnbd-bin fuse3 e2fsprogs iproute2 libxml2-utils systemd systemd-sysv"
top=$1

[ ! -e "$top/complete" ] || exit 0
rm -rf "$top"
mkdir -p "$top/packages" "$top/work" "$top/root"
# The mounts are gone with the namespace.
# shellcheck disable=SC2016 # for the shell in there
unshare -m sh -eu -c '
	mount --make-rprivate /
	mount -t overlay overlay -o "lowerdir=/,upperdir=$1/packages,workdir=$1/work" "$1/root"
	for directory in proc sys dev; do
		mount --rbind "/$directory" "$1/root/$directory"
	done
	# Nothing is started.
	printf "#!/bin/sh\nexit 101\n" >"$1/root/usr/sbin/policy-rc.d"
	chmod +x "$1/root/usr/sbin/policy-rc.d"
	export DEBIAN_FRONTEND=noninteractive
	chroot "$1/root" apt-get update -q
	# shellcheck disable=SC2086 # a list of words
	chroot "$1/root" apt-get install -y -q --no-install-recommends $2
' sh "$top" "$packages"
: >"$top/complete"
