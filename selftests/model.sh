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
proves "who sleeps is rung, for records and for room" bell.pml -DWEAK
proves "once for each sleep is enough" bell.pml -DONCE -DWRITERS=1 -DRECORDS=3 -DWEAK
proves "once for each sleep, by each of two" bell.pml -DONCE -DRECORDS=1 -DWEAK
proves "the module's bells" bell.pml -DKMOD -DRECORDS=1 -DWEAK
proves "the module's bells as descriptors" bell.pml -DKMOD -DEDGES -DWEAK
proves "ring and wait in one call" bell.pml -DKMOD -DTOGETHER -DWRITERS=1 -DRECORDS=3 -DWEAK
proves "a wait that is cancelled" bell.pml -DKMOD -DCANCELLED=1 -DWRITERS=1 -DWEAK
proves "a node's end rings those it shares a lane with" bell.pml -DKMOD -DDEATH -DWRITERS=1 -DWEAK
proves "each sender's signals arrive, in order" lane.pml -DROOM=3 -DWEAK
proves "a lane that is full has room again, and what waits keeps its order" lane.pml -DSENDERS=1 -DSIGNALS=3 -DROOM=1 -DWEAK
proves "two poll, the writer dies" lane.pml -DSENDERS=1 -DHELPER=1 -DDEATH -DWEAK
proves "a link across nodes fires once, after the last message" edge.pml
proves "also in a slot that gets another tenant" edge.pml -DREUSE -DSILENT
proves "no circle of calls goes unseen, and none is told that was not" cycle.pml -DWEAK
proves "nor with several calls each" cycle.pml -DPROCESSES=2 -DCALLS=2 -DWEAK
proves "nor when calls end by themselves" cycle.pml -DPROCESSES=2 -DDEADLINES -DWEAK

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
refutes taken "a writer rings without a barrier" bell.pml -DWRITER_LIGHT
refutes taken "a reader sleeps without a barrier" bell.pml -DREADER_LIGHT
refutes sent "a reader makes room without a barrier" bell.pml -DROOM_LIGHT
refutes taken "who sleeps looks, then parks" bell.pml -DLOOK_FIRST
refutes taken "who sleeps looks at one lane" bell.pml -DONE_LANE
refutes sent "who sleeps does not look for room" bell.pml -DHEADS_ONLY
refutes taken "a ring is taken after the look" bell.pml -DCLEARS_LATE
refutes sent "room is wanted after the sleep" bell.pml -DWANTS_LATE
refutes taken "sleeps cannot be told apart" bell.pml -DONCE -DSAME_WORD
refutes taken "the bell's number is read after the look" bell.pml -DKMOD -DNUMBER_LATE
refutes sent "a ring counts, then says running" bell.pml -DKMOD -DCOUNTS_FIRST
refutes sent "a descriptor is readable, then the bell says running" bell.pml -DKMOD -DEDGES -DCOUNTS_FIRST
refutes sent "who was cancelled waits again without a look" bell.pml -DKMOD -DCANCELLED=1 -DWRITERS=1 -DCANCEL_TRUSTS
refutes sent "one call waits, then rings" bell.pml -DKMOD -DTOGETHER -DWAIT_FIRST
refutes learnt "an end is rung, then posted" bell.pml -DKMOD -DDEATH -DWRITERS=1 -DPOST_LATE
refutes arrived "who finds the lock taken pushes, and leaves it at that" lane.pml -DROOM=3 -DONE_TRY
refutes arrived "who has the lock does not look once more" lane.pml -DROOM=3 -DONE_LOOK
refutes arrived "who has the lock looks without a barrier" lane.pml -DROOM=3 -DUNLOCK_LIGHT
refutes arrived "who pushes tries without a barrier, on weak memory" lane.pml -DROOM=3 -DWEAK -DPUSH_LIGHT
refutes arrived "past what lies on the stack" lane.pml -DROOM=3 -DOWN_FIRST
refutes arrived "past what waits for room" lane.pml -DSENDERS=1 -DSIGNALS=3 -DROOM=1 -DPAST_QUEUE
refutes arrived "room, while somebody has the lock" lane.pml -DSIGNALS=1 -DROOM=1 -DROOM_FORGOTTEN
refutes arrived "room is made without a barrier" lane.pml -DSENDERS=1 -DROOM=1 -DROOM_LIGHT
refutes signal "the head is published before the record" lane.pml -DSENDERS=1 -DHEAD_EARLY
refutes signal "the tail is published before the record is read" lane.pml -DSENDERS=1 -DROOM=1 -DTAIL_EARLY
refutes signal "the head is published without release, on weak memory" lane.pml -DROOM=3 -DWEAK -DHEAD_RELAXED
refutes taken "what another one polls needs no look" lane.pml -DSENDERS=1 -DHELPER=1 -DBUSY_IS_DONE
refutes taken "the head is read, then whether the writer has ended" lane.pml -DSENDERS=1 -DDEATH -DHEAD_FIRST
refutes down "the end is told without the lock" lane.pml -DSENDERS=1 -DDEATH -DHELPER=1 -DDOWN_UNLOCKED
refutes linked "edges are noted without a barrier" edge.pml -DNOTE_LIGHT
refutes linked "a node's number is published without a barrier" edge.pml -DLATEST_LIGHT
refutes linked "who begins to have edges does not look who is down" edge.pml -DNO_OWN_SWEEP
refutes linked "who has swept does not look for a later number" edge.pml -DNO_RESEND
refutes fired "a sweep fires whatever is down" edge.pml -DALL_DOWN
refutes fired "a sweep may be sent again before it was read" edge.pml -DCLEARS_EARLY
refutes linked "a node has its number before it is down" edge.pml -DSTATE_LATE
refutes fired "a message after the end" edge.pml -DLAST_WORDS
refutes linked "a sweep for the last tenant is dropped" edge.pml -DREUSE -DSILENT -DDROP_FORGETS
refutes waits "who calls says so without a barrier" cycle.pml -DPROCESSES=2 -DMARK_LIGHT
refutes waits "who calls looks, then says so" cycle.pml -DPROCESSES=2 -DMARK_LATE
refutes was "what came round once is believed" cycle.pml -DPROCESSES=2 -DONE_ROUND
refutes was "the second time nobody looks for the request" cycle.pml -DPROCESSES=2 -DNO_CHECK
depth=150
refutes arrived "room is wanted without a barrier" lane.pml -DSIGNALS=1 -DROOM=1 -DWANT_LIGHT

if [ "${MOTE_TEST_ROUNDS%%.*}" -ge 10 ] 2>/dev/null; then
	limit=800 depth=3000000 level=-O2
	proves "three workers, three processes" handover.pml -DWORKERS=3 -DTASKS=3 -DWEAK
	proves "two schedulers, three processes" handover.pml -DSC -DSCHEDULERS=2 -DWORKERS=3 -DTASKS=3
	proves "two threads are gone for good" handover.pml -DSC -DWORKERS=3 -DTASKS=3 -DFOREVER=2
	proves "the overseer, and something from outside" wake.pml -DSPAWNS=0 -DOVERSEER -DFOREIGN
	proves "a slot's next tenant, and nodes that talk" edge.pml -DREUSE
	proves "two writers, the module's bells" bell.pml -DKMOD -DWEAK
	proves "two writers, a wait that is cancelled" bell.pml -DKMOD -DCANCELLED=1 -DWEAK
	proves "two writers, ring and wait in one call" bell.pml -DKMOD -DTOGETHER -DWEAK
	proves "two writers, a node's end" bell.pml -DKMOD -DEDGES -DDEATH -DRECORDS=1 -DWEAK
	proves "two senders, a lane that is full" lane.pml -DSIGNALS=1 -DROOM=1 -DWEAK
	proves "two senders, a lane that is full, order" lane.pml -DWEAK
	proves "two senders, the writer dies" lane.pml -DSIGNALS=1 -DDEATH -DWEAK
fi

echo "1..$cases"
[ $failures -eq 0 ]
