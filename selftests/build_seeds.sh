#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: selftests/seeds runs each seed once, and says of each that fails how to run it again.
seeds=$(realpath "$(dirname "$0")/seeds")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
mkdir -p build/selftests
cases=0 failures=0

# program NAME: of the lines on stdin; it notes the seeds that it is run with
program() {
	{ echo '#!/bin/bash'; echo "echo \$MOTE_SEED >>$dir/ran"; cat; } >"build/selftests/$1"
	chmod +x "build/selftests/$1"
}

check() {
	cases=$((cases + 1))
	if eval "$1"; then
		echo "ok $cases - $2"
	else
		echo "not ok $cases - $2"
		sed 's/^/# /' said
		failures=$((failures + 1))
	fi
}

# shellcheck disable=SC2034 # used by the checks
try() {
	rm -f ran tally
	"$seeds" -o tally "$@" >said 2>&1
	status=$?
}

# shellcheck disable=SC2016 # all of these are for eval, or for the programs, to expand
{
	program proc_good <<<'exit 0'
	program sched_skips <<<'exit 4'
	program proc_bad <<<'echo what it said; [[ $MOTE_SEED != 7 ]]'
	program proc_crash <<<'[[ $MOTE_SEED != 3 ]] || kill -SEGV $$'
	program proc_hang <<<'[[ $MOTE_SEED != 2 ]] || sleep 100'
	program sched_handover <<<'exit 1'

	try -n 12 -s 5 build proc_good
	check '[[ $status == 0 && $(sort -n ran | tr "\n" " ") == "5 6 7 8 9 10 11 12 13 14 15 16 " ]]' "each seed once"
	check '[[ $(<tally) == "pass seeds proc_good" && $(tail -n 1 said) == "1 passed, 0 failed, 0 skipped" ]]' "a pass"
	try -n 3 build sched_skips
	check '[[ $status == 0 ]]' "a skip is no failure"
	try -n 12 build proc_bad proc_good
	check '[[ $status == 1 && $(tail -n 1 said) == "1 passed, 1 failed, 0 skipped" ]]' "a failure"
	check 'grep -q "what it said" said && [[ $(grep -c "what it said" said) == 1 ]]' "what it said, and of the others nothing"
	replay=$(sed -n 's/^ *replay: //p' said)
	check '[[ $replay == *MOTE_SEED=7\ * ]] && ! bash -c "$replay" >again' "the command fails, too"
	try -n 5 build proc_crash
	check '[[ $status == 1 ]] && grep -q "exit status 139" said && grep -q "MOTE_SEED=3 " said' "a crash"
	try -n 3 -t 1 build proc_hang
	check '[[ $status == 1 ]] && grep -q "MOTE_SEED=2 " said' "a hang"
	try -n 1 -s 100 build
	check '[[ $(wc -l <tally) == 5 ]] && ! grep -q handover said' "all of them, but those set apart"
	try -n 1 build proc_missing
	check '[[ $status == 1 && $(<tally) == "fail seeds proc_missing" ]]' "no such program"
}

echo "1..$cases"
((failures == 0))
