#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: the module's sources are what the kernel's own style checker wants, strictly.
cd "$(dirname "$0")/.." || exit 1
cases=0 failures=0

if ! sources=$(tools/lab/fetch kselftest); then
	echo "TAP version 13"
	echo "1..0 # SKIP no kernel sources, for want of a network or of a machine that is x86_64"
	exit 4
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# LINUX_VERSION_CODE has one file to be in, kmod/compat.h, which a module of more than one kernel needs.
checkpatch() {
	"$sources/linux/scripts/checkpatch.pl" --no-tree --strict --quiet --no-summary --show-types --max-line-length=100 \
		$([ "${1##*/}" != compat.h ] || echo --ignore LINUX_VERSION_CODE) --file "$1" >"$scratch/said" 2>&1
	[ ! -s "$scratch/said" ]
}

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

echo "TAP version 13"
for file in kmod/*.[ch] include/uapi/linux/*.h; do
	checkpatch "$file"
	verdict "$file" $?
done
printf '// SPDX-License-Identifier: GPL-2.0\nint f( int a ) {\n    return(a);\n}\n' >"$scratch/bad.c"
! checkpatch "$scratch/bad.c"
verdict "bad style is seen" $?
echo "1..$cases"
exit $((failures > 0))
