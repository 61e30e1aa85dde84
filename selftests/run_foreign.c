// SPDX-License-Identifier: MIT OR GPL-2.0
/* Foreign threads: what they may do works from many at once; what they may not ends the program with a message. */
#include "proc.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { GO = 1, DATA, REPLY };

#define THREADS 4

static void identity(void)
{
	EXPECT(!mote_in_process());
	EXPECT(!mote_pid_valid(mote_self()));
	EXPECT_EQ(mote_start(NULL), 0);
	EXPECT(!mote_in_process());
	EXPECT(!mote_pid_valid(mote_self()));
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
}

struct numbered {
	uint32_t thread, n;
};

static struct {
	mote_pid to;
	uint32_t count;
} plan;

static _Atomic uint32_t received, wrong;
static _Atomic bool done;

static void receiver(void *arg)
{
	uint32_t next[THREADS] = { 0 };

	(void)arg;
	while (atomic_load(&received) < THREADS * plan.count) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		struct numbered *d = m->data;

		if (m->type != DATA || m->size != sizeof(*d) || mote_pid_valid(m->from) || d->n != next[d->thread]++)
			atomic_fetch_add(&wrong, 1);
		atomic_fetch_add(&received, 1);
		mote_msg_free(m);
	}
	atomic_store(&done, true);
}

static void *sends(void *arg)
{
	uint32_t index = (uint32_t)(uintptr_t)arg;

	for (uint32_t i = 0; i < plan.count; i++) {
		struct numbered d = { index, i };

		if (i % 3) {
			EXPECT_EQ(mote_send(plan.to, DATA, &d, sizeof(d)), 0);
		} else if (i % 2) {
			EXPECT_EQ(mote_send_name("foreign.receiver", DATA, &d, sizeof(d)), 0);
		} else {
			struct mote_msg *m = mote_msg_new(DATA, sizeof(d));

			memcpy(m->data, &d, sizeof(d));
			EXPECT_EQ(mote_send_msg(plan.to, m), 0);
		}
	}
	return NULL;
}

static void sending(void)
{
	pthread_t t[THREADS];

	plan.count = (uint32_t)test_rounds(50000);
	atomic_store(&received, 0);
	atomic_store(&wrong, 0);
	atomic_store(&done, false);
	EXPECT_EQ(mote_start(SCHEDULERS(2)), 0);
	plan.to = mote_spawn(receiver, NULL);
	EXPECT_EQ(mote_register("foreign.receiver", plan.to), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, sends, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 60000 && !atomic_load(&done); i++)
		usleep(1000);
	EXPECT(atomic_load(&done));
	EXPECT_EQ(atomic_load(&wrong), 0);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
}

static void counts(void *arg)
{
	EXPECT(!mote_pid_valid(test_info(mote_self()).parent));
	atomic_fetch_add((_Atomic uint32_t *)arg, 1);
}

static void *spawns(void *arg)
{
	uint32_t n = (uint32_t)test_rounds(10000);

	for (uint32_t i = 0; i < n; i++) {
		mote_pid p = i % 2 ? mote_spawn(counts, arg) :
				     mote_spawn_opts(&(struct mote_spawn_opts){
					.size = sizeof(struct mote_spawn_opts), .fn = counts, .arg = arg,
					.flags = MOTE_PINNED, .scheduler = i / 2 });

		if (!EXPECT(mote_pid_valid(p)))
			break;
	}
	return NULL;
}

static void spawning(void)
{
	pthread_t t[THREADS];
	uint32_t want = THREADS * (uint32_t)test_rounds(10000);

	atomic_store(&received, 0);
	EXPECT_EQ(mote_start(SCHEDULERS(2)), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, spawns, &received);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 60000 && atomic_load(&received) < want; i++)
		usleep(1000);
	EXPECT_EQ(atomic_load(&received), want);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
}

static void answers(void *arg)
{
	(void)arg;
	mote_trap_exit(true);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type == MOTE_MSG_EXIT) {
			EXPECT(!mote_pid_valid(m->from));
			atomic_fetch_add(&received, 1);
		}
		mote_msg_free(m);
	}
}

static bool visit(const char *name, mote_pid pid, void *arg)
{
	if (!strcmp(name, "f.name"))
		*(mote_pid *)arg = pid;
	return true;
}

static void allowed(void)
{
	struct mote_runtime_info ri = { .size = sizeof(ri) };
	mote_pid p, q = MOTE_NOBODY;
	unsigned int n = 0;

	atomic_store(&received, 0);
	EXPECT_EQ(mote_start(SCHEDULERS(2)), 0);
	p = mote_spawn(answers, NULL);
	EXPECT(mote_alive(p));
	EXPECT_EQ(mote_register("f.name", p), 0);
	EXPECT_EQ(mote_register("f.name", p), -EEXIST);
	EXPECT(mote_pid_equal(mote_whereis("f.name"), p));
	mote_name_each(visit, &q);
	EXPECT(mote_pid_equal(p, q));
	EXPECT(mote_pid_equal(test_info(p).pid, p));
	for (q = mote_process_next(MOTE_NOBODY); mote_pid_valid(q); q = mote_process_next(q))
		n += mote_pid_equal(p, q);
	EXPECT_EQ(n, 1);
	EXPECT_EQ(mote_runtime_info(&ri), 0);
	EXPECT_EQ(ri.processes, 1);
	EXPECT_EQ(mote_send_alias((mote_ref){ 12345, 1, 1, 0, 0 }, DATA, NULL, 0), 0);
	EXPECT_EQ(mote_reply((struct mote_from){ p, { 12345, 1, 1, 0, 0 } }, REPLY, NULL, 0), 0);
	EXPECT_EQ(mote_send(p, MOTE_MSG_DOWN, NULL, 0), -EINVAL);
	EXPECT(!mote_msg_new(MOTE_MSG_DOWN, 5));
	EXPECT_EQ(mote_errno(), -EINVAL);
	mote_msg_free(mote_msg_new(DATA, 5));
	while (!test_info(p).trap_exit)
		usleep(100);
	EXPECT_EQ(mote_exit_pid(p, MOTE_REASON_SHUTDOWN), 0);
	for (int i = 0; i < 60000 && atomic_load(&received) < 1; i++)
		usleep(1000);
	EXPECT_EQ(atomic_load(&received), 1);
	EXPECT_EQ(mote_exit_pid(p, MOTE_REASON_KILL), 0);
	for (int i = 0; i < 60000 && mote_alive(p); i++)
		usleep(1000);
	EXPECT(!mote_alive(p));
	EXPECT(!mote_pid_valid(mote_whereis("f.name")));
	EXPECT_EQ(mote_unregister("f.name"), -ENOENT);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
}

/* Each of these must not return on a foreign thread. */
static bool any(const struct mote_msg *m, void *arg)
{
	(void)m;
	(void)arg;
	return true;
}

static int64_t job(void *arg)
{
	(void)arg;
	return 0;
}

static const mote_pid somebody = { 1, 1, 0 };
static const mote_ref some_ref = { 1, 1, 1, 0, 0 };

#define MISUSE(name, call) \
	static void misuse_##name(void) { (void)(call); }
#define MISUSE_VOID(name, call) \
	static void misuse_##name(void) { call; }

MISUSE(mote_receive, mote_receive(MOTE_NOW))
MISUSE(mote_receive_type, mote_receive_type(GO, MOTE_NOW))
MISUSE(mote_receive_match, mote_receive_match(any, NULL, MOTE_NOW))
MISUSE(mote_receive_ref, mote_receive_ref(some_ref, MOTE_NOW))
MISUSE(mote_call, mote_call(somebody, GO, NULL, 0, NULL, MOTE_NOW))
MISUSE(mote_request, mote_request(somebody, GO, NULL, 0))
MISUSE_VOID(mote_exit, mote_exit(MOTE_REASON_NORMAL))
MISUSE_VOID(mote_yield, mote_yield())
MISUSE_VOID(mote_check, mote_check())
MISUSE(mote_trap_exit, mote_trap_exit(true))
MISUSE(mote_link, mote_link(somebody))
MISUSE(mote_unlink, mote_unlink(somebody))
MISUSE(mote_monitor, mote_monitor(somebody))
MISUSE(mote_monitor_name, mote_monitor_name("x"))
MISUSE(mote_demonitor, mote_demonitor(some_ref, 0))
MISUSE(mote_alias, mote_alias(0))
MISUSE(mote_unalias, mote_unalias(some_ref))
MISUSE(mote_spawn_link, mote_spawn_link(sink, NULL).serial)
MISUSE(mote_defer, mote_defer(sink, NULL))
MISUSE(mote_undefer, mote_undefer(sink, NULL))
MISUSE(mote_alloc, mote_alloc(10))
MISUSE(mote_zalloc, mote_zalloc(10))
MISUSE(mote_realloc, mote_realloc(NULL, 10))
MISUSE(mote_sleep, mote_sleep(MOTE_NOW))
MISUSE(mote_send_after, mote_send_after(MOTE_NOW, somebody, GO, NULL, 0))
MISUSE(mote_send_every, mote_send_every(1000000, somebody, GO, NULL, 0))
MISUSE(mote_timer_cancel, mote_timer_cancel((mote_timer){ 1, 1, 0 }, NULL))
MISUSE(mote_blocking, mote_blocking(job, NULL, NULL, MOTE_NOW))

static const struct {
	const char *name;
	void (*call)(void);
} misuses[] = {
#define ROW(name) { #name, misuse_##name }
	ROW(mote_receive), ROW(mote_receive_type), ROW(mote_receive_match), ROW(mote_receive_ref), ROW(mote_call),
	ROW(mote_request), ROW(mote_exit), ROW(mote_yield), ROW(mote_check), ROW(mote_trap_exit), ROW(mote_link),
	ROW(mote_unlink), ROW(mote_monitor), ROW(mote_monitor_name), ROW(mote_demonitor), ROW(mote_alias),
	ROW(mote_unalias), ROW(mote_spawn_link), ROW(mote_defer), ROW(mote_undefer), ROW(mote_alloc),
	ROW(mote_zalloc), ROW(mote_realloc), ROW(mote_sleep), ROW(mote_send_after), ROW(mote_send_every),
	ROW(mote_timer_cancel), ROW(mote_blocking),
#undef ROW
};

/* The child's end of the misuse, with what it said on stderr. */
static int dies(void (*call)(void), bool running, char *said, size_t size)
{
	int fds[2], status = 0;
	ssize_t n;
	size_t len = 0;
	pid_t pid;

	if (pipe(fds))
		return -1;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		dup2(fds[1], 2);
		close(fds[0]);
		if (!running || mote_start(SCHEDULERS(1)) == 0)
			call();
		_exit(0);
	}
	close(fds[1]);
	while ((n = read(fds[0], said + len, size - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = 0;
	close(fds[0]);
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void refused_loudly(void)
{
	static char said[16384];

	for (size_t i = 0; i < sizeof(misuses) / sizeof(misuses[0]); i++) {
		int sig = dies(misuses[i].call, true, said, sizeof(said));

		if (!EXPECT(sig == SIGABRT) || !EXPECT(strstr(said, misuses[i].name)))
			test_note("%s: signal %d, said \"%s\"", misuses[i].name, sig, said);
	}
}

static void refused_before_start(void)
{
	static char said[16384];

	for (size_t i = 0; i < sizeof(misuses) / sizeof(misuses[0]); i += 5) {
		int sig = dies(misuses[i].call, false, said, sizeof(said));

		if (!EXPECT(sig == SIGABRT) || !EXPECT(strstr(said, misuses[i].name)))
			test_note("%s: signal %d, said \"%s\"", misuses[i].name, sig, said);
	}
}

/* Threads come and go while the runtime runs, each with its own errno and caches. */
static void *short_thread(void *arg)
{
	mote_pid to = *(mote_pid *)arg;

	EXPECT_EQ(mote_errno(), 0);
	mote_send(to, DATA, "hello", 6);
	mote_msg_free(mote_msg_new(DATA, 1000));
	EXPECT(!mote_msg_new(MOTE_MSG_EXIT, 0));
	EXPECT_EQ(mote_errno(), -EINVAL);
	return NULL;
}

static void threads_come_and_go(void)
{
	unsigned long n = test_rounds(1000);
	mote_pid p;

	EXPECT_EQ(mote_start(SCHEDULERS(2)), 0);
	p = mote_spawn(sink, NULL);
	for (unsigned long i = 0; i < n; i++) {
		pthread_t t[2];

		for (int j = 0; j < 2; j++)
			pthread_create(&t[j], NULL, short_thread, &p);
		for (int j = 0; j < 2; j++)
			pthread_join(t[j], NULL);
	}
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
}

static void one(void *arg)
{
	*(int *)arg = 1;
}

static void *runs(void *arg)
{
	EXPECT_EQ(mote_run(one, arg, SCHEDULERS(2)), 0);
	return NULL;
}

static void run_from_a_thread(void)
{
	for (int i = 0; i < 10; i++) {
		pthread_t t;
		int ran = 0;

		pthread_create(&t, NULL, runs, &ran);
		pthread_join(t, NULL);
		EXPECT_EQ(ran, 1);
	}
}

int main(void)
{
	selftest_case("a foreign thread is nobody", identity);
	selftest_case("foreign threads send: in order, from nobody", sending);
	selftest_case("foreign threads spawn", spawning);
	selftest_case("names, info, walks, exit signals from a foreign thread", allowed);
	selftest_case("calls for processes only end the program and are named", refused_loudly);
	selftest_case("so they do when no runtime runs", refused_before_start);
	selftest_case("threads come and go", threads_come_and_go);
	selftest_case("mote_run from any thread", run_from_a_thread);
	return selftest_done();
}
