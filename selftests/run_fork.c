// SPDX-License-Identifier: MIT OR GPL-2.0
/* After fork the child's runtime is dead until started anew; the parent's goes on. Descriptors close at exec. */
#include "proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { GO = 1, DATA };

static int wait_for(pid_t pid)
{
	int status = -1;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	if (WIFSIGNALED(status))
		test_note("child: signal %d", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void adds(void *arg)
{
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(mirror, NULL, &ref);

	if (!ping(p))
		return;
	mote_exit_pid(p, MOTE_REASON_KILL);
	if (!got_down(ref, p, MOTE_KILLED))
		return;
	mote_sleep(mote_in_ms(1));
	atomic_fetch_add((_Atomic int *)arg, 1);
}

/* What a child must find: nothing runs, nothing of the parent is there. 0, or which check failed. */
static int nothing_runs(mote_pid of_parent)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	if (mote_in_process())
		return 1;
	if (mote_pid_valid(mote_self()))
		return 2;
	if (mote_runtime_info(&info) != -ESRCH)
		return 3;
	if (mote_pid_valid(mote_spawn(sink, NULL)))
		return 4;
	if (mote_alive(of_parent))
		return 5;
	if (mote_pid_valid(mote_whereis("forks")))
		return 6;
	if (mote_stop(MOTE_NOW, NULL, NULL) != -ESRCH)
		return 7;
	return 0;
}

static int start_anew(void)
{
	_Atomic int n = 0;

	for (int i = 0; i < 3; i++)
		if (mote_run(adds, &n, SCHEDULERS(2)))
			return 20;
	if (n != 3)
		return 21;
	if (mote_start(SCHEDULERS(2)))
		return 22;
	if (!mote_pid_valid(mote_spawn(adds, &n)))
		return 23;
	for (int i = 0; i < 60000 && atomic_load(&n) != 4; i++)
		usleep(1000);
	if (mote_stop(PATIENCE, NULL, NULL))
		return 24;
	return n == 4 ? 0 : 25;
}

static _Atomic bool stop;
static _Atomic unsigned long beats;

static void beats_on(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		struct mote_msg *m;

		mote_send(mote_self(), DATA, "x", 1);
		m = mote_receive(MOTE_FOREVER);
		mote_msg_free(m);
		atomic_fetch_add(&beats, 1);
		mote_sleep(mote_in_us(50));
	}
}

static void parent_goes_on(void)
{
	unsigned long before = atomic_load(&beats);

	for (int i = 0; i < 60000 && atomic_load(&beats) < before + 3; i++)
		usleep(1000);
	EXPECT(atomic_load(&beats) >= before + 3);
}

static void from_a_foreign_thread(void)
{
	mote_pid p;
	int rounds = (int)test_rounds(30);

	if (SANITIZED) {
		selftest_skip("the sanitizers' own locks and threads do not survive a fork with threads running");
		return;
	}
	atomic_store(&stop, false);
	EXPECT_EQ(mote_start(SCHEDULERS(2)), 0);
	p = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = beats_on, .name = "forks" });
	for (int i = 0; i < 20; i++)
		mote_spawn(beats_on, NULL);
	for (int i = 0; i < rounds; i++) {
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			int err = nothing_runs(p);

			_exit(err ? err : i % 3 ? 0 : start_anew());
		}
		EXPECT_EQ(wait_for(pid), 0);
		parent_goes_on();
		EXPECT(mote_alive(p));
	}
	atomic_store(&stop, true);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
}

static void from_a_process(void)
{
	mote_pid me = mote_self();

	if (SANITIZED) {
		selftest_skip("the sanitizers' own locks do not survive a fork with threads running");
		return;
	}
	for (int i = 0; i < 10; i++) {
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (pid == 0)
			_exit(nothing_runs(me));
		EXPECT_EQ(wait_for(pid), 0);
		EXPECT(mote_pid_equal(mote_self(), me));
		mote_send(me, DATA, NULL, 0);
		EXPECT(got_type(DATA));
		EXPECT_EQ(mote_sleep(mote_in_us(100)), 0);
	}
}

/*
 * A stream to another scheduler is held back for a moment. A fork in that moment: the parent's messages must not come out
 * in the child, when somebody there streams.
 */
#define STREAM 30

static void streams_in_child(void);
static bool in_child;
static _Atomic int strangers;

static void receives_stream(void *boss)
{
	mote_send(*(mote_pid *)boss, GO, NULL, 0);
	for (int n = 0; n < STREAM; n++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		if (!m || *(const bool *)m->data != in_child)
			atomic_fetch_add(&strangers, 1);
		mote_msg_free(m);
	}
}

static void forks_while_streaming(void *unused)
{
	mote_pid self = mote_self(), p;
	mote_ref ref;
	pid_t pid;

	(void)unused;
	p = spawn_pinned(receives_stream, &self, 1, MOTE_MONITOR, &ref);
	EXPECT(got_type(GO));
	for (int i = 0; i < STREAM; i++)
		mote_send(p, DATA, &in_child, sizeof(in_child));
	if (!in_child) {
		pid = fork();
		if (pid == 0) {
			in_child = true;
			mote_run(selftest_main, &(void (*)(void)){ streams_in_child }, SCHEDULERS(2));
			_exit(atomic_load(&strangers) != 0);
		}
		EXPECT_EQ(wait_for(pid), 0);
	}
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&strangers), 0);
}

static void streams_in_child(void)
{
	on_first_scheduler(forks_while_streaming, NULL);
}

static void held_back(void)
{
	if (SANITIZED) {
		selftest_skip("the sanitizers' own locks do not survive a fork with threads running");
		return;
	}
	fflush(stdout);
	on_first_scheduler(forks_while_streaming, NULL);
}

/* What the parent takes as messages does to the child what it did before. */
static void signals_of_a_child(void)
{
	int status;
	pid_t pid;

	if (SANITIZED) {
		selftest_skip("the sanitizers' own locks do not survive a fork with threads running");
		return;
	}
	EXPECT_EQ(mote_os_signal(SIGTERM, true), 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		raise(SIGTERM);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	EXPECT_EQ(mote_os_signal(SIGTERM, false), 0);
}

static void before_start(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(start_anew());
	EXPECT_EQ(wait_for(pid), 0);
}

static void after_stop(void)
{
	_Atomic int n = 0;
	pid_t pid;

	EXPECT_EQ(mote_run(adds, &n, SCHEDULERS(2)), 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(start_anew());
	EXPECT_EQ(wait_for(pid), 0);
	EXPECT_EQ(mote_run(adds, &n, SCHEDULERS(2)), 0);
	EXPECT_EQ(n, 2);
}

/* Descriptors that the program had before are its own business. */
static bool open_before[1024];

static void look(bool *open)
{
	for (int fd = 0; fd < 1024; fd++)
		open[fd] = fcntl(fd, F_GETFD) >= 0;
}

static int64_t job(void *arg)
{
	return *(int *)arg;
}

static void opens_all_kinds(void)
{
	mote_timer t = mote_send_after(mote_in_ms(1000000), mote_self(), GO, NULL, 0);
	int one = 1, opened = 0;

	EXPECT(t.id);
	EXPECT(mote_file_open("/dev/null", O_RDONLY, 0) >= 0);
	EXPECT_EQ(mote_blocking(job, &one, NULL, PATIENCE), 0);
	mote_sleep(mote_in_ms(1));
	for (int fd = 0; fd < 1024; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags < 0 || open_before[fd])
			continue;
		opened++;
		if (!EXPECT(flags & FD_CLOEXEC))
			test_note("descriptor %d", fd);
	}
	test_note("%d descriptors are open while the runtime runs", opened);
	EXPECT(opened > 0);
}

int main(void)
{
	look(open_before);
	selftest_case("fork before any start", before_start);
	selftest_process_opts("every descriptor is closed at exec", opens_all_kinds, SCHEDULERS(2));
	selftest_case("fork while the runtime runs: dead in the child until started anew", from_a_foreign_thread);
	selftest_process("fork in a process", from_a_process);
	selftest_case("fork after a stop", after_stop);
	selftest_process_opts("what was held back at a fork is the parent's", held_back, SCHEDULERS(2));
	selftest_process("a child has its own signals again", signals_of_a_child);
	return selftest_done();
}
