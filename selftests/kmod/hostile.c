// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Hostile programs: scribbled pages, floods, races of calls with each other's ends; and a fuzzer with a seed. What is
 * expected is that the kernel stands, says nothing, and serves the next one.
 *   MOTE_TEST_ROUNDS  of 100,000 calls of the fuzzer    MOTE_TEST_SEED  where it begins (1)
 */
#include "uring.h"

FIXTURE(hostile)
{
	struct node a, b;
	long refs;
	__u64 features;
};

FIXTURE_SETUP(hostile)
{
	NEED_DEVICE();
	self->refs = module_refs();
	self->features = features();
	ASSERT_EQ(0, node_make(&self->a, "hostile-a", 2, 0600));
	ASSERT_EQ(0, node_make(&self->b, "hostile-b", 2, 0600));
}

FIXTURE_TEARDOWN(hostile)
{
	node_end(&self->a);
	node_end(&self->b);
	EXPECT_TRUE(WITHIN(SOON_MS, module_refs() <= self->refs))
		TH_LOG("%ld references, %ld before", module_refs(), self->refs);
}

/* Two new nodes meet, ring, write, and part. 0, or where it failed. */
static int still_serves(void)
{
	struct mote_event event;
	struct node c, d;
	int lane;
	char *map;

	if (node_make(&c, "", 1, 0600) || node_make(&d, "", 1, 0600))
		return 1;
	lane = lane_open(c.fd, d.id);
	if (lane <= 0)
		return 2;
	if (event_next(d.fd, &event, SOON_MS) || event.type != MOTE_EVENT_LANE_OPENED || event.lane != lane)
		return 3;
	map = area_map(c.fd, MOTE_AREA_WRITER, lane, writer_length(DATA), PROT_READ | PROT_WRITE);
	if (map == MAP_FAILED)
		return 4;
	for (size_t i = 0; i < writer_length(DATA); i += 512)
		if (map[i])
			return 5;
	munmap(map, writer_length(DATA));
	if (bell_ring(c.fd, d.id, 0) || bell_wait(d.fd, 0, 0, SOON_MS) || bell_seq(d.bells, 0) != 1)
		return 6;
	if (bell_wait(d.fd, 0, 1, 0) != -ETIMEDOUT)
		return 7;
	node_end(&c);
	if (event_next(d.fd, &event, SOON_MS) || event.type != MOTE_EVENT_NODE_DOWN)
		return 8;
	node_end(&d);
	return 0;
}

TEST_F(hostile, scribbled_bells)
{
	/* A node may write what it likes into its own page: the kernel's own numbers are elsewhere. */
	struct mote_bells *bells = self->a.bells;
	size_t length = bells_length(2);
	struct mote_node_desc desc;
	struct mote_event event;

	ASSERT_LT(0, lane_open(self->b.fd, self->a.id));
	for (int pattern = 0; pattern < 4; pattern++) {
		__u32 seq = pattern;

		memset(bells, (int[]){ 0xff, 0, 0x7f, 0xa5 }[pattern], length);
		/* As many rings as there were, whatever the page says. */
		EXPECT_EQ(0, bell_wait(self->a.fd, 0, seq + 1000, SOON_MS));
		EXPECT_EQ(-ETIMEDOUT, bell_wait(self->a.fd, 0, seq, 1));
		EXPECT_EQ(0, bell_ring(self->b.fd, self->a.id, 0));
		EXPECT_EQ(seq + 1, bell_seq(bells, 0));
		EXPECT_EQ(0, bell_wait(self->a.fd, 0, seq, SOON_MS));
		EXPECT_EQ(0, node_find(self->b.fd, self->a.id, &desc));
		EXPECT_EQ(self->a.id, desc.node);
		EXPECT_EQ(2, desc.nr_slots);
		EXPECT_EQ(-EINVAL, bell_ring(self->b.fd, self->a.id, 2));
	}
	/* Not alive by its own word, nor dead. */
	bells->down = MOTE_DOWN_EXIT;
	EXPECT_EQ(0, bell_ring(self->a.fd, self->a.id, 1));
	bells->events = 99;
	EXPECT_EQ(0, event_next(self->a.fd, &event, 0));
	EXPECT_EQ(-ETIMEDOUT, event_next(self->a.fd, &event, 0));
	EXPECT_EQ(0, bells->events);
	EXPECT_EQ(0, still_serves());
}

TEST_F(hostile, unmapped_under_the_ringer)
{
	struct mote_bells *bells = self->a.bells;

	ASSERT_LT(0, lane_open(self->b.fd, self->a.id));
	munmap(bells, bells_length(2));
	EXPECT_EQ(0, bell_ring(self->b.fd, self->a.id, 1));
	EXPECT_EQ(0, bell_wait(self->a.fd, 1, 0, SOON_MS));
	bells = bells_map(self->a.fd, self->a.id, 2, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, bells);
	EXPECT_EQ(1, bell_seq(bells, 1));
	self->a.bells = bells;
	EXPECT_EQ(0, still_serves());
}

TEST_F(hostile, advised)
{
	/* madvise() on what is not ordinary memory. */
	static const int advices[] = {
		MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_HUGEPAGE, MADV_MERGEABLE, MADV_DOFORK, MADV_COLD,
		MADV_PAGEOUT, MADV_WIPEONFORK, MADV_KEEPONFORK, 14 /* NOHUGEPAGE */, 22 /* POPULATE_READ */,
		23 /* POPULATE_WRITE */, 25 /* COLLAPSE */,
	};
	int lane = lane_open(self->a.fd, self->b.id);
	size_t length = writer_length(DATA);
	char *write = area_map(self->a.fd, MOTE_AREA_WRITER, lane, length, PROT_READ | PROT_WRITE);
	char *read = area_map(self->b.fd, MOTE_AREA_WRITER, lane, length, PROT_READ);

	ASSERT_NE(MAP_FAILED, write);
	ASSERT_NE(MAP_FAILED, read);
	for (unsigned int i = 0; i < ARRAY_SIZE(advices); i++) {
		madvise(write, length, advices[i]);
		madvise(read, length, advices[i]);
		madvise(self->a.bells, bells_length(2), advices[i]);
		EXPECT_EQ(-1, mprotect(read, length, PROT_READ | PROT_WRITE));
		mlock(write, length);
		munlock(write, length);
		/* A child that inherits it after all has gained nothing that its parent had not given it. */
		IN_CHILD(0);
	}
	munmap(write, length);
	munmap(read, length);
	EXPECT_EQ(0, still_serves());
}

struct flood {
	struct node *from, *to;
	_Atomic bool stop;
	int err;
	long done;
};

static void *flood_run(void *arg)
{
	struct flood *f = arg;

	while (!atomic_load(&f->stop) && !f->err) {
		int lane = lane_open(f->from->fd, f->to->id);

		if (lane <= 0) {
			f->err = lane == -EMLINK || lane == -ESRCH ? 0 : lane;
			sched_yield();
			continue;
		}
		f->err = lane_close(f->from->fd, lane);
		f->done++;
	}
	return NULL;
}

TEST_F(hostile, lanes_in_a_flood)
{
	/* Opened and closed as fast as can be: the reader has to close its ends, and holds no more than the limit. */
	struct mote_query query = { .size = sizeof(query) };
	struct flood f = { .from = &self->a, .to = &self->b };
	pthread_t thread;
	long handled = 0;

	ASSERT_EQ(0, call(self->a.fd, MOTE_IOC_QUERY, &query));
	ASSERT_EQ(0, pthread_create(&thread, NULL, flood_run, &f));
	sleep_ms(300);
	/* Unread, they are bounded by what one peer may have. */
	EXPECT_GE(100 * query.lanes_per_node, self->b.bells->events);
	for (long long until = now_ns() + SECOND; now_ns() < until;) {
		struct mote_event event;

		while (!event_next(self->b.fd, &event, 0))
			if (event.type == MOTE_EVENT_LANE_OPENED) {
				EXPECT_EQ(0, lane_close(self->b.fd, event.lane));
				handled++;
			}
	}
	atomic_store(&f.stop, true);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, f.err);
	EXPECT_LT(0, handled);
	EXPECT_EQ(0, still_serves());
}

/* One thread uses a node while another ends it. */
struct user {
	struct node *node;
	__u32 peer;
	int lane, kind;
	_Atomic bool stop;
};

static void *user_run(void *arg)
{
	struct user *u = arg;
	struct mote_node_desc desc;
	struct mote_event event;
	struct mote_worker worker = { .size = sizeof(worker), .mode = (uintptr_t)&u->kind,
				      .want = (uintptr_t)&u->kind, .mode_user = u->kind };
	struct mote_activate_wait activate = { .size = sizeof(activate) };
	void *map;
	int fd;

	while (!atomic_load(&u->stop)) {
		switch (u->kind) {
		case 0:
			bell_ring(u->node->fd, u->peer, 0);
			break;
		case 1:
			bell_wait(u->node->fd, 0, 0, 1);
			break;
		case 2:
			map = area_map(u->node->fd, MOTE_AREA_WRITER, u->lane, writer_length(DATA), PROT_READ);
			if (map != MAP_FAILED)
				munmap(map, writer_length(DATA));
			break;
		case 3:
			event_next(u->node->fd, &event, 0);
			node_find(u->node->fd, u->peer, &desc);
			break;
		case 4:
			fd = object_call(u->node->fd, MOTE_IOC_BELL_FD, 0, 0);
			if (fd >= 0)
				close(fd);
			break;
		case 5:
			object_call(u->node->fd, MOTE_IOC_NODE_WATCH, 0, 0);
			object_call(u->node->fd, MOTE_IOC_NODE_WATCH, 0, MOTE_WATCH_STOP);
			break;
		case 6:
			worker.flags = 0;
			call(u->node->fd, MOTE_IOC_WORKER, &worker);
			sched_yield();
			worker.flags = MOTE_WORKER_STOP;
			call(u->node->fd, MOTE_IOC_WORKER, &worker);
			break;
		case 7:
			activate.deadline = now_ns() + 1000000;
			call(u->node->fd, MOTE_IOC_ACTIVATE_WAIT, &activate);
			break;
		default:
			fd = lane_open(u->node->fd, u->peer);
			if (fd > 0)
				lane_close(u->node->fd, fd);
			break;
		}
	}
	return NULL;
}

TEST_F(hostile, used_while_it_ends)
{
	enum { NR = 9 };

	for (int round = 0; round < 12; round++) {
		struct node victim;
		struct user users[NR];
		pthread_t threads[NR];
		int lane, duplicate;

		ASSERT_EQ(0, node_make(&victim, "", 2, 0600));
		ASSERT_LT(0, lane_open(victim.fd, self->b.id));
		lane = lane_open(self->b.fd, victim.id);
		ASSERT_LT(0, lane);
		duplicate = dup(victim.fd);
		for (int i = 0; i < NR; i++) {
			/* Half of them on the peer's side: what they ring, map and close goes away. */
			users[i] = (struct user){
				.node = round & 1 ? &self->b : &victim, .peer = round & 1 ? victim.id : self->b.id,
				.lane = lane, .kind = i,
			};
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, user_run, &users[i]));
		}
		sleep_ms(30);
		close(duplicate);
		sleep_ms(10);
		for (int i = 0; i < NR; i++)
			atomic_store(&users[i].stop, true);
		for (int i = 0; i < NR; i++)
			pthread_join(threads[i], NULL);
		node_end(&victim);
		for (struct mote_event event; !event_next(self->b.fd, &event, 0);)
			if (event.type == MOTE_EVENT_LANE_OPENED)
				lane_close(self->b.fd, event.lane);
		lane_close(self->b.fd, lane);
	}
	EXPECT_EQ(0, still_serves());
}

TEST_F(hostile, a_page_that_changes)
{
	/* The argument of a call, written by another thread meanwhile: the first look counts, whatever it was. */
	struct mote_setup *setup = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, setup);
	setup_init(setup, "abcdef", 1);
	pid = child_start();
	if (!pid) {
		for (unsigned int i = 1;; i++) {
			setup->size = i & 1 ? sizeof(*setup) : i;
			setup->nr_slots = i & 2 ? 1 : i;
			setup->name[i % MOTE_NAME_SIZE] = i & 4 ? 'x' : 0;
			setup->mode = i & 8 ? 0600 : i;
		}
	}
	for (int i = 0; i < 3000; i++) {
		int fd = device_open();

		if (!call(fd, MOTE_IOC_SETUP, setup)) {
			struct mote_node_list list = { .size = sizeof(list), .nr = 1, .after = setup->node - 1 };
			struct mote_node_desc desc;

			list.nodes = (uintptr_t)&desc;
			if (!call(fd, MOTE_IOC_NODE_LIST, &list) && list.nr) {
				EXPECT_LE(1, desc.nr_slots);
				EXPECT_GE(MOTE_SLOTS_MAX, desc.nr_slots);
				EXPECT_GT(MOTE_NAME_SIZE, strnlen(desc.name, MOTE_NAME_SIZE));
			}
		}
		close(fd);
	}
	kill(pid, SIGKILL);
	child_wait(pid);
	EXPECT_EQ(0, still_serves());
}

/* The fuzzer. All of it follows from the seed, but for how its threads interleave. */
struct fuzzer {
	unsigned long random;
	long rounds;
	struct node nodes[4];
	struct uring ring;
	bool has_ring;
	struct { void *at; size_t length; } maps[16];
	int fds[8];
	__u32 words[64];
	char pages[8192];
};

static unsigned long any(struct fuzzer *f)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return f->random * 2685821657736338717UL >> 11;
}

/* Mostly something that means something. */
static __u32 any_id(struct fuzzer *f)
{
	switch (any(f) % 8) {
	case 0: return any(f);
	case 1: return any(f) % 64;
	case 2: return 0;
	default: return f->nodes[any(f) % 4].id + (any(f) % 16 ? 0 : any(f) % 5 - 2);
	}
}

static __u32 any_small(struct fuzzer *f)
{
	return any(f) % 16 ? any(f) % 6 : any(f);
}

/* Never for long: the fuzzer has much to do. */
static __s64 any_deadline(struct fuzzer *f)
{
	switch (any(f) % 8) {
	case 0: return any(f);
	case 1: return -(__s64)any(f);
	case 2: return MOTE_FOREVER;
	default: return now_ns() + any(f) % 200000;
	}
}

static const void *any_pointer(struct fuzzer *f)
{
	switch (any(f) % 8) {
	case 0: return NULL;
	case 1: return (void *)any(f);
	case 2: return f->maps[any(f) % 16].at;
	default: return f->pages + any(f) % 4096;
	}
}

static __u32 any_flags(struct fuzzer *f)
{
	return any(f) % 4 ? any(f) % 4 : any(f) % 8 ? 0 : any(f);
}

static void fuzz_ioctl(struct fuzzer *f, int fd)
{
	union {
		struct mote_query query;
		struct mote_setup setup;
		struct mote_node_desc desc;
		struct mote_node_list list;
		struct mote_object object;
		struct mote_lane_open lane;
		struct mote_enter enter;
		struct mote_worker worker;
		struct mote_activate_wait activate;
		struct { __u32 size, flags; } head;
		__u32 words[64];
	} u;
	int number = any(f) % 12, ret;

	memset(&u, 0, sizeof(u));
	switch (number) {
	case 1:
		setup_init(&u.setup, any(f) % 2 ? "" : "fuzz", any_small(f));
		u.setup.mode = any(f) % 4 ? 0600 : any(f);
		u.setup.event_slot = any(f) % 2 ? MOTE_NO_SLOT : any_small(f);
		break;
	case 2:
		u.desc.size = sizeof(u.desc);
		u.desc.node = any_id(f);
		u.desc.uid = any(f) % 2 ? MOTE_OWN_UID : any_small(f);
		strcpy(u.desc.name, any(f) % 2 ? "" : "fuzz");
		break;
	case 3:
		u.list = (struct mote_node_list){ .size = sizeof(u.list), .after = any_id(f), .nr = any_small(f),
						  .nodes = (uintptr_t)any_pointer(f) };
		break;
	case 5:
		u.lane = (struct mote_lane_open){ .size = sizeof(u.lane), .node = any_id(f), .cookie = any(f),
						  .data_size = any(f) % 8 ? DATA : any(f) };
		break;
	case 7:
		u.enter = (struct mote_enter){ .size = sizeof(u.enter), .ring = { any_id(f), any_small(f) },
					       .slot = any_small(f), .seq = any_small(f), .deadline = any_deadline(f),
					       .rings = (uintptr_t)any_pointer(f), .nr_rings = any_small(f) };
		break;
	case 9:
		u.worker = (struct mote_worker){ .size = sizeof(u.worker), .mode = (uintptr_t)any_pointer(f),
						 .want = (uintptr_t)any_pointer(f), .mode_user = any_small(f),
						 .worker = any_small(f) };
		if (any(f) % 2)
			u.worker.mode = u.worker.want = (uintptr_t)&f->words[any(f) % 64];
		break;
	case 10:
		u.activate = (struct mote_activate_wait){ .size = sizeof(u.activate), .deadline = any_deadline(f),
							  .worker = any_small(f) };
		break;
	default:
		u.object.size = sizeof(u.object);
		u.object.id = any(f) % 2 ? any_id(f) : any_small(f);
		if (number == 0)
			u.head.size = sizeof(u.query);
		break;
	}
	if (any(f) % 3 == 0)
		u.head.flags = any_flags(f);
	if (number == 7 && any(f) % 4)
		u.head.flags = any(f) % 4;
	if (any(f) % 16 == 0)
		u.head.size = any(f) % 300;
	if (any(f) % 16 == 0)
		u.words[any(f) % 24] = any(f);
	ret = call(fd, _IO(0xfb, number), any(f) % 64 ? (void *)&u : (void *)any_pointer(f));
	if (number == 1 && !ret)
		for (int i = 0; i < 4; i++)
			if (f->nodes[i].fd == fd)
				f->nodes[i].id = u.setup.node;
	if (number == 8 && ret > 0) {
		int *at = &f->fds[any(f) % 8];

		close(*at);
		*at = ret;
	}
}

static void fuzz_mmap(struct fuzzer *f, int fd)
{
	static const int protections[] = {
		PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE, PROT_EXEC | PROT_READ,
	};
	int at = any(f) % 16;
	size_t length;
	void *map;

	if (f->maps[at].at) {
		switch (any(f) % 5) {
		case 0:
			mprotect(f->maps[at].at, f->maps[at].length, protections[any(f) % 5]);
			return;
		case 1:
			madvise(f->maps[at].at, f->maps[at].length, any(f) % 26);
			return;
		case 2:
			munmap(f->maps[at].at, page_size());
			/* fall through */
		default:
			munmap(f->maps[at].at, f->maps[at].length);
			f->maps[at].at = NULL;
			return;
		}
	}
	length = any(f) % 3 ? page_size() : any(f) % 3 ? writer_length(DATA) : page_size() * (1 + any(f) % 40);
	map = mmap(NULL, length, protections[any(f) % 5], any(f) % 16 ? MAP_SHARED : MAP_PRIVATE, fd,
		   MOTE_MAP(any(f) % 16 ? any(f) % 3 : any(f) % 16, any(f) % 2 ? any_id(f) : any(f) % 64) +
		   (any(f) % 16 ? 0 : page_size() * any(f)));
	if (map == MAP_FAILED)
		return;
	f->maps[at].at = map;
	f->maps[at].length = length;
}

static void fuzz_uring(struct fuzzer *f, int fd)
{
	struct mote_uring_cmd c = { any(f) % 3 ? 0 : any_id(f), any_small(f), any(f) % 2 ? 0 : any_small(f),
				    any(f) % 8 ? 0 : any_flags(f) };
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;
	int number = any(f) % 16 ? 64 + any(f) % 3 : any(f) % 256;

	if (!f->has_ring)
		return;
	/* A ring takes no more than it has room for; what is not taken is what it did not know. */
	if (f->ring.tail - __atomic_load_n(f->ring.sq_head, __ATOMIC_ACQUIRE) <= f->ring.sq_mask) {
		sqe = uring_command(&f->ring, any(f), fd, _IO(0xfb, number), &c);
		if (any(f) % 8 == 0)
			sqe->flags = any(f) % 2 ? IOSQE_ASYNC : IOSQE_IO_LINK;
		if (any(f) % 64 == 0) {
			sqe->opcode = any(f) % 2 ? IORING_OP_ASYNC_CANCEL : IORING_OP_POLL_ADD;
			sqe->addr = any(f);
		}
	}
	if (any(f) % 2)
		uring_enter(&f->ring, 0, 0);
	while (uring_take(&f->ring, &cqe))
		;
}

static void fuzz_open(struct fuzzer *f, int which, bool ended)
{
	struct node *node = &f->nodes[which];

	if (!ended)
		close(node->fd);
	node->fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (any(f) % 8) {
		struct mote_setup setup;

		setup_init(&setup, "", 1 + any(f) % 4);
		setup.event_slot = any(f) % 2 ? 0 : MOTE_NO_SLOT;
		if (!call(node->fd, MOTE_IOC_SETUP, &setup))
			node->id = setup.node;
	}
}

static void fuzz_once(struct fuzzer *f)
{
	struct mote_event event;
	int which = any(f) % 4, fd = any(f) % 32 ? f->nodes[which].fd : f->fds[any(f) % 8];
	unsigned long choice = any(f) % 100;

	f->words[any(f) % 64] = any(f) % 3;
	if (choice < 60)
		fuzz_ioctl(f, fd);
	else if (choice < 75)
		fuzz_uring(f, fd);
	else if (choice < 88)
		fuzz_mmap(f, fd);
	else if (choice < 92)
		syscall(SYS_read, fd, any_pointer(f), any(f) % 200);
	else if (choice < 94)
		event_next(fd, &event, 0);
	else if (choice < 95 && f->has_ring) {
		uring_close(&f->ring);
		f->has_ring = !uring_open(&f->ring, 16, any(f) % 2 || uring_defer_asserts() ? 0 :
					  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	} else if (choice < 96)
		close(dup(fd));
	else if (choice < 98)
		fuzz_open(f, which, false);
	else if (choice < 99)
		sched_yield();
	else if (any(f) % 16 == 0 && !fork())
		_exit(call(fd, MOTE_IOC_QUERY, f->pages));
}

static void nothing(int signo)
{
	(void)signo;
}

/* A process of its own, which a timer keeps from sleeping for ever. */
static void fuzzer_process(unsigned long seed, long rounds)
{
	static struct fuzzer f;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec every = { { 0, 3000000 }, { 0, 3000000 } };
	struct sigaction action = { .sa_handler = nothing };
	timer_t timer;

	sigaction(SIGUSR1, &action, NULL);
	signal(SIGCHLD, SIG_IGN);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &every, NULL))
		_exit(2);
	f.random = seed * 0x9e3779b97f4a7c15UL | 1;
	for (int i = 0; i < 8; i++)
		f.fds[i] = -1;
	f.has_ring = !uring_open(&f.ring, 16, 0);
	for (int i = 0; i < 4; i++)
		fuzz_open(&f, i, true);
	while (rounds--)
		fuzz_once(&f);
	_exit(0);
}

TEST_F_TIMEOUT(hostile, fuzz, 1800)
{
	/* Several at once, who may all reach each other; each one's last rounds come unawares. */
	enum { NR = 3 };
	const char *text = getenv("MOTE_TEST_SEED");
	unsigned long seed = text ? strtoul(text, NULL, 0) : 1;
	long rounds = test_rounds(100000);
	pid_t pids[NR];

	TH_LOG("seed %lu, %ld calls", seed, rounds);
	for (int i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i])
			fuzzer_process(seed + i, rounds / NR);
	}
	for (int i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait_for(pids[i], 1500000));
	/* And killed in the middle of it. */
	for (int i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i])
			fuzzer_process(seed + NR + i, 1L << 40);
	}
	sleep_ms(500);
	for (int i = 0; i < NR; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < NR; i++)
		EXPECT_EQ(-SIGKILL, child_wait(pids[i]));
	events_drop(self->a.fd);
	events_drop(self->b.fd);
	EXPECT_EQ(0, still_serves());
}

TEST_HARNESS_MAIN
