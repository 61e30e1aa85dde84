// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Descriptors and messages: what io alone can't do, since it knows no signals.
 */
#include "core/process.h"
#include "io/fd.h"
#include "io/outflow.h"

#include <mote/fd.h>
#include <mote/net.h>

#include <errno.h>

/* The descriptor travels as a signal: it reaches the receiver before any message that is sent after, or is closed. */
int mote_fd_give(int fd, mote_pid to)
{
	struct scheduler *s = runtime_enter("mote_fd_give");
	struct process *self = process_self(s);
	struct signal *sig = signal_new(s, SIGNAL_FD, 0);
	int err = !sig ? -ENOMEM : !port_is_here(to.node) ? -EREMOTE : fd_detach(fd, &self->task);

	if (!err) {
		sig->to = to.serial;
		sig->msg.from = process_pid(self);
		sig->msg.type = (uint32_t)fd;
		if (process_lookup(to))
			signal_send(s, sig, to.slot, true);
		else
			signal_undeliverable(s, sig, to.slot);
	} else if (sig) {
		signal_free(s, sig);
	}
	process_leave(s);
	return err;
}

static void message_release(void *arg)
{
	signal_free(scheduler_self(), arg);
}

int mote_net_send_msg(int fd, struct mote_msg *m, mote_deadline deadline)
{
	struct scheduler *s = runtime_enter("mote_net_send_msg");
	struct signal *sig = message_take_over(s, m);

	if (unlikely(!sig)) {
		process_leave(s);
		return -ENOMEM;
	}
	/* It enters once more, and leaves for both: nothing may follow. */
	return net_send_queued(fd, sig->payload, sig->msg.size, message_release, sig, deadline.ns);
}
