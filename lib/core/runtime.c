// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Starting and stopping. The runtime is one per OS process; a fork leaves none in the child.
 */
#include "core/async_kill.h"
#include "core/crash.h"
#include "core/limit.h"
#include "core/node.h"
#include "core/outbox.h"
#include "core/process.h"
#include "core/reserve.h"
#include "io/io.h"
#include "port/port.h"
#include "sched/activation.h"
#include "sched/blocking.h"
#include "sched/overseer.h"
#include "sched/replay.h"

#include <mote/info.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MAX_SCHEDULERS	256
#define MAX_PROCESSES	(UINT32_C(1) << 27)
#define DEFAULT_PROCESSES (UINT32_C(1) << 24)
#define LEAST_PROCESSES	(UINT32_C(1) << 14)
#define MAX_SPARES	4096
#define DEFAULT_SPARES	256
#define RUN_STOP_MS	10000		/* how long mote_run() waits for the others when its process has ended */

static enum { STOPPED, STARTING, RUNNING, STOPPING, FROZEN } state;
static pthread_mutex_t state_mutex = PTHREAD_MUTEX_INITIALIZER;
static void (*_Atomic log_fn)(int level, const char *text, void *arg);
static void *log_arg;
static _Atomic(const struct runtime_reports *) reports_above;
static _Atomic bool stopping;

bool runtime_logs(void)
{
	return atomic_load_explicit(&log_fn, memory_order_acquire);
}

void runtime_reports_set(const struct runtime_reports *reports)
{
	/* release: whoever calls them sees what they need */
	atomic_store_explicit(&reports_above, reports, memory_order_release);
}

const struct runtime_reports *runtime_reports_get(void)
{
	return atomic_load_explicit(&reports_above, memory_order_acquire);
}

bool runtime_stopping(void)
{
	/* relaxed: a sign, no more */
	return atomic_load_explicit(&stopping, memory_order_relaxed);
}

/* Rooms above core say things as a process's own code: there is nothing to be veiled, and who runs may be taken away. */
static bool in_own_code(void)
{
	/* relaxed: written by this thread */
	return process_caller() && atomic_load_explicit(&worker_self()->mode, memory_order_relaxed) == SLOT_USER;
}

static void say(const struct runtime_reports *above, int level, const char *format, va_list args)
{
	void (*fn)(int level, const char *text, void *arg) = atomic_load_explicit(&log_fn, memory_order_acquire);
	struct scheduler *veiled;
	char text[1024];

	if (!fn && !above)
		return;
	vsnprintf(text, sizeof(text), format, args);
	if (in_own_code()) {
		runtime_tell(level, text);
		if (above)
			above->text(level, text);
		return;
	}
	veiled = runtime_veil();
	if (fn)
		fn(level, text, log_arg);
	if (above)
		above->text(level, text);
	runtime_unveil(veiled);
}

void runtime_log(int level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(runtime_reports_get(), level, format, args);
	va_end(args);
}

void runtime_say(int level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(NULL, level, format, args);
	va_end(args);
}

PROCESS_ENTRY void runtime_tell(int level, const char *text)
{
	void (*fn)(int level, const char *text, void *arg) = atomic_load_explicit(&log_fn, memory_order_acquire);

	if (fn)
		fn(level, text, log_arg);
	PROCESS_ENTRY_END();
}

int opts_copy(void *to, size_t known, const void *from)
{
	size_t size;

	memset(to, 0, known);
	if (!from)
		return 0;
	memcpy(&size, from, sizeof(size));
	if (size < sizeof(size) || size > 4096)
		return -EINVAL;
	for (size_t i = known; i < size; i++) {
		if (((const char *)from)[i])
			return -E2BIG;
	}
	memcpy(to, from, size < known ? size : known);
	return 0;
}

void opts_give(void *to, size_t size, const void *from, size_t known)
{
	memset(to, 0, size);
	memcpy(to, from, size < known ? size : known);
}

/* CPUs that the cgroup (v2) lets us use, rounded up; 0: no limit known. */
static unsigned int cgroup_cpus(void)
{
	char path[512], line[512], *rest;
	long long quota, period;
	unsigned int best = 0;
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		return 0;
	rest = NULL;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "0::", 3)) {
			rest = line + 3;
			rest[strcspn(rest, "\n")] = 0;
			break;
		}
	}
	fclose(f);
	if (!rest)
		return 0;
	/* A limit may stand at any level above, too. */
	for (;;) {
		snprintf(path, sizeof(path), "/sys/fs/cgroup%.400s/cpu.max", rest);
		f = fopen(path, "re");
		if (f) {
			if (fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
				unsigned int cpus = (unsigned int)((quota + period - 1) / period);

				if (!best || cpus < best)
					best = cpus;
			}
			fclose(f);
		}
		if (!strrchr(rest, '/') || !rest[0] || !strcmp(rest, "/"))
			return best;
		*strrchr(rest, '/') = 0;
	}
}

static unsigned int default_schedulers(void)
{
	const char *env = getenv("MOTE_SCHEDULERS");
	unsigned int n, limit = cgroup_cpus();
	cpu_set_t set;

	if (env && *env) {
		char *end;
		unsigned long wanted = strtoul(env, &end, 10);

		if (!*end && wanted > 0 && wanted <= MAX_SCHEDULERS)
			return (unsigned int)wanted;
		return 0;
	}
	if (chance_seeded(NULL))
		return REPLAY_SCHEDULERS;
	n = sched_getaffinity(0, sizeof(set), &set) ? (unsigned int)sysconf(_SC_NPROCESSORS_ONLN) :
						      (unsigned int)CPU_COUNT(&set);
	if (limit && limit < n)
		n = limit;
	return n > MAX_SCHEDULERS ? MAX_SCHEDULERS : n ? n : 1;
}

/* What mote_run() waits for. One at a time: there is one runtime. */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t over;
	bool ended;
	uint32_t why;
} run = { .mutex = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER };

static void forget_in_child(void)
{
	/* The parent's memory stays mapped: its processes may be anywhere in it. */
	if (state == STOPPED)
		return;
	pthread_mutex_init(&state_mutex, NULL);
	pthread_mutex_init(&run.mutex, NULL);
	pthread_cond_init(&run.over, NULL);
	state = STOPPED;
	nodes_forget();
	schedulers_forget();
	processes_forget();
	process_table_forget();
	timers_forget();
	reserve_forget();
	names_forget();
	outbox_forget();
	os_signals_forget();
	async_kill_forget();
	crash_forget();
	io_forget();
	blocking_forget();
	replay_stop();
}

static void register_fork(void)
{
	pthread_atfork(NULL, NULL, forget_in_child);
}

/* Where a program has little address space, no more than an eighth of it is for processes. */
static uint32_t default_processes(void)
{
	uint32_t max = DEFAULT_PROCESSES;
	struct rlimit limit;

	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY) {
		while (max > LEAST_PROCESSES && max * sizeof(struct process) > limit.rlim_cur / 8)
			max /= 2;
	}
	return max;
}

static void tell_spoiled(const char *what)
{
	runtime_log(MOTE_LOG_WARNING, "this run can not be replayed: %s took part", what);
}

/* driven: by the caller, if it is a seeded run. */
static int start_parts(const struct mote_opts *opts, bool driven)
{
	unsigned int n = opts->schedulers ? opts->schedulers : default_schedulers();
	uint32_t max = opts->max_processes ? opts->max_processes : default_processes();
	unsigned int spares = opts->spares ? opts->spares : DEFAULT_SPARES;
	int err;

	if (!n || n > MAX_SCHEDULERS || max > MAX_PROCESSES || spares > MAX_SPARES || opts->reserved)
		return -EINVAL;
	err = nodes_start(opts->node, n, opts->node_budget);
	if (err)
		return err;
	/* What other nodes do can not be replayed, and nobody would sleep where they ring. */
	err = port_node && chance_seeded(NULL) ? -EINVAL : process_table_start(max, n);
	if (err)
		goto fail_nodes;
	err = io_start(n);
	if (err)
		goto fail_table;
	err = crash_start();
	if (err)
		goto fail_io;
	err = schedulers_start(n, spares, &process_hooks);
	if (err)
		goto fail_io;
	err = replay_begin(driven);
	if (!err)
		err = reserve_start(n);
	if (!err)
		err = timers_start();
	if (!err)
		err = nodes_open();
	if (err)
		goto fail_schedulers;
	return 0;
fail_schedulers:
	timers_stop();
	reserve_stop();
	schedulers_stop(INT64_MAX);
	schedulers_destroy();
fail_io:
	crash_stop();
	io_stop();
fail_table:
	process_table_stop();
fail_nodes:
	nodes_stop();
	return err;
}

static int start(const struct mote_opts *opts, bool driven)
{
	static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
	struct mote_opts known;
	int err = opts_copy(&known, sizeof(known), opts);

	if (err)
		return err;
	if (mote_in_process())
		return -EBUSY;
	pthread_once(&fork_once, register_fork);
	pthread_mutex_lock(&state_mutex);
	if (state != STOPPED) {
		pthread_mutex_unlock(&state_mutex);
		return -EBUSY;
	}
	state = STARTING;
	atomic_store_explicit(&stopping, false, memory_order_relaxed);
	log_arg = known.log_arg;
	/* release: a worker that sees the function sees its argument */
	atomic_store_explicit(&log_fn, known.log, memory_order_release);
	err = replay_start(tell_spoiled);
	if (!err)
		err = start_parts(&known, driven);
	if (err)
		replay_stop();
	state = err ? STOPPED : RUNNING;
	pthread_mutex_unlock(&state_mutex);
	return err;
}

int mote_start(const struct mote_opts *opts)
{
	return start(opts, false);
}

static void tell_all(struct mote_reason reason)
{
	mote_pid pid = MOTE_NOBODY;

	while (mote_pid_valid(pid = mote_process_next(pid)))
		if (mote_exit_pid(pid, reason) == -ENOMEM)
			reserve_exit_pid(pid, reason);
}

static bool nobody_left(void)
{
	return process_count() == 0;
}

/* True: nobody is left. New processes may appear meanwhile, so the telling is repeated. */
static bool end_all(struct mote_reason reason, int64_t until)
{
	struct timespec pause = { .tv_nsec = 50000 };
	int64_t told = 0;

	while (process_count() > 0) {
		int64_t now = clock_now();

		if (now >= until)
			return false;
		if (now - told > 20000000) {
			tell_all(reason);
			told = now;
		}
		if (replay_drive(nobody_left, 20000000))
			continue;
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 1000000)
			pause.tv_nsec *= 2;
	}
	return true;
}

static int report_living(void (*alive)(mote_pid pid, const char *label, void *arg), void *arg)
{
	struct mote_process_info info;
	mote_pid pid = MOTE_NOBODY;
	int n = 0;

	while (mote_pid_valid(pid = mote_process_next(pid))) {
		info.size = sizeof(info);
		if (mote_process_info(pid, &info))
			continue;
		n++;
		if (alive)
			alive(pid, info.name[0] ? info.name : info.label, arg);
	}
	return n;
}

int mote_stop(mote_deadline deadline, void (*alive)(mote_pid pid, const char *label, void *arg), void *arg)
{
	int64_t now = clock_now(), half;
	int left = 0;

	pthread_mutex_lock(&state_mutex);
	if (state != RUNNING || mote_in_process()) {
		pthread_mutex_unlock(&state_mutex);
		return -ESRCH;
	}
	state = STOPPING;
	atomic_store_explicit(&stopping, true, memory_order_relaxed);
	pthread_mutex_unlock(&state_mutex);

	half = deadline.ns == INT64_MAX ? now + RUN_STOP_MS * INT64_C(500000) :
	       deadline.ns > now ? now + (deadline.ns - now) / 2 : now;
	if (!end_all(MOTE_REASON_SHUTDOWN, half) && !end_all(MOTE_REASON_KILL, deadline.ns))
		left = report_living(alive, arg);
	nodes_close();
	if (!schedulers_stop(left ? clock_now() + 1000000 : INT64_MAX) || left) {
		state = FROZEN;
		return left ? left : 1;
	}
	blocking_stop();
	os_signals_stop();
	async_kill_stop();
	timers_stop();
	reserve_stop();
	names_stop();
	nodes_stop();
	process_table_stop();
	processes_forget();
	schedulers_destroy();
	crash_stop();
	io_stop();
	replay_stop();
	atomic_store_explicit(&log_fn, NULL, memory_order_release);
	pthread_mutex_lock(&state_mutex);
	state = STOPPED;
	pthread_mutex_unlock(&state_mutex);
	return 0;
}

void runtime_root_ended(const struct mote_reason *reason)
{
	pthread_mutex_lock(&run.mutex);
	run.why = reason->kind;
	run.ended = true;
	pthread_cond_signal(&run.over);
	pthread_mutex_unlock(&run.mutex);
}

static bool root_ended(void)
{
	return run.ended;
}

int mote_run(mote_fn fn, void *arg, const struct mote_opts *opts)
{
	int err = start(opts, true);

	if (err)
		return err;
	run.ended = false;
	if (!mote_pid_valid(process_spawn_root(fn, arg, __builtin_return_address(0)))) {
		err = mote_errno();
		mote_stop(MOTE_FOREVER, NULL, NULL);
		return err;
	}
	replay_drive(root_ended, INT64_MAX);
	pthread_mutex_lock(&run.mutex);
	while (!run.ended)
		pthread_cond_wait(&run.over, &run.mutex);
	pthread_mutex_unlock(&run.mutex);
	mote_stop(mote_in_ms(RUN_STOP_MS), NULL, NULL);
	return run.why > MOTE_SHUTDOWN;
}

int mote_blocking(int64_t (*fn)(void *arg), void *arg, int64_t *result, mote_deadline deadline)
{
	int err;

	runtime_enter("mote_blocking");
	err = blocking_run(fn, arg, result, deadline.ns);
	if (err == -EINTR)
		task_die(scheduler_self()->current);
	runtime_leave();
	return err == -EINPROGRESS ? -ETIMEDOUT : err;
}

int mote_runtime_info(struct mote_runtime_info *info)
{
	struct mote_runtime_info full = { .size = info->size };
	struct replay_info replay = replay_info();
	struct activation_counts activated;
	struct overseer_counts counts;

	if (info->size < sizeof(info->size))
		return -EINVAL;
	if (!process_table)
		return -ESRCH;
	full.schedulers = schedulers_count();
	full.io = io_name();
	full.guards = stack_guards();
	full.port = port_name();
	full.processes = (uint64_t)process_count();
	full.spawned = process_count_spawned();
	limits_describe(&full);
	for (unsigned int i = 0; i < full.schedulers; i++) {
		struct scheduler *s = scheduler_at(i);

		full.switches += atomic_load_explicit(&s->switches, memory_order_relaxed);
		full.steals += atomic_load_explicit(&s->steals, memory_order_relaxed);
		full.parks += atomic_load_explicit(&s->parks, memory_order_relaxed);
		full.wakes += atomic_load_explicit(&s->wakes, memory_order_relaxed);
	}
	counts = overseer_counts();
	activated = activation_counts();
	full.workers = replay.seeded ? 1 : workers_count();
	full.activations = activated.taken;
	full.activations_vain = activated.vain;
	full.handovers = replay.seeded ? replay.handovers : counts.handovers + activated.taken;
	full.handovers_denied = counts.denied;
	full.looks = counts.looks;
	full.crashes = crash_count();
	full.async_kills = async_kill_count();
	full.seeded = replay.seeded;
	full.replayable = replay.seeded && !replay.spoiled_by;
	full.spoiled_by = replay.spoiled_by;
	full.seed = replay.seed;
	full.schedule_hash = replay.hash;
	opts_give(info, full.size, &full, sizeof(full));
	return 0;
}
