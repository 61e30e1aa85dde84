// SPDX-License-Identifier: MIT OR GPL-2.0
/* The bells through io_uring, in each of the ways that a ring can run its work; and the events. */
#include "uring.h"

FIXTURE(commands)
{
	struct node a, b;
	struct uring ring;
	__u64 features;
};

FIXTURE_VARIANT(commands)
{
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(commands, plain)
{
	.flags = 0,
};

FIXTURE_VARIANT_ADD(commands, coop)
{
	.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
};

FIXTURE_VARIANT_ADD(commands, defer)
{
	.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_VARIANT_ADD(commands, sqpoll)
{
	.flags = IORING_SETUP_SQPOLL,
};

FIXTURE_SETUP(commands)
{
	int err;

	NEED_DEVICE();
	self->features = features();
	if (!(self->features & MOTE_FEATURE_URING))
		SKIP(return, "the module is built without io_uring");
	err = uring_open(&self->ring, 64, variant->flags);
	if (err == -ENOSYS || err == -EINVAL || err == -EPERM)
		SKIP(return, "no io_uring of this kind: %d", err);
	ASSERT_EQ(0, err);
	ASSERT_EQ(0, node_make(&self->a, "uring-a", 4, 0600));
	ASSERT_EQ(0, node_make(&self->b, "uring-b", 4, 0600));
	ASSERT_LT(0, lane_open(self->a.fd, self->b.id));
}

FIXTURE_TEARDOWN(commands)
{
	node_end(&self->a);
	node_end(&self->b);
	uring_close(&self->ring);
}

#define EXPECT_CQE(data, result) \
	({ \
		struct io_uring_cqe cqe_; \
		ASSERT_EQ(0, uring_next(&self->ring, &cqe_, SOON_MS)); \
		EXPECT_EQ(data, cqe_.user_data); \
		EXPECT_EQ(result, cqe_.res); \
	})
/* After whatever would have completed it by mistake, and in order: a no-op that comes back alone. */
#define EXPECT_NO_CQE() \
	({ \
		struct io_uring_cqe cqe_; \
		uring_sqe(&self->ring, 0xaaaa)->opcode = IORING_OP_NOP; \
		ASSERT_EQ(0, uring_next(&self->ring, &cqe_, SOON_MS)); \
		EXPECT_EQ(0xaaaa, cqe_.user_data) \
			TH_LOG("result %d", cqe_.res); \
	})

TEST_F(commands, wait)
{
	__u32 seq;

	for (int i = 0; i < 100; i++) {
		seq = bell_seq(self->b.bells, i % 4);
		uring_wait(&self->ring, i, self->b.fd, i % 4, seq);
		EXPECT_NO_CQE();
		EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, i % 4));
		EXPECT_CQE(i, 0);
		EXPECT_EQ(seq + 1, bell_seq(self->b.bells, i % 4));
	}
}

TEST_F(commands, rung_before)
{
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	for (int i = 0; i < 10; i++) {
		uring_wait(&self->ring, i, self->b.fd, 0, bell_seq(self->b.bells, 0) - 1 - i);
		EXPECT_CQE(i, 0);
	}
}

TEST_F(commands, ring)
{
	for (__u32 flags = 0; flags <= MOTE_RING_HANDOFF; flags++) {
		__u32 seq = bell_seq(self->b.bells, 2);

		uring_ring(&self->ring, 1, self->a.fd, self->b.id, 2, flags);
		EXPECT_CQE(1, 0);
		EXPECT_EQ(seq + 1, bell_seq(self->b.bells, 2));
	}
	EXPECT_EQ(0, bell_seq(self->b.bells, 0));
}

TEST_F(commands, ring_and_wait_at_once)
{
	/* Both in one submission, between two nodes that answer each other. */
	for (int i = 0; i < 100; i++) {
		struct io_uring_cqe cqe;
		__u64 seen = 0;

		uring_wait(&self->ring, 1, self->b.fd, 0, bell_seq(self->b.bells, 0));
		uring_ring(&self->ring, 2, self->a.fd, self->b.id, 0, MOTE_RING_HANDOFF);
		for (int n = 0; n < 2; n++) {
			ASSERT_EQ(0, uring_next(&self->ring, &cqe, SOON_MS));
			EXPECT_EQ(0, cqe.res);
			seen |= 1ULL << cqe.user_data;
		}
		EXPECT_EQ(6, seen);
	}
}

TEST_F(commands, arguments)
{
	struct mote_uring_cmd c;
	struct node stranger;

	ASSERT_EQ(0, node_make(&stranger, "", 1, 0600));
#define TRY(number, result, ...) \
	({ \
		c = (struct mote_uring_cmd){ __VA_ARGS__ }; \
		uring_command(&self->ring, __LINE__, self->a.fd, number, &c); \
		EXPECT_CQE(__LINE__, result); \
	})
	TRY(MOTE_URING_WAIT, -EINVAL, .slot = 4);
	TRY(MOTE_URING_WAIT, -EINVAL, .slot = MOTE_NO_SLOT);
	TRY(MOTE_URING_WAIT, -EINVAL, .node = self->a.id);
	TRY(MOTE_URING_CANCEL, -EINVAL, .slot = 4);
	TRY(MOTE_URING_CANCEL, -EINVAL, .seq = 1);
	TRY(MOTE_URING_CANCEL, -ENOENT, .slot = 0);
	TRY(MOTE_URING_RING, -EINVAL, .node = self->b.id, .slot = 4);
	TRY(MOTE_URING_RING, -EINVAL, .node = self->b.id, .seq = 1);
	TRY(MOTE_URING_RING, -EPERM, .node = stranger.id);
	TRY(MOTE_URING_RING, -EPERM, .node = self->b.id + 100000);
	for (int bit = 0; bit < 32; bit++) {
		TRY(MOTE_URING_WAIT, -EINVAL, .flags = 1U << bit);
		TRY(MOTE_URING_CANCEL, -EINVAL, .flags = 1U << bit);
		if (!(MOTE_RING_HANDOFF & 1U << bit))
			TRY(MOTE_URING_RING, -EINVAL, .node = self->b.id, .flags = 1U << bit);
	}
	for (int number = 0; number < 256; number++)
		if (_IO(0xfb, number) < MOTE_URING_WAIT || _IO(0xfb, number) > MOTE_URING_CANCEL)
			TRY(_IO(0xfb, number), -ENOTTY, .slot = 0);
	EXPECT_EQ(0, bell_seq(self->b.bells, 0));
#undef TRY
	node_end(&stranger);
}

TEST_F(commands, before_setup)
{
	int fd = device_open();

	ASSERT_LE(0, fd);
	uring_wait(&self->ring, 1, fd, 0, 0);
	EXPECT_CQE(1, -ENXIO);
	uring_ring(&self->ring, 2, fd, self->b.id, 0, 0);
	EXPECT_CQE(2, -ENXIO);
	close(fd);
}

TEST_F(commands, cancel)
{
	uring_wait(&self->ring, 1, self->b.fd, 1, bell_seq(self->b.bells, 1));
	EXPECT_NO_CQE();
	/* Another slot's is not meant. */
	uring_cancel(&self->ring, 2, self->b.fd, 0);
	EXPECT_CQE(2, -ENOENT);
	EXPECT_NO_CQE();
	for (int i = 0, seen = 0; i < 2; i++) {
		struct io_uring_cqe cqe;

		if (!i)
			uring_cancel(&self->ring, 3, self->b.fd, 1);
		ASSERT_EQ(0, uring_next(&self->ring, &cqe, SOON_MS));
		EXPECT_EQ(cqe.user_data == 1 ? -ECANCELED : 0, cqe.res);
		seen |= 1 << cqe.user_data;
		if (i)
			EXPECT_EQ(1 << 1 | 1 << 3, seen);
	}
	uring_cancel(&self->ring, 4, self->b.fd, 1);
	EXPECT_CQE(4, -ENOENT);
	/* Rung or canceled, never both. */
	for (int i = 0; i < 100; i++) {
		struct io_uring_cqe cqe;
		int waits = 0;

		uring_wait(&self->ring, 1, self->b.fd, 1, bell_seq(self->b.bells, 1));
		uring_cancel(&self->ring, 2, self->b.fd, 1);
		if (i & 1)
			bell_ring(self->a.fd, self->b.id, 1);
		for (int n = 0; n < 2; n++) {
			ASSERT_EQ(0, uring_next(&self->ring, &cqe, SOON_MS));
			waits += cqe.user_data == 1;
		}
		EXPECT_EQ(1, waits);
		EXPECT_NO_CQE();
	}
}

TEST_F(commands, the_newest_waits)
{
	__u32 seq = bell_seq(self->b.bells, 0);

	uring_wait(&self->ring, 1, self->b.fd, 0, seq);
	EXPECT_NO_CQE();
	uring_wait(&self->ring, 2, self->b.fd, 0, seq);
	EXPECT_CQE(1, -ECANCELED);
	/* ENTER counts, too. */
	EXPECT_EQ(-ETIMEDOUT, bell_wait(self->b.fd, 0, seq, 1));
	EXPECT_CQE(2, -ECANCELED);
	uring_wait(&self->ring, 3, self->b.fd, 0, seq);
	EXPECT_NO_CQE();
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_CQE(3, 0);
}

TEST_F(commands, node_ends)
{
	for (int i = 0; i < 4; i++)
		uring_wait(&self->ring, 1, self->b.fd, i, bell_seq(self->b.bells, i));
	EXPECT_NO_CQE();
	close(dup(self->b.fd));
	for (int i = 0; i < 4; i++)
		EXPECT_CQE(1, -ESHUTDOWN);
	uring_wait(&self->ring, 2, self->b.fd, 0, 0);
	EXPECT_CQE(2, -ESHUTDOWN);
	uring_cancel(&self->ring, 3, self->b.fd, 0);
	EXPECT_CQE(3, -ESHUTDOWN);
}

TEST_F(commands, last_descriptor_goes)
{
	/* The pending command holds the file, but not the node's life. */
	uring_wait(&self->ring, 1, self->b.fd, 0, 0);
	EXPECT_NO_CQE();
	node_end(&self->b);
	EXPECT_CQE(1, -ESHUTDOWN);
}

TEST_F(commands, fixed_file)
{
	int fd = self->b.fd;
	struct io_uring_sqe *sqe;

	ASSERT_EQ(0, syscall(SYS_io_uring_register, self->ring.fd, IORING_REGISTER_FILES, &fd, 1));
	sqe = uring_command(&self->ring, 1, 0, MOTE_URING_WAIT, &(struct mote_uring_cmd){ .slot = 1, .seq = 0 });
	sqe->flags |= IOSQE_FIXED_FILE;
	EXPECT_NO_CQE();
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 1));
	EXPECT_CQE(1, 0);
	sqe = uring_command(&self->ring, 2, 0, MOTE_URING_WAIT, &(struct mote_uring_cmd){ .slot = 1, .seq = 1 });
	sqe->flags |= IOSQE_FIXED_FILE;
	EXPECT_NO_CQE();
	/* The registered one is not a descriptor: closing that is the end all the same. */
	node_end(&self->b);
	EXPECT_CQE(2, -ESHUTDOWN);
}

TEST_F(commands, linked_and_forced_async)
{
	struct io_uring_sqe *sqe;
	__u32 seq = bell_seq(self->b.bells, 0);

	/* A chain: the second is begun when the first is over. */
	uring_wait(&self->ring, 1, self->b.fd, 0, seq);
	uring_last(&self->ring)->flags |= IOSQE_IO_LINK;
	uring_ring(&self->ring, 2, self->b.fd, self->a.id, 1, 0);
	EXPECT_NO_CQE();
	EXPECT_EQ(0, bell_seq(self->a.bells, 1));
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_CQE(1, 0);
	EXPECT_CQE(2, 0);
	EXPECT_EQ(1, bell_seq(self->a.bells, 1));
	/* On a thread of the ring's. */
	for (int i = 0; i < 20; i++) {
		seq = bell_seq(self->b.bells, 0);
		sqe = uring_command(&self->ring, 3, self->b.fd, MOTE_URING_WAIT,
				    &(struct mote_uring_cmd){ .slot = 0, .seq = seq });
		sqe->flags |= IOSQE_ASYNC;
		EXPECT_LE(0, uring_enter(&self->ring, 0, 0));
		if (i & 1)
			sleep_ms(2);
		EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
		EXPECT_CQE(3, 0);
	}
	/* What nobody waits for any more does not hold the chain: node's end. */
	uring_wait(&self->ring, 4, self->b.fd, 0, bell_seq(self->b.bells, 0));
	uring_last(&self->ring)->flags |= IOSQE_IO_LINK;
	uring_ring(&self->ring, 5, self->a.fd, self->b.id, 1, 0);
	EXPECT_NO_CQE();
	close(dup(self->b.fd));
	EXPECT_CQE(4, -ESHUTDOWN);
	EXPECT_CQE(5, -ECANCELED);
}

TEST_F(commands, ring_of_another_process)
{
	/* A child inherits the io_uring, and the node's descriptor: its commands are refused. */
	if (variant->flags & (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SQPOLL))
		SKIP(return, "such a ring runs no commands for others");
	EXPECT_EQ(0, IN_CHILD(({
		struct uring own;
		struct io_uring_cqe cqe;
		int bad = 0;

		if (uring_open(&own, 8, variant->flags))
			_exit(99);
		uring_wait(&own, 1, self->b.fd, 0, 0);
		bad |= uring_next(&own, &cqe, SOON_MS) || cqe.res != -EPERM;
		uring_ring(&own, 1, self->a.fd, self->b.id, 0, 0);
		bad |= uring_next(&own, &cqe, SOON_MS) || cqe.res != -EPERM ? 2 : 0;
		uring_cancel(&own, 1, self->b.fd, 0);
		bad |= uring_next(&own, &cqe, SOON_MS) || cqe.res != -EPERM ? 4 : 0;
		bad;
	})));
	EXPECT_EQ(0, bell_seq(self->b.bells, 0));
}

TEST_F(commands, read_events)
{
	struct mote_event event;
	struct io_uring_sqe *sqe;
	struct node c;

	ASSERT_EQ(0, node_make(&c, "", 1, 0600));
	for (int i = 0; i < 10; i++) {
		int lane;

		memset(&event, 0, sizeof(event));
		sqe = uring_sqe(&self->ring, 7);
		sqe->opcode = IORING_OP_READ;
		sqe->fd = c.fd;
		sqe->addr = (uintptr_t)&event;
		sqe->len = sizeof(event);
		sqe->off = -1ULL;
		EXPECT_NO_CQE();
		lane = lane_open(self->a.fd, c.id);
		EXPECT_CQE(7, sizeof(event));
		EXPECT_EQ(MOTE_EVENT_LANE_OPENED, event.type);
		EXPECT_EQ(lane, event.lane);
		EXPECT_EQ(0, lane_close(c.fd, lane));
		EXPECT_EQ(0, lane_close(self->a.fd, lane));
	}
	/* A read that waits ends with the node. */
	sqe = uring_sqe(&self->ring, 8);
	sqe->opcode = IORING_OP_READ;
	sqe->fd = c.fd;
	sqe->addr = (uintptr_t)&event;
	sqe->len = sizeof(event);
	sqe->off = -1ULL;
	EXPECT_NO_CQE();
	close(dup(c.fd));
	EXPECT_CQE(8, -ESHUTDOWN);
	node_end(&c);
}

TEST_F(commands, poll)
{
	struct io_uring_sqe *sqe;
	int bell = object_call(self->b.fd, MOTE_IOC_BELL_FD, 3, 0);
	struct pollfd both[2] = { { self->b.fd, POLLIN, 0 }, { bell, POLLIN, 0 } };

	ASSERT_LE(0, bell);
	events_drop(self->b.fd);
	for (int i = 0; i < 2; i++) {
		sqe = uring_sqe(&self->ring, 10 + i);
		sqe->opcode = IORING_OP_POLL_ADD;
		sqe->fd = both[i].fd;
		sqe->poll32_events = POLLIN;
	}
	EXPECT_NO_CQE();
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 3));
	EXPECT_CQE(11, POLLIN);
	EXPECT_NO_CQE();
	ASSERT_LT(0, lane_open(self->a.fd, self->b.id));
	EXPECT_CQE(10, POLLIN);
	close(bell);
}

TEST_F(commands, ring_closed_with_a_wait)
{
	/* Nothing hangs, and the slot can be waited on again; by whoever. */
	struct uring again;
	struct io_uring_cqe cqe;
	__u32 seq = bell_seq(self->b.bells, 0);

	if (variant->flags & IORING_SETUP_DEFER_TASKRUN && uring_defer_asserts())
		SKIP(return, "io_uring's own assertion, under lockdep, is wrong about such a ring");
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, uring_open(&again, 8, variant->flags));
		uring_wait(&again, 1, self->b.fd, 0, seq);
		EXPECT_LE(0, uring_enter(&again, 0, 0));
		uring_close(&again);
	}
	EXPECT_EQ(-ETIMEDOUT, bell_wait(self->b.fd, 0, seq, 1));
	ASSERT_EQ(0, uring_open(&again, 8, variant->flags));
	uring_wait(&again, 1, self->b.fd, 0, seq);
	EXPECT_LE(0, uring_enter(&again, 0, 0));
	uring_close(&again);
	uring_wait(&self->ring, 2, self->b.fd, 0, seq);
	EXPECT_NO_CQE();
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	ASSERT_EQ(0, uring_next(&self->ring, &cqe, SOON_MS));
	EXPECT_EQ(2, cqe.user_data);
	EXPECT_EQ(0, cqe.res);
}

TEST_HARNESS_MAIN
