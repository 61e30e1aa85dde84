#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
#
# The real BEAM is the judge: random scenarios on mote, on Erlang's virtual machine and in a model: docs/conformance.md.
#
# selftests/conformance.sh [--seed N] [--count N] [--runs N]
# selftests/conformance.sh core|trees [--seed N] [--count N] [--runs N] [--file SCENARIOS]
# $BUILD: where the programs are (build). MOTE_TEST_ROUNDS multiplies how many scenarios there are.
set -u
here=$(realpath "$(dirname "$0")")
build=$(realpath "${BUILD:-build}")/selftests/conformance
for program in erl erlc; do
	command -v $program >/dev/null || { echo "1..0 # SKIP $program is not installed (Debian: erlang-base)"; exit 4; }
done
for program in judge play compare trees; do
	[ -x "$build/$program" ] || { echo "1..0 # SKIP $build/$program is not built"; exit 4; }
done
parts="core trees"
case ${1-} in
core | trees)
	parts=$1
	shift
	;;
esac

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP
cp "$here"/conformance/*.erl "$dir"
(cd "$dir" && erlc ./*.erl) || { echo "Bail out! erlc"; exit 1; }
beam="cd $dir && ERL_CRASH_DUMP=/dev/null exec erl +S 2 -noshell -run play main"

# some N: as many, times MOTE_TEST_ROUNDS
some() { awk -v n="$1" -v rounds="${MOTE_TEST_ROUNDS:-1}" 'BEGIN { printf "%d", n * rounds }'; }

cases=0 status=0
for part in $parts; do
	if [ "$part" = core ]; then
		"$build/judge" --dir "$dir" --mote "$build/play" --beam "$beam play" --count "$(some 2000)" "$@" >"$dir/said"
	else
		"$build/compare" --dir "$dir" --mote "$build/trees" --beam "$beam trees" --count "$(some 1000)" "$@" >"$dir/said"
	fi || status=1
	# One plan, and one count, for all of them.
	awk -v before="$cases" '/^1\.\./ { next }
		{ at = /^not ok / ? 3 : 2 }
		/^(not )?ok [0-9]+ / { $at += before }
		{ print }' "$dir/said"
	cases=$((cases + $(grep -cE '^(not )?ok ' "$dir/said")))
done
echo "1..$cases"
exit $status
