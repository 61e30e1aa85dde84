/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/attack.h: the build that attacks itself, `make ATTACK=1`. It switches at every chance, steals for no reason, puts
 * wake-ups off, begins with queues of two, has no slabs, and, asked by MOTE_ATTACK_ALLOC=n, fails every n-th allocation
 * while the runtime starts, runs and stops. Chance decides (sched/chance.h), so MOTE_SEED replays it.
 *
 * That build includes this file in front of every source of the library; all others find only constants here.
 */
#ifndef SCHED_ATTACK_H
#define SCHED_ATTACK_H
#ifndef __ASSEMBLER__

#include "sched/chance.h"

#ifdef MOTE_ATTACK

#include <stdlib.h>
#include <sys/mman.h>

/* Of each runtime. */
void attack_start(void);
void attack_stop(void);

void attack_fail_every(uint64_t n);	/* allocation, counted from here; 0: none. Any thread */

void *attack_malloc(size_t size);
void *attack_calloc(size_t n, size_t size);
void *attack_realloc(void *old, size_t size);
void *attack_aligned_alloc(size_t alignment, size_t size);
void *attack_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);

#define malloc(size) attack_malloc(size)
#define calloc(n, size) attack_calloc(n, size)
#define realloc(old, size) attack_realloc(old, size)
#define aligned_alloc(alignment, size) attack_aligned_alloc(alignment, size)
#define mmap(addr, length, prot, flags, fd, offset) attack_mmap(addr, length, prot, flags, fd, offset)

#define ATTACK true

#else

#define ATTACK false

static inline void attack_start(void)
{
}

static inline void attack_stop(void)
{
}

#endif

/* How much of something that is `usual` a task, or a loop, gets before it has to make room. */
static inline int attack_shorten(struct chance *c, int usual)
{
	return ATTACK ? 1 + (int)chance_below(c, 8) : usual;
}

static inline bool attack_now(struct chance *c)
{
	return ATTACK && chance_one_in(c, 8);
}

#endif
#endif
