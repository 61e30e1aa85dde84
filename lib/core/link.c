// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Links, after the link protocol of Erlang's distribution (and of Erlang inside a node): both ends keep an entry. Unlink
 * makes one's own entry inactive under an id and waits for the other end's acknowledgement before the entry goes; an
 * exit signal over an inactive entry is dropped. A new link that crosses the acknowledgement has made the entry active
 * again, and then the id no longer fits.
 */
#include "core/process.h"

#include <errno.h>
#include <stdlib.h>

struct link {
	mote_pid peer;			/* serial 0: free */
	uint64_t unlinking;		/* id of the unlink under way; 0: active */
};

/* Open addressing with linear probing; at most three quarters full. */
struct link_table {
	uint32_t mask;
	uint32_t used;
	struct link links[];
};

static uint32_t link_hash(mote_pid peer)
{
	return (uint32_t)((peer.serial * 0x9e3779b97f4a7c15ull + peer.slot) * 0x9e3779b97f4a7c15ull >> 32);
}

static struct link *link_find(struct process *p, mote_pid peer)
{
	if (!p->links)
		return NULL;
	for (uint32_t i = link_hash(peer); ; i++) {
		struct link *l = &p->links->links[i & p->links->mask];

		if (!l->peer.serial)
			return NULL;
		if (mote_pid_equal(l->peer, peer))
			return l;
	}
}

static void link_insert(struct link_table *table, struct link l)
{
	uint32_t i = link_hash(l.peer);

	while (table->links[i & table->mask].peer.serial)
		i++;
	table->links[i & table->mask] = l;
	table->used++;
}

static bool table_reserve(struct process *p)
{
	uint32_t size = p->links ? p->links->mask + 1 : 0;
	struct link_table *table;

	if (size && (p->links->used + 1) * 4 <= size * 3)
		return true;
	size = size ? 2 * size : 4;
	table = calloc(1, sizeof(*table) + size * sizeof(table->links[0]));
	if (!table)
		return false;
	table->mask = size - 1;
	for (uint32_t i = 0; p->links && i <= p->links->mask; i++) {
		if (p->links->links[i].peer.serial)
			link_insert(table, p->links->links[i]);
	}
	free(p->links);
	p->links = table;
	return true;
}

static void count_links(struct process *p, int n)
{
	atomic_store_explicit(&p->nr_links, atomic_load_explicit(&p->nr_links, memory_order_relaxed) + (uint32_t)n,
			      memory_order_relaxed);
}

/* Closes the gap, so that probing still finds what lies behind it. */
static void link_remove(struct process *p, struct link *l)
{
	struct link_table *table = p->links;
	uint32_t gap = (uint32_t)(l - table->links), i = gap;

	if (!l->unlinking)
		count_links(p, -1);
	for (;;) {
		uint32_t home;

		i = (i + 1) & table->mask;
		if (!table->links[i].peer.serial)
			break;
		home = link_hash(table->links[i].peer) & table->mask;
		if (((i - home) & table->mask) >= ((i - gap) & table->mask)) {
			table->links[gap] = table->links[i];
			gap = i;
		}
	}
	table->links[gap].peer = MOTE_NOBODY;
	table->used--;
}

int link_add(struct process *p, mote_pid peer)
{
	struct link *l = link_find(p, peer);

	if (l) {
		if (!l->unlinking)
			return 1;
		l->unlinking = 0;
		count_links(p, 1);
		return 0;
	}
	if (!table_reserve(p))
		return -ENOMEM;
	link_insert(p->links, (struct link){ .peer = peer });
	count_links(p, 1);
	return 0;
}

bool link_broken(struct process *p, mote_pid peer)
{
	struct link *l = link_find(p, peer);
	bool active = l && !l->unlinking;

	if (l)
		link_remove(p, l);
	return active;
}

static void link_send(struct scheduler *s, struct process *p, enum signal_kind kind, mote_pid to, uint64_t id)
{
	struct signal *sig;

	if (kind == SIGNAL_LINK && !process_lookup(to)) {
		signal_exit_absent(s, to, process_pid(p));
		return;
	}
	sig = signal_new(s, kind, 0);
	if (!sig)
		return;
	sig->to = to.serial;
	sig->ref = id;
	sig->msg.from = process_pid(p);
	if (process_lookup(to))
		signal_send(s, sig, to.slot, kind == SIGNAL_LINK);
	else
		signal_undeliverable(s, sig, to.slot);
}

void link_take(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct link *l = link_find(p, sig->msg.from);

	switch (sig->kind) {
	case SIGNAL_LINK:
		/* An inactive entry: the peer linked before it saw the unlink, which will end both its links. */
		if (!l && link_add(p, sig->msg.from) < 0)
			runtime_log(MOTE_LOG_ERROR, "out of memory: a link to " MOTE_PID_FMT " is one-sided",
				    MOTE_PID_ARG(sig->msg.from));
		break;
	case SIGNAL_UNLINK:
		if (l && !l->unlinking)
			link_remove(p, l);
		/* Before anything else goes to that peer: order per pair tells it that no exit will follow. */
		link_send(s, p, SIGNAL_UNLINK_ACK, sig->msg.from, sig->ref);
		break;
	case SIGNAL_UNLINK_ACK:
		if (l && l->unlinking == sig->ref)
			link_remove(p, l);
		break;
	default:
		break;
	}
	signal_free(s, sig);
}

void links_tell(struct scheduler *s, struct process *p, const struct mote_reason *reason)
{
	struct link_table *table = p->links;
	struct signal *sig;

	p->links = NULL;
	for (uint32_t i = 0; table && i <= table->mask; i++) {
		struct link *l = &table->links[i];

		if (!l->peer.serial || l->unlinking || !process_lookup(l->peer))
			continue;
		sig = signal_exit_new(s, process_pid(p), reason);
		if (!sig) {
			runtime_log(MOTE_LOG_ERROR, "out of memory: an exit signal to " MOTE_PID_FMT " is lost",
				    MOTE_PID_ARG(l->peer));
			continue;
		}
		sig->kind = SIGNAL_EXIT_LINK;
		sig->to = l->peer.serial;
		signal_send(s, sig, l->peer.slot, true);
	}
	free(table);
}

int mote_link(mote_pid pid)
{
	struct scheduler *s = runtime_enter("mote_link");
	struct process *p = process_self(s);
	int err = -EINVAL;

	if (mote_pid_valid(pid) && !mote_pid_equal(pid, process_pid(p))) {
		err = link_add(p, pid);
		if (!err)
			link_send(s, p, SIGNAL_LINK, pid, 0);
		else if (err > 0)
			err = 0;
	}
	process_leave(s);
	return err;
}

int mote_unlink(mote_pid pid)
{
	struct scheduler *s = runtime_enter("mote_unlink");
	struct process *p = process_self(s);
	struct link *l;

	/* An exit signal that has arrived came before the unlink. */
	signals_act(s, p);
	l = link_find(p, pid);
	if (l && !l->unlinking) {
		l->unlinking = scheduler_unique_id(s);
		count_links(p, -1);
		link_send(s, p, SIGNAL_UNLINK, pid, l->unlinking);
	}
	process_leave(s);
	return mote_pid_valid(pid) ? 0 : -EINVAL;
}
