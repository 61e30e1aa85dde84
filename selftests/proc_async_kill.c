// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * MOTE_ASYNC_KILL: a process is stopped in its own code, and nowhere else. Who must survive a kill is watched while
 * others, that must not, are killed beside it: the overseer then has tried both.
 */
#include "proc.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static uint64_t async_kill_count(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info.async_kills;
}

/* Of the library, linked statically. */
void async_kill_want(void *process, uint64_t serial);
extern char *process_table;
#define PROCESS_SIZE 192

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifndef TSAN
#define TSAN 0
#endif

/* What spins does so in here: alive is for the compiler, which must not see an endless loop without effect. */
static _Atomic bool let_go;
static _Atomic unsigned long spun;

static mote_pid spawn_async(mote_fn fn, void *arg, unsigned int flags, mote_ref *ref)
{
	return mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = fn, .arg = arg,
		.flags = MOTE_ASYNC_KILL | MOTE_MONITOR | flags, .ref = ref });
}

/* xorshift begins with zeroes when the seed has few bits. */
static uint64_t seed_of(void *arg)
{
	return ((uintptr_t)arg + 1) * 0x9e3779b97f4a7c15u | 1;
}

static void hog(void *arg)
{
	_Atomic bool *begun = arg;

	if (begun)
		atomic_store(begun, true);
	for (;;)
		atomic_fetch_add_explicit(&spun, 1, memory_order_relaxed);
}

static void await(const _Atomic bool *flag)
{
	while (!atomic_load(flag))
		mote_sleep(mote_in_us(200));
}

static mote_pid begin_async(mote_fn fn, _Atomic bool *begun, mote_ref *ref)
{
	mote_pid pid;

	atomic_store(begun, false);
	pid = spawn_async(fn, begun, 0, ref);
	await(begun);
	return pid;
}

/* Kills n hogs, one after the other. */
static bool churn(int n)
{
	for (; n; n--) {
		_Atomic bool begun;
		mote_ref ref;
		mote_pid pid = begin_async(hog, &begun, &ref);

		mote_exit_pid(pid, MOTE_REASON_KILL);
		if (!EXPECT(got_down(ref, pid, MOTE_KILLED)))
			return false;
	}
	return true;
}

static _Atomic int cleaned;

static void clean(void *arg)
{
	EXPECT_EQ(*(int *)arg, 4711);
	/* A wait in a cleanup: the process is as good as any other. */
	mote_sleep(mote_in_us(100));
	atomic_fetch_add(&cleaned, 1);
}

static void hog_with_cleanups(void *arg)
{
	int local = 4711;	/* on the stack that is cut off */

	mote_defer(clean, &local);
	mote_defer(clean, &local);
	mote_register("hog", mote_self());
	mote_alloc(1000);
	hog(arg);
}

static void endless_loop(void)
{
	uint64_t before = async_kill_count();
	_Atomic bool begun;
	mote_ref ref;
	mote_pid pid;

	mote_trap_exit(true);
	atomic_store(&cleaned, 0);
	atomic_store(&begun, false);
	pid = spawn_async(hog_with_cleanups, &begun, MOTE_LINK, &ref);
	await(&begun);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT(got_exit(pid, MOTE_KILLED));
	EXPECT_EQ(atomic_load(&cleaned), 2);
	EXPECT(!mote_pid_valid(mote_whereis("hog")));
	EXPECT_EQ(async_kill_count(), before + 1);
	EXPECT(churn(20));
}

static void hog_until_let_go(void *arg)
{
	_Atomic bool *begun = arg;

	atomic_store(begun, true);
	while (!atomic_load(&let_go))
		atomic_fetch_add_explicit(&spun, 1, memory_order_relaxed);
	mote_check();
	atomic_store(begun, false);
}

static bool at_work(mote_pid pid)
{
	int state = (int)test_info(pid).state;

	if (state != MOTE_RUNNING && state != MOTE_DETACHED)
		test_note("state %d", state);
	return state == MOTE_RUNNING || state == MOTE_DETACHED;
}

static void without_the_flag(void)
{
	_Atomic bool begun = false;
	uint64_t seen;
	mote_ref ref;
	mote_pid pid;

	atomic_store(&let_go, false);
	pid = mote_spawn_monitor(hog_until_let_go, (void *)&begun, &ref);
	await(&begun);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	churn(5);
	EXPECT(at_work(pid));
	seen = atomic_load(&spun);
	while (atomic_load(&spun) == seen)
		mote_sleep(mote_in_us(100));
	/* other exit signals wait for a runtime call even with the flag */
	atomic_store(&let_go, true);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT(atomic_load(&begun));
}

static void only_kill_interrupts(void)
{
	_Atomic bool begun;
	mote_ref ref;
	mote_pid pid;

	atomic_store(&let_go, false);
	pid = begin_async(hog_until_let_go, &begun, &ref);
	mote_exit_pid(pid, MOTE_REASON_SHUTDOWN);
	churn(5);
	EXPECT(at_work(pid));
	/* it was first, so it decides what the process dies of */
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_SHUTDOWN));
	EXPECT(atomic_load(&begun));
}

static _Atomic bool past_the_section;

static void in_sections(void *arg)
{
	atomic_store(&past_the_section, false);
	mote_nokill_begin();
	mote_nokill_begin();
	atomic_store((_Atomic bool *)arg, true);
	while (!atomic_load(&let_go))
		test_spin(100);
	mote_nokill_end();
	for (int i = 0; i < 100000; i++)
		test_spin(100);
	mote_nokill_end();
	atomic_store(&past_the_section, true);
	hog(NULL);
}

static void sections(void)
{
	_Atomic bool begun;
	mote_ref ref;
	mote_pid pid;

	atomic_store(&let_go, false);
	pid = begin_async(in_sections, &begun, &ref);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	churn(5);
	EXPECT(at_work(pid));
	atomic_store(&let_go, true);
	/* the end of the outermost is where it dies */
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT(!atomic_load(&past_the_section));
	/* nothing on a foreign thread is in the last case */
}

static void calls_in_section(void *arg)
{
	mote_nokill_begin();
	atomic_store((_Atomic bool *)arg, true);
	while (!atomic_load(&let_go))
		mote_check();
}

static void runtime_calls_in_sections_act(void)
{
	_Atomic bool begun;
	mote_ref ref;
	mote_pid pid;

	atomic_store(&let_go, false);
	pid = begin_async(calls_in_section, &begun, &ref);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
}

/* Called back by qsort(): the C library is in between. */
static int compare_slowly(const void *a, const void *b)
{
	while (!atomic_load(&let_go))
		test_spin(10);
	return *(const int *)a - *(const int *)b;
}

static void sorts(void *arg)
{
	int numbers[] = { 3, 1, 2 };

	atomic_store((_Atomic bool *)arg, true);
	qsort(numbers, 3, sizeof(numbers[0]), compare_slowly);
	atomic_store(&past_the_section, numbers[0] == 1 && numbers[2] == 3);
	hog(NULL);
}

static void unregistered_code_in_between(void)
{
	_Atomic bool begun;
	mote_ref ref;
	mote_pid pid;

	atomic_store(&let_go, false);
	atomic_store(&past_the_section, false);
	pid = begin_async(sorts, &begun, &ref);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	churn(5);
	EXPECT(at_work(pid));
	atomic_store(&let_go, true);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	/* qsort had returned: only then it could be killed, perhaps before it said so, but never inside */
}

static void sleeps_in_libc(void *arg)
{
	struct timespec ms = { .tv_nsec = 1000000 };

	atomic_store((_Atomic bool *)arg, true);
	while (!atomic_load(&let_go))
		nanosleep(&ms, NULL);
	mote_check();
}

static void blocked_in_a_system_call(void)
{
	_Atomic bool begun;
	mote_ref ref;
	mote_pid pid;

	/* Mostly in the kernel, sometimes in its own code: it may take a few looks, but it ends without let_go. */
	atomic_store(&let_go, false);
	pid = begin_async(sleeps_in_libc, &begun, &ref);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	churn(3);
	atomic_store(&let_go, true);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
}

static void detached(void)
{
	_Atomic bool begun;
	mote_ref ref;
	mote_pid pid = begin_async(hog, &begun, &ref);

	/* With one scheduler this process can only run because the hog lost it. */
	EXPECT_EQ(test_info(pid).state, MOTE_DETACHED);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT(churn(5));
}

static int server_ended;

static void info_hogs(void *state, const struct mote_msg *m)
{
	(void)state;
	hog(*(_Atomic bool **)m->data);
}

static void terminate_counts(void *state, const struct mote_reason *why)
{
	(void)state;
	(void)why;
	server_ended++;
}

static void in_a_server(void)
{
	static const struct mote_handler_ops ops = { .size = sizeof(ops), .state_size = 40, .info = info_hogs,
						    .terminate = terminate_counts };
	_Atomic bool begun = false, *at = &begun;
	mote_ref ref;
	mote_pid pid = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &ops,
		.flags = MOTE_ASYNC_KILL | MOTE_MONITOR, .ref = &ref });

	server_ended = 0;
	mote_send(pid, 1, (void *)&at, sizeof(at));
	await(&begun);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT_EQ(server_ended, 0);
}

/* Deep in recursion, in a function that makes no frame, with numbers in registers: wherever the signal hits. */
static __attribute__((noinline)) unsigned long leaf(unsigned long x)
{
	for (int i = 0; i < 50; i++)
		x = x * 6364136223846793005u + 1442695040888963407u;
	return x;
}

static __attribute__((noinline)) unsigned long recurse(unsigned int depth, unsigned long x)
{
	if (!depth)
		return leaf(x);
	x ^= recurse(depth - 1, leaf(x));
	return leaf(x) + recurse(depth / 2, x);
}

static _Atomic unsigned long sum;

static void deep(void *arg)
{
	atomic_store((_Atomic bool *)arg, true);
	for (unsigned long x = 1;; x++)
		atomic_fetch_add(&sum, recurse(12, x));
}

static void anywhere_in_own_code(void)
{
	unsigned long n = test_rounds(200);

	for (unsigned long i = 0; i < n; i++) {
		_Atomic bool begun;
		mote_ref ref;
		mote_pid pid = begin_async(deep, &begun, &ref);

		mote_exit_pid(pid, MOTE_REASON_KILL);
		if (!EXPECT(got_down(ref, pid, MOTE_KILLED)))
			return;
	}
}

/* Locks of the C library that all use: of the heap's arenas and of one stream. */
static FILE *shared;
static _Atomic unsigned int nr_begun;

static void uses_libc(void *arg)
{
	uint64_t seed = seed_of(arg);
	char text[64];

	atomic_fetch_add(&nr_begun, 1);
	for (;;) {
		void *mem = malloc(test_random(&seed) % 2000);

		snprintf(text, sizeof(text), "%g %u\n", (double)test_random(&seed), (unsigned int)seed);
		fputs(text, shared);
		if (!(test_random(&seed) % 16))
			fflush(shared);
		free(mem);
		test_spin(test_random(&seed) % 2000);
	}
}

static void *uses_libc_too(void *arg)
{
	for (int i = 0; i < 1000; i++) {
		fprintf(shared, "%s %d\n", (char *)arg, i);
		free(malloc((size_t)i));
	}
	fflush(shared);
	return NULL;
}

#define CROWD 8

static unsigned long looks_of_overseer(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info.looks;
}

#define HOGS 3

/*
 * Own code that stdio calls, with the stream locked: short functions, so that the signal often hits their first and
 * last instructions.
 */
static __attribute__((noinline)) size_t count_bytes(const char *bytes, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++)
		n += bytes[i] != 0;
	return n;
}

static ssize_t cookie_write(void *cookie, const char *bytes, size_t size)
{
	unsigned long *total = cookie;

	for (size_t i = 0; i < size; i++)
		*total += count_bytes(bytes + i, 1);
	return (ssize_t)size;
}

static void writes_to_itself(void *arg)
{
	static const char text[200] = "x";

	(void)arg;
	atomic_fetch_add(&nr_begun, 1);
	for (;;) {
		fwrite(text, 1, sizeof(text), shared);
		fflush(shared);
		test_spin(1000);
	}
}

static void kill_around(mote_fn fn, unsigned long n)
{
	unsigned long kills = async_kill_count(), looks = looks_of_overseer();
	mote_pid pids[HOGS];
	mote_ref refs[HOGS];
	pthread_t threads[3];

	for (unsigned long k = 0; k < n; k++) {
		atomic_store(&nr_begun, 0);
		for (int i = 0; i < HOGS; i++)
			pids[i] = spawn_async(fn, (void *)(uintptr_t)(k * HOGS + (unsigned long)i), 0, &refs[i]);
		while (atomic_load(&nr_begun) < HOGS)
			mote_sleep(mote_in_us(200));
		for (int i = 0; i < HOGS; i++)
			mote_exit_pid(pids[i], MOTE_REASON_KILL);
		for (int i = 0; i < HOGS; i++) {
			if (!EXPECT(got_down(refs[i], pids[i], MOTE_KILLED)))
				return;
		}
	}
	/* A lock left behind, of the stream or the heap, would stop these. */
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, uses_libc_too, "still works");
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	test_note("%lu kills, %lu of them by signal, in %lu looks", n * HOGS, async_kill_count() - kills,
		  looks_of_overseer() - looks);
	EXPECT_EQ(async_kill_count() - kills, n * HOGS);
}

static void killed_around_libc(void)
{
	unsigned long n = test_rounds(60);
	size_t in_use;

	shared = fopen("/dev/null", "we");
	in_use = mallinfo2().uordblks;
	kill_around(uses_libc, n);
	/* each may have left the block that it had just then */
	EXPECT(mallinfo2().uordblks < in_use + n * HOGS * 2500 + (1 << 20));
	fclose(shared);
}

static void killed_around_callbacks(void)
{
	unsigned long total = 0;

	shared = fopencookie(&total, "w", (cookie_io_functions_t){ .write = cookie_write });
	kill_around(writes_to_itself, test_rounds(60));
	fclose(shared);
	EXPECT(total > 0);
}

/* Computes something whose result is known, in registers of all kinds; nobody kills it. */
static unsigned long expected;
static double expected_fraction;
static _Atomic unsigned long computed;

static __attribute__((noinline)) bool compute(unsigned long *result, double *fraction)
{
	double f = 1;

	*result = 1;
	for (int i = 1; i < 3000; i++) {
		*result = *result * 2862933555777941757u + (unsigned long)i;
		f = f * 0.99 + 1.0 / i;
	}
	*fraction = f;
	return true;
}

static void bystander(void *arg)
{
	unsigned long result;
	double fraction;

	(void)arg;
	while (!atomic_load(&let_go)) {
		compute(&result, &fraction);
		EXPECT(result == expected && fraction == expected_fraction);
		atomic_fetch_add(&computed, 1);
		mote_yield();
	}
}

static void wanders(void *arg)
{
	uint64_t seed = seed_of(arg);

	for (;;) {
		test_spin(test_random(&seed) % (test_random(&seed) % 8 ? 3000 : 10000000));
		if (test_random(&seed) & 1)
			mote_yield();
		else
			mote_sleep(mote_in_us(test_random(&seed) % 50));
	}
}

static void among_others(void)
{
	unsigned long n = test_rounds(250), done, kills = async_kill_count();
	uint64_t seed = test_seed();
	mote_pid victims[CROWD], others[CROWD];
	mote_ref refs[CROWD], other_refs[CROWD];

	compute(&expected, &expected_fraction);
	atomic_store(&let_go, false);
	for (int i = 0; i < CROWD; i++) {
		/* they might be killed, too, if somebody asked for it */
		others[i] = spawn_async(bystander, NULL, 0, &other_refs[i]);
		victims[i] = spawn_async(wanders, (void *)(uintptr_t)i, 0, &refs[i]);
	}
	for (unsigned long k = 0; k < n; k++) {
		uint32_t i = test_random(&seed) % CROWD;

		mote_sleep(mote_in_us(test_random(&seed) % 1000));
		mote_exit_pid(victims[i], MOTE_REASON_KILL);
		if (test_random(&seed) & 1)
			mote_exit_pid(victims[i], MOTE_REASON_KILL);
		if (!EXPECT(got_down(refs[i], victims[i], MOTE_KILLED)))
			break;
		victims[i] = spawn_async(wanders, (void *)(uintptr_t)k, 0, &refs[i]);
	}
	test_note("%lu kills, %lu of them by signal", n, async_kill_count() - kills);
	done = atomic_load(&computed);
	while (atomic_load(&computed) < done + 10)
		mote_yield();
	atomic_store(&let_go, true);
	for (int i = 0; i < CROWD; i++) {
		mote_exit_pid(victims[i], MOTE_REASON_KILL);
		EXPECT(got_down(refs[i], victims[i], MOTE_KILLED));
		EXPECT(got_down(other_refs[i], others[i], MOTE_NORMAL));
	}
}

/* Dies by itself about when the kill comes. */
static void short_lived(void *arg)
{
	uint64_t seed = seed_of(arg);

	test_spin(test_random(&seed) % 3000000);
	switch (test_random(&seed) % 3) {
	case 0:
		mote_exit(MOTE_REASON_NORMAL);
	case 1:
		mote_exit_pid(mote_self(), MOTE_REASON_NORMAL);
	}
}

static pthread_mutex_t target_mutex = PTHREAD_MUTEX_INITIALIZER;
static mote_pid target;
static _Atomic bool no_more_kills;

static mote_pid target_get(void)
{
	mote_pid pid;

	pthread_mutex_lock(&target_mutex);
	pid = target;
	pthread_mutex_unlock(&target_mutex);
	return pid;
}

static void target_set(mote_pid pid)
{
	pthread_mutex_lock(&target_mutex);
	target = pid;
	pthread_mutex_unlock(&target_mutex);
}

/* Also kills those who are dead for long, in whose slots others live. */
static void *kills_targets(void *arg)
{
	mote_pid old[64] = { MOTE_NOBODY };
	uint64_t seed = test_seed() + 2;

	(void)arg;
	while (!atomic_load(&no_more_kills)) {
		mote_pid pid = target_get();

		test_jitter(&seed);
		mote_exit_pid(pid, MOTE_REASON_KILL);
		old[test_random(&seed) % 64] = pid;
		if (mote_pid_valid(old[0]) && !mote_pid_equal(old[0], pid))
			mote_exit_pid(old[0], MOTE_REASON_KILL);
	}
	return NULL;
}

static void spins_unkilled(void *arg)
{
	(void)arg;
	for (int i = 0; i < 300; i++)
		test_spin(1000);
}

static void death_and_kill_at_once(void)
{
	unsigned long n = test_rounds(1000), killed = 0;
	pthread_t thread;

	target_set(MOTE_NOBODY);
	atomic_store(&no_more_kills, false);
	pthread_create(&thread, NULL, kills_targets, NULL);
	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref, spared_ref;
		mote_pid pid = spawn_async(short_lived, (void *)(uintptr_t)i, 0, &ref), spared;
		struct mote_msg *m;

		target_set(pid);
		m = mote_receive_ref(ref, PATIENCE);
		if (!EXPECT(is_down(m, ref, pid, MOTE_NORMAL) || is_down(m, ref, pid, MOTE_KILLED)))
			test_describe(m);
		killed += m && mote_msg_down(m)->reason.kind == MOTE_KILLED;
		mote_msg_free(m);
		if (i % 16)
			continue;
		/* most likely in the slot that just became free, while its tenant is still being killed */
		spared = spawn_async(spins_unkilled, NULL, 0, &spared_ref);
		EXPECT(got_down(spared_ref, spared, MOTE_NORMAL));
	}
	atomic_store(&no_more_kills, true);
	pthread_join(thread, NULL);
	test_note("%lu of %lu were killed before they ended", killed, n);
}

/* What a kill leaves behind that was for the former tenant of a slot, and lost the race against its end. */
static void marked_by_mistake(void)
{
	_Atomic bool begun;
	mote_ref ref;
	mote_pid pid;

	atomic_store(&let_go, false);
	pid = begin_async(hog_until_let_go, &begun, &ref);
	async_kill_want(process_table + (size_t)pid.slot * PROCESS_SIZE, pid.serial - 1);
	churn(5);
	EXPECT(at_work(pid));
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	/* nor does it hide a kill of its own, which can't act yet */
	pid = begin_async(sorts, &begun, &ref);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	async_kill_want(process_table + (size_t)pid.slot * PROCESS_SIZE, pid.serial - 1);
	atomic_store(&let_go, true);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
}

static void tries_to_register(void)
{
	static char data[16];
	const char *volatile somewhere = (const char *)(uintptr_t)hog, *here = somewhere;
	pid_t child;
	int status, err = 0;

	EXPECT_EQ(mote_async_code(NULL, NULL), -EINVAL);
	EXPECT_EQ(mote_async_code(data, NULL), -EINVAL);
	EXPECT_EQ(mote_async_code(here, here), -EINVAL);
	EXPECT_EQ(mote_async_code(here, here - 1), -EINVAL);
	EXPECT_EQ(mote_async_code(here, here + (1L << 40)), -EINVAL);
	EXPECT_EQ(mote_async_code((void *)(uintptr_t)mote_send, (char *)(uintptr_t)mote_send + 1), -EPERM);
	EXPECT_EQ(mote_async_code(dlsym(RTLD_DEFAULT, "qsort"), NULL), -EPERM);
	EXPECT_EQ(mote_async_code(dlsym(RTLD_DEFAULT, "malloc"), NULL), -EPERM);
	child = fork();
	if (!child) {
		for (int i = 0; i < 100 && !err; i++)
			err = mote_async_code(here + i, here + i + 1);
		/* what is known already needs no place */
		_exit(err == -ENOSPC && !mote_async_code(here, here + 1) ? 0 : 1);
	}
	EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static _Atomic int own_signals;

static void own_handler(int signo)
{
	EXPECT_EQ(signo, SIGURG);
	atomic_fetch_add(&own_signals, 1);
}

static void beside_own_handler(void)
{
	EXPECT(churn(3));
	EXPECT_EQ(atomic_load(&own_signals), 0);
	raise(SIGURG);
	kill(getpid(), SIGURG);
	while (atomic_load(&own_signals) < 2)
		mote_sleep(mote_in_us(100));
}

static void main_of_beside_own_handler(void *arg)
{
	(void)arg;
	beside_own_handler();
}

static void program_uses_the_signal(void)
{
	struct sigaction own = { .sa_handler = own_handler }, now;

	sigaction(SIGURG, &own, NULL);
	EXPECT_EQ(mote_run(main_of_beside_own_handler, NULL, NULL), 0);
	sigaction(SIGURG, NULL, &now);
	EXPECT(now.sa_handler == own_handler);
	signal(SIGURG, SIG_DFL);
	/* on a foreign thread they do nothing */
	mote_nokill_begin();
	mote_nokill_end();
	mote_nokill_end();
}

static void churn_some(void *arg)
{
	(void)arg;
	churn(5);
}

static void all_signals_blocked(void)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	EXPECT_EQ(mote_run(churn_some, NULL, NULL), 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void ends_what_was_not_begun(void *arg)
{
	(void)arg;
	mote_nokill_end();
}

static void misuse(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		freopen("/dev/null", "w", stderr);
		mote_run(ends_what_was_not_begun, NULL, NULL);
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* Shutdown alone would not end it. */
static void stop_kills(void)
{
	_Atomic bool begun = false;

	EXPECT_EQ(mote_start(NULL), 0);
	EXPECT(mote_pid_valid(mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = hog, .arg = &begun, .flags = MOTE_ASYNC_KILL })));
	while (!atomic_load(&begun))
		sched_yield();
	/* half of it for the shutdown */
	EXPECT_EQ(mote_stop(mote_in_ms(500), NULL, NULL), 0);
}

static const char *cannot;

static void cannot_kill(void)
{
	selftest_skip(cannot);
}

int main(void)
{
	const char *seed = getenv("MOTE_SEED");
	int err;

	selftest_case("what may be registered", tries_to_register);
	err = mote_async_code((void *)(uintptr_t)main, NULL);
	if (seed && *seed)
		cannot = "MOTE_SEED: whoever computes without end keeps the only thread";
	else if (TSAN)
		cannot = "TSan calls signal handlers later, elsewhere";
	else if (err)
		cannot = "malloc is part of the program";
	if (cannot) {
		selftest_case("killing", cannot_kill);
		return selftest_done();
	}
	selftest_process("an endless loop is ended; its cleanups run", endless_loop);
	selftest_process("without the flag it goes on until its next runtime call", without_the_flag);
	selftest_process("only kill interrupts", only_kill_interrupts);
	selftest_process("not in a section, but at its end", sections);
	selftest_process("runtime calls in a section act", runtime_calls_in_sections_act);
	selftest_process("not while unregistered code is in between", unregistered_code_in_between);
	selftest_process("in a loop of system calls: between them", blocked_in_a_system_call);
	selftest_process_opts("a hog whose scheduler was taken away", detached, SCHEDULERS(1));
	selftest_process("in the callback of a server", in_a_server);
	selftest_process("at any instruction of its own code", anywhere_in_own_code);
	selftest_process("never inside malloc or stdio: their locks stay usable", killed_around_libc);
	selftest_process("nor in what stdio calls", killed_around_callbacks);
	selftest_process_opts("among others, which are never hit", among_others, SCHEDULERS(2));
	selftest_process_opts("race: kill against end, and the slot's next tenant", death_and_kill_at_once,
			      SCHEDULERS(2));
	selftest_process("what was meant for a slot's former tenant", marked_by_mistake);
	selftest_case("a program's own handler gets its signals, and its place back", program_uses_the_signal);
	selftest_case("in a program that had all signals blocked", all_signals_blocked);
	selftest_case("mote_nokill_end() without a beginning ends the program", misuse);
	selftest_case("mote_stop ends a hog", stop_kills);
	return selftest_done();
}
