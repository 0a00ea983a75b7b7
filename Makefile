# Works with GNU make and BSD make.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
PROGRAMS ?= target/release
SEEDS ?= 100000
EXECUTIONS ?= 200000
BENCH ?=

all: build

# The programs, optimised.
build:
	$(CARGO) build --release --locked --bins

# Everything that proves the programs; installs what it needs when run by root on Debian.
check: tools lint freebsd-check test fuzz-short simulate-short

tools:
	sh regress/tools.sh

lint:
	sh regress/lint.sh

test:
	$(CARGO) test --workspace --locked

# Fuzz targets, a short and fixed number of executions each.
fuzz-short:
	sh regress/fuzz.sh 20000

# The same for a long time: make fuzz EXECUTIONS=10000000
fuzz:
	sh regress/fuzz.sh $(EXECUTIONS)

# A fixed set of seeds of the simulated cluster, about two minutes; then the proof that broken engines
# are caught.
simulate-short:
	$(CARGO) run --release --locked -p hast-regress --bin hast-sim -- --seeds 6000 --jobs 2
	$(CARGO) run --release --locked -p hast-regress --bin hast-sim -- --histories 4
	$(CARGO) test --release --locked -p hast-regress --features mutants --test mutants

# More of them: make simulate SEEDS=1000000
simulate:
	$(CARGO) run --release --locked -p hast-regress --bin hast-sim -- --seeds $(SEEDS)

# The failover kits with the real programs: keepalived, then Pacemaker and Corosync in containers of
# their own. For root on Debian; a few minutes.
failover: build
	HAST_PROGRAMS=`pwd`/target/release $(CARGO) test --locked -p hast-regress --test kits -- --nocapture
	sh regress/failover/pacemaker.sh target/release

# Two nodes on this machine, a failover, nothing lost.
demo: build
	sh regress/demo.sh

# Measures it beside what it can be compared with on this machine: make bench BENCH=--quick
bench: build
	$(CARGO) run --release --locked --quiet -p hast-regress --bin hast-bench -- $(BENCH)

# Instructions of a request's steps, compared with what is on record: a regression shows also on a
# machine that is busy. Needs valgrind.
bench-instructions:
	$(CARGO) run --release --locked --quiet -p hast-regress --bin hast-instructions -- check

# Times of the wire protocol's parts.
bench-wire:
	$(CARGO) bench --locked -p hast-regress --bench wire

# Where hier(7) wants it; DESTDIR and PREFIX as usual. SYSTEM and PROGRAMS: of another system.
install: build
	sh etc/install.sh "$(DESTDIR)" "$(PREFIX)" "$(PROGRAMS)" "$${SYSTEM:-`uname -s`}"

# A package for Debian, in target/debian; needs debhelper. It is installed and removed in a root
# directory of its own, if that is possible.
deb: build
	mkdir -p target/debian
	PROGRAMS=target/release debian/rules binary
	sh regress/failover/package.sh target/debian/hast_*.deb
	sh regress/failover/systemd.sh target/debian/hast_*.deb

# Type-checks and lints everything for FreeBSD.
freebsd-check:
	sh regress/freebsd/check.sh

# Links the programs for FreeBSD.
freebsd-link:
	sh regress/freebsd/link.sh

# Everything for a FreeBSD machine that has only the base system, tests included, as a tar.
# FREEBSD_SYSROOT=<dir>: linked against that system by clang and lld; else for FreeBSD 14 and later.
freebsd:
	sh regress/freebsd/bundle.sh

# A port for the ports tree, with the crates of Cargo.lock, in target/freebsd-port.
freebsd-port:
	sh etc/freebsd-port/generate.sh

clean:
	$(CARGO) clean

.PHONY: all build check failover deb tools lint test fuzz-short fuzz simulate-short simulate demo bench bench-instructions bench-wire install freebsd-check freebsd-link freebsd freebsd-port clean
