/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Bells (lib/port/carrier.c, port_sleep(), carrier_commit(); with KMOD the kernel's half, too): two nodes that write, one
 * that reads, a lane from each. On both sides of a lane: publish, barrier, look whether the other side waits.
 *
 *  writer: head; barrier; ring the reader if its word says parked. If the lane is full: wants_room, and later its worker
 *          goes to sleep as any reader does.
 *  reader: what is there; tail; barrier; ring the writer if it wants room and its word says parked.
 *  sleep:  parked; barrier; look at everything that somebody may have rung for; sleep until rung.
 *
 * Words lie in the memory of memory.h. A ring is an eventfd's: it stays until the sleeper takes it. With ONCE the word
 * tells one sleep from the next, and each peer rings once for each (lib/port/peer.c).
 *
 * With KMOD a ring is a number that the kernel raises, and the kernel lets nobody sleep who has not seen the last one (EDGES:
 * its descriptor for a bell, which is as an eventfd); before that it says "running" in the word, so that others spare
 * themselves their rings. A wait may be CANCELLED (a spare takes the slot), and looks at everything again. With TOGETHER a
 * writer that has published and then has to sleep does both in one call. With DEATH one node ends at any moment; the kernel
 * posts that to those with whom it shares a lane, and rings.
 *
 * What is asserted, when nothing moves any more: each living writer has written all; the reader has taken all that was
 * published, also by the dead; each living node knows of a death.
 *
 * WRITERS, RECORDS: how many, and of each; ROOM: in a lane.
 * To be refuted: WRITER_LIGHT, READER_LIGHT, ROOM_LIGHT (no barrier on that side), LOOK_FIRST (looks, then parks), ONE_LANE,
 * HEADS_ONLY (what the look leaves out), CLEARS_LATE (a ring is taken between look and sleep), WANTS_LATE (sleeps, and wants
 * room then); with ONCE: SAME_WORD (does not tell sleeps apart); with KMOD: NUMBER_LATE (reads the number after the look),
 * COUNTS_FIRST (a ring counts, then says running), CANCEL_TRUSTS (waits again, for the next number, with no look), POST_LATE
 * (with DEATH: rings, then posts), WAIT_FIRST (with TOGETHER: then rings).
 */
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef RECORDS
#define RECORDS 2
#endif
#ifndef ROOM
#define ROOM 1
#endif

#if defined(KMOD) && !defined(EDGES)
#define NUMBERS
#endif

#define READER		WRITERS
#define THREADS		(WRITERS + 1)
#define LATE		3

#define HEAD_RELEASE	0
#define TAIL_RELEASE	1
#define WANTS		2
#define PARKED		3
#define APPLY if \
	:: what == HEAD_RELEASE -> head[who] = value \
	:: what == TAIL_RELEASE -> tail[who] = value \
	:: what == WANTS -> wants_room[who] = value \
	:: what == PARKED -> parked[who] = value \
	fi
#define OVERTAKES OVERTAKE(WANTS, NONE) OVERTAKE(PARKED, NONE)
#define NONE 255

byte head[WRITERS], tail[WRITERS];
bool wants_room[WRITERS];
byte parked[THREADS];		/* the words: odd if it sleeps */
#ifdef NUMBERS
byte number[THREADS];
#define COUNT(whom) number[whom]++
#else
bool rung[THREADS];
#define COUNT(whom) rung[whom] = true
#endif
#ifdef CANCELLED
byte cancels = CANCELLED;
#endif
#ifdef DEATH
byte dead = NONE;
bool posted[THREADS], learnt[THREADS];
#define LIVES(node) (dead != node)
#define NEWS (posted[self] && !learnt[self])
#else
#define LIVES(node) true
#define NEWS false
#endif

/* For assertions only. */
byte sent[WRITERS], taken[WRITERS];

#include "memory.h"

#ifdef KMOD
#ifdef COUNTS_FIRST
inline ring(whom) { COUNT(whom); parked[whom] = false }
#else
inline ring(whom) { parked[whom] = false; COUNT(whom) }
#endif
#else
inline ring(whom) { COUNT(whom) }
#endif

#ifndef ONCE
inline ring_sleeper(whom)
{
	if
	:: parked[whom] -> ring(whom)
	:: else
	fi
}
#else
byte told[THREADS * THREADS];	/* by whom, to whom: the word that was rung for */
inline ring_sleeper(whom)
{
	word = parked[whom];
	if
	:: word % 2 && word != told[self * THREADS + whom] ->
		ring(whom);
		told[self * THREADS + whom] = word
	:: else
	fi;
	word = 0
}
#endif

#define FULL (sent[self] - tail[self] >= ROOM)

/* What port_poll() would find. */
inline look()
{
	found = NEWS;
	if
	:: found
	:: !found && self < READER ->
#ifndef HEADS_ONLY
		found = !FULL
#else
		skip
#endif
	:: !found && self == READER ->
		found = (head[0] != taken[0]);
#if WRITERS > 1 && !defined(ONE_LANE)
		if
		:: !found -> found = (head[1] != taken[1])
		:: found
		fi
#endif
	fi
}

#if defined(ONCE) && !defined(SAME_WORD)
#define ASLEEP (slept * 2 + 1)
#define AWAKE (slept * 2)
#else
#define ASLEEP 1
#define AWAKE 0
#endif

inline say_parked()
{
#ifdef READER_LIGHT
	store(PARKED, self, ASLEEP)
#else
	atomic { drain(self); parked[self] = ASLEEP }
#endif
}

/* owes: a ring to the reader, and to sleep, in one call. */
inline sleep()
{
#ifdef NUMBERS
	seen = number[self];
#endif
#ifdef LOOK_FIRST
	look();
	say_parked();
#else
	say_parked();
#ifdef TOGETHER
	owes = owes && parked[READER];
#endif
	look();
#endif
#ifdef NUMBER_LATE
	seen = number[self];
#endif
#ifdef TOGETHER
	if
#ifndef WAIT_FIRST
	:: owes -> ring(READER); owes = false
#endif
	:: else
	fi;
#endif
	if
	:: found
	:: else ->
#ifdef CLEARS_LATE
		rung[self] = false;
#endif
again:
#ifdef NUMBERS
end_sleep:	if
		:: number[self] != seen
#ifdef CANCELLED
		:: atomic { cancels -> cancels-- }
#ifdef CANCEL_TRUSTS
			seen = number[self];
			goto again
#endif
#endif
		fi
#else
end_sleep:	atomic { rung[self] -> rung[self] = false }
#endif
	fi;
	found = false;
#ifdef TOGETHER
#ifdef WAIT_FIRST
	if
	:: owes -> ring(READER)
	:: else
	fi;
#endif
	owes = false;
#endif
	atomic {
#ifdef ONCE
		slept++;
#endif
		store(PARKED, self, AWAKE)
	}
}

proctype writer(byte self)
{
	byte what, who, value;
	bool found;
#ifdef NUMBERS
	byte seen;
#endif
#ifdef ONCE
	byte slept, word;
#endif
#ifdef TOGETHER
	bool owes;
#endif

	{
		do
		:: sent[self] == RECORDS || NEWS -> break
		:: else ->
			if
			:: FULL ->
#ifdef WANTS_LATE
				sleep();
				store(WANTS, self, true)
#else
				store(WANTS, self, true);
				sleep()
#endif
			:: else ->
				if
				:: wants_room[self] -> store(WANTS, self, false)
				:: else
				fi;
				atomic { sent[self]++; store(HEAD_RELEASE, self, sent[self]) }
#ifdef TOGETHER
				if
				:: sent[self] < RECORDS && FULL ->
					owes = true;
					store(WANTS, self, true);
					sleep();
					goto next
				:: else
				fi;
#endif
#ifndef WRITER_LIGHT
				atomic { drain(self) }
#endif
				ring_sleeper(READER)
			fi;
next:			skip
		od;
#ifdef DEATH
end_done:	NEWS;
		learnt[self] = true
#endif
	} unless { !LIVES(self) }
}

inline take(lane)
{
	now = head[lane];
	if
	:: now != taken[lane] ->
		taken[lane] = now;
		store(TAIL_RELEASE, lane, now);
#ifndef ROOM_LIGHT
		atomic { drain(self) }
#endif
		if
		:: wants_room[lane] -> ring_sleeper(lane)
		:: else
		fi;
		any = true
	:: else
	fi;
	now = 0
}

proctype reader()
{
	byte self = READER, what, who, value, now;
	bool found, any;
#ifdef NUMBERS
	byte seen;
#endif
#ifdef ONCE
	byte slept, word;
#endif
#ifdef TOGETHER
	bool owes;
#endif

	{
		do
		:: any = false;
			take(0);
#if WRITERS > 1
			take(1);
#endif
#ifdef DEATH
			if
			:: NEWS -> learnt[self] = true; any = true
			:: else
			fi;
#endif
			if
			:: any
			:: else -> sleep()
			fi
		od
	} unless { !LIVES(READER) }
}

#ifdef DEATH
proctype kernel()
{
	byte self, what, who, value, i;

	if
	:: true
	:: true ->
		/* What it has stored arrives. */
		atomic {
			select(self : 0 .. READER);
			drain(self);
			dead = self
		}
		do
		:: i <= READER ->
			if
			:: i != self && (i == READER || self == READER) ->
#ifdef POST_LATE
				ring(i);
				posted[i] = true
#else
				posted[i] = true;
				ring(i)
#endif
			:: else
			fi;
			i++
		:: else -> break
		od
	fi
}
#endif

proctype settled()
{
	byte i;

	timeout;
	d_step {
		for (i : 0 .. WRITERS - 1) {
			assert(sent[i] == RECORDS || !LIVES(i) || !LIVES(READER));
			assert(taken[i] == sent[i] || !LIVES(READER))
		}
#ifdef DEATH
		for (i : 0 .. READER) { assert(dead == NONE || dead == i || learnt[i] || (dead < READER && i < READER)) }
#endif
	}
}

init {
	byte i;

	atomic {
		for (i : 0 .. WRITERS - 1) { run writer(i) }
		run reader();
		for (i : 0 .. THREADS - 1) { run memory(i) }
#ifdef DEATH
		run kernel();
#endif
		run settled()
	}
}
