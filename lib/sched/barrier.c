// SPDX-License-Identifier: MIT OR GPL-2.0
#include "sched/barrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

bool barrier_asymmetric;

void barrier_start(void)
{
	barrier_asymmetric = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void barrier_heavy(void)
{
	if (barrier_asymmetric)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	/* Also orders this thread for the compiler, and for readers that do not count on membarrier. */
	atomic_thread_fence(memory_order_seq_cst);
}
