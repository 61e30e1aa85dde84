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
 * Entries hang in a binary search tree by a hash of the peer, which keeps it shallow; next: those below, prev: those
 * above. It has no table that would have to grow when there is no memory.
 */
#include "core/process.h"

#include <errno.h>

static uint64_t link_hash(mote_pid peer)
{
	uint64_t hash = (peer.serial * 0x9e3779b97f4a7c15ull + peer.slot) * 0xff51afd7ed558ccdull;

	return (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ull;
}

/* Where the entry is, or would be put. Equal hashes go up. */
static struct signal **link_find(struct process *p, mote_pid peer)
{
	uint64_t hash = link_hash(peer);
	struct signal **at = &p->links;

	while (*at && !mote_pid_equal((*at)->msg.from, peer))
		at = hash < link_hash((*at)->msg.from) ? &(*at)->next : &(*at)->prev;
	return at;
}

/* Read by mote_process_info() on other threads. */
static void count_links(struct process *p, int n)
{
	atomic_store_explicit(&p->nr_links, atomic_load_explicit(&p->nr_links, memory_order_relaxed) + (uint32_t)n,
			      memory_order_relaxed);
}

static void link_insert(struct process *p, struct signal **at, struct signal *l)
{
	l->next = l->prev = NULL;
	l->ref = 0;
	*at = l;
	count_links(p, 1);
}

/* Out of the tree: the lowest of those above takes its place, if there are both kinds. */
static struct signal *link_unhook(struct process *p, struct signal **at)
{
	struct signal *l = *at, *heir, **from;

	if (!l->ref)
		count_links(p, -1);
	if (!l->next || !l->prev) {
		*at = l->next ? l->next : l->prev;
		return l;
	}
	for (from = &l->prev; (*from)->next; from = &(*from)->next)
		;
	heir = *from;
	*from = heir->prev;
	heir->next = l->next;
	heir->prev = l->prev;
	*at = heir;
	return l;
}

int link_add(struct scheduler *s, struct process *p, mote_pid peer)
{
	struct signal **at = link_find(p, peer), *l = *at;

	if (l) {
		if (!l->ref)
			return 1;
		l->ref = 0;
		count_links(p, 1);
		return 0;
	}
	l = signal_new(s, SIGNAL_LINK, sizeof(struct mote_exit_info));
	if (!l)
		return -ENOMEM;
	l->msg.from = peer;
	link_insert(p, at, l);
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

void link_take(struct scheduler *s, struct process *p, struct signal *sig)
{
	mote_pid from = sig->msg.from;
	struct signal **at = link_find(p, from), *l = *at;

	switch (sig->kind) {
	case SIGNAL_LINK:
		/* An inactive entry: the peer linked before it saw the unlink, which will end both its links. */
		if (!l) {
			link_insert(p, at, sig);
			return;
		}
		break;
	case SIGNAL_UNLINK:
		if (l && !l->ref)
			signal_free(s, link_unhook(p, at));
		/* Before anything else goes to that peer: order per pair tells it that no exit will follow. */
		sig->kind = SIGNAL_UNLINK_ACK;
		sig->to = from.serial;
		sig->msg.from = process_pid(p);
		signal_send(s, sig, from.slot, false);
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

void links_tell(struct scheduler *s, struct process *p, const struct mote_reason *reason)
{
	struct signal *l;

	while ((l = p->links)) {
		mote_pid peer = l->msg.from;

		/* Turned until nothing is below: then what is above follows. */
		if (l->next) {
			p->links = l->next;
			l->next = p->links->prev;
			p->links->prev = l;
			continue;
		}
		p->links = l->prev;
		if (l->ref || !process_lookup(peer)) {
			signal_free(s, l);
			continue;
		}
		l = signal_exit_new(s, l, process_pid(p), reason);
		l->kind = SIGNAL_EXIT_LINK;
		l->to = peer.serial;
		signal_send(s, l, peer.slot, true);
	}
	atomic_store_explicit(&p->nr_links, 0, memory_order_relaxed);
}

static int link_to(struct scheduler *s, struct process *p, mote_pid peer)
{
	struct signal *sig = signal_new(s, SIGNAL_LINK, sizeof(struct mote_exit_info));
	int err = sig ? link_add(s, p, peer) : -ENOMEM;

	if (err) {
		if (sig)
			signal_free(s, sig);
		return err;
	}
	sig->to = peer.serial;
	sig->msg.from = process_pid(p);
	if (process_lookup(peer))
		signal_send(s, sig, peer.slot, true);
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
	if (process_lookup(peer))
		signal_send(s, sig, peer.slot, false);
	else
		signal_undeliverable(s, sig, peer.slot);
	return 0;
}

int mote_unlink(mote_pid pid)
{
	struct scheduler *s = runtime_enter("mote_unlink");
	int err = mote_pid_valid(pid) ? unlink_from(s, process_self(s), pid) : -EINVAL;

	process_leave(s);
	return err;
}
