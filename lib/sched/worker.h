/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/worker.h: OS threads that run schedulers. A worker holds one scheduler, or none: then it is a spare, or its
 * scheduler was taken away from it (sched/handover.h).
 *
 * All of a worker lies in the thread's own thread-local storage, so that the border between a process's own code and the
 * runtime costs a store and a load there. Others reach it through scheduler->worker; workers end when the runtime does.
 */
#ifndef SCHED_WORKER_H
#define SCHED_WORKER_H

#include "sched/task.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct scheduler;

/* A piece of work for one scheduler, run by its worker between tasks, on the worker's stack. */
struct work {
	struct work *next;
	void (*run)(struct scheduler *s, struct work *w);
};

/* worker.mode: where the thread is. Only in RUNTIME does it touch its scheduler, or hold a lock of the library's. */
#define SLOT_USER	0
#define SLOT_RUNTIME	1

struct worker {
	struct scheduler *scheduler;		/* NULL: a foreign thread, a spare, or it was taken away */
	_Atomic(struct scheduler *) entry;	/* what runtime_enter() finds: scheduler, or a sign (sched/handover.h) */
	_Atomic uint32_t mode;
	pid_t tid;
	/* What it runs, also when its scheduler was taken away meanwhile; NULL: nothing. Signal handlers read it. */
	_Atomic(struct task *) task;
	void *sp;				/* the thread's own context, while a task runs */
	struct scheduler *home;			/* the one it was made for, and gets back; NULL: made as a spare */
	struct scheduler *offer;		/* to be run next; under the mutex of worker.c */
	struct worker *next_idle;		/* likewise */
	struct work come_home;			/* see handover.c */
	_Atomic bool back;			/* without a scheduler, and waits for its home */
	_Atomic uint32_t want;			/* 1: the module is to say when the thread blocks in USER (activation.h) */
	int64_t activated;			/* its scheduler was taken away because it blocked, then; or 0 */
	const void *ring_of;			/* io's: which ring is registered with this thread */
	int ring_index;				/* and as what */
	pthread_cond_t offered;
#ifdef MOTE_TSAN
	void *fiber;
#endif
#ifdef MOTE_ASAN
	void *fake;
	const void *stack_bottom;
	size_t stack_length;
#endif
};

/*
 * A task may wake up on another thread after any switch, so the compiler must not remember the address of a thread-local
 * variable across one: on x86-64 opaque loads, elsewhere calls.
 */
extern __thread struct worker mote_worker __attribute__((tls_model("initial-exec"), visibility("hidden")));

#if defined(__x86_64__)
/* The calling thread's; any thread has one. Async-signal-safe. Never cached across a switch. */
static inline struct worker *worker_self(void)
{
	struct worker *w;

	__asm__ volatile("movq %%fs:0, %0\n\taddq mote_worker@gottpoff(%%rip), %0" : "=r"(w) : : "memory", "cc");
	return w;
}

#ifndef MOTE_CHECKED
/* The calling thread's scheduler, inside the runtime; NULL on a foreign thread. Never cached across a switch. */
static inline struct scheduler *scheduler_self(void)
{
	struct scheduler *s;

	__asm__ volatile("movq mote_worker@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(s) : : "memory");
	return s;
}
_Static_assert(offsetof(struct worker, scheduler) == 0, "as the load above has it");
#endif
#else
struct worker *worker_self(void);
#endif
#if !defined(__x86_64__) || defined(MOTE_CHECKED)
struct scheduler *scheduler_self(void);
#endif

/* Starts a worker for each of the n schedulers; up to max_spares more come when they are needed. 0 or -errno. */
int workers_start(unsigned int n, unsigned int max_spares);

/* The calling thread becomes the worker of all schedulers, and stops being that: for replay.c. 0 or -errno. */
int worker_enlist(void);
void worker_discharge(void);

/* All leave, between two tasks, and are joined. False: one was not back by the deadline, and nothing may be freed. */
bool workers_stop(int64_t deadline_ns);
void workers_forget(void);		/* in a forked child */

/* A worker without a scheduler, or NULL: then one may be on its way, unless *full. With the lock of handover.h. */
struct worker *worker_spare(bool *full);

/* Ready, or on its way, for the next call of worker_spare(). */
void worker_prepare_spare(void);

/* A spare to be the sentry (activation.h), if there is one, and no sentry. */
void worker_next_sentry(void);

/* w, the sentry, takes something over. False: it is not the sentry, and may have got an offer. With the lock of handover.h. */
bool worker_leave_watch(struct worker *w);

/* To a worker that has none: it runs s from now on. */
void worker_offer(struct worker *w, struct scheduler *s);

/* Back to the idle ones, or to be the sentry. */
void worker_retire(struct worker *w);

unsigned int workers_count(void);
struct worker *worker_at(unsigned int index);	/* of all there are; NULL: it has not begun */

#endif
