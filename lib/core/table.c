// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The table of processes: one reservation of address space, filled from the bottom. Schedulers take fresh slots in runs
 * and keep free lists of their own; what they have too many of goes to a shared list.
 *
 * The reservation is opened for use piece by piece: what nobody has used yet counts for no limit on memory, and is
 * not filled with pages where a program has its memory locked.
 */
#include "core/process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FRESH_RUN	64
#define FREE_MAX	4096		/* free slots that a scheduler keeps */
#define SMALL_TABLE	(UINT32_C(1) << 20)
#define HUGE_PAGE	(UINT64_C(2) << 20)

struct process *process_table;
_Atomic uint32_t process_table_used;

static uint32_t table_max;
static uint32_t limit;			/* how many may be alive; 0: as many as the table holds */
static size_t table_size;
static size_t table_opened;		/* bytes; under shared_lock */

struct slots {
	struct task *free;
	uint32_t nr;
	uint32_t fresh, fresh_end;
} __attribute__((aligned(2 * CACHE_LINE)));	/* neighbours in own[] are different workers' */

static struct slots own[256];		/* by scheduler; only its worker touches it */
static struct lock shared_lock;		/* shared */
static struct slots shared;

bool process_table_full(void)
{
	return unlikely(limit) && process_count() >= limit;
}

int process_table_start(uint32_t max, unsigned int schedulers)
{
	char *huge;

	/*
	 * A small limit is counted, and the table has room for what schedulers keep for themselves; a large one is the
	 * size of the table, which costs a spawn nothing.
	 */
	limit = max < SMALL_TABLE ? max : 0;
	if (limit)
		max += (schedulers + 1) * (FRESH_RUN + FREE_MAX);

	table_size = (size_t)max * sizeof(struct process);
	process_table = mmap(NULL, table_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (process_table == MAP_FAILED) {
		process_table = NULL;
		return -ENOMEM;
	}
	/* Small programs stay small; whoever needs more than 2 MiB of processes profits from huge pages. */
	huge = (char *)(((uintptr_t)process_table + 2 * HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
	if (huge < (char *)process_table + table_size)
		madvise(huge, (char *)process_table + table_size - huge, MADV_HUGEPAGE);
	table_max = max;
	return 0;
}

void process_table_forget(void)
{
	process_table = NULL;
	table_opened = 0;
	atomic_store(&process_table_used, 0);
	memset(own, 0, sizeof(own));
	memset(&shared, 0, sizeof(shared));
	shared_lock = (struct lock){ 0 };
}

void process_table_stop(void)
{
	uint32_t used = atomic_load(&process_table_used);

	for (uint32_t i = 0; i < used; i++) {
		struct extra *extra = atomic_load_explicit(&process_table[i].extra, memory_order_relaxed);

		if (extra) {
			free(atomic_load_explicit(&extra->limit, memory_order_relaxed));
			free(extra->holds);
			free(extra);
		}
	}
	munmap(process_table, table_size);
	process_table_forget();
}

/* With shared_lock held. False: no memory. */
static bool table_open(uint32_t slots)
{
	size_t needed = slots * sizeof(struct process), to = (needed + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);

	if (likely(needed <= table_opened))
		return true;
	if (to > table_size)
		to = table_size;
	if (mprotect((char *)process_table + table_opened, to - table_opened, PROT_READ | PROT_WRITE))
		return false;
	table_opened = to;
	return true;
}

/* With shared_lock held. */
static bool take_fresh(struct slots *slots)
{
	uint32_t used = atomic_load_explicit(&process_table_used, memory_order_relaxed), n;

	n = table_max - used < FRESH_RUN ? table_max - used : FRESH_RUN;
	if (!n || !table_open(used + n))
		return false;
	/* Another node may name any of them: what is sent there finds nobody. */
	for (uint32_t i = used; i < used + n; i++)
		atomic_store_explicit(&process_table[i].task.inbox, TASK_DEAD, memory_order_relaxed);
	/* release: whoever walks over the slots finds them open, and dead */
	atomic_store_explicit(&process_table_used, used + n, memory_order_release);
	slots->fresh = used;
	slots->fresh_end = used + n;
	return true;
}

static bool take_shared(struct slots *slots)
{
	struct task *t;
	uint32_t n = 1;

	if (!shared.free)
		return false;
	slots->free = t = shared.free;
	for (; n < FRESH_RUN && t->next; n++)
		t = t->next;
	shared.free = t->next;
	shared.nr -= n;
	t->next = NULL;
	slots->nr = n;
	return true;
}

static struct process *slot_from(struct slots *slots)
{
	struct process *p;
	struct task *t = slots->free;

	if (t) {
		slots->free = t->next;
		slots->nr--;
		return process_of(t);
	}
	if (slots->fresh == slots->fresh_end)
		return NULL;
	p = &process_table[slots->fresh];
	p->task.slot = slots->fresh++;
	return p;
}

struct process *process_slot_new(struct scheduler *s)
{
	struct slots *slots = s ? &own[s->index] : &shared;
	struct process *p;

	if (s) {
		p = slot_from(slots);
		if (likely(p))
			return p;
	}
	lock_take(&shared_lock);
	if (!s && !shared.free && shared.fresh == shared.fresh_end)
		take_fresh(&shared);
	else if (s && !take_shared(slots))
		take_fresh(slots);
	p = slot_from(slots);
	lock_drop(&shared_lock);
	return p;
}

void process_slot_free(struct scheduler *s, struct process *p)
{
	struct slots *slots = s ? &own[s->index] : &shared;
	struct task *batch, *t;

	if (!s) {
		lock_take(&shared_lock);
		p->task.next = shared.free;
		shared.free = &p->task;
		shared.nr++;
		lock_drop(&shared_lock);
		return;
	}
	p->task.next = slots->free;
	slots->free = &p->task;
	if (likely(++slots->nr <= FREE_MAX))
		return;
	t = slots->free;
	for (int i = 1; i < FREE_MAX / 2; i++)
		t = t->next;
	batch = t->next;
	t->next = NULL;
	for (t = batch; t->next; t = t->next)
		;
	lock_take(&shared_lock);
	t->next = shared.free;
	shared.free = batch;
	shared.nr += slots->nr - FREE_MAX / 2;
	lock_drop(&shared_lock);
	slots->nr = FREE_MAX / 2;
}
