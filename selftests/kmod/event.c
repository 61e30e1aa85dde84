// SPDX-License-Identifier: MIT OR GPL-2.0
/* Events: what is told to whom, once, and the ways to hear of it. Lanes opened and closed, nodes watched. */
#include "kmod.h"
#include <sys/epoll.h>

FIXTURE(event)
{
	struct node a, b;
};

FIXTURE_SETUP(event)
{
	NEED_DEVICE();
	ASSERT_EQ(0, node_make(&self->a, "event-a", 2, 0600));
	ASSERT_EQ(0, node_make(&self->b, "event-b", 2, 0600));
}

FIXTURE_TEARDOWN(event)
{
	node_end(&self->a);
	node_end(&self->b);
}

#define EXPECT_EVENT(fd, type_, node_) \
	({ \
		struct mote_event event_; \
		EXPECT_EQ(0, event_next(fd, &event_, SOON_MS)); \
		EXPECT_EQ(type_, event_.type); \
		EXPECT_EQ(node_, event_.node); \
		event_; \
	})
/* What would be told by a mistake was told by the call before: there is nothing to wait for. */
#define EXPECT_SILENCE(fd) \
	({ \
		struct mote_event event_; \
		EXPECT_EQ(-ETIMEDOUT, event_next(fd, &event_, 0)) \
			TH_LOG("event %u of node %u", event_.type, event_.node); \
	})

TEST_F(event, lane_opened)
{
	struct mote_event event;
	int lane = lane_open_sized(self->a.fd, self->b.id, 2 * DATA, 0x1122334455667788ULL);

	ASSERT_LT(0, lane);
	event = EXPECT_EVENT(self->b.fd, MOTE_EVENT_LANE_OPENED, self->a.id);
	EXPECT_EQ(lane, event.lane);
	EXPECT_EQ(0, event.why);
	EXPECT_EQ(2 * DATA, event.value);
	EXPECT_EQ(0x1122334455667788ULL, event.cookie);
	EXPECT_SILENCE(self->b.fd);
	EXPECT_SILENCE(self->a.fd);
}

TEST_F(event, lane_closed)
{
	struct mote_event event;

	/* By the writer, by the reader; each tells the other end, once. */
	for (int by_reader = 0; by_reader < 2; by_reader++) {
		struct node *first = by_reader ? &self->b : &self->a, *second = by_reader ? &self->a : &self->b;
		int lane = lane_open(self->a.fd, self->b.id);

		ASSERT_LT(0, lane);
		events_drop(self->b.fd);
		EXPECT_EQ(0, lane_close(first->fd, lane));
		EXPECT_NE(0, lane_close(first->fd, lane));
		event = EXPECT_EVENT(second->fd, MOTE_EVENT_LANE_CLOSED, first->id);
		EXPECT_EQ(lane, event.lane);
		EXPECT_EQ(0, lane_close(second->fd, lane));
		EXPECT_SILENCE(first->fd);
		EXPECT_SILENCE(second->fd);
		EXPECT_EQ(-ENOENT, lane_close(first->fd, lane));
		EXPECT_EQ(-ENOENT, lane_close(second->fd, lane));
	}
}

TEST_F(event, lane_of_others)
{
	struct node c;
	int lane = lane_open(self->a.fd, self->b.id);

	ASSERT_LT(0, lane);
	ASSERT_EQ(0, node_make(&c, "", 1, 0600));
	EXPECT_EQ(-ENOENT, lane_close(c.fd, lane));
	EXPECT_EQ(-ENOENT, lane_close(c.fd, 0));
	EXPECT_EQ(-ENOENT, lane_close(c.fd, ~0U));
	events_drop(self->b.fd);
	EXPECT_SILENCE(self->a.fd);
	EXPECT_EQ(0, lane_close(self->a.fd, lane));
	node_end(&c);
}

TEST_F(event, opened_and_closed_unread)
{
	struct mote_event event;
	int lane = lane_open(self->a.fd, self->b.id), opened = 0, closed = 0;

	ASSERT_LT(0, lane);
	ASSERT_EQ(0, lane_close(self->a.fd, lane));
	/* The reader may drain what was written meanwhile, so it hears of both, in that order. */
	while (!event_next(self->b.fd, &event, 0)) {
		EXPECT_EQ(lane, event.lane);
		if (event.type == MOTE_EVENT_LANE_OPENED)
			opened++;
		else if (event.type == MOTE_EVENT_LANE_CLOSED)
			closed += opened == 1;
	}
	EXPECT_EQ(1, opened);
	EXPECT_EQ(1, closed);
	EXPECT_EQ(0, lane_close(self->b.fd, lane));
}

TEST_F(event, watch)
{
	struct mote_event event;
	struct node c;
	__u32 id;

	ASSERT_EQ(0, node_make(&c, "event-c", 1, 0600));
	id = c.id;
	EXPECT_EQ(-ESRCH, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, id + 100000, 0));
	ASSERT_EQ(0, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, id, 0));
	/* Twice is once. */
	ASSERT_EQ(0, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, id, 0));
	ASSERT_EQ(0, object_call(self->b.fd, MOTE_IOC_NODE_WATCH, id, 0));
	ASSERT_EQ(0, object_call(self->b.fd, MOTE_IOC_NODE_WATCH, id, MOTE_WATCH_STOP));
	events_drop(self->a.fd);
	events_drop(self->b.fd);
	node_end(&c);
	event = EXPECT_EVENT(self->a.fd, MOTE_EVENT_NODE_DOWN, id);
	EXPECT_EQ(MOTE_DOWN_CLOSED, event.why);
	EXPECT_EQ(0, event.lane);
	EXPECT_SILENCE(self->a.fd);
	EXPECT_SILENCE(self->b.fd);
	EXPECT_EQ(-ESRCH, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, id, 0));
}

TEST_F(event, watch_all)
{
	struct mote_event event;
	struct node c;
	__u32 id;

	ASSERT_EQ(0, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, 0, 0));
	/* Those that are there already are told, too, or may be listed: only of newcomers it must be told. */
	events_drop(self->a.fd);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, node_make(&c, "event-c", 1, 0600));
		id = c.id;
		event = EXPECT_EVENT(self->a.fd, MOTE_EVENT_NODE_UP, id);
		EXPECT_EQ(0, event.why);
		EXPECT_SILENCE(self->a.fd);
		node_end(&c);
		event = EXPECT_EVENT(self->a.fd, MOTE_EVENT_NODE_DOWN, id);
		EXPECT_EQ(MOTE_DOWN_CLOSED, event.why);
		EXPECT_SILENCE(self->a.fd);
	}
	ASSERT_EQ(0, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, 0, MOTE_WATCH_STOP));
	ASSERT_EQ(0, node_make(&c, "event-c", 1, 0600));
	node_end(&c);
	EXPECT_SILENCE(self->a.fd);
	EXPECT_SILENCE(self->b.fd);
}

TEST_F(event, down_once_for_all_reasons)
{
	/* It shares lanes in both directions, is watched, and watched with all: one death, one event. */
	__u32 id = self->b.id;
	int lanes[3];

	ASSERT_EQ(0, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, 0, 0));
	ASSERT_EQ(0, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, id, 0));
	lanes[0] = lane_open(self->a.fd, id);
	lanes[1] = lane_open(self->b.fd, self->a.id);
	lanes[2] = lane_open(self->b.fd, self->a.id);
	for (int i = 0; i < 3; i++)
		ASSERT_LT(0, lanes[i]);
	events_drop(self->a.fd);
	node_end(&self->b);
	EXPECT_EVENT(self->a.fd, MOTE_EVENT_NODE_DOWN, id);
	EXPECT_SILENCE(self->a.fd);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, lane_close(self->a.fd, lanes[i]));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(-ENOENT, lane_close(self->a.fd, lanes[i]));
	EXPECT_SILENCE(self->a.fd);
}

TEST_F(event, order)
{
	/* Opened, by a successor of the dead: each is told in the order in which it happened. */
	struct mote_event event;
	__u32 last = 0;

	for (int i = 0; i < 20; i++) {
		struct node c;

		ASSERT_EQ(0, node_make(&c, "", 1, 0600));
		ASSERT_LT(0, lane_open_sized(c.fd, self->a.id, DATA, i));
		node_end(&c);
	}
	for (int i = 0; i < 20; i++) {
		int lane;

		ASSERT_EQ(0, event_next(self->a.fd, &event, 0));
		EXPECT_EQ(MOTE_EVENT_LANE_OPENED, event.type);
		EXPECT_EQ(i, event.cookie);
		EXPECT_LT(last, event.node);
		last = event.node;
		lane = event.lane;
		ASSERT_EQ(0, event_next(self->a.fd, &event, 0));
		EXPECT_EQ(MOTE_EVENT_NODE_DOWN, event.type);
		EXPECT_EQ(last, event.node);
		EXPECT_EQ(0, lane_close(self->a.fd, lane));
	}
	EXPECT_SILENCE(self->a.fd);
}

TEST_F(event, many_unread)
{
	/* Nobody reads for long: nothing is lost, and the node's count says how many wait. */
	const int nr = 500;
	struct mote_event events[64];
	int ups = 0, downs = 0;
	ssize_t n;

	ASSERT_EQ(0, object_call(self->a.fd, MOTE_IOC_NODE_WATCH, 0, 0));
	events_drop(self->a.fd);
	for (int i = 0; i < nr; i++) {
		struct node c;

		ASSERT_EQ(0, node_make(&c, "", 1, 0600));
		node_end(&c);
	}
	/* A node that has come and gone unseen need not be told of; else it is whole. */
	while ((n = self->a.bells->events)) {
		EXPECT_GE(2 * nr, n);
		n = read(self->a.fd, events, sizeof(events));
		ASSERT_LT(0, n);
		ASSERT_EQ(0, n % sizeof(events[0]));
		for (unsigned int i = 0; i < n / sizeof(events[0]); i++) {
			ups += events[i].type == MOTE_EVENT_NODE_UP;
			downs += events[i].type == MOTE_EVENT_NODE_DOWN;
		}
	}
	EXPECT_EQ(ups, downs);
	EXPECT_SILENCE(self->a.fd);
}

TEST_F(event, read)
{
	struct mote_event events[3];
	char small[sizeof(events[0]) - 1];
	int lanes[3];

	ASSERT_EQ(0, fcntl(self->b.fd, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(-1, read(self->b.fd, events, sizeof(events)));
	EXPECT_EQ(EAGAIN, errno);
	for (int i = 0; i < 3; i++)
		lanes[i] = lane_open_sized(self->a.fd, self->b.id, DATA, i);
	EXPECT_EQ(3, self->b.bells->events);
	EXPECT_EQ(-1, read(self->b.fd, small, sizeof(small)));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, syscall(SYS_read, self->b.fd, 16L, sizeof(events)));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(3, self->b.bells->events);
	/* Whole events, as many as fit. */
	EXPECT_EQ(sizeof(events[0]), read(self->b.fd, events, sizeof(events[0]) + 7));
	EXPECT_EQ(lanes[0], events[0].lane);
	EXPECT_EQ(2, self->b.bells->events);
	EXPECT_EQ(2 * sizeof(events[0]), read(self->b.fd, events, sizeof(events)));
	EXPECT_EQ(lanes[1], events[0].lane);
	EXPECT_EQ(lanes[2], events[1].lane);
	EXPECT_EQ(0, self->b.bells->events);
	EXPECT_EQ(-1, read(self->b.fd, events, sizeof(events)));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(-1, write(self->b.fd, events, sizeof(events)));
}

struct reader {
	int fd;
	_Atomic pid_t tid;
	ssize_t got;
	int error;
	struct mote_event event;
};

static void *reader_run(void *arg)
{
	struct reader *reader = arg;

	atomic_store(&reader->tid, own_tid());
	reader->got = read(reader->fd, &reader->event, sizeof(reader->event));
	reader->error = errno;
	return NULL;
}

#define READER_SLEEPS(reader) WITHIN(SOON_MS, atomic_load(&(reader).tid) && thread_state((reader).tid) == 'S')

TEST_F(event, read_blocks)
{
	struct reader reader = { .fd = self->b.fd };
	pthread_t thread;
	int lane;

	ASSERT_EQ(0, pthread_create(&thread, NULL, reader_run, &reader));
	EXPECT_TRUE(READER_SLEEPS(reader));
	lane = lane_open(self->a.fd, self->b.id);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(sizeof(reader.event), reader.got);
	EXPECT_EQ(MOTE_EVENT_LANE_OPENED, reader.event.type);
	EXPECT_EQ(lane, reader.event.lane);
}

TEST_F(event, read_ends_with_the_node)
{
	struct reader reader = { .fd = self->b.fd };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, reader_run, &reader));
	EXPECT_TRUE(READER_SLEEPS(reader));
	close(dup(self->b.fd));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-1, reader.got);
	EXPECT_EQ(ESHUTDOWN, reader.error);
}

TEST_F(event, poll)
{
	struct pollfd poller = { .fd = self->b.fd, .events = POLLIN };
	struct epoll_event ready = { .events = EPOLLIN | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, self->b.fd, &ready));
	EXPECT_EQ(0, poll(&poller, 1, 0));
	EXPECT_EQ(0, epoll_wait(epoll, &ready, 1, 0));
	ASSERT_LT(0, lane_open(self->a.fd, self->b.id));
	EXPECT_EQ(1, poll(&poller, 1, SOON_MS));
	EXPECT_EQ(POLLIN, poller.revents);
	EXPECT_EQ(1, epoll_wait(epoll, &ready, 1, SOON_MS));
	EXPECT_EQ(0, epoll_wait(epoll, &ready, 1, 0));
	/* Each event is an edge. */
	ASSERT_LT(0, lane_open(self->a.fd, self->b.id));
	EXPECT_EQ(1, epoll_wait(epoll, &ready, 1, SOON_MS));
	events_drop(self->b.fd);
	EXPECT_EQ(0, poll(&poller, 1, 0));
	/* The end is to be seen even by who waits for nothing. */
	poller.events = 0;
	close(dup(self->b.fd));
	EXPECT_EQ(1, poll(&poller, 1, SOON_MS));
	EXPECT_EQ(POLLHUP, poller.revents & POLLHUP);
	close(epoll);
}

TEST_F(event, rings_its_slot)
{
	struct mote_setup setup;
	struct mote_bells *bells;
	int fd = device_open(), lane;
	__u32 seq;

	setup_init(&setup, "", 4);
	setup.event_slot = 2;
	ASSERT_EQ(0, call(fd, MOTE_IOC_SETUP, &setup));
	bells = bells_map(fd, setup.node, 4, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, bells);
	for (int i = 0; i < 5; i++) {
		seq = bell_seq(bells, 2);
		lane = lane_open(self->a.fd, setup.node);
		ASSERT_LT(0, lane);
		EXPECT_NE(seq, bell_seq(bells, 2));
		seq = bell_seq(bells, 2);
		EXPECT_EQ(0, lane_close(self->a.fd, lane));
		EXPECT_NE(seq, bell_seq(bells, 2));
		EXPECT_EQ(0, bell_wait(fd, 2, seq, SOON_MS));
		EXPECT_EQ(0, lane_close(fd, lane));
	}
	EXPECT_EQ(0, bell_seq(bells, 0));
	EXPECT_EQ(0, bell_seq(bells, 1));
	EXPECT_EQ(0, bell_seq(bells, 3));
	munmap(bells, bells_length(4));
	close(fd);
}

TEST_F(event, lanes_are_limited)
{
	struct mote_query query = { .size = sizeof(query) };
	struct mote_event event;
	__u32 nr = 0;
	int lane;

	ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_QUERY, &query));
	while ((lane = lane_open(self->a.fd, self->b.id)) > 0)
		nr++;
	EXPECT_EQ(-EMLINK, lane);
	EXPECT_EQ(query.lanes_per_peer, nr);
	/* The other direction has a count of its own. */
	lane = lane_open(self->b.fd, self->a.id);
	EXPECT_LT(0, lane);
	EXPECT_EQ(0, lane_close(self->a.fd, lane));
	EXPECT_EQ(0, lane_close(self->b.fd, lane));
	EXPECT_EQ(nr, self->b.bells->events);
	/* Closed by both ends, one by one, all can be had again. */
	for (int round = 0; round < 3; round++) {
		__u32 again = 0;

		while (!event_next(self->b.fd, &event, 0)) {
			EXPECT_EQ(0, lane_close(self->a.fd, event.lane));
			EXPECT_EQ(0, lane_close(self->b.fd, event.lane));
		}
		while ((lane = lane_open(self->a.fd, self->b.id)) > 0)
			again++;
		EXPECT_EQ(nr, again);
	}
}

TEST_F(event, bytes_are_limited)
{
	/* Of one user over all its nodes; and given back: what leaks would add up to the limit. */
	struct mote_query query = { .size = sizeof(query) };
	struct node nodes[32];
	int made = 0, lane = 0, first, nr = 0;
	__u64 rounds;

	ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_QUERY, &query));
	while (made < 32 && lane != -EDQUOT) {
		ASSERT_EQ(0, node_make(&nodes[made++], "", 1, 0600));
		for (__u32 i = 0; i < query.lanes_per_peer; i++) {
			lane = lane_open_sized(nodes[made - 1].fd, self->b.id, MOTE_DATA_MAX, 0);
			if (lane == -EDQUOT)
				break;
			/* The machine may have less. */
			if (lane == -ENOMEM)
				break;
			ASSERT_LT(0, lane);
			nr++;
		}
		if (lane == -ENOMEM)
			break;
	}
	if (lane == -EDQUOT)
		EXPECT_GE(query.bytes_per_user / MOTE_DATA_MAX, nr);
	while (made)
		node_end(&nodes[--made]);
	for (struct mote_event event; !event_next(self->b.fd, &event, 0);)
		if (event.type == MOTE_EVENT_LANE_OPENED)
			lane_close(self->b.fd, event.lane);
	/* One at a time, more than the limit altogether. */
	rounds = query.bytes_per_user / MOTE_DATA_MAX + 2;
	for (__u64 i = 0; i < rounds && i < 200; i++) {
		first = lane_open_sized(self->a.fd, self->b.id, MOTE_DATA_MAX, 0);
		ASSERT_LT(0, first)
			TH_LOG("after %llu rounds: %d", i, first);
		EXPECT_EQ(0, lane_close(self->b.fd, first));
		EXPECT_EQ(0, lane_close(self->a.fd, first));
	}
}

TEST_HARNESS_MAIN
