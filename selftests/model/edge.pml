/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Links and monitors that cross nodes (lib/core/edge.c): two nodes that say something, make a link perhaps, and go down; a
 * process that links itself to them at any moment. With REUSE it ends at any moment, too, and the next tenant of its slot
 * does the same.
 *
 * A node that goes down sets its state and gets a number, under a lock; then, if the process's slot has edges, and its
 * SWEEP is not under way, that is sent with the latest number. A process that begins to have edges says so, and sends
 * itself a SWEEP if any node is down; a link of its own is then handed to the node, or finds it down. Memory is that of
 * memory.h; all of these stores are sequentially consistent in the code, and empty the caller's queue here.
 *
 * What is asserted: a link fires once, after the last message that the node had sent to the process; and when nothing moves
 * any more (both nodes are down then), all links have fired.
 *
 * SILENT: the nodes say nothing.
 * To be refuted: NOTE_LIGHT and LATEST_LIGHT (no barrier on that side), NO_OWN_SWEEP, NO_RESEND (sweeps, and does not look
 * for a later number), ALL_DOWN (fires what is down, whatever its number), CLEARS_EARLY (the SWEEP may be sent again before
 * its number was read), STATE_LATE (the number before the state), LAST_WORDS (a message after the state), with REUSE:
 * DROP_FORGETS (a SWEEP for the last tenant says nothing to the next).
 */
#define NODES		2
#define PROCESS		NODES
#define THREADS		(NODES + 1)
#define LATE		2
#define NONE		255

#define SERIAL		0
#define LATEST		1
#define APPLY if \
	:: what == SERIAL -> serial = value \
	:: what == LATEST -> latest = value \
	fi
#define OVERTAKES OVERTAKE(SERIAL, NONE) OVERTAKE(LATEST, NONE)

mtype = { MESSAGE, LINK, ABSENT, SWEEP };

bool down[NODES];
byte down_seq[NODES];
bool down_lock;
bool handed[NODES];		/* a link's signal waits to be written */
byte latest, serial;
bool queued;
byte sweep_to, sweep_ref;
chan inbox = [7] of { mtype, byte, byte };	/* what, of which node, for whom */
byte tenant = 1;		/* of the slot; 0: it is dead, and takes nothing */
bool linked[NODES];
byte tries[NODES];

/* For assertions only. */
bool fired[NODES];

#include "memory.h"

/* To a dead process: dropped. */
inline push(message, whose, whom)
{
	atomic {
		drain(self);
		if
		:: tenant ->
			/* One object, one place. */
			assert(message != SWEEP || !inbox??[SWEEP,_,_]);
			inbox!message,whose,whom
		:: else ->
			if
			:: message == SWEEP -> queued = false
			:: else
			fi
		fi
	}
}

inline sweep_send(whom)
{
	sweep_to = whom;
	sweep_ref = latest;
	push(SWEEP, 0, whom)
}

inline sweep_if_not_queued(whom)
{
	atomic {
		drain(self);
		if
		:: queued -> mine = false
		:: else -> queued = true; mine = true
		fi
	}
	if
	:: mine -> sweep_send(whom)
	:: else
	fi;
	mine = false
}

proctype node(byte self)
{
	byte what, who, value, t;
	bool mine;

	/* Its last record, in order: to whoever it is for. */
#if !defined(LAST_WORDS) && !defined(SILENT)
	if
	:: push(MESSAGE, self, tenant)
	:: push(LINK, self, tenant)
	:: true
	fi;
#endif
	/* edge_node_down() */
	atomic { !down_lock -> drain(self); down_lock = true }
	down_seq[self] = latest + 1;
#ifdef LATEST_LIGHT
	down[self] = true;
	store(LATEST, 0, down_seq[self]);
	down_lock = false;
#elif defined(STATE_LATE)
	latest = down_seq[self];
	down_lock = false;
	down[self] = true;
#else
	down[self] = true;
	latest = down_seq[self];
	down_lock = false;
#endif
	/* remote_down(): what was handed on has been written, or is answered. */
	if
	:: handed[self] -> push(ABSENT, self, tenant)
	:: true
	fi;
#ifdef LAST_WORDS
	push(MESSAGE, self, tenant);
#endif
	/* edges_cut() */
	t = serial;
	if
	:: t -> sweep_if_not_queued(t)
	:: else
	fi
}

inline fire(which)
{
	assert(!fired[which] && !inbox??[MESSAGE,eval(which),eval(tenant)]);
	fired[which] = true;
	linked[which] = false
}

inline note()
{
	if
	:: serial == tenant
	:: else ->
#ifdef NOTE_LIGHT
		store(SERIAL, 0, tenant);
#else
		atomic { drain(self); serial = tenant }
#endif
#ifndef NO_OWN_SWEEP
		if
		:: latest -> sweep_if_not_queued(tenant)
		:: else
		fi
#endif
	fi
}

inline link(which)
{
	tries[which]++;
	note();
	linked[which] = true;
	/* Under the node's lock. */
	atomic {
		drain(self);
		if
		:: down[which] -> inbox!ABSENT,which,tenant
		:: else -> handed[which] = true
		fi
	}
}

inline sweep()
{
#ifdef CLEARS_EARLY
	queued = false;
#endif
	seq = sweep_ref;
	n = 0;
	do
	:: n < NODES ->
		if
#ifdef ALL_DOWN
		:: atomic { linked[n] && down[n] -> fire(n) }
#else
		:: atomic { linked[n] && down[n] && down_seq[n] <= seq -> fire(n) }
#endif
		:: else
		fi;
		n++
	:: else -> break
	od;
	n = 0;
#ifndef CLEARS_EARLY
	atomic { drain(self); queued = false }
#endif
#ifndef NO_RESEND
	if
	:: latest > seq -> sweep_if_not_queued(tenant)
	:: else
	fi;
#endif
	seq = 0
}

/* edge_sweep_dropped(); whom: it was for */
inline sweep_dropped(whom)
{
	atomic { drain(self); queued = false }
#ifndef DROP_FORGETS
	if
	:: serial && serial != whom -> sweep_if_not_queued(serial)
	:: else
	fi
#endif
}

proctype process()
{
	byte self = PROCESS, what, who, value, n, seq, whom;
	bool mine;
	mtype kind;

end:	do
	:: inbox?kind,n,whom ->
		if
		:: whom != tenant && kind == SWEEP -> sweep_dropped(whom)
		:: whom != tenant && kind != SWEEP
		:: whom == tenant && kind == MESSAGE -> assert(!fired[n])
		:: whom == tenant && kind == LINK ->
			if
			:: linked[n]
			:: else -> note(); linked[n] = true
			fi
		:: whom == tenant && kind == ABSENT ->
			if
			:: atomic { linked[n] -> fire(n) }
			:: else
			fi
		:: whom == tenant && kind == SWEEP -> sweep()
		fi;
		atomic { n = 0; whom = 0; kind = 0 }
	/* Once for each, and once more when it has fired. */
	:: !tries[0] && !linked[0] && !fired[0] -> link(0)
	:: !tries[1] && !linked[1] && !fired[1] -> link(1)
#ifdef REUSE
	:: tenant == 1 ->
		/* Dead: nothing goes in any more, and what is in is dropped. */
		atomic { drain(self); tenant = 0 }
		do
		:: inbox?kind,n,whom ->
			if
			:: kind == SWEEP -> sweep_dropped(whom)
			:: else
			fi
		:: empty(inbox) -> break
		od;
		serial = 0;
		d_step {
			n = 0; whom = 0; kind = 0;
			linked[0] = false; linked[1] = false;
			fired[0] = false; fired[1] = false;
			tries[0] = 0; tries[1] = 0;
			handed[0] = false; handed[1] = false
		}
		tenant = 2
#endif
	od
}

proctype settled()
{
	timeout;
	assert(!linked[0] && !linked[1])
}

init {
	byte i;

	atomic {
		for (i : 0 .. NODES - 1) { run node(i) }
		run process();
		for (i : 0 .. THREADS - 1) { run memory(i) }
		run settled()
	}
}
