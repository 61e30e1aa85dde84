// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Stacks come in chunks of up to 64: one mapping, [guard][stack][guard][stack]..., guarded in one system call. Guard
 * markers (MADV_GUARD_INSTALL, Linux 6.13) live in the page table and split no mapping, so a million stacks are a few
 * mappings. Where they do not exist, or where memory is locked, mprotect() makes the guards, and vm.max_map_count
 * bounds the number of stacks to about half of it.
 *
 * Stacks of one size at equal offsets would fall into the same cache sets: the place where contexts begin is shifted
 * by up to 15 * 64 bytes from one stack to the next.
 */
#include "sched/stack.h"
#include "sched/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
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
#ifndef MADV_GUARD_REMOVE
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define CHUNK_STACKS	64		/* fewer of those that would be larger together than: */
#define CHUNK_SIZE	((size_t)16 << 20)
#define PAGE		4096
#define COLOURS		16
#define DEPOT_WARM	16384		/* free stacks that keep their pages, over all schedulers */

struct chunk {
	struct chunk *next;
	char *mapping;
	size_t size;
	int n;
	struct stack stacks[];
};

static struct {
	struct lock lock;		/* all below */
	struct stack *free;		/* warm first */
	uint32_t nr;
} depots[STACK_CLASSES];

static struct lock chunks_lock;
static struct chunk *chunks;

enum { GUARD_MADVISE, GUARD_MPROTECT };
static _Atomic int guards;		/* memory may be locked at any time: see chunk_map() */
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
	return atomic_load_explicit(&guards, memory_order_relaxed) == GUARD_MADVISE ? "madvise" : "mprotect";
}

const char *stack_error(int err)
{
	return err == -ENFILE ? "no stack: vm.max_map_count is reached" :
	       err == -EAGAIN ? "no stack: RLIMIT_MEMLOCK is reached" : "no stack: out of memory";
}

/*
 * Also EINVAL on memory that mlockall(MCL_FUTURE) has locked. Emulators take advice that they do not know: so the kernel
 * is asked for what lies there.
 */
static bool guard_works(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool works;

	if (p == MAP_FAILED)
		return false;
	works = madvise(p, PAGE, MADV_GUARD_INSTALL) == 0 && access(p, F_OK) && errno == EFAULT;
	munmap(p, PAGE);
	return works;
}

int stacks_start(void)
{
	atomic_store_explicit(&guards, guard_works() ? GUARD_MADVISE : GUARD_MPROTECT, memory_order_relaxed);
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

/*
 * The kernel's ENOMEM says too little: the number of mappings may be the limit, which a split tells that costs neither
 * memory nor address space to speak of.
 */
static int why_no_memory(int err)
{
	struct rlimit limit;
	int why = -ENOMEM;
	char *p;

	if (err == EAGAIN)
		return -EAGAIN;
	p = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur != RLIM_INFINITY ? -ENOMEM : -ENFILE;
	if (mprotect(p + PAGE, PAGE, PROT_READ))
		why = -ENFILE;
	munmap(p, 3 * PAGE);
	return why;
}

/* 0, or an errno: EINVAL: not on this kernel, or not now. */
static int guard_by_madvise(const struct chunk *c, size_t slot)
{
	struct iovec iov[CHUNK_STACKS];

	for (int i = 0; i < c->n; i++)
		iov[i] = (struct iovec){ c->mapping + (size_t)i * slot, STACK_GUARD };
	return -advise_pieces(iov, c->n, MADV_GUARD_INSTALL);
}

/* The stacks are opened, rather than the guards shut: then locked memory has no pages for guards. */
static int guard_by_mprotect(const struct chunk *c, size_t slot)
{
	for (int i = 0; i < c->n; i++) {
		if (mprotect(c->mapping + (size_t)i * slot + STACK_GUARD, slot - STACK_GUARD, PROT_READ | PROT_WRITE))
			return errno;
	}
	return 0;
}

/* 0, or an errno with nothing mapped. */
static int chunk_map_guarded(struct chunk *c, size_t slot, int how)
{
	int err;

	c->mapping = mmap(NULL, c->size, how == GUARD_MADVISE ? PROT_READ | PROT_WRITE : PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (c->mapping == MAP_FAILED)
		return errno;
	madvise(c->mapping, c->size, MADV_NOHUGEPAGE);	/* one page each is the point */
	err = how == GUARD_MADVISE ? guard_by_madvise(c, slot) : guard_by_mprotect(c, slot);
	if (err)
		munmap(c->mapping, c->size);
	return err;
}

static int chunk_map(struct chunk *c, size_t slot)
{
	int err = EINVAL;

	if (atomic_load_explicit(&guards, memory_order_relaxed) == GUARD_MADVISE) {
		err = chunk_map_guarded(c, slot, GUARD_MADVISE);
		if (err == EINVAL)	/* mlockall(MCL_FUTURE) was called after the start */
			atomic_store_explicit(&guards, GUARD_MPROTECT, memory_order_relaxed);
	}
	if (err == EINVAL)
		err = chunk_map_guarded(c, slot, GUARD_MPROTECT);
	return err;
}

/* The page that each stack touches first, all at once: a third of the price of faulting them one by one. */
static void chunk_populate(struct chunk *c)
{
	struct iovec iov[CHUNK_STACKS];

	for (int i = 0; i < c->n; i++)
		iov[i] = (struct iovec){ c->stacks[i].base + stack_size(&c->stacks[i]) - PAGE, PAGE };
	advise_pieces(iov, c->n, MADV_POPULATE_WRITE);
}

static struct chunk *chunk_new(uint8_t class, int n, int *err)
{
	size_t size = (size_t)1 << class, slot = size + STACK_GUARD;
	struct chunk *c = calloc(1, sizeof(*c) + (size_t)n * sizeof(c->stacks[0]));

	*err = ENOMEM;
	if (!c)
		return NULL;
	c->n = n;
	c->size = slot * (size_t)n;
	*err = chunk_map(c, slot);
	if (*err) {
		free(c);
		return NULL;
	}
	for (int i = 0; i < n; i++) {
		struct stack *st = &c->stacks[i];

		st->class = class;
		st->base = c->mapping + (size_t)i * slot + STACK_GUARD;
		st->top = st->base + size - (size_t)(i % COLOURS) * CACHE_LINE;
		st->next = i + 1 < n ? st + 1 : NULL;
	}
	chunk_populate(c);
	lock_take(&chunks_lock);
	c->next = chunks;
	chunks = c;
	lock_drop(&chunks_lock);
	return c;
}

/* Where there is no room for many there may be for one. */
static struct chunk *chunk_get(uint8_t class, int *err)
{
	int n = CHUNK_STACKS;
	struct chunk *c;

	while (n > 1 && (size_t)n * (((size_t)1 << class) + STACK_GUARD) > CHUNK_SIZE)
		n /= 2;
	do
		c = chunk_new(class, n, err);
	while (!c && (n = n > 1 ? (n + 3) / 4 : 0));
	if (!c)
		*err = why_no_memory(*err);
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
		c = chunk_get(class, err);
		if (!c)
			return NULL;
		st = c->stacks;
		n = (uint32_t)c->n;
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

/* Whoever runs there writes meanwhile, and sanitizers know nothing of bytes between frames: a look, no more. */
__attribute__((no_sanitize("thread", "address")))
static const char *lowest_used(const char *from, const char *to)
{
	for (; from < to; from += sizeof(uint64_t)) {
		if (*(const volatile uint64_t *)from)
			break;
	}
	return from;
}

/* st may have been made a moment ago, on another thread: then what is read here is no mapping, or no memory yet. */
__attribute__((no_sanitize("thread")))
size_t stack_high(const struct stack *st)
{
	char *from = st->base, *end = from + ((size_t)1 << st->class);
	unsigned char there[256];

	/* Untouched pages are not looked into: that would make them. */
	for (; from < end; from += sizeof(there) * PAGE) {
		size_t n = (size_t)(end - from) / PAGE;

		if (n > sizeof(there))
			n = sizeof(there);
		if (mincore(from, n * PAGE, there))
			return 0;
		for (size_t i = 0; i < n; i++) {
			const char *page = from + i * PAGE, *used;

			used = there[i] & 1 ? lowest_used(page, page + PAGE) : page + PAGE;
			if (used < page + PAGE)
				return (size_t)(end - used);
		}
	}
	return 0;
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
	for (int i = 0; i < c->n; i++) {
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

void stack_open(struct stack *st)
{
	st->opened = true;
	/* One of the two does something: which, depends on how it was guarded. */
	madvise(st->base - STACK_OPENING, STACK_OPENING, MADV_GUARD_REMOVE);
	mprotect(st->base - STACK_OPENING, STACK_OPENING, PROT_READ | PROT_WRITE);
}

void stack_close(struct stack *st)
{
	char *p = st->base - STACK_OPENING;

	st->opened = false;
	/* relaxed: a hint, which goes from the first to the second once */
	if (atomic_load_explicit(&guards, memory_order_relaxed) == GUARD_MADVISE &&
	    madvise(p, STACK_OPENING, MADV_GUARD_INSTALL) == 0)
		return;
	madvise(p, STACK_OPENING, MADV_DONTNEED);
	mprotect(p, STACK_OPENING, PROT_NONE);
}
