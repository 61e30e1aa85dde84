// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The io_uring backend. No SINGLE_ISSUER, no DEFER_TASKRUN: a ring is its scheduler's, whichever thread runs that.
 */
#include "io/ring.h"
#include "io/fd.h"
#include "io/inflow.h"
#include "io/request.h"
#include "port/port.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The kernel counts rings as locked memory (Linux 6.14 does), of which a user has 8 MiB for all programs: where there
 * are many schedulers, or none of it is left, rings are smaller. A full queue is submitted, no completion is lost.
 */
#define ENTRIES		1024
#define ENTRIES_MIN	64
#define MANY		24		/* schedulers */
#define COMPLETIONS	8		/* for each entry */
#define RING_REGISTERED	1		/* in int_flags: liburing's own INT_FLAG_REG_RING */

static unsigned int ring_entries;

static int ring_setup(struct io_uring *uring, unsigned int entries, unsigned int completions)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CLAMP |
			 IORING_SETUP_CQSIZE,
		.cq_entries = completions,
	};
	int err = io_uring_queue_init_params(entries, uring, &p);

	if (err)
		return err;
	if ((p.features & (IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP)) != (IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP)) {
		io_uring_queue_exit(uring);
		return -ENOSYS;
	}
	return 0;
}

int ring_probe(unsigned int schedulers)
{
	static const int needed[] = {
		IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC,
		IORING_OP_OPENAT, IORING_OP_STATX, IORING_OP_RENAMEAT, IORING_OP_UNLINKAT, IORING_OP_MKDIRAT,
	};
	/* liburing would allocate it, and what it could not allocate would look like what the kernel does not have. */
	union {
		struct io_uring_probe probe;
		char room[sizeof(struct io_uring_probe) + IORING_OP_LAST * sizeof(struct io_uring_probe_op)];
	} what = { .room = { 0 } };
	struct io_uring uring;
	int err;

	ring_entries = schedulers > MANY ? ENTRIES / 4 : ENTRIES;
	err = ring_setup(&uring, 8, 16);
	if (err)
		return err;
	err = io_uring_register_probe(&uring, &what.probe, IORING_OP_LAST);
	for (size_t i = 0; !err && i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!io_uring_opcode_supported(&what.probe, needed[i]))
			err = -ENOSYS;
	io_uring_queue_exit(&uring);
	return err;
}

struct io_uring_sqe *ring_sqe(struct ring *r)
{
	struct io_uring_sqe *sqe;

	/* -EBUSY and -EAGAIN: completions or memory are short for now, and the kernel makes room by itself */
	while (!(sqe = io_uring_get_sqe(&r->uring)))
		io_uring_submit(&r->uring);
	return sqe;
}

void ring_cancel_data(struct ring *r, uint64_t data)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	io_uring_prep_cancel64(sqe, data, 0);
	sqe->user_data = RING_NOTHING;
}

/* Multishot: one completion for each edge of a descriptor that nobody reads. */
static void ring_arm(struct ring *r, int fd, enum ring_tag tag)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	io_uring_prep_poll_multishot(sqe, fd, POLLIN);
	sqe->user_data = ring_data(tag, (int)r->notify_round);
}

static void ring_arm_notify(struct ring *r)
{
	r->notify_round++;
	ring_arm(r, r->io.notify_fd, RING_NOTIFY);
	if (r->io.bell_fd >= 0)
		ring_arm(r, r->io.bell_fd, RING_BELL);
}

static int ring_open(struct scheduler *s)
{
	struct ring *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->io.notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->io.notify_fd < 0) {
		err = -errno;
		goto err_free;
	}
	for (unsigned int n = ring_entries; ; n /= 4) {
		err = ring_setup(&r->uring, n, n * COMPLETIONS);
		if (err != -ENOMEM || n <= ENTRIES_MIN)
			break;
	}
	if (err)
		goto err_notify;
	err = inflow_open(r);
	if (err)
		goto err_ring;
	r->io.wait_fd = r->uring.ring_fd;
	r->io.bell_fd = port_bell_fd(s->index);
	ring_arm_notify(r);
	s->io = &r->io;
	return 0;

err_ring:
	io_uring_queue_exit(&r->uring);
err_notify:
	close(r->io.notify_fd);
err_free:
	free(r);
	return err;
}

static void ring_close(struct scheduler *s)
{
	struct ring *r = ring_of(s);

	/* Registered with the worker's thread, which has ended; the calling thread has no such registration. */
	r->uring.int_flags = 0;
	r->uring.enter_ring_fd = r->uring.ring_fd;
	inflow_close(r);
	io_uring_queue_exit(&r->uring);
	close(r->io.notify_fd);
	free(r);
}

static void ring_complete(struct scheduler *s, struct ring *r, const struct io_uring_cqe *cqe)
{
	uint64_t data = cqe->user_data;
	struct fd *f;

	switch (data & ((1 << RING_TAG_BITS) - 1)) {
	case RING_REQUEST:
		request_done((struct request *)(uintptr_t)data, cqe->res);
		break;
	case RING_NOTIFY:
		if (!(cqe->flags & IORING_CQE_F_MORE) && data == ring_data(RING_NOTIFY, (int)r->notify_round))
			ring_arm(r, r->io.notify_fd, RING_NOTIFY);
		break;
	case RING_BELL:
		if (!(cqe->flags & IORING_CQE_F_MORE) && data == ring_data(RING_BELL, (int)r->notify_round))
			ring_arm(r, r->io.bell_fd, RING_BELL);
		break;
	case RING_WATCH:
		f = fd_entry((int)(data >> RING_TAG_BITS));
		lock_take(&f->lock);
		f->flags &= ~FD_WATCHED;
		lock_drop(&f->lock);
		fd_event(f, cqe->res > 0 ? cqe->res : 0);
		break;
	case RING_INFLOW:
		inflow_complete(s, fd_entry((int)(data >> RING_TAG_BITS)), cqe->res, cqe->flags);
		break;
	}
}

static int ring_drain(struct scheduler *s, struct ring *r)
{
	unsigned int head, n = 0;
	struct io_uring_cqe *cqe;

	io_uring_for_each_cqe(&r->uring, head, cqe) {
		ring_complete(s, r, cqe);
		n++;
	}
	io_uring_cq_advance(&r->uring, n);
	return (int)n;
}

static bool ring_has_work(struct ring *r)
{
	return IO_URING_READ_ONCE(*r->uring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static bool ring_pending(struct scheduler *s)
{
	struct ring *r = ring_of(s);

	return io_uring_sq_ready(&r->uring) || io_uring_cq_ready(&r->uring) || ring_has_work(r);
}

#define PEEK(index) (*(volatile unsigned int *)&(index))

/* As ring_pending(); reads what the worker writes: the indexes are whole words, and a wrong guess costs a look. */
__attribute__((no_sanitize("thread")))
static bool ring_waiting(struct scheduler *s)
{
	struct io_uring *u = &ring_of(s)->uring;

	return PEEK(u->sq.sqe_tail) != PEEK(u->sq.sqe_head) || PEEK(*u->cq.ktail) != PEEK(*u->cq.khead) ||
	       PEEK(*u->sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* Registrations belong to threads, and each has a few: what this one had for another ring is undone. */
static void ring_adopt(struct scheduler *s)
{
	struct ring *r = ring_of(s);
	struct worker *w = worker_self();
	struct io_uring_rsrc_update old = { .offset = (unsigned int)w->ring_index };

	r->uring.int_flags &= (unsigned char)~RING_REGISTERED;
	r->uring.enter_ring_fd = r->uring.ring_fd;
	if (w->ring_of && w->ring_of != r) {
		syscall(SYS_io_uring_register, r->uring.ring_fd, IORING_UNREGISTER_RING_FDS, &old, 1);
		w->ring_of = NULL;
	}
	if (!w->ring_of && io_uring_register_ring_fd(&r->uring) == 1) {
		w->ring_of = r;
		w->ring_index = r->uring.enter_ring_fd;
	} else if (w->ring_of) {
		r->uring.enter_ring_fd = w->ring_index;
		r->uring.int_flags |= RING_REGISTERED;
	}
	/* Completions come by way of the thread that submitted: the one that left may be where nothing reaches it. */
	if (r->notified && r->notified != w) {
		ring_cancel_data(r, ring_data(RING_NOTIFY, (int)r->notify_round));
		if (r->io.bell_fd >= 0)
			ring_cancel_data(r, ring_data(RING_BELL, (int)r->notify_round));
		ring_arm_notify(r);
	}
	r->notified = w;
}

static void ring_wait(struct ring *r, int64_t deadline_ns)
{
	struct __kernel_timespec ts;
	struct io_uring_cqe *cqe;
	int64_t left;

	if (deadline_ns == INT64_MAX) {
		io_uring_submit_and_wait(&r->uring, 1);
		return;
	}
	left = deadline_ns - clock_now();
	if (left <= 0) {
		io_uring_submit_and_get_events(&r->uring);
		return;
	}
	ts.tv_sec = left / 1000000000;
	ts.tv_nsec = left % 1000000000;
	io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1, &ts, NULL);
}

static int ring_poll(struct scheduler *s, int64_t deadline_ns)
{
	struct ring *r = ring_of(s);

	inflow_refill(r);
	if (deadline_ns && !io_uring_cq_ready(&r->uring))
		ring_wait(r, deadline_ns);
	else if (io_uring_sq_ready(&r->uring) || ring_has_work(r))
		io_uring_submit_and_get_events(&r->uring);
	return ring_drain(s, r);
}

static int ring_watch(struct scheduler *s, struct request *req)
{
	struct io_uring_sqe *sqe = ring_sqe(ring_of(s));

	io_uring_prep_poll_add(sqe, fd_number(req->f), req->events);
	sqe->user_data = (uintptr_t)req;
	return 0;
}

static void ring_cancel(struct scheduler *s, struct request *req)
{
	ring_cancel_data(ring_of(s), (uintptr_t)req);
}

static int ring_watch_fd(struct scheduler *s, struct fd *f, int events)
{
	struct io_uring_sqe *sqe = ring_sqe(ring_of(s));

	io_uring_prep_poll_add(sqe, fd_number(f), events);
	sqe->user_data = ring_data(RING_WATCH, fd_number(f));
	return 0;
}

static void ring_unwatch_fd(struct scheduler *s, struct fd *f)
{
	ring_cancel_data(ring_of(s), ring_data(RING_WATCH, fd_number(f)));
}

static void ring_submit(struct scheduler *s, const struct io_uring_sqe *operation, struct request *req)
{
	struct io_uring_sqe *sqe = ring_sqe(ring_of(s));

	*sqe = *operation;
	sqe->user_data = (uintptr_t)req;
}

const struct backend ring_backend = {
	.name = "io_uring",
	.open = ring_open,
	.close = ring_close,
	.poll = ring_poll,
	.pending = ring_pending,
	.waiting = ring_waiting,
	.adopt = ring_adopt,
	.watch = ring_watch,
	.cancel = ring_cancel,
	.watch_fd = ring_watch_fd,
	.unwatch_fd = ring_unwatch_fd,
	.submit = ring_submit,
};
