// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The kernel's fault injection, systematically: each call is made to fail at its first allocation or copy, its
 * second, and so on, until it gets through. It fails with an error that says so, leaves nothing behind, and works the
 * next time. Needs CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC, CONFIG_FAULT_INJECTION_USERCOPY and their debugfs.
 */
#include "uring.h"

#define LIMIT	"/sys/module/mote/parameters/mbytes_per_user"

static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

FIXTURE(fault)
{
	struct node a, b;
	int nth;
	long refs;
	char limit[16];
};

static bool text_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

static bool text_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return false;
	text[n] = 0;
	return true;
}

/* Of all sizes, for whoever may wait; without a word in the log. */
static bool kinds_prepare(void)
{
	static const struct { const char *name, *value; } knobs[] = {
		{ "ignore-gfp-wait", "N" }, { "ignore-gfp-highmem", "N" }, { "min-order", "0" }, { "verbose", "0" },
		{ "probability", "0" },
	};
	char path[128];
	bool any = false;

	for (unsigned int k = 0; k < ARRAY_SIZE(kinds); k++)
		for (unsigned int i = 0; i < ARRAY_SIZE(knobs); i++) {
			snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", kinds[k], knobs[i].name);
			any |= text_write(path, knobs[i].value);
		}
	return any;
}

FIXTURE_SETUP(fault)
{
	NEED_DEVICE();
	self->nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (self->nth < 0)
		SKIP(return, "the kernel has no fault injection");
	if (!kinds_prepare())
		SKIP(return, "no debugfs of fault injection, or not root");
	if (!text_read(LIMIT, self->limit, sizeof(self->limit)))
		SKIP(return, "no parameters of the module");
	self->refs = module_refs();
	ASSERT_EQ(0, node_make(&self->a, "", 2, 0600));
	ASSERT_EQ(0, node_make(&self->b, "", 2, 0600));
}

FIXTURE_TEARDOWN(fault)
{
	node_end(&self->a);
	node_end(&self->b);
	EXPECT_TRUE(WITHIN(SOON_MS, module_refs() <= self->refs))
		TH_LOG("%ld references, %ld before", module_refs(), self->refs);
}

static void nth_set(int fd, int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", nth);
	pwrite(fd, text, strlen(text), 0);
}

/* Has it failed? And not any more from here on. Reading it is itself a copy that may fail. */
static bool nth_was_reached(int fd)
{
	char text[16] = "";
	bool left = pread(fd, text, sizeof(text) - 1, 0) <= 0 || atoi(text);

	nth_set(fd, 0);
	return !left;
}

/*
 * expression gives >= 0 or -errno; undo is what takes a success back, whose result is `ret`. Gives how many failures
 * there were.
 */
#define FAIL_EVERYWHERE(expression, undo) \
	({ \
		int failures_ = 0, ret, nth_; \
		bool reached_ = true; \
		for (nth_ = 1; reached_ && nth_ < 2000; nth_++) { \
			nth_set(self->nth, nth_); \
			ret = (expression); \
			reached_ = nth_was_reached(self->nth); \
			if (ret >= 0) { \
				undo; \
				continue; \
			} \
			failures_++; \
			EXPECT_TRUE(reached_) \
				TH_LOG("%s: %d, though nothing was made to fail", #expression, ret); \
			EXPECT_TRUE(ret == -ENOMEM || ret == -EFAULT) \
				TH_LOG("%s: %d at failure %d", #expression, ret, nth_); \
		} \
		EXPECT_GT(2000, nth_); \
		failures_; \
	})

/* How many lanes there is room for in a MiB: what a failure left charged would be missing. */
static int room(struct node *a, struct node *b)
{
	struct node more;
	int lanes = 0, lane, ids[64];

	if (!text_write(LIMIT, "1") || node_make(&more, "", 1, 0600))
		return -1;
	while (lanes < 64 && (lane = lane_open(lanes < 8 ? a->fd : more.fd, b->id)) > 0)
		ids[lanes++] = lane;
	for (int i = 0; i < lanes; i++) {
		lane_close(i < 8 ? a->fd : more.fd, ids[i]);
		lane_close(b->fd, ids[i]);
	}
	events_drop(b->fd);
	node_end(&more);
	return lane == -EDQUOT ? lanes : -2;
}

TEST_F(fault, open)
{
	int before = room(&self->a, &self->b);

	EXPECT_LT(0, before);
	EXPECT_LT(0, FAIL_EVERYWHERE(({ int fd_ = open(DEVICE, O_RDWR | O_CLOEXEC); fd_ < 0 ? -errno : fd_; }),
				     close(ret)));
	EXPECT_EQ(before, room(&self->a, &self->b));
	text_write(LIMIT, self->limit);
}

/* SETUP at its n-th failure on a file of its own; and once more if it found no memory: the file is as good as new. */
static int setup_failing(int nth_fd, int nth, bool *reached)
{
	struct mote_setup setup;
	int fd = device_open(), ret, again;

	setup_init(&setup, "fault", MOTE_SLOTS_MAX);
	nth_set(nth_fd, nth);
	ret = call(fd, MOTE_IOC_SETUP, &setup);
	*reached = nth_was_reached(nth_fd);
	if (ret == -ENOMEM) {
		again = call(fd, MOTE_IOC_SETUP, &setup);
		if (again)
			ret = -EIO;
	}
	close(fd);
	return ret;
}

TEST_F(fault, setting_up)
{
	int before = room(&self->a, &self->b), ret, failures = 0;
	bool reached = true;

	/* With somebody who is to be told of it. */
	ASSERT_EQ(0, object_call(self->b.fd, MOTE_IOC_NODE_WATCH, 0, 0));
	for (int nth = 1; reached; nth++) {
		ret = setup_failing(self->nth, nth, &reached);
		EXPECT_TRUE(reached ? ret == -ENOMEM || ret == -EFAULT || !ret : !ret)
			TH_LOG("failure %d: %d", nth, ret);
		failures += ret != 0;
		ASSERT_GT(2000, nth);
	}
	EXPECT_LT(3, failures);
	events_drop(self->b.fd);
	EXPECT_EQ(0, object_call(self->b.fd, MOTE_IOC_NODE_WATCH, 0, MOTE_WATCH_STOP));
	EXPECT_EQ(before, room(&self->a, &self->b));
	text_write(LIMIT, self->limit);
}

TEST_F(fault, lanes)
{
	int before = room(&self->a, &self->b), lane, opened = 0;
	struct mote_event event;
	size_t length = writer_length(DATA);
	void *map;

	EXPECT_LT(0, before);
	EXPECT_LT(20, FAIL_EVERYWHERE(lane_open(self->a.fd, self->b.id),
				      (lane_close(self->a.fd, ret), lane_close(self->b.fd, ret))));
	while (!event_next(self->b.fd, &event, 0)) {
		opened += event.type == MOTE_EVENT_LANE_OPENED;
		if (event.type == MOTE_EVENT_LANE_OPENED && !lane_close(self->b.fd, event.lane))
			opened--;
	}
	EXPECT_EQ(0, opened);
	EXPECT_EQ(before, room(&self->a, &self->b));
	text_write(LIMIT, self->limit);
	lane = lane_open(self->a.fd, self->b.id);
	ASSERT_LT(0, lane);
	EXPECT_LT(0, FAIL_EVERYWHERE((map = area_map(self->a.fd, MOTE_AREA_WRITER, lane, length,
						     PROT_READ | PROT_WRITE), map == MAP_FAILED ? -errno : 0),
				     munmap(map, length)));
	FAIL_EVERYWHERE((map = area_map(self->a.fd, MOTE_AREA_READER, lane, page_size(), PROT_READ),
			 map == MAP_FAILED ? -errno : 0), munmap(map, page_size()));
	FAIL_EVERYWHERE((map = bells_map(self->b.fd, self->a.id, 2, PROT_READ),
			 map == MAP_FAILED ? -errno : 0), munmap(map, bells_length(2)));
	/* Whatever failed, closing does not. */
	EXPECT_EQ(1, FAIL_EVERYWHERE(lane_close(self->a.fd, lane), break));
	EXPECT_EQ(0, lane_close(self->b.fd, lane));
}

TEST_F(fault, the_other_calls)
{
	struct mote_worker worker = { .size = sizeof(worker) };
	struct mote_worker stop = { .size = sizeof(stop), .flags = MOTE_WORKER_STOP };
	struct mote_activate_wait post = {
		.size = sizeof(post), .flags = MOTE_ACTIVATE_POST, .worker = MOTE_WORKERS_MAX,
	}, wait = { .size = sizeof(wait) };
	struct mote_node_desc desc, nodes[8];
	struct mote_node_list list = { .size = sizeof(list), .nodes = (uintptr_t)nodes };
	struct mote_query query = { .size = sizeof(query) };
	struct mote_ring rings[2] = { { self->a.id, 0 }, { self->a.id, 1 } };
	struct mote_enter enter = { .size = sizeof(enter), .rings = (uintptr_t)rings, .nr_rings = 2 };
	static __u32 word;
	int undone = 0;

	EXPECT_LT(0, FAIL_EVERYWHERE(call(self->a.fd, MOTE_IOC_QUERY, &query), (void)0));
	EXPECT_LT(0, FAIL_EVERYWHERE(node_find(self->a.fd, self->b.id, &desc), (void)0));
	EXPECT_LT(1, FAIL_EVERYWHERE((list.nr = 8, call(self->a.fd, MOTE_IOC_NODE_LIST, &list)), (void)0));
	EXPECT_LT(0, FAIL_EVERYWHERE(object_call(self->a.fd, MOTE_IOC_NODE_WATCH, self->b.id, 0),
				     object_call(self->a.fd, MOTE_IOC_NODE_WATCH, self->b.id, MOTE_WATCH_STOP)));
	EXPECT_LT(0, FAIL_EVERYWHERE(object_call(self->a.fd, MOTE_IOC_NODE_WATCH, 0, 0),
				     object_call(self->a.fd, MOTE_IOC_NODE_WATCH, 0, MOTE_WATCH_STOP)));
	events_drop(self->a.fd);
	EXPECT_LT(0, FAIL_EVERYWHERE(object_call(self->a.fd, MOTE_IOC_BELL_FD, 0, 0), close(ret)));
	EXPECT_LT(0, FAIL_EVERYWHERE(call(self->a.fd, MOTE_IOC_ENTER, &enter), (void)0));
	if (!(features() & MOTE_FEATURE_ACTIVATE))
		return;
	worker.mode = worker.want = (uintptr_t)&word;
	EXPECT_LT(0, FAIL_EVERYWHERE(call(self->a.fd, MOTE_IOC_WORKER, &worker),
				     undone += !call(self->a.fd, MOTE_IOC_WORKER, &stop)));
	/* Some failures are got over. */
	EXPECT_LE(1, undone);
	undone = 0;
	EXPECT_EQ(-ENOENT, call(self->a.fd, MOTE_IOC_WORKER, &stop));
	EXPECT_LT(0, FAIL_EVERYWHERE(call(self->a.fd, MOTE_IOC_ACTIVATE_WAIT, &post),
				     undone += !call(self->a.fd, MOTE_IOC_ACTIVATE_WAIT, &wait)));
	EXPECT_LE(1, undone);
	EXPECT_EQ(-ETIMEDOUT, call(self->a.fd, MOTE_IOC_ACTIVATE_WAIT, &wait));
}

TEST_F(fault, reading_loses_nothing)
{
	struct mote_event events[4];
	int lanes = 0, handled = 0, ret;
	bool reached = true;

	while (lanes < 4 && lane_open(self->a.fd, self->b.id) > 0)
		lanes++;
	ASSERT_EQ(4, lanes);
	ASSERT_EQ(0, fcntl(self->b.fd, F_SETFL, O_NONBLOCK));
	for (int nth = 1; reached; nth = nth % 3 + 1) {
		nth_set(self->nth, nth);
		ret = read(self->b.fd, events, sizeof(events));
		reached = nth_was_reached(self->nth);
		if (ret > 0)
			handled += ret / sizeof(events[0]);
		if (handled == lanes)
			break;
	}
	while ((ret = read(self->b.fd, events, sizeof(events))) > 0)
		handled += ret / sizeof(events[0]);
	EXPECT_EQ(lanes, handled);
}

TEST_F(fault, uring)
{
	struct uring ring;
	struct io_uring_cqe cqe;
	int err = uring_open(&ring, 8, 0), results[3] = { 0 };

	if (err)
		SKIP(return, "no io_uring");
	for (int nth = 1; nth < 12; nth++) {
		__u32 seq = bell_seq(self->a.bells, 0);

		uring_wait(&ring, 1, self->a.fd, 0, seq);
		nth_set(self->nth, nth);
		uring_enter(&ring, 0, 0);
		nth_was_reached(self->nth);
		uring_enter(&ring, 0, 0);
		ASSERT_EQ(0, bell_ring(self->a.fd, self->a.id, 0));
		/* Rung, or refused; but it comes back, once. */
		ASSERT_EQ(0, uring_next(&ring, &cqe, SOON_MS));
		results[cqe.res == 0 ? 0 : cqe.res == -ENOMEM || cqe.res == -EFAULT ? 1 : 2]++;
		EXPECT_FALSE(uring_take(&ring, &cqe));
	}
	EXPECT_EQ(0, results[2]);
	EXPECT_LT(0, results[0]);
	uring_close(&ring);
}

TEST_HARNESS_MAIN
