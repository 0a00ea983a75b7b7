#!/bin/sh
# Links the programs for FreeBSD with zig: symbols that do not exist there show only then. Nobody runs
# these: no optimisation, no names for a debugger.
set -eu
cd "$(dirname "$0")/../.."

CARGO_PROFILE_DEV_DEBUG=0
export CARGO_PROFILE_DEV_DEBUG
sh regress/freebsd/toolchain.sh install
sh regress/freebsd/cross.sh target/freebsd-link build --bins \
	--config 'profile.dev.opt-level=0' --config 'profile.dev.package."*".opt-level=0'
echo "freebsd: the programs link for FreeBSD"
