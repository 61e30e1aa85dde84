#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: each row of docs/features.md names a test that exists, or says why it is left out.
cd "$(dirname "$0")/.." || exit 1

awk -F ' [|] ' '
/^[|] rule |^[|]---/ || !/^[|]/ { next }
{
	rows++
	tests = $NF
	found = 0
	while (match(tests, /(crash|io|jobs|kv|limit|mem|node|otp|port|proc|replay|run|sched)_[a-z0-9_]+/)) {
		name = substr(tests, RSTART, RLENGTH)
		before = RSTART > 5 ? substr(tests, RSTART - 5, 5) : ""
		tests = substr(tests, RSTART + RLENGTH)
		if (before == "mote_")
			continue
		file = "selftests/" name ".c"
		if ((getline line < file) >= 0)
			found++
		else {
			print "not ok " ++cases " - there is no " file ": " $1
			bad = 1
		}
		close(file)
	}
	if (!found && !/left out/ && !/conformance/) {
		print "not ok " ++cases " - no test, and no reason:" $1
		bad = 1
	}
}
END {
	print "# " rows " rows"
	if (rows < 200) {
		print "not ok " ++cases " - rows are missing"
		bad = 1
	}
	if (!bad)
		print "ok " ++cases " - each row has a test or a reason"
	print "1.." cases
	exit bad
}' docs/features.md
