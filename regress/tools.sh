#!/bin/sh
# Installs the Debian packages that the checks use, if we may; what is missing otherwise makes the
# tests that need it say so and be skipped.
set -eu

packages="mandoc shellcheck qemu-utils libnbd-bin nbdkit fio iproute2 e2fsprogs fuse3 util-linux procps bmake keepalived prometheus"

missing=""
for package in $packages; do
	if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
		missing="$missing $package"
	fi
done
if [ -z "$missing" ]; then
	exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "not installed, and cannot be by this user:$missing" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -y -q --no-install-recommends $missing
