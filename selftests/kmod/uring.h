/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* uring.h: as much of an io_uring as the tests need, without a library. */
#ifndef MOTE_SELFTEST_URING_H
#define MOTE_SELFTEST_URING_H

#include "kmod.h"
#include <linux/io_uring.h>
#include <linux/time_types.h>

#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

/*
 * In Linux 6.12 an assertion of io_uring's (io_lockdep_assert_cq_locked) takes only a submitter that exits for a
 * ring with DEFER_TASKRUN that ends: to close one with a cancelable command pending is a WARNING, whoever's that is.
 */
static inline bool uring_defer_asserts(void)
{
	return !access("/proc/lockdep", F_OK);
}

struct uring {
	int fd;
	unsigned int *sq_head, *sq_tail, *sq_array, *cq_head, *cq_tail;
	unsigned int sq_mask, cq_mask;
	unsigned int tail;		/* of the entries that are filled in; a kernel thread may read what is published */
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	void *rings;
	size_t rings_size, sqes_size;
};

/* flags: IORING_SETUP_*. 0 or -errno. */
static inline int uring_open(struct uring *ring, unsigned int entries, unsigned int flags)
{
	struct io_uring_params p = { .flags = flags };
	size_t sq, cq;
	char *rings;

	ring->fd = syscall(SYS_io_uring_setup, entries, &p);
	if (ring->fd < 0)
		return -errno;
	sq = p.sq_off.array + p.sq_entries * sizeof(unsigned int);
	cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	ring->rings_size = sq > cq ? sq : cq;
	ring->sqes_size = p.sq_entries * sizeof(struct io_uring_sqe);
	rings = mmap(NULL, ring->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
		     IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, ring->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			  IORING_OFF_SQES);
	if (rings == MAP_FAILED || ring->sqes == MAP_FAILED)
		return -errno;
	ring->rings = rings;
	ring->sq_head = (unsigned int *)(rings + p.sq_off.head);
	ring->sq_tail = (unsigned int *)(rings + p.sq_off.tail);
	ring->sq_mask = p.sq_entries - 1;
	ring->tail = *ring->sq_tail;
	ring->sq_array = (unsigned int *)(rings + p.sq_off.array);
	ring->cq_head = (unsigned int *)(rings + p.cq_off.head);
	ring->cq_tail = (unsigned int *)(rings + p.cq_off.tail);
	ring->cq_mask = p.cq_entries - 1;
	ring->cqes = (struct io_uring_cqe *)(rings + p.cq_off.cqes);
	return 0;
}

static inline void uring_unmap(struct uring *ring)
{
	munmap(ring->rings, ring->rings_size);
	munmap(ring->sqes, ring->sqes_size);
}

static inline void uring_close(struct uring *ring)
{
	uring_unmap(ring);
	close(ring->fd);
	ring->fd = -1;
}

/* The next entry, zeroed; it is submitted by uring_enter(), in order. */
static inline struct io_uring_sqe *uring_sqe(struct uring *ring, __u64 user_data)
{
	unsigned int tail = ring->tail++;
	struct io_uring_sqe *sqe = &ring->sqes[tail & ring->sq_mask];

	memset(sqe, 0, sizeof(*sqe));
	sqe->user_data = user_data;
	ring->sq_array[tail & ring->sq_mask] = tail & ring->sq_mask;
	return sqe;
}

static inline struct io_uring_sqe *uring_last(struct uring *ring)
{
	return &ring->sqes[(ring->tail - 1) & ring->sq_mask];
}

static inline struct io_uring_sqe *uring_command(struct uring *ring, __u64 user_data, int fd, __u32 number,
						 const struct mote_uring_cmd *command)
{
	struct io_uring_sqe *sqe = uring_sqe(ring, user_data);

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = number;
	memcpy(sqe->cmd, command, sizeof(*command));
	return sqe;
}

static inline void uring_wait(struct uring *ring, __u64 user_data, int fd, __u32 slot, __u32 seq)
{
	uring_command(ring, user_data, fd, MOTE_URING_WAIT, &(struct mote_uring_cmd){ .slot = slot, .seq = seq });
}

static inline void uring_ring(struct uring *ring, __u64 user_data, int fd, __u32 node, __u32 slot, __u32 flags)
{
	uring_command(ring, user_data, fd, MOTE_URING_RING,
		      &(struct mote_uring_cmd){ .node = node, .slot = slot, .flags = flags });
}

static inline void uring_cancel(struct uring *ring, __u64 user_data, int fd, __u32 slot)
{
	uring_command(ring, user_data, fd, MOTE_URING_CANCEL, &(struct mote_uring_cmd){ .slot = slot });
}

/* Submits what is not yet, and waits for `wait` completions, no longer than ms. What io_uring_enter() says. */
static inline int uring_enter(struct uring *ring, unsigned int wait, int ms)
{
	struct __kernel_timespec ts = { ms / 1000, ms % 1000 * 1000000LL };
	struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&ts };
	unsigned int submit = ring->tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
	unsigned int flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_SQ_WAKEUP;
	int ret;

	/* release: the kernel reads the entries after it sees the tail */
	__atomic_store_n(ring->sq_tail, ring->tail, __ATOMIC_RELEASE);
	ret = syscall(SYS_io_uring_enter, ring->fd, submit, wait, flags, &arg, sizeof(arg));
	return ret < 0 ? -errno : ret;
}

static inline bool uring_take(struct uring *ring, struct io_uring_cqe *cqe)
{
	unsigned int head = *ring->cq_head;

	/* acquire: pairs with the kernel's release of the entry */
	if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
		return false;
	*cqe = ring->cqes[head & ring->cq_mask];
	/* release: the entry has been read */
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	return true;
}

/* The next completion; submits what is not yet. 0, -ETIME, or another error of io_uring_enter(). */
static inline int uring_next(struct uring *ring, struct io_uring_cqe *cqe, int ms)
{
	long long until = now_ns() + ms * 1000000LL;
	bool submitted = ring->tail == __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
	int ret;

	memset(cqe, 0, sizeof(*cqe));
	for (;;) {
		if (submitted && uring_take(ring, cqe))
			return 0;
		ret = uring_enter(ring, ms ? 1 : 0, ms);
		submitted = true;
		if (uring_take(ring, cqe))
			return 0;
		if (ret < 0 && ret != -EINTR && ret != -EAGAIN)
			return ret;
		if (now_ns() >= until)
			return -ETIME;
	}
}

#endif
