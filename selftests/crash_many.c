// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Crashes in a row, of each kind, beside neighbours that keep answering; then nothing is left of the dead.
 * MOTE_TEST_HUGE=1: a million of each.
 */
#include "proc.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

enum { CALL = 1, ANSWER };

#define NEIGHBOURS 8

static volatile int zero;
static char *unmapped;		/* a page that is there no more */
static char *beyond;		/* a page of a file behind its end */

__attribute__((noinline, no_sanitize("thread"))) static void crash_null(void *arg)
{
	(void)arg;
	*(volatile int *)(uintptr_t)(8 + zero) = 1;
}

__attribute__((noinline, no_sanitize("thread"))) static int recurse(int n)
{
	volatile char frame[512];

	frame[0] = (char)n;
	return n < 0 ? 0 : recurse(n + 1) + frame[0];
}

__attribute__((noinline, no_sanitize("thread"))) static void crash_overflow(void *arg)
{
	(void)arg;
	recurse(zero);
}

__attribute__((noinline, no_sanitize("thread"))) static void crash_divide(void *arg)
{
	(void)arg;
#if defined(__x86_64__)
	zero = 5 / zero;
#else
	raise(SIGABRT);		/* elsewhere the machine's answer is 0 */
#endif
}

__attribute__((noinline, no_sanitize("thread"))) static void crash_abort(void *arg)
{
	(void)arg;
	abort();
}

__attribute__((noinline, no_sanitize("thread"))) static void crash_trap(void *arg)
{
	(void)arg;
	__builtin_trap();
}

__attribute__((noinline, no_sanitize("thread"))) static void crash_bus(void *arg)
{
	(void)arg;
	*(volatile char *)beyond = 1;
}

__attribute__((noinline, no_sanitize("thread"))) static void crash_memset(void *arg)
{
	(void)arg;
	memset(unmapped + zero, 1, 200);
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline, no_sanitize("thread"))) static void crash_jump(void *arg)
{
	(void)arg;
	((void (*)(void))unmapped)();
	__asm__ volatile("" ::: "memory");
}

static const struct kind {
	const char *name;
	mote_fn fn;
	int signal, other;	/* what it may be */
	bool bare;		/* sanitizers catch it themselves, or put functions of their own between it and libc */
} kinds[] = {
	{ "SIGSEGV", crash_null, SIGSEGV, 0, false },
	{ "stack overflow", crash_overflow, SIGSEGV, 0, false },
	{ "SIGFPE", crash_divide, SIGFPE, SIGABRT, true },
	{ "abort", crash_abort, SIGABRT, 0, true },
	{ "trap", crash_trap, SIGILL, SIGTRAP, false },
	{ "SIGBUS", crash_bus, SIGBUS, 0, false },
	{ "SIGSEGV in memset", crash_memset, SIGSEGV, 0, true },
	{ "a wild jump", crash_jump, SIGSEGV, 0, false },
};

static void neighbour(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type == CALL)
			mote_reply(mote_msg_from(m), ANSWER, m->data, m->size);
		mote_msg_free(m);
	}
}

static unsigned long descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned long n = 0;

	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

static unsigned long resident_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long size, resident = 0;

	if (f) {
		if (fscanf(f, "%lu %lu", &size, &resident) != 2)
			resident = 0;
		fclose(f);
	}
	return resident * 4;
}

static int64_t nanoseconds(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void crash_in_a_row(const struct kind *kind, unsigned long n, const mote_pid *neighbours)
{
	int64_t wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
	unsigned long wrong = 0, deaf = 0;

	for (unsigned long i = 0; i < n && !wrong; i++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(kind->fn, NULL, &ref);
		struct mote_msg *m = mote_receive_ref(ref, PATIENCE);
		const struct mote_reason *why = m ? &mote_msg_down(m)->reason : NULL;

		if (!is_down(m, ref, p, MOTE_SIGNAL) || (why->code != kind->signal && why->code != kind->other)) {
			test_describe(m);
			wrong++;
		}
		mote_msg_free(m);
		if (i % 16 == 0) {
			struct mote_msg *answer = NULL;

			if (mote_call(neighbours[i / 16 % NEIGHBOURS], CALL, &i, sizeof(i), &answer, PATIENCE) ||
			    memcmp(answer->data, &i, sizeof(i)))
				deaf++;
			mote_msg_free(answer);
		}
	}
	EXPECT_EQ(wrong, 0);
	EXPECT_EQ(deaf, 0);
	wall = nanoseconds(CLOCK_MONOTONIC) - wall;
	cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	test_note("%s: %lu in a row, each spawned, crashed, heard of: %lld ns (CPU %lld ns)", kind->name, n,
		  (long long)(wall / (int64_t)n), (long long)(cpu / (int64_t)n));
}

static unsigned long rounds(void)
{
	const char *huge = getenv("MOTE_TEST_HUGE");

	return huge && *huge == '1' ? 1000000 : test_rounds(20000);
}

static void each_kind(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };
	mote_pid neighbours[NEIGHBOURS];
	unsigned long fds, resident, crashes = 0;

	for (int i = 0; i < NEIGHBOURS; i++)
		neighbours[i] = mote_spawn(neighbour, NULL);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		if (SANITIZED && kinds[k].bare)
			continue;
		crash_in_a_row(&kinds[k], 100, neighbours);	/* everything that is kept is there by now */
		fds = descriptors();
		resident = resident_kib();
		crash_in_a_row(&kinds[k], rounds(), neighbours);
		crashes += 100 + rounds();
		mote_runtime_info(&info);
		EXPECT_EQ(info.crashes, crashes);
		EXPECT_EQ(info.processes, NEIGHBOURS + 1);
		EXPECT_EQ(descriptors(), fds);
		/* A page for each would be a multiple of that. */
		if (!EXPECT(resident_kib() < resident + 16384))
			test_note("%lu KiB resident, then %lu", resident, resident_kib());
	}
	for (int i = 0; i < NEIGHBOURS; i++)
		put_down(neighbours[i]);
}

/* Several at once, on as many schedulers as there are, each linked to the one who restarts it. */
static _Atomic unsigned long restarts;

static void restarter(void *arg)
{
	unsigned long n = (unsigned long)(uintptr_t)arg;

	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++) {
		const struct kind *kind = &kinds[i % (SANITIZED ? 2 : 5)];
		mote_pid p = mote_spawn_link(kind->fn, NULL);

		if (!EXPECT(got_exit(p, MOTE_SIGNAL)))
			break;
		atomic_fetch_add(&restarts, 1);
	}
}

static void many_at_once(void)
{
	unsigned long n = rounds() / 8;
	mote_ref refs[8];
	mote_pid pids[8];

	atomic_store(&restarts, 0);
	for (int i = 0; i < 8; i++)
		pids[i] = mote_spawn_monitor(restarter, (void *)(uintptr_t)n, &refs[i]);
	for (int i = 0; i < 8; i++) {
		while (mote_alive(pids[i]))
			mote_sleep(mote_in_ms(1));
		EXPECT(got_down(refs[i], pids[i], MOTE_NORMAL));
	}
	EXPECT_EQ(atomic_load(&restarts), 8 * n);
}

int main(void)
{
	char name[] = "/tmp/crash_many.XXXXXX";
	int fd = mkstemp(name);

	unmapped = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	beyond = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || unmapped == MAP_FAILED || beyond == MAP_FAILED)
		test_bail_out();
	unlink(name);
	selftest_process("crashes of each kind in a row, with healthy neighbours", each_kind);
	selftest_process("crashes on all schedulers at once, restarted by links", many_at_once);
	return selftest_done();
}
