/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * proc.h: what the tests of the law of processes share.
 *
 * Environment: MOTE_TEST_ROUNDS multiplies the rounds of races (a fraction is fine), MOTE_TEST_SEED seeds them,
 * MOTE_TEST_HUGE=1 asks for the largest populations.
 */
#ifndef SELFTESTS_PROC_H
#define SELFTESTS_PROC_H

#include "selftest.h"
#include <errno.h>
#include <sched.h>
#include <stdarg.h>

#if defined(__SANITIZE_THREAD__)
#define SANITIZED 5
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZED 5
#elif __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0		/* else: how slow it is; TSan pays per fiber at each release */
#endif

/* Longer than anything takes that works: only a broken library waits for it. */
#define PATIENCE mote_in_ms(60000)

#define SCHEDULERS(n) \
	(&(const struct mote_opts){ .size = sizeof(struct mote_opts), .schedulers = (n) })

static inline double test_factor(void)
{
	const char *s = getenv("MOTE_TEST_ROUNDS");
	double f = s ? strtod(s, NULL) : 1;

	return f > 0 ? f : 1;
}

/* How often to repeat a race that wants n rounds: fewer where each round is slow. */
static inline unsigned long test_rounds(unsigned long n)
{
	double r = (double)n * test_factor() / (SANITIZED ? 20 * SANITIZED : 1);

	return r < 4 ? 4 : (unsigned long)r;
}

/* How many of something to have at once; ASan is given at most 2,000, TSan 400. */
static inline unsigned long test_crowd(unsigned long n)
{
	double f = test_factor();

	if (f < 1)
		n = (double)n * f < 64 ? (n < 64 ? n : 64) : (unsigned long)((double)n * f);
	#if SANITIZED
	if (n > 2000 / SANITIZED)
		n = 2000 / SANITIZED;
#endif
	return n;
}

static inline uint64_t test_seed(void)
{
	const char *s = getenv("MOTE_TEST_SEED");

	return s ? strtoull(s, NULL, 0) * 2 + 1 : 0x9e3779b97f4a7c15u;
}

static inline uint32_t test_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 32);
}

static inline void test_spin(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		__asm__ volatile("" ::: "memory");
}

/* A delay of random length, to move two racers against each other. */
static inline void test_jitter(uint64_t *state)
{
	uint32_t r = test_random(state);

	switch (r & 7) {
	case 0:
		if (mote_in_process())
			mote_yield();
		break;
	case 1: case 2: case 3:
		test_spin((r >> 3) % 200);
		break;
	case 4: case 5:
		test_spin((r >> 3) % 3000);
		break;
	}
}

static inline void test_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	va_end(args);
}

/* Where others still use what the caller would take along. */
static inline _Noreturn void test_bail_out(void)
{
	printf("Bail out!\n");
	fflush(stdout);
	_exit(1);
}

static inline void test_describe(const struct mote_msg *m)
{
	char why[128] = "";

	if (!m) {
		test_note("got nothing: errno %d", mote_errno());
		return;
	}
	if (mote_msg_exit(m))
		mote_reason_format(&mote_msg_exit(m)->reason, why, sizeof(why));
	if (mote_msg_down(m))
		mote_reason_format(&mote_msg_down(m)->reason, why, sizeof(why));
	test_note("got type %#x, %u bytes, from " MOTE_PID_FMT " %s", m->type, m->size, MOTE_PID_ARG(m->from), why);
}

static inline bool test_skip_seeded(const char *why)
{
	const char *seed = getenv("MOTE_SEED");

	if (!seed || !*seed)
		return false;
	selftest_skip(why);
	return true;
}

/* For cases in which processes wait for others in their own code: in a seeded run, on one thread, they would for ever. */
static inline bool test_one_thread(void)
{
	return test_skip_seeded("MOTE_SEED: it computes until another thread has done something");
}

/* For cases about who runs next. */
static inline bool test_left_to_chance(void)
{
	return test_skip_seeded("MOTE_SEED: chance decides who runs next");
}

/* The next message is of this type; takes it. */
static inline bool got_type(uint32_t type)
{
	struct mote_msg *m = mote_receive(PATIENCE);
	bool ok = m && m->type == type;

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

static inline bool is_down(const struct mote_msg *m, mote_ref ref, mote_pid pid, uint32_t kind)
{
	const struct mote_down_info *d = m ? mote_msg_down(m) : NULL;

	return d && m->type == MOTE_MSG_DOWN && mote_ref_equal(d->ref, ref) && mote_pid_equal(d->pid, pid) &&
	       d->reason.kind == kind;
}

static inline bool is_exit(const struct mote_msg *m, mote_pid from, uint32_t kind)
{
	const struct mote_exit_info *e = m ? mote_msg_exit(m) : NULL;

	return e && m->type == MOTE_MSG_EXIT && mote_pid_equal(e->pid, from) && mote_pid_equal(m->from, from) &&
	       e->reason.kind == kind;
}

/* The DOWN of this monitor comes, with this kind of reason. */
static inline bool got_down(mote_ref ref, mote_pid pid, uint32_t kind)
{
	struct mote_msg *m = mote_receive_ref(ref, PATIENCE);
	bool ok = is_down(m, ref, pid, kind);

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

/* The next EXIT is from this process, with this kind of reason. */
static inline bool got_exit(mote_pid from, uint32_t kind)
{
	struct mote_msg *m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
	bool ok = is_exit(m, from, kind);

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

static inline bool mailbox_is_empty(void)
{
	struct mote_msg *m = mote_receive(MOTE_NOW);

	if (!m)
		return mote_errno() == -ETIMEDOUT;
	test_describe(m);
	mote_msg_free(m);
	return false;
}

/* Ends pid and waits until it is gone. */
static inline void put_down(mote_pid pid)
{
	mote_ref ref = mote_monitor(pid);

	mote_exit_pid(pid, MOTE_REASON_KILL);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
}

static inline struct mote_process_info test_info(mote_pid pid)
{
	struct mote_process_info info = { .size = sizeof(info) };

	if (mote_process_info(pid, &info))
		memset(&info, 0xff, sizeof(info));
	return info;
}

/* Bytes of this OS process in memory; 0: not to be had. */
static inline uint64_t test_resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long long size, rss = 0;

	if (!f || fscanf(f, "%llu %llu", &size, &rss) != 2)
		rss = 0;
	if (f)
		fclose(f);
	return rss * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Spawned on scheduler n, to stay there: so that two processes really run at the same time. */
static inline mote_pid spawn_pinned(mote_fn fn, void *arg, unsigned int scheduler, unsigned int flags, mote_ref *ref)
{
	return mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = fn, .arg = arg, .scheduler = scheduler,
		.flags = flags | MOTE_PINNED, .ref = ref });
}

/* Runs fn as a process pinned to scheduler 0 and waits for it: a case whose racer is pinned to 1. */
static inline void on_first_scheduler(mote_fn fn, void *arg)
{
	mote_ref ref;
	mote_pid pid = spawn_pinned(fn, arg, 0, MOTE_MONITOR, &ref);
	struct mote_msg *m = mote_receive_ref(ref, MOTE_FOREVER);

	EXPECT(is_down(m, ref, pid, MOTE_NORMAL));
	mote_msg_free(m);
}

/* Takes messages for ever. */
static inline void sink(void *arg)
{
	(void)arg;
	for (;;)
		mote_msg_free(mote_receive(MOTE_FOREVER));
}

/* Sends every plain message back to its sender; a round trip means that all sent before has arrived. */
static inline void mirror(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type < MOTE_MSG_RESERVED)
			mote_send(m->from, m->type, m->data, m->size);
		mote_msg_free(m);
	}
}

#define PING 0x7fff0001u

static inline bool ping(mote_pid pid)
{
	struct mote_msg *m;

	mote_send(pid, PING, NULL, 0);
	m = mote_receive_type(PING, PATIENCE);
	mote_msg_free(m);
	return m != NULL;
}

#endif
