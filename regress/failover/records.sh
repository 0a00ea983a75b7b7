#!/bin/sh
# Writes records to /mnt/records, which is there while the file system is mounted, each made durable before it is noted as
# acknowledged, until there is /shared/stop.
#
#	records.sh <node>
set -u

number=0
while [ ! -e /shared/stop ]; do
	if [ ! -d /mnt/records ]; then
		sleep 0.05
		continue
	fi
	number=$((number + 1))
	record="$1 $$ $number"
	# A line feed before it: what is left of a record that failed must not garble this one.
	if printf '\n%s\n' "$record" >>"/mnt/records/$1" && sync "/mnt/records/$1" /mnt/records; then
		echo "$record" >>"/shared/acknowledged.$1"
	fi
done
