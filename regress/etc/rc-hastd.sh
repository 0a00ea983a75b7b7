#!/bin/sh
# Runs etc/rc.d/hastd with a model of rc.subr(8) and stubs for the programs, and etc/periodic's
# script with a stub of hastctl.
#
#   rc-hastd.sh [shell]		the shell to run them with; sh otherwise
#
# One line per case; exits 1 if any failed.
set -eu
cd "$(dirname "$0")/../.."
shell=$(command -v "${1:-sh}")

top=$(mktemp -d)
other=""
trap 'rm -rf "$top"; [ -z "$other" ] || kill "$other" 2>/dev/null || true' EXIT
mkdir -p "$top/sbin" "$top/bin"
sed "s,%%PREFIX%%,$top,g; s,/etc/rc.subr,$top/rc.subr,g" etc/rc.d/hastd >"$top/hastd"
sed "s,%%PREFIX%%,$top,g; s,/etc/defaults/periodic.conf,$top/periodic.conf,g" \
	etc/periodic/daily/410.status-hast >"$top/periodic"

# What the script uses of rc.subr(8), as its manual page says.
cat >"$top/rc.subr" <<'SUBR'
warn() { echo "hastd: WARNING: $*"; }
load_rc_config() { . "$TOP/rc.conf"; }
run_rc_command()
{
	verb=${1#one}
	if [ "$verb" = "$1" ]; then
		eval "enabled=\$$rcvar"
		[ "$enabled" = YES ] || { echo "not enabled"; exit 1; }
	fi
	[ -r "$required_files" ] || { warn "$required_files is not readable."; exit 1; }
	case $verb in
	start)
		$start_precmd || exit 1
		echo "would run $command $command_args"
		;;
	stop)
		$stop_precmd || exit 1
		echo "would end $command by $pidfile"
		;;
	reload)
		case " $extra_commands " in *" reload "*) ;; *) exit 1 ;; esac
		$reload_precmd || exit 1
		echo "would signal $command by $pidfile"
		;;
	esac
}
SUBR
cat >"$top/sbin/hastctl" <<'STUB'
#!/bin/sh
echo "hastctl $*" >>"$TOP/calls"
case $1 in
list) cat "$TOP/list" ;;
*) [ ! -e "$TOP/fail.$1" ] ;;
esac
STUB
cat >"$top/bin/mount" <<'STUB'
#!/bin/sh
printf '/dev/ada0p2\t/\tufs\trw\t1 1\n'
[ ! -e "$TOP/mounted" ] || printf '/dev/hast/data\t/export\tufs\trw\t0 0\n'
STUB
cat >"$top/bin/sync" <<'STUB'
#!/bin/sh
echo sync >>"$TOP/calls"
STUB
chmod +x "$top/sbin/hastctl" "$top"/bin/*
: >"$top/hast.conf"
printf 'hastd_enable=YES\nhastd_config=%s/hast.conf\nhastd_pidfile=%s/pid\n' "$top" "$top" \
	>"$top/rc.conf"

passed=0
failed=0

run()
{
	rm -f "$top/calls"
	: >"$top/calls"
	status=0
	env TOP="$top" PATH="$top/bin:/usr/bin:/bin" "$shell" "$@" >"$top/output" 2>&1 || status=$?
}

case_is()
{
	if [ "$2" = "$3" ]; then
		passed=$((passed + 1))
		echo "ok $1"
	else
		failed=$((failed + 1))
		echo "FAILED $1"
		echo "expected: $2"
		echo "found:    $3"
	fi
}

result()
{
	echo "$status"
	sed "s,$top,TOP,g" "$top/calls" "$top/output"
}

run "$top/hastd" start
case_is "start checks the configuration first" "0
hastctl config check -c TOP/hast.conf
would run TOP/sbin/hastd -c TOP/hast.conf" "$(result)"

: >"$top/fail.config"
run "$top/hastd" start
case_is "a configuration that is not right starts nothing" "1
hastctl config check -c TOP/hast.conf
hastd: WARNING: TOP/hast.conf is not right: nothing was done" "$(result)"
run "$top/hastd" reload
case_is "nor is it handed to a daemon that runs" "1
hastctl config check -c TOP/hast.conf
hastd: WARNING: TOP/hast.conf is not right: nothing was done" "$(result)"
rm "$top/fail.config"
run "$top/hastd" reload
case_is "reload signals the daemon" "0
hastctl config check -c TOP/hast.conf
would signal TOP/sbin/hastd by TOP/pid" "$(result)"

run "$top/hastd" stop
case_is "stop gives the roles up first" "0
hastctl role -c TOP/hast.conf init all
would end TOP/sbin/hastd by TOP/pid" "$(result)"
: >"$top/fail.role"
: >"$top/mounted"
run "$top/hastd" stop
case_is "stop ends a daemon that hangs, and tells what is still mounted" "0
sync
hastctl role -c TOP/hast.conf init all
hastd: WARNING: still mounted, and about to lose their device: /export
hastd: WARNING: the daemon did not give its roles up
would end TOP/sbin/hastd by TOP/pid" "$(result)"
rm "$top/fail.role" "$top/mounted"

# A process that is called hastd: a copy of sleep(1).
cp "$(command -v sleep)" "$top/bin/hastd"
"$top/bin/hastd" 300 &
other=$!
echo "$other" >"$top/pid"
run "$top/hastd" start
case_is "the base system's daemon, if it runs, is not joined by a second one" "1
hastd: WARNING: another hastd runs already, as process $other" "$(result)"
kill "$other"
wait "$other" 2>/dev/null || true
other=""
run "$top/hastd" start
case_is "a pidfile that was left behind hinders nothing" 0 "$status"
rm "$top/bin/hastd" "$top/pid"

sed -i.bak 's/YES/NO/' "$top/rc.conf"
run "$top/hastd" start
case_is "it starts only if enabled" "1
not enabled" "$(result)"
run "$top/hastd" onestart
case_is "or asked to once" 0 "$status"

# ---- periodic

printf 'source_periodic_confs() { daily_status_hast_enable=YES; }\n' >"$top/periodic.conf"
lines()
{
	printf '%s:\n  role: %s\n  provname: x\n  status: %s\n  dirty: %s\n  statistics:\n' "$@"
}
lines good primary complete '0 (0B)' >"$top/list"
run "$top/periodic"
case_is "periodic: all is well" "0
hastctl list

Status of HAST resources:
all resources are well" "$(result)"
{
	lines good secondary complete '0 (0B)'
	lines alone primary degraded '2097152 (2.0MB)'
	printf 'off:\n  role: init\n  provname: off\n'
} >"$top/list"
run "$top/periodic"
case_is "periodic: what is not well is told" "1
hastctl list

Status of HAST resources:
alone: primary, not connected, 2.0MB to be synchronised
off: no role" "$(result)"
rm "$top/list"
run "$top/periodic"
case_is "periodic: a daemon that does not answer is told" "3" "$status"
printf 'source_periodic_confs() { :; }\n' >"$top/periodic.conf"
run "$top/periodic"
case_is "periodic: silent unless enabled" "0" "$(result)"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
