// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Messages in the hands of a process's code: received, or made and not yet sent. They are kept in a list, so that those
 * of a process that dies, in whatever way, are freed.
 *
 * A request in this list is at the same time the asker's monitor of its receiver: as long as it is unanswered, the
 * receiver's death refuses it. A call needs no monitor signal of its own that way, nor one to end it.
 */
#include "core/process.h"

void held_add(struct process *p, struct signal *sig)
{
	sig->held = true;
	sig->next = p->held;
	sig->prev = NULL;
	if (p->held)
		p->held->prev = sig;
	p->held = sig;
}

void held_remove(struct process *p, struct signal *sig)
{
	sig->held = false;
	if (sig->prev)
		sig->prev->next = sig->next;
	else
		p->held = sig->next;
	if (sig->next)
		sig->next->prev = sig->prev;
}

void request_refuse(struct scheduler *s, const struct signal *request, mote_pid from,
		    const struct mote_reason *reason)
{
	mote_ref ref = { request->ref, request->ref_slot, request->msg.from.slot };
	struct signal *down;

	if (!request->ref)
		return;
	down = signal_down_new(s, NULL, from, ref, reason);
	if (!down)
		return;
	down->to = request->msg.from.serial;
	signal_send(s, down, request->msg.from.slot, true);
}

void request_outlived(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct signal *watch = signal_new(s, SIGNAL_MONITOR, sizeof(struct mote_down_info));

	if (!watch)
		return;
	watch->ref = sig->ref;
	watch->ref_slot = sig->ref_slot;
	watch->msg.from = sig->msg.from;
	watcher_add(p, watch);
}

void held_end(struct scheduler *s, struct process *p, const struct mote_reason *reason)
{
	struct signal *sig;

	while ((sig = p->held)) {
		held_remove(p, sig);
		if (sig->kind == SIGNAL_REQUEST)
			request_refuse(s, sig, process_pid(p), reason);
		signal_free(s, sig);
	}
}
