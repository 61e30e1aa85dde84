// SPDX-License-Identifier: MIT OR GPL-2.0
#include "io/outflow.h"
#include "io/fd.h"
#include "io/request.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define PIECES	16			/* buffers that one system call takes */
#define REQUEST_ROOM	0x20000		/* less than OUTFLOW_MAX is under way again */

struct outbuf {
	struct outbuf *next;
	const char *data;
	size_t size;
	void (*release)(void *arg);
	void *arg;
};

/* Under the descriptor's lock; only the pump takes out, and reads buffers without it. */
struct outflow {
	struct outbuf *first, **last;
	size_t offset;			/* bytes of the first that have gone */
	size_t bytes;			/* of all, sent ones of the first included */
	int error;
	bool pumping;
	bool shut;			/* shut down for writing when all is sent */
};

static void outbufs_release(struct outbuf *b)
{
	while (b) {
		struct outbuf *next = b->next;

		b->release(b->arg);
		free(b);
		b = next;
	}
}

bool outflow_pending(const struct fd *f)
{
	return f->out && f->out->first;
}

int outflow_error(struct fd *f)
{
	int err = 0;

	if (unlikely(f->out)) {
		err = f->out->error;
		f->out->error = 0;
	}
	return err;
}

bool outflow_shutdown(struct fd *f)
{
	if (!outflow_pending(f))
		return false;
	f->out->shut = true;
	return true;
}

void outflow_free(struct fd *f)
{
	struct outflow *o = f->out;

	if (!o)
		return;
	f->out = NULL;
	outbufs_release(o->first);
	free(o);
}

/* Takes sent bytes off the queue; buffers that are through go to *done. */
static void outflow_advance(struct outflow *o, size_t sent, struct outbuf ***done)
{
	o->offset += sent;
	while (o->first && o->offset >= o->first->size) {
		struct outbuf *b = o->first;

		o->offset -= b->size;
		o->bytes -= b->size;
		o->first = b->next;
		if (!o->first)
			o->last = &o->first;
		b->next = NULL;
		**done = b;
		*done = &b->next;
	}
}

static ssize_t outflow_send(int fd, const struct iovec *iov, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
	ssize_t sent = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	return sent < 0 ? -errno : sent;
}

void outflow_pump(struct fd *f)
{
	struct outbuf *done = NULL, **last = &done;
	struct outflow *o;

	lock_take(&f->lock);
	o = f->out;
	if (!o || o->pumping || f->flags & FD_WATCHED) {
		lock_drop(&f->lock);
		return;
	}
	o->pumping = true;
	f->users++;			/* nobody closes it under us */
	while (o->first && !o->error && !(f->flags & FD_CLOSING)) {
		struct iovec iov[PIECES];
		size_t skip = o->offset;
		ssize_t sent;
		int n = 0;

		for (struct outbuf *b = o->first; b && n < PIECES; b = b->next, n++) {
			iov[n].iov_base = (char *)b->data + skip;
			iov[n].iov_len = b->size - skip;
			skip = 0;
		}
		lock_drop(&f->lock);
		sent = outflow_send(fd_number(f), iov, n);
		lock_take(&f->lock);
		if (sent >= 0) {
			outflow_advance(o, sent, &last);
		} else if (sent == -EAGAIN) {
			int err = fd_watch(f, POLLOUT);

			if (!err)
				break;
			if (err < 0)
				o->error = err;
		} else if (sent != -EINTR) {
			o->error = (int)sent;
		}
	}
	if (o->error || f->flags & FD_CLOSING) {
		*last = o->first;
		o->first = NULL;
		o->last = &o->first;
		o->offset = 0;
		o->bytes = 0;
	}
	if (!o->first) {
		if (o->shut && !o->error)
			shutdown(fd_number(f), SHUT_WR);
		requests_done(f, REQUEST_DRAINED | REQUEST_ROOM);
	} else if (o->bytes < OUTFLOW_MAX) {
		requests_done(f, REQUEST_ROOM);
	}
	o->pumping = false;
	lock_drop(&f->lock);
	outbufs_release(done);
	fd_end(f, 0);
}

/* Waits until the queue says `events`; f->lock is held, and dropped. */
static int outflow_wait_for(struct call *c, int events)
{
	struct request r;

	if (c->deadline <= 0) {
		lock_drop(&c->f->lock);
		return -ETIMEDOUT;
	}
	request_init(&r, c, events);
	request_link(&r);
	lock_drop(&c->f->lock);
	return request_wait_linked(&r, c);
}

int outflow_wait(struct call *c)
{
	struct fd *f = c->f;
	int err;

	for (;;) {
		lock_take(&f->lock);
		err = outflow_error(f);
		if (err || !outflow_pending(f)) {
			lock_drop(&f->lock);
			return err;
		}
		err = outflow_wait_for(c, REQUEST_DRAINED);
		if (err)
			return err;
	}
}

static int outflow_push(struct call *c, struct outbuf *b)
{
	struct fd *f = c->f;
	struct outflow *o = NULL;
	int err;

	lock_take(&f->lock);
	if (!f->out) {
		lock_drop(&f->lock);
		o = calloc(1, sizeof(*o));	/* FD_WRITE is ours: nobody else makes one */
		if (!o)
			return -ENOMEM;
		o->last = &o->first;
		lock_take(&f->lock);
		f->out = o;
	}
	o = f->out;
	for (;;) {
		err = outflow_error(f);
		if (err)
			break;
		if (!o->first || o->bytes + b->size <= OUTFLOW_MAX) {
			*o->last = b;
			o->last = &b->next;
			o->bytes += b->size;
			break;
		}
		err = outflow_wait_for(c, REQUEST_ROOM);
		if (err)
			return err;
		lock_take(&f->lock);
	}
	lock_drop(&f->lock);
	return err;
}

int net_send_queued(int fd, const void *data, size_t size, void (*release)(void *arg), void *arg,
		    int64_t deadline_ns)
{
	struct outbuf *b = malloc(sizeof(*b));
	struct call c;
	int err;

	if (b)
		*b = (struct outbuf){ NULL, data, size, release, arg };
	err = call_begin_fd(&c, "mote_net_send_msg", fd, FD_WRITE, (mote_deadline){ deadline_ns });
	if (!err)
		err = b ? outflow_push(&c, b) : -ENOMEM;
	if (!err) {
		outflow_pump(c.f);
	} else {
		release(arg);
		free(b);
	}
	return (int)call_end(&c, err);
}
