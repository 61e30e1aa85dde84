// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * When a node goes down it gets the next number, and then each process that has edges gets a SWEEP that carries the
 * latest number. The process fires those of its edges whose nodes have gone by that number: an edge leaves the process's
 * own tables when it fires, so it does so once. Not those of later nodes: their last messages may be behind the SWEEP in
 * the inbox, while what a node with such a number had sent is in front of it.
 *
 * There is one SWEEP for each slot, so telling needs no memory. If it is under way when a later node goes, the
 * process finds out when it has swept, and sends it to itself once more. selftests/model/edge.pml.
 *
 * An edge is noted before its signal is handed to the node, which happens under the node's lock or finds it DOWN; who
 * sets DOWN does so under that lock and looks for notes then. So either the sweep finds the note, or the
 * process finds the node gone.
 */
#include "core/edge.h"
#include "core/node.h"
#include "core/remote.h"

#include <errno.h>
#include <stdlib.h>

struct edges {
	struct edges *next;			/* written before it is found */
	uint32_t slot;
	_Atomic uint64_t serial;		/* which tenant of the slot has edges; 0: none */
	_Atomic bool queued;			/* sweep is on its way */
	struct signal sweep;
};

static _Atomic(struct edges *) all;		/* pushed only */
static struct lock down_lock;			/* numbers are given one by one, each before the next is the latest */
static _Atomic uint64_t latest;			/* number of the node that went last */

static void sweep_send(struct scheduler *s, struct edges *e, uint64_t serial)
{
	e->sweep.to = serial;
	/* seq_cst, before the push: whatever went by this number is in front of it */
	e->sweep.ref = atomic_load(&latest);
	signal_send(s, &e->sweep, e->slot, true);
}

int edge_note(struct process *p)
{
	struct extra *extra = process_extra(p);
	struct edges *e;

	if (!extra)
		return -ENOMEM;
	e = extra->edges;
	if (likely(e && atomic_load_explicit(&e->serial, memory_order_relaxed)))
		return 0;
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return -ENOMEM;
		e->slot = p->task.slot;
		e->sweep.kind = SIGNAL_SWEEP;
		extra->edges = e;
		e->next = atomic_load_explicit(&all, memory_order_relaxed);
		/* seq_cst: who walks the list sees it whole, or this sees the number for which he walks it */
		while (!atomic_compare_exchange_weak(&all, &e->next, e))
			;
	}
	/* seq_cst: before the looks at the node's state, and at the latest number; edges_cut() does the reverse */
	atomic_store(&e->serial, process_serial(p));
	/* The edge may be the other side's doing, and its node gone while that was in the inbox. */
	if (atomic_load(&latest) && !atomic_exchange(&e->queued, true))
		sweep_send(scheduler_self(), e, process_serial(p));
	return 0;
}

void edge_node_down(struct node *n)
{
	lock_take(&down_lock);
	n->down_seq = atomic_load_explicit(&latest, memory_order_relaxed) + 1;
	/* seq_cst: before the number is the latest; who finds that finds the state */
	atomic_store(&n->state, MOTE_NODE_DOWN);
	atomic_store(&latest, n->down_seq);
	lock_drop(&down_lock);
}

void edges_cut(struct scheduler *s)
{
	struct edges *e;

	/* seq_cst: after the number; edge_note() does the reverse */
	for (e = atomic_load(&all); e; e = e->next) {
		uint64_t serial = atomic_load(&e->serial);

		/* Is it under way already, then it will be sent again. */
		if (serial && !atomic_exchange(&e->queued, true))
			sweep_send(s, e, serial);
	}
}

void edge_sweep(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct edges *e = container_of(sig, struct edges, sweep);
	uint64_t seq = sig->ref;

	links_cut(s, p, seq);
	refs_cut(s, p, seq);
	watchers_cut(s, p, seq);
	holds_cut(p, seq);
	/* seq_cst, with edges_cut(): it sees this, or this sees the later number */
	atomic_store(&e->queued, false);
	if (atomic_load(&latest) > seq && !atomic_exchange(&e->queued, true))
		sweep_send(s, e, process_serial(p));
}

void edge_sweep_dropped(struct scheduler *s, struct signal *sig)
{
	struct edges *e = container_of(sig, struct edges, sweep);
	uint64_t to = sig->to, serial;

	/* seq_cst: as in edge_sweep(). The slot's next tenant may have been passed over, since this was on its way. */
	atomic_store(&e->queued, false);
	serial = atomic_load(&e->serial);
	if (serial && serial != to && !atomic_exchange(&e->queued, true))
		sweep_send(s, e, serial);
}

void edges_end(struct process *p)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);

	if (likely(!extra || !extra->edges))
		return;
	atomic_store_explicit(&extra->edges->serial, 0, memory_order_relaxed);
	extra->nr_holds = 0;
}

void edges_stop(void)
{
	struct edges *e, *next;

	for (e = atomic_load(&all); e; e = next) {
		next = e->next;
		free(e);
	}
	edges_forget();
}

void edges_forget(void)
{
	atomic_store(&all, NULL);
	atomic_store(&latest, 0);
	down_lock = (struct lock){ 0 };
}
