// SPDX-License-Identifier: MIT OR GPL-2.0
/* The module's ways: one ioctl, or one io_uring_enter, that rings and sleeps; and its activations. */
#include "wake.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/mote.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int mote = -1;
static struct mote_bells *bells;
static struct io_uring uring;
static uint32_t peer_node;

static int node_join(int side)
{
	struct mote_setup setup = { .size = sizeof(setup), .nr_slots = 1, .mode = 0600, .event_slot = MOTE_NO_SLOT };

	mote = open("/dev/mote", O_RDWR | O_CLOEXEC);
	if (mote < 0 || ioctl(mote, MOTE_IOC_SETUP, &setup))
		return -errno;
	bells = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, mote,
		     MOTE_MAP(MOTE_AREA_BELLS, setup.node));
	if (bells == MAP_FAILED)
		return -errno;
	/* Release, acquire: nothing but the number itself is handed over. */
	atomic_store_explicit(&wake_shared->node[side], setup.node, memory_order_release);
	while (!(peer_node = atomic_load_explicit(&wake_shared->node[!side], memory_order_acquire)))
		sched_yield();

	struct mote_lane_open lane = { .size = sizeof(lane), .node = peer_node, .data_size = MOTE_DATA_MIN };

	return ioctl(mote, MOTE_IOC_LANE_OPEN, &lane) ? -errno : 0;
}

/*
 * What a scheduler does before it sleeps: it notes the bell's count, says that it sleeps, and would look at its lanes
 * once more behind the barrier.
 */
static uint32_t bell_park(void)
{
	/* Acquire: the look at the lanes comes later. */
	uint32_t seq = __atomic_load_n(&bells->bell[0].seq, __ATOMIC_ACQUIRE);

	/* Sequentially consistent, a locked exchange: against the ringer's publish, then read of the state. */
	__atomic_exchange_n(&bells->bell[0].state, MOTE_BELL_PARKED, __ATOMIC_SEQ_CST);
	return seq;
}

static void bell_unpark(void)
{
	/* Relaxed: a ring too many does no harm. */
	__atomic_store_n(&bells->bell[0].state, MOTE_BELL_RUNNING, __ATOMIC_RELAXED);
}

static int ioctl_enter(uint32_t flags)
{
	struct mote_enter enter = {
		.size = sizeof(enter), .flags = flags, .ring = { peer_node, 0 }, .deadline = MOTE_FOREVER,
	};

	if (flags & MOTE_ENTER_WAIT)
		enter.seq = bell_park();

	int err = ioctl(mote, MOTE_IOC_ENTER, &enter) ? -errno : 0;

	if (flags & MOTE_ENTER_WAIT)
		bell_unpark();
	return err;
}

static int ioctl_ring(int side)
{
	(void)side;
	return ioctl_enter(MOTE_ENTER_RING);
}

/* What was rung before it was waited for has been counted: here it is the first wait only, and nobody rang before. */
static int ioctl_wait(int side)
{
	(void)side;
	if (__atomic_load_n(&bells->bell[0].seq, __ATOMIC_ACQUIRE))
		return 0;
	return ioctl_enter(MOTE_ENTER_WAIT);
}

static int ioctl_turn(int side)
{
	(void)side;
	return ioctl_enter(MOTE_ENTER_RING | MOTE_ENTER_WAIT);
}

static int uring_join(int side)
{
	struct mote_query query = { .size = sizeof(query) };
	int err = node_join(side);

	if (err)
		return err;
	if (ioctl(mote, MOTE_IOC_QUERY, &query))
		return -errno;
	if (!(query.features & MOTE_FEATURE_URING))
		return -EOPNOTSUPP;
	return io_uring_queue_init(8, &uring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
}

static void uring_prepare(uint32_t op, struct mote_uring_cmd cmd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring);

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, mote, NULL, 0, 0);
	sqe->cmd_op = op;
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
}

static int uring_enter(bool ring, bool wait)
{
	struct io_uring_cqe *cqe;
	unsigned int head, seen = 0;
	int err = 0;

	if (wait) {
		uint32_t seq = bell_park();

		if (ring)
			uring_prepare(MOTE_URING_RING, (struct mote_uring_cmd){ .node = peer_node, .seq = seq,
					.flags = MOTE_RING_HANDOFF });
		uring_prepare(MOTE_URING_WAIT, (struct mote_uring_cmd){ .seq = seq });
	} else {
		uring_prepare(MOTE_URING_RING, (struct mote_uring_cmd){ .node = peer_node });
	}
	err = io_uring_submit_and_wait(&uring, ring + wait);
	if (wait)
		bell_unpark();
	if (err < 0)
		return err;
	err = 0;
	io_uring_for_each_cqe(&uring, head, cqe) {
		seen++;
		if (cqe->res < 0)
			err = cqe->res;
	}
	io_uring_cq_advance(&uring, seen);
	return err;
}

static int uring_ring(int side)
{
	(void)side;
	return uring_enter(true, false);
}

static int uring_wait(int side)
{
	(void)side;
	if (__atomic_load_n(&bells->bell[0].seq, __ATOMIC_ACQUIRE))
		return 0;
	return uring_enter(false, true);
}

static int uring_turn(int side)
{
	(void)side;
	return uring_enter(true, true);
}

const struct wake_way wake_module[] = {
	{ "mote.ko, one ioctl", NULL, node_join, ioctl_ring, ioctl_wait, ioctl_turn },
	{ "mote.ko, one io_uring_enter", NULL, uring_join, uring_ring, uring_wait, uring_turn },
	{ .name = NULL },
};

/* A worker that blocks in read(), and its spare. */
static struct {
	int pipe[2];
	uint32_t mode, want;
	unsigned int rounds;
	/* Written by the worker before it blocks; read by the spare, which runs because it blocks. */
	_Atomic int64_t blocked;
	_Atomic int error;
} activation;

static void *activation_worker(void *arg)
{
	struct mote_worker worker = {
		.size = sizeof(worker), .mode = (uintptr_t)&activation.mode, .want = (uintptr_t)&activation.want,
		.mode_user = 1, .worker = 0,
	};
	char byte;

	(void)arg;
	if (ioctl(mote, MOTE_IOC_WORKER, &worker)) {
		/* Relaxed: joined before it is read. */
		atomic_store_explicit(&activation.error, errno, memory_order_relaxed);
		return NULL;
	}
	for (unsigned int i = 0; i < activation.rounds; i++) {
		__atomic_store_n(&activation.mode, 1, __ATOMIC_RELAXED);
		/* Release: the spare reads it after the kernel has told it. */
		atomic_store_explicit(&activation.blocked, wake_now(), memory_order_release);
		if (read(activation.pipe[0], &byte, 1) != 1)
			break;
		__atomic_store_n(&activation.mode, 0, __ATOMIC_RELAXED);
	}
	worker.flags = MOTE_WORKER_STOP;
	ioctl(mote, MOTE_IOC_WORKER, &worker);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

double wake_activation(unsigned int rounds)
{
	struct mote_setup setup = { .size = sizeof(setup), .nr_slots = 1, .mode = 0600, .event_slot = MOTE_NO_SLOT };
	int64_t *took = calloc(rounds, sizeof(*took));
	double median;
	pthread_t thread;
	unsigned int i;

	if (!took)
		return -ENOMEM;
	mote = open("/dev/mote", O_RDWR | O_CLOEXEC);
	if (mote < 0 || ioctl(mote, MOTE_IOC_SETUP, &setup) || pipe2(activation.pipe, O_CLOEXEC))
		return -errno;
	activation.rounds = rounds;
	activation.want = 1;
	if (pthread_create(&thread, NULL, activation_worker, NULL))
		return -EAGAIN;
	for (i = 0; i < rounds; i++) {
		/* The worker can't fail later than a second from now, and a failure of it is not waited for longer. */
		struct mote_activate_wait wait = { .size = sizeof(wait), .deadline = wake_now() + 1000000000 };

		if (ioctl(mote, MOTE_IOC_ACTIVATE_WAIT, &wait))
			break;
		/* Acquire: pairs with the worker's store. */
		took[i] = wake_now() - atomic_load_explicit(&activation.blocked, memory_order_acquire);
		if (write(activation.pipe[1], "x", 1) != 1)
			break;
	}
	if (i < rounds) {
		int err = errno;

		free(took);
		close(activation.pipe[1]);
		pthread_join(thread, NULL);
		return activation.error ? -activation.error : -err;
	}
	pthread_join(thread, NULL);
	close(mote);
	qsort(took, rounds, sizeof(*took), compare);
	median = took[rounds / 2];
	free(took);
	return median;
}
