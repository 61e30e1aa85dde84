// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Messages in the hands of a process's code: received, or made and not yet sent. They are kept in a list, so that those
 * of a process that dies, in whatever way, are freed.
 *
 * A request in this list is at the same time the asker's monitor of its receiver: as long as it is unanswered, the
 * receiver's death refuses it. A call needs no monitor signal of its own that way, nor one to end it.
 */
#include "core/edge.h"

#include <errno.h>

void request_end(struct scheduler *s, struct signal *request, mote_pid from, const struct mote_reason *reason)
{
	mote_pid asker = request->msg.from;
	mote_ref ref = { request->ref, request->ref_slot, asker.slot, asker.node, 0 };
	struct signal *down;

	if (!request->ref) {
		signal_free(s, request);
		return;
	}
	down = signal_down_new(s, request, from, ref, reason);
	signal_send_pid(s, down, asker, true);
}

/*
 * The asker is told of the watcher, so that it can end it: when the answer comes from somebody else, or right away when
 * it has given up already.
 */
int request_outlived(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct signal *watch = signal_new(s, SIGNAL_MONITOR, sizeof(struct mote_down_info));
	struct signal *tell = signal_new(s, SIGNAL_WATCHING, 0);
	mote_pid asker = sig->msg.from;
	int err = 0;

	if (!watch) {
		watch = sig;
		watch->kind = SIGNAL_MONITOR;
		err = -ENOMEM;
	}
	watch->ref = sig->ref;
	watch->ref_slot = sig->ref_slot;
	watch->msg.from = asker;
	/* What is not noted stays until p ends, if its node goes before. */
	if (unlikely(!port_is_here(asker.node)))
		edge_note(p);
	watcher_add(p, watch);
	/* Without it the asker can't end the watcher: it stays until p ends, and its DOWN finds nobody who waits. */
	if (tell) {
		tell->ref = watch->ref;
		tell->ref_slot = watch->ref_slot;
		tell->msg.from = process_pid(p);
		tell->msg.data = watch;
		signal_send_pid(s, tell, asker, true);
	}
	return err;
}

void request_answer_last(struct signal *request)
{
	request->kind = SIGNAL_ANSWER;
}

/* Only the last reason, normal, lets p get as far as to have an answer. */
static void answer_send(struct scheduler *s, struct process *p, struct signal *sig)
{
	mote_pid asker = sig->msg.from;
	struct signal *l = link_remove(p, asker);

	if (!l || l->ref)
		sig->kind = SIGNAL_REPLY;
	if (l)
		signal_free(s, l);
	sig->msg.from = process_pid(p);
	signal_send_pid(s, sig, asker, false);
}

void held_end(struct scheduler *s, struct process *p, const struct mote_reason *reason)
{
	struct signal *sig;

	while ((sig = p->held)) {
		held_remove(p, sig);
		if (sig->kind == SIGNAL_REQUEST)
			request_end(s, sig, process_pid(p), reason);
		else if (sig->kind == SIGNAL_ANSWER)
			answer_send(s, p, sig);
		else
			signal_free(s, sig);
	}
}
