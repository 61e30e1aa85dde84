// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What a process keeps under keys of its own: Erlang's process dictionary. Few have more than a handful of keys, so a
 * list does, and the one that was set last is found first.
 */
#include "core/process.h"

#include <errno.h>

struct local {
	struct local *next;
	const void *key;
	void *value;
};

static struct local **local_find(struct extra *extra, const void *key)
{
	struct local **at = &extra->locals;

	while (*at && (*at)->key != key)
		at = &(*at)->next;
	return at;
}

int mote_local_set(const void *key, void *value)
{
	struct scheduler *s = runtime_enter("mote_local_set");
	struct process *p = process_self(s);
	struct extra *extra = value ? process_extra(p) : atomic_load_explicit(&p->extra, memory_order_relaxed);
	struct local **at = extra ? local_find(extra, key) : NULL, *l = at ? *at : NULL;
	int err = 0;

	if (l && !value) {
		*at = l->next;
		slab_free(&s->slabs, l, slab_class(sizeof(*l)));
	} else if (l) {
		l->value = value;
	} else if (value) {
		l = extra ? slab_alloc(&s->slabs, slab_class(sizeof(*l))) : NULL;
		if (l) {
			*l = (struct local){ extra->locals, key, value };
			extra->locals = l;
		} else {
			err = -ENOMEM;
		}
	}
	process_leave(s);
	return err;
}

void *mote_local_get(const void *key)
{
	struct process *p = process_caller();
	struct extra *extra = p ? atomic_load_explicit(&p->extra, memory_order_relaxed) : NULL;
	struct local *l = extra ? *local_find(extra, key) : NULL;

	return l ? l->value : NULL;
}

void locals_end(struct scheduler *s, struct extra *extra)
{
	struct local *l;

	while ((l = extra->locals)) {
		extra->locals = l->next;
		slab_free(&s->slabs, l, slab_class(sizeof(*l)));
	}
}
