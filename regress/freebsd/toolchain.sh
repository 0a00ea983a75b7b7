#!/bin/sh
# Debian's compiler, which comes with the source of the standard library, set up for FreeBSD.
#
#   toolchain.sh install         installs the packages, if that is possible and needed
#   toolchain.sh run command...  runs a command with the compiler's environment
#
# The packages are rustc-web, cargo-web, rust-web-src and rust-web-clippy, 1.88 or later, from
# Debian's security archive. They live in /usr/bin; a toolchain of rustup, earlier on PATH, is not
# used.
set -eu

packages="rustc-web cargo-web rust-web-src rust-web-clippy"

missing_packages() {
	for package in $packages; do
		dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
			printf '%s ' "$package"
	done
}

install_packages() {
	if ! command -v dpkg-query >/dev/null 2>&1; then
		echo "freebsd: the compiler is taken from Debian's packages, and this is not Debian" >&2
		return 1
	fi
	missing=$(missing_packages)
	if [ -n "$missing" ]; then
		if [ "$(id -u)" -ne 0 ]; then
			echo "freebsd: not installed, and cannot be by this user: $missing" >&2
			return 1
		fi
		DEBIAN_FRONTEND=noninteractive
		export DEBIAN_FRONTEND
		# shellcheck disable=SC2086 # a list of words
		if ! { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; }; then
			echo "freebsd: these packages cannot be installed: $missing" >&2
			return 1
		fi
	fi
	minor=$(/usr/bin/rustc --version | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
	if [ "${minor:-0}" -lt 88 ]; then
		echo "freebsd: $(/usr/bin/rustc --version) is too old, 1.88 is needed; is the security" \
			"archive among apt's sources?" >&2
		return 1
	fi
}

case "${1:-}" in
install)
	install_packages
	;;
run)
	shift
	unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WRAPPER \
		RUSTC_WORKSPACE_WRAPPER RUSTUP_TOOLCHAIN
	PATH=${FREEBSD_PATH:+$FREEBSD_PATH:}/usr/bin:/bin:/usr/sbin:/sbin
	CARGO=/usr/bin/cargo
	RUSTC=/usr/bin/rustc
	RUSTDOC=/usr/bin/rustdoc
	# Building the standard library is not a stable feature of cargo.
	RUSTC_BOOTSTRAP=1
	CARGO_TARGET_DIR=${FREEBSD_TARGET_DIR:-target/freebsd}
	export PATH CARGO RUSTC RUSTDOC RUSTC_BOOTSTRAP CARGO_TARGET_DIR
	exec "$@"
	;;
*)
	echo "usage: toolchain.sh install | run command ..." >&2
	exit 64
	;;
esac
