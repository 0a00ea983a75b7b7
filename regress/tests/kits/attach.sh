#!/bin/sh
# The file system of a node, as an item of a failover kit: the NBD export as a file by FUSE, that as
# a block device, that mounted. For kernels without nbd.
#
#	attach.sh start | stop | status <directory> <socket>
set -eu

home=$2
socket=$3

until_true()
{
	left=600
	until "$@"; do
		left=$((left - 1))
		if [ "$left" -eq 0 ]; then
			echo "in vain: $*" >&2
			return 1
		fi
		sleep 0.05
	done
}

has_size()
{
	[ -s "$home/disk" ]
}

has_ended()
{
	! kill -0 "$(cat "$home/nbdfuse.pid")" 2>/dev/null
}

case $1 in
status)
	mountpoint -q "$home/mnt"
	;;
start)
	mkdir -p "$home/mnt"
	: >"$home/disk"
	setsid nbdfuse "$home/disk" --unix "$socket" </dev/null >"$home/nbdfuse.log" 2>&1 &
	echo $! >"$home/nbdfuse.pid"
	until_true has_size
	[ -n "$(blkid -p -o value -s TYPE "$home/disk")" ] || mkfs.ext4 -q -F "$home/disk"
	# A loop device that goes with the mount.
	mount -o loop "$home/disk" "$home/mnt"
	# Nobody writes beside the file system when it is not there.
	mkdir -p "$home/mnt/records"
	;;
stop)
	# Whoever writes to it does so in between.
	! mountpoint -q "$home/mnt" || until_true umount -q "$home/mnt"
	if [ -e "$home/nbdfuse.pid" ]; then
		has_ended || umount "$home/disk"
		until_true has_ended
		rm "$home/nbdfuse.pid"
	fi
	;;
esac
