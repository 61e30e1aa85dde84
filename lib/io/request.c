// SPDX-License-Identifier: MIT OR GPL-2.0
#include "io/request.h"
#include "io/backend.h"
#include "sched/blocking.h"
#include "sched/replay.h"

#include <errno.h>
#include <mote/info.h>
#include <string.h>

int call_begin(struct call *c, const char *name, mote_deadline deadline)
{
	struct scheduler *s = runtime_enter(name);

	replay_spoil("I/O");
	c->task = s->current;
	c->f = NULL;
	c->fd = -1;
	c->use = -1;
	c->deadline = deadline.ns;
	c->die = false;
	task_spend(s);		/* a peer that is always ready must not keep the scheduler */
	/* Nor may a call that never has to wait keep its process alive. The caller may hold something: call_end() ends it. */
	if (unlikely(atomic_load_explicit(&c->task->pending, memory_order_relaxed)) && task_signals(c->task)) {
		c->die = true;
		return -EINTR;
	}
	return task_clamp(c->task, &c->deadline);
}

int call_use(struct call *c, int fd, int use)
{
	int err = call_use_locked(c, fd, use);

	if (!err)
		lock_drop(&c->f->lock);
	return err;
}

int call_use_locked(struct call *c, int fd, int use)
{
	struct fd *f = fd_entry(fd);
	int err;

	if (!f)
		return -EBADF;
	lock_take(&f->lock);
	err = fd_begin(f, use);
	if (err) {
		lock_drop(&f->lock);
		return err;
	}
	c->f = f;
	c->fd = fd;
	c->use = use;
	return 0;
}

void call_unuse_locked(struct call *c)
{
	fd_end_locked(c->f, c->use);
	c->use = -1;
}

int call_begin_fd(struct call *c, const char *name, int fd, int use, mote_deadline deadline)
{
	int err = call_begin(c, name, deadline);

	return err ? err : call_use(c, fd, use);
}

int64_t call_end(struct call *c, int64_t result)
{
	if (c->use >= 0)
		fd_end(c->f, c->use);
	if (unlikely(c->die))
		task_die(c->task);
	runtime_leave();
	return result;
}

void request_init(struct request *r, struct call *c, int events)
{
	memset(r, 0, sizeof(*r));
	r->task = c->task;
	r->f = c->f;
	r->events = events;
}

void request_link(struct request *r)
{
	struct fd *f = r->f;

	r->prev = &f->waiters;
	r->next = f->waiters;
	if (r->next)
		r->next->prev = &r->next;
	f->waiters = r;
	if (f->flags & FD_CLOSING)
		atomic_store_explicit(&r->closed, true, memory_order_relaxed);
}

void request_unlink(struct request *r)
{
	if (!r->prev)
		return;
	*r->prev = r->next;
	if (r->next)
		r->next->prev = r->prev;
	r->prev = NULL;
}

void request_done(struct request *r, int res)
{
	struct task *t = r->task;

	r->res = res;
	/* release: pairs with the acquire in request_wait(); from here on r may be gone */
	atomic_store_explicit(&r->done, true, memory_order_release);
	task_wake(scheduler_self(), t);
}

int requests_done(struct fd *f, int events)
{
	int seen = 0;

	for (struct request *r = f->waiters, *next; r; r = next) {
		next = r->next;
		if (r->in_ring || !(r->events & events))
			continue;
		seen |= r->events & events;
		/* Linked until its owner, who needs the lock for that, unlinks it: next stays valid. */
		if (!atomic_load_explicit(&r->done, memory_order_relaxed))
			request_done(r, r->events & events);
	}
	return seen;
}

static void request_expire(struct scheduler *s, struct wheel_timer *timer)
{
	struct request *r = container_of(timer, struct request, timer);

	/* release: as r->done; the wheel's lock keeps r alive until fire() has returned */
	atomic_store_explicit(&r->expired, true, memory_order_release);
	task_wake(s, r->task);
}

/* Takes back a request: the ring answers with its completion; others complete here. */
static void request_cancel(struct request *r)
{
	if (r->in_ring)
		io_backend->cancel(scheduler_self(), r);
	else
		atomic_store_explicit(&r->done, true, memory_order_relaxed);
}

int request_wait(struct request *r, struct call *c)
{
	struct scheduler *s = scheduler_self();
	/* If a signal or a close came before this request was there, nothing will wake us: look first. */
	bool park = !c->die && !atomic_load_explicit(&r->closed, memory_order_relaxed);
	int why = 0;

	if (c->deadline < CALL_UNLIMITED.ns) {
		r->timer.fire = request_expire;
		wheel_arm(&s->wheel, &r->timer, c->deadline);
	}
	if (r->in_ring)
		c->task->flags |= TASK_BOUND;	/* its ring is this scheduler's: only here may it be cancelled */
	for (;; park = true) {
		if (likely(park))
			task_park(scheduler_self(), MOTE_WAIT_IO);
		/* First the signals, which swallow a wake-up, then what it may have been for. */
		if (task_signals(c->task))
			c->die = true;
		if (atomic_load_explicit(&r->done, memory_order_acquire))
			break;
		if (why)
			continue;
		if (c->die) {
			why = -EINTR;
		} else if (atomic_load_explicit(&r->closed, memory_order_acquire)) {
			why = -ECANCELED;
		} else if (atomic_load_explicit(&r->expired, memory_order_acquire)) {
			why = -ETIMEDOUT;
		} else {
			continue;
		}
		request_cancel(r);
		if (!r->in_ring)
			break;
	}
	if (r->in_ring)
		c->task->flags &= ~TASK_BOUND;
	if (c->deadline < CALL_UNLIMITED.ns)
		wheel_disarm(&r->timer);
	return why;
}

int request_wait_linked(struct request *r, struct call *c)
{
	int err = request_wait(r, c);

	if (r->f) {
		lock_take(&r->f->lock);
		request_unlink(r);
		lock_drop(&r->f->lock);
	}
	return err;
}

int call_poll(struct call *c, int events)
{
	struct request r;
	int err;

	if (c->deadline <= 0)
		return -ETIMEDOUT;
	request_init(&r, c, events);
	r.in_ring = io_backend->submit;
	lock_take(&c->f->lock);
	request_link(&r);
	lock_drop(&c->f->lock);
	err = io_backend->watch(scheduler_self(), &r);
	if (err) {
		lock_take(&c->f->lock);
		request_unlink(&r);
		lock_drop(&c->f->lock);
		return err > 0 ? events : err;
	}
	err = request_wait_linked(&r, c);
	if (err)
		return err;
	return r.res < 0 ? r.res : events;
}

int call_pause(struct call *c, int64_t ns)
{
	int64_t until = clock_now() + ns, deadline = c->deadline;
	struct request r;
	int err;

	if (until >= deadline)
		return -ETIMEDOUT;
	request_init(&r, c, 0);
	if (r.f) {
		lock_take(&r.f->lock);
		request_link(&r);
		lock_drop(&r.f->lock);
	}
	c->deadline = until;
	err = request_wait_linked(&r, c);
	c->deadline = deadline;
	return err == -ETIMEDOUT ? 0 : err;
}

int call_submit(struct call *c, const struct io_uring_sqe *sqe)
{
	struct request r;
	int err;

	request_init(&r, c, 0);
	r.in_ring = true;
	if (c->f) {
		lock_take(&c->f->lock);
		request_link(&r);
		lock_drop(&c->f->lock);
	}
	io_backend->submit(scheduler_self(), sqe, &r);
	err = request_wait_linked(&r, c);
	/* It may have been done before the cancellation reached it: then that is the result. */
	if (err && (r.res == -ECANCELED || r.res == -EINTR))
		return err;
	/* Nobody has cancelled it: the kernel had no thread for it, and could make none. */
	return r.res == -ECANCELED ? -EAGAIN : r.res;
}

int call_blocking(struct call *c, int64_t (*fn)(void *arg), void *arg, int64_t *result)
{
	/* A poll, too, is worth a thread. */
	int err = blocking_await(fn, arg, result, c->deadline > 0 ? c->deadline : BLOCKING_UNLIMITED);

	if (err == -EINTR)
		c->die = true;
	return err;
}
