/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port_helpers.h: nodes without a runtime, for tests of lib/port alone. Each is a forked child with loops in the place of
 * schedulers; what they agree upon lies in memory that all share.
 */
#ifndef SELFTESTS_PORT_HELPERS_H
#define SELFTESTS_PORT_HELPERS_H

#include "proc.h"

#include "port/port.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define LOOPS		4
#define WAIT_S		60		/* only what is broken takes so long */

/* Between the OS processes of a case. */
struct test_shared {
	_Atomic unsigned int stage;
	_Atomic uint32_t id[80];
	_Atomic uint64_t number[80];
};

static struct test_shared *shared;
static char test_dir[64];

/* What the hooks of this node have seen. */
static struct carrier *_Atomic last_up, *_Atomic last_down;
static _Atomic enum port_end last_why;
static _Atomic uint32_t last_node;
static _Atomic int last_err;
static bool release_downs;		/* at once, by the hook */
static _Atomic unsigned int nr_ups, nr_downs, nr_unreachables, nr_rooms;
static _Atomic uint64_t nr_records;
static void (*on_up)(struct carrier *c);
static bool (*on_record)(struct carrier *c, const struct record *head, const void *body);
static int loop_wake[LOOPS];
static int loop_epoll[LOOPS];

static inline int64_t test_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static inline void test_nap(unsigned int ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L }, NULL);
}

static void hook_wake(unsigned int slot)
{
	eventfd_write(loop_wake[slot], 1);
}

static void hook_up(struct scheduler *s, struct carrier *c)
{
	(void)s;
	last_up = c;
	if (on_up)
		on_up(c);
	nr_ups++;
}

static bool hook_record(struct scheduler *s, struct carrier *c, const struct record *head, const void *body)
{
	(void)s;
	if (on_record && !on_record(c, head, body))
		return false;
	nr_records++;
	return true;
}

static void hook_room(struct scheduler *s, struct carrier *c)
{
	(void)s;
	(void)c;
	nr_rooms++;
}

static void hook_down(struct scheduler *s, struct carrier *c, enum port_end why)
{
	(void)s;
	last_down = c;
	last_why = why;
	if (release_downs)
		carrier_release(c);
	nr_downs++;
}

static void hook_unreachable(struct scheduler *s, uint32_t node, const char *name, int err)
{
	(void)s;
	(void)name;
	last_node = node;
	last_err = err;
	nr_unreachables++;
}

static const struct port_hooks test_hooks = {
	.wake = hook_wake, .up = hook_up, .record = hook_record, .room = hook_room, .down = hook_down,
	.unreachable = hook_unreachable,
};

static inline int node_start(const char *name, unsigned int slots)
{
	struct port_opts o = { .name = name, .slots = slots, .hooks = &test_hooks };
	int err;

	for (unsigned int i = 0; i < slots; i++)
		loop_wake[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = port_start(&o);
	if (err)
		return err;
	for (unsigned int i = 0; i < slots; i++) {
		struct epoll_event e = { .events = EPOLLIN | EPOLLET };

		loop_epoll[i] = epoll_create1(EPOLL_CLOEXEC);
		epoll_ctl(loop_epoll[i], EPOLL_CTL_ADD, loop_wake[i], &e);
		epoll_ctl(loop_epoll[i], EPOLL_CTL_ADD, port_bell_fd(i), &e);
	}
	err = port_open();
	if (err)
		port_stop();
	return err;
}

static inline void node_stop(unsigned int slots)
{
	port_close();
	port_stop();
	for (unsigned int i = 0; i < slots; i++) {
		close(loop_wake[i]);
		close(loop_epoll[i]);
	}
}

/* Forgets what the hooks have seen. */
static inline void node_reset(void)
{
	last_up = last_down = NULL;
	nr_ups = nr_downs = nr_unreachables = nr_rooms = 0;
	nr_records = 0;
	on_record = NULL;
	on_up = NULL;
	release_downs = false;
}

/* One round of a slot's loop; sleeps until a ring, or for a minute, which is a lost wake: false. */
static inline bool loop_once(unsigned int slot, int ms)
{
	struct epoll_event e[2];
	bool rung = true;

	if (port_poll(NULL, slot, false))
		return true;
	if (port_sleep(slot))
		rung = epoll_wait(loop_epoll[slot], e, 2, ms) > 0;
	port_awake(slot);
	return rung;
}

/* Runs slot 0 until the condition holds. */
#define UNTIL(condition) \
	({ \
		int64_t until_ = test_now_ms() + WAIT_S * 1000; \
		bool ok_; \
		while (!(ok_ = (condition)) && test_now_ms() < until_) \
			loop_once(0, 20); \
		ok_ || (selftest_complain(__FILE__, __LINE__, #condition), false); \
	})

/* Without a loop: of a node that is to stand still, or of the test itself. */
#define AWAIT(condition) \
	({ \
		int64_t until_ = test_now_ms() + WAIT_S * 1000; \
		bool ok_; \
		while (!(ok_ = (condition)) && test_now_ms() < until_) \
			test_nap(1); \
		ok_ || (selftest_complain(__FILE__, __LINE__, #condition), false); \
	})

/* Connects to a node by name and returns the carrier. */
static inline struct carrier *node_connect(const char *name)
{
	unsigned int ups = nr_ups, fails = nr_unreachables;

	EXPECT_EQ(port_connect(0, name), 0);
	UNTIL(nr_ups > ups || nr_unreachables > fails);
	if (nr_ups == ups)
		test_note("no connection to %s: %d", name, last_err);
	return nr_ups > ups ? last_up : NULL;
}

static inline bool send_record(struct carrier *c, uint32_t type, const void *body, size_t size)
{
	struct record *r = carrier_reserve(c, size);

	if (!r)
		return false;
	r->kind = 1;
	r->flags = 0;
	r->type = type;
	r->to_serial = r->from_serial = r->ref = 0;
	r->to_slot = r->from_slot = r->ref_slot = 0;
	if (size)
		memcpy(r + 1, body, size);
	carrier_commit(c);
	return true;
}

/*
 * Another OS process of the case. It passes if it returns with nothing complained of. Before the caller is a node: TSan
 * allows no threads in what was forked by several.
 */
static inline pid_t node_fork(void (*fn)(void *arg), void *arg)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	node_reset();
	atomic_store(&selftest_failed, 0);
	fn(arg);
	fflush(stdout);
	_exit(atomic_load(&selftest_failed) ? 1 : 0);
}

static inline int node_status(pid_t pid)
{
	int status = -1;
	int64_t until = test_now_ms() + 2 * WAIT_S * 1000;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (test_now_ms() > until) {
			test_note("it does not end: killed");
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
		test_nap(1);
	}
	return status;
}

static inline unsigned int fds_open(void)
{
	unsigned int n = 0;
	DIR *d = opendir("/proc/self/fd");

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static inline unsigned int maps_open(void)
{
	char line[512];
	unsigned int n = 0;
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:mote") != NULL;
	if (f)
		fclose(f);
	return n;
}

static inline void test_stage(unsigned int stage)
{
	atomic_store(&shared->stage, stage);
}

static inline void port_case(const char *name, void (*fn)(void))
{
	memset(shared, 0, sizeof(*shared));
	node_reset();
	selftest_case(name, fn);
}

static inline void port_tests_begin(void)
{
	snprintf(test_dir, sizeof(test_dir), "/tmp/mote-port-XXXXXX");
	if (!mkdtemp(test_dir))
		test_bail_out();
	setenv("MOTE_DIR", test_dir, 1);
	setenv("MOTE_PORT", "user", 1);
	unsetenv("MOTE_NODE");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		test_bail_out();
}

static inline int port_tests_done(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", test_dir);
	if (system(command))
		printf("# %s is left\n", test_dir);
	return selftest_done();
}

#endif
