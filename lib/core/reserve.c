// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A process that is told to end gives the signal's block back to its scheduler's slab, and that gives what it has too
 * much of to everybody. So there is enough in the reserve if half of it is more than all schedulers keep for themselves.
 */
#include "core/reserve.h"
#include "core/async_kill.h"
#include "core/process.h"

#include <errno.h>

#define PER_SCHEDULER	(4 * SLAB_BATCH)	/* twice what slab_free() keeps */

static struct signal *reserve;
static unsigned int nr, nr_at_start;

int reserve_start(unsigned int schedulers)
{
	for (nr = 0; nr < (schedulers + 1) * PER_SCHEDULER; nr++) {
		struct signal *sig = signal_new(NULL, SIGNAL_EXIT, sizeof(struct mote_exit_info));

		if (!sig) {
			reserve_stop();
			return -ENOMEM;
		}
		sig->next = reserve;
		reserve = sig;
	}
	nr_at_start = nr;
	return 0;
}

void reserve_stop(void)
{
	while (reserve) {
		struct signal *sig = reserve;

		reserve = sig->next;
		signal_free(NULL, sig);
	}
	nr = 0;
}

void reserve_forget(void)
{
	reserve = NULL;
	nr = 0;
}

void reserve_exit_pid(mote_pid pid, struct mote_reason reason)
{
	struct signal *sig = reserve;

	if (!sig || !process_lookup(pid) || (reason.kind != MOTE_KILL && nr <= nr_at_start / 2))
		return;
	reserve = sig->next;
	nr--;
	sig = signal_exit_new(NULL, sig, MOTE_NOBODY, &reason);
	sig->to = pid.serial;
	signal_send(NULL, sig, pid.slot, true);
	if (reason.kind == MOTE_KILL)
		async_kill_want(&process_table[pid.slot], pid.serial);
}
