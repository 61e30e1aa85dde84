/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * selftest.h: plain test programs in the manner of kselftest. TAP on stdout; exit status 0 pass, 1 fail, 4 skip.
 *
 *	static void links_are_symmetric(void) { ... EXPECT(a == b); ... }
 *
 *	int main(void)
 *	{
 *		selftest_process("links are symmetric", links_are_symmetric);
 *		return selftest_done();
 *	}
 */
#ifndef SELFTEST_H
#define SELFTEST_H

#include <mote.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int selftest_cases, selftest_failures, selftest_skips;
static _Atomic int selftest_failed;
static char selftest_why[256];

/* Says where, and goes on: a test that must not go on returns. */
#define EXPECT(condition) \
	((condition) ? true : (selftest_complain(__FILE__, __LINE__, #condition), false))

#define EXPECT_EQ(a, b) \
	do { \
		long long a_ = (long long)(a), b_ = (long long)(b); \
		if (a_ != b_) { \
			selftest_complain(__FILE__, __LINE__, #a " == " #b); \
			printf("#   %lld != %lld\n", a_, b_); \
		} \
	} while (0)

static inline void selftest_complain(const char *file, int line, const char *what)
{
	if (atomic_fetch_add(&selftest_failed, 1) < 20)
		printf("# %s:%d: %s\n", file, line, what);
	fflush(stdout);
}

/* Called in a case: what follows can't be tested here. */
static inline void selftest_skip(const char *why)
{
	snprintf(selftest_why, sizeof(selftest_why), "%s", why);
}

static inline void selftest_report(const char *name)
{
	selftest_cases++;
	if (atomic_load(&selftest_failed)) {
		selftest_failures++;
		printf("not ok %d - %s\n", selftest_cases, name);
	} else if (selftest_why[0]) {
		selftest_skips++;
		printf("ok %d - %s # SKIP %s\n", selftest_cases, name, selftest_why);
	} else {
		printf("ok %d - %s\n", selftest_cases, name);
	}
	fflush(stdout);
}

static inline void selftest_begin(void)
{
	if (!selftest_cases)
		printf("TAP version 13\n");
	atomic_store(&selftest_failed, 0);
	selftest_why[0] = 0;
}

/* A case that runs on the main thread, with no runtime. */
static inline void selftest_case(const char *name, void (*fn)(void))
{
	selftest_begin();
	fn();
	selftest_report(name);
}

static inline void selftest_main(void *arg)
{
	(*(void (**)(void))arg)();
}

/* A case that runs as the first process of a runtime of its own. */
static inline void selftest_process_opts(const char *name, void (*fn)(void), const struct mote_opts *opts)
{
	int err;

	selftest_begin();
	err = mote_run(selftest_main, &fn, opts);
	if (err) {
		printf("# mote_run: %d\n", err);
		atomic_fetch_add(&selftest_failed, 1);
	}
	selftest_report(name);
}

static inline void selftest_process(const char *name, void (*fn)(void))
{
	selftest_process_opts(name, fn, NULL);
}

static inline int selftest_done(void)
{
	printf("1..%d\n", selftest_cases);
	if (selftest_failures)
		return 1;
	return selftest_skips == selftest_cases ? 4 : 0;
}

#endif
