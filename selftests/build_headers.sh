#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: tools/headers accepts a small sound library, and catches each thing that may be wrong with it.
cd "$(dirname "$0")/.." || exit 1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cases=0 failures=0

# A library of two functions.
fresh() {
	rm -rf "${tree:?}"/*
	mkdir -p "$tree/include/mote" "$tree/man"
	cat >"$tree/include/mote/a.h" <<-'END'
		#ifndef A_H
		#define A_H
		#include <stddef.h>
		#ifdef __cplusplus
		extern "C" {
		#endif
		#define MOTE_API __attribute__((visibility("default")))
		/* mote_not(here); */
		MOTE_API int mote_one(void);
		MOTE_API void *mote_two(int (*fn)(void *arg),
					size_t size);
		#ifdef __cplusplus
		}
		#endif
		#endif
	END
	printf '#ifndef M_H\n#define M_H\n#include <mote/a.h>\n#endif\n' >"$tree/include/mote.h"
	cat >"$tree/a.c" <<-'END'
		#include <mote.h>
		int mote_one(void) { return 1; }
		void *mote_two(int (*fn)(void *arg), size_t size) { return fn(NULL) + (char *)size; }
		int mote_helper(void) { return 2; }
	END
	printf '.Nm mote_one ,\n.Nm mote_two\n' >"$tree/man/mote_one.3"
	map=lib/libmote.map
}

# try STATUS WORDS NAME: builds what is there and asks; a complaint must contain WORDS
try() {
	cases=$((cases + 1))
	gcc -shared -fPIC -fvisibility=hidden -Wl,--version-script,"$map" -I"$tree/include" \
		-o "$tree/lib.so" "$tree/a.c" && tools/headers "$tree/lib.so" "$tree" >"$tree/said" 2>&1
	status=$?
	if [ $status -eq "$1" ] && { [ "$1" -eq 0 ] || grep -q "$2" "$tree/said"; }; then
		echo "ok $cases - $3"
	else
		echo "not ok $cases - $3"
		sed 's/^/# /' "$tree/said"
		failures=$((failures + 1))
	fi
	fresh
}

fresh
try 0 '' "a sound library"

sed -i '/stddef/d' "$tree/include/mote/a.h"
sed -i '1i #include <stddef.h>' "$tree/a.c"
try 1 'a.h:.*unknown type name .size_t' "a header that needs another one first"

sed -i 's/int mote_one(void);/int mote_one();/' "$tree/include/mote/a.h"
sed -i 's/size_t size);/size_t new);/' "$tree/include/mote/a.h"
try 1 'a.h: g++ -std=c++17' "a header that is no C++"

sed -i '/_H$/d; $d' "$tree/include/mote/a.h"
sed -i 's/mote_one(void);/&\nstruct mote_a { int b; };/' "$tree/include/mote/a.h"
try 1 'a.h:.*redefinition of .*mote_a' "a header without a guard"

sed -i 's/mote_one(void);/&\nMOTE_API int mote_three(void);/' "$tree/include/mote/a.h"
echo .Nm mote_three >"$tree/man/mote_three.3"
try 1 'mote_three: declared, but not exported' "a function that nobody wrote"

echo 'MOTE_0.1 { global: mote_two; local: *; };' >"$tree/closed.map"
map=$tree/closed.map
try 1 'mote_one: declared, but not exported' "a function that the library hides"

sed -i 's/^int mote_helper/__attribute__((visibility("default"))) &/' "$tree/a.c"
try 1 'mote_helper: exported' "a helper that leaks out"

echo '{ global: *; };' >"$tree/open.map"
map=$tree/open.map
try 1 'exported without a version' "symbols without a version"

sed -i '/mote_two/d' "$tree/man/mote_one.3"
try 1 'mote_two: no man page' "a function without a man page"

echo .Nm mote_four >"$tree/man/mote_four.3"
try 1 'mote_four: has a man page' "a man page without a function"

echo "1..$cases"
[ $failures -eq 0 ]
