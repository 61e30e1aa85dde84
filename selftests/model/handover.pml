/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Hand-over (lib/sched/handover.c, worker.c, overseer.c): workers, an overseer that takes schedulers away whenever the
 * protocol lets it, and the memory between them.
 *
 * Memory is that of memory.h. Read-modify-writes and mutexes are acquire and release in the code: here they empty the
 * caller's queue of stores. membarrier() empties the caller's, then that of each worker, at a moment of its own. With SC a
 * slice is two calls: what happens in the end hinges on slices' ends, and not on memory.
 *
 * OVERDUE, with which a claim is withdrawn, is the scheduler itself here: it adds a switch, and those are free to happen.
 * Not here: time, and the generation, which only says how long. The overseer claims as soon as one look finds USER: that
 * is more than the code does.
 * The sentry of lib/sched/activation.c takes schedulers as the overseer does, with itself as the spare; handover_lock() makes
 * the two one: here it is the overseer that happens to choose that spare, at a moment that happens to be right.
 * A crash, or a kill by signal, takes a process from its own code to a trampoline that enters the runtime: the same step
 * as a call. What a process does in the runtime is one section that touches the scheduler.
 *
 * What is asserted, besides that nobody waits for ever (no invalid end states):
 *  - never are two threads in a section on one scheduler, and who gets it sees all that was done to it;
 *  - a process runs on one thread at a time, with its context saved before, and a pinned one on its own thread;
 *  - no scheduler, worker or process is offered, idle or queued twice (the channels are just large enough).
 *
 * SCHEDULERS, WORKERS, TASKS: how many. FOREVER: as many tasks, the first ones, may stay in their own code for good.
 * PINNED: task 0 runs on worker 0 only.
 * To be refuted: FENCE_ONLY, NO_SECOND_READ, LOAD_FIRST, QUEUE_BEFORE_SAVE, LEAVE_RELAXED (with WEAK), STAYS_AWAY,
 * IDLE_TWICE, PICK_FIRST (with SC), BOUND_KEPT (with PINNED).
 */
#ifndef SCHEDULERS
#define SCHEDULERS 1
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef TASKS
#define TASKS 2
#endif
#ifndef FOREVER
#define FOREVER 0
#endif

#define OVERSEER	WORKERS
#define THREADS		(WORKERS + 1)
#define LATE		3
#define NONE		255

/* worker.mode */
#define USER		0
#define RUNTIME		1

/* worker.entry: a scheduler, NONE, or a sign */
#define CLAIMED		100
#define TAKEN		101

/* Kinds of stores: those with RELEASE stay behind whatever their thread has stored before. */
#define MODE		0
#define ENTRY		1
#define DATA		2		/* anything of a scheduler */
#define BACK		3
#define MODE_RELEASE	4
#define ENTRY_RELEASE	5
#define WORKER_RELEASE	6
#define BACK_RELEASE	7

/* Memory, as all see it. */
byte mode[WORKERS] = RUNTIME;
byte entry[WORKERS] = NONE;
bool back[WORKERS];			/* worker.back */
byte worker_of[SCHEDULERS];		/* scheduler.worker */
bool wants_home[SCHEDULERS];		/* a come_home is among the works */
byte unseen[SCHEDULERS];		/* stores to the scheduler that are under way */

/* Threads and mutexes make these atomic. */
chan runnable = [TASKS] of { byte };	/* run queues that thieves reach, and the box for all */
chan idle = [WORKERS] of { byte };
chan offer[WORKERS] = [1] of { byte };
#ifdef PINNED
chan posted = [1] of { byte };		/* to scheduler 0 */
chan bound = [1] of { byte };
chan pinned = [1] of { byte };
#endif

inline give(whom, what_for) { assert(empty(offer[whom])); offer[whom]!what_for }

/* For assertions only. */
byte holder[SCHEDULERS] = NONE;		/* who is in a section */
bool saved[TASKS] = true;
#ifdef SC
bool waits[TASKS] = true;
#define WAITS(t, new) waits[t] = new
#else
#define WAITS(t, new) skip
#endif

#define begin(s) assert(holder[s] == NONE); holder[s] = self
#define finish(s) assert(holder[s] == self); holder[s] = NONE

#define APPLY if \
	:: what == MODE || what == MODE_RELEASE -> mode[who] = value \
	:: what == ENTRY || what == ENTRY_RELEASE -> entry[who] = value \
	:: what == DATA -> unseen[who]-- \
	:: what == BACK || what == BACK_RELEASE -> back[who] = value \
	:: what == WORKER_RELEASE -> worker_of[who] = value \
	fi
#define OVERTAKES OVERTAKE(MODE, MODE_RELEASE) OVERTAKE(ENTRY, ENTRY_RELEASE) OVERTAKE(BACK, BACK_RELEASE) \
	OVERTAKE(DATA, NONE)

#include "memory.h"

/* scheduler_queue(), and posting a task from elsewhere. */
#ifdef PINNED
inline post(t)
{
	if
	:: t == 0 -> posted!t
	:: else -> runnable!t
	fi
}
#else
inline post(t) { runnable!t }
#endif

/* self serves s, runs t; home: the scheduler that it was made for, or NONE. */
proctype worker(byte self; byte home)
{
	byte what, who, value, s = NONE, t = NONE;
#ifdef SC
	bool late_in_slice;
#endif

await:
	/* The offers' mutex. */
end_await:
	atomic {
		offer[self]?s;
		drain(self);
		begin(s);
		assert(unseen[s] == 0);
	}

	/* scheduler_adopt() */
	store(BACK, self, false);
	store(ENTRY_RELEASE, self, s);
#ifdef PINNED
	if
	:: home == s ->
		if
		:: atomic { pinned?t -> bound!t; t = NONE }
		:: empty(pinned)
		fi
#ifndef BOUND_KEPT
	:: home != s ->
		if
		:: atomic { bound?t -> pinned!t; t = NONE }
		:: empty(bound)
		fi
#else
	:: home != s
#endif
	fi;
#endif

	/* scheduler_serve(): what others have handed to s comes first. */
pass:
	if
#ifndef PICK_FIRST
	:: wants_home[s] ->
		wants_home[s] = false;
		if
		:: home == s		/* the overseer was faster */
		:: else -> goto come_home
		fi
	:: else
#else
	:: true
#endif
	fi;
	/* Blocked: parked. */
end_park:
	if
	:: wants_home[s] -> goto pass
#ifdef PINNED
	:: s == 0 && nempty(posted) ->
		if
		:: atomic { home == 0 -> posted?t; bound!t }
		:: atomic { home != 0 -> posted?t; pinned!t }
		fi;
		t = NONE;
		goto pass
	:: atomic { s == 0 && nempty(bound) -> bound?t; assert(self == 0) }
#endif
	:: atomic { runnable?t }
	fi;
	atomic { assert(saved[t]); saved[t] = false; WAITS(t, false) }
#ifdef SC
	late_in_slice = false;
#endif

leave:
	atomic { store(DATA, s, 0); unseen[s]++ }
#ifdef LEAVE_RELAXED
	atomic { store(MODE, self, USER); finish(s) }
#else
	atomic { store(MODE_RELEASE, self, USER); finish(s) }
#endif

	/* The process's own code. */
#if FOREVER
	if
	:: true
	:: t < FOREVER ->
end_forever:	false
	fi;
#endif

	/* runtime_enter(), runtime_enter_slow() */
#ifdef LOAD_FIRST
	if
	:: entry[self] == s ->
		store(MODE, self, RUNTIME);
		atomic { begin(s) }
		goto entered
	:: else
	fi;
#endif
	store(MODE, self, RUNTIME);
	if
	:: atomic { entry[self] == s -> begin(s) }
	:: entry[self] == TAKEN -> goto come_back
	fi;
#ifdef LOAD_FIRST
entered:
#endif
	if
#ifdef SC
	:: !late_in_slice -> late_in_slice = true; goto leave
#else
	:: goto leave
#endif
	:: atomic { saved[t] = true; WAITS(t, true); drain(self); post(t); t = NONE; goto pass }
	fi;

	/* task_come_back(), handover_return() */
come_back:
#ifdef QUEUE_BEFORE_SAVE
	atomic { drain(self); WAITS(t, true); post(t) }
	saved[t] = true;
#else
	saved[t] = true;
#endif
	store(ENTRY, self, NONE);
	s = NONE;
	if
	:: home != NONE ->
		store(BACK_RELEASE, self, true);
		atomic { drain(self); wants_home[home] = true }
#ifdef IDLE_TWICE
		atomic { drain(self); idle!self }
#endif
	:: else ->
		atomic { drain(self); idle!self }
	fi;
#ifndef QUEUE_BEFORE_SAVE
	atomic { drain(self); WAITS(t, true); post(t) }
#endif
	t = NONE;
	goto await;

come_home:
	store(ENTRY, self, NONE);
	store(WORKER_RELEASE, s, s);
	atomic { finish(s); drain(self); give(s, s); s = NONE }
	atomic { drain(self); idle!self }
	goto await
}

#ifdef PINNED
#define WAITING(s) (nempty(runnable) || wants_home[s] || (s == 0 && (nempty(posted) || nempty(bound))))
#else
#define WAITING(s) (nempty(runnable) || wants_home[s])
#endif
#ifdef STAYS_AWAY
#define BACK_HOME(s) false
#else
#define BACK_HOME(s) back[s]
#endif
#define STUCK(s) (mode[worker_of[s]] == USER && entry[worker_of[s]] == s && WAITING(s) && \
		  (BACK_HOME(s) || nempty(idle)))

proctype overseer()
{
	byte self = OVERSEER, what, who, value, s, w, spare, i;

end:	do
	:: atomic {
		if
		:: STUCK(0) -> s = 0
#if SCHEDULERS > 1
		:: STUCK(1) -> s = 1
#endif
		fi;
		w = worker_of[s];
		if
		:: BACK_HOME(s) -> spare = s	/* the first worker of s has its number */
		:: else -> idle?spare
		fi;
		assert(spare != w)
	   }

		/* handover_take() */
		atomic {
			drain(OVERSEER);
			if
			:: entry[w] == s -> entry[w] = CLAIMED
			:: else -> goto failed
			fi
		}
		i = 0;
#ifdef FENCE_ONLY
		atomic { drain(OVERSEER) }
#else
		do
		:: i < WORKERS -> atomic { drain(i); i++ }
		:: else -> break
		od;
#endif
#ifdef NO_SECOND_READ
		if
		:: true ->
#else
		if
		:: mode[w] == USER ->
#endif
			/* It touches s itself: s->current, and s->worker. */
			atomic { begin(s); assert(unseen[s] == 0) }
			store(WORKER_RELEASE, s, spare);
			atomic { store(ENTRY_RELEASE, w, TAKEN); finish(s) }
			atomic { drain(OVERSEER); give(spare, s) }
			goto done
		:: else
		fi;
		atomic {
			drain(OVERSEER);
			if
			:: entry[w] == CLAIMED -> entry[w] = s
			:: else		/* it has given s back meanwhile */
			fi
		}
failed:		if
		:: spare < SCHEDULERS
		:: else -> atomic { drain(OVERSEER); idle!spare }
		fi;
done:		atomic { s = 0; w = 0; spare = 0; i = 0 }
	od
}

init {
	byte i;

	atomic {
		for (i : 0 .. TASKS - 1) { post(i) }
		for (i : 0 .. WORKERS - 1) {
			run worker(i, (i < SCHEDULERS -> i : NONE));
			if
			:: i < SCHEDULERS -> worker_of[i] = i; offer[i]!i
			:: else -> idle!i
			fi
		}
#ifndef SC
		for (i : 0 .. WORKERS) { run memory(i) }
#endif
		run overseer()
	}
}

#ifdef SC
/* Whoever is queued runs, as long as a thread is left that is not in some process's own code for good. */
ltl served { [] (waits[TASKS - 1] -> <> !waits[TASKS - 1]) }
#endif
