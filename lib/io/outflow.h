/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/outflow.h: what is queued to be sent on a descriptor, for calls that do not wait for it.
 */
#ifndef IO_OUTFLOW_H
#define IO_OUTFLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct call;
struct fd;

#define OUTFLOW_MAX	(1 << 20)	/* bytes under way per descriptor */

/*
 * Queues data, which is the library's from now on, and returns at once unless OUTFLOW_MAX is under way. release(arg)
 * is called exactly once, by any thread, when it has been sent, or dropped: also when this fails. Kept in order
 * with what is sent later in other ways. A call for processes: 0 or -errno, an earlier one's error included.
 */
int net_send_queued(int fd, const void *data, size_t size, void (*release)(void *arg), void *arg,
		    int64_t deadline_ns);

/* Waits until nothing is queued. 0, or -errno: as call_poll(), or the error of an earlier send. */
int outflow_wait(struct call *c);

/* All three with the descriptor's lock held. */
bool outflow_pending(const struct fd *f);
int outflow_error(struct fd *f);	/* takes the error of an earlier send */
bool outflow_shutdown(struct fd *f);	/* true: will be shut down when all is sent */

void outflow_pump(struct fd *f);	/* sends what the socket takes */
void outflow_free(struct fd *f);	/* drops all; nobody else uses f */

#endif
