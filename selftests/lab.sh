#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: tools/lab/run tells the truth about what happens in a guest: success, failure, a kernel that complains
# or dies, a command that never ends; and guests that count instructions count the same.
set -u
cd "$(dirname "$0")/.." || exit 1
cases=0 failures=0

echo "TAP version 13"
if ! command -v qemu-system-x86_64 >/dev/null || ! tools/lab/fetch kernel 6.1 >/dev/null; then
	echo "1..0 # SKIP no QEMU, or no kernel to be had"
	exit 4
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# verdict NAME: of the command before
verdict() {
	local good=$?
	cases=$((cases + 1))
	if ((good == 0)); then
		echo "ok $cases - $1"
	else
		echo "not ok $cases - $1"
		sed 's/^/# /' "$scratch"/{out,err}
		failures=$((failures + 1))
	fi
}

# guest OPTION... -- COMMAND: on 6.1, without the module
guest() {
	tools/lab/run --kernel 6.1 --no-module "$@" >"$scratch/out" 2>"$scratch/err"
	status=$?
}

guest -- 'echo one; echo "two  three"; echo four >&2; exit 7'
((status == 7)) && diff "$scratch/out" <(printf 'one\ntwo  three\nfour\n') >&2
verdict "a line for the shell: its output, its exit status"

echo 'the file' >"$scratch/data"
guest --file "$scratch/data" -- sh -c 'cat "$1" && echo "$2" && (sleep 1000 & sleep 1000 >/dev/null &)' \
	sh "$scratch/data" "it's  fine"
((status == 0)) && diff "$scratch/out" <(printf "the file\nit's  fine\n") >&2
verdict "a command and its arguments; a file; nobody waits for what it leaves behind"

guest -- 'echo "<1>BUG: said the test" >/dev/kmsg'
((status == 125)) && grep -q 'BUG: said the test' "$scratch/err"
verdict "a complaint of the kernel's is a failure, and is shown"

guest -- 'echo before; sleep 1; echo c >/proc/sysrq-trigger; echo after'
((status == 125)) && grep -q before "$scratch/out" && ! grep -q after "$scratch/out" &&
	grep -q sysrq_handle_crash "$scratch/err"
verdict "a kernel that dies is a failure at once, and is shown"

SECONDS=0
guest --timeout 20 -- 'echo before; sleep 1000'
((status == 124 && SECONDS >= 19)) && grep -q before "$scratch/out"
verdict "what never ends is ended"

truncate -s 32M "$scratch/disk" && mkfs.ext4 -q "$scratch/disk" 2>"$scratch/err"
guest --disk "$scratch/disk" -- 'echo kept >/disk/file'
guest --disk "$scratch/disk" -- 'cat /disk/file'
((status == 0)) && grep -q kept "$scratch/out"
verdict "a disk keeps what was written to it"

count='ls -lR /sys >/dev/null; cat /proc/uptime; head -c 100 /dev/urandom | md5sum; grep ctxt /proc/stat'
guest --icount -- "$count"
cp "$scratch/out" "$scratch/first"
guest --icount -- "$count"
((status == 0)) && grep -q ctxt "$scratch/out" && cmp "$scratch/first" "$scratch/out" >&2
verdict "two guests that count instructions agree to the digit"

echo "1..$cases"
exit $((failures > 0))
