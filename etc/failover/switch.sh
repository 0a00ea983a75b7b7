# shellcheck shell=sh
# What the scripts have in common that move HAST resources with an address which two nodes share:
# carp-hast-switch(CARP, FreeBSD) and vrrp-hast-switch (keepalived, Linux). Read by them with `.`.
#
# An event only says that something has changed; what to do is decided by the state that the address
# has when the script's turn has come. One instance works at a time, the others wait for it: events
# that come quickly after one another end in what the last state asks for. Each step looks at what
# is there and does what is missing, so that running it twice does no harm and running it again
# after a failure goes on from there.
#
# A condition is waited for, and looked at each second. Nothing is forced on a peer that is still
# primary: as long as it is connected the promotion waits, and fails after the timeout.
#
# They define before they call switch_main:
#
#   NAME			for the log
#   CONFIG, LOCK		files
#   DEVICES			the directory of the devices
#   ADDRESS			the word of the configuration that names the address, and its argument
#   address_parse argument	notes the address; fails if that is none
#   address_state		prints MASTER, BACKUP or INIT, or nothing if there is no such address
#   option word arguments	takes in another line of the configuration; fails with usage in $usage,
#				or without if it does not know the word
#   item_words kind		prints how many words an item of that kind needs at least; fails for
#				one that does not exist
#   promote_item kind words, demote_item kind words
#   has_no_secondary resource	whether no primary is connected to us
#   locked command		runs it when no other instance runs

# Seconds for which an instance waits for another one, for `locked`.
# shellcheck disable=SC2034
LOCK_TIMEOUT=3600

log()
{
	level=$1
	shift
	logger -p "daemon.$level" -t "$NAME" "$*"
}

usage()
{
	echo "usage: $NAME event ... | follow | primary | secondary | check" >&2
	exit 64
}

configuration_error()
{
	log err "$CONFIG: $*"
	echo "$NAME: $CONFIG: $*" >&2
	exit 78
}

# ---- the configuration

timeout=60
has_address=no
# Lines of items, in their order, and reversed.
items=""
reversed=""

# A positive number, without any surprises for test(1).
is_number()
{
	case $1 in
	'' | 0* | *[!0-9]* | ?????????*) return 1 ;;
	esac
}

read_configuration()
{
	[ -r "$CONFIG" ] || configuration_error "cannot be read"
	number=0
	while read -r word rest || [ -n "${word:-}" ]; do
		number=$((number + 1))
		rest=${rest%%#*}
		# shellcheck disable=SC2086 # words
		set -- $rest
		case $word in
		'' | '#'*) ;;
		"${ADDRESS%% *}")
			if [ $# -ne 1 ] || ! address_parse "$1"; then
				configuration_error "line $number: $ADDRESS"
			fi
			has_address=yes
			;;
		timeout)
			if [ $# -ne 1 ] || ! is_number "$1"; then
				configuration_error "line $number: timeout <seconds>"
			fi
			timeout=$1
			;;
		*) read_line "$word" "$@" ;;
		esac
	done <"$CONFIG"
	[ "$has_address" = yes ] || configuration_error "there is no line ${ADDRESS%% *}"
	[ -n "$items" ] || configuration_error "there is nothing to move"
}

# What differs between the scripts.
read_line()
{
	usage=""
	option "$@" && return
	[ -z "$usage" ] || configuration_error "line $number: $usage"
	least=$(item_words "$1") || configuration_error "line $number: unknown word $1"
	[ $# -gt "$least" ] || configuration_error "line $number: $1 needs $least words at least"
	items="$items$*
"
	reversed="$*
$reversed"
}

# ---- what there is

role_of()
{
	hastctl list "$1" 2>/dev/null | awk '$1 == "role:" { print $2; exit }'
}

answers()
{
	hastctl list >/dev/null 2>&1
}

has_device()
{
	[ -e "$DEVICES/$1" ]
}

# Whether the state that this instance works towards is still asked for.
is_wanted()
{
	case $goal in
	primary) [ -z "$follows" ] || [ "$(address_state)" = MASTER ] ;;
	*) true ;;
	esac
}

# Waits until a condition holds; looks each second. Gives up after the timeout, and as soon as the
# goal is no longer wanted.
wait_for()
{
	left=$timeout
	until "$@"; do
		if [ "$left" -le 0 ] || ! is_wanted; then
			return 1
		fi
		left=$((left - 1))
		sleep 1
	done
}

# ---- roles

take_role()
{
	[ "$(role_of "$1")" = primary ] && return 0
	if ! wait_for has_no_secondary "$1"; then
		if is_wanted; then
			log err "resource $1: the other node is still primary and connected"
		fi
		return 1
	fi
	if ! said=$(hastctl role primary "$1" 2>&1); then
		log err "resource $1: unable to become primary: $said"
		return 1
	fi
	log notice "resource $1: primary"
}

take_device()
{
	take_role "$1" || return 1
	if ! wait_for has_device "$1"; then
		log err "resource $1: there is no $DEVICES/$1 after $timeout s"
		return 1
	fi
}

give_role()
{
	[ "$(role_of "$1")" = secondary ] && return 0
	if ! said=$(hastctl role secondary "$1" 2>&1); then
		log err "resource $1: unable to become secondary: $said"
		return 1
	fi
	log notice "resource $1: secondary"
}

# ---- all of it

# Every item, whatever becomes of the others, but a service or script only if all before it went
# well: it would find an empty directory.
promote()
{
	failed=0
	while read -r kind arguments; do
		[ -n "$kind" ] || continue
		if ! is_wanted; then
			log notice "no longer master: promotion ends"
			return 1
		fi
		case $failed$kind in
		1service | 1script)
			log err "$kind $arguments: not started, as something before it failed"
			continue
			;;
		esac
		# shellcheck disable=SC2086 # words
		promote_item "$kind" $arguments </dev/null || failed=1
	done <<-ITEMS
		$items
	ITEMS
	return "$failed"
}

demote()
{
	failed=0
	while read -r kind arguments; do
		[ -n "$kind" ] || continue
		# shellcheck disable=SC2086 # words
		demote_item "$kind" $arguments </dev/null || failed=1
	done <<-ITEMS
		$reversed
	ITEMS
	return "$failed"
}

work()
{
	# At boot an event may come before the daemon is there.
	if ! wait_for answers; then
		log err "hastd does not answer: nothing was done"
		return 1
	fi
	case $goal in
	primary) promote ;;
	secondary) demote ;;
	esac
	result=$?
	if [ "$result" -ne 0 ] && is_wanted; then
		log err "not everything is $goal: see above"
	fi
	return "$result"
}

# Without a goal: what the address says when our turn has come.
follow()
{
	state=$(address_state)
	case $state in
	MASTER) goal=primary ;;
	BACKUP | INIT) goal=secondary ;;
	*)
		log err "${ADDRESS%% *}: there is no such address or interface"
		return 1
		;;
	esac
	follows=yes
	work
}

goal=""
follows=""

# follow, primary, secondary: when our turn has come.
switch_main()
{
	case ${1:-} in
	--locked)
		case $2 in
		follow) follow ;;
		*)
			goal=$2
			work
			;;
		esac
		;;
	follow | primary | secondary)
		[ $# -eq 1 ] || usage
		locked "$0" --locked "$1"
		;;
	check)
		[ $# -eq 1 ] || usage
		answers
		;;
	*) usage ;;
	esac
}
