// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Who wants to hear of connections. Few do: a list under a lock, walked when one comes or goes.
 */
#include "core/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct watcher {
	struct watcher *next;
	mote_pid pid;
};

static struct lock lock;
static struct watcher *watchers;

void node_watch_tell(struct scheduler *s, const struct node *n, uint32_t type)
{
	struct mote_node_event event = { .node = { n->id } };

	memcpy(event.name, n->name, sizeof(event.name));
	lock_take(&lock);
	for (struct watcher *w = watchers; w; w = w->next) {
		struct signal *sig = process_known(w->pid) ? signal_new(s, SIGNAL_MESSAGE, sizeof(event)) : NULL;

		if (!sig)
			continue;
		sig->to = w->pid.serial;
		sig->msg.from = MOTE_NOBODY;
		sig->msg.type = type;
		memcpy(sig->payload, &event, sizeof(event));
		signal_send(s, sig, w->pid.slot, false);
	}
	lock_drop(&lock);
}

static int watch(struct process *p)
{
	struct extra *extra = process_extra(p);
	struct watcher *w;

	if (!extra)
		return -ENOMEM;
	if (extra->watches_nodes)
		return 0;
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->pid = process_pid(p);
	extra->watches_nodes = true;
	lock_take(&lock);
	w->next = watchers;
	watchers = w;
	lock_drop(&lock);
	return 0;
}

void node_watch_end_slow(struct process *p)
{
	mote_pid pid = process_pid(p);
	struct watcher **at, *w;

	atomic_load_explicit(&p->extra, memory_order_relaxed)->watches_nodes = false;
	lock_take(&lock);
	for (at = &watchers; !mote_pid_equal((*at)->pid, pid); at = &(*at)->next)
		;
	w = *at;
	*at = w->next;
	lock_drop(&lock);
	free(w);
}

void node_watch_forget(void)
{
	lock = (struct lock){ 0 };
	watchers = NULL;
}

int mote_node_watch(bool on)
{
	struct scheduler *s = runtime_enter("mote_node_watch");
	struct process *self = process_self(s);
	int err = 0;

	if (!port_node)
		err = -ENETDOWN;
	else if (on)
		err = watch(self);
	else
		node_watch_end(self);
	process_leave(s);
	return err;
}
