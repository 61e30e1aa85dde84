/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Parking and waking (lib/sched/scheduler.c), and the overseer's sleep (overseer.c): publish, barrier, look, on both sides,
 * with the price of the barrier on the side of whoever goes to sleep.
 *
 * There is one task in the first queue, or, with FOREIGN, in the hands of a foreign thread that posts it to the box for all.
 * A task may spawn others, SPAWNS in all, into its scheduler's queue; then it ends, or stays in its own code for good. What
 * is asserted, when nothing moves any more:
 *  - nobody sleeps while a task lies in a queue or in the box;
 *  - the overseer (OVERSEER) does not sleep while a task is in its own code.
 *
 * To be refuted: FENCE_ONLY (who parks fences for itself only), LOOK_FIRST (looks, then publishes), OVERSEER_LOOKS_FIRST,
 * COUNTS_PARKED (the overseer trusts nr_parked, which a waker lowers a step after it has cleared `parked`), POST_LIGHT (with
 * one scheduler, which parks with a fence for itself only, and so needs one in whoever posts).
 *
 * Not proved: three schedulers. There, with two pieces published while another spins, and that one finding the first only
 * in its last look before it sleeps, the second may lie until its publisher calls again or loses its scheduler.
 */
#ifndef SCHEDULERS
#define SCHEDULERS 2
#endif
#ifndef SPAWNS
#define SPAWNS 1
#endif

/* Threads: the schedulers' workers, the foreign one, the overseer. */
#if defined(FOREIGN) && defined(OVERSEER)
#define THREADS		(SCHEDULERS + 2)
#elif defined(FOREIGN) || defined(OVERSEER)
#define THREADS		(SCHEDULERS + 1)
#else
#define THREADS		SCHEDULERS
#endif
#define LATE		2

#define BOX		0
#define WORK		1
#define ASLEEP		3
#define PARKED_RELEASE	2
#define APPLY if \
	:: what == BOX -> box++ \
	:: what == WORK -> work[who]++ \
	:: what == PARKED_RELEASE -> parked[who] = value \
	:: what == ASLEEP -> asleep = value \
	fi
#define OVERTAKES OVERTAKE(ASLEEP, NONE)
#define NONE 255

byte box;
byte work[SCHEDULERS];		/* how many lie in the queue of each */
bool parked[SCHEDULERS];
byte nr_parked, nr_spinning;
bool notified[SCHEDULERS];	/* its eventfd */
bool asleep;			/* overseer_asleep */
#ifdef OVERSEER
bool locked, signalled;		/* the overseer's mutex and condition variable */
#endif
byte spawned;

/* For assertions only. */
bool sleeps[SCHEDULERS], computes[SCHEDULERS];
#ifdef OVERSEER
bool overseer_sleeps;
#endif

#include "memory.h"

inline membarrier()
{
	atomic { drain(self) }
	for (i : 0 .. THREADS - 1) { atomic { drain(i) } }
}

/* scheduler_unpark() */
inline unpark(which)
{
	atomic {
		if
		:: parked[which] -> drain(self); parked[which] = false; woke = true
		:: else
		fi
	}
	if
	:: woke -> nr_parked--; notified[which] = true
	:: else
	fi
}

/* scheduler_wake_one(): barrier_light() is for the compiler. */
inline wake_one()
{
	woke = false;
	if
	:: nr_parked == 0
	:: else ->
		if
		:: nr_spinning
		:: else ->
			i = 1;
			do
			:: i < SCHEDULERS && !woke ->
				if
				:: parked[(self + i) % SCHEDULERS] -> unpark((self + i) % SCHEDULERS)
				:: else
				fi;
				i++
			:: else -> break
			od
		fi
	fi;
	i = 0; woke = false
}

/* What lies in the thread's own queue it sees later here than in truth: that is more than the code does. */
inline steal()
{
	i = 0;
	do
	:: i < SCHEDULERS && !found -> atomic {
		if
		:: work[i] -> work[i]--; found = true
		:: else
		fi;
		i++ }
	:: else -> break
	od;
	i = 0
}

inline look()
{
	if
	:: box -> found = true
	:: else
	fi;
	i = 0;
	do
	:: i < SCHEDULERS && !found -> atomic { found = (work[i] > 0); i++ }
	:: else -> break
	od;
	i = 0
}

inline publish_parked()
{
	atomic { drain(self); nr_parked++ }
	store(PARKED_RELEASE, self, true);
}

proctype scheduler(byte self)
{
	byte what, who, value, i, n;
	bool woke, found;

pass:
	atomic { n = box; box = 0 }
	do
	:: n ->
		n--;
		store(WORK, self, 0);
		wake_one()
	:: else -> break
	od;
	found = false;
	steal();
	if
	:: found -> goto execute
	:: else
	fi;
#if SCHEDULERS > 1
	/* spin() */
	nr_spinning++;
	do
	:: !found && !box -> steal()
	:: break
	od;
	atomic { drain(self); nr_spinning--; woke = (nr_spinning == 0) }
	if
	:: woke && found -> wake_one()
	:: else
	fi;
	woke = false;
	if
	:: found -> goto execute
	:: else
	fi;
#endif

	/* park() */
#ifdef LOOK_FIRST
	look();
	publish_parked();
#else
	publish_parked();
#if SCHEDULERS == 1 || defined(FENCE_ONLY)
	atomic { drain(self) }
#else
	membarrier();
#endif
	look();
#endif
	if
	:: found
	:: else ->
		sleeps[self] = true;
end_sleep:	atomic { notified[self] -> sleeps[self] = false }
	fi;
	notified[self] = false;
	found = false;
	atomic {
		drain(self);
		if
		:: parked[self] -> parked[self] = false; found = true
		:: else
		fi
	}
	if
	:: found -> atomic { drain(self); nr_parked--; found = false }
	:: else
	fi;
#ifdef OVERSEER
	if
	:: asleep ->
		/* overseer_wake() */
		atomic { !locked -> locked = true }
		atomic { asleep = false; signalled = overseer_sleeps; locked = false }
	:: else
	fi;
#endif
	goto pass;

execute:
	found = false;
	do
	:: spawned < SPAWNS ->
		spawned++;
		store(WORK, self, 0);
		wake_one()
	:: goto pass
	:: computes[self] = true;
end_computes:	false
	od
}

#ifdef OVERSEER
/* schedulers_all_parked(): one after the other. */
inline look_at_all()
{
#ifdef COUNTS_PARKED
	all = (nr_parked == SCHEDULERS)
#else
	all = true;
	i = 0;
	do
	:: i < SCHEDULERS && all -> atomic { all = parked[i]; i++ }
	:: else -> break
	od;
	i = 0
#endif
}

proctype overseer()
{
	byte self = THREADS - 1, what, who, value, i;
	bool all;

	/* Awake it looks now and then, until a while after all have parked. */
end:	nr_parked == SCHEDULERS;
#ifdef OVERSEER_LOOKS_FIRST
	look_at_all();
#endif
	atomic { !locked -> locked = true }
	store(ASLEEP, 0, true);
	membarrier();
#ifndef OVERSEER_LOOKS_FIRST
	look_at_all();
#endif
	do
	:: all && asleep ->
		atomic { overseer_sleeps = true; locked = false }
end_wait:	atomic { signalled -> signalled = false; overseer_sleeps = false }
		atomic { !locked -> locked = true }
		look_at_all()
	:: else -> break
	od;
	all = false;
	store(ASLEEP, 0, false);
	atomic { drain(self); locked = false }
	goto end
}

#endif

#ifdef FOREIGN
proctype foreign()
{
	byte self = SCHEDULERS, what, who, value, i;
	bool woke;

	/* scheduler_post_anywhere() */
	store(BOX, 0, 0);
#ifndef POST_LIGHT
	atomic { drain(self) }
#endif
	do
	:: i < SCHEDULERS && !woke ->
		if
		:: parked[i] -> unpark(i)
		:: else
		fi;
		i++
	:: else -> break
	od
}
#endif

proctype settled()
{
	byte i, lie;
	bool sleeping, computing;

	timeout;
	d_step {
		lie = box;
		for (i : 0 .. SCHEDULERS - 1) {
			lie = lie + work[i];
			sleeping = sleeping || sleeps[i];
			computing = computing || computes[i]
		}
	}
	assert(!(sleeping && lie));
#ifdef OVERSEER
	assert(!(computing && overseer_sleeps))
#endif
}

init {
	byte i;

	atomic {
		for (i : 0 .. SCHEDULERS - 1) { run scheduler(i) }
		for (i : 0 .. THREADS - 1) { run memory(i) }
#ifdef OVERSEER
		run overseer();
#endif
#ifdef FOREIGN
		run foreign();
#else
		work[0] = 1;
#endif
		run settled()
	}
}
