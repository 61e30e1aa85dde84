// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Crashes that end the OS process: each in a child, which has to end by the right signal, within a time limit,
 * and say on stderr who it was, where, and why that could not be contained.
 */
#include "proc.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define LIMIT_MS 60000		/* only a hang takes so long */
#define LABEL "the one to blame"

static volatile int zero;

#if defined(__aarch64__)
#define ARM true
#else
#define ARM false
#endif

#ifdef __clang__
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noinline, noipa))
#endif

/* Behind a last call: so that it is no jump, and its caller can be seen on the stack. */
#define STAY() __asm__ volatile("" ::: "memory")

KEEP static void crash_here(void *arg)
{
	(void)arg;
	*(volatile int *)(uintptr_t)(0x18 + zero) = 1;
}

/* In the runtime of a child: fn as a process that has a label. */
static void only_fn(void *arg)
{
	mote_ref ref;

	mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = (mote_fn)arg, .flags = MOTE_MONITOR, .ref = &ref,
		.label = LABEL });
	mote_msg_free(mote_receive_ref(ref, MOTE_FOREVER));
}

static void as_process(mote_fn fn, const struct mote_opts *opts)
{
	_exit(mote_run(only_fn, (void *)fn, opts));
}

static char said[8192];

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * Waits for pid's end, reading what it says meanwhile (fd < 0: nothing). Returns the wait status; -1: it hangs.
 */
static int await(pid_t pid, int fd)
{
	int64_t until = now_ms() + LIMIT_MS;
	size_t length = 0;
	int status;

	memset(said, 0, sizeof(said));
	for (;;) {
		struct pollfd in = { .fd = fd, .events = POLLIN };
		ssize_t n = 0;

		if (poll(&in, 1, 10) > 0 && length < sizeof(said) - 1) {
			n = read(fd, said + length, sizeof(said) - 1 - length);
			if (n > 0)
				length += (size_t)n;
		}
		if (n <= 0 && waitpid(pid, &status, WNOHANG) == pid)
			break;
		if (now_ms() > until) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
	}
	if (fd >= 0) {
		ssize_t n = read(fd, said + length, sizeof(said) - 1 - length);

		(void)n;
	}
	return status;
}

static pid_t child(void (*fn)(void), int out)
{
	struct rlimit none = { 0, 0 };
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	setrlimit(RLIMIT_CORE, &none);
	dup2(out, STDERR_FILENO);
	fn();
	_exit(99);
}

static void with_deaf_stderr(void);

/* NULL-terminated: what has to be in the report. */
static void ends(const char *name, void (*fn)(void), int sig, const char *const *says)
{
	int ends[2], status;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		test_bail_out();
	pid = child(fn, ends[1]);
	close(ends[1]);
	status = await(pid, ends[0]);
	close(ends[0]);
	if (status == -1)
		test_note("%s: hangs", name);
	/* qemu has last words for a full stderr, too, and waits until mote's timer ends it */
	if (ARM && fn == with_deaf_stderr && status == SIGKILL)
		status = sig;
	if (!EXPECT(status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == sig))
		test_note("%s: status %#x, said: %s", name, (unsigned int)status, said);
	for (; *says; says++) {
		if (!EXPECT(strstr(said, *says)))
			test_note("%s: \"%s\" is not in: %s", name, *says, said);
	}
}

#define ENDS(name, fn, sig, ...) ends(name, fn, sig, (const char *const []){ __VA_ARGS__, NULL })

/* The ways to die. */

static void frees_nonsense(void *arg)
{
	(void)arg;
	free((void *)(uintptr_t)(0x1000 + zero));
	STAY();
}

static void in_free(void)
{
	as_process(frees_nonsense, NULL);
}

static void ruins_the_heap(void *arg)
{
	/* malloc finds it out by itself, and calls abort() with its lock held */
	for (int i = 0; i < 100; i++) {
		volatile size_t *p = malloc(2000 + (size_t)zero), *q = malloc(2000 + (size_t)zero);

		for (int k = -2; k < 256; k++)
			p[k] = 0x1111;
		free((void *)p);
		free((void *)q);
	}
	(void)arg;
}

static void in_malloc(void)
{
	as_process(ruins_the_heap, NULL);
}

static ssize_t cookie_write(void *cookie, const char *buf, size_t size)
{
	(void)cookie;
	(void)buf;
	crash_here(NULL);
	return (ssize_t)size;
}

static void writes_to_cookie(void *arg)
{
	FILE *f = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = cookie_write });

	(void)arg;
	fprintf(f, "hello");
	fflush(f);
	STAY();
}

static void in_stdio_callback(void)
{
	as_process(writes_to_cookie, NULL);
}

static const char *volatile no_string = (const char *)8;

static void prints_nonsense(void *arg)
{
	printf("%s %p\n", no_string, arg);
	STAY();
}

static void in_printf(void)
{
	as_process(prints_nonsense, NULL);
}

static void log_crashes(int level, const char *text, void *arg)
{
	(void)level;
	(void)text;
	crash_here(arg);
	STAY();
}

static void ends_abnormally(void *arg)
{
	(void)arg;
	mote_exit(mote_reason_error(EIO, "to be logged"));
}

static void in_log(void)
{
	as_process(ends_abnormally, &(struct mote_opts){ .size = sizeof(struct mote_opts), .log = log_crashes });
}

static bool visit_crashes(const char *name, mote_pid pid, void *arg)
{
	(void)name;
	(void)pid;
	crash_here(arg);
	return true;
}

/* A lock of the runtime is held around the visits. */
static void visits(void *arg)
{
	mote_register("a name", mote_self());
	mote_name_each(visit_crashes, arg);
	STAY();
}

static void in_visit(void)
{
	as_process(visits, NULL);
}

static void sends_nonsense(void *arg)
{
	(void)arg;
	mote_send(mote_self(), 1, (const void *)(uintptr_t)(8 + zero), 64);
	STAY();
}

static void in_send(void)
{
	as_process(sends_nonsense, NULL);
}

static void *thread_crashes(void *arg)
{
	crash_here(arg);
	return NULL;
}

static void starts_thread(void *arg)
{
	pthread_t t;

	pthread_create(&t, NULL, thread_crashes, arg);
	mote_sleep(PATIENCE);
}

static void in_thread(void)
{
	as_process(starts_thread, NULL);
}

static int64_t job_crashes(void *arg)
{
	crash_here(arg);
	return 0;
}

static void asks_for_job(void *arg)
{
	mote_blocking(job_crashes, arg, NULL, MOTE_FOREVER);
}

static void in_blocking(void)
{
	as_process(asks_for_job, NULL);
}

static void handler_crashes(int sig)
{
	(void)sig;
	crash_here(NULL);
	STAY();
}

static void is_interrupted(void *arg)
{
	signal(SIGUSR1, handler_crashes);
	raise(SIGUSR1);
	(void)arg;
}

static void in_handler(void)
{
	as_process(is_interrupted, NULL);
}

static void is_sent_one(void *arg)
{
	kill(getpid(), SIGSEGV);
	mote_sleep(PATIENCE);
	(void)arg;
}

static void sent(void)
{
	as_process(is_sent_one, NULL);
}

static _Atomic int together;

static void *thread_crashes_together(void *arg)
{
	atomic_fetch_add(&together, 1);
	while (atomic_load(&together) < 4)
		;
	crash_here(arg);
	return NULL;
}

static void starts_threads(void *arg)
{
	pthread_t t;

	for (int i = 0; i < 4; i++)
		pthread_create(&t, NULL, thread_crashes_together, arg);
	mote_sleep(PATIENCE);
}

static void in_several_threads(void)
{
	as_process(starts_threads, NULL);
}

/* Nobody reads it, and it is full. */
static void with_deaf_stderr(void)
{
	int ends[2];
	char junk[4096] = "";

	if (pipe(ends))
		_exit(1);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	while (write(ends[1], junk, sizeof(junk)) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	dup2(ends[1], STDERR_FILENO);
	as_process(frees_nonsense, NULL);
}

static void with_no_stderr(void)
{
	close(STDERR_FILENO);
	as_process(frees_nonsense, NULL);
}

static void inside(void)
{
	static const char libc[] = "inside of libc";

	ENDS("free", in_free, SIGSEGV, "mote: process <0.", "\"" LABEL "\"", "SIGSEGV", libc, "#1 ", "frees_nonsense+",
	     "hook_enter");
	ENDS("malloc", in_malloc, SIGABRT, LABEL, "SIGABRT", libc, "ruins_the_heap+");
	ENDS("a callback of stdio", in_stdio_callback, SIGSEGV, LABEL, "at address 0x18", libc, "#0 ", "crash_here+",
	     "cookie_write+", "writes_to_cookie+");
	ENDS("printf", in_printf, SIGSEGV, LABEL, "at address 0x", libc, "prints_nonsense+");
}

static void runtime(void)
{
	ENDS("a log callback", in_log, SIGSEGV, LABEL, "inside of the runtime", "log_crashes+");
	ENDS("a visit", in_visit, SIGSEGV, LABEL, "inside of the runtime", "visit_crashes+", "visits+");
	ENDS("mote_send", in_send, SIGSEGV, LABEL, "at address 0x8", "inside of the runtime", "mote_send",
	     "sends_nonsense");
}

static void elsewhere(void)
{
	static const char foreign[] = "on a thread that runs no process";

	ENDS("a thread", in_thread, SIGSEGV, "mote: thread ", "at address 0x18", foreign, "thread_crashes+");
	ENDS("mote_blocking", in_blocking, SIGSEGV, "mote: thread ", foreign, "job_crashes+");
	/* qemu's signal frames are not marked as such: there it is raise() that is found below */
	ENDS("a signal handler", in_handler, SIGSEGV, LABEL, ARM ? "inside of" : "inside of a signal handler",
	     "handler_crashes+");
	ENDS("a signal that was sent", sent, SIGSEGV, "somebody has sent");
	ENDS("four at once", in_several_threads, SIGSEGV, foreign, "thread_crashes_together+");
}

static void never_hangs(void)
{
	ENDS("stderr is full", with_deaf_stderr, SIGSEGV, "");
	ENDS("stderr is closed", with_no_stderr, SIGSEGV, "");
}

/* The program's own handlers. */

static _Atomic int handled;
static char *page;

static void mends(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (sig == SIGSEGV && info->si_addr == page) {
		atomic_fetch_add(&handled, 1);
		mprotect(page, 4096, PROT_READ | PROT_WRITE);
		return;
	}
	_exit(98);
}

static void *touches(void *arg)
{
	*(volatile char *)page = 1;
	return arg;
}

static void idle(void *arg)
{
	(void)arg;
	mote_receive(MOTE_FOREVER);
}

static void programs_own_handler(void)
{
	struct sigaction mine = { .sa_sigaction = mends, .sa_flags = SA_SIGINFO }, before, now;
	pthread_t t;

	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaction(SIGSEGV, &mine, &before);
	EXPECT_EQ(mote_start(NULL), 0);
	mote_spawn(idle, NULL);
	sigaction(SIGSEGV, NULL, &now);
	EXPECT(now.sa_sigaction != mends);
	pthread_create(&t, NULL, touches, NULL);
	pthread_join(t, NULL);
	EXPECT_EQ(atomic_load(&handled), 1);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
	sigaction(SIGSEGV, NULL, &now);
	EXPECT(now.sa_sigaction == mends);
	sigaction(SIGSEGV, &before, NULL);
	munmap(page, 4096);
}

static void forks(void *arg)
{
	struct sigaction now;
	pid_t pid = fork();
	int status = 0;

	(void)arg;
	if (!pid) {
		/* There is no runtime here: all is as it was before there was one. */
		sigaction(SIGSEGV, NULL, &now);
		_exit(now.sa_handler == SIG_DFL ? 0 : 1);
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 97);
}

static void in_forked(void)
{
	signal(SIGSEGV, SIG_DFL);
	as_process(forks, NULL);
}

static void no_handlers_in_a_fork(void)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int status = await(child(in_forked, null), -1);

	close(null);
	if (!EXPECT(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0))
		test_note("status %#x", (unsigned int)status);
}

static void sanitized(void)
{
	selftest_skip("the sanitizer's handler was there before mote's, and makes the report");
}

int main(void)
{
	selftest_case("a crash inside of libc", SANITIZED ? sanitized : inside);
	selftest_case("a crash inside of the runtime", SANITIZED ? sanitized : runtime);
	selftest_case("a crash on other threads, in handlers; a signal that was sent",
		      SANITIZED ? sanitized : elsewhere);
	selftest_case("it ends, whatever stderr is", SANITIZED ? sanitized : never_hangs);
	selftest_case("a handler that the program had is asked, and back in place afterwards", programs_own_handler);
	selftest_case("a forked child has the handlers of before", no_handlers_in_a_fork);
	return selftest_done();
}
