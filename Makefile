# Works with GNU make and BSD make.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
MANDIR ?= $(PREFIX)/share/man
SYSCONFDIR ?= /etc
SEEDS ?= 100000
EXECUTIONS ?= 200000

all: build

# The programs, optimised.
build:
	$(CARGO) build --release --locked --bins

# Everything that proves the programs; installs what it needs when run by root on Debian.
check: tools lint test fuzz-short simulate-short

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

# A fixed set of seeds of the simulated cluster, about two minutes.
simulate-short:
	$(CARGO) run --release --locked -p hast-regress --bin hast-sim -- --seeds 6000

# More of them: make simulate SEEDS=1000000
simulate:
	$(CARGO) run --release --locked -p hast-regress --bin hast-sim -- --seeds $(SEEDS)

# Two nodes on this machine, a failover, nothing lost.
demo: build
	sh regress/demo.sh

bench:
	$(CARGO) bench --locked -p hast-regress

install: build
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8
	install -m 0555 target/release/hastd target/release/hastctl $(DESTDIR)$(PREFIX)/sbin/
	install -m 0444 man/hast.conf.5 $(DESTDIR)$(MANDIR)/man5/
	install -m 0444 man/hastd.8 man/hastctl.8 $(DESTDIR)$(MANDIR)/man8/
	install -d $(DESTDIR)$(PREFIX)/share/examples/hast
	install -m 0444 etc/hast.conf.sample etc/hast.toml.sample $(DESTDIR)$(PREFIX)/share/examples/hast/

clean:
	$(CARGO) clean

.PHONY: all build check tools lint test fuzz-short fuzz simulate-short simulate demo bench install clean
