#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: of each man page, the synopsis says what the headers say, and the example compiles.
cd "$(dirname "$0")/.." || exit 1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cases=0 failures=0

# The functions of a SYNOPSIS as declarations. Next to the headers', one that differs does not compile.
synopsis() {
	awk '
	function word(s) { sub(/^\.F[toa] /, "", s); gsub(/"/, "", s); return s }
	/^\.Sh/ { inside = /SYNOPSIS/ }
	inside && /^\.Ft/ { type = word($0) }
	inside && /^\.Fo/ { name = word($0); args = "" }
	inside && /^\.Fa/ { args = args (args ? ", " : "") word($0) }
	inside && /^\.Fc/ { printf "%s %s(%s);\n", type, name, args }' "$1"
}

# The literal display of EXAMPLES.
example() {
	awk '
	/^\.Sh/ { inside = /EXAMPLES/ }
	/^\.Ed/ { literal = 0 }
	inside && literal { gsub(/\\e/, "\\"); print }
	/^\.Bd -literal/ { literal = 1 }' "$1"
}

for page in man/*.[37]; do
	cases=$((cases + 1))
	printf '#include <%s>\n' mote.h stdio.h stdlib.h string.h signal.h errno.h fcntl.h sys/wait.h >"$dir/x.c"
	synopsis "$page" >>"$dir/x.c"
	example "$page" >>"$dir/x.c"
	# A function of an example is there to be read, not called.
	if [ -n "$(example "$page")" ] &&
	   gcc -std=gnu11 -D_GNU_SOURCE -Iinclude -Wall -Wextra -Werror -Wno-unused-function -fsyntax-only \
		"$dir/x.c" 2>"$dir/said"; then
		echo "ok $cases - ${page#man/}"
	else
		echo "not ok $cases - ${page#man/}"
		head -n 10 "$dir/said" | sed 's/^/# /'
		failures=$((failures + 1))
	fi
done

echo "1..$cases"
[ $failures -eq 0 ]
