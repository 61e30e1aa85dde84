#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
#
# Power loss for real: kv on a disk of a guest that is switched off (its QEMU killed) at random moments under load. What
# clients were told is known outside, by what they printed on a serial line until then. After the next boot, and what
# the file system makes of its journal, everything acknowledged must be there, with appendfsync always; and with `no`
# something must be missing, or this test could not see a loss.
#
# $CUTS: how many times, each (1); $SEED sows the moments; $KERNEL: which the guest has (7.3).
set -u

build=${BUILD:-build}
cuts=${CUTS:-1}
kernel=${KERNEL:-7.3}
seed=${SEED:-$(date +%s)}
nodes=			# the server's option
connections=6
window=3000		# so many more changes may have been made than were heard of
qemu=${MOTE_LAB_QEMU:-qemu-system-x86_64}
cases=0
failures=0

for program in mkfs.ext4 awk busybox cpio "$qemu"; do
	command -v "$program" >/dev/null || { echo "1..0 # SKIP $program is not installed"; exit 4; }
done
for program in "$build/examples/kv" "$build/selftests/kv/load"; do
	[ -x "$program" ] || { echo "1..0 # SKIP $program is not built"; exit 4; }
done

lab=$PWD/tools/lab/run
dir=$(mktemp -d)
cp "$build/examples/kv" "$build/selftests/kv/load" "$dir/"
lab_pid=
: >"$dir/out"

# Says under which number the guest runs.
cat >"$dir/qemu" <<-END
	#!/bin/sh
	echo \$\$ >"$dir/pid"
	exec "$qemu" "\$@"
END
chmod +x "$dir/qemu"
export MOTE_LAB_QEMU="$dir/qemu"

# The guest loses its power.
cut()
{
	[ ! -s "$dir/pid" ] || kill -9 "$(cat "$dir/pid")" 2>/dev/null
	rm -f "$dir/pid"
}

finish()
{
	trap - EXIT
	if [ -n "$lab_pid" ]; then
		kill "$lab_pid" 2>/dev/null
		cut
		wait "$lab_pid" 2>/dev/null
	fi
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

result()
{
	cases=$((cases + 1))
	if [ "$1" = 0 ]; then
		echo "ok $cases - $2"
	else
		failures=$((failures + 1))
		echo "not ok $cases - $2"
	fi
}

# guest LINE: boots, with the disk, and runs the line. What it prints goes to $dir/out. One CPU: while a kernel boots it
# patches its own code, which the emulation of two now and then gets wrong.
guest()
(
	cd "$dir" && exec "$lab" --kernel "$kernel" --no-module --cpus 1 --timeout 240 --disk disk --file kv --file load --file notes \
		-- "$1" >out 2>err
)

# In the guest: the server on what the disk holds, then what its clients remember.
start="grep -q ' /disk ext4 ' /proc/mounts || { echo no disk; exit 3; }
	./kv --port 6390 --dir /disk --appendonly yes --appendfsync POLICY NODES >/tmp/log 2>&1 &
	tries=0
	until printf 'PING\\r\\n' | nc -w 1 127.0.0.1 6390 2>/dev/null | grep -q PONG; do
		tries=\$((tries + 1))
		[ \$tries -lt 300 ] || { cat /tmp/log; exit 3; }
		sleep 0.1
	done
	./load check 6390 notes $connections >/tmp/check
	status=\$?
	echo checked \$status \$(cat /tmp/check)
	[ \$status = 0 ] || { cat /tmp/check /tmp/log; exit 1; }"
work="awk '{ print \"acked\", int((NR - 1) / 64), (NR - 1) % 64, \$1 }' notes
	echo working
	(while sleep 0.7; do printf 'BGREWRITEAOF\\r\\n' | nc -w 1 127.0.0.1 6390; done) >/dev/null 2>&1 &
	exec ./load say 6390 notes $connections"

line()
{
	echo "$2" | sed "s/POLICY/$1/;s/NODES/$nodes/"
}

# Each key's last change that was acknowledged, of what was known before and what was heard now.
note()
{
	awk -v window=$window -v keys=$((connections * 64)) '
		FILENAME ~ /notes$/ { acked[FNR - 1] = $1; next }
		$1 == "acked" && NF == 4 && $0 !~ /[^a-z0-9 ]/ { key = $2 * 64 + $3; if ($4 > acked[key]) acked[key] = $4 }
		END { for (key = 0; key < keys; key++) print acked[key] + 0, acked[key] + window }' \
		"$dir/notes" "$dir/out" >"$dir/new"
	mv "$dir/new" "$dir/notes"
}

# A moment of at most three seconds, in $moment.
random()
{
	seed=$(((seed * 1103515245 + 12345) % 2147483648))
	moment=$((seed / 65536 % 3000))
	moment=$((moment / 1000)).$(printf %03d $((moment % 1000)))
}

# Waits until the guest has said that some changes were acknowledged.
heard()
{
	until awk '/^working/ { begun = NR } END { exit !begun || NR < begun + 50 }' "$dir/out"; do
		grep -q '^State:.[^Z]' "/proc/$lab_pid/status" || return 1
		sleep 0.1
	done
}

# one POLICY: a boot, some load, a cut. False, with the reason shown: what was there was not right, or nothing came.
one()
{
	: >"$dir/out"
	guest "$(line "$1" "$start")
$(line "$1" "$work")" &
	lab_pid=$!
	random
	good=0
	if heard; then
		sleep "$moment"
	else
		good=1
	fi
	cut
	wait $lab_pid
	lab_pid=
	[ $good = 0 ] || tail -n 30 "$dir/out" "$dir/err" | sed 's/^/# /'
	note
	return $good
}

fresh()
{
	rm -f "$dir/disk"
	truncate -s 256M "$dir/disk"
	mkfs.ext4 -q -F "$dir/disk"
	: >"$dir/out"
	: >"$dir/notes"
	note
}

# powers NAME: some cuts, and a last boot that finds all of it.
powers()
{
	fresh
	done=0
	while [ $done -lt "$cuts" ] && one always; do
		done=$((done + 1))
	done
	total=$(awk '{ n += $1 } END { print n }' "$dir/notes")
	echo "# $done of $cuts cuts, $total changes acknowledged"
	[ $done -eq "$cuts" ] && [ "$total" -gt "$cuts" ] && guest "$(line always "$start")"
	good=$?
	[ $good = 0 ] || tail -n 30 "$dir/out" "$dir/err" | sed 's/^/# /'
	sed -n 's/^checked/# the last boot:/p' "$dir/out"
	result $good "$1"
}

echo TAP version 13
first=$seed
nodes=
powers "switched off under load, always loses nothing acknowledged"
nodes='--nodes 2'
powers "nor with two nodes"

nodes=
fresh
one no
! guest "$(line no "$start")" && grep -q '^checked 1' "$dir/out"
result $? "with no something is lost: a loss would be seen"

echo "# SEED=$first"
echo "1..$cases"
[ $failures = 0 ]
