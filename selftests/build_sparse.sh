#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: sparse finds no wrong address space, byte order, or lock balance in the module; nor does gcc at W=1.
cd "$(dirname "$0")/.." || exit 1
cases=0 failures=0

echo "TAP version 13"
if ! command -v sparse >/dev/null; then
	echo "1..0 # SKIP no sparse"
	exit 4
fi
if ! tools/lab/fetch kernel 6.12 >/dev/null; then
	echo "1..0 # SKIP no kernel headers, for want of a network or of a machine that is x86_64"
	exit 4
fi
MOTE_CACHE=$(realpath "${MOTE_CACHE:-build/cache}")
export MOTE_CACHE
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# verdict NAME STATUS
verdict() {
	cases=$((cases + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $cases - $1"
	else
		echo "not ok $cases - $1"
		sed 's/^/# /' "$scratch/said"
		failures=$((failures + 1))
	fi
}

# clean ROOT: builds, and nothing is said.
clean() {
	"$1/tools/lab/module" 6.12 C=2 W=1 >"$scratch/ko" 2>"$scratch/said" && [ ! -s "$scratch/said" ]
}

clean .
verdict "the module's sources" $?
cp -r --parents tools/lab Kbuild kmod include/uapi "$scratch"
cat >>"$scratch/kmod/main.c" <<'END'
int mote_wrong(int __user *word);
int mote_wrong(int __user *word)
{
	return *word;
}
END
! clean "$scratch" && grep -q 'dereference of noderef' "$scratch/said"
verdict "a pointer of the user's that is followed is seen" $?
echo "1..$cases"
exit $((failures > 0))
