#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
#
# The real BEAM is the judge: random scenarios on mote, on Erlang's virtual machine and in a model: docs/conformance.md.
#
# selftests/conformance.sh [--seed N] [--count N] [--runs N] [--file SCENARIOS]
# $BUILD: where the programs are (build). MOTE_TEST_ROUNDS multiplies how many scenarios there are.
set -u
here=$(realpath "$(dirname "$0")")
build=$(realpath "${BUILD:-build}")/selftests/conformance
for program in erl erlc; do
	command -v $program >/dev/null || { echo "1..0 # SKIP $program is not installed (Debian: erlang-base)"; exit 4; }
done
for program in judge play; do
	[ -x "$build/$program" ] || { echo "1..0 # SKIP $build/$program is not built"; exit 4; }
done

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP
cp "$here"/conformance/*.erl "$dir"
(cd "$dir" && erlc ./*.erl) || { echo "Bail out! erlc"; exit 1; }
count=$(awk -v rounds="${MOTE_TEST_ROUNDS:-1}" 'BEGIN { printf "%d", 2000 * rounds }')
"$build/judge" --dir "$dir" --mote "$build/play" --count "$count" \
	--beam "cd $dir && ERL_CRASH_DUMP=/dev/null exec erl +S 2 -noshell -run play main play" "$@"
