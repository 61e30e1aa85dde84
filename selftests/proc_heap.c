// SPDX-License-Identifier: MIT OR GPL-2.0
/* Memory of a process: its own, aligned, gone with it. */
#include "proc.h"

static bool filled(const unsigned char *p, size_t n, unsigned char c)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != c)
			return false;
	return true;
}

static void sizes(void)
{
	for (size_t n = 0; n < 70000; n = n * 5 / 4 + 1) {
		unsigned char *a = mote_alloc(n), *b = mote_zalloc(n);

		if (!EXPECT(a && b))
			return;
		EXPECT_EQ((uintptr_t)a % 16, 0);
		EXPECT_EQ((uintptr_t)b % 16, 0);
		EXPECT(filled(b, n, 0));
		memset(a, 0xaa, n);
		memset(b, 0xbb, n);
		EXPECT(filled(a, n, 0xaa));
		mote_free(a);
		EXPECT(filled(b, n, 0xbb));
		mote_free(b);
		/* what was dirty comes back clean */
		b = mote_zalloc(n);
		EXPECT(b && filled(b, n, 0));
		mote_free(b);
	}
	mote_free(NULL);
}

static void resizes(void)
{
	unsigned char *p = mote_realloc(NULL, 10);

	if (!EXPECT(p))
		return;
	memset(p, 7, 10);
	for (size_t n = 11; n < 5000000; n = n * 3 / 2) {
		p = mote_realloc(p, n);
		if (!EXPECT(p && filled(p, 10, 7)))
			return;
		EXPECT_EQ((uintptr_t)p % 16, 0);
		memset(p + 10, 1, n - 10);
	}
	for (size_t n = 4000000; n > 10; n /= 3) {
		p = mote_realloc(p, n);
		if (!EXPECT(p && filled(p, 10, 7) && filled(p + 10, n - 10, 1)))
			return;
	}
	mote_free(p);
}

static void too_much(void)
{
	void *p = mote_alloc(100);

	EXPECT(!mote_alloc(SIZE_MAX - 100));
	EXPECT_EQ(mote_errno(), -ENOMEM);
	EXPECT(!mote_zalloc(SIZE_MAX));
	EXPECT_EQ(mote_errno(), -ENOMEM);
	EXPECT(!mote_realloc(p, SIZE_MAX - 8));
	EXPECT_EQ(mote_errno(), -ENOMEM);
	memset(p, 1, 100);	/* still there */
	mote_free(p);
}

static void mixer(void *arg)
{
	enum { N = 200 };
	uint64_t seed = test_seed() + (uintptr_t)arg;
	unsigned char *p[N] = { NULL };
	size_t size[N] = { 0 };
	unsigned long rounds = test_rounds(20000);

	for (unsigned long i = 0; i < rounds; i++) {
		uint32_t k = test_random(&seed) % N;
		size_t n = test_random(&seed) % (test_random(&seed) % 16 ? 300 : 20000);

		if (p[k] && !EXPECT(filled(p[k], size[k], (unsigned char)k)))
			return;
		if (p[k] && test_random(&seed) % 4 == 0) {
			size_t keep = n < size[k] ? n : size[k];

			p[k] = mote_realloc(p[k], n);
			EXPECT(filled(p[k], keep, (unsigned char)k));
		} else {
			mote_free(p[k]);
			p[k] = mote_alloc(n);
		}
		if (!EXPECT(p[k]))
			return;
		size[k] = n;
		memset(p[k], (int)k, n);
		if (i % 64 == 0)
			mote_yield();
	}
	for (int k = 0; k < N; k += 2)
		mote_free(p[k]);
}

static void many_mixers(void)
{
	mote_ref refs[8];
	mote_pid p[8];

	for (uintptr_t i = 0; i < 8; i++)
		p[i] = mote_spawn_monitor(mixer, (void *)i, &refs[i]);
	for (int i = 0; i < 8; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
}

static void hoarder(void *arg)
{
	for (int i = 0; i < 100; i++)
		memset(mote_alloc(10000), 1, 10000);
	if (arg)
		mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void freed_at_exit(void)
{
	unsigned long n = SANITIZED ? 100 : 1000;
	uint64_t before = 0;

	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(hoarder, i % 2 ? &n : NULL, &ref);

		if (i % 2) {
			while (test_info(p).wait != MOTE_WAIT_MESSAGE)
				mote_yield();
			mote_exit_pid(p, MOTE_REASON_KILL);
		}
		EXPECT(got_down(ref, p, i % 2 ? MOTE_KILLED : MOTE_NORMAL));
		if (i == n / 10)
			before = test_resident();
	}
	/* a gigabyte went through; ASan keeps what is freed for a while */
	if (!SANITIZED)
		EXPECT(test_resident() < before + (100u << 20));
}

static void is_counted(void)
{
	uint64_t before = test_info(mote_self()).memory, with;
	void *p = mote_alloc(1 << 20);

	with = test_info(mote_self()).memory;
	EXPECT(with >= before + (1 << 20));
	EXPECT(with < before + (2 << 20));
	mote_free(p);
	EXPECT(test_info(mote_self()).memory < before + (1 << 20));
}

static void use_heap(void *arg)
{
	/* cleanups come before the memory goes */
	EXPECT(filled(arg, 1000, 5));
	memset(arg, 6, 1000);
}

static void deferred_user(void *arg)
{
	void *p = mote_alloc(1000);

	(void)arg;
	memset(p, 5, 1000);
	mote_defer(use_heap, p);
	mote_sleep(MOTE_FOREVER);
}

static void lives_until_cleanups_end(void)
{
	for (int i = 0; i < 100; i++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(deferred_user, NULL, &ref);

		while (test_info(p).wait != MOTE_WAIT_SLEEP)
			mote_yield();
		mote_exit_pid(p, MOTE_REASON_KILL);
		EXPECT(got_down(ref, p, MOTE_KILLED));
	}
}

int main(void)
{
	selftest_process("every size, aligned, zeroed where asked", sizes);
	selftest_process("realloc keeps the contents", resizes);
	selftest_process("too much: NULL and -ENOMEM", too_much);
	selftest_process_opts("heaps of several processes at random", many_mixers, SCHEDULERS(2));
	selftest_process("memory is released at exit", freed_at_exit);
	selftest_process("memory is counted", is_counted);
	selftest_process("cleanups can still use it", lives_until_cleanups_end);
	return selftest_done();
}
