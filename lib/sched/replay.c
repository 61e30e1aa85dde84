// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A step is one look, by one scheduler, at what it has to do, and the run of at most one task until that leaves. Tasks
 * always come back to the driver: ticks are used up at every switch (task_leave()), so no step is taken that the seed has
 * not picked.
 *
 * Nothing here may depend on addresses, on the machine, or on the real clock. The schedule's hash is there to show
 * that: the same program and seed must give the same one in another OS process.
 */
#include "sched/replay.h"
#include "sched/attack.h"
#include "sched/chance.h"
#include "sched/clock.h"
#include "sched/handover.h"
#include "sched/switch.h"
#include "io/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define START_NS	(INT64_C(1) << 50)
#define STEP_NS		1000
#define LOOK_IN		1024		/* steps between two looks for threads of the program's own */

bool replay_on;

static struct {
	struct chance chance;
	uint64_t hash;
	uint64_t steps;
	_Atomic(const char *) spoiled_by;
	void (*spoiled)(const char *what);
	unsigned long threads;		/* that are none of the program's business */
	pthread_t driver, thread;
	bool has_thread;
	sem_t begun;
	int begin_err;
	_Atomic bool left;		/* by the thread */
	uint64_t handovers;
} replay;

enum event { EVENT_RUN, EVENT_HANDOVER, EVENT_JUMP };

static void note(enum event event, unsigned int scheduler, uint64_t what)
{
	uint64_t words[] = { event, scheduler, what, (uint64_t)clock_now() };

	for (unsigned int i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		replay.hash = (replay.hash ^ words[i]) * UINT64_C(0x100000001b3);
		replay.hash ^= replay.hash >> 29;
	}
}

static bool spoiled(void)
{
	return atomic_load_explicit(&replay.spoiled_by, memory_order_acquire);
}

void replay_spoil_slow(const char *what)
{
	const char *none = NULL;

	if (spoiled() || !atomic_compare_exchange_strong(&replay.spoiled_by, &none, what))
		return;
	clock_let_go();
	replay.spoiled(what);
}

void replay_foreign(void)
{
	if (replay_on && !pthread_equal(pthread_self(), replay.driver))
		replay_spoil_slow("a thread of the program's own");
}

/* Not those that are ending, the kernel's for io_uring, nor the pool's of a runtime before this one. */
static bool thread_counts(const char *tid)
{
	enum { EXITING = 0x4, IO_WORKER = 0x10 };	/* PF_* of <linux/sched.h> */
	char path[64], text[512], state, *rest;
	unsigned int flags;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	rest = strrchr(text, ')');
	if (!rest || sscanf(rest, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return true;
	return state != 'Z' && state != 'X' && !(flags & (EXITING | IO_WORKER)) && !strstr(text, "(mote/");
}

static bool other_threads(void)
{
	unsigned long n = 0;
	struct dirent *e;
	struct stat st;
	DIR *d;

	/* One link for each, and two more. Where there is no /proc nobody knows. */
	if (stat("/proc/self/task", &st) || st.st_nlink <= replay.threads + 2)
		return false;
	d = opendir("/proc/self/task");
	if (!d)
		return true;
	while ((e = readdir(d)))
		n += e->d_name[0] != '.' && thread_counts(e->d_name);
	closedir(d);
	return n > replay.threads;
}

static void look_for_threads(void)
{
	if (!spoiled() && other_threads())
		replay_spoil_slow("a thread of the program's own");
}

int replay_start(void (*tell)(const char *what))
{
	int err = chance_start();

	if (err)
		return err;
	attack_start();
	replay_on = chance_seeded(NULL);
	if (!replay_on)
		return 0;
	chance_init(&replay.chance, UINT32_MAX);
	replay.hash = UINT64_C(0xcbf29ce484222325);
	replay.steps = 0;
	replay.handovers = 0;
	atomic_store(&replay.spoiled_by, NULL);
	replay.spoiled = tell;
#ifdef MOTE_TSAN
	replay.threads = 2;
#else
	replay.threads = 1;
#endif
	replay.driver = pthread_self();
	replay.has_thread = false;
	clock_make_virtual(START_NS);
	look_for_threads();
	return 0;
}

void replay_stop(void)
{
	replay_on = false;
	attack_stop();
	clock_make_real();
}

static struct worker *become(struct scheduler *s)
{
	struct worker *w = worker_self();

	w->scheduler = s;
	atomic_store_explicit(&w->entry, s, memory_order_relaxed);
	return w;
}

static struct scheduler *random_scheduler(void)
{
	return scheduler_at(chance_below(&replay.chance, schedulers_count()));
}

/* Slices of any length: most short, some as long as they are without a seed. */
static int random_slice(void)
{
	static const int lengths[] = { 1, 2, 3, 5, 8, 16, 64, SLICE_BUDGET };

	return lengths[chance_below(&replay.chance, sizeof(lengths) / sizeof(lengths[0]))];
}

static struct task *find_task(struct scheduler *s, bool eager)
{
	struct task *t = !s->alone && chance_one_in(&replay.chance, 8) ? scheduler_steal(s) : NULL;

	if (!t)
		t = scheduler_pick(s);
	if (!t && eager && !s->alone)
		t = scheduler_steal(s);
	return t;
}

/* The task of s, which has come back to find it taken, goes where a worker that is a spare from then on would put it. */
static void lost(struct scheduler *s, struct worker *w)
{
	struct task *t = atomic_load_explicit(&w->task, memory_order_relaxed);

	atomic_store_explicit(&w->task, NULL, memory_order_relaxed);
	become(s);
	counter_add(&s->generation, 1);
	if (atomic_load_explicit(&s->holds_back, memory_order_relaxed))
		task_hooks->flush(s, s);
	replay.handovers++;
	note(EVENT_HANDOVER, s->index, t->slot);
	become(NULL);
	task_ready(NULL, t, false);
}

/* eager: leaves nothing undone for which there is no better reason than chance. True: it did something. */
static bool step(struct scheduler *s, bool eager)
{
	struct worker *w = become(s);
	bool did = false;
	struct task *t;

	s->ticks = 1;
	if (eager || chance_one_in(&replay.chance, 4)) {
		did = scheduler_pass(s);
		if (spoiled() && io_pending(s))
			did |= io_poll(s, 0) > 0;
	}
	t = find_task(s, eager);
	if (!t)
		return did;
	note(EVENT_RUN, s->index, t->slot);
	s->slice = random_slice();
	if (chance_one_in(&replay.chance, 16))
		handover_doom(w);
	if (!scheduler_run(s, w, t))
		lost(s, w);
	return true;
}

static bool step_any(void)
{
	struct scheduler *first = random_scheduler();

	if (++replay.steps % LOOK_IN == 0)
		look_for_threads();
	/* As the overseer does for tasks whose waker computes instead of making room. */
	if (chance_one_in(&replay.chance, 16))
		scheduler_rescue(random_scheduler());
	clock_set(clock_now() + STEP_NS);
	if (step(first, false))
		return true;
	for (unsigned int i = 0; i < schedulers_count(); i++) {
		if (step(scheduler_at((first->index + i) % schedulers_count()), true))
			return true;
	}
	return false;
}

static int64_t next_timer(void)
{
	int64_t next = INT64_MAX;

	for (unsigned int i = 0; i < schedulers_count(); i++) {
		int64_t own = wheel_next(&scheduler_at(i)->wheel);

		if (own < next)
			next = own;
	}
	return next;
}

/* Until something comes from outside, or it is time. What has to be submitted has been. */
static void sleep_until(int64_t deadline)
{
	struct pollfd fds[MAX_SCHEDULERS];
	int64_t left = deadline == INT64_MAX ? 0 : deadline - clock_now();
	struct timespec ts = { left / 1000000000, left % 1000000000 };
	unsigned int n = schedulers_count();

	for (unsigned int i = 0; i < n; i++) {
		become(scheduler_at(i));
		if (io_poll(scheduler_at(i), 0) > 0)
			return;
		fds[i] = (struct pollfd){ .fd = io_wait_fd(scheduler_at(i)), .events = POLLIN };
	}
	if (schedulers_sleep_begin() && left >= 0)
		ppoll(fds, n, deadline == INT64_MAX ? NULL : &ts, NULL);
	schedulers_sleep_end();
	for (unsigned int i = 0; i < n; i++) {
		become(scheduler_at(i));
		io_poll(scheduler_at(i), 0);
	}
}

/* Nothing can run: time passes, or somebody outside has to do something. */
static void wait(int64_t until)
{
	int64_t next = next_timer();

	if (next > until)
		next = until;
	look_for_threads();
	if (spoiled() || next == INT64_MAX) {
		sleep_until(next);
		return;
	}
	clock_set(next);
	note(EVENT_JUMP, 0, (uint64_t)next);
}

static void drive(bool (*over)(void), int64_t until)
{
	while (!(over && over()) && clock_now() < until) {
		if (step_any())
			continue;
		if (schedulers_stopping())
			break;
		wait(until);
	}
	become(NULL);
}

bool replay_drive(bool (*over)(void), int64_t ns)
{
	int64_t now = clock_now();

	if (!replay_on || replay.has_thread)
		return false;
	drive(over, ns < INT64_MAX - now ? now + ns : INT64_MAX);
	return true;
}

static void *thread_main(void *unused)
{
	(void)unused;
	pthread_setname_np(pthread_self(), "mote/replay");
	replay.driver = pthread_self();
	replay.begin_err = worker_enlist();
	sem_post(&replay.begun);
	if (!replay.begin_err) {
		drive(NULL, INT64_MAX);
		worker_discharge();
	}
	atomic_store_explicit(&replay.left, true, memory_order_release);
	return NULL;
}

static int thread_start(void)
{
	int err;

	replay_spoil_slow("mote_start(), whose caller goes on,");
	atomic_store(&replay.left, false);
	sem_init(&replay.begun, 0, 0);
	err = -pthread_create(&replay.thread, NULL, thread_main, NULL);
	if (err)
		return err;
	replay.has_thread = true;
	while (sem_wait(&replay.begun))
		;
	return replay.begin_err;
}

int replay_begin(bool driven)
{
	if (!replay_on)
		return 0;
	return driven ? worker_enlist() : thread_start();
}

bool replay_end(int64_t deadline_ns)
{
	struct timespec pause = { .tv_nsec = 200000 };

	if (!replay.has_thread) {
		drive(NULL, INT64_MAX);
		worker_discharge();
		return true;
	}
	/* acquire: what the driver did is seen before anything of it is freed */
	while (!atomic_load_explicit(&replay.left, memory_order_acquire)) {
		if (clock_now() >= deadline_ns) {
			pthread_detach(replay.thread);
			return false;
		}
		nanosleep(&pause, NULL);
	}
	pthread_join(replay.thread, NULL);
	replay.has_thread = false;
	return true;
}

struct replay_info replay_info(void)
{
	struct replay_info info = { 0 };

	if (!replay_on)
		return info;
	info.seeded = chance_seeded(&info.seed);
	info.spoiled_by = atomic_load_explicit(&replay.spoiled_by, memory_order_relaxed);
	info.hash = replay.hash;
	info.handovers = replay.handovers;
	return info;
}
