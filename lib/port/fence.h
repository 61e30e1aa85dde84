/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/fence.h: stores before it are seen by everybody before loads after it are made. A locked read-modify-write where
 * that is what it takes: it costs a quarter of mfence, which compilers choose for an atomic_thread_fence().
 */
#ifndef PORT_FENCE_H
#define PORT_FENCE_H

#include <stdatomic.h>

static inline void full_fence(void)
{
#if defined(__x86_64__)
	/* on the stack: a line that is ours. "memory": the compiler moves nothing across it either */
	__asm__ volatile("lock; addl $0,-4(%%rsp)" ::: "memory", "cc");
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

#endif
