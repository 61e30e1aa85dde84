// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Deaths: however a node's process ends, at whatever step of its life, its peer is told once, with the right reason,
 * keeps what was written, and the module forgets the rest. The peer is the test, the process that dies is its child.
 */
#include "uring.h"
#include <sys/epoll.h>
#include <sys/mount.h>

/* How it ends. */
enum way { KILLED, EXITS, EXECS, ABORTS, CLOSES, NR_WAYS };

/* How far it gets; each step includes those before it, but for the last ones, where it sleeps in one place. */
enum step {
	OPENED, SET_UP, MAPPED, WATCHES, LANE, LANE_MAPPED, PEER_LANE, BELL, WORKS, RUNG_BELL, NR_CALM,
	IN_WAIT = NR_CALM, IN_READ, IN_EPOLL, IN_URING, IN_URING_READ, IN_ACTIVATE, NR_STEPS
};

FIXTURE(death)
{
	struct node peer;
	long refs;
	__u64 features;
};

FIXTURE_VARIANT(death)
{
	enum way way;
};

#define WAY(name, way_) FIXTURE_VARIANT_ADD(death, name) { .way = way_, }
WAY(sigkill, KILLED);
WAY(exit, EXITS);
WAY(exec, EXECS);
WAY(abort, ABORTS);
WAY(close, CLOSES);

FIXTURE_SETUP(death)
{
	NEED_DEVICE();
	self->refs = module_refs();
	self->features = features();
	ASSERT_EQ(0, node_make(&self->peer, "death-peer", 2, 0600));
}

/* Nothing holds the module any more: no file, no worker, no command. */
FIXTURE_TEARDOWN(death)
{
	node_end(&self->peer);
	EXPECT_TRUE(WITHIN(SOON_MS, module_refs() <= self->refs))
		TH_LOG("%ld references, %ld before", module_refs(), self->refs);
}

struct victim {
	struct node node;
	int lane, bell, epoll;
	enum step step;
	bool async;		/* it blocks in a thread of its own */
	_Atomic pid_t tid;
	struct uring ring;
	__u32 mode, want;
};

static void victim_block(struct victim *v)
{
	struct mote_activate_wait activate = { .size = sizeof(activate), .deadline = MOTE_FOREVER };
	struct epoll_event ready = { .events = EPOLLIN };
	struct mote_event event;
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe;

	switch (v->step) {
	case IN_WAIT:
		bell_wait_until(v->node.fd, 0, bell_seq(v->node.bells, 0), MOTE_FOREVER);
		break;
	case IN_READ:
		events_drop(v->node.fd);
		read(v->node.fd, &event, sizeof(event));
		break;
	case IN_EPOLL:
		v->epoll = epoll_create1(EPOLL_CLOEXEC);
		epoll_ctl(v->epoll, EPOLL_CTL_ADD, v->bell, &ready);
		epoll_wait(v->epoll, &ready, 1, -1);
		break;
	case IN_URING:
		uring_open(&v->ring, 8, 0);
		for (int slot = 0; slot < 2; slot++)
			uring_wait(&v->ring, 1, v->node.fd, slot, bell_seq(v->node.bells, slot));
		uring_next(&v->ring, &cqe, 600000);
		break;
	case IN_URING_READ:
		events_drop(v->node.fd);
		uring_open(&v->ring, 8, 0);
		sqe = uring_sqe(&v->ring, 1);
		sqe->opcode = IORING_OP_READ;
		sqe->fd = v->node.fd;
		sqe->addr = (uintptr_t)&event;
		sqe->len = sizeof(event);
		uring_next(&v->ring, &cqe, 600000);
		break;
	case IN_ACTIVATE:
		call(v->node.fd, MOTE_IOC_ACTIVATE_WAIT, &activate);
		break;
	default:
		break;
	}
	/* Ended with the node: the thread may go. A dying process does not get here. */
}

static void *victim_thread(void *arg)
{
	struct victim *v = arg;

	atomic_store(&v->tid, own_tid());
	victim_block(v);
	return NULL;
}

/* The child: goes as far as `step`, says so, and ends. */
static void victim_run(struct victim *v, enum way way, struct node *peer, __u64 features, int ready, bool cloexec)
{
	struct mote_worker worker = { .size = sizeof(worker), .mode = (uintptr_t)&v->mode,
				      .want = (uintptr_t)&v->want, .mode_user = 1 };
	char *const argv[] = { "/proc/self/exe", "-l", NULL }, *const envp[] = { NULL };
	struct mote_event event;
	pthread_t thread;
	char *map;

	/* Inherited, and of no use. */
	close(peer->fd);
	v->node.fd = device_open();
	if (v->step >= SET_UP) {
		close(v->node.fd);
		if (node_make(&v->node, "death-victim", 2, 0600))
			_exit(90);
	}
	if (v->step < MAPPED && v->node.bells && v->node.bells != MAP_FAILED)
		munmap(v->node.bells, bells_length(2));
	if (v->step >= WATCHES && object_call(v->node.fd, MOTE_IOC_NODE_WATCH, 0, 0))
		_exit(91);
	if (v->step >= LANE) {
		v->lane = lane_open_sized(v->node.fd, peer->id, DATA, 0);
		if (v->lane <= 0)
			_exit(92);
	}
	if (v->step >= LANE_MAPPED) {
		map = area_map(v->node.fd, MOTE_AREA_WRITER, v->lane, writer_length(DATA), PROT_READ | PROT_WRITE);
		if (map == MAP_FAILED)
			_exit(93);
		strcpy(map + page_size(), "the last words");
	}
	if (v->step >= PEER_LANE) {
		do {
			if (event_next(v->node.fd, &event, SOON_MS))
				_exit(94);
		} while (event.type != MOTE_EVENT_LANE_OPENED);
		map = area_map(v->node.fd, MOTE_AREA_READER, event.lane, page_size(), PROT_READ | PROT_WRITE);
		if (map == MAP_FAILED || bells_map(v->node.fd, peer->id, 2, PROT_READ) == MAP_FAILED)
			_exit(95);
	}
	if (v->step >= BELL)
		v->bell = object_call(v->node.fd, MOTE_IOC_BELL_FD, 1, 0);
	if (v->step >= WORKS && features & MOTE_FEATURE_ACTIVATE) {
		/* If there is a spare to be told of it, this worker is not what is to wake it. */
		v->mode = v->want = v->step != IN_ACTIVATE;
		if (call(v->node.fd, MOTE_IOC_WORKER, &worker))
			_exit(96);
	}
	if (v->step == RUNG_BELL)
		bell_ring(v->node.fd, v->node.id, 1);
	if (v->step >= NR_CALM && v->async) {
		if (pthread_create(&thread, NULL, victim_thread, v))
			_exit(97);
		while (!atomic_load(&v->tid) || thread_state(v->tid) != 'S')
			sleep_ms(1);
	}
	if (!cloexec)
		fcntl(v->node.fd, F_SETFD, 0);
	write(ready, &v->node.id, sizeof(v->node.id));
	if (!v->async)
		victim_block(v);
	switch (way) {
	case EXITS:
		_exit(42);
	case EXECS:
		/* Ourselves, listing the tests to nowhere. */
		dup2(open("/dev/null", O_RDWR), 2);
		dup2(2, 1);
		execve(argv[0], argv, envp);
		_exit(98);
	case ABORTS:
		abort();
	case CLOSES:
		close(v->node.fd);
		break;
	default:
		break;
	}
	for (;;)
		pause();
}

/* One death. `in_thread`: the process's first thread does not sleep where `step` says, another one does. */
static void one_death(struct __test_metadata *_metadata, struct node *peer, __u64 features, enum way way,
		      enum step step, bool in_thread)
{
	static const __u32 whys[] = {
		[KILLED] = MOTE_DOWN_EXIT, [EXITS] = MOTE_DOWN_EXIT, [EXECS] = MOTE_DOWN_EXEC,
		[ABORTS] = MOTE_DOWN_EXIT, [CLOSES] = MOTE_DOWN_CLOSED,
	};
	int ready[2], lane = 0, downs = 0, status, own_lane = 0;
	struct mote_node_desc desc;
	struct mote_event event;
	__u32 id = 0;
	pid_t pid;

	ASSERT_EQ(0, object_call(peer->fd, MOTE_IOC_NODE_WATCH, 0, 0));
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = child_start();
	if (!pid) {
		static struct victim v;

		close(ready[0]);
		signal(SIGABRT, SIG_DFL);
		v.step = step;
		v.async = in_thread;
		victim_run(&v, way, peer, features, ready[1], true);
	}
	close(ready[1]);
	while (step >= PEER_LANE && !own_lane) {
		ASSERT_EQ(0, event_next(peer->fd, &event, SOON_MS))
			kill(pid, SIGKILL);
		if (event.type == MOTE_EVENT_LANE_OPENED) {
			lane = event.lane;
			own_lane = lane_open(peer->fd, event.node);
			ASSERT_LT(0, own_lane);
		}
	}
	EXPECT_EQ(sizeof(id), read(ready[0], &id, sizeof(id)));
	close(ready[0]);
	if (way == KILLED) {
		if (step >= NR_CALM && !in_thread)
			EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'S'));
		kill(pid, SIGKILL);
	}
	while (id && !downs) {
		/* A node that was not set up is nobody's: none is told. */
		ASSERT_EQ(0, event_next(peer->fd, &event, SOON_MS))
			TH_LOG("step %d, node %u: nobody said that it is down", step, id);
		EXPECT_EQ(id, event.node);
		if (event.type == MOTE_EVENT_LANE_OPENED)
			lane = event.lane;
		if (event.type == MOTE_EVENT_NODE_DOWN) {
			downs++;
			EXPECT_EQ(whys[way], event.why)
				TH_LOG("step %d", step);
			status = event.value;
			if (way == KILLED)
				EXPECT_EQ(SIGKILL, status & 0x7f);
			if (way == ABORTS)
				EXPECT_EQ(SIGABRT, status & 0x7f);
			if (way == EXITS)
				EXPECT_EQ(42 << 8, status);
		}
	}
	if (id) {
		/* Its id is nobody's now, its name anybody's, and what it wrote the peer's. */
		EXPECT_EQ(-ESRCH, node_find(peer->fd, id, &desc));
		EXPECT_EQ(-ESRCH, name_find(peer->fd, "death-victim", &desc));
		EXPECT_EQ(-ESRCH, lane_open(peer->fd, id));
	}
	if (lane) {
		char *map = area_map(peer->fd, MOTE_AREA_WRITER, lane, writer_length(DATA), PROT_READ);

		EXPECT_NE(MAP_FAILED, map);
		if (step >= LANE_MAPPED && map != MAP_FAILED)
			EXPECT_STREQ("the last words", map + page_size());
		munmap(map, writer_length(DATA));
		EXPECT_EQ(0, bell_ring(peer->fd, id, 1));
		EXPECT_EQ(0, lane_close(peer->fd, lane));
	}
	if (own_lane)
		EXPECT_EQ(0, lane_close(peer->fd, own_lane));
	/* Once. */
	EXPECT_EQ(-ETIMEDOUT, event_next(peer->fd, &event, 0))
		TH_LOG("step %d: event %u of node %u", step, event.type, event.node);
	if (id)
		EXPECT_EQ(-EPERM, bell_ring(peer->fd, id, 1));
	if (way == CLOSES)
		kill(pid, SIGKILL);
	status = child_wait(pid);
	EXPECT_EQ(way == EXITS ? 42 : way == ABORTS ? -SIGABRT : way == EXECS ? KSFT_SKIP : -SIGKILL, status);
}

TEST_F(death, at_each_step)
{
	for (enum step step = OPENED; step < NR_CALM; step++)
		one_death(_metadata, &self->peer, self->features, variant->way, step, false);
}

TEST_F(death, while_a_thread_sleeps)
{
	for (enum step step = NR_CALM; step < NR_STEPS; step++) {
		if (step == IN_ACTIVATE && !(self->features & MOTE_FEATURE_ACTIVATE))
			continue;
		one_death(_metadata, &self->peer, self->features, variant->way, step, true);
	}
}

TEST_F(death, asleep_itself)
{
	if (variant->way != KILLED)
		SKIP(return, "only a signal ends a process that sleeps");
	for (enum step step = NR_CALM; step < NR_STEPS; step++) {
		if (step == IN_ACTIVATE && !(self->features & MOTE_FEATURE_ACTIVATE))
			continue;
		one_death(_metadata, &self->peer, self->features, variant->way, step, false);
	}
}

TEST_F(death, many_at_a_time)
{
	/* What leaks would add up to the limits, of nodes and of bytes. */
	for (int i = 0; i < 30; i++)
		one_death(_metadata, &self->peer, self->features, variant->way, WORKS, false);
}

FIXTURE(other)
{
	struct node peer;
	long refs;
};

FIXTURE_SETUP(other)
{
	NEED_DEVICE();
	self->refs = module_refs();
	ASSERT_EQ(0, node_make(&self->peer, "death-peer", 2, 0600));
}

FIXTURE_TEARDOWN(other)
{
	node_end(&self->peer);
	EXPECT_TRUE(WITHIN(SOON_MS, module_refs() <= self->refs))
		TH_LOG("%ld references, %ld before", module_refs(), self->refs);
}

/* A child with a lane to the peer. Gives its pid, and its node in *id. */
#define VICTIM(id, lane_, code) \
	({ \
		struct mote_event event_; \
		pid_t pid_ = child_start(); \
		if (!pid_) { \
			struct node node; \
			if (node_make(&node, "death-victim", 2, 0600) || lane_open(node.fd, self->peer.id) <= 0) \
				_exit(90); \
			code; \
			for (;;) \
				pause(); \
		} \
		ASSERT_EQ(0, event_next(self->peer.fd, &event_, SOON_MS)); \
		ASSERT_EQ(MOTE_EVENT_LANE_OPENED, event_.type); \
		id = event_.node; \
		lane_ = event_.lane; \
		pid_; \
	})

#define EXPECT_DOWN(id, why_) \
	({ \
		struct mote_event event_; \
		ASSERT_EQ(0, event_next(self->peer.fd, &event_, SOON_MS)); \
		EXPECT_EQ(MOTE_EVENT_NODE_DOWN, event_.type); \
		EXPECT_EQ(id, event_.node); \
		EXPECT_EQ(why_, event_.why); \
		event_; \
	})

TEST_F(other, a_forked_child_lives_on)
{
	/* It holds the file, and every mapping that it may: the parent's death is told at once all the same. */
	int line[2], lane;
	pid_t pid, heir = 0;
	__u32 id;
	char byte;

	ASSERT_EQ(0, pipe2(line, O_CLOEXEC));
	pid = VICTIM(id, lane, ({
		heir = fork();
		if (!heir) {
			for (;;)
				pause();
		}
		write(line[1], &heir, sizeof(heir));
	}));
	ASSERT_EQ(sizeof(heir), read(line[0], &heir, sizeof(heir)));
	kill(pid, SIGKILL);
	EXPECT_DOWN(id, MOTE_DOWN_EXIT);
	EXPECT_EQ(-SIGKILL, child_wait(pid));
	EXPECT_EQ('S', thread_state(heir));
	EXPECT_EQ(0, lane_close(self->peer.fd, lane));
	kill(heir, SIGKILL);
	/* The last writer of the pipe. */
	close(line[1]);
	EXPECT_EQ(0, read(line[0], &byte, 1));
	close(line[0]);
}

TEST_F(other, a_child_that_closes_is_no_death)
{
	struct mote_event event;
	int lane;
	__u32 id;
	pid_t pid = VICTIM(id, lane, ({
		if (IN_CHILD(close(node.fd)) || IN_CHILD(0) || bell_ring(node.fd, self->peer.id, 0))
			_exit(1);
	}));

	EXPECT_TRUE(WITHIN(SOON_MS, bell_seq(self->peer.bells, 0)));
	EXPECT_EQ(-ETIMEDOUT, event_next(self->peer.fd, &event, 0));
	EXPECT_EQ(0, bell_ring(self->peer.fd, id, 0));
	kill(pid, SIGKILL);
	EXPECT_DOWN(id, MOTE_DOWN_EXIT);
	EXPECT_EQ(0, lane_close(self->peer.fd, lane));
	child_wait(pid);
}

TEST_F(other, exec_with_the_descriptor_kept)
{
	/* Documented: an exec that does not close the descriptor is noticed when that is closed, at the exit here. */
	char *const argv[] = { "/proc/self/exe", "-l", NULL }, *const envp[] = { NULL };
	int lane;
	__u32 id;
	pid_t pid = VICTIM(id, lane, ({
		fcntl(node.fd, F_SETFD, 0);
		dup2(open("/dev/null", O_RDWR), 2);
		execve(argv[0], argv, envp);
	}));

	EXPECT_DOWN(id, MOTE_DOWN_EXIT);
	EXPECT_EQ(0, lane_close(self->peer.fd, lane));
	EXPECT_EQ(KSFT_SKIP, child_wait(pid));
}

static void *exec_thread(void *arg)
{
	char *const argv[] = { "/proc/self/exe", "-l", NULL }, *const envp[] = { NULL };

	(void)arg;
	dup2(open("/dev/null", O_RDWR), 2);
	execve(argv[0], argv, envp);
	_exit(98);
}

TEST_F(other, exec_by_another_thread)
{
	int lane;
	__u32 id;
	pid_t pid = VICTIM(id, lane, ({
		struct mote_worker worker = { .size = sizeof(worker), .mode = (uintptr_t)&lane,
					      .want = (uintptr_t)&lane };
		pthread_t thread;

		/* The first thread is a worker, and does not survive. */
		call(node.fd, MOTE_IOC_WORKER, &worker);
		pthread_create(&thread, NULL, exec_thread, NULL);
	}));

	EXPECT_DOWN(id, MOTE_DOWN_EXEC);
	EXPECT_EQ(KSFT_SKIP, child_wait(pid));
}

TEST_F(other, first_thread_gone)
{
	/* A process lives for as long as one thread does. */
	struct mote_event event;
	int lane;
	__u32 id;
	pid_t pid = VICTIM(id, lane, ({
		pthread_t thread;
		static struct victim v;

		v.step = IN_WAIT;
		v.node = node;
		pthread_create(&thread, NULL, victim_thread, &v);
		syscall(SYS_exit, 3);
	}));

	EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'Z'));
	EXPECT_EQ(-ETIMEDOUT, event_next(self->peer.fd, &event, 50));
	kill(pid, SIGKILL);
	event = EXPECT_DOWN(id, MOTE_DOWN_EXIT);
	EXPECT_EQ(SIGKILL, event.value & 0x7f);
	EXPECT_EQ(0, lane_close(self->peer.fd, lane));
	child_wait(pid);
}

TEST_F(other, peers_die_together)
{
	/* Nodes tied to each other in all directions, killed at once. */
	enum { NR = 8 };
	pid_t pids[NR];
	__u32 newest = 0;
	int lane, downs = 0;
	struct mote_event event;

	for (int i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			struct node node;

			if (node_make(&node, "", 1, 0600) || object_call(node.fd, MOTE_IOC_NODE_WATCH, 0, 0) ||
			    lane_open(node.fd, self->peer.id) <= 0)
				_exit(90);
			/* With whoever comes later, both ways. */
			while (!event_next(node.fd, &event, 600000))
				if (event.type == MOTE_EVENT_NODE_UP || event.type == MOTE_EVENT_LANE_OPENED) {
					lane = lane_open(node.fd, event.node);
					if (lane > 0)
						bell_ring(node.fd, event.node, 0);
				}
			_exit(0);
		}
		/* Older ones call again. */
		do {
			ASSERT_EQ(0, event_next(self->peer.fd, &event, SOON_MS));
		} while (event.type != MOTE_EVENT_LANE_OPENED || event.node <= newest);
		newest = event.node;
	}
	sleep_ms(50);
	for (int i = 0; i < NR; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < NR; i++)
		child_wait(pids[i]);
	while (downs < NR) {
		ASSERT_EQ(0, event_next(self->peer.fd, &event, SOON_MS));
		downs += event.type == MOTE_EVENT_NODE_DOWN;
	}
	while (!event_next(self->peer.fd, &event, 20))
		EXPECT_NE(MOTE_EVENT_NODE_DOWN, event.type);
}

static bool file_write(const char *directory, const char *name, const char *text)
{
	char path[256];
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text);
}

TEST_F(other, oom_kill)
{
	/* In a cgroup of its own that is too small for it. */
	const char *root = "/sys/fs/cgroup", *group = "/sys/fs/cgroup/mote-oom";
	struct mote_event event;
	char text[32];
	int lane;
	__u32 id;
	pid_t pid;

	file_write(root, "cgroup.subtree_control", "+memory");
	if (mkdir(group, 0755) && errno != EEXIST)
		SKIP(return, "no cgroup2 that one may use: %s", strerror(errno));
	if (!file_write(group, "memory.max", "16M")) {
		rmdir(group);
		SKIP(return, "no memory controller");
	}
	file_write(group, "memory.swap.max", "0");
	pid = VICTIM(id, lane, ({
		char *map;
		struct mote_event go;

		event_next(node.fd, &go, SOON_MS);
		for (size_t i = 0;; i++) {
			map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (map == MAP_FAILED)
				_exit(91);
			memset(map, 1, 1 << 20);
		}
	}));
	snprintf(text, sizeof(text), "%d", pid);
	EXPECT_TRUE(file_write(group, "cgroup.procs", text));
	ASSERT_LT(0, lane_open(self->peer.fd, id));
	event = EXPECT_DOWN(id, MOTE_DOWN_EXIT);
	EXPECT_EQ(SIGKILL, event.value & 0x7f);
	EXPECT_EQ(0, lane_close(self->peer.fd, lane));
	EXPECT_EQ(-SIGKILL, child_wait(pid));
	EXPECT_TRUE(WITHIN(SOON_MS, !rmdir(group)));
}

TEST_F(other, watcher_dies_first)
{
	/* What it had not read goes with it. */
	for (int i = 0; i < 50; i++) {
		struct node watcher, watched;

		ASSERT_EQ(0, node_make(&watcher, "", 1, 0600));
		ASSERT_EQ(0, object_call(watcher.fd, MOTE_IOC_NODE_WATCH, 0, 0));
		ASSERT_EQ(0, node_make(&watched, "", 1, 0600));
		ASSERT_LT(0, lane_open(watched.fd, watcher.id));
		ASSERT_LT(0, lane_open(watcher.fd, watched.id));
		if (i & 1)
			node_end(&watched);
		if (i & 2)
			events_drop(watcher.fd);
		node_end(&watcher);
		if (!(i & 1))
			node_end(&watched);
	}
}

struct closer {
	pthread_barrier_t *barrier;
	struct node node;
};

static void *closer_run(void *arg)
{
	struct closer *c = arg;

	pthread_barrier_wait(c->barrier);
	node_end(&c->node);
	return NULL;
}

TEST_F(other, both_ends_at_once)
{
	for (int i = 0; i < 100; i++) {
		struct closer closers[2];
		pthread_barrier_t barrier;
		pthread_t threads[2];

		pthread_barrier_init(&barrier, NULL, 2);
		for (int k = 0; k < 2; k++) {
			closers[k].barrier = &barrier;
			ASSERT_EQ(0, node_make(&closers[k].node, "", 1, 0600));
		}
		ASSERT_LT(0, lane_open(closers[0].node.fd, closers[1].node.id));
		ASSERT_LT(0, lane_open(closers[1].node.fd, closers[0].node.id));
		for (int k = 0; k < 2; k++)
			pthread_create(&threads[k], NULL, closer_run, &closers[k]);
		for (int k = 0; k < 2; k++)
			pthread_join(threads[k], NULL);
		pthread_barrier_destroy(&barrier);
	}
}

TEST_HARNESS_MAIN
