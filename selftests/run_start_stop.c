// SPDX-License-Identifier: MIT OR GPL-2.0
/* Starting and stopping: mote_run, and mote_start/mote_stop inside a program with a main of its own. */
#include "proc.h"

#include <dirent.h>
#include <sys/wait.h>

enum { GO = 1 };

#if SANITIZED == 5
/* A runtime that is frozen leaves its threads: that is what one case is about. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "report_thread_leaks=0";
}
#endif

static unsigned int entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned int n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void ends_with(void *arg)
{
	mote_exit(*(struct mote_reason *)arg);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void what_run_returns(void)
{
	struct mote_reason r = MOTE_REASON_SHUTDOWN;

	EXPECT_EQ(mote_run(nothing, NULL, NULL), 0);
	EXPECT_EQ(mote_run(ends_with, &r, NULL), 0);
	r = MOTE_REASON_NORMAL;
	EXPECT_EQ(mote_run(ends_with, &r, NULL), 0);
	r = mote_reason_error(EIO, "no");
	EXPECT_EQ(mote_run(ends_with, &r, NULL), 1);
	r = (struct mote_reason){ MOTE_CUSTOM, 3, NULL, 0 };
	EXPECT_EQ(mote_run(ends_with, &r, NULL), 1);
}

static _Atomic int cleaned, told, entered;

static void clean(void *arg)
{
	(void)arg;
	atomic_fetch_add(&cleaned, 1);
}

static void waits(void *arg)
{
	mote_defer(clean, NULL);
	mote_trap_exit(arg != NULL);
	atomic_fetch_add(&entered, 1);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (mote_msg_exit(m)) {
			atomic_fetch_add(&told, 1);
			mote_exit(mote_msg_exit(m)->reason);
		}
		mote_msg_free(m);
	}
}

static void leaves_others(void *arg)
{
	for (int i = 0; i < 50; i++)
		mote_spawn(waits, i % 2 ? arg : NULL);
	while (atomic_load(&entered) < 50)
		mote_yield();
}

static void others_end_with_main(void)
{
	int one = 1;

	atomic_store(&cleaned, 0);
	atomic_store(&told, 0);
	atomic_store(&entered, 0);
	EXPECT_EQ(mote_run(leaves_others, &one, SCHEDULERS(2)), 0);
	EXPECT_EQ(atomic_load(&cleaned), 50);
	EXPECT_EQ(atomic_load(&told), 25);
}


static void only_one(void)
{
	EXPECT_EQ(mote_start(NULL), 0);
	EXPECT_EQ(mote_start(NULL), -EBUSY);
	EXPECT_EQ(mote_run(nothing, NULL, NULL), -EBUSY);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), -ESRCH);
}

static void not_running(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	EXPECT_EQ(mote_runtime_info(&info), -ESRCH);
	EXPECT(!mote_pid_valid(mote_spawn(nothing, NULL)));
	EXPECT(!mote_pid_valid(mote_whereis("anybody")));
	EXPECT(!mote_in_process());
	EXPECT(!mote_pid_valid(mote_self()));
	EXPECT(!mote_alive((mote_pid){ 1, 1, 0 }));
	EXPECT(!mote_pid_valid(mote_process_next(MOTE_NOBODY)));
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), -ESRCH);
	EXPECT(mote_now().ns > 0);
	EXPECT_EQ(mote_version(), MOTE_VERSION);
	EXPECT_EQ(mote_start(NULL), 0);
	EXPECT_EQ(mote_runtime_info(&info), 0);
	EXPECT_EQ(info.processes, 0);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
	EXPECT_EQ(mote_runtime_info(&info), -ESRCH);
}

static void embedded(void)
{
	int one = 1;

	atomic_store(&cleaned, 0);
	atomic_store(&told, 0);
	atomic_store(&entered, 0);
	EXPECT_EQ(mote_start(SCHEDULERS(2)), 0);
	for (int i = 0; i < 20; i++)
		EXPECT(mote_pid_valid(mote_spawn(waits, i % 2 ? &one : NULL)));
	while (atomic_load(&entered) < 20)
		usleep(100);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
	/* a message EXIT shutdown for those who trap */
	EXPECT_EQ(atomic_load(&told), 10);
	EXPECT_EQ(atomic_load(&cleaned), 20);
}

static void deaf(void *arg)
{
	(void)arg;
	mote_trap_exit(true);
	mote_defer(clean, NULL);
	atomic_fetch_add(&entered, 1);
	sink(NULL);
}

static void deaf_are_killed(void)
{
	atomic_store(&cleaned, 0);
	atomic_store(&entered, 0);
	EXPECT_EQ(mote_start(NULL), 0);
	mote_spawn(deaf, NULL);
	while (!atomic_load(&entered))
		usleep(100);
	/* half the time is for shutdown, which it ignores; then comes the kill */
	EXPECT_EQ(mote_stop(mote_in_ms(2000), NULL, NULL), 0);
	EXPECT_EQ(atomic_load(&cleaned), 1);
}

static void stuck(void *arg)
{
	_Atomic int *go = arg;

	atomic_store(go, 1);
	for (;;)
		sched_yield();		/* no runtime call: nothing can end it */
}

struct survivors {
	int n;
	bool stuck, named, other;
};

static void survivor(mote_pid pid, const char *label, void *arg)
{
	struct survivors *s = arg;

	s->n++;
	if (!mote_pid_valid(pid))
		s->other = true;
	if (label && !strcmp(label, "the stuck one"))
		s->stuck = true;
	else if (label && !strcmp(label, "stuck.by.name"))
		s->named = true;
	else
		s->other = true;
}

/* In a child: the runtime can't be used in this OS process any more. Exit status: which check failed, 0: none. */
static int stop_with_the_stuck(void)
{
	struct survivors s = { 0, false, false, false };
	_Atomic int running[2] = { 0, 0 };

	if (mote_start(SCHEDULERS(3)))
		return 1;
	/* apart from each other: a scheduler that runs one of the stuck does nothing else any more */
	for (int i = 0; i < 20; i++)
		mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = waits, .flags = MOTE_PINNED, .scheduler = 0 });
	mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = stuck, .arg = &running[0], .label = "the stuck one",
		.flags = MOTE_PINNED, .scheduler = 1 });
	mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = stuck, .arg = &running[1], .name = "stuck.by.name",
		.flags = MOTE_PINNED, .scheduler = 2 });
	while (!atomic_load(&running[0]) || !atomic_load(&running[1]))
		usleep(100);
	if (mote_stop(mote_in_ms(500), survivor, &s) != 2)
		return 2;
	if (s.n != 2)
		return 3;
	if (!s.stuck)
		return 4;
	if (!s.named)
		return 5;
	if (s.other)
		return 6;
	if (mote_start(NULL) == 0)
		return 7;
	return 0;
}

static void names_the_living(void)
{
	int status = -1;
	pid_t pid;

	if (test_one_thread())
		return;
	pid = fork();
	if (pid == 0)
		_exit(stop_with_the_stuck());
	EXPECT(pid > 0);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void a_bit_of_all(void *arg)
{
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(mirror, NULL, &ref);

	(void)arg;
	EXPECT(ping(p));
	mote_register("again", p);
	mote_sleep(mote_in_us(100));
	mote_send_after(mote_in_ms(100000), mote_self(), GO, NULL, 0);
	mote_file_open("/dev/null", 0, 0);
	mote_exit_pid(p, MOTE_REASON_KILL);
	EXPECT(got_down(ref, p, MOTE_KILLED));
}

static int64_t job(void *arg)
{
	(void)arg;
	return 7;
}

static void with_blocking(void *arg)
{
	int64_t n = 0;

	a_bit_of_all(arg);
	EXPECT_EQ(mote_blocking(job, NULL, &n, PATIENCE), 0);
	EXPECT_EQ(n, 7);
}

static void no_leaks(void)
{
	unsigned int rounds = (unsigned int)test_rounds(100), fds, threads;

	/* the first round may keep what is made once */
	EXPECT_EQ(mote_run(with_blocking, NULL, SCHEDULERS(2)), 0);
	usleep(20000);
	fds = entries("/proc/self/fd");
	threads = entries("/proc/self/task");
	for (unsigned int i = 0; i < rounds; i++) {
		if (i % 2) {
			EXPECT_EQ(mote_run(with_blocking, NULL, SCHEDULERS(1 + i % 3)), 0);
		} else {
			EXPECT_EQ(mote_start(SCHEDULERS(1 + i % 3)), 0);
			EXPECT(mote_pid_valid(mote_spawn(a_bit_of_all, NULL)));
			EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
		}
	}
	for (int i = 0; i < 1000 && entries("/proc/self/task") > threads; i++)
		usleep(1000);
	EXPECT_EQ(entries("/proc/self/fd"), fds);
	EXPECT_EQ(entries("/proc/self/task"), threads);
}

int main(void)
{
	selftest_case("what mote_run returns", what_run_returns);
	selftest_case("the end of the first process ends all others, with their cleanups", others_end_with_main);
	selftest_case("one runtime at a time: -EBUSY", only_one);
	selftest_case("without a runtime", not_running);
	selftest_case("mote_start and mote_stop: shutdown to all", embedded);
	selftest_case("mote_stop kills those who do not listen", deaf_are_killed);
	selftest_case("mote_stop names those who live on at its deadline", names_the_living);
	selftest_case("started and stopped a hundred times: no descriptor, no thread is left", no_leaks);
	return selftest_done();
}
