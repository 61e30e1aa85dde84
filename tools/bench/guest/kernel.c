// SPDX-License-Identifier: MIT OR GPL-2.0
/* The ways that every Linux has, each as somebody who knows it would use it for this. */
#include "wake.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Each side's own: fd[side] is where it waits, and peer[side] what wakes it. */
static int fd[2], peer[2];
static mqd_t queue[2];
static struct io_uring uring;

static int check(long result, long wanted)
{
	return result == wanted ? 0 : result < 0 ? -errno : -EIO;
}

static int futex_ring(int side)
{
	/* Release: pairs with the load in futex_wait. */
	atomic_store_explicit(&wake_shared->word[!side], 1, memory_order_release);
	return check(syscall(SYS_futex, &wake_shared->word[!side], FUTEX_WAKE, 1, NULL, NULL, 0) < 0, 0);
}

static int futex_wait(int side)
{
	/* Acquire: pairs with the store in futex_ring. */
	while (!atomic_load_explicit(&wake_shared->word[side], memory_order_acquire))
		syscall(SYS_futex, &wake_shared->word[side], FUTEX_WAIT, 0, NULL, NULL, 0);
	/* Relaxed: the other side rings again only when it has been rung. */
	atomic_store_explicit(&wake_shared->word[side], 0, memory_order_relaxed);
	return 0;
}

static int eventfd_open(void)
{
	for (int side = 0; side < 2; side++) {
		fd[side] = peer[side] = eventfd(0, EFD_CLOEXEC);
		if (fd[side] < 0)
			return -errno;
	}
	return 0;
}

static int word_ring(int side)
{
	uint64_t one = 1;

	return check(write(peer[!side], &one, sizeof(one)), sizeof(one));
}

static int word_wait(int side)
{
	uint64_t count;

	return check(read(fd[side], &count, sizeof(count)), sizeof(count));
}

static int pipe_open(void)
{
	for (int side = 0; side < 2; side++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC))
			return -errno;
		fd[side] = ends[0];
		peer[side] = ends[1];
	}
	return 0;
}

static int socketpair_open(void)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
		return -errno;
	/* What wakes one side is the other side's own end. */
	peer[0] = fd[1];
	peer[1] = fd[0];
	return 0;
}

static int mq_open_both(void)
{
	struct mq_attr attr = { .mq_maxmsg = 8, .mq_msgsize = 8 };

	for (int side = 0; side < 2; side++) {
		const char *name = side ? "/wake1" : "/wake0";

		mq_unlink(name);
		queue[side] = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attr);
		if (queue[side] < 0)
			return -errno;
		mq_unlink(name);
	}
	return 0;
}

static int mq_ring(int side)
{
	return check(mq_send(queue[!side], "x", 1, 0), 0);
}

static int mq_wait(int side)
{
	char text[8];

	return check(mq_receive(queue[side], text, sizeof(text), NULL), 1);
}

/* As cheap as a ring can be made: nothing is done by interrupts, and completions are delivered in enter. */
static int uring_join(int side)
{
	(void)side;
	return io_uring_queue_init(8, &uring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
}

static uint64_t uring_count;

static void uring_wait_prepare(int side)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring);

	io_uring_prep_read(sqe, fd[side], &uring_count, sizeof(uring_count), 0);
}

static struct io_uring_sqe *uring_ring_prepare(int side)
{
	static const uint64_t one = 1;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring);

	io_uring_prep_write(sqe, peer[!side], &one, sizeof(one), 0);
	return sqe;
}

static int uring_enter(unsigned int nr)
{
	struct io_uring_cqe *cqe;
	unsigned int head, seen = 0;
	int err = io_uring_submit_and_wait(&uring, nr);

	if (err < 0)
		return err;
	err = 0;
	io_uring_for_each_cqe(&uring, head, cqe) {
		seen++;
		if (cqe->res != sizeof(uint64_t))
			err = cqe->res < 0 ? cqe->res : -EIO;
	}
	io_uring_cq_advance(&uring, seen);
	return err ? err : check(seen, nr);
}

static int uring_ring(int side)
{
	uring_ring_prepare(side);
	return uring_enter(1);
}

static int uring_wait(int side)
{
	uring_wait_prepare(side);
	return uring_enter(1);
}

static int uring_turn(int side)
{
	uring_ring_prepare(side);
	uring_wait_prepare(side);
	return uring_enter(2);
}

/*
 * The eventfd is polled once and for all: each write to it is a completion, and nobody need read it. It does not block,
 * since io_uring hands a write that might to a thread of its own.
 */
static int poll_open(void)
{
	int err = eventfd_open();

	for (int side = 0; side < 2 && !err; side++)
		if (fcntl(fd[side], F_SETFL, O_NONBLOCK))
			err = -errno;
	return err;
}

static int poll_join(int side)
{
	struct io_uring_sqe *sqe;
	int err = uring_join(side);

	if (err)
		return err;
	sqe = io_uring_get_sqe(&uring);
	io_uring_prep_poll_multishot(sqe, fd[side], POLLIN | EPOLLET);
	return check(io_uring_submit(&uring), 1);
}

/* Only what wakes a side is worth a completion to it. */
static void poll_ring_prepare(int side)
{
	uring_ring_prepare(side)->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static int poll_ring(int side)
{
	poll_ring_prepare(side);
	return check(io_uring_submit(&uring), 1);
}

static int poll_wait(int side)
{
	struct io_uring_cqe *cqe;
	int err = io_uring_submit_and_wait(&uring, 1);

	(void)side;
	if (err < 0)
		return err;
	err = io_uring_peek_cqe(&uring, &cqe);
	if (err)
		return err;
	err = cqe->res < 0 ? cqe->res : 0;
	io_uring_cqe_seen(&uring, cqe);
	return err;
}

static int poll_turn(int side)
{
	poll_ring_prepare(side);
	return poll_wait(side);
}

const struct wake_way wake_kernel[] = {
	{ "futex", NULL, NULL, futex_ring, futex_wait, NULL },
	{ "eventfd", eventfd_open, NULL, word_ring, word_wait, NULL },
	{ "pipe", pipe_open, NULL, word_ring, word_wait, NULL },
	{ "unix socketpair", socketpair_open, NULL, word_ring, word_wait, NULL },
	{ "POSIX message queue", mq_open_both, NULL, mq_ring, mq_wait, NULL },
	{ "io_uring, pipe write + read in one enter", pipe_open, uring_join, uring_ring, uring_wait, uring_turn },
	{ "io_uring, eventfd write + poll in one enter", poll_open, poll_join, poll_ring, poll_wait, poll_turn },
	{ .name = NULL },
};
