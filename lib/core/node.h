/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/node.h: other nodes, and what waits to be sent to them. A node is found by its id without a lock, and stays in
 * the table as long as the runtime lives: whoever has found one may use it. Its carrier comes and goes, under its lock.
 *
 * That lock is held by one writer at a time, and nobody waits for it but those who begin or end a connection: who
 * finds it taken leaves his signal on the stack, and whoever has it takes the stack in before he is done.
 */
#ifndef CORE_NODE_H
#define CORE_NODE_H

#include "core/process.h"

#include <mote/node.h>

struct node {
	struct node *next;			/* in its bucket: written before it is found */
	uint32_t id;
	char name[MOTE_NODE_NAME_MAX + 1];	/* written before it is UP */
	_Atomic int state;			/* enum mote_node_state: CONNECTING, UP, DOWN, in that order */
	uint64_t down_seq;			/* written before it is DOWN: see edge.c */

	struct lock lock;
	struct carrier *carrier;		/* NULL: none yet, or no more */
	struct signal *first, *last;		/* to be written, in order */
	size_t written;				/* of the first one's body, which is larger than a record */
	bool large;				/* the first one's total has been announced */
	_Atomic bool dirty;			/* something is reserved and not committed; written under the lock */

	_Atomic(struct signal *) stack __attribute__((aligned(CACHE_LINE)));	/* newest first */
	_Atomic uint64_t queued;		/* bytes of both */
	_Atomic bool crowded;			/* senders wait for queued to fall */
	_Atomic bool roomy;			/* there is room in the lane since somebody found none */

	/* By whoever polls the carrier. */
	struct signal *partial;			/* a large body that is arriving */
	uint32_t partial_size;			/* how much of it is there */
	_Atomic uint64_t undelivered __attribute__((aligned(CACHE_LINE)));	/* bytes charged */
	_Atomic uint64_t edges;			/* links and monitors charged */
};

/* The node, or NULL. */
struct node *node_find(uint32_t id);

/* The same, and if need be a new one, which is being connected; NULL: no memory, or this is no node. */
struct node *node_get(uint32_t id);

static inline int node_state(const struct node *n)
{
	/* acquire: pairs with the release of whoever sets it; what was written before is seen */
	return atomic_load_explicit(&n->state, memory_order_acquire);
}

/* DOWN, and among the first `seq` that went. */
bool node_down_by(uint32_t id, uint64_t seq);

/*
 * What a node sends and makes us keep is charged to it: the bytes of what goes to mailboxes, until it leaves them, and a
 * count of links and monitors. Past the first bound nothing more is taken from that node, past the second no more
 * links and monitors: so the memory of who reads is bounded, whatever is written.
 */
void node_charge(struct node *n, struct signal *sig);
bool node_edges_full(struct node *n);
void node_uncharge_slow(struct signal *sig);

/* Wherever sig ends, or leaves its mailbox. A foreign message becomes a plain one. */
static inline void node_uncharge(struct signal *sig)
{
	if (unlikely(sig->charged))
		node_uncharge_slow(sig);
}

extern uint64_t node_budget __attribute__((visibility("hidden")));	/* bytes undelivered, for each node */

int nodes_start(const char *name, unsigned int schedulers, uint64_t budget);	/* before the schedulers; 0: the default */
int nodes_open(void);			/* after */
void nodes_close(void);			/* before the schedulers stop */
void nodes_stop(void);			/* after */
void nodes_forget(void);

/* The id of the node of that name, connected; 0: *err says why. Waits on behalf of the process that calls; may not return. */
uint32_t node_connect(const char *name, int64_t deadline, int *err);

/* node_watch.c: who wants to hear of nodes. */
void node_watch_tell(struct scheduler *s, const struct node *n, uint32_t type);
void node_watch_end_slow(struct process *p);
void node_watch_forget(void);

static inline void node_watch_end(struct process *p)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);

	if (unlikely(extra && extra->watches_nodes))
		node_watch_end_slow(p);
}

#endif
