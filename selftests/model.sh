#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: spin finds no error in the models of hand-over and of waking, and finds one in each of their broken variants.
#
# MOTE_TEST_ROUNDS of 10 and more adds what takes minutes.
cd "$(dirname "$0")/model" || exit 1
for tool in spin gcc; do
	if ! command -v $tool >/dev/null; then
		echo "1..0 # SKIP no $tool"
		exit 4
	fi
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP
cp ./*.pml ./*.h "$dir" && cd "$dir" || exit 1
cases=0 failures=0 limit=100

# search MODEL DEFINITION...: what spin has to say about it, with all claims that are in it, in ./said
search() {
	rm -f pan pan.[bchmpt] ./*.trail
	model=$1
	shift
	flags=-DSAFETY options=
	case " $* " in *" -DFOREVER="*) flags= options="-a -f" ;; esac
	# shellcheck disable=SC2086 # several flags
	spin "$@" -a "$model" >said 2>&1 && gcc $level -w -DMEMLIM=8000 $flags -o pan pan.c >>said 2>&1 &&
		timeout $limit ./pan -m"$depth" $options >>said 2>&1
}

result() {
	cases=$((cases + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $cases - $2"
	else
		echo "not ok $cases - $2"
		sed 's/^/# /' said
		failures=$((failures + 1))
	fi
}

# proves NAME MODEL DEFINITION...: the whole of the state space has no error in it
proves() {
	name=$1
	shift
	search "$@"
	! grep -qE 'error:|not completed|max search depth|out of memory' said && grep -q 'errors: 0$' said
	result $? "$name"
}

# refutes WORDS NAME MODEL DEFINITION...: there is an error, of the kind that WORDS say
refutes() {
	words=$1 name=$2
	shift 2
	search "$@"
	grep -q "^pan:1: .*$words" said && grep -q 'errors: 1$' said
	result $? "refuted: $name"
}

depth=1000000 level=-O1
proves "a scheduler has one holder" handover.pml -DTASKS=3
proves "with memory as weak as the language lets it be" handover.pml -DTASKS=3 -DWEAK
proves "two spares" handover.pml -DWORKERS=3 -DWEAK
proves "two schedulers" handover.pml -DSC -DSCHEDULERS=2 -DWORKERS=3
proves "pinned processes keep their thread" handover.pml -DTASKS=3 -DPINNED
proves "who waits is served while a thread is left" handover.pml -DSC -DTASKS=3 -DFOREVER=1
proves "who parks is woken" wake.pml
proves "who parks is woken, with weak memory" wake.pml -DWEAK
proves "who parks is woken for what comes from outside" wake.pml -DFOREIGN
proves "a lone scheduler, too" wake.pml -DSCHEDULERS=1 -DFOREIGN
proves "the overseer is awake while anything computes" wake.pml -DOVERSEER

# Found soon: compiling takes longer.
depth=20000 level=-O0
refutes unseen "the taker fences for itself only" handover.pml -DFENCE_ONLY
refutes holder "the taker does not read again" handover.pml -DNO_SECOND_READ
refutes holder "entering loads, then stores" handover.pml -DLOAD_FIRST
refutes unseen "leaving without release, on weak memory" handover.pml -DLEAVE_RELAXED -DWEAK
refutes saved "queued before its context is saved" handover.pml -DQUEUE_BEFORE_SAVE
refutes "assertion violated" "back home, and idle as well" handover.pml -DSC -DIDLE_TWICE
refutes "self==0" "what was pinned stays among the bound" handover.pml -DTASKS=3 -DPINNED -DBOUND_KEPT
refutes "acceptance cycle" "who is back is not made use of" handover.pml -DSC -DTASKS=3 -DFOREVER=1 -DSTAYS_AWAY
refutes "acceptance cycle" "going home comes after the next process" handover.pml -DSC -DFOREVER=1 -DPICK_FIRST
refutes "acceptance cycle" "no thread is left" handover.pml -DSC -DTASKS=3 -DFOREVER=2
refutes sleeping "who parks fences for itself only" wake.pml -DFENCE_ONLY
refutes sleeping "who parks looks, then publishes" wake.pml -DLOOK_FIRST
refutes sleeping "posting without a fence" wake.pml -DSCHEDULERS=1 -DFOREIGN -DPOST_LIGHT
refutes overseer_sleeps "the overseer looks, then publishes" wake.pml -DSPAWNS=0 -DOVERSEER -DFOREIGN -DOVERSEER_LOOKS_FIRST
refutes overseer_sleeps "the overseer counts" wake.pml -DSPAWNS=0 -DOVERSEER -DFOREIGN -DCOUNTS_PARKED

if [ "${MOTE_TEST_ROUNDS%%.*}" -ge 10 ] 2>/dev/null; then
	limit=800 depth=3000000 level=-O2
	proves "three workers, three processes" handover.pml -DWORKERS=3 -DTASKS=3 -DWEAK
	proves "two schedulers, three processes" handover.pml -DSC -DSCHEDULERS=2 -DWORKERS=3 -DTASKS=3
	proves "two threads are gone for good" handover.pml -DSC -DWORKERS=3 -DTASKS=3 -DFOREVER=2
	proves "the overseer, and something from outside" wake.pml -DSPAWNS=0 -DOVERSEER -DFOREIGN
fi

echo "1..$cases"
[ $failures -eq 0 ]
