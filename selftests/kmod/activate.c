// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Activations: a spare is told of a worker that blocks outside the runtime while there is something else to run; once
 * per block, and of nothing else. What must not be told is tried many times, and then something that must: it is told
 * first, so that nothing was told before.
 */
#include "kmod.h"
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/resource.h>

enum { RUNTIME, USER };

#define STALLED	77	/* the worker whose blocks are real */

FIXTURE(activate)
{
	struct node node;
	long refs;
};

FIXTURE_SETUP(activate)
{
	NEED_DEVICE();
	if (!(features() & MOTE_FEATURE_ACTIVATE))
		SKIP(return, "this kernel has no preempt notifiers");
	self->refs = module_refs();
	ASSERT_EQ(0, node_make(&self->node, "activate", 1, 0600));
}

FIXTURE_TEARDOWN(activate)
{
	node_end(&self->node);
	EXPECT_TRUE(WITHIN(SOON_MS, module_refs() <= self->refs))
		TH_LOG("%ld references, %ld before", module_refs(), self->refs);
}

struct worker {
	pthread_t thread;
	struct node *node;
	_Atomic __u32 mode, want;
	__u32 id;
	int event;		/* what its blocks wait for */
	void (*run)(struct worker *w);
	_Atomic pid_t tid;
	int err;
	_Atomic bool stop;
	long count;
};

static int worker_arm(struct worker *w)
{
	struct mote_worker worker = {
		.size = sizeof(worker), .mode = (uintptr_t)&w->mode, .want = (uintptr_t)&w->want, .mode_user = USER,
		.worker = w->id,
	};

	return call(w->node->fd, MOTE_IOC_WORKER, &worker);
}

static int worker_disarm(int fd)
{
	struct mote_worker worker = { .size = sizeof(worker), .flags = MOTE_WORKER_STOP };

	return call(fd, MOTE_IOC_WORKER, &worker);
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;

	w->err = worker_arm(w);
	w->tid = own_tid();
	if (!w->err)
		w->run(w);
	return NULL;
}

static int worker_start(struct worker *w, struct node *node, __u32 id, void (*run)(struct worker *w))
{
	memset(w, 0, sizeof(*w));
	w->node = node;
	w->id = id;
	w->run = run;
	w->want = 1;
	w->event = eventfd(0, EFD_CLOEXEC);
	return pthread_create(&w->thread, NULL, worker_thread, w);
}

static void worker_let(struct worker *w)
{
	__u64 one = 1;

	write(w->event, &one, sizeof(one));
}

static void worker_join(struct worker *w)
{
	w->stop = true;
	worker_let(w);
	pthread_join(w->thread, NULL);
	close(w->event);
}

static void worker_block(struct worker *w)
{
	__u64 count;

	read(w->event, &count, sizeof(count));
}

/* Blocks once, for real. */
static void run_once(struct worker *w)
{
	w->mode = USER;
	worker_block(w);
	w->mode = RUNTIME;
}

/* Runs again, and then blocks where that is its own affair. */
static void run_on(struct worker *w)
{
	run_once(w);
	worker_block(w);
}

static int spare_wait(int fd, struct mote_activate_wait *wait, long ms)
{
	memset(wait, 0, sizeof(*wait));
	wait->size = sizeof(*wait);
	wait->deadline = now_ns() + ms * 1000000LL;
	return call(fd, MOTE_IOC_ACTIVATE_WAIT, wait);
}

/* Nothing has been told up to now: a real block is the first thing that is. */
#define EXPECT_NONE_BEFORE() \
	({ \
		struct mote_activate_wait wait_; \
		struct worker real_; \
		EXPECT_EQ(-ETIMEDOUT, spare_wait(self->node.fd, &wait_, 0)) \
			TH_LOG("worker %u", wait_.worker); \
		ASSERT_EQ(0, worker_start(&real_, &self->node, STALLED, run_once)); \
		EXPECT_EQ(0, spare_wait(self->node.fd, &wait_, SOON_MS)); \
		EXPECT_EQ(STALLED, wait_.worker); \
		worker_join(&real_); \
	})

/* A spare that listens all the time, so that nothing is dropped because it is over: counts by worker. */
struct listener {
	pthread_t thread;
	int fd;
	long told[MOTE_WORKERS_MAX];
	int err;
};

static void *listener_thread(void *arg)
{
	struct listener *l = arg;
	struct mote_activate_wait wait;

	for (;;) {
		memset(&wait, 0, sizeof(wait));
		wait.size = sizeof(wait);
		wait.deadline = MOTE_FOREVER;
		l->err = call(l->fd, MOTE_IOC_ACTIVATE_WAIT, &wait);
		if (l->err)
			return NULL;
		if (wait.worker == MOTE_WORKERS_MAX)
			return NULL;
		l->told[wait.worker]++;
	}
}

static int listener_start(struct listener *l, int fd)
{
	memset(l, 0, sizeof(*l));
	l->fd = fd;
	return pthread_create(&l->thread, NULL, listener_thread, l);
}

/* Behind everything that it may have to hear still. */
static int listener_end(struct listener *l)
{
	struct mote_activate_wait post = {
		.size = sizeof(post), .flags = MOTE_ACTIVATE_POST, .worker = MOTE_WORKERS_MAX,
	};
	int err = call(l->fd, MOTE_IOC_ACTIVATE_WAIT, &post);

	pthread_join(l->thread, NULL);
	return err;
}

static void run_blocks(struct worker *w)
{
	while (!w->stop) {
		w->mode = USER;
		worker_block(w);
		w->mode = RUNTIME;
		w->count++;
	}
}

TEST_F(activate, once_per_block)
{
	struct mote_activate_wait wait;
	long long last = now_ns(), now;
	struct worker w;

	ASSERT_EQ(0, worker_start(&w, &self->node, 5, run_blocks));
	for (int i = 0; i < 50; i++) {
		ASSERT_EQ(0, spare_wait(self->node.fd, &wait, SOON_MS));
		now = now_ns();
		EXPECT_EQ(5, wait.worker);
		EXPECT_LE(last, wait.since);
		EXPECT_GE(now, wait.since);
		last = now;
		/* It is still in the same block. */
		EXPECT_EQ('S', thread_state(w.tid));
		if (i % 10 == 0)
			EXPECT_EQ(-ETIMEDOUT, spare_wait(self->node.fd, &wait, 10));
		worker_let(&w);
	}
	ASSERT_EQ(0, spare_wait(self->node.fd, &wait, SOON_MS));
	worker_join(&w);
	EXPECT_EQ(51, w.count);
}

TEST_F(activate, waits_for_none)
{
	/* Told later than it happened: a worker that still blocks is told of, one that runs again is not. */
	struct mote_activate_wait wait;
	struct worker w[3];

	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, worker_start(&w[i], &self->node, 10 + i, i ? run_once : run_on));
		EXPECT_TRUE(WITHIN(SOON_MS, w[i].mode == USER && thread_state(w[i].tid) == 'S'));
	}
	worker_let(&w[0]);
	EXPECT_TRUE(WITHIN(SOON_MS, w[0].mode == RUNTIME && thread_state(w[0].tid) == 'S'));
	worker_join(&w[1]);
	EXPECT_EQ(0, spare_wait(self->node.fd, &wait, SOON_MS));
	EXPECT_EQ(12, wait.worker);
	EXPECT_EQ(-ETIMEDOUT, spare_wait(self->node.fd, &wait, 0));
	worker_join(&w[0]);
	worker_join(&w[2]);
}

static void run_in_runtime(struct worker *w)
{
	for (int i = 0; i < 50; i++) {
		w->mode = i & 1 ? RUNTIME : 1000;
		usleep(100);
	}
}

TEST_F(activate, not_in_the_runtime)
{
	struct listener listener;
	struct worker w;

	ASSERT_EQ(0, listener_start(&listener, self->node.fd));
	ASSERT_EQ(0, worker_start(&w, &self->node, 6, run_in_runtime));
	worker_join(&w);
	EXPECT_EQ(0, listener_end(&listener));
	EXPECT_EQ(0, listener.err);
	EXPECT_EQ(0, listener.told[6]);
	EXPECT_NONE_BEFORE();
}

static void run_without_want(struct worker *w)
{
	w->want = 0;
	w->mode = USER;
	for (int i = 0; i < 50; i++)
		usleep(100);
	w->mode = RUNTIME;
}

TEST_F(activate, not_without_want)
{
	struct listener listener;
	struct worker w;

	ASSERT_EQ(0, listener_start(&listener, self->node.fd));
	ASSERT_EQ(0, worker_start(&w, &self->node, 6, run_without_want));
	worker_join(&w);
	EXPECT_EQ(0, listener_end(&listener));
	EXPECT_EQ(0, listener.told[6]);
	EXPECT_NONE_BEFORE();
}

static void run_until_preempted(struct worker *w)
{
	struct rusage before, now;

	cpu_pin(0);
	getrusage(RUSAGE_THREAD, &before);
	w->mode = USER;
	do {
		for (volatile int i = 0; i < 100000; i++)
			;
		getrusage(RUSAGE_THREAD, &now);
		w->count = now.ru_nivcsw - before.ru_nivcsw;
	} while (w->count < 20 && !w->stop);
	sched_yield();
	w->mode = RUNTIME;
	if (now.ru_nvcsw != before.ru_nvcsw)
		w->err = -EAGAIN;
}

static void *burn(void *arg)
{
	cpu_pin(0);
	while (!atomic_load((_Atomic bool *)arg))
		;
	return NULL;
}

TEST_F(activate, not_when_preempted)
{
	_Atomic bool stop = false;
	struct listener listener;
	pthread_t burner;
	struct worker w;

	ASSERT_EQ(0, listener_start(&listener, self->node.fd));
	ASSERT_EQ(0, pthread_create(&burner, NULL, burn, &stop));
	ASSERT_EQ(0, worker_start(&w, &self->node, 6, run_until_preempted));
	pthread_join(w.thread, NULL);
	atomic_store(&stop, true);
	pthread_join(burner, NULL);
	close(w.event);
	EXPECT_LE(20, w.count);
	EXPECT_EQ(0, listener_end(&listener));
	if (!w.err)
		EXPECT_EQ(0, listener.told[6]);
	EXPECT_NONE_BEFORE();
}

static void run_spins(struct worker *w)
{
	w->mode = USER;
	while (!w->stop)
		w->count++;
	w->mode = RUNTIME;
}

TEST_F(activate, not_when_stopped_or_traced)
{
	/* A process of its own, which is stopped and traced; its spare listens, and its exit status tells. */
	pid_t pid = child_start();
	int status;

	if (!pid) {
		static struct listener listener;
		static struct worker w;
		struct node node;
		sigset_t set;
		int signo, begun;

		/* Until the parent says so: by SIGUSR1, which this thread waits for, and all threads block. */
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, NULL);
		if (node_make(&node, "", 1, 0600) || listener_start(&listener, node.fd) ||
		    worker_start(&w, &node, 6, run_spins))
			_exit(90);
		/* Its first page faults may meet a lock of the address space's, and that is to block. */
		sleep_ms(50);
		begun = listener.told[6];
		prctl(PR_SET_NAME, "ready");
		sigwait(&set, &signo);
		w.stop = true;
		pthread_join(w.thread, NULL);
		if (listener_end(&listener))
			_exit(91);
		_exit(listener.told[6] - begun > 50 ? 50 : listener.told[6] - begun);
	}
	EXPECT_TRUE(WITHIN(SOON_MS, ({
		char path[64], name[16] = "";
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		fd = open(path, O_RDONLY);
		read(fd, name, sizeof(name) - 1);
		close(fd);
		!strncmp(name, "ready", 5) && thread_state(pid) == 'S';
	})));
	for (int i = 0; i < 10; i++) {
		kill(pid, SIGSTOP);
		EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'T'));
		kill(pid, SIGCONT);
		EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'S'));
	}
	/* All of its threads: the worker is the last one. */
	for (int i = 0; i < 10; i++) {
		for (pid_t tid = pid; tid < pid + 8; tid++) {
			if (ptrace(PTRACE_SEIZE, tid, 0, 0))
				continue;
			ptrace(PTRACE_INTERRUPT, tid, 0, 0);
			waitpid(tid, &status, __WALL);
			ptrace(PTRACE_DETACH, tid, 0, 0);
		}
	}
	kill(pid, SIGUSR1);
	/* Each of twenty stops would have been told. One of another kind may be: whoever stops looks at memory, too. */
	EXPECT_LE(child_wait(pid), 2);
	EXPECT_NONE_BEFORE();
}

TEST_F(activate, deadlines_and_signals)
{
	struct mote_activate_wait wait;
	long long deadline;

	EXPECT_EQ(-ETIMEDOUT, spare_wait(self->node.fd, &wait, 0));
	deadline = now_ns() + 20 * 1000000LL;
	EXPECT_EQ(-ETIMEDOUT, spare_wait(self->node.fd, &wait, 20));
	EXPECT_LE(deadline, now_ns());
	wait = (struct mote_activate_wait){ .size = sizeof(wait), .deadline = -1 };
	EXPECT_EQ(-EINVAL, call(self->node.fd, MOTE_IOC_ACTIVATE_WAIT, &wait));
}

static void *spare_thread(void *arg)
{
	struct mote_activate_wait wait = { .size = sizeof(wait), .deadline = MOTE_FOREVER };
	struct worker *w = arg;

	w->tid = own_tid();
	w->err = call(w->node->fd, MOTE_IOC_ACTIVATE_WAIT, &wait);
	w->count = wait.worker;
	return NULL;
}

static void nothing(int signo)
{
	(void)signo;
}

#define SPARE_START(w) \
	({ \
		memset(&w, 0, sizeof(w)); \
		w.node = &self->node; \
		ASSERT_EQ(0, pthread_create(&w.thread, NULL, spare_thread, &w)); \
		EXPECT_TRUE(WITHIN(SOON_MS, w.tid && thread_state(w.tid) == 'S')); \
	})

TEST_F(activate, ends)
{
	struct sigaction action = { .sa_handler = nothing };
	struct worker w;

	sigaction(SIGUSR1, &action, NULL);
	SPARE_START(w);
	pthread_kill(w.thread, SIGUSR1);
	pthread_join(w.thread, NULL);
	EXPECT_EQ(-EINTR, w.err);
	SPARE_START(w);
	close(dup(self->node.fd));
	pthread_join(w.thread, NULL);
	EXPECT_EQ(-ESHUTDOWN, w.err);
}

TEST_F(activate, one_spare_per_block)
{
	struct worker spares[4], workers[4];
	bool seen[4] = { false };

	for (int i = 0; i < 4; i++)
		SPARE_START(spares[i]);
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, worker_start(&workers[i], &self->node, i, run_once));
		EXPECT_TRUE(WITHIN(SOON_MS, ({
			int back = 0;

			for (int k = 0; k < 4; k++)
				back += thread_state(spares[k].tid) == 0;
			back == i + 1;
		})));
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(spares[i].thread, NULL);
		EXPECT_EQ(0, spares[i].err);
		ASSERT_GT(4, spares[i].count);
		EXPECT_FALSE(seen[spares[i].count]);
		seen[spares[i].count] = true;
	}
	for (int i = 0; i < 4; i++)
		worker_join(&workers[i]);
}

TEST_F(activate, posted)
{
	struct mote_activate_wait post = {
		.size = sizeof(post), .flags = MOTE_ACTIVATE_POST, .worker = MOTE_WORKERS_MAX + 5,
	}, wait;
	struct worker w;
	int nr = 0;

	EXPECT_EQ(0, call(self->node.fd, MOTE_IOC_ACTIVATE_WAIT, &post));
	EXPECT_EQ(0, spare_wait(self->node.fd, &wait, SOON_MS));
	EXPECT_EQ(MOTE_WORKERS_MAX + 5, wait.worker);
	SPARE_START(w);
	EXPECT_EQ(0, call(self->node.fd, MOTE_IOC_ACTIVATE_WAIT, &post));
	pthread_join(w.thread, NULL);
	EXPECT_EQ(0, w.err);
	EXPECT_EQ(MOTE_WORKERS_MAX + 5, w.count);
	/* A worker's name is for the kernel to say. */
	post.worker = MOTE_WORKERS_MAX - 1;
	EXPECT_EQ(-EINVAL, call(self->node.fd, MOTE_IOC_ACTIVATE_WAIT, &post));
	post.worker = 0;
	EXPECT_EQ(-EINVAL, call(self->node.fd, MOTE_IOC_ACTIVATE_WAIT, &post));
	/* In order, and not without end. */
	for (nr = 0; nr < 100000; nr++) {
		post.worker = MOTE_WORKERS_MAX + nr;
		if (call(self->node.fd, MOTE_IOC_ACTIVATE_WAIT, &post))
			break;
	}
	EXPECT_EQ(-EAGAIN, call(self->node.fd, MOTE_IOC_ACTIVATE_WAIT, &post));
	EXPECT_LT(100, nr);
	EXPECT_GT(100000, nr);
	for (int i = 0; i < nr - 10; i++) {
		ASSERT_EQ(0, spare_wait(self->node.fd, &wait, 0));
		ASSERT_EQ(MOTE_WORKERS_MAX + i, wait.worker);
	}
	/* The rest goes with the node. */
}

TEST_F(activate, arguments)
{
	_Alignas(8) char words[16] = "";
	struct mote_worker valid = {
		.size = sizeof(valid), .mode = (uintptr_t)words, .want = (uintptr_t)(words + 4), .mode_user = USER,
	}, w;

	EXPECT_EQ(-ENOENT, worker_disarm(self->node.fd));
	w = valid;
	w.mode++;
	EXPECT_EQ(-EINVAL, call(self->node.fd, MOTE_IOC_WORKER, &w));
	w = valid;
	w.want += 2;
	EXPECT_EQ(-EINVAL, call(self->node.fd, MOTE_IOC_WORKER, &w));
	w = valid;
	w.worker = MOTE_WORKERS_MAX;
	EXPECT_EQ(-EINVAL, call(self->node.fd, MOTE_IOC_WORKER, &w));
	/* Not in the kernel's half. */
	w = valid;
	w.mode = 1ULL << 63;
	EXPECT_EQ(-EFAULT, call(self->node.fd, MOTE_IOC_WORKER, &w));
	w = valid;
	w.want = ~3ULL;
	EXPECT_EQ(-EFAULT, call(self->node.fd, MOTE_IOC_WORKER, &w));
	EXPECT_EQ(-ENOENT, worker_disarm(self->node.fd));
	/* Twice is once, with the new words. */
	EXPECT_EQ(0, call(self->node.fd, MOTE_IOC_WORKER, &valid));
	EXPECT_EQ(0, call(self->node.fd, MOTE_IOC_WORKER, &valid));
	EXPECT_EQ(0, worker_disarm(self->node.fd));
	EXPECT_EQ(-ENOENT, worker_disarm(self->node.fd));
}

TEST_F(activate, words_that_are_not_there)
{
	/* Nowhere, unmapped later, or never touched: such a word says nothing, and nobody faults. */
	size_t page = page_size();
	__u32 *words = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct mote_worker w = {
		.size = sizeof(w), .mode = (uintptr_t)words, .want = (uintptr_t)words + page, .mode_user = USER,
	};
	struct mote_activate_wait wait;

	ASSERT_NE(MAP_FAILED, words);
	words[0] = USER;
	ASSERT_EQ(0, call(self->node.fd, MOTE_IOC_WORKER, &w));
	usleep(1000);
	words[page / 4] = 1;
	munmap((char *)words + page, page);
	usleep(1000);
	munmap(words, page);
	usleep(1000);
	w.mode = w.want = 4096;
	ASSERT_EQ(0, call(self->node.fd, MOTE_IOC_WORKER, &w));
	usleep(1000);
	w.mode = w.want = 0;
	ASSERT_EQ(0, call(self->node.fd, MOTE_IOC_WORKER, &w));
	usleep(1000);
	w.mode = w.want = (uintptr_t)self->node.bells->user;
	self->node.bells->user[0] = RUNTIME;
	ASSERT_EQ(0, call(self->node.fd, MOTE_IOC_WORKER, &w));
	usleep(1000);
	EXPECT_EQ(0, worker_disarm(self->node.fd));
	EXPECT_EQ(-ETIMEDOUT, spare_wait(self->node.fd, &wait, 0));
	EXPECT_NONE_BEFORE();
}

static void run_nothing(struct worker *w)
{
	(void)w;
}

TEST_F(activate, threads_come_and_go)
{
	/* Armed threads that end, some while blocked: nothing of them stays. */
	struct mote_activate_wait wait;
	struct worker w[8];

	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < 8; i++)
			ASSERT_EQ(0, worker_start(&w[i], &self->node, i, i & 1 ? run_once : run_nothing));
		for (int i = 0; i < 8; i++) {
			worker_join(&w[i]);
			EXPECT_EQ(0, w[i].err);
		}
		/* Of threads that are gone nobody is told. */
		EXPECT_EQ(-ETIMEDOUT, spare_wait(self->node.fd, &wait, 0));
	}
	EXPECT_NONE_BEFORE();
}

TEST_F(activate, too_many_workers)
{
	/* Threads by the thousand, all armed, of which most are dead by and by. */
	pthread_attr_t attr;
	struct worker *w = calloc(300, sizeof(*w));
	int nr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (nr = 0; nr < 300; nr++) {
		w[nr] = (struct worker){ .node = &self->node, .id = nr, .run = run_once, .want = 1,
					 .event = eventfd(0, EFD_CLOEXEC) };
		if (w[nr].event < 0 || pthread_create(&w[nr].thread, &attr, worker_thread, &w[nr]))
			break;
	}
	EXPECT_LT(100, nr);
	while (nr)
		worker_join(&w[--nr]);
	free(w);
}

static pid_t armed_child(int how)
{
	pid_t pid = child_start();

	if (!pid) {
		char *const argv[] = { "/proc/self/exe", "-l", NULL }, *const envp[] = { NULL };
		static struct worker w, others[3];
		struct node node;

		if (node_make(&node, "", 1, 0600))
			_exit(90);
		for (int i = 0; i < 3; i++)
			worker_start(&others[i], &node, i, run_once);
		w.node = &node;
		w.want = 1;
		w.mode = USER;
		w.id = 9;
		if (worker_arm(&w))
			_exit(91);
		switch (how) {
		case 0:
			_exit(0);
		case 1:
			dup2(open("/dev/null", O_RDWR), 2);
			execve(argv[0], argv, envp);
			_exit(98);
		case 2:
			fcntl(node.fd, F_SETFD, 0);
			dup2(open("/dev/null", O_RDWR), 2);
			execve(argv[0], argv, envp);
			_exit(98);
		case 3:
			/* The file is closed first, and the threads stay armed for nobody. */
			close(node.fd);
			usleep(1000);
			_exit(0);
		case 4:
			/* A child is armed no more, and its death is not its parent's worker's. */
			_exit(IN_CHILD(usleep(1000)) || worker_disarm(node.fd) ? 1 : 0);
		case 5:
			vfork() ?: (_exit(0), 0);
			_exit(worker_disarm(node.fd) ? 1 : 0);
		default:
			for (;;)
				usleep(1000);
		}
	}
	return pid;
}

TEST_F(activate, deaths_of_the_armed)
{
	static const int status[] = { 0, KSFT_SKIP, KSFT_SKIP, 0, 0, 0, -SIGKILL };

	for (int how = 0; how < 7; how++)
		for (int i = 0; i < 5; i++) {
			pid_t pid = armed_child(how);

			if (how == 6) {
				sleep_ms(10);
				kill(pid, SIGKILL);
			}
			EXPECT_EQ(status[how], child_wait(pid))
				TH_LOG("how %d", how);
		}
	EXPECT_NONE_BEFORE();
}

TEST_F(activate, of_two_nodes)
{
	/* A thread may be a worker of several; each is told. */
	struct mote_activate_wait wait;
	struct worker w, second;
	struct node other;

	ASSERT_EQ(0, node_make(&other, "", 1, 0600));
	memset(&second, 0, sizeof(second));
	second.node = &other;
	second.want = 1;
	second.mode = USER;
	second.id = 21;
	ASSERT_EQ(0, worker_arm(&second));
	ASSERT_EQ(0, worker_start(&w, &self->node, 22, run_once));
	EXPECT_EQ(0, spare_wait(self->node.fd, &wait, SOON_MS));
	EXPECT_EQ(22, wait.worker);
	worker_join(&w);
	/* The other one's file goes first, its worker is this thread. */
	node_end(&other);
	EXPECT_EQ(-ETIMEDOUT, spare_wait(self->node.fd, &wait, 10));
}

TEST_HARNESS_MAIN
