/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Calls in a circle (lib/core/cycle.h): processes that call each other, answer, and let others answer, at any moment.
 *
 * Who calls says so (its mark), sends its request, and then looks whether the other one calls; if so it sends a probe. A
 * probe goes from each that waits to whom it waits for; what comes back goes round once more, and now each checks. Only the
 * marks are memory that several look at, and that is memory.h's. A process acts on its inbox when it waits, or is idle;
 * sending is no barrier.
 *
 * What is asserted: who is told was part of a circle, at the moment when its probe came back for the first time; and when
 * nothing moves any more, nobody waits: so no circle goes unseen. With DEADLINES calls may also end by themselves.
 *
 * To be refuted: MARK_LIGHT (the mark is stored without a barrier), MARK_LATE (after the look), ONE_ROUND (what came back
 * is believed), NO_CHECK (the second time nobody looks for the request).
 */
#ifndef PROCESSES
#define PROCESSES	3
#endif
#ifndef CALLS
#define CALLS		1	/* of each */
#endif
#define THREADS		PROCESSES
#define LATE		2
#define NOBODY		7
#define NONE		255

#define MARK		1
#define APPLY if \
	:: what == MARK -> mark[who] = value \
	fi
#define OVERTAKES OVERTAKE(MARK, NONE)

mtype = { REQUEST, REPLY, PROBE };

typedef hops { byte at[3] }

bit mark[PROCESSES];
byte waits[PROCESSES] = NOBODY;		/* for whom */
byte call[PROCESSES];			/* the number of its call */
/* [receiver * PROCESSES + asker]: the number of the request that it has, unanswered; 0: none */
byte has[PROCESSES * PROCESSES];
byte owed[PROCESSES];			/* somebody else will answer that request */
/* A hop is a process and the number of its call: process * 4 + number. from, number; or hops, whose turn, three of them */
chan inbox[PROCESSES] = [9] of { mtype, byte, byte, byte, byte, byte };

/* For assertions only. */
bool was[PROCESSES];

#include "memory.h"

#define WAITS(p) (waits[p] != NOBODY)
#define ASKED(p) (has[waits[p] * PROCESSES + p] == call[p] || inbox[waits[p]]??[REQUEST,eval(p),eval(call[p]),_,_,_])

/* Is there a circle through self now? */
inline look_round()
{
	d_step {
		t = self; n = 0; was[self] = true;
		do
		:: n < PROCESSES && was[self] && (n == 0 || t != self) ->
			if
			:: WAITS(t) && ASKED(t) -> t = waits[t]
			:: else -> was[self] = false
			fi;
			n++
		:: else -> break
		od;
		was[self] = was[self] && t == self;
		t = 0; n = 0
	}
}

/* Its call has ended. */
inline go_on()
{
	waits[self] = NOBODY;
	store(MARK, self, 0)
}

inline told()
{
	assert(was[self]);
	was[self] = false;
	go_on()
}

inline forward(nr, turn)
{
	inbox[waits[self]]!PROBE,nr,turn,hop.at[0],hop.at[1],hop.at[2]
}

inline probe(nr, turn)
{
	if
	:: !WAITS(self)
	:: WAITS(self) && turn == 0 && hop.at[0] / 4 == self ->
		if
		:: hop.at[0] % 4 == call[self] &&
		   has[self * PROCESSES + hop.at[nr - 1] / 4] == hop.at[nr - 1] % 4 ->
			look_round();
#ifdef ONE_ROUND
			told()
#else
			forward(nr, 1)
#endif
		:: else
		fi
	:: WAITS(self) && turn == 0 && hop.at[0] / 4 != self ->
		/* Nor once more round a circle that it is not of. */
		if
		:: nr < 3 && !(nr > 1 && hop.at[1] / 4 == self) && mark[waits[self]] ->
			hop.at[nr] = self * 4 + call[self];
			forward(nr + 1, 0)
		:: else
		fi
	:: WAITS(self) && turn ->
		if
		:: hop.at[turn % nr] / 4 == self &&
		   hop.at[turn % nr] % 4 == call[self] &&
#ifndef NO_CHECK
		   has[self * PROCESSES + hop.at[turn - 1] / 4] == hop.at[turn - 1] % 4 &&
#endif
		   true ->
			if
			:: turn < nr -> forward(nr, turn + 1)
			:: else -> told()
			fi
		:: else
		fi
	fi
}

inline take()
{
	if
	:: kind == REQUEST -> has[self * PROCESSES + a] = b
	:: kind == REPLY ->
		if
		:: WAITS(self) && b == call[self] -> go_on()
		:: else
		fi
	:: kind == PROBE -> probe(a, b)
	fi
}

inline answer()
{
	atomic {
		n = has[self * PROCESSES + t];
		has[self * PROCESSES + t] = 0;
		if
		:: inbox[t]!REPLY,self,n,0,0,0
		:: owed[t] = n
		fi;
		n = 0; t = 0
	}
}

proctype process(byte self)
{
	byte what, who, value, calls, t, n, a, b;
	hops hop;
	mtype kind;

end:	do
	:: atomic { inbox[self]?kind,a,b,hop.at[0],hop.at[1],hop.at[2] -> take() }
		atomic { kind = 0; a = 0; b = 0; hop.at[0] = 0; hop.at[1] = 0; hop.at[2] = 0; n = 0; t = 0 }
	:: !WAITS(self) && calls < CALLS ->
		calls++;
		if
		:: t = (self + 1) % PROCESSES
		:: PROCESSES > 2 -> t = (self + 2) % PROCESSES
		fi;
#ifdef MARK_LIGHT
		store(MARK, self, 1);
#elif !defined(MARK_LATE)
		atomic { drain(self); mark[self] = 1 }
#endif
		atomic { call[self] = calls; waits[self] = t; inbox[t]!REQUEST,self,calls,0,0,0 }
		n = mark[t];
#ifdef MARK_LATE
		atomic { drain(self); mark[self] = 1 }
#endif
		if
		:: n -> inbox[t]!PROBE,1,0,self * 4 + calls,0,0
		:: else
		fi;
		atomic { n = 0; t = 0 }
	/* Idle: answers somebody, or leaves it to others. */
	:: atomic { !WAITS(self) && has[self * PROCESSES + (self + 1) % PROCESSES] -> t = (self + 1) % PROCESSES }
		answer()
	:: atomic { !WAITS(self) && has[self * PROCESSES + (self + 2) % PROCESSES] -> t = (self + 2) % PROCESSES }
		answer()
#ifdef DEADLINES
	:: WAITS(self) -> go_on()
#endif
	od
}

proctype others()
{
	byte i;

end:	do
	:: atomic { owed[0] -> inbox[0]!REPLY,NOBODY,owed[0],0,0,0; owed[0] = 0 }
	:: atomic { owed[1] -> inbox[1]!REPLY,NOBODY,owed[1],0,0,0; owed[1] = 0 }
	:: atomic { PROCESSES > 2 && owed[2 % PROCESSES] ->
		inbox[2 % PROCESSES]!REPLY,NOBODY,owed[2 % PROCESSES],0,0,0; owed[2 % PROCESSES] = 0 }
	od
}

proctype settled()
{
	timeout;
	assert(!WAITS(0) && !WAITS(1) && !WAITS(PROCESSES - 1))
}

init {
	byte i;

	atomic {
		for (i : 0 .. PROCESSES - 1) { run process(i) }
		for (i : 0 .. THREADS - 1) { run memory(i) }
		run others();
		run settled()
	}
}
