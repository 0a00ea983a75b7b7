#!/bin/sh
# Installs programs, manual pages, samples and what belongs to the system, as hier(7) has it.
#
#   install.sh destdir prefix programs system
#
# programs: the directory of hastd and hastctl; system: FreeBSD or Linux, as of uname(1). What shells
# complete hastctl with is printed by hastctl itself, or by $HASTCTL if that cannot run here.
set -eu
cd "$(dirname "$0")/.."

[ $# -eq 4 ] || {
	echo "usage: install.sh destdir prefix programs system" >&2
	exit 64
}
prefix=$2
destdir=$1
root=$1$2
programs=$3
system=$4

case $system in
FreeBSD | Linux) ;;
*)
	echo "install.sh: unknown system $system" >&2
	exit 64
	;;
esac

# Where configuration is looked for; /usr is the system's own.
case $prefix in
/usr) sysconfdir=/etc ;;
*) sysconfdir=$prefix/etc ;;
esac

# Copies a file, with the prefix in place of %%PREFIX%%. Nobody's configuration is overwritten:
# what the administrator changes is installed as a sample only. A destination that begins with a
# slash is not below the prefix.
put()
{
	mode=$1
	from=$2
	case $3 in
	/*) to=$destdir$3 ;;
	*) to=$root/$3 ;;
	esac
	mkdir -p "$(dirname "$to")"
	rm -f "$to"
	sed "s,%%PREFIX%%,$prefix,g; s,%%SYSCONFDIR%%,$sysconfdir,g" "$from" >"$to"
	chmod "$mode" "$to"
}

mkdir -p "$root/sbin"
for program in hastd hastctl; do
	rm -f "$root/sbin/$program"
	cp "$programs/$program" "$root/sbin/$program"
	chmod 0555 "$root/sbin/$program"
done

for page in man/*.[58]; do
	case $system$page in
	FreeBSDman/vrrp*) continue ;;
	esac
	put 0444 "$page" "share/man/man${page##*.}/${page#man/}"
done
for sample in hast.conf.sample hast.toml.sample; do
	put 0444 "etc/$sample" "share/examples/hast/$sample"
done
put 0444 etc/failover/switch.sh share/hast/switch.sh
for schema in etc/schema/*.json; do
	put 0444 "$schema" "share/hast/${schema#etc/schema/}"
done
for sample in prometheus/hast.rules.yml prometheus/hast.rules.test.yml grafana/hast.json; do
	put 0444 "etc/$sample" "share/examples/hast/${sample#*/}"
done
put 0444 LICENSE share/licenses/hast/LICENSE

# complete shell path
completion()
{
	mkdir -p "$(dirname "$root/$2")"
	"${HASTCTL:-$programs/hastctl}" completions "$1" >"$root/$2"
	chmod 0444 "$root/$2"
}

if "${HASTCTL:-$programs/hastctl}" completions bash >/dev/null 2>&1; then
	completion bash share/bash-completion/completions/hastctl
	completion fish share/fish/vendor_completions.d/hastctl.fish
	case $system in
	FreeBSD) completion zsh share/zsh/site-functions/_hastctl ;;
	Linux) completion zsh share/zsh/vendor-completions/_hastctl ;;
	esac
else
	echo "install.sh: ${HASTCTL:-$programs/hastctl} cannot run here: no completions" >&2
fi

case $system in
FreeBSD)
	put 0555 etc/carp-hast-switch sbin/carp-hast-switch
	put 0644 etc/carp-hast-switch.conf.sample etc/carp-hast-switch.conf.sample
	put 0555 etc/rc.d/hastd etc/rc.d/hastd
	put 0644 etc/devd/hast.conf etc/devd/hast.conf
	put 0644 etc/newsyslog.conf.d/hastd.conf etc/newsyslog.conf.d/hastd.conf
	put 0644 etc/syslog.d/hastd.conf etc/syslog.d/hastd.conf
	put 0555 etc/periodic/daily/410.status-hast etc/periodic/daily/410.status-hast
	;;
Linux)
	put 0555 etc/keepalived/vrrp-hast-switch sbin/vrrp-hast-switch
	for sample in keepalived.conf.sample vrrp-hast-switch.conf.sample; do
		put 0444 "etc/keepalived/$sample" "share/examples/hast/$sample"
	done
	put 0555 etc/ocf/hast lib/ocf/resource.d/hast/hast
	for unit in hastd.service vrrp-hast-follow.service; do
		put 0444 "etc/systemd/$unit" "lib/systemd/system/$unit"
	done
	put 0444 etc/sysusers.d/hast.conf lib/sysusers.d/hast.conf
	put 0444 etc/tmpfiles.d/hast.conf lib/tmpfiles.d/hast.conf
	put 0444 etc/rsyslog.d/hast.conf.sample share/examples/hast/rsyslog.conf.sample
	put 0644 etc/logrotate.d/hast "$sysconfdir/logrotate.d/hast"
	;;
esac
