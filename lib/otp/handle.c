// SPDX-License-Identifier: MIT OR GPL-2.0
#include "otp/handle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS	64

/* Never unlinked: whoever has walked past a handle may go on without the lock. */
static _Atomic(struct handle *) handles[HANDLE_KINDS][BUCKETS];
static struct lock lock;		/* adding */

static void forget_in_child(void)
{
	lock = (struct lock){ 0 };
	/* What the parent runs does not run here. Its memory is the price of a fork with a runtime running. */
	for (int kind = 0; kind < HANDLE_KINDS; kind++) {
		for (int i = 0; i < BUCKETS; i++) {
			for (struct handle *h = atomic_load(&handles[kind][i]); h; h = h->next)
				handle_lead(h, NULL);
		}
	}
	epoch_forget();
}

static void register_fork(void)
{
	pthread_atfork(NULL, NULL, forget_in_child);
}

static _Atomic(struct handle *) *bucket_of(enum handle_kind kind, const char *name)
{
	uint64_t hash = 0;

	while (*name)
		hash = (hash ^ (unsigned char)*name++) * 0x9e3779b97f4a7c15ull;
	return &handles[kind][hash >> 58];
}

_Static_assert(BUCKETS == 1 << 6, "by the upper six bits of the hash");

static struct handle *handle_find(_Atomic(struct handle *) *bucket, const char *name)
{
	/* acquire: pairs with the release in handle_add() */
	struct handle *h = atomic_load_explicit(bucket, memory_order_acquire);

	while (h && strcmp(h->name, name))
		h = h->next;
	return h;
}

/* Another may have been quicker. NULL: no memory. */
static struct handle *handle_add(_Atomic(struct handle *) *bucket, const char *name)
{
	struct handle *new = calloc(1, sizeof(*new) + strlen(name) + 1), *h;

	if (!new)
		return NULL;
	strcpy(new->name, name);
	lock_take(&lock);
	h = handle_find(bucket, name);
	if (!h) {
		new->next = atomic_load_explicit(bucket, memory_order_relaxed);
		/* release: who finds it finds it whole */
		atomic_store_explicit(bucket, new, memory_order_release);
		h = new;
		new = NULL;
	}
	lock_drop(&lock);
	free(new);
	return h;
}

struct handle *handle_named(enum handle_kind kind, const char *name)
{
	static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
	struct scheduler *s = runtime_try_enter();
	_Atomic(struct handle *) *bucket;
	struct handle *h = NULL;
	int err = -EINVAL;

	if (name && name_valid(name)) {
		bucket = bucket_of(kind, name);
		h = handle_find(bucket, name);
		if (!h) {
			pthread_once(&fork_once, register_fork);
			h = handle_add(bucket, name);
		}
		err = -ENOMEM;
	}
	if (!h)
		caller_fail(s, err);
	if (s)
		runtime_leave_on(s);
	return h;
}
