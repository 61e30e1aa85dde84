/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/epoch.h: reading without locks what others change and free. A reader says so for the while that it reads; what a
 * writer has unlinked is freed when every reader that may have seen it has left. Readers write a line of their own, no
 * others'.
 *
 * A section belongs to a scheduler: it lies inside of the runtime, where nobody takes a scheduler away, and nothing
 * in it may switch. Foreign threads have no such line: they take one of a few locks.
 */
#ifndef OTP_EPOCH_H
#define OTP_EPOCH_H

#include "core/process.h"
#include "sched/barrier.h"

/* What was unlinked; inside of what is to be freed. */
struct garbage {
	struct garbage *next;
	void (*free)(struct garbage *g);
};

struct reader {
	_Atomic uint64_t turn;		/* odd: reads. Written by the scheduler's worker only */
} __attribute__((aligned(2 * CACHE_LINE)));

extern struct reader epoch_readers[] __attribute__((visibility("hidden")));

void epoch_enter_foreign(void);
void epoch_leave_foreign(void);

/* s: the caller's, inside of the runtime; NULL: a foreign thread. */
static inline void epoch_enter(struct scheduler *s)
{
	struct reader *r;

	if (unlikely(!s)) {
		epoch_enter_foreign();
		return;
	}
	r = &epoch_readers[s->index];
	atomic_store_explicit(&r->turn, atomic_load_explicit(&r->turn, memory_order_relaxed) + 1, memory_order_relaxed);
	/*
	 * The store before all loads of the section, against epoch_reclaim(), which has barrier_heavy() between the
	 * unlinking and its look at `turn`: either it finds this reader, or this reader does not find what was
	 * unlinked.
	 */
	barrier_light();
}

static inline void epoch_leave(struct scheduler *s)
{
	struct reader *r;

	if (unlikely(!s)) {
		epoch_leave_foreign();
		return;
	}
	r = &epoch_readers[s->index];
	/* release: who sees it, and frees, does so after all that was read */
	atomic_store_explicit(&r->turn, atomic_load_explicit(&r->turn, memory_order_relaxed) + 1, memory_order_release);
}

/*
 * Takes g, of about that size, which new readers do not find any more. Has it freed later; frees some of what came
 * before. Inside of the runtime or by a foreign thread; not in a section.
 */
void epoch_retire(struct garbage *g, void (*fn)(struct garbage *g), size_t size);

/* The child of a fork has none of the threads that read or retired. */
void epoch_forget(void);

#endif
