// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Stacks come in chunks of 64: one mapping, [guard][stack][guard][stack]..., guarded in one system call. Guard markers
 * (MADV_GUARD_INSTALL, Linux 6.13) live in the page table and split no mapping, so a million stacks are a few
 * mappings. Where they do not exist, mprotect() makes the guards, and vm.max_map_count bounds the number of stacks
 * to about half of it.
 *
 * Stacks of one size at equal offsets would fall into the same cache sets: the place where contexts begin is shifted
 * by up to 15 * 64 bytes from one stack to the next.
 */
#include "sched/stack.h"
#include "sched/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef MOTE_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef MOTE_ASAN
#include <sanitizer/asan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define CHUNK_STACKS	64
#define PAGE		4096
#define COLOURS		16
#define DEPOT_WARM	16384		/* free stacks that keep their pages, over all schedulers */

struct chunk {
	struct chunk *next;
	char *mapping;
	size_t size;
	struct stack stacks[CHUNK_STACKS];
};

static struct {
	struct lock lock;		/* all below */
	struct stack *free;		/* warm first */
	uint32_t nr;
} depots[STACK_CLASSES];

static struct lock chunks_lock;
static struct chunk *chunks;

static enum { GUARD_MADVISE, GUARD_MPROTECT } guards;
static int self_pidfd = -1;

uint8_t stack_class(size_t size)
{
	uint8_t class = STACK_CLASS_MIN;

	if (!size)
		return STACK_CLASS_DEFAULT;
	while (class <= STACK_CLASS_MAX && ((size_t)1 << class) < size)
		class++;
	return class <= STACK_CLASS_MAX ? class : 0;
}

const char *stack_guards(void)
{
	return guards == GUARD_MADVISE ? "madvise" : "mprotect";
}

/* Also EINVAL on memory that mlockall(MCL_FUTURE) has locked, hence the trial at each start. */
static bool guard_works(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool works;

	if (p == MAP_FAILED)
		return false;
	works = madvise(p, PAGE, MADV_GUARD_INSTALL) == 0;
	munmap(p, PAGE);
	return works;
}

int stacks_start(void)
{
	guards = guard_works() ? GUARD_MADVISE : GUARD_MPROTECT;
	self_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);	/* only to batch: may be missing */
	return 0;
}

/* One call for all pieces where the kernel can do that to oneself (6.13), else one for each. */
static int advise_pieces(struct iovec *iov, int n, int advice)
{
	ssize_t total = 0;

	for (int i = 0; i < n; i++)
		total += (ssize_t)iov[i].iov_len;
	if (self_pidfd >= 0 && syscall(SYS_process_madvise, self_pidfd, iov, n, advice, 0) == total)
		return 0;
	for (int i = 0; i < n; i++) {
		if (madvise(iov[i].iov_base, iov[i].iov_len, advice))
			return -errno;
	}
	return 0;
}

static int chunk_guard(struct chunk *c, size_t slot)
{
	struct iovec iov[CHUNK_STACKS];

	if (guards == GUARD_MADVISE) {
		for (int i = 0; i < CHUNK_STACKS; i++)
			iov[i] = (struct iovec){ c->mapping + (size_t)i * slot, STACK_GUARD };
		if (advise_pieces(iov, CHUNK_STACKS, MADV_GUARD_INSTALL) == 0)
			return 0;
		if (errno != EINVAL)
			return -ENOMEM;
	}
	for (int i = 0; i < CHUNK_STACKS; i++) {
		if (mprotect(c->mapping + (size_t)i * slot, STACK_GUARD, PROT_NONE))
			return -ENFILE;
	}
	return 0;
}

/* The page that each stack touches first, all at once: a third of the price of faulting them one by one. */
static void chunk_populate(struct chunk *c)
{
	struct iovec iov[CHUNK_STACKS];

	for (int i = 0; i < CHUNK_STACKS; i++)
		iov[i] = (struct iovec){ c->stacks[i].base + stack_size(&c->stacks[i]) - PAGE, PAGE };
	advise_pieces(iov, CHUNK_STACKS, MADV_POPULATE_WRITE);
}

static struct chunk *chunk_new(uint8_t class, int *err)
{
	size_t size = (size_t)1 << class, slot = size + STACK_GUARD;
	struct chunk *c = calloc(1, sizeof(*c));

	*err = -ENOMEM;
	if (!c)
		return NULL;
	c->size = slot * CHUNK_STACKS;
	c->mapping = mmap(NULL, c->size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (c->mapping == MAP_FAILED) {
		*err = errno == ENOMEM && guards == GUARD_MPROTECT ? -ENFILE : -ENOMEM;
		free(c);
		return NULL;
	}
	madvise(c->mapping, c->size, MADV_NOHUGEPAGE);	/* one page each is the point */
	*err = chunk_guard(c, slot);
	if (*err) {
		munmap(c->mapping, c->size);
		free(c);
		return NULL;
	}
	for (int i = 0; i < CHUNK_STACKS; i++) {
		struct stack *st = &c->stacks[i];

		st->class = class;
		st->base = c->mapping + (size_t)i * slot + STACK_GUARD;
		st->top = st->base + size - (size_t)(i % COLOURS) * CACHE_LINE;
		st->next = i + 1 < CHUNK_STACKS ? st + 1 : NULL;
	}
	chunk_populate(c);
	lock_take(&chunks_lock);
	c->next = chunks;
	chunks = c;
	lock_drop(&chunks_lock);
	return c;
}

struct stack *stack_get_slow(struct stack_cache *cache, uint8_t class, int *err)
{
	int i = class - STACK_CLASS_MIN;
	struct stack *st, *last;
	struct chunk *c;
	uint32_t n = 1;

	lock_take(&depots[i].lock);
	st = depots[i].free;
	if (st) {
		for (last = st; n < CHUNK_STACKS && last->next; n++)
			last = last->next;
		depots[i].free = last->next;
		depots[i].nr -= n;
		last->next = NULL;
	}
	lock_drop(&depots[i].lock);
	if (!st) {
		c = chunk_new(class, err);
		if (!c)
			return NULL;
		st = c->stacks;
		n = CHUNK_STACKS;
	}
	cache->classes[i].free = st->next;
	cache->classes[i].nr = n - 1;
	return st;
}

/*
 * Half of a full cache goes to the depot. Once the depot has enough warm ones, a stack's pages go back to the
 * system first: a burst of a million processes must not keep 4 GB for ever.
 */
void stack_spill(struct stack_cache *cache, uint8_t class)
{
	int i = class - STACK_CLASS_MIN;
	struct stack *first = cache->classes[i].free, *last = first, *batch;
	uint32_t n = cache->classes[i].nr - STACK_CACHE_MAX / 2;
	struct iovec iov[CHUNK_STACKS];
	int pieces = 0;
	bool warm;

	for (int k = 1; k < STACK_CACHE_MAX / 2; k++)
		last = last->next;
	batch = last->next;
	last->next = NULL;
	cache->classes[i].nr = STACK_CACHE_MAX / 2;

	lock_take(&depots[i].lock);
	warm = depots[i].nr < DEPOT_WARM;
	lock_drop(&depots[i].lock);
	for (last = batch; ; last = last->next) {
		if (!warm) {
			iov[pieces++] = (struct iovec){ last->base, stack_size(last) };
			if (pieces == CHUNK_STACKS || !last->next) {
				advise_pieces(iov, pieces, MADV_DONTNEED);
				pieces = 0;
			}
		}
		if (!last->next)
			break;
	}
	lock_take(&depots[i].lock);
	last->next = depots[i].free;
	depots[i].free = batch;
	depots[i].nr += n;
	lock_drop(&depots[i].lock);
}

void stacks_forget(void)
{
	for (int i = 0; i < STACK_CLASSES; i++) {
		depots[i].lock = (struct lock){ 0 };
		depots[i].free = NULL;
		depots[i].nr = 0;
	}
	chunks_lock = (struct lock){ 0 };
	chunks = NULL;
	self_pidfd = -1;
}

static void chunk_free(struct chunk *c)
{
#ifdef MOTE_TSAN
	for (int i = 0; i < CHUNK_STACKS; i++) {
		if (c->stacks[i].fiber)
			__tsan_destroy_fiber(c->stacks[i].fiber);
	}
#endif
#ifdef MOTE_ASAN
	__asan_unpoison_memory_region(c->mapping, c->size);
#endif
	munmap(c->mapping, c->size);
	free(c);
}

void stacks_destroy(void)
{
	while (chunks) {
		struct chunk *c = chunks;

		chunks = c->next;
		chunk_free(c);
	}
	if (self_pidfd >= 0)
		close(self_pidfd);
	stacks_forget();
}
