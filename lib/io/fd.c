// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The table is one reserved mapping, indexed by number, so that finding an entry needs no lock and no allocation.
 *
 * Locks: an entry's lock, then the lock of an owner's list. Neither is held while calling out.
 */
#include "io/fd.h"
#include "io/backend.h"
#include "io/child.h"
#include "io/io.h"
#include "io/outflow.h"
#include "io/request.h"

#include <errno.h>
#include <fcntl.h>
#include <mote/fd.h>
#include <mote/info.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define FDS_MAX		(1 << 20)
#define LIST_LOCKS	64
#define OPEN_STEP	4096

static struct fd *fds;
static int nr_fds;
static _Atomic int nr_opened;		/* entries that may be touched: see fd_entry_far() */
static struct lock open_lock;
static struct {
	struct lock lock;
} __attribute__((aligned(CACHE_LINE))) list_locks[LIST_LOCKS];

int fds_start(void)
{
	struct rlimit limit;
	void *table;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	nr_fds = limit.rlim_max > FDS_MAX ? FDS_MAX : (int)limit.rlim_max;
	table = mmap(NULL, nr_fds * sizeof(struct fd), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return -ENOMEM;
	for (int i = 0; i < LIST_LOCKS; i++)
		lock_drop(&list_locks[i].lock);
	fds = table;
	return 0;
}

void fds_stop(void)
{
	munmap(fds, nr_fds * sizeof(struct fd));
	fds_forget();
}

void fds_forget(void)
{
	fds = NULL;
	nr_fds = 0;
	atomic_store_explicit(&nr_opened, 0, memory_order_relaxed);
	open_lock = (struct lock){ 0 };
}

/*
 * The table is opened as numbers come up: unused entries then count for no limit on memory, and get no pages where a
 * program's memory is locked. NULL: out of range, or no memory.
 */
static struct fd *fd_entry_far(int fd)
{
	int opened, to;

	if (fd < 0 || fd >= nr_fds)
		return NULL;
	lock_take(&open_lock);
	opened = atomic_load_explicit(&nr_opened, memory_order_relaxed);
	/* Whole steps of entries are whole pages. */
	to = fd - fd % OPEN_STEP + OPEN_STEP;
	if (to > nr_fds)
		to = nr_fds;
	if (fd >= opened) {
		if (mprotect(&fds[opened], (size_t)(to - opened) * sizeof(*fds), PROT_READ | PROT_WRITE)) {
			lock_drop(&open_lock);
			return NULL;
		}
		/* release: pairs with fd_entry() */
		atomic_store_explicit(&nr_opened, to, memory_order_release);
	}
	lock_drop(&open_lock);
	return &fds[fd];
}

struct fd *fd_entry(int fd)
{
	/* acquire: what is below may be touched */
	if (likely(fd >= 0 && fd < atomic_load_explicit(&nr_opened, memory_order_acquire)))
		return &fds[fd];
	return fd_entry_far(fd);
}

int fd_number(const struct fd *f)
{
	return (int)(f - fds);
}

static struct lock *list_lock(const struct task *owner)
{
	return &list_locks[owner->slot % LIST_LOCKS].lock;
}

static void owner_link(struct fd *f, struct task *owner)
{
	struct lock *l = list_lock(owner);

	lock_take(l);
	f->owner = owner;
	f->previous = 0;
	f->next = owner->fds;
	if (f->next)
		fds[f->next - 1].previous = fd_number(f) + 1;
	owner->fds = fd_number(f) + 1;
	lock_drop(l);
	atomic_fetch_add_explicit(&owner->nr_fds, 1, memory_order_relaxed);
}

static void owner_unlink(struct fd *f)
{
	struct task *owner = f->owner;
	struct lock *l;

	if (!owner)
		return;
	l = list_lock(owner);
	lock_take(l);
	if (f->previous)
		fds[f->previous - 1].next = f->next;
	else
		owner->fds = f->next;
	if (f->next)
		fds[f->next - 1].previous = f->previous;
	f->owner = NULL;
	/* release, and the last touch of the owner: when it sees none left it may be gone */
	atomic_fetch_sub_explicit(&owner->nr_fds, 1, memory_order_release);
	lock_drop(l);
}

int fd_open(int fd, struct task *owner, int flags)
{
	struct fd *f = fd_entry(fd);

	if (!f) {
		close(fd);
		return fd < nr_fds ? -ENOMEM : -EMFILE;
	}
	lock_take(&f->lock);
	/*
	 * FD_CLOSING alone: the number's last tenant is closed, or the kernel would not have given it to us, and its
	 * closer is about to say so: the new generation tells it to keep its hands off.
	 */
	if (f->flags & FD_OPEN)
		mote_fatal("descriptor %d belongs to a process, and was closed by close(2)", fd);
	f->generation++;
	f->flags = FD_OPEN | flags;
	owner_link(f, owner);
	lock_drop(&f->lock);
	return fd;
}

bool fd_is(struct fd *f, int flags)
{
	bool is;

	if (!f)
		return false;
	lock_take(&f->lock);
	is = f->flags & flags;
	lock_drop(&f->lock);
	return is;
}

int fd_begin(struct fd *f, int use)
{
	if (unlikely(f->flags & FD_CLOSING))
		return -EBADF;
	if (unlikely(f->use & use))
		return -EBUSY;
	f->use |= use;
	f->users++;
	return 0;
}

void fd_end_locked(struct fd *f, int use)
{
	bool last;

	f->use &= ~use;
	last = !--f->users;
	if (unlikely(last && !(f->flags & FD_OPEN) && io_backend->forget_fd))
		io_backend->forget_fd(f);
	last = last && f->flags & FD_CLOSING;
	lock_drop(&f->lock);
	if (unlikely(last))
		fd_settle(f);
}

void fd_end(struct fd *f, int use)
{
	lock_take(&f->lock);
	fd_end_locked(f, use);
}

static void unwatch_work(struct scheduler *s, struct work *w)
{
	struct fd *f = container_of(w, struct fd, work);

	lock_take(&f->lock);
	f->posted = false;
	if (f->flags & FD_CLOSING && f->flags & FD_WATCHED && f->watcher == s->index)
		io_backend->unwatch_fd(s, f);
	lock_drop(&f->lock);
	fd_settle(f);	/* with epoll that was all there was to wait for */
}

static void fd_unwatch(struct fd *f)
{
	struct scheduler *s = scheduler_self();

	if (!(f->flags & FD_WATCHED))
		return;
	if (s && s->index == f->watcher) {
		io_backend->unwatch_fd(s, f);
	} else if (!f->posted) {
		f->posted = true;
		f->work.run = unwatch_work;
		scheduler_post_work(scheduler_at(f->watcher), &f->work);
	}
}

bool fd_shut(struct fd *f)
{
	if (f->flags & FD_CLOSING)
		return false;
	f->flags |= FD_CLOSING;
	for (struct request *r = f->waiters; r; r = r->next) {
		struct task *t = r->task;

		/* release: pairs with the acquire in request_wait(); r lives while it is linked and the lock is held */
		atomic_store_explicit(&r->closed, true, memory_order_release);
		task_wake(scheduler_self(), t);
	}
	inflow_end(f);
	fd_unwatch(f);
	return true;
}

/* Wakes those who wait for the end. Each request vanishes as soon as it is done. */
static void closers_done(struct request *r)
{
	while (r) {
		struct request *next = r->next;

		request_done(r, 0);
		r = next;
	}
}

void fd_finish(struct fd *f)
{
	uint32_t generation;

	lock_take(&f->lock);
	generation = f->generation;
	f->flags = FD_CLOSING;		/* see fd_open() */
	lock_drop(&f->lock);
	close(fd_number(f));
	lock_take(&f->lock);
	if (f->generation == generation)
		f->flags = 0;
	lock_drop(&f->lock);
}

void fd_settle(struct fd *f)
{
	struct request *closers;

	lock_take(&f->lock);
	if (!(f->flags & FD_CLOSING) || f->flags & (FD_WATCHED | FD_REAPING) || f->users ||
	    f->in.state != INFLOW_OFF) {
		lock_drop(&f->lock);
		return;
	}
	f->users = 1;		/* nobody settles it twice */
	inflow_drop(f);
	lock_drop(&f->lock);

	outflow_free(f);	/* calls out; with FD_CLOSING set and no users it is ours */

	lock_take(&f->lock);
	closers = f->closers;
	f->closers = NULL;
	f->users = 0;
	f->use = 0;
	if (io_backend->forget_fd)
		io_backend->forget_fd(f);
	f->ready = 0;
	f->in.error = 0;
	f->in.small = false;
	owner_unlink(f);
	if (f->flags & FD_CHILD) {
		f->flags |= FD_REAPING;
		lock_drop(&f->lock);
		child_orphan(f);
		closers_done(closers);
		return;
	}
	lock_drop(&f->lock);
	fd_finish(f);
	closers_done(closers);
}

int fd_close_wait(struct fd *f, struct task *self, bool join)
{
	struct request r = { .task = self };

	lock_take(&f->lock);
	/* Nobody's descriptor: the kernel knows whether there is one. */
	if ((!(f->flags & FD_OPEN) && fcntl(fd_number(f), F_GETFD) < 0) ||
	    (!fd_shut(f) && (!join || f->flags & FD_REAPING))) {
		lock_drop(&f->lock);
		return -EBADF;
	}
	r.next = f->closers;
	f->closers = &r;
	lock_drop(&f->lock);
	fd_settle(f);
	while (!atomic_load_explicit(&r.done, memory_order_acquire)) {
		task_park(scheduler_self(), MOTE_WAIT_IO);
		task_signals(self);	/* or the task would not park again; what they say waits for the end */
	}
	return 0;
}

void io_task_end(struct task *t)
{
	struct lock *l = list_lock(t);

	for (;;) {
		int fd;

		lock_take(l);
		fd = t->fds;
		lock_drop(l);
		if (!fd)
			return;
		fd_close_wait(&fds[fd - 1], t, true);
	}
}

uint64_t io_task_fds(struct task *t)
{
	return atomic_load_explicit(&t->nr_fds, memory_order_relaxed);
}

void fd_event(struct fd *f, int events)
{
	bool reaping, sending;

	lock_take(&f->lock);
	reaping = f->flags & FD_REAPING;
	sending = events && outflow_pending(f);
	lock_drop(&f->lock);
	if (reaping)
		child_reap(f);
	else if (sending)
		outflow_pump(f);
	fd_settle(f);
}

int fd_watch(struct fd *f, int events)
{
	struct scheduler *s = scheduler_self();
	int err;

	f->flags |= FD_WATCHED;
	f->watcher = s->index;
	f->watched = events;
	err = io_backend->watch_fd(s, f, events);
	if (err)
		f->flags &= ~FD_WATCHED;
	return err;
}

int fd_detach(int fd, struct task *owner)
{
	struct fd *f = fd_entry(fd);
	int err = 0;

	if (!f)
		return -EBADF;
	lock_take(&f->lock);
	if (!(f->flags & FD_OPEN) || f->flags & FD_CLOSING)
		err = -EBADF;
	else if (f->owner != owner)
		err = -EPERM;
	else
		owner_unlink(f);
	lock_drop(&f->lock);
	return err;
}

void fd_attach(int fd, struct task *new_owner)
{
	struct fd *f = fd_entry(fd);
	bool closed;

	lock_take(&f->lock);
	/* Any process may close what is on its way; its number may be somebody else's by now. */
	closed = !(f->flags & FD_OPEN) || f->flags & FD_CLOSING || f->owner;
	if (!closed)
		owner_link(f, new_owner);
	lock_drop(&f->lock);
}

void fd_drop(int fd)
{
	struct fd *f = fd_entry(fd);

	lock_take(&f->lock);
	if (f->flags & FD_OPEN && !f->owner)
		fd_shut(f);
	lock_drop(&f->lock);
	fd_settle(f);
}

int mote_fd_close(int fd)
{
	struct scheduler *s = runtime_enter("mote_fd_close");
	struct task *self = s->current;
	struct fd *f = fd_entry(fd);
	int err = -EBADF;

	if (f)
		err = fd_close_wait(f, self, false);
	if (task_signals(self))
		task_die(self);
	runtime_leave();
	return err;
}

int mote_fd_adopt(int fd)
{
	struct scheduler *s = runtime_enter("mote_fd_adopt");
	struct fd *f = fd_entry(fd);
	int err = 0;

	if (!f || fcntl(fd, F_GETFD) < 0) {
		err = -EBADF;
	} else {
		lock_take(&f->lock);
		if (f->flags & FD_OPEN) {
			err = -EBUSY;
		} else {
			f->generation++;
			f->flags = FD_OPEN;
			owner_link(f, s->current);
		}
		lock_drop(&f->lock);
	}
	if (task_signals(s->current))
		task_die(s->current);
	runtime_leave();
	return err;
}

/*
 * Ends a receive that is armed ahead, and waits until it is over, so that what comes stays in the socket. 0 with the
 * lock held, or -errno without.
 */
static int inflow_stop(struct call *c)
{
	struct fd *f = c->f;

	for (;;) {
		struct request r;
		int err;

		lock_take(&f->lock);
		if (likely(f->in.state == INFLOW_OFF))
			return 0;
		inflow_end(f);
		request_init(&r, c, POLLIN);
		request_link(&r);
		lock_drop(&f->lock);
		err = request_wait_linked(&r, c);
		if (err)
			return err;
	}
}

int mote_fd_release(int fd)
{
	struct fd *f;
	struct call c;
	int err;

	/* Both directions, so that nobody begins anything meanwhile. */
	err = call_begin_fd(&c, "mote_fd_release", fd, FD_READ | FD_WRITE, CALL_UNLIMITED);
	if (!err)
		err = inflow_stop(&c);
	if (err)
		return (int)call_end(&c, err);
	f = c.f;
	if (!(f->flags & FD_OPEN))
		err = -EBADF;
	else if (f->owner != c.task)
		err = -EPERM;
	else if (f->users > 1 || f->in.first || outflow_pending(f) || f->flags & FD_CHILD)
		err = -EBUSY;
	if (!err) {
		if (io_backend->forget_fd)
			io_backend->forget_fd(f);
		owner_unlink(f);
		f->flags = 0;
		f->in.small = false;
	}
	lock_drop(&f->lock);
	return (int)call_end(&c, err);
}

mote_pid mote_fd_owner(int fd)
{
	struct fd *f = fd_entry(fd);
	mote_pid pid = MOTE_NOBODY;

	if (!f)
		return pid;
	runtime_try_enter();
	lock_take(&f->lock);
	/* An owner lets go of its descriptors before its slot gets a new tenant: serial and slot belong together. */
	if (f->owner) {
		pid.serial = atomic_load_explicit(&f->owner->serial, memory_order_relaxed);
		pid.slot = f->owner->slot;
	}
	lock_drop(&f->lock);
	runtime_try_leave();
	return pid;
}

int mote_fd_wait(int fd, int events, mote_deadline deadline)
{
	struct call c;
	int err;

	if (!events || events & ~(MOTE_FD_IN | MOTE_FD_OUT))
		return -EINVAL;
	err = call_begin_fd(&c, "mote_fd_wait", fd, FD_SHARED, deadline);
	while (!err) {
		struct pollfd p = { .fd = fd, .events = events };
		bool unread;

		/* Whoever else reads it needs what comes to stay in the socket; what has come is for mote_net_recv(). */
		err = inflow_stop(&c);
		if (err)
			break;
		unread = c.f->in.first;
		c.f->in.small = false;
		lock_drop(&c.f->lock);
		if (unread && events & MOTE_FD_IN) {
			err = MOTE_FD_IN;
		} else if (poll(&p, 1, 0) < 0) {
			err = -errno;
		} else if (p.revents & POLLNVAL) {
			err = -EBADF;
		} else if (p.revents) {
			/* An error or hang-up is something to be read, or to be told when writing. */
			err = p.revents & (POLLERR | POLLHUP) ? events : p.revents & events;
		} else {
			err = call_poll(&c, events);
			if (err > 0)
				err = 0;
		}
	}
	return (int)call_end(&c, err);
}
