#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: tools/rooms lets the arrows between rooms point sideways and down, and catches each that points up.
cd "$(dirname "$0")/.." || exit 1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cases=0 failures=0

# try STATUS FILE LINE: the check's answer to a tree with that one line in that file
try() {
	rm -rf "${tree:?}"/*
	mkdir -p "$tree/$(dirname "$2")"
	printf '%s\n' "$3" >"$tree/$2"
	tools/rooms "$tree" >"$tree/said" 2>&1
	status=$?
	cases=$((cases + 1))
	if [ $status -eq "$1" ] && { [ "$1" -eq 0 ] || grep -q "^$2:1: " "$tree/said"; }; then
		echo "ok $cases - $2: $3"
	else
		echo "not ok $cases - $2: $3"
		echo "# status $status: $(cat "$tree/said")"
		failures=$((failures + 1))
	fi
}

try 0 lib/core/a.c '#include "sched/task.h"'
try 0 lib/core/a.c '#include "io/io.h"'
try 0 lib/sched/a.c '#include "io/io.h"'
try 0 lib/io/a.h '#include "sched/task.h"'
try 0 lib/sched/a.c '#include "port/port.h"'
try 0 lib/otp/a.c '#include "core/process.h"'
try 0 lib/core/a.c '#include <mote/process.h>'
try 0 lib/core/a.c '#include <sys/socket.h>'
try 0 examples/a.c '#include <mote.h>'
try 0 examples/kv/a.c '#include "resp.h"'
try 0 tools/bench/peers/threads/a.c '#include "../peer.h"'
try 0 selftests/a.c '#include "sched/wheel.h"'
try 1 lib/sched/a.c '#include "core/process.h"'
try 1 lib/io/a.c '# include "core/process.h"'
try 1 lib/port/a.c '#include "sched/task.h"'
try 1 lib/core/a.h '#include "otp/server.h"'
try 1 lib/core/a.c '#include "process.h"'
try 1 lib/core/a.c '#include "../otp/server.h"'
try 1 lib/attic/a.c '#include <stdio.h>'
try 1 lib/core/a.c '#include "mote/base.h"'
try 1 include/mote/a.h '#include "core/process.h"'
try 1 examples/a.c '#include "core/process.h"'
try 1 examples/kv/a.c '#include "../../lib/core/process.h"'
try 1 tools/bench/a.c '#include "sched/task.h"'

echo "1..$cases"
[ $failures -eq 0 ]
