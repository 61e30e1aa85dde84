// SPDX-License-Identifier: MIT OR GPL-2.0
#include "sched/attack.h"

#ifdef MOTE_ATTACK

#undef malloc
#undef calloc
#undef realloc
#undef aligned_alloc
#undef mmap

#include <errno.h>
#include <stdatomic.h>

static _Atomic uint64_t every;		/* 0: none fails */
static _Atomic uint64_t count;

void attack_fail_every(uint64_t n)
{
	atomic_store(&count, 0);
	atomic_store(&every, n);
}

void attack_start(void)
{
	const char *env = getenv("MOTE_ATTACK_ALLOC");

	attack_fail_every(env ? strtoull(env, NULL, 0) : 0);
}

void attack_stop(void)
{
	attack_fail_every(0);
}

static bool fails(void)
{
	uint64_t n = atomic_load_explicit(&every, memory_order_relaxed);

	if (!n || (atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) + 1) % n)
		return false;
	errno = ENOMEM;
	return true;
}

void *attack_malloc(size_t size)
{
	return fails() ? NULL : malloc(size);
}

void *attack_calloc(size_t n, size_t size)
{
	return fails() ? NULL : calloc(n, size);
}

void *attack_realloc(void *old, size_t size)
{
	return fails() ? NULL : realloc(old, size);
}

void *attack_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : aligned_alloc(alignment, size);
}

void *attack_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	return fails() ? MAP_FAILED : mmap(addr, length, prot, flags, fd, offset);
}

#endif
