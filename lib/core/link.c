// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Links, after the link protocol of Erlang's distribution (and of Erlang inside a node): both ends keep an entry. Unlink
 * makes one's own entry inactive under an id and waits for the other end's acknowledgement before the entry goes; an
 * exit signal over an inactive entry is dropped. A new link that crosses the acknowledgement has made the entry active
 * again, and then the id no longer fits.
 *
 * An entry is a signal block with room for the exit signal that it may become: whoever dies needs no memory to tell
 * those it is linked to. At the other end it is the LINK signal itself. msg.from: the peer; ref: id of the unlink under
 * way, 0: active.
 *
 * Entries hang in one chain, or, where there are many, in the chains of a table by a hash of the peer. A table that could
 * not be had, or not a larger one, makes the chains longer and nothing fail.
 */
#include "core/edge.h"
#include "core/node.h"

#include <errno.h>
#include <stdlib.h>

#define CHAIN_MAX	8		/* without a table */

struct link_table {
	uint32_t mask, used;
	struct signal *chains[];
};

/* p->links: the chain, or the table's address plus 1. */
static struct link_table *table_of(const struct process *p)
{
	uintptr_t links = (uintptr_t)p->links;

	return links & 1 ? (struct link_table *)(links - 1) : NULL;
}

static uint32_t link_hash(mote_pid peer)
{
	return (uint32_t)((peer.serial * 0x9e3779b97f4a7c15ull + peer.slot) * 0x9e3779b97f4a7c15ull >> 32);
}

static struct signal **chain_of(struct process *p, mote_pid peer)
{
	struct link_table *table = table_of(p);

	return table ? &table->chains[link_hash(peer) & table->mask] : &p->links;
}

/* Where the entry is; at the chain's end: there is none. */
static struct signal **link_find(struct process *p, mote_pid peer)
{
	struct signal **at = chain_of(p, peer);

	while (*at && !mote_pid_equal((*at)->msg.from, peer))
		at = &(*at)->next;
	return at;
}

/* Read by mote_process_info() on other threads. */
static void count_links(struct process *p, int n)
{
	atomic_store_explicit(&p->nr_links, atomic_load_explicit(&p->nr_links, memory_order_relaxed) + (uint32_t)n,
			      memory_order_relaxed);
}

static void chain_move(struct process *p, struct signal *l)
{
	while (l) {
		struct signal *next = l->next, **to = chain_of(p, l->msg.from);

		l->next = *to;
		*to = l;
		l = next;
	}
}

/* Twice as many chains for `used` entries, if there is memory. */
static void table_grow(struct process *p, uint32_t used)
{
	struct link_table *old = table_of(p), *table;
	uint32_t n = old ? 2 * (old->mask + 1) : 2 * CHAIN_MAX;
	struct signal *chain = old ? NULL : p->links;

	table = calloc(1, sizeof(*table) + n * sizeof(table->chains[0]));
	if (!table)
		return;
	table->mask = n - 1;
	table->used = used;
	p->links = (struct signal *)((uintptr_t)table + 1);
	chain_move(p, chain);
	for (uint32_t i = 0; old && i <= old->mask; i++)
		chain_move(p, old->chains[i]);
	free(old);
}

void link_insert(struct process *p, struct signal *l)
{
	struct link_table *table = table_of(p);
	uint32_t used = 1;
	struct signal **to;

	if (table) {
		used = ++table->used;
	} else {
		for (struct signal *other = p->links; other; other = other->next)
			used++;
	}
	if (unlikely(used > (table ? table->mask + 1 : CHAIN_MAX)))
		table_grow(p, used);
	to = chain_of(p, l->msg.from);
	l->ref = 0;
	l->next = *to;
	*to = l;
	count_links(p, 1);
}

static struct signal *link_unhook(struct process *p, struct signal **at)
{
	struct link_table *table = table_of(p);
	struct signal *l = *at;

	if (table)
		table->used--;
	if (!l->ref)
		count_links(p, -1);
	node_uncharge(l);
	*at = l->next;
	return l;
}

int link_add(struct scheduler *s, struct process *p, mote_pid peer)
{
	struct signal *l = *link_find(p, peer);

	if (l) {
		if (!l->ref)
			return 1;
		l->ref = 0;
		count_links(p, 1);
		return 0;
	}
	if (unlikely(!port_is_here(peer.node)) && edge_note(p))
		return -ENOMEM;
	l = signal_new(s, SIGNAL_LINK, sizeof(struct mote_exit_info));
	if (!l)
		return -ENOMEM;
	l->msg.from = peer;
	link_insert(p, l);
	return 0;
}

bool link_broken(struct scheduler *s, struct process *p, mote_pid peer)
{
	struct signal **at = link_find(p, peer), *l = *at;
	bool active = l && !l->ref;

	if (l)
		signal_free(s, link_unhook(p, at));
	return active;
}

struct signal *link_remove(struct process *p, mote_pid peer)
{
	struct signal **at = link_find(p, peer);

	return *at ? link_unhook(p, at) : NULL;
}

int link_pair(struct scheduler *s, struct process *parent, struct process *child)
{
	struct signal *l = signal_new(s, SIGNAL_LINK, sizeof(struct mote_exit_info));
	struct signal *k = signal_new(s, SIGNAL_LINK, sizeof(struct mote_exit_info));

	if (unlikely(!l || !k)) {
		if (l)
			signal_free(s, l);
		if (k)
			signal_free(s, k);
		return -ENOMEM;
	}
	l->msg.from = process_pid(child);
	k->msg.from = process_pid(parent);
	link_insert(parent, l);
	k->next = NULL;
	child->links = k;
	atomic_store_explicit(&child->nr_links, 1, memory_order_relaxed);
	return 0;
}

void link_take(struct scheduler *s, struct process *p, struct signal *sig)
{
	mote_pid from = sig->msg.from;
	struct signal **at = link_find(p, from), *l = *at;

	switch (sig->kind) {
	case SIGNAL_LINK:
		/* An inactive entry: the peer linked before it saw the unlink, which will end both its links. */
		if (!l) {
			if (likely(port_is_here(from.node)) || !edge_note(p))
				link_insert(p, sig);
			else
				signal_undeliverable(s, sig, p->task.slot);
			return;
		}
		node_uncharge(sig);
		break;
	case SIGNAL_UNLINK:
		if (l && !l->ref)
			signal_free(s, link_unhook(p, at));
		/* Before anything else goes to that peer: order per pair tells it that no exit will follow. */
		sig->kind = SIGNAL_UNLINK_ACK;
		sig->msg.from = process_pid(p);
		signal_send_pid(s, sig, from, false);
		return;
	case SIGNAL_UNLINK_ACK:
		if (l && l->ref == sig->ref)
			signal_free(s, link_unhook(p, at));
		break;
	default:
		break;
	}
	signal_free(s, sig);
}

static void chain_tell(struct scheduler *s, struct process *p, struct signal *l, const struct mote_reason *reason)
{
	while (l) {
		struct signal *next = l->next;
		mote_pid peer = l->msg.from;

		node_uncharge(l);
		if (l->ref || process_absent(peer)) {
			signal_free(s, l);
		} else {
			l = signal_exit_new(s, l, process_pid(p), reason);
			l->kind = SIGNAL_EXIT_LINK;
			signal_send_pid(s, l, peer, true);
		}
		l = next;
	}
}

void links_tell(struct scheduler *s, struct process *p, const struct mote_reason *reason)
{
	struct link_table *table;
	struct signal *chain;

	if (likely(!p->links))
		return;
	table = table_of(p);
	chain = table ? NULL : p->links;
	p->links = NULL;
	chain_tell(s, p, chain, reason);
	for (uint32_t i = 0; table && i <= table->mask; i++)
		chain_tell(s, p, table->chains[i], reason);
	free(table);
	atomic_store_explicit(&p->nr_links, 0, memory_order_relaxed);
}

/* Takes out of the chain, into cut, what leads to nodes that are down. */
static struct signal *chain_cut(struct process *p, struct signal **at, uint64_t seq, struct signal *cut)
{
	while (*at) {
		struct signal *l = *at;

		if (port_is_here(l->msg.from.node) || !node_down_by(l->msg.from.node, seq)) {
			at = &l->next;
			continue;
		}
		link_unhook(p, at);
		l->next = cut;
		cut = l;
	}
	return cut;
}

void links_cut(struct scheduler *s, struct process *p, uint64_t seq)
{
	static const struct mote_reason noconnection = { .kind = MOTE_NOCONNECTION };
	struct link_table *table = table_of(p);
	struct signal *cut = NULL, *next;

	if (table) {
		for (uint32_t i = 0; i <= table->mask; i++)
			cut = chain_cut(p, &table->chains[i], seq, cut);
	} else {
		cut = chain_cut(p, &p->links, seq, cut);
	}
	for (; cut; cut = next) {
		next = cut->next;
		if (cut->ref) {
			signal_free(s, cut);
			continue;
		}
		cut = signal_exit_new(s, cut, cut->msg.from, &noconnection);
		cut->kind = SIGNAL_EXIT_LINK;
		signal_exit_act(s, p, cut);
	}
}

int link_to(struct scheduler *s, struct process *p, mote_pid peer)
{
	struct signal *sig = signal_new(s, SIGNAL_LINK, sizeof(struct mote_exit_info));
	int err = sig ? link_add(s, p, peer) : -ENOMEM;

	if (err) {
		if (sig)
			signal_free(s, sig);
		return err;
	}
	sig->msg.from = process_pid(p);
	if (likely(!process_absent(peer)))
		signal_send_pid(s, sig, peer, true);
	else
		signal_exit_absent(s, sig, peer, process_pid(p));
	return 0;
}

int mote_link(mote_pid pid)
{
	struct scheduler *s = runtime_enter("mote_link");
	struct process *p = process_self(s);
	int err = -EINVAL;

	if (mote_pid_valid(pid) && !mote_pid_equal(pid, process_pid(p)))
		err = link_to(s, p, pid);
	process_leave(s);
	return err > 0 ? 0 : err;
}

static int unlink_from(struct scheduler *s, struct process *p, mote_pid peer)
{
	struct signal *l, *sig;

	/* An exit signal that has arrived came before the unlink. */
	signals_act(s, p);
	l = *link_find(p, peer);
	if (!l || l->ref)
		return 0;
	sig = signal_new(s, SIGNAL_UNLINK, 0);
	if (!sig)
		return -ENOMEM;
	l->ref = scheduler_unique_id(s);
	count_links(p, -1);
	sig->to = peer.serial;
	sig->ref = l->ref;
	sig->msg.from = process_pid(p);
	if (likely(!process_absent(peer)))
		signal_send_pid(s, sig, peer, false);
	else
		signal_undeliverable(s, sig, peer.slot);
	return 0;
}

void link_dismiss(mote_pid pid, const struct mote_reason *reason)
{
	struct scheduler *s = runtime_enter("mote_unlink");
	struct process *p = process_self(s);
	struct signal *sig;

	unlink_from(s, p, pid);
	sig = process_absent(pid) ? NULL : signal_exit_new(s, NULL, process_pid(p), reason);
	if (sig)
		signal_send_pid(s, sig, pid, true);
	process_leave(s);
}

int mote_unlink(mote_pid pid)
{
	struct scheduler *s = runtime_enter("mote_unlink");
	int err = mote_pid_valid(pid) ? unlink_from(s, process_self(s), pid) : -EINVAL;

	process_leave(s);
	return err;
}
