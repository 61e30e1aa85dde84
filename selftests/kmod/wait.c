// SPDX-License-Identifier: MIT OR GPL-2.0
/* ENTER: ringing and waiting, one at a time and together; descriptors of bells. lost.c is about their races. */
#include "kmod.h"
#include <sys/epoll.h>

FIXTURE(wait)
{
	struct node a, b;
};

FIXTURE_SETUP(wait)
{
	NEED_DEVICE();
	ASSERT_EQ(0, node_make(&self->a, "wait-a", 4, 0600));
	ASSERT_EQ(0, node_make(&self->b, "wait-b", 4, 0600));
	ASSERT_LT(0, lane_open(self->a.fd, self->b.id));
}

FIXTURE_TEARDOWN(wait)
{
	node_end(&self->a);
	node_end(&self->b);
}

/* A thread that waits on a bell, once. */
struct sleeper {
	struct node *node;
	__u32 slot, seq;
	long ms;		/* -1: for ever */
	_Atomic pid_t tid;
	_Atomic int result;	/* 1: not yet */
	pthread_t thread;
};

static void *sleeper_run(void *arg)
{
	struct sleeper *s = arg;

	atomic_store(&s->tid, own_tid());
	atomic_store(&s->result, s->ms < 0 ? bell_wait_until(s->node->fd, s->slot, s->seq, MOTE_FOREVER) :
					     bell_wait(s->node->fd, s->slot, s->seq, s->ms));
	return NULL;
}

/* Returns when it sleeps. */
static bool sleeper_start(struct sleeper *s, struct node *node, __u32 slot, long ms)
{
	*s = (struct sleeper){
		.node = node, .slot = slot, .seq = bell_seq(node->bells, slot), .ms = ms, .result = 1,
	};
	if (pthread_create(&s->thread, NULL, sleeper_run, s))
		return false;
	WITHIN(SOON_MS, atomic_load(&s->tid) && (thread_state(s->tid) == 'S' || atomic_load(&s->result) != 1));
	return atomic_load(&s->result) == 1;
}

static int sleeper_end(struct sleeper *s)
{
	pthread_join(s->thread, NULL);
	return atomic_load(&s->result);
}

TEST_F(wait, ring_counts)
{
	__u32 seq = bell_seq(self->b.bells, 1);

	for (__u32 i = 1; i <= 3; i++) {
		EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 1));
		EXPECT_EQ(seq + i, bell_seq(self->b.bells, 1));
	}
	EXPECT_EQ(0, bell_seq(self->b.bells, 0));
	EXPECT_EQ(0, bell_seq(self->b.bells, 2));
	EXPECT_EQ(0, bell_seq(self->a.bells, 1));
}

TEST_F(wait, ring_clears_parked)
{
	/* So that later ringers need not call; and nothing but that. */
	__u32 *state = &self->b.bells->bell[0].state;

	__atomic_store_n(state, MOTE_BELL_PARKED, __ATOMIC_SEQ_CST);
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(MOTE_BELL_RUNNING, bell_state(self->b.bells, 0));
	__atomic_store_n(state, MOTE_BELL_SPINNING, __ATOMIC_SEQ_CST);
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(MOTE_BELL_SPINNING, bell_state(self->b.bells, 0));
	EXPECT_EQ(2, bell_seq(self->b.bells, 0));
}

TEST_F(wait, rung_before)
{
	__u32 seq = bell_seq(self->b.bells, 0);

	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(0, bell_wait_until(self->b.fd, 0, seq, MOTE_FOREVER));
	/* Any difference will do: also of one who counts wrongly. */
	EXPECT_EQ(0, bell_wait_until(self->b.fd, 0, seq + 7, MOTE_FOREVER));
	EXPECT_EQ(0, bell_wait_until(self->b.fd, 0, seq - 1, MOTE_FOREVER));
	EXPECT_EQ(-ETIMEDOUT, bell_wait(self->b.fd, 0, seq + 1, 1));
}

TEST_F(wait, rung_while_asleep)
{
	struct sleeper s;

	for (int i = 0; i < 20; i++) {
		ASSERT_TRUE(sleeper_start(&s, &self->b, i % 4, i & 1 ? -1 : 10 * SOON_MS));
		EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, i % 4));
		EXPECT_EQ(0, sleeper_end(&s));
	}
}

TEST_F(wait, only_its_own_slot)
{
	struct sleeper s;

	ASSERT_TRUE(sleeper_start(&s, &self->b, 2, -1));
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(0, bell_ring(self->b.fd, self->a.id, i));
		if (i != 2)
			EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, i));
	}
	sleep_ms(20);
	EXPECT_EQ(1, atomic_load(&s.result));
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 2));
	EXPECT_EQ(0, sleeper_end(&s));
}

TEST_F(wait, deadlines)
{
	long long began = now_ns(), deadline = began + 30 * 1000000LL;

	EXPECT_EQ(-ETIMEDOUT, bell_wait_until(self->a.fd, 0, 0, 0));
	EXPECT_EQ(-ETIMEDOUT, bell_wait_until(self->a.fd, 0, 0, 1));
	EXPECT_EQ(-ETIMEDOUT, bell_wait_until(self->a.fd, 0, 0, began));
	EXPECT_EQ(-ETIMEDOUT, bell_wait_until(self->a.fd, 0, 0, deadline));
	EXPECT_LE(deadline, now_ns());
	EXPECT_EQ(-EINVAL, bell_wait_until(self->a.fd, 0, 0, -1));
	EXPECT_EQ(-EINVAL, bell_wait_until(self->a.fd, 0, 0, 1LL << 63));
	/* Nearly for ever is not over at once. */
	for (int i = 0; i < 2; i++) {
		struct sleeper s;

		ASSERT_TRUE(sleeper_start(&s, &self->a, i, i ? (MOTE_FOREVER - now_ns()) / 1000000 - 1000 :
							       (1LL << 60) / 1000000));
		EXPECT_EQ(0, bell_ring(self->a.fd, self->a.id, i));
		EXPECT_EQ(0, sleeper_end(&s));
	}
}

TEST_F(wait, arguments)
{
	struct mote_ring rings[MOTE_RINGS_MAX + 1];
	struct mote_enter enter = { .size = sizeof(enter) };
	struct node stranger;
	__u32 seq;

	ASSERT_EQ(0, node_make(&stranger, "", 1, 0600));
	EXPECT_EQ(-EINVAL, bell_ring(self->a.fd, self->b.id, 4));
	EXPECT_EQ(-EINVAL, bell_ring(self->a.fd, self->b.id, ~0U));
	EXPECT_EQ(-EINVAL, bell_ring(self->a.fd, self->a.id, 4));
	EXPECT_EQ(-EINVAL, bell_wait(self->a.fd, 4, 0, 0));
	EXPECT_EQ(-EINVAL, bell_wait(self->a.fd, MOTE_NO_SLOT, 0, 0));
	EXPECT_EQ(-EPERM, bell_ring(self->a.fd, stranger.id, 0));
	EXPECT_EQ(-EPERM, bell_ring(self->a.fd, self->b.id + 100000, 0));
	EXPECT_EQ(-EPERM, bell_ring(self->a.fd, 0, 0));
	/* Too many; badly placed; one wrong among many: nothing is rung. */
	for (unsigned int i = 0; i < ARRAY_SIZE(rings); i++)
		rings[i] = (struct mote_ring){ self->b.id, i % 4 };
	enter.rings = (uintptr_t)rings;
	enter.nr_rings = MOTE_RINGS_MAX + 1;
	EXPECT_EQ(-EINVAL, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	enter.nr_rings = ~0U;
	EXPECT_EQ(-EINVAL, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	enter.nr_rings = 3;
	enter.rings = 16;
	EXPECT_EQ(-EFAULT, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	enter.rings = (uintptr_t)rings;
	rings[2].node = stranger.id;
	EXPECT_EQ(-EPERM, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	rings[2] = (struct mote_ring){ self->b.id, 4 };
	EXPECT_EQ(-EINVAL, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	seq = bell_seq(self->b.bells, 0) + bell_seq(self->b.bells, 1);
	EXPECT_EQ(0, seq);
	node_end(&stranger);
}

TEST_F(wait, many_rings)
{
	struct mote_ring rings[MOTE_RINGS_MAX];
	struct mote_enter enter = {
		.size = sizeof(enter), .flags = MOTE_ENTER_RING, .ring = { self->b.id, 3 },
		.rings = (uintptr_t)rings, .nr_rings = MOTE_RINGS_MAX,
	};

	for (unsigned int i = 0; i < MOTE_RINGS_MAX; i++)
		rings[i] = (struct mote_ring){ i & 1 ? self->a.id : self->b.id, i / 2 % 2 };
	ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	EXPECT_EQ(MOTE_RINGS_MAX / 4, bell_seq(self->a.bells, 0));
	EXPECT_EQ(MOTE_RINGS_MAX / 4, bell_seq(self->a.bells, 1));
	EXPECT_EQ(MOTE_RINGS_MAX / 4, bell_seq(self->b.bells, 0));
	EXPECT_EQ(MOTE_RINGS_MAX / 4, bell_seq(self->b.bells, 1));
	EXPECT_EQ(1, bell_seq(self->b.bells, 3));
	/* Without the flag .ring is not looked at. */
	enter.flags = 0;
	enter.ring.node = ~0U;
	EXPECT_EQ(0, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	EXPECT_EQ(1, bell_seq(self->b.bells, 3));
	EXPECT_EQ(MOTE_RINGS_MAX / 2, bell_seq(self->b.bells, 1));
}

TEST_F(wait, rings_wake_many)
{
	struct sleeper s[4];
	struct mote_ring rings[4];
	struct mote_enter enter = { .size = sizeof(enter), .rings = (uintptr_t)rings, .nr_rings = 4 };

	for (int i = 0; i < 4; i++) {
		ASSERT_TRUE(sleeper_start(&s[i], &self->b, i, -1));
		rings[i] = (struct mote_ring){ self->b.id, i };
	}
	ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, sleeper_end(&s[i]));
}

TEST_F(wait, ring_and_wait_at_once)
{
	struct mote_enter enter = {
		.size = sizeof(enter), .flags = MOTE_ENTER_RING | MOTE_ENTER_WAIT, .ring = { self->a.id, 0 },
		.slot = 0, .seq = bell_seq(self->a.bells, 0), .deadline = MOTE_FOREVER,
	};
	struct sleeper s;

	/* Rings come first: ringing the bell that one waits on ends the wait. */
	EXPECT_EQ(0, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	EXPECT_EQ(1, bell_seq(self->a.bells, 0));
	/* The other is woken, also if the wait is over at once, or fails. */
	ASSERT_TRUE(sleeper_start(&s, &self->b, 1, -1));
	enter.ring = (struct mote_ring){ self->b.id, 1 };
	EXPECT_EQ(0, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	EXPECT_EQ(0, sleeper_end(&s));
	ASSERT_TRUE(sleeper_start(&s, &self->b, 1, -1));
	enter.seq = bell_seq(self->a.bells, 0);
	enter.deadline = now_ns() + 1000000;
	EXPECT_EQ(-ETIMEDOUT, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	EXPECT_EQ(0, sleeper_end(&s));
	/* A ring that is refused: no wait either. */
	enter.ring.node = self->b.id + 100000;
	enter.deadline = MOTE_FOREVER;
	EXPECT_EQ(-EPERM, call(self->a.fd, MOTE_IOC_ENTER, &enter));
	EXPECT_EQ(-ETIMEDOUT, bell_wait(self->a.fd, 0, enter.seq, 1));
}

TEST_F(wait, the_newest_waits)
{
	struct sleeper first, second;

	ASSERT_TRUE(sleeper_start(&first, &self->b, 0, -1));
	ASSERT_TRUE(sleeper_start(&second, &self->b, 0, -1));
	EXPECT_EQ(-ECANCELED, sleeper_end(&first));
	EXPECT_EQ(1, atomic_load(&second.result));
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(0, sleeper_end(&second));
	/* One that came too late to sleep takes nothing over. */
	ASSERT_TRUE(sleeper_start(&first, &self->b, 0, -1));
	EXPECT_EQ(0, bell_wait(self->b.fd, 0, first.seq - 1, SOON_MS));
	EXPECT_EQ(1, atomic_load(&first.result));
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(0, sleeper_end(&first));
}

static void nothing(int signo)
{
	(void)signo;
}

TEST_F(wait, signals)
{
	struct sigaction action = { .sa_handler = nothing };
	struct sleeper s;

	/* A handler ends it, SA_RESTART or not; what has none does not. */
	for (int flags = 0; flags < 2; flags++) {
		action.sa_flags = flags ? SA_RESTART : 0;
		sigaction(SIGUSR1, &action, NULL);
		ASSERT_TRUE(sleeper_start(&s, &self->b, 0, -1));
		pthread_kill(s.thread, SIGUSR1);
		EXPECT_EQ(-EINTR, sleeper_end(&s));
	}
	ASSERT_TRUE(sleeper_start(&s, &self->b, 0, -1));
	pthread_kill(s.thread, SIGCHLD);
	pthread_kill(s.thread, SIGWINCH);
	sleep_ms(20);
	EXPECT_EQ(1, atomic_load(&s.result));
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(0, sleeper_end(&s));
}

TEST_F(wait, stopped_and_continued)
{
	struct mote_event event;
	pid_t pid = child_start();
	__u32 id = 0;

	if (!pid) {
		struct node c;
		int err;

		if (node_make(&c, "wait-child", 1, 0600) || lane_open(c.fd, self->b.id) <= 0)
			_exit(1);
		err = bell_wait_until(c.fd, 0, 0, MOTE_FOREVER);
		_exit(err ? 2 : 0);
	}
	while (!id && !event_next(self->b.fd, &event, SOON_MS))
		if (event.node != self->a.id)
			id = event.node;
	ASSERT_NE(0, id);
	EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'S'));
	for (int i = 0; i < 3; i++) {
		kill(pid, SIGSTOP);
		EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'T'));
		kill(pid, SIGCONT);
		EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'S'));
	}
	/* Rung while stopped: awake as soon as it goes on. */
	kill(pid, SIGSTOP);
	EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'T'));
	EXPECT_EQ(0, bell_ring(self->b.fd, id, 0));
	kill(pid, SIGCONT);
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(wait, ends_with_the_node)
{
	struct sleeper s[2];

	ASSERT_TRUE(sleeper_start(&s[0], &self->b, 0, -1));
	ASSERT_TRUE(sleeper_start(&s[1], &self->b, 3, -1));
	close(dup(self->b.fd));
	EXPECT_EQ(-ESHUTDOWN, sleeper_end(&s[0]));
	EXPECT_EQ(-ESHUTDOWN, sleeper_end(&s[1]));
	/* Its peer may ring it, in vain, for as long as the lane is there. */
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
}

TEST_F(wait, no_lane_no_ring)
{
	struct mote_event event;
	__u32 seq;

	ASSERT_EQ(0, event_next(self->b.fd, &event, SOON_MS));
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(0, bell_ring(self->b.fd, self->a.id, 0));
	/* Each end counts for itself. */
	EXPECT_EQ(0, lane_close(self->b.fd, event.lane));
	EXPECT_EQ(-EPERM, bell_ring(self->b.fd, self->a.id, 0));
	EXPECT_EQ(0, lane_close(self->a.fd, event.lane));
	seq = bell_seq(self->b.bells, 0);
	EXPECT_EQ(-EPERM, bell_ring(self->a.fd, self->b.id, 0));
	/* To watch it is not enough. */
	EXPECT_EQ(0, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, self->b.id, 0));
	EXPECT_EQ(-EPERM, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(seq, bell_seq(self->b.bells, 0));
}

TEST_F(wait, seq_wraps)
{
	/* It is a number of 32 bits that comes round: nothing may be special about where. Slow to count, so few. */
	__u32 seq;

	for (int i = 0; i < 1000; i++)
		ASSERT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	seq = bell_seq(self->b.bells, 0);
	EXPECT_EQ(1000, seq);
	EXPECT_EQ(0, bell_wait_until(self->b.fd, 0, seq + (1U << 31), MOTE_FOREVER));
	EXPECT_EQ(0, bell_wait_until(self->b.fd, 0, ~0U, MOTE_FOREVER));
}

TEST_F(wait, bell_fd)
{
	struct pollfd poller = { .events = POLLIN };
	struct epoll_event ready = { .events = EPOLLIN | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC), bell;
	__u64 count = 0;

	EXPECT_EQ(-EINVAL, object_call(self->b.fd, MOTE_IOC_BELL_FD, 4, 0));
	EXPECT_EQ(-EINVAL, object_call(self->b.fd, MOTE_IOC_BELL_FD, MOTE_NO_SLOT, 0));
	ASSERT_EQ(0, bell_ring(self->a.fd, self->b.id, 2));
	bell = object_call(self->b.fd, MOTE_IOC_BELL_FD, 2, 0);
	ASSERT_LE(0, bell);
	EXPECT_EQ(FD_CLOEXEC, fcntl(bell, F_GETFD));
	poller.fd = bell;
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, bell, &ready));
	/* From its beginning on. */
	EXPECT_EQ(0, poll(&poller, 1, 0));
	EXPECT_EQ(-1, read(bell, &count, sizeof(count)));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 1));
	EXPECT_EQ(0, poll(&poller, 1, 0));
	for (int round = 1; round < 4; round++) {
		for (int i = 0; i < round; i++)
			EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 2));
		EXPECT_EQ(1, poll(&poller, 1, SOON_MS));
		EXPECT_EQ(POLLIN, poller.revents);
		EXPECT_EQ(1, epoll_wait(epoll, &ready, 1, SOON_MS));
		EXPECT_EQ(-1, read(bell, &count, 7));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, syscall(SYS_read, bell, 16L, sizeof(count)));
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(sizeof(count), read(bell, &count, sizeof(count)));
		EXPECT_EQ(round, count);
		EXPECT_EQ(0, poll(&poller, 1, 0));
		EXPECT_EQ(0, epoll_wait(epoll, &ready, 1, 0));
	}
	/* Both kinds of waiter are woken by one ring. */
	{
		struct sleeper s;

		ASSERT_TRUE(sleeper_start(&s, &self->b, 2, -1));
		EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 2));
		EXPECT_EQ(1, poll(&poller, 1, SOON_MS));
		EXPECT_EQ(0, sleeper_end(&s));
	}
	close(dup(self->b.fd));
	poller.events = 0;
	EXPECT_EQ(1, poll(&poller, 1, SOON_MS));
	EXPECT_NE(0, poller.revents & POLLHUP);
	EXPECT_EQ(-1, read(bell, &count, sizeof(count)));
	EXPECT_EQ(ESHUTDOWN, errno);
	close(bell);
	close(epoll);
}

TEST_F(wait, bell_fd_outlives_the_node)
{
	int bell = object_call(self->b.fd, MOTE_IOC_BELL_FD, 0, 0);
	struct pollfd poller = { .fd = bell, .events = POLLIN };
	__u64 count;

	ASSERT_LE(0, bell);
	node_end(&self->b);
	EXPECT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
	EXPECT_EQ(1, poll(&poller, 1, SOON_MS));
	EXPECT_EQ(-1, read(bell, &count, sizeof(count)));
	close(bell);
}

static void *poller_run(void *arg)
{
	struct pollfd poller = { .fd = *(int *)arg, .events = POLLIN };

	return (void *)(intptr_t)poll(&poller, 1, 3 * SOON_MS);
}

TEST_F(wait, bell_fd_wakes)
{
	int bell = object_call(self->b.fd, MOTE_IOC_BELL_FD, 0, 0);
	pthread_t thread;
	__u64 count;
	void *ret;

	ASSERT_LE(0, bell);
	for (int i = 0; i < 200; i++) {
		ASSERT_EQ(0, pthread_create(&thread, NULL, poller_run, &bell));
		if (i & 1)
			sched_yield();
		ASSERT_EQ(0, bell_ring(self->a.fd, self->b.id, 0));
		ASSERT_EQ(0, pthread_join(thread, &ret));
		ASSERT_EQ(1, (intptr_t)ret);
		ASSERT_EQ(sizeof(count), read(bell, &count, sizeof(count)));
		ASSERT_EQ(1, count);
	}
	close(bell);
}

TEST_HARNESS_MAIN
