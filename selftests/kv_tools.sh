#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
#
# kv and the programs that come with Redis: redis-cli in its several ways, redis-benchmark, redis-check-aof.
set -u

build=${BUILD:-build}
kv=${KV:-$build/examples/kv}
cases=0
failures=0

for program in redis-cli redis-benchmark redis-check-aof; do
	command -v $program >/dev/null || { echo "1..0 # SKIP $program is not installed"; exit 4; }
done
[ -x "$kv" ] || { echo "1..0 # SKIP $kv is not built"; exit 4; }

dir=$(mktemp -d)
kv_pid=
finish()
{
	trap - EXIT
	[ -z "$kv_pid" ] || kill -9 "$kv_pid" 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

# says NAME WANTED: compares what the case has written to $dir/out
says()
{
	cases=$((cases + 1))
	printf '%s\n' "$2" >"$dir/wanted"
	if cmp -s "$dir/wanted" "$dir/out"; then
		echo "ok $cases - $1"
	else
		failures=$((failures + 1))
		echo "not ok $cases - $1"
		diff "$dir/wanted" "$dir/out" | head -n 20 | sed 's/^/#   /'
	fi
}

port=$("$build/selftests/kv/load" port)
"$kv" --port "$port" --bind 127.0.0.1 --dir "$dir" --appendonly yes --appendfilename tools.aof \
	>"$dir/log" 2>&1 &
kv_pid=$!
tries=0
until [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ]; do
	tries=$((tries + 1))
	if ! kill -0 $kv_pid 2>/dev/null || [ $tries -ge 400 ]; then
		sed 's/^/# /' "$dir/log"
		echo '# the server does not start'
		exit 1
	fi
	sleep 0.05
done
cli()
{
	redis-cli -p "$port" "$@"
}

{
	cli set text 'some words'
	cli get text
	cli --raw append text ' more'
	cli -3 get none
	cli incr text
} >"$dir/out" 2>&1
says 'redis-cli: one command' 'OK
some words
15

ERR value is not an integer or out of range
'

printf 'set a 1\nget a\nmget a b\nsubscribed x\n' | cli >"$dir/out" 2>&1
says 'redis-cli: commands from its input' "OK
1
1

ERR unknown command 'subscribed', with args beginning with: 'x' 
"

i=0
while [ $i -lt 1000 ]; do
	# shellcheck disable=SC2016 # these are no variables
	printf '*3\r\n$3\r\nSET\r\n$8\r\npipe:%03d\r\n$1\r\nx\r\n' $i
	i=$((i + 1))
done | cli --pipe 2>&1 | tail -n 1 >"$dir/out"
says 'redis-cli --pipe' 'errors: 0, replies: 1000'

cli --scan --pattern 'pipe:*' | sort | sed -n '1p;$p' >"$dir/out"
cli --scan | wc -l >>"$dir/out"
cli dbsize >>"$dir/out"
says 'redis-cli --scan' 'pipe:000
pipe:999
1002
1002'

{
	cli info server | grep -c '^redis_version:7'
	cli info | grep -c '^# '
	cli client list | grep -c 'addr=127.0.0.1:'
	cli client setname "$$"
	cli config get appendfilename
	cli command count | grep -c '^[1-9][0-9]*$'
} >"$dir/out" 2>&1
sed -i '2s/^[1-9].*/some/' "$dir/out"
says 'redis-cli: what it asks of the server' '1
some
1
OK
appendfilename
tools.aof
1'

redis-benchmark -p "$port" -q -c 30 -n 6000 -t ping_inline,ping_mbulk,set,get,incr,mset >"$dir/bench" 2>&1
redis-benchmark -p "$port" -q -c 30 -n 60000 -P 32 -r 10000 -t set,get,incr,mset >>"$dir/bench" 2>&1
redis-benchmark -p "$port" -q -3 -c 5 -n 1000 -d 20000 -t set,get >>"$dir/bench" 2>&1
{
	tr '\r' '\n' <"$dir/bench" | grep -c 'requests per second'
	tr '\r' '\n' <"$dir/bench" | grep -iE 'error|warning'
} >"$dir/out"
says 'redis-benchmark' '12'

cli client list | wc -l >"$dir/out"
says 'redis-benchmark left no clients behind' '1'

inode=$(stat -c %i "$dir"/*.aof 2>/dev/null)
cli bgrewriteaof >"$dir/out"
tries=0
while [ "$(stat -c %i "$dir"/*.aof 2>/dev/null)" = "$inode" ] && [ $tries -lt 100 ]; do
	tries=$((tries + 1))
	sleep 0.05
done
cli set after rewrite >>"$dir/out"
cli shutdown nosave >>"$dir/out" 2>&1
wait $kv_pid
echo "status $?" >>"$dir/out"
kv_pid=
says 'BGREWRITEAOF, then SHUTDOWN' 'Background append only file rewriting started
OK
status 0'

# A redis-server in kv's place keeps several files in a directory of their own.
if [ ! -d "$dir/appendonlydir" ]; then
	redis-check-aof "$dir/tools.aof" 2>&1 | tail -n 1 >"$dir/out"
	says 'redis-check-aof' "AOF $dir/tools.aof is valid"
fi

echo "1..$cases"
[ $failures -eq 0 ]
