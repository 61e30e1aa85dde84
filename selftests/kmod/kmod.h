/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kmod.h: what the tests of /dev/mote share. A node is bound to the process that set it up, but one process may have
 * several: most tests have their two nodes in one.
 */
#ifndef MOTE_SELFTEST_KMOD_H
#define MOTE_SELFTEST_KMOD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/mote.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include "kselftest_harness.h"

#define DEVICE	"/dev/mote"
/* What should happen at once, on a machine that may be slow, and debugged. */
#define SOON_MS	20000
#define SECOND	1000000000LL
#define DATA	((__u64)MOTE_DATA_MIN)

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	90

struct node {
	int fd;
	__u32 id;
	__u32 nr_slots;
	struct mote_bells *bells;
};

static inline size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static inline long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

static inline void sleep_ms(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* Waits until the condition holds, and gives what it is then. */
#define WITHIN(ms, condition) \
	({ \
		long long until_ = now_ns() + (ms) * 1000000LL; \
		int so_; \
		while (!(so_ = !!(condition)) && now_ns() < until_) \
			sleep_ms(1); \
		so_; \
	})

/* MOTE_TEST_ROUNDS multiplies. */
static inline long test_rounds(long normally)
{
	const char *text = getenv("MOTE_TEST_ROUNDS");
	double times = text ? atof(text) : 1;

	return times > 0 && normally * times >= 1 ? normally * times : 1;
}

/* What ioctl() returns, or -errno. */
static inline int call(int fd, unsigned long number, void *arg)
{
	int ret = ioctl(fd, number, arg);

	return ret < 0 ? -errno : ret;
}

static inline int device_open(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Once per test, in the fixture's set-up. */
#define NEED_DEVICE() \
	do { \
		if (access(DEVICE, F_OK)) \
			SKIP(return, "no " DEVICE ": the module is not loaded"); \
		signal(SIGPIPE, SIG_IGN); \
	} while (0)

static inline __u64 features(void)
{
	struct mote_query query = { .size = sizeof(query) };
	int fd = device_open();

	if (fd >= 0) {
		call(fd, MOTE_IOC_QUERY, &query);
		close(fd);
	}
	return query.features;
}

static inline void setup_init(struct mote_setup *setup, const char *name, __u32 nr_slots)
{
	memset(setup, 0, sizeof(*setup));
	setup->size = sizeof(*setup);
	setup->nr_slots = nr_slots;
	setup->mode = 0600;
	setup->event_slot = MOTE_NO_SLOT;
	snprintf(setup->name, sizeof(setup->name), "%s", name);
}

static inline void *area_map(int fd, int area, __u32 id, size_t length, int prot)
{
	return mmap(NULL, length, prot, MAP_SHARED, fd, MOTE_MAP(area, id));
}

static inline size_t bells_length(__u32 nr_slots)
{
	size_t length = sizeof(struct mote_bells) + nr_slots * sizeof(struct mote_bell);

	return (length + page_size() - 1) & -page_size();
}

static inline size_t writer_length(__u64 data)
{
	return page_size() + 2 * data;
}

static inline struct mote_bells *bells_map(int fd, __u32 id, __u32 nr_slots, int prot)
{
	return area_map(fd, MOTE_AREA_BELLS, id, bells_length(nr_slots), prot);
}

/* A new node of this process: 0, or -errno. */
static inline int node_make(struct node *node, const char *name, __u32 nr_slots, __u32 mode)
{
	struct mote_setup setup;
	int err;

	setup_init(&setup, name, nr_slots);
	setup.mode = mode;
	node->bells = MAP_FAILED;
	node->id = 0;
	node->nr_slots = nr_slots;
	node->fd = device_open();
	if (node->fd < 0)
		return node->fd;
	err = call(node->fd, MOTE_IOC_SETUP, &setup);
	if (err)
		return err;
	node->id = setup.node;
	node->bells = bells_map(node->fd, node->id, nr_slots, PROT_READ | PROT_WRITE);
	return node->bells == MAP_FAILED ? -errno : 0;
}

static inline void node_end(struct node *node)
{
	if (node->bells && node->bells != MAP_FAILED)
		munmap(node->bells, bells_length(node->nr_slots));
	if (node->fd > 0)
		close(node->fd);
	node->bells = MAP_FAILED;
	node->fd = -1;
}

static inline int lane_open_sized(int fd, __u32 reader, __u64 data, __u64 cookie)
{
	struct mote_lane_open open = {
		.size = sizeof(open), .node = reader, .data_size = data, .cookie = cookie,
	};
	int err = call(fd, MOTE_IOC_LANE_OPEN, &open);

	return err ? err : (int)open.lane;
}

static inline int lane_open(int fd, __u32 reader)
{
	return lane_open_sized(fd, reader, DATA, 0);
}

/* LANE_CLOSE, NODE_WATCH, BELL_FD. */
static inline int object_call(int fd, unsigned long number, __u32 id, __u32 flags)
{
	struct mote_object object = { .size = sizeof(object), .flags = flags, .id = id };

	return call(fd, number, &object);
}

static inline int lane_close(int fd, __u32 lane)
{
	return object_call(fd, MOTE_IOC_LANE_CLOSE, lane, 0);
}

static inline int node_find(int fd, __u32 id, struct mote_node_desc *desc)
{
	memset(desc, 0, sizeof(*desc));
	desc->size = sizeof(*desc);
	desc->node = id;
	return call(fd, MOTE_IOC_NODE_FIND, desc);
}

static inline int name_find(int fd, const char *name, struct mote_node_desc *desc)
{
	memset(desc, 0, sizeof(*desc));
	desc->size = sizeof(*desc);
	desc->uid = MOTE_OWN_UID;
	snprintf(desc->name, sizeof(desc->name), "%s", name);
	return call(fd, MOTE_IOC_NODE_FIND, desc);
}

static inline int bell_ring(int fd, __u32 node, __u32 slot)
{
	struct mote_enter enter = { .size = sizeof(enter), .flags = MOTE_ENTER_RING, .ring = { node, slot } };

	return call(fd, MOTE_IOC_ENTER, &enter);
}

static inline int bell_wait_until(int fd, __u32 slot, __u32 seq, long long deadline)
{
	struct mote_enter enter = {
		.size = sizeof(enter), .flags = MOTE_ENTER_WAIT, .slot = slot, .seq = seq, .deadline = deadline,
	};

	return call(fd, MOTE_IOC_ENTER, &enter);
}

static inline int bell_wait(int fd, __u32 slot, __u32 seq, long ms)
{
	return bell_wait_until(fd, slot, seq, now_ns() + ms * 1000000LL);
}

/* Acquires what was published before the ring. */
static inline __u32 bell_seq(struct mote_bells *bells, __u32 slot)
{
	return __atomic_load_n(&bells->bell[slot].seq, __ATOMIC_ACQUIRE);
}

static inline __u32 bell_state(struct mote_bells *bells, __u32 slot)
{
	return __atomic_load_n(&bells->bell[slot].state, __ATOMIC_ACQUIRE);
}

/* The next event: 0, -ETIMEDOUT, or what read() said. */
static inline int event_next(int fd, struct mote_event *event, int ms)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	struct iovec to = { event, sizeof(*event) };
	ssize_t n;

	memset(event, 0, sizeof(*event));
	do {
		n = poll(&poller, 1, ms);
		if (n < 0)
			return -errno;
		if (!n)
			return -ETIMEDOUT;
		/* What was there may be gone: a lane that was opened and closed is no news. */
		n = preadv2(fd, &to, 1, -1, RWF_NOWAIT);
	} while (n < 0 && errno == EAGAIN);
	if (n < 0)
		return -errno;
	return n == sizeof(*event) ? 0 : -EIO;
}

/* All waiting events, thrown away. How many? */
static inline int events_drop(int fd)
{
	struct mote_event event;
	int nr = 0;

	while (!event_next(fd, &event, 0))
		nr++;
	return nr;
}

/* Open files of the module, by all; -1: not to be seen. */
static inline long module_refs(void)
{
	FILE *file = fopen("/sys/module/mote/refcnt", "r");
	long refs = -1;

	if (file) {
		if (fscanf(file, "%ld", &refs) != 1)
			refs = -1;
		fclose(file);
	}
	return refs;
}

/* How a thread is: R, S, D, T, t, Z; 0: there is none. */
static inline char thread_state(pid_t tid)
{
	char path[64], text[512], *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	end = strrchr(text, ')');
	return end ? end[2] : 0;
}

static inline pid_t own_tid(void)
{
	return syscall(SYS_gettid);
}

/* A child that does not outlive its parent: what the tests leave behind would be the next test's. */
static inline pid_t child_start(void)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(99);
	}
	return pid;
}

/* Its exit status; -signal; -1000 if it does not end within the time. */
static inline int child_wait_for(pid_t pid, int ms)
{
	int status;

	if (!WITHIN(ms, waitpid(pid, &status, WNOHANG) == pid)) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		return -1000;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline int child_wait(pid_t pid)
{
	return child_wait_for(pid, 60000);
}

/* Runs `code` in a child that shares nothing but descriptors; gives what the code returns, 0 ... 255. */
#define IN_CHILD(code) \
	({ \
		pid_t pid_ = child_start(); \
		if (!pid_) \
			_exit(({ code; })); \
		child_wait(pid_); \
	})

static inline int cpu_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

static inline int cpu_count(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
}

#endif
