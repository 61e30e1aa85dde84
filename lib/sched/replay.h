/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/replay.h: seeded runs. With MOTE_SEED=n all schedulers run on one OS thread, the driver, one step at a time. The
 * seed picks who takes the next step, how long a slice is, when a scheduler looks at its timers and post box, who
 * steals from whom, and who loses its scheduler in its own code. Time is virtual (sched/clock.h).
 *
 * Everything in such a run follows from the program and the seed, until something takes part whose moment nobody here
 * decides: I/O, a thread of the program's own, mote_blocking(). The run then goes on with real time and real waits, and is
 * called spoiled.
 *
 * After mote_run() the driver is the thread that called it, so nothing runs beside it; after mote_start() it is a thread
 * of its own, and the run is spoiled from the start.
 */
#ifndef SCHED_REPLAY_H
#define SCHED_REPLAY_H

#include "sched/task.h"

#include <stdbool.h>
#include <stdint.h>

#define REPLAY_SCHEDULERS 2	/* when nobody says how many: not what the machine has */

extern bool replay_on __attribute__((visibility("hidden")));	/* constant while a runtime is there */

/* Before the schedulers. spoiled is called once, at most: what took part first. 0, or -EINVAL (MOTE_SEED). */
int replay_start(void (*spoiled)(const char *what));
void replay_stop(void);			/* after the schedulers; also when there is no seeded run */

/* After schedulers_start(). driven: the calling thread will be the driver; otherwise one is made. 0 or -errno. */
int replay_begin(bool driven);

/* All schedulers leave between two tasks. False: the driver did not come back before the deadline. */
bool replay_end(int64_t deadline_ns);

/*
 * The calling thread drives, unless there is a thread for that, until over() says so, or for ns. False: it is not for
 * the caller to drive.
 */
bool replay_drive(bool (*over)(void), int64_t ns);

void replay_spoil_slow(const char *what);

/* Something takes part that no seed decides. Any thread. */
static inline void replay_spoil(const char *what)
{
	if (unlikely(replay_on))
		replay_spoil_slow(what);
}

/* A foreign thread has come with something: spoils, unless it is the driver between two drives. */
void replay_foreign(void);

struct replay_info {
	bool seeded;
	uint64_t seed;
	const char *spoiled_by;		/* NULL: the run can be replayed */
	uint64_t hash;			/* of all steps so far */
	uint64_t handovers;
};

struct replay_info replay_info(void);

#endif
