/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A lane (lib/port/lane.c, carrier.c), and what the writing node puts in front of it (lib/core/remote.c).
 *
 * Any worker writes, under a trylock. Who does not get it at once pushes its signal on a stack, and tries again; who has it
 * takes the stack in, behind what waits, writes what there is room for, lets go, and looks once more at the stack. When
 * there is room, the home's worker is rung and goes on with what waits, under the same rules.
 * The reading node polls under a trylock, too: the home's worker, when rung, and with HELPER another one now and then.
 * With DEATH the writing node ends at any moment, wherever its workers are; the port's thread then says so, and rings.
 *
 * Each sender is a thread: a process that sends from one worker, then from another, is no different, as nothing of what
 * it has sent is left with the worker (a stream is committed before). Bells are rung in any case: see bell.pml. A tail
 * that is waited for is half a ring away, as in the code. Memory is that of memory.h.
 *
 * What is asserted:
 *  - each sender's signals arrive in the order sent, no record is read before it was written or after it was overwritten;
 *  - when nothing moves any more, all has arrived; of a dead node all that was published;
 *  - its end is told once, and nothing arrives later.
 *
 * SENDERS: how many; SIGNALS: of the first one, the others send OTHERS; ROOM: records in the ring.
 * To be refuted: ONE_TRY (pushes, and leaves it at that), ONE_LOOK (does not look once more), UNLOCK_LIGHT (no barrier before
 * that look), PUSH_LIGHT (nor before that try), OWN_FIRST (written before what lies on the stack), PAST_QUEUE (before what
 * waits), ROOM_FORGOTTEN (there is room while somebody has the lock), ROOM_LIGHT (no barrier between tail and the look at
 * who waits for it), WANT_LIGHT (nor the reverse), HEAD_EARLY (published before it is written), TAIL_EARLY (let go before it
 * is read); with WEAK: HEAD_RELAXED; with HELPER: BUSY_IS_DONE (what another one polls needs no look); with
 * DEATH: HEAD_FIRST (reads the head, then whether the writer has ended), DOWN_UNLOCKED (with HELPER).
 */
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef SIGNALS
#define SIGNALS 2
#endif
#ifndef OTHERS
#define OTHERS 1
#endif
#ifndef ROOM
#define ROOM 2
#endif

#define HOME		SENDERS			/* the writing node's worker that is told of room */
#define READER		(SENDERS + 1)
#ifdef HELPER
#define THREADS		(SENDERS + 3)
#else
#define THREADS		(SENDERS + 2)
#endif
#define LATE		3
#define NONE		255

#define RECORD		0
#define HEAD		1
#define HEAD_RELEASE	2
#define TAIL_RELEASE	3
#define WANT		4
#define WANTED		5
#define UNLOCK_RELEASE	6
#define PUSH		7
#define APPLY if \
	:: what == RECORD -> record[who] = value \
	:: what == HEAD || what == HEAD_RELEASE -> head = value \
	:: what == TAIL_RELEASE -> tail = value \
	:: what == WANT -> want = value \
	:: what == WANTED -> wanted = value \
	:: what == UNLOCK_RELEASE -> locked[who] = false \
	:: what == PUSH -> stack!value \
	fi
#define OVERTAKES OVERTAKE(RECORD, NONE) OVERTAKE(WANT, NONE) OVERTAKE(WANTED, NONE) OVERTAKE(HEAD, HEAD_RELEASE)

/* The locks of either end. */
#define OUT		0
#define IN		1

chan stack = [SIGNALS + (SENDERS - 1) * OTHERS] of { byte };
bool roomy;				/* node.roomy */
bool locked[2];
byte record[ROOM] = NONE, head, tail, want, wanted;
bool home_rung, reader_rung;
bool ended;				/* says the port's thread */

/* Under OUT. */
chan queue = [SIGNALS + (SENDERS - 1) * OTHERS] of { byte };
byte written, published;		/* lane_writer.head, .published */

/* Under IN. */
byte taken, released;
bool down;

/* For assertions only. */
byte arrived[SENDERS];
bool dead;

#include "memory.h"

inline try(lock)
{
	atomic {
		if
		:: locked[lock] -> holds = false
		:: else -> drain(self); locked[lock] = true; holds = true
		fi
	}
}

inline unlock(lock) { holds = false; store(UNLOCK_RELEASE, lock, 0) }

/* carrier_reserve(): stuck says how it went. */
inline reserve()
{
	if
	:: written - tail < ROOM -> stuck = false
	:: else ->
		atomic { store(WANTED, 0, written - ROOM / 2); store(WANT, 0, written - ROOM / 2) }
#ifndef WANT_LIGHT
		atomic { drain(self) }
#endif
		if
		:: written - tail >= ROOM -> stuck = true
		:: else -> atomic { stuck = false; store(WANTED, 0, 0) }
		fi
	fi
}

#ifdef HEAD_RELAXED
inline publish() { atomic { store(HEAD, 0, written); published = written } }
#else
inline publish() { atomic { store(HEAD_RELEASE, 0, written); published = written } }
#endif

inline write(signal)
{
#ifdef HEAD_EARLY
	atomic { written++; store(HEAD_RELEASE, 0, written) }
	store(RECORD, (written - 1) % ROOM, signal)
#else
	atomic { store(RECORD, written % ROOM, signal); written++ }
#endif
}

inline commit()
{
	publish();
	atomic { drain(self); reader_rung = true }
}

inline take_stack()
{
	atomic {
		drain(self);
		do
		:: len(stack) -> stack?signal; queue!signal
		:: else -> break
		od
	}
}

/* remote_push() */
inline push_on()
{
	do
	:: true ->
		try(OUT);
		if
		:: !holds -> break
		:: else
		fi;
		roomy = false;
		take_stack();
		do
		:: len(queue) && !stuck ->
			reserve();
			if
			:: atomic { !stuck -> queue?signal }
				write(signal)
			:: else
			fi
		:: else -> break
		od;
		if
		:: written != published -> commit()
		:: else
		fi;
		atomic { stuck = false; signal = 0; unlock(OUT) }
#ifdef ONE_LOOK
		break
#else
#ifndef UNLOCK_LIGHT
		atomic { drain(self) }
#endif
		if
		:: len(stack) || roomy
		:: else -> break
		fi
#endif
	od
}

#define OF(n) (self << 4 | (n))
#define OF_SENDER(i) (i == 0 -> SIGNALS : OTHERS)

#ifdef OWN_FIRST
#define LIES_BEFORE len(queue)
#elif defined(PAST_QUEUE)
#define LIES_BEFORE len(stack)
#else
#define LIES_BEFORE (len(stack) || len(queue))
#endif

/* remote_message() */
proctype sender(byte self)
{
	byte what, who, value, signal, n;
	bool holds, stuck;

	{
		do
		:: n < OF_SENDER(self) ->
			try(OUT);
			if
			:: holds ->
				if
				:: !LIES_BEFORE -> reserve()
				:: else -> stuck = true
				fi;
				if
				:: !stuck ->
					write(OF(n));
					commit();
					unlock(OUT);
#ifndef UNLOCK_LIGHT
					atomic { drain(self) }
#endif
					n++;
#ifndef ONE_LOOK
					if
					:: len(stack) || roomy -> push_on()
					:: else
					fi;
#endif
					goto next
				:: else -> stuck = false
				fi;
				unlock(OUT)
			:: else
			fi;
#ifdef PUSH_LIGHT
			store(PUSH, 0, OF(n));
#else
			atomic { drain(self); stack!OF(n) }
#endif
			n++;
#ifndef ONE_TRY
			push_on();
#endif
next:			skip
		:: else -> break
		od
	} unless { dead }
}

proctype home()
{
	byte self = HOME, what, who, value, signal;
	bool holds, stuck;

	{
		do
		:: true ->
end_home:		atomic { home_rung -> home_rung = false }
			/* lane_room_noted() */
			atomic {
				if
				:: wanted && tail >= wanted -> drain(self); wanted = 0
				:: else -> goto none
				fi
			}
#ifndef ROOM_FORGOTTEN
			atomic { drain(self); roomy = true }
#endif
			push_on();
none:			skip
		od
	} unless { dead }
}

inline let_go()
{
	store(TAIL_RELEASE, 0, taken);
#ifndef ROOM_LIGHT
	atomic { drain(self) }
#endif
	atomic {
		if
		:: released < want && want <= taken -> home_rung = true
		:: else
		fi;
		released = taken
	}
}

#ifdef HELPER
#define TRY_IN try(IN)
#define UNLOCK_IN unlock(IN)
#else
#define TRY_IN holds = true
#define UNLOCK_IN skip
#endif

/* port_poll(), of one carrier */
inline poll()
{
	TRY_IN;
	if
	:: holds && !down ->
#ifdef HEAD_FIRST
		now = head;
		last = ended;
#else
		last = ended;
		now = head;
#endif
		do
		:: taken != now ->
#ifdef TAIL_EARLY
			taken++;
			let_go();
			taken--;
#endif
			d_step {
				signal = record[taken % ROOM];
				assert(signal != NONE && (signal & 15) == arrived[signal >> 4] && !down);
				arrived[signal >> 4]++;
				signal = 0;
				taken++
			}
		:: else -> break
		od;
		if
		:: released != taken -> let_go()
		:: else
		fi;
#ifdef DOWN_UNLOCKED
		UNLOCK_IN;
		if
		:: last && !down -> atomic { assert(!down); down = true }
		:: else
		fi
#else
		if
		:: last -> assert(!down); down = true
		:: else
		fi;
		UNLOCK_IN
#endif
	:: holds && down -> UNLOCK_IN
	:: else
	fi;
	atomic { now = 0; last = false; holds = false }
}

proctype reader()
{
	byte self = READER, what, who, value, signal, now;
	bool holds, last;

	do
	:: true ->
end_reader:	atomic { reader_rung -> reader_rung = false }
look:		poll();
		/* Before it sleeps: lane_pending(), and news. */
#ifndef BUSY_IS_DONE
		if
		:: !down && (head != taken || ended) -> goto look
		:: else
		fi
#endif
	od
}

#ifdef HELPER
proctype helper()
{
	byte self = READER + 1, what, who, value, signal, now, n;
	bool holds, last;

	do
	:: n < HELPER -> poll(); n++
	:: true -> break
	od
}
#endif

#ifdef DEATH
proctype kernel()
{
	byte self, what, who, value;

	/* What its workers have stored arrives. */
	atomic {
		for (self : 0 .. HOME) { drain(self) }
		dead = true
	}
	ended = true;
	reader_rung = true
}
#endif

proctype settled()
{
	byte i;

	timeout;
	d_step {
		assert(taken == head && released == taken && tail == taken);
		for (i : 0 .. SENDERS - 1) { assert(arrived[i] == OF_SENDER(i) || dead) }
		assert(down == dead)
	}
}

init {
	byte i;

	atomic {
		for (i : 0 .. SENDERS - 1) { run sender(i) }
		run home();
		run reader();
#ifdef HELPER
		run helper();
#endif
		for (i : 0 .. THREADS - 1) { run memory(i) }
#ifdef DEATH
		run kernel();
#endif
		run settled()
	}
}
