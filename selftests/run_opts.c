// SPDX-License-Identifier: MIT OR GPL-2.0
/* Options and environment of the runtime. */
#include "proc.h"

#include <pthread.h>

static _Atomic int ran;
static struct mote_runtime_info seen;

static void look(void *arg)
{
	(void)arg;
	seen = (struct mote_runtime_info){ .size = sizeof(seen) };
	EXPECT_EQ(mote_runtime_info(&seen), 0);
	atomic_fetch_add(&ran, 1);
}

static void refused(const struct mote_opts *o, int err)
{
	atomic_store(&ran, 0);
	EXPECT_EQ(mote_run(look, NULL, o), err);
	EXPECT_EQ(mote_start(o), err);
	EXPECT_EQ(atomic_load(&ran), 0);
}

static void bad_options(void)
{
	struct { struct mote_opts o; char more[32]; } wide;

	refused(&(struct mote_opts){ .schedulers = 1 }, -EINVAL);
	refused(&(struct mote_opts){ .size = sizeof(struct mote_opts), .schedulers = 257 }, -EINVAL);
	refused(&(struct mote_opts){ .size = sizeof(struct mote_opts), .max_processes = 134217729 }, -EINVAL);
	memset(&wide, 0, sizeof(wide));
	wide.o.size = sizeof(wide);
	wide.o.schedulers = 1;
	EXPECT_EQ(mote_run(look, NULL, &wide.o), 0);
	wide.more[31] = 1;
	refused(&wide.o, -E2BIG);
}

static void schedulers(void)
{
	for (unsigned int n = 1; n <= 5; n++) {
		EXPECT_EQ(mote_run(look, NULL, SCHEDULERS(n)), 0);
		EXPECT_EQ(seen.schedulers, n);
	}
}

static void environment(void)
{
	setenv("MOTE_SCHEDULERS", "3", 1);
	EXPECT_EQ(mote_run(look, NULL, NULL), 0);
	EXPECT_EQ(seen.schedulers, 3);
	/* what the program says goes first */
	EXPECT_EQ(mote_run(look, NULL, SCHEDULERS(2)), 0);
	EXPECT_EQ(seen.schedulers, 2);
	setenv("MOTE_SCHEDULERS", "1", 1);
	EXPECT_EQ(mote_run(look, NULL, NULL), 0);
	EXPECT_EQ(seen.schedulers, 1);
	unsetenv("MOTE_SCHEDULERS");
	EXPECT_EQ(mote_run(look, NULL, NULL), 0);
	EXPECT(seen.schedulers >= 1 && seen.schedulers <= 256);
}

static void affinity(void)
{
	cpu_set_t all, one;
	int cpu = 0;

	unsetenv("MOTE_SCHEDULERS");
	unsetenv("MOTE_SEED");
	if (sched_getaffinity(0, sizeof(all), &all)) {
		selftest_skip("the affinity can't be read");
		return;
	}
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one)) {
		selftest_skip("the affinity can't be set");
		return;
	}
	EXPECT_EQ(mote_run(look, NULL, NULL), 0);
	EXPECT_EQ(seen.schedulers, 1);
	EXPECT_EQ(sched_setaffinity(0, sizeof(all), &all), 0);
	EXPECT_EQ(mote_run(look, NULL, NULL), 0);
	EXPECT(seen.schedulers <= (unsigned int)CPU_COUNT(&all));
}

static void io_backends(void)
{
	char *was = getenv("MOTE_IO"), *saved = was ? strdup(was) : NULL;

	setenv("MOTE_IO", "epoll", 1);
	EXPECT_EQ(mote_run(look, NULL, SCHEDULERS(2)), 0);
	EXPECT(!strcmp(seen.io, "epoll"));
	if (saved)
		setenv("MOTE_IO", saved, 1);
	else
		unsetenv("MOTE_IO");
	free(saved);
}

/* What the log hears. */
static struct {
	pthread_mutex_t lock;
	int lines, matching;
	void *arg;
} heard = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void hear(int level, const char *text, void *arg)
{
	pthread_mutex_lock(&heard.lock);
	heard.lines++;
	heard.matching += strstr(text, "sick process") && strstr(text, "a bad day") && level <= MOTE_LOG_WARNING;
	heard.arg = arg;
	pthread_mutex_unlock(&heard.lock);
}

static void falls_ill(void *arg)
{
	mote_exit(*(struct mote_reason *)arg);
}

static void one_ends(void *arg)
{
	mote_ref ref;
	mote_pid p = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = falls_ill, .arg = arg, .label = "sick process",
		.flags = MOTE_MONITOR, .ref = &ref });

	EXPECT(got_down(ref, p, ((struct mote_reason *)arg)->kind));
}

static void logged(void)
{
	struct mote_opts o = { .size = sizeof(o), .schedulers = 2, .log = hear, .log_arg = &heard };
	struct mote_reason bad = mote_reason_error(EIO, "a bad day"), good = MOTE_REASON_NORMAL,
			   down = MOTE_REASON_SHUTDOWN;

	EXPECT_EQ(mote_run(one_ends, &good, &o), 0);
	EXPECT_EQ(mote_run(one_ends, &down, &o), 0);
	EXPECT_EQ(heard.lines, 0);
	EXPECT_EQ(mote_run(one_ends, &bad, &o), 0);
	EXPECT_EQ(heard.matching, 1);
	EXPECT(heard.arg == &heard);
}

static void silence(void)
{
	struct mote_reason bad = mote_reason_error(EIO, "a bad day");
	int fds[2], saved = dup(2);
	char said[256];
	ssize_t n;

	/* with no log nothing is printed, ever */
	EXPECT_EQ(pipe(fds), 0);
	dup2(fds[1], 2);
	EXPECT_EQ(mote_run(one_ends, &bad, SCHEDULERS(2)), 0);
	dup2(saved, 2);
	close(saved);
	close(fds[1]);
	n = read(fds[0], said, sizeof(said));
	EXPECT_EQ(n, 0);
	close(fds[0]);
}

static void max_processes(void *arg)
{
	unsigned long n = 0;

	while (mote_pid_valid(mote_spawn(sink, NULL)))
		n++;
	EXPECT_EQ(mote_errno(), -EAGAIN);
	*(unsigned long *)arg = n;
}

static void limits(void)
{
	static const unsigned int max[] = { 1, 2, 10, 1000, 1025 };

	for (size_t i = 0; i < sizeof(max) / sizeof(max[0]); i++) {
		unsigned long n = 0;

		EXPECT_EQ(mote_run(max_processes, &n, &(struct mote_opts){
			.size = sizeof(struct mote_opts), .schedulers = 2, .max_processes = max[i] }), 0);
		EXPECT_EQ(n, max[i] - 1);
	}
	EXPECT_EQ(mote_run(look, NULL, &(struct mote_opts){
		.size = sizeof(struct mote_opts), .schedulers = 1, .max_processes = 134217728 }), 0);
}

int main(void)
{
	selftest_case("bad options: -EINVAL, -E2BIG, and nothing runs", bad_options);
	selftest_case("as many schedulers as asked for", schedulers);
	selftest_case("MOTE_SCHEDULERS, after what the program says", environment);
	selftest_case("as many schedulers as the affinity allows", affinity);
	selftest_case("MOTE_IO=epoll", io_backends);
	selftest_case("the log hears of abnormal ends, with label and reason, and of no others", logged);
	selftest_case("no log: silence", silence);
	selftest_case("max_processes", limits);
	return selftest_done();
}
