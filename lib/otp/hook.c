// SPDX-License-Identifier: MIT OR GPL-2.0
#include "core/process.h"
#include "otp/hook.h"

#include <mote/process.h>

#include <errno.h>
#include <stdlib.h>

/* What a process is in: of its heap, and so are its frames; used again and again. */
struct hook_frame {
	struct hook_frame *outer;
	const struct hook_set *set;
	struct hook_list *list;		/* NULL: not yet */
	struct hook *running;
	const void *at;
};

struct hook_record {
	struct hook_frame *frames, *spare;
	bool armed;			/* there is a cleanup that will look */
};

/*
 * What a list has in its references while it is in place. Whoever replaces it takes that away in one step with the
 * counting of those who were about to take a reference: before that they can give back more than is counted of them.
 */
#define IN_PLACE (INT64_C(1) << 40)

static const char record_key;

void hook_put(struct hook_set *set, struct hook *hook)
{
	/* release: what was done with it comes before its end; acquire: who frees comes after all of that */
	if (atomic_fetch_sub_explicit(&hook->refs, 1, memory_order_acq_rel) == 1)
		set->free(hook);
}

static struct hook_list *list_of(uint64_t word)
{
	return (struct hook_list *)(uintptr_t)(word >> 16);
}

struct hook_list *hooks_get(struct hook_set *set)
{
	/* acquire: pairs with the release in hooks_change(); from here on the count in the word keeps the list */
	uint64_t word = atomic_fetch_add_explicit(&set->word, 1, memory_order_acquire) + 1;
	struct hook_list *list = list_of(word);

	/* relaxed: the count in the word, or IN_PLACE, keeps it from 0 */
	if (list)
		atomic_fetch_add_explicit(&list->refs, 1, memory_order_relaxed);
	while (list_of(word) == list) {
		/* release: whoever replaces the list by that word has our reference counted */
		if (atomic_compare_exchange_weak_explicit(&set->word, &word, word - 1, memory_order_release,
							  memory_order_relaxed))
			return list;
	}
	/* It was replaced, and who did that has turned the word's count into references: ours are two. */
	if (list)
		atomic_fetch_sub_explicit(&list->refs, 1, memory_order_relaxed);
	return list;
}

static void list_drop(struct hook_list *list, int64_t n)
{
	/* release: the last use of the hooks; acquire: who frees comes after all of them */
	if (atomic_fetch_sub_explicit(&list->refs, n, memory_order_acq_rel) != n)
		return;
	for (size_t i = 0; i < list->n; i++)
		hook_put(list->set, list->hooks[i]);
	free(list);
}

void hooks_put(struct hook_list *list)
{
	if (list)
		list_drop(list, 1);
}

void hooks_lock(struct hook_set *set)
{
	pthread_mutex_lock(&set->mutex);
}

void hooks_unlock(struct hook_set *set)
{
	pthread_mutex_unlock(&set->mutex);
}

const struct hook_list *hooks_now(struct hook_set *set)
{
	static const struct hook_list empty;
	/* relaxed: the mutex orders those who change it */
	struct hook_list *list = list_of(atomic_load_explicit(&set->word, memory_order_relaxed));

	return list ? list : &empty;
}

/*
 * No list is ever put in place twice, so an address in the word means one list: an earlier one of that address would
 * still be held by whoever compares with it. Where there was none there is one ever after, an empty one if need be.
 */
int hooks_change(struct hook_set *set, bool (*drop)(const struct hook *hook, const void *arg), const void *arg,
		 struct hook *add, struct hook_list **old)
{
	const struct hook_list *now = hooks_now(set);
	struct hook_list *list = malloc(sizeof(*list) + (now->n + 1) * sizeof(list->hooks[0]));
	uint64_t word;

	*old = NULL;
	if (!list)
		return -ENOMEM;
	atomic_init(&list->refs, IN_PLACE);
	list->set = set;
	list->n = 0;
	for (size_t i = 0; i < now->n; i++) {
		if (!drop || !drop(now->hooks[i], arg))
			list->hooks[list->n++] = now->hooks[i];
	}
	if (add)
		list->hooks[list->n++] = add;
	/* relaxed: the list that is in place, or the caller, keeps each of them */
	for (size_t i = 0; i < list->n; i++)
		atomic_fetch_add_explicit(&list->hooks[i]->refs, 1, memory_order_relaxed);
	/* release: who finds the list sees what is in it; acquire: pairs with those who have given their count back */
	word = atomic_exchange_explicit(&set->word, (uint64_t)(uintptr_t)list << 16, memory_order_acq_rel);
	*old = list_of(word);
	set->list = list;
	/* One is the caller's. relaxed: it holds the list. */
	if (*old)
		atomic_fetch_add_explicit(&(*old)->refs, 1 + (int64_t)(word & 0xffff) - IN_PLACE, memory_order_relaxed);
	return 0;
}

void hooks_forget(struct hook_set *set, bool drop)
{
	pthread_mutex_init(&set->mutex, NULL);
	if (drop)
		atomic_store(&set->word, 0);
}

static void record_end(void *arg);

static void record_arm(struct hook_record *r)
{
	if (!r->armed)
		r->armed = !mote_defer(record_end, r);
}

/*
 * One frame at a time, the rest by another cleanup: what `failed` calls may end this one, which then begins again,
 * with the frames of that on top.
 */
static void record_end(void *arg)
{
	struct hook_record *r = arg;
	struct hook_frame *f = r->frames;
	struct hook *failed;

	r->armed = false;
	if (!f)
		return;
	record_arm(r);
	/* An exit signal that comes while a hook's function waits is not its fault. */
	failed = process_caller()->told ? NULL : f->running;
	f->running = NULL;
	if (failed)
		f->list->set->failed(failed, f->at);
	r->frames = f->outer;
	hooks_put(f->list);
}

/*
 * NULL: a foreign thread, or no memory: then a crash of a hook's function leaves it attached, and the list is never
 * freed.
 */
static struct hook_frame *frame_push(const struct hook_set *set)
{
	struct hook_record *r;
	struct hook_frame *f;

	if (!mote_in_process())
		return NULL;
	r = mote_local_get(&record_key);
	if (!r) {
		r = mote_zalloc(sizeof(*r));
		if (!r || mote_local_set(&record_key, r))
			return NULL;
	}
	record_arm(r);
	f = r->spare;
	if (!f) {
		f = mote_alloc(sizeof(*f));
		if (!f)
			return NULL;
	} else {
		r->spare = f->outer;
	}
	*f = (struct hook_frame){ .outer = r->frames, .set = set };
	r->frames = f;
	return f;
}

static void frame_pop(struct hook_frame *f)
{
	struct hook_record *r = mote_local_get(&record_key);

	r->frames = f->outer;
	f->outer = r->spare;
	r->spare = f;
}

bool hooks_begin(struct hook_set *set, struct hook_walk *walk)
{
	const struct hook_list *peek = list_of(atomic_load_explicit(&set->word, memory_order_relaxed));

	if (!peek)
		return false;
	walk->frame = frame_push(set);
	/* No runtime call, which may not return, until the frame has it. */
	walk->list = hooks_get(set);
	if (walk->frame)
		walk->frame->list = walk->list;
	return true;
}

void hooks_running(struct hook_walk *walk, struct hook *hook, const void *at)
{
	if (walk->frame) {
		walk->frame->running = hook;
		walk->frame->at = at;
	}
}

void hooks_end(struct hook_walk *walk)
{
	if (walk->frame)
		frame_pop(walk->frame);
	hooks_put(walk->list);
}

bool hooks_inside(const struct hook_set *set)
{
	const struct hook_record *r = mote_local_get(&record_key);

	for (const struct hook_frame *f = r ? r->frames : NULL; f; f = f->outer) {
		if (f->set == set)
			return true;
	}
	return false;
}
