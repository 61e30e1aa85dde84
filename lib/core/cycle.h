/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/cycle.h: finds processes that wait for each other in mote_call(), in a circle.
 *
 * Who calls somebody that is calling, too, sends a probe after its request. Each process on the way that waits in a
 * call adds itself and sends it on to whom it calls; one that does not wait drops it. What comes back to its sender may
 * be stale: while it went round, those that it had passed may have got their answers. So it is sent round once more, and
 * now each looks whether it still waits for the answer that it did, and has in its hands, unanswered, the request of the
 * one before. What each waited for before the moment of the return and after it, it waited for at that moment: the
 * circle was there, whole. Nobody looks into another's state for that, and no clocks are compared.
 *
 * That a circle is seen at all: each says that it calls (PROCESS_CALLING) before it sends its request, and looks after
 * that whether whom it calls does, with sequentially consistent accesses; for a call to another node, that one looks,
 * when the request comes in. The last of these looks finds all the others calling, and so does its probe.
 *
 * Of what another node says nothing is believed but that its own process wants an answer. Who asked takes the end of its
 * probe only with the token that it has sent round, so others can lie about circles that go through them, and no others.
 */
#ifndef CORE_CYCLE_H
#define CORE_CYCLE_H

#include "core/process.h"

/* What a call gets for an answer then; data: struct probe. */
#define MOTE_MSG_CYCLE 0x80000101u

/* A process, and the call that it waits in. */
struct hop {
	mote_pid pid;
	uint64_t ref;
};

/* As it goes to other nodes, too. */
struct probe {
	uint32_t nr;			/* hops; the first is who asks */
	uint32_t at;			/* once it goes round for the second time: whose turn it is; 0: the first time */
	uint64_t token;			/* then: known to those on the way only */
	struct hop hops[];
};

#define PROBE_FAR_MAX 64		/* hops: what others may have one copy */

static inline size_t probe_size(uint32_t hops)
{
	return sizeof(struct probe) + hops * sizeof(struct hop);
}

/* To be said before the request is sent. */
static inline void calling_begin(struct process *self)
{
	uint8_t marks = atomic_load_explicit(&self->task.marks, memory_order_relaxed);

	/* seq_cst: before the look in callee_calls(); only self changes its marks */
	atomic_store_explicit(&self->task.marks, marks | PROCESS_CALLING, memory_order_seq_cst);
}

static inline void calling_end(struct process *self)
{
	uint8_t marks = atomic_load_explicit(&self->task.marks, memory_order_relaxed);

	/* relaxed: who sees it late sends a probe that will be dropped */
	atomic_store_explicit(&self->task.marks, marks & ~PROCESS_CALLING, memory_order_relaxed);
}

static inline bool callee_calls(mote_pid to)
{
	struct process *p = process_lookup(to);

	/* seq_cst: see calling_begin() */
	return p && unlikely(atomic_load_explicit(&p->task.marks, memory_order_seq_cst) & PROCESS_CALLING);
}

/* self waits for the answer in `slot`, and has just asked somebody that is calling: finds out why. */
void cycle_ask(struct scheduler *s, struct process *self, struct ref_slot *slot);

/* The same for one of another node, whose CALL has come in: a PROBE, to be sent to whom it called. NULL: no memory. */
struct signal *cycle_ask_far(struct scheduler *s, mote_pid asker, uint64_t ref);

/* The body of a PROBE that another node has sent on behalf of `from`: may it be taken? */
bool cycle_probe_sane(const void *body, size_t size, mote_pid from);

/* A PROBE has reached p. Takes sig. */
void cycle_probe(struct scheduler *s, struct process *p, struct signal *sig);

/* A call of self's has got a CYCLE: tells the log, and keeps it for mote_call_cycle(). Takes m. */
void cycle_report(struct scheduler *s, struct process *self, struct mote_msg *m);

/* self calls itself. */
void cycle_own(struct scheduler *s, struct process *self);

void cycle_end(struct scheduler *s, struct extra *extra);

#endif
