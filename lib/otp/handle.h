/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/handle.h: what registries, scopes of groups and the like are known by: a name, interned for as long as the
 * program runs, as Erlang's atoms are. While such a thing runs its handle leads to it; before, after and in between
 * to nothing.
 */
#ifndef OTP_HANDLE_H
#define OTP_HANDLE_H

#include "otp/epoch.h"

enum handle_kind { HANDLE_REGISTRY, HANDLE_PG, HANDLE_PUBSUB, HANDLE_KINDS };

struct handle {
	struct handle *next;
	/* Read in a section of otp/epoch.h, unless who reads holds what it leads to. */
	_Atomic(void *) to;
	char name[];
};

/* Always the same one. NULL with mote_errno(): -EINVAL, -ENOMEM. Outside of the runtime. */
struct handle *handle_named(enum handle_kind kind, const char *name);

static inline void *handle_look(const void *handle)
{
	/* acquire: pairs with handle_lead(): it is whole */
	return atomic_load_explicit(&((const struct handle *)handle)->to, memory_order_acquire);
}

static inline void handle_lead(void *handle, void *to)
{
	atomic_store_explicit(&((struct handle *)handle)->to, to, memory_order_release);
}

#endif
