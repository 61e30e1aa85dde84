// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A pool of threads for code that blocks. Threads are made when a job finds none idle, up to 64, and leave after some
 * seconds of idleness. Each waits for the one that left before it, and blocking_stop() for the last.
 *
 * A job has two parties, the task that waits and the thread that runs it, and belongs to whoever leaves last: the task
 * may give up at its deadline while fn goes on.
 */
#include "sched/blocking.h"
#include "sched/replay.h"
#include "sched/scheduler.h"

#include <mote/info.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define MAX_THREADS	64
#define IDLE_SECONDS	5
#define STACK_SIZE	(256 << 10)	/* glibc's resolver wants some */

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_ABANDONED };

struct job {
	struct job *next, **prev;
	int64_t (*fn)(void *arg);
	void *arg;
	int64_t result;
	struct task *task;
	_Atomic int state;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;	/* all below, and changes of job->state */
static pthread_cond_t work_there, thread_left = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct job *first, **last = &first;
static unsigned int nr_threads, nr_idle;
static bool stopping;
static bool joinable;		/* `left`: the thread that left last, which nobody has waited for yet */
static pthread_t left;

static void init(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&work_there, &attr);
	pthread_condattr_destroy(&attr);
}

static void job_unlink(struct job *j)
{
	*j->prev = j->next;
	if (j->next)
		j->next->prev = j->prev;
	else
		last = j->prev;
}

static void job_run(struct job *j)
{
	struct task *task;

	job_unlink(j);
	atomic_store_explicit(&j->state, JOB_RUNNING, memory_order_relaxed);
	pthread_mutex_unlock(&mutex);
	j->result = j->fn(j->arg);
	pthread_mutex_lock(&mutex);
	if (atomic_load_explicit(&j->state, memory_order_relaxed) == JOB_ABANDONED) {
		free(j);
		return;
	}
	task = j->task;
	/*
	 * release: the result. Once the state is seen the task may free the job, and die; but not while the mutex is
	 * held, which it takes before it leaves.
	 */
	atomic_store_explicit(&j->state, JOB_DONE, memory_order_release);
	task_wake(NULL, task);
}

static void *thread_main(void *unused)
{
	struct timespec until;
	pthread_t before;
	int64_t now;
	bool join;

	(void)unused;
	pthread_setname_np(pthread_self(), "mote/blocking");
	pthread_mutex_lock(&mutex);
	while (!stopping) {
		if (first) {
			job_run(first);
			continue;
		}
		now = clock_real();
		until = (struct timespec){ now / 1000000000 + IDLE_SECONDS, now % 1000000000 };
		nr_idle++;
		if (pthread_cond_timedwait(&work_there, &mutex, &until) == ETIMEDOUT && !first) {
			nr_idle--;
			break;
		}
		nr_idle--;
	}
	before = left;
	join = joinable;
	left = pthread_self();
	joinable = true;
	nr_threads--;
	pthread_cond_broadcast(&thread_left);
	pthread_mutex_unlock(&mutex);
	if (join)
		pthread_join(before, NULL);
	return NULL;
}

/* With the mutex held. The program's signals are none of these threads' business. */
static int thread_start(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int err;

	sigfillset(&all);
	/* A fault whose signal is blocked ends the program without a word. */
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(&all, faults[i]);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&thread, &attr, thread_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (!err)
		nr_threads++;
	return err;
}

static int job_queue(struct job *j)
{
	int err = 0;

	pthread_mutex_lock(&mutex);
	j->next = NULL;
	j->prev = last;
	*last = j;
	last = &j->next;
	if (nr_idle)
		pthread_cond_signal(&work_there);
	else if (nr_threads < MAX_THREADS && thread_start() && !nr_threads)
		err = -EAGAIN;
	if (err)
		job_unlink(j);
	pthread_mutex_unlock(&mutex);
	return err;
}

/* True: nobody will run it. */
static bool job_withdraw(struct job *j)
{
	bool queued;

	pthread_mutex_lock(&mutex);
	queued = atomic_load_explicit(&j->state, memory_order_relaxed) == JOB_QUEUED;
	if (queued)
		job_unlink(j);
	pthread_mutex_unlock(&mutex);
	return queued;
}

/* True: it is done after all. False: the thread will free it. */
static bool job_abandon(struct job *j)
{
	bool done;

	pthread_mutex_lock(&mutex);
	done = atomic_load_explicit(&j->state, memory_order_relaxed) == JOB_DONE;
	if (!done)
		atomic_store_explicit(&j->state, JOB_ABANDONED, memory_order_relaxed);
	pthread_mutex_unlock(&mutex);
	return done;
}

struct alarm {
	struct wheel_timer timer;
	struct task *task;
	_Atomic bool fired;
};

static void alarm_fire(struct scheduler *s, struct wheel_timer *t)
{
	struct alarm *a = container_of(t, struct alarm, timer);

	atomic_store_explicit(&a->fired, true, memory_order_release);
	task_wake(s, a->task);
}

/*
 * Waits for the job. 0: done. Otherwise as blocking_run(); the job is the caller's to free unless the result is
 * -EINPROGRESS.
 */
static int job_await(struct task *self, struct job *j, struct alarm *a, bool abandon)
{
	bool ending = false, begun = false;

	for (;;) {
		/* First, since it empties the inbox, and a nudge with it: what follows looks at what the nudge was for. */
		if (task_signals(self) && !ending) {
			ending = true;
			if (job_withdraw(j))
				return -EINTR;
		}
		/* acquire: the result */
		if (atomic_load_explicit(&j->state, memory_order_acquire) == JOB_DONE)
			break;
		if (!ending && !begun && atomic_load_explicit(&a->fired, memory_order_acquire)) {
			if (job_withdraw(j))
				return -ETIMEDOUT;
			begun = !abandon;
			if (begun)
				continue;
			if (!job_abandon(j))
				return -EINPROGRESS;
			break;
		}
		task_park(scheduler_self(), MOTE_WAIT_BLOCKING);
	}
	/* Not before the thread has let go of the job and the task: see job_run(). */
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
	return ending ? -EINTR : 0;
}

static int run(int64_t (*fn)(void *arg), void *arg, int64_t *result, int64_t deadline_ns, bool abandon)
{
	struct scheduler *s = scheduler_self();
	struct task *self = s->current;
	struct alarm a = { .timer.fire = alarm_fire, .task = self };
	bool unlimited = deadline_ns == BLOCKING_UNLIMITED;
	int err = unlimited ? 0 : task_clamp(self, &deadline_ns);
	struct job *j;

	if (err)
		return err;
	if (deadline_ns <= 0)
		return -ETIMEDOUT;
	replay_spoil("mote_blocking()");
	pthread_once(&once, init);
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->fn = fn;
	j->arg = arg;
	j->task = self;
	if (deadline_ns != INT64_MAX && !unlimited)
		wheel_arm(&s->wheel, &a.timer, deadline_ns);
	err = job_queue(j);
	if (!err)
		err = job_await(self, j, &a, abandon);
	wheel_disarm(&a.timer);
	if (!err && result)
		*result = j->result;
	if (err != -EINPROGRESS)
		free(j);
	return err;
}

int blocking_run(int64_t (*fn)(void *arg), void *arg, int64_t *result, int64_t deadline_ns)
{
	return run(fn, arg, result, deadline_ns, true);
}

int blocking_await(int64_t (*fn)(void *arg), void *arg, int64_t *result, int64_t deadline_ns)
{
	return run(fn, arg, result, deadline_ns, false);
}

void blocking_stop(void)
{
	pthread_once(&once, init);
	pthread_mutex_lock(&mutex);
	stopping = true;
	pthread_cond_broadcast(&work_there);
	while (nr_threads)
		pthread_cond_wait(&thread_left, &mutex);
	stopping = false;
	/* It has waited, or will, for who left before: then none of the pool's code runs any more. */
	if (joinable)
		pthread_join(left, NULL);
	joinable = false;
	pthread_mutex_unlock(&mutex);
}

void blocking_forget(void)
{
	pthread_mutex_init(&mutex, NULL);
	pthread_cond_init(&thread_left, NULL);
	init();
	first = NULL;
	last = &first;
	nr_threads = nr_idle = 0;
	stopping = joinable = false;
}
