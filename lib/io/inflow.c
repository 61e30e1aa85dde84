// SPDX-License-Identifier: MIT OR GPL-2.0
#include "io/inflow.h"
#include "io/fd.h"
#include "io/request.h"
#include "io/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define POOL_BUFFERS	1024
#define POOL_SIZE	2048		/* 2 MiB in all: one huge page, if there is one */
#define POOL_GROUP	0

/* One for each buffer of a pool, at the same index. */
struct rbuf {
	struct rbuf *next;		/* in a socket, or returned */
	uint32_t offset, size;		/* what is not read yet */
	uint16_t ring;			/* index of its scheduler */
};

static char *rbuf_data(struct ring *r, struct rbuf *b)
{
	return r->memory + (size_t)(b - r->rbufs) * POOL_SIZE;
}

int inflow_open(struct ring *r)
{
	struct io_uring_buf_reg reg = { .ring_entries = POOL_BUFFERS, .bgid = POOL_GROUP };
	size_t size = POOL_BUFFERS * sizeof(struct io_uring_buf);
	void *pool;

	pool = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool == MAP_FAILED)
		return -ENOMEM;
	reg.ring_addr = (uintptr_t)pool;
	/* Linux before 5.19, or no memory to pin: then nothing is received ahead, and all else works. */
	if (io_uring_register_buf_ring(&r->uring, &reg, 0)) {
		munmap(pool, size);
		return 0;
	}
	r->rbufs = calloc(POOL_BUFFERS, sizeof(*r->rbufs));
	r->memory = mmap(NULL, POOL_BUFFERS * POOL_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!r->rbufs || r->memory == MAP_FAILED) {
		free(r->rbufs);
		if (r->memory != MAP_FAILED)
			munmap(r->memory, POOL_BUFFERS * POOL_SIZE);
		munmap(pool, size);	/* the ring, which holds its pages, is about to be closed */
		return -ENOMEM;
	}
	r->pool = pool;
	io_uring_buf_ring_init(r->pool);
	for (int i = 0; i < POOL_BUFFERS; i++)
		io_uring_buf_ring_add(r->pool, rbuf_data(r, &r->rbufs[i]), POOL_SIZE, i,
				      io_uring_buf_ring_mask(POOL_BUFFERS), i);
	io_uring_buf_ring_advance(r->pool, POOL_BUFFERS);
	return 0;
}

void inflow_close(struct ring *r)
{
	if (!r->pool)
		return;
	io_uring_unregister_buf_ring(&r->uring, POOL_GROUP);
	munmap(r->pool, POOL_BUFFERS * sizeof(struct io_uring_buf));
	munmap(r->memory, POOL_BUFFERS * POOL_SIZE);
	free(r->rbufs);
}

static void pool_add(struct ring *r, struct rbuf *b)
{
	io_uring_buf_ring_add(r->pool, rbuf_data(r, b), POOL_SIZE, b - r->rbufs, io_uring_buf_ring_mask(POOL_BUFFERS), 0);
	io_uring_buf_ring_advance(r->pool, 1);
}

void inflow_refill(struct ring *r)
{
	struct rbuf *b;

	if (likely(!atomic_load_explicit(&r->returned, memory_order_relaxed)))
		return;
	/* acquire: pairs with the release in rbuf_return(), whose caller has read the buffer */
	b = atomic_exchange_explicit(&r->returned, NULL, memory_order_acquire);
	while (b) {
		struct rbuf *next = b->next;

		pool_add(r, b);
		b = next;
	}
}

static void rbuf_return(struct rbuf *b)
{
	struct scheduler *self = scheduler_self(), *s = scheduler_at(b->ring);
	struct ring *r = ring_of(s);

	if (likely(s == self)) {
		pool_add(r, b);
		return;
	}
	b->next = atomic_load_explicit(&r->returned, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&r->returned, &b->next, b, memory_order_release,
						      memory_order_relaxed))
		;
}

bool inflow_arm(struct scheduler *s, struct fd *f)
{
	struct ring *r = ring_of(s);
	struct io_uring_sqe *sqe;

	if (!r->pool)
		return false;
	f->in.state = INFLOW_ARMED;
	f->in.ring = s->index;
	sqe = ring_sqe(r);
	io_uring_prep_recv_multishot(sqe, fd_number(f), NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = POOL_GROUP;
	sqe->user_data = ring_data(RING_INFLOW, fd_number(f));
	return true;
}

static void inflow_cancel(struct scheduler *s, struct fd *f)
{
	f->in.state = INFLOW_ENDING;
	ring_cancel_data(ring_of(s), ring_data(RING_INFLOW, fd_number(f)));
}

static void inflow_work(struct scheduler *s, struct work *w)
{
	struct fd *f = container_of(w, struct fd, in.work);

	lock_take(&f->lock);
	f->in.posted = false;
	/* The number may have a new tenant: taking back what it receives ahead does no harm. */
	if (f->in.state == INFLOW_ARMED && f->in.ring == s->index)
		inflow_cancel(s, f);
	lock_drop(&f->lock);
}

void inflow_end(struct fd *f)
{
	struct scheduler *s = scheduler_self();

	if (f->in.state != INFLOW_ARMED)
		return;
	if (s && s->index == f->in.ring) {
		inflow_cancel(s, f);
	} else if (!f->in.posted) {
		f->in.posted = true;
		f->in.work.run = inflow_work;
		scheduler_post_work(scheduler_at(f->in.ring), &f->in.work);
	}
}

void inflow_complete(struct scheduler *s, struct fd *f, int res, uint32_t flags)
{
	struct ring *r = ring_of(s);
	bool settle = false;

	lock_take(&f->lock);
	if (flags & IORING_CQE_F_BUFFER) {
		struct rbuf *b = &r->rbufs[flags >> IORING_CQE_BUFFER_SHIFT];

		if (res > 0) {
			b->ring = s->index;
			b->next = NULL;
			b->offset = 0;
			b->size = res;
			if (f->in.first)
				f->in.last->next = b;
			else
				f->in.first = b;
			f->in.last = b;
			f->in.small = res < POOL_SIZE;
			if (++f->in.queued >= INFLOW_MAX && f->in.state == INFLOW_ARMED && flags & IORING_CQE_F_MORE)
				inflow_cancel(s, f);
		} else {
			pool_add(r, b);
		}
	}
	if (!(flags & IORING_CQE_F_MORE)) {
		f->in.state = INFLOW_OFF;
		/* -ENOBUFS: the reader goes on without the pool. The end of the stream it will see by itself. */
		if (res < 0 && res != -ECANCELED && res != -ENOBUFS)
			f->in.error = res;
		settle = f->flags & FD_CLOSING;
	}
	requests_done(f, POLLIN);
	lock_drop(&f->lock);
	if (unlikely(settle))
		fd_settle(f);
}

ssize_t inflow_take(struct fd *f, void *buf, size_t size)
{
	struct rbuf *b;
	size_t got = 0;
	int err;

	while ((b = f->in.first)) {
		size_t n = b->size < size - got ? b->size : size - got;

		/* Under the lock, which is held for a copy of at most POOL_SIZE bytes at a time by whoever reads. */
		memcpy((char *)buf + got, rbuf_data(ring_of(scheduler_at(b->ring)), b) + b->offset, n);
		got += n;
		b->size -= n;
		b->offset += n;
		if (b->size)
			break;
		f->in.first = b->next;
		f->in.queued--;
		rbuf_return(b);
	}
	if (got)
		return got;
	err = f->in.error;
	f->in.error = 0;
	return err ? err : -EAGAIN;
}

void inflow_drop(struct fd *f)
{
	struct rbuf *b = f->in.first;

	f->in.first = NULL;
	f->in.queued = 0;
	while (b) {
		struct rbuf *next = b->next;

		rbuf_return(b);
		b = next;
	}
}

void inflow_learn(struct fd *f, size_t n)
{
	f->in.small = n < POOL_SIZE;
}
