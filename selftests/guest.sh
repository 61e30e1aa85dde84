#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: in a guest with $GUEST_KERNEL (6.1), two CPUs, and the module loaded: the module's own tests, and those
# of nodes and activations over port kmod. Each program is a case. Needs `make selftests` in $BUILD (build).
set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C
kernel=${GUEST_KERNEL-6.1}
build=${BUILD:-build}
limit=90 all=600 rounds=0.2
[[ $kernel == debug ]] && limit=300 all=2400 rounds=0.05

skip() {
	echo "TAP version 13"
	echo "1..0 # SKIP $*"
	exit 4
}
command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
[[ $(uname -m) == x86_64 ]] || skip "guests are x86_64"
tools/lab/fetch kernel "${kernel/debug/6.12}" >/dev/null || skip "no kernel to be had"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM HUP
if ! make -s BUILD="$build" kmod-tests >"$scratch/make" 2>&1; then
	echo "TAP version 13"
	sed 's/^/# /' "$scratch/make"
	echo "not ok 1 - the module's tests are built"
	echo "1..1"
	exit 1
fi
programs=()
for program in "$build"/selftests/kmod/* "$build"/selftests/{node_*,activation}; do
	[[ -f $program && -x $program ]] && programs+=("$program")
done

# What the guest prints between two of these words is a program's own.
mark=$(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \n')
play() {
{
	tools/lab/run --kernel "$kernel" --cpus 2 --timeout $all "${programs[@]/#/--file=}" -- \
		"export MOTE_PORT=kmod MOTE_TEST_ROUNDS=$rounds; each $mark $limit ${programs[*]}" 2>"$scratch/errors"
	echo "$mark run $?"
} | awk -v mark="$mark" -v programs="${programs[*]}" '
function verdict(ok, name, why) {
	sub(/.*selftests\//, "", name)
	cases++
	if (!ok)
		failures++
	printf "%sok %d - %s%s\n", ok ? "" : "not ", cases, name, why
	fflush()
}
function show(text) {
	gsub(/\n/, "\n# ", text)
	print "# " text
}
function judge(name, code, seconds, complaints) {
	if (code == 4 && !bad) {
		verdict(1, name, " # SKIP " reason)
	} else if (code == 0 && !bad && plan != "" && plan == seen && seen && !complaints) {
		verdict(1, name " (" seen " cases, " seconds " s)", "")
	} else {
		show(text)
		verdict(0, name " (status " code ", " bad + 0 " of " seen + 0 " cases failed, " seconds " s" \
			(complaints ? ", the kernel complained" : "") ")", "")
	}
	current = ""
}
BEGIN {
	print "TAP version 13"
	nr = split(programs, wanted, " ")
}
{ sub(/\r$/, "") }
$1 == mark && $2 == "begin" {
	current = $3
	done[$3] = 1
	text = plan = reason = ""
	seen = bad = 0
	next
}
$1 == mark && $2 == "run" { run = $3; next }
$1 == mark && $2 == "end" { judge(current, $3, $4, $5); next }
current != "" {
	text = text $0 "\n"
	if (length(text) > 16000)
		text = "...\n" substr(text, length(text) - 8000)
	if ($0 ~ /^(not )?ok /)
		seen++
	if ($0 ~ /^not ok /)
		bad++
	if (match($0, /^1\.\.[0-9]+/))
		plan = substr($0, 4, RLENGTH - 3) + 0
	if (match($0, /# SKIP .*/))
		reason = substr($0, RSTART + 7)
}
END {
	if (current != "") {
		show(text)
		verdict(0, current " (the guest ended while it ran)", "")
	}
	for (i = 1; i <= nr; i++)
		if (!(wanted[i] in done))
			verdict(0, wanted[i] " (not run)", "")
	verdict(run == 0, "the guest: nothing that the kernel complains of, and the module can be removed", "")
	print "1.." cases
	exit failures > 0
}'
}
play >"$scratch/tap"
status=$?
# The kernel patches itself when it boots, and when a module comes or goes, behind a breakpoint. QEMU's emulation of two
# CPUs now and then runs that breakpoint after it was taken back, or half of what was patched, which no CPU does: then all of
# it is played once more. So it is if the kernel fell before there was any module in it.
if grep -qE 'Oops: int3|Modules linked in: *$' "$scratch/errors"; then
	sed 's/^/# /' "$scratch/errors"
	echo "# the emulator did not keep up with a kernel that patches itself; a second guest:"
	play >"$scratch/tap"
	status=$?
fi
cat "$scratch/tap"
sed 's/^/# /' "$scratch/errors"
exit $status
