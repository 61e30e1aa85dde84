// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The shape of the calls: sizes, flags, what is reserved, pointers, numbers; then the arguments of SETUP, QUERY,
 * NODE_FIND, NODE_LIST and LANE_OPEN.
 */
#include "kmod.h"
#include <stddef.h>

union argument {
	struct mote_query query;
	struct mote_setup setup;
	struct mote_node_desc desc;
	struct mote_node_list list;
	struct mote_object object;
	struct mote_lane_open lane;
	struct mote_enter enter;
	struct mote_worker worker;
	struct mote_activate_wait activate;
	__u32 size;
	struct {
		__u32 size;
		__u32 flags;
	} head;
	char bytes[512];
};

FIXTURE(abi)
{
	struct node a, b;
	__u64 features;
};

FIXTURE_SETUP(abi)
{
	NEED_DEVICE();
	self->features = features();
	ASSERT_EQ(0, node_make(&self->a, "abi-a", 2, 0600));
	ASSERT_EQ(0, node_make(&self->b, "abi-b", 2, 0600));
}

FIXTURE_TEARDOWN(abi)
{
	node_end(&self->a);
	node_end(&self->b);
}

struct pair {
	struct node *a, *b;
};

static __u32 mode_word, want_word;
static struct mote_node_desc listed[64];

static void query_valid(struct pair *pair, union argument *arg)
{
	(void)pair;
	arg->size = sizeof(arg->query);
}

static void setup_valid(struct pair *pair, union argument *arg)
{
	(void)pair;
	setup_init(&arg->setup, "", 1);
}

static void find_valid(struct pair *pair, union argument *arg)
{
	arg->size = sizeof(arg->desc);
	arg->desc.node = pair->b->id;
}

static void list_valid(struct pair *pair, union argument *arg)
{
	(void)pair;
	arg->size = sizeof(arg->list);
	arg->list.nr = ARRAY_SIZE(listed);
	arg->list.nodes = (uintptr_t)listed;
}

static void watch_valid(struct pair *pair, union argument *arg)
{
	arg->size = sizeof(arg->object);
	arg->object.id = pair->b->id;
}

static void open_valid(struct pair *pair, union argument *arg)
{
	arg->size = sizeof(arg->lane);
	arg->lane.node = pair->b->id;
	arg->lane.data_size = DATA;
}

static void open_undo(struct pair *pair, union argument *arg)
{
	lane_close(pair->a->fd, arg->lane.lane);
	lane_close(pair->b->fd, arg->lane.lane);
}

static void close_valid(struct pair *pair, union argument *arg)
{
	arg->size = sizeof(arg->object);
	arg->object.id = lane_open(pair->a->fd, pair->b->id);
}

static void close_undo(struct pair *pair, union argument *arg)
{
	lane_close(pair->a->fd, arg->object.id);
	lane_close(pair->b->fd, arg->object.id);
}

static void enter_valid(struct pair *pair, union argument *arg)
{
	(void)pair;
	arg->size = sizeof(arg->enter);
}

static void bell_valid(struct pair *pair, union argument *arg)
{
	(void)pair;
	arg->size = sizeof(arg->object);
	arg->object.id = 1;
}

static void worker_valid(struct pair *pair, union argument *arg)
{
	(void)pair;
	arg->size = sizeof(arg->worker);
	arg->worker.mode = (uintptr_t)&mode_word;
	arg->worker.want = (uintptr_t)&want_word;
	arg->worker.mode_user = 1;
	arg->worker.worker = 3;
}

static void worker_undo(struct pair *pair, union argument *arg)
{
	struct mote_worker stop = { .size = sizeof(stop), .flags = MOTE_WORKER_STOP };

	(void)arg;
	call(pair->a->fd, MOTE_IOC_WORKER, &stop);
}

static void activate_valid(struct pair *pair, union argument *arg)
{
	(void)pair;
	arg->size = sizeof(arg->activate);
	arg->activate.deadline = 1;
}

#ifndef MOTE_ACTIVATE_POST
#define MOTE_ACTIVATE_POST	0
#endif
#define NO_FIELD	(-1)
#define BELL_GIVES	1000	/* a descriptor */

static const struct call {
	const char *name;
	unsigned long number;
	size_t size;
	__u32 flags;	/* known ones */
	int reserved;	/* where, or NO_FIELD */
	int result;	/* of a valid call */
	bool out;	/* writes what it was given */
	void (*valid)(struct pair *pair, union argument *arg);
	void (*undo)(struct pair *pair, union argument *arg);
	__u64 feature;
} calls[] = {
	{ "QUERY", MOTE_IOC_QUERY, sizeof(struct mote_query), 0, NO_FIELD, 0, true, query_valid, NULL, 0 },
	{ "SETUP", MOTE_IOC_SETUP, sizeof(struct mote_setup), 0, NO_FIELD, 0, true, setup_valid, NULL, 0 },
	{ "NODE_FIND", MOTE_IOC_NODE_FIND, sizeof(struct mote_node_desc), 0,
	  offsetof(struct mote_node_desc, reserved), 0, true, find_valid, NULL, 0 },
	{ "NODE_LIST", MOTE_IOC_NODE_LIST, sizeof(struct mote_node_list), 0, NO_FIELD, 0, true, list_valid, NULL, 0 },
	{ "NODE_WATCH", MOTE_IOC_NODE_WATCH, sizeof(struct mote_object), MOTE_WATCH_STOP,
	  offsetof(struct mote_object, reserved), 0, false, watch_valid, NULL, 0 },
	{ "LANE_OPEN", MOTE_IOC_LANE_OPEN, sizeof(struct mote_lane_open), 0,
	  NO_FIELD, 0, true, open_valid, open_undo, 0 },
	{ "LANE_CLOSE", MOTE_IOC_LANE_CLOSE, sizeof(struct mote_object), 0,
	  offsetof(struct mote_object, reserved), 0, false, close_valid, close_undo, 0 },
	{ "ENTER", MOTE_IOC_ENTER, sizeof(struct mote_enter), MOTE_ENTER_RING | MOTE_ENTER_WAIT,
	  offsetof(struct mote_enter, reserved), 0, false, enter_valid, NULL, 0 },
	{ "BELL_FD", MOTE_IOC_BELL_FD, sizeof(struct mote_object), 0,
	  offsetof(struct mote_object, reserved), BELL_GIVES, false, bell_valid, NULL, 0 },
	{ "WORKER", MOTE_IOC_WORKER, sizeof(struct mote_worker), MOTE_WORKER_STOP,
	  NO_FIELD, 0, false, worker_valid, worker_undo, MOTE_FEATURE_ACTIVATE },
	{ "ACTIVATE_WAIT", MOTE_IOC_ACTIVATE_WAIT, sizeof(struct mote_activate_wait), MOTE_ACTIVATE_POST,
	  offsetof(struct mote_activate_wait, reserved), -ETIMEDOUT, false, activate_valid, NULL,
	  MOTE_FEATURE_ACTIVATE },
};

/*
 * One call with an argument of its own: on `a`, but for SETUP on a new file. The result of a call that succeeds is
 * undone; a descriptor that it gives is closed and counts as BELL_GIVES.
 */
static int try_at(const struct call *c, struct pair *pair, union argument *valid, void *where)
{
	bool setup = c->number == MOTE_IOC_SETUP;
	int fd = setup ? device_open() : pair->a->fd;
	int ret = call(fd, c->number, where);

	if (setup)
		close(fd);
	if (c->result == BELL_GIVES && ret >= 0) {
		close(ret);
		ret = BELL_GIVES;
	}
	if (c->undo) {
		if (!ret && c->out)
			memcpy(valid, where, c->size);
		c->undo(pair, valid);
	}
	events_drop(pair->a->fd);
	events_drop(pair->b->fd);
	return ret;
}

static int try(const struct call *c, struct pair *pair, union argument *arg)
{
	return try_at(c, pair, arg, arg);
}

/* A valid argument for each call in turn, unless this kernel has not got the call. */
#define FOR_EACH_CALL(c, arg) \
	struct pair pair = { &self->a, &self->b }; \
	union argument arg; \
	for (const struct call *c = calls; c < calls + ARRAY_SIZE(calls); c++) \
		if (!c->feature || self->features & c->feature)

static void fresh(const struct call *c, struct pair *pair, union argument *arg)
{
	memset(arg, 0, sizeof(*arg));
	c->valid(pair, arg);
}

TEST_F(abi, valid_calls)
{
	FOR_EACH_CALL(c, arg) {
		fresh(c, &pair, &arg);
		EXPECT_EQ(c->result, try(c, &pair, &arg))
			TH_LOG("%s", c->name);
		if (c->number != MOTE_IOC_QUERY)
			EXPECT_EQ(c->size, arg.size);
	}
}

TEST_F(abi, too_small)
{
	FOR_EACH_CALL(c, arg) {
		__u32 sizes[] = { 0, 1, 4, 7, c->size - 8, c->size - 1 };

		for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
			fresh(c, &pair, &arg);
			arg.size = sizes[i];
			EXPECT_EQ(-EINVAL, try(c, &pair, &arg))
				TH_LOG("%s of %u bytes", c->name, sizes[i]);
		}
	}
}

TEST_F(abi, from_the_future)
{
	/* A newer program, which uses nothing that is new; and one that does. */
	FOR_EACH_CALL(c, arg) {
		for (unsigned int more = 1; more <= 64; more += 7) {
			fresh(c, &pair, &arg);
			arg.size += more;
			EXPECT_EQ(c->result, try(c, &pair, &arg))
				TH_LOG("%s with %u bytes more", c->name, more);
			for (unsigned int at = 0; at < more; at += 3) {
				fresh(c, &pair, &arg);
				arg.size += more;
				arg.bytes[c->size + at] = 1;
				EXPECT_EQ(-E2BIG, try(c, &pair, &arg))
					TH_LOG("%s, byte %u of %u more", c->name, at, more);
			}
		}
	}
}

TEST_F(abi, huge_sizes)
{
	/* What is beyond the argument is not ours: no such call may do anything. */
	size_t length = 2 * page_size();
	char *page = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, munmap(page + length / 2, length / 2));
	FOR_EACH_CALL(c, arg) {
		__u32 sizes[] = { length / 2 + 1, 1U << 20, 1U << 31, ~0U };

		for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
			int ret;

			memset(page, 0, length / 2);
			fresh(c, &pair, &arg);
			memcpy(page, &arg, c->size);
			*(__u32 *)page = sizes[i];
			ret = try_at(c, &pair, &arg, page);
			EXPECT_TRUE(ret == -E2BIG || ret == -EFAULT || ret == -EINVAL)
				TH_LOG("%s of %u bytes: %d", c->name, sizes[i], ret);
		}
	}
	munmap(page, length / 2);
}

TEST_F(abi, unknown_flags)
{
	FOR_EACH_CALL(c, arg) {
		for (int bit = 0; bit < 32; bit++) {
			if (c->flags & 1U << bit)
				continue;
			fresh(c, &pair, &arg);
			arg.head.flags |= 1U << bit;
			EXPECT_EQ(-EINVAL, try(c, &pair, &arg))
				TH_LOG("%s, flag %d", c->name, bit);
		}
	}
}

TEST_F(abi, reserved)
{
	FOR_EACH_CALL(c, arg) {
		for (int bit = 0; bit < 32 && c->reserved != NO_FIELD; bit++) {
			fresh(c, &pair, &arg);
			*(__u32 *)(arg.bytes + c->reserved) = 1U << bit;
			EXPECT_EQ(-EINVAL, try(c, &pair, &arg))
				TH_LOG("%s, reserved bit %d", c->name, bit);
		}
	}
}

TEST_F(abi, bad_pointers)
{
	size_t page = page_size();
	char *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, two);
	ASSERT_EQ(0, mprotect(two + page, page, PROT_NONE));
	FOR_EACH_CALL(c, arg) {
		fresh(c, &pair, &arg);
		EXPECT_EQ(-EFAULT, try_at(c, &pair, &arg, NULL))
			TH_LOG("%s", c->name);
		EXPECT_EQ(-EFAULT, try_at(c, &pair, &arg, (void *)(~0UL - 4096)))
			TH_LOG("%s", c->name);
		/* Cut short after each field. */
		for (size_t cut = 4; cut < c->size; cut += 4) {
			fresh(c, &pair, &arg);
			memcpy(two + page - cut, &arg, cut);
			EXPECT_EQ(-EFAULT, try_at(c, &pair, &arg, two + page - cut))
				TH_LOG("%s cut after %zu bytes", c->name, cut);
		}
	}
	munmap(two, 2 * page);
}

TEST_F(abi, result_nowhere_to_put)
{
	/* A call that can't say what it did must not have done it. */
	size_t page = page_size();
	char *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, memory);
	FOR_EACH_CALL(c, arg) {
		struct mote_event event;
		int opened = 0;

		if (!c->out)
			continue;
		fresh(c, &pair, &arg);
		ASSERT_EQ(0, mprotect(memory, page, PROT_READ | PROT_WRITE));
		memcpy(memory, &arg, c->size);
		ASSERT_EQ(0, mprotect(memory, page, PROT_READ));
		if (c->number != MOTE_IOC_LANE_OPEN) {
			EXPECT_EQ(-EFAULT, try_at(c, &pair, &arg, memory))
				TH_LOG("%s", c->name);
			continue;
		}
		EXPECT_EQ(-EFAULT, call(self->a.fd, c->number, memory));
		while (!event_next(self->b.fd, &event, 0)) {
			opened += event.type == MOTE_EVENT_LANE_OPENED;
			opened -= event.type == MOTE_EVENT_LANE_CLOSED;
		}
		EXPECT_EQ(0, opened);
	}
	munmap(memory, page);
}

TEST_F(abi, unknown_calls)
{
	union argument arg = { .size = sizeof(arg) };

	for (int number = 0; number < 256; number++) {
		bool known = false;

		for (unsigned int i = 0; i < ARRAY_SIZE(calls); i++)
			known |= calls[i].number == _IO(0xfb, number);
		if (!known)
			EXPECT_EQ(-ENOTTY, call(self->a.fd, _IO(0xfb, number), &arg))
				TH_LOG("number %d", number);
	}
	EXPECT_EQ(-ENOTTY, call(self->a.fd, _IO(0xfa, 0), &arg));
	EXPECT_EQ(-ENOTTY, call(self->a.fd, _IOWR(0xfb, 0, struct mote_query), &arg));
}

TEST_F(abi, before_setup)
{
	int fd = device_open();
	struct mote_event event;

	ASSERT_LE(0, fd);
	FOR_EACH_CALL(c, arg) {
		int ret;

		if (c->number == MOTE_IOC_SETUP)
			continue;
		fresh(c, &pair, &arg);
		ret = call(fd, c->number, &arg);
		EXPECT_EQ(c->number == MOTE_IOC_QUERY ? 0 : -ENXIO, ret)
			TH_LOG("%s", c->name);
		if (c->undo)
			c->undo(&pair, &arg);
	}
	EXPECT_EQ(-1, read(fd, &event, sizeof(event)));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(MAP_FAILED, bells_map(fd, self->a.id, 1, PROT_READ));
	close(fd);
}

TEST_F(abi, after_the_end)
{
	/* Closing a duplicate is the node's death, and what is left of it says so. */
	struct mote_event event;
	int fd = dup(self->a.fd);

	ASSERT_LE(0, fd);
	close(fd);
	FOR_EACH_CALL(c, arg) {
		int ret;

		if (c->number == MOTE_IOC_SETUP || c->number == MOTE_IOC_QUERY)
			continue;
		fresh(c, &pair, &arg);
		ret = call(self->a.fd, c->number, &arg);
		EXPECT_EQ(-ESHUTDOWN, ret)
			TH_LOG("%s", c->name);
	}
	EXPECT_EQ(-1, read(self->a.fd, &event, sizeof(event)));
	EXPECT_EQ(ESHUTDOWN, errno);
	EXPECT_EQ(MAP_FAILED, bells_map(self->a.fd, self->a.id, 2, PROT_READ));
	EXPECT_EQ(MOTE_DOWN_CLOSED, self->a.bells->down);
}

TEST_F(abi, query)
{
	struct mote_query query = { .size = sizeof(query) };
	int fd = device_open();

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, call(fd, MOTE_IOC_QUERY, &query));
	EXPECT_EQ(sizeof(query), query.size);
	EXPECT_EQ(MOTE_ABI_VERSION, query.version);
	EXPECT_EQ(0, query.flags);
	/* Never unlimited. */
	EXPECT_LT(0, query.nodes_per_user);
	EXPECT_GT(1U << 20, query.nodes_per_user);
	EXPECT_LT(0, query.lanes_per_node);
	EXPECT_GT(1U << 20, query.lanes_per_node);
	EXPECT_LT(0, query.lanes_per_peer);
	EXPECT_GE(query.lanes_per_node, query.lanes_per_peer);
	EXPECT_LE(MOTE_DATA_MIN, query.bytes_per_user);
	EXPECT_GT(1ULL << 48, query.bytes_per_user);
	EXPECT_EQ(0, query.features & ~(MOTE_FEATURE_ACTIVATE | MOTE_FEATURE_URING | MOTE_FEATURE_URING_CANCEL |
					MOTE_FEATURE_HANDOFF));
	close(fd);
}

static int setup_try(struct mote_setup *setup)
{
	int fd = device_open(), err = call(fd, MOTE_IOC_SETUP, setup);

	close(fd);
	return err;
}

TEST_F(abi, setup_arguments)
{
	struct mote_setup setup;
	static const __u32 modes[] = { 0600, 0660, 0606, 0666 };
	static const __u32 halves[] = { 0, 0060, 0066, 0200, 0400, 0620, 0640, 0602, 0604, 0664 };

	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		setup_init(&setup, "", 1);
		setup.mode = modes[i];
		EXPECT_EQ(0, setup_try(&setup))
			TH_LOG("mode %#o", modes[i]);
	}
	/* Reaching is one thing: there is no half of it. */
	for (unsigned int i = 0; i < ARRAY_SIZE(halves); i++) {
		setup_init(&setup, "", 1);
		setup.mode = halves[i];
		EXPECT_EQ(-EINVAL, setup_try(&setup))
			TH_LOG("mode %#o", halves[i]);
	}
	for (int bit = 0; bit < 32; bit++) {
		setup_init(&setup, "", 1);
		setup.mode |= 1U << bit;
		if (!(0666 & 1U << bit))
			EXPECT_EQ(-EINVAL, setup_try(&setup))
				TH_LOG("mode %#o", setup.mode);
	}
	setup_init(&setup, "", 0);
	EXPECT_EQ(-EINVAL, setup_try(&setup));
	setup_init(&setup, "", MOTE_SLOTS_MAX);
	EXPECT_EQ(0, setup_try(&setup));
	setup_init(&setup, "", MOTE_SLOTS_MAX + 1);
	EXPECT_EQ(-EINVAL, setup_try(&setup));
	setup_init(&setup, "", ~0U);
	EXPECT_EQ(-EINVAL, setup_try(&setup));
	setup_init(&setup, "", 4);
	setup.event_slot = 3;
	EXPECT_EQ(0, setup_try(&setup));
	setup.event_slot = 4;
	EXPECT_EQ(-EINVAL, setup_try(&setup));
}

TEST_F(abi, setup_once)
{
	struct mote_setup setup;
	struct mote_node_desc desc;

	setup_init(&setup, "abi-again", 1);
	EXPECT_EQ(-EBUSY, call(self->a.fd, MOTE_IOC_SETUP, &setup));
	EXPECT_EQ(-ESRCH, name_find(self->a.fd, "abi-again", &desc));
	EXPECT_EQ(0, node_find(self->a.fd, self->a.id, &desc));
	EXPECT_STREQ("abi-a", desc.name);
}

TEST_F(abi, names)
{
	struct mote_setup setup;
	struct mote_node_desc desc;
	struct node again;

	for (int c = 1; c < 256; c++) {
		bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			    c == '_' || c == '.' || c == '-';

		setup_init(&setup, "abi-x?y", 1);
		setup.name[5] = c;
		EXPECT_EQ(fine ? 0 : -EINVAL, setup_try(&setup))
			TH_LOG("character %d", c);
	}
	/* 63 bytes and the NUL; nothing after the NUL. */
	setup_init(&setup, "", 1);
	memset(setup.name, 'n', sizeof(setup.name) - 1);
	EXPECT_EQ(0, setup_try(&setup));
	memset(setup.name, 'n', sizeof(setup.name));
	EXPECT_EQ(-EINVAL, setup_try(&setup));
	setup_init(&setup, "abi-z", 1);
	setup.name[sizeof(setup.name) - 1] = 'x';
	EXPECT_EQ(-EINVAL, setup_try(&setup));
	setup_init(&setup, "", 1);
	setup.name[1] = 'x';
	EXPECT_EQ(-EINVAL, setup_try(&setup));

	/* One live node of a name; any number of none. */
	EXPECT_EQ(-EEXIST, node_make(&again, "abi-a", 1, 0600));
	node_end(&again);
	EXPECT_EQ(0, name_find(self->b.fd, "abi-a", &desc));
	EXPECT_EQ(self->a.id, desc.node);
	node_end(&self->a);
	EXPECT_EQ(-ESRCH, name_find(self->b.fd, "abi-a", &desc));
	EXPECT_EQ(0, node_make(&again, "abi-a", 1, 0600));
	EXPECT_EQ(0, name_find(self->b.fd, "abi-a", &desc));
	EXPECT_EQ(again.id, desc.node);
	node_end(&again);
}

TEST_F(abi, ids_ascend)
{
	__u32 last = self->b.id;
	struct node node;

	EXPECT_LT(self->a.id, self->b.id);
	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(0, node_make(&node, "", 1, 0600));
		EXPECT_LT(last, node.id);
		EXPECT_GT(1U << 31, node.id);
		last = node.id;
		node_end(&node);
	}
}

TEST_F(abi, nodes_per_user)
{
	struct mote_query query = { .size = sizeof(query) };
	struct mote_setup setup;
	__u32 nr = 0;
	int *fds, err = 0;

	ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_QUERY, &query));
	if (query.nodes_per_user > 900)
		SKIP(return, "a user may have %u nodes, which needs more descriptors", query.nodes_per_user);
	fds = calloc(query.nodes_per_user + 1, sizeof(*fds));
	while (nr <= query.nodes_per_user) {
		fds[nr] = device_open();
		ASSERT_LE(0, fds[nr]);
		setup_init(&setup, "", 1);
		err = call(fds[nr++], MOTE_IOC_SETUP, &setup);
		if (err)
			break;
	}
	EXPECT_EQ(-EUSERS, err);
	/* The fixture's two, and whatever else runs here; the last one of nr did not succeed. */
	EXPECT_GE(query.nodes_per_user - 1, nr);
	for (int round = 0; round < 2; round++) {
		/* One goes, and one may come. */
		close(fds[0]);
		fds[0] = device_open();
		EXPECT_EQ(0, call(fds[0], MOTE_IOC_SETUP, &setup));
		EXPECT_EQ(-EUSERS, call(fds[nr - 1], MOTE_IOC_SETUP, &setup));
	}
	while (nr)
		close(fds[--nr]);
	free(fds);
}

TEST_F(abi, find)
{
	struct mote_node_desc desc;
	struct node nameless;

	ASSERT_EQ(0, node_find(self->a.fd, self->b.id, &desc));
	EXPECT_EQ(self->b.id, desc.node);
	EXPECT_EQ(getuid(), desc.uid);
	EXPECT_EQ(getpid(), desc.pid);
	EXPECT_EQ(0600, desc.mode);
	EXPECT_EQ(2, desc.nr_slots);
	EXPECT_EQ(0, desc.reserved);
	EXPECT_STREQ("abi-b", desc.name);
	/* By its user's number, too; of itself; and not by another's. */
	memset(&desc, 0, sizeof(desc));
	desc.size = sizeof(desc);
	desc.uid = getuid();
	strcpy(desc.name, "abi-a");
	EXPECT_EQ(0, call(self->a.fd, MOTE_IOC_NODE_FIND, &desc));
	EXPECT_EQ(self->a.id, desc.node);
	memset(&desc, 0, sizeof(desc));
	desc.size = sizeof(desc);
	desc.uid = getuid() + 12345;
	strcpy(desc.name, "abi-a");
	EXPECT_EQ(-ESRCH, call(self->a.fd, MOTE_IOC_NODE_FIND, &desc));

	EXPECT_EQ(-ESRCH, name_find(self->a.fd, "abi-c", &desc));
	EXPECT_EQ(-ESRCH, name_find(self->a.fd, "abi-", &desc));
	EXPECT_EQ(-ESRCH, node_find(self->a.fd, self->b.id + 100000, &desc));
	EXPECT_EQ(-ESRCH, node_find(self->a.fd, 1U << 31 | self->b.id, &desc));

	/* The empty name is nobody's. */
	ASSERT_EQ(0, node_make(&nameless, "", 1, 0600));
	EXPECT_NE(0, name_find(self->a.fd, "", &desc));
	EXPECT_EQ(0, node_find(self->a.fd, nameless.id, &desc));
	EXPECT_STREQ("", desc.name);
	node_end(&nameless);
	EXPECT_EQ(-ESRCH, node_find(self->a.fd, nameless.id, &desc));
}

TEST_F(abi, list)
{
	struct mote_node_desc nodes[8];
	struct mote_node_list list = { .size = sizeof(list), .nr = 8, .nodes = (uintptr_t)nodes };
	struct node more[3];
	__u32 first = self->a.id - 1;

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, node_make(&more[i], "", i + 1, 0600));
	list.after = first;
	ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_NODE_LIST, &list));
	ASSERT_EQ(5, list.nr);
	EXPECT_EQ(self->a.id, nodes[0].node);
	EXPECT_STREQ("abi-a", nodes[0].name);
	EXPECT_STREQ("abi-b", nodes[1].name);
	for (__u32 i = 0; i < list.nr; i++) {
		EXPECT_EQ(sizeof(nodes[i]), nodes[i].size);
		EXPECT_EQ(getuid(), nodes[i].uid);
		EXPECT_EQ(getpid(), nodes[i].pid);
		EXPECT_EQ(0, nodes[i].flags);
		EXPECT_EQ(0, nodes[i].reserved);
		if (i)
			EXPECT_LT(nodes[i - 1].node, nodes[i].node);
	}
	/* In portions, without loss. */
	list.after = first;
	for (int i = 0; i < 5; i++) {
		list.nr = 1;
		memset(&nodes[1], 0xee, sizeof(nodes[1]));
		ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_NODE_LIST, &list));
		ASSERT_EQ(1, list.nr);
		EXPECT_LT(list.after, nodes[0].node);
		EXPECT_EQ(0xeeeeeeee, nodes[1].size);
		list.after = nodes[0].node;
	}
	list.nr = 1;
	ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_NODE_LIST, &list));
	EXPECT_EQ(0, list.nr);
	/* No room is no error; bad room is one. */
	list.after = first;
	list.nr = 0;
	EXPECT_EQ(0, call(self->a.fd, MOTE_IOC_NODE_LIST, &list));
	EXPECT_EQ(0, list.nr);
	list.nr = 8;
	list.nodes = 16;
	EXPECT_EQ(-EFAULT, call(self->a.fd, MOTE_IOC_NODE_LIST, &list));
	list.nr = ~0U;
	list.nodes = (uintptr_t)nodes;
	list.after = more[0].id;
	EXPECT_EQ(0, call(self->a.fd, MOTE_IOC_NODE_LIST, &list));
	EXPECT_EQ(2, list.nr);
	for (int i = 0; i < 3; i++)
		node_end(&more[i]);
}

TEST_F(abi, lane_arguments)
{
	struct mote_lane_open open = { .size = sizeof(open), .node = self->b.id };
	static const __u64 bad[] = {
		0, 1, MOTE_DATA_MIN / 2, MOTE_DATA_MIN - 1, MOTE_DATA_MIN + 1, 3ULL << 16, MOTE_DATA_MAX - 1,
		2ULL * MOTE_DATA_MAX, 1ULL << 32, (1ULL << 32) + MOTE_DATA_MIN, 1ULL << 63, ~0ULL,
	};
	int lane;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		open.data_size = bad[i];
		EXPECT_EQ(-EINVAL, call(self->a.fd, MOTE_IOC_LANE_OPEN, &open))
			TH_LOG("data size %#llx", bad[i]);
	}
	for (__u64 size = MOTE_DATA_MIN; size <= MOTE_DATA_MAX; size *= 2) {
		lane = lane_open_sized(self->a.fd, self->b.id, size, 0);
		EXPECT_LE(0, lane)
			TH_LOG("data size %#llx: %d", size, lane);
		lane_close(self->a.fd, lane);
		lane_close(self->b.fd, lane);
	}
	EXPECT_EQ(-ESRCH, lane_open(self->a.fd, self->b.id + 100000));
	EXPECT_EQ(-ESRCH, lane_open(self->a.fd, 0));
	EXPECT_GT(0, lane_open(self->a.fd, self->a.id));
	EXPECT_EQ(0, events_drop(self->a.fd));
}

TEST_HARNESS_MAIN
