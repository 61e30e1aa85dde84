/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/edge.h: links and monitors that cross nodes. Each process knows its own; here is only who has any, so that
 * they can be told when a node is gone.
 */
#ifndef CORE_EDGE_H
#define CORE_EDGE_H

#include "core/process.h"

/*
 * Before p, the caller, makes or keeps an edge to another node: a link, a monitor, a request, somebody's monitor of
 * it. 0 or -ENOMEM.
 */
int edge_note(struct process *p);

struct node;

/* Makes n DOWN, under its number. All that it had sent has been pushed to the inboxes. n's lock is held. */
void edge_node_down(struct node *n);

/* Then, without that lock: has all who have edges look. On a scheduler. */
void edges_cut(struct scheduler *s);

/* SIGNAL_SWEEP has reached p. */
void edge_sweep(struct scheduler *s, struct process *p, struct signal *sig);
/* It has reached nobody. */
void edge_sweep_dropped(struct scheduler *s, struct signal *sig);

/* p is dead: it has none. */
void edges_end(struct process *p);
void edges_stop(void);
void edges_forget(void);

#endif
