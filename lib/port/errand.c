// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/errand.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static _Atomic(struct errand *) errands;	/* newest first */
static _Atomic bool holding;
static int poke_fd = -1;

int errands_start(void)
{
	atomic_store_explicit(&errands, NULL, memory_order_relaxed);
	atomic_store_explicit(&holding, false, memory_order_relaxed);
	poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return poke_fd < 0 ? -errno : 0;
}

void errands_stop(void)
{
	struct errand *e = errands_take();

	while (e) {
		struct errand *next = e->next;

		if (e->kind == ERRAND_CONNECT)
			free((char *)e - offsetof(struct request, errand));
		e = next;
	}
	errands_forget();
}

void errands_forget(void)
{
	if (poke_fd >= 0)
		close(poke_fd);
	poke_fd = -1;
}

void errands_poke(void)
{
	eventfd_write(poke_fd, 1);
}

int errands_fd(void)
{
	return poke_fd;
}

void errand_give(struct errand *e)
{
	struct errand *first = atomic_load_explicit(&errands, memory_order_relaxed);

	do {
		e->next = first;
		/* release: the thread sees what it is about */
	} while (!atomic_compare_exchange_weak_explicit(&errands, &first, e, memory_order_release,
							 memory_order_relaxed));
	/* Who comes second finds the thread poked. */
	if (!first)
		errands_poke();
}

struct errand *errands_take(void)
{
	struct errand *e, *first = NULL;
	eventfd_t n;

	/* Before: who then pushes pokes anew. */
	if (poke_fd >= 0)
		eventfd_read(poke_fd, &n);
	/* acquire: pairs with errand_give() */
	e = atomic_exchange_explicit(&errands, NULL, memory_order_acquire);
	while (e) {
		struct errand *next = e->next;

		e->next = first;
		first = e;
		e = next;
	}
	return first;
}

void errands_hold(void)
{
	/* acq_rel: the thread, which takes this back before it looks at all carriers, sees what was held before */
	if (!atomic_exchange_explicit(&holding, true, memory_order_acq_rel))
		errands_poke();
}

bool errands_held(void)
{
	return atomic_load_explicit(&holding, memory_order_relaxed) &&
	       atomic_exchange_explicit(&holding, false, memory_order_acq_rel);
}
