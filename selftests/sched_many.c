// SPDX-License-Identifier: MIT OR GPL-2.0
/* Crowds: 100,000 processes with stacks and a million servers; with MOTE_TEST_HUGE=1 ten times as many. */
#include "proc.h"

enum { GO = 1, ADD, GET, REPLY };

static bool huge(void)
{
	const char *s = getenv("MOTE_TEST_HUGE");

	return s && *s && strcmp(s, "0") && !SANITIZED;
}

static uint64_t processes(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info.processes;
}

static _Atomic unsigned long ran;

static void waits_for_go(void *arg)
{
	struct mote_msg *m = mote_receive(MOTE_FOREVER);

	(void)arg;
	atomic_fetch_add(&ran, m->type == GO);
	mote_msg_free(m);
}

static void stackful(void)
{
	unsigned long n = huge() ? 1000000 : test_crowd(100000), alive = 0;
	mote_pid *p = malloc(n * sizeof(*p));

	atomic_store(&ran, 0);
	for (unsigned long i = 0; i < n; i++) {
		p[i] = mote_spawn(waits_for_go, NULL);
		if (!EXPECT(mote_pid_valid(p[i]))) {
			test_note("spawn %lu: %d", i, mote_errno());
			return;
		}
		if (i % 1000 == 999)
			mote_yield();
	}
	/* all have begun, and wait on stacks of their own */
	for (unsigned long i = 0; i < n; i++)
		while (test_info(p[i]).wait != MOTE_WAIT_MESSAGE && mote_alive(p[i]))
			mote_yield();
	for (unsigned long i = 0; i < n; i++)
		alive += test_info(p[i]).stack >= 65536 && mote_alive(p[i]);
	EXPECT_EQ(alive, n);
	EXPECT_EQ(processes(), n + 1);
	for (unsigned long i = 0; i < n; i++)
		mote_send(p[i], GO, NULL, 0);
	while (processes() > 1)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(atomic_load(&ran), n);
	free(p);
}

static void count(void *state, struct mote_from from, const struct mote_msg *m)
{
	uint64_t *n = state;

	*n += m->type == ADD;
	mote_reply(from, REPLY, n, sizeof(*n));
}

static void add(void *state, const struct mote_msg *m)
{
	uint64_t *n = state;

	*n += m->type == ADD;
}

static const struct mote_handler_ops counter = {
	.size = sizeof(counter), .state_size = sizeof(uint64_t), .call = count, .info = add };

static void servers(void)
{
	unsigned long n = huge() ? 10000000 : test_crowd(1000000), wrong = 0;
	mote_pid *p = malloc(n * sizeof(*p));

	for (unsigned long i = 0; i < n; i++) {
		p[i] = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .handler = &counter });
		if (!EXPECT(mote_pid_valid(p[i]))) {
			test_note("spawn %lu: %d", i, mote_errno());
			return;
		}
	}
	EXPECT_EQ(processes(), n + 1);
	/* every one gets a message; every hundredth is asked */
	for (unsigned long i = 0; i < n; i++)
		mote_send(p[i], ADD, NULL, 0);
	for (unsigned long i = 0; i < n; i += 100) {
		struct mote_msg *m = NULL;

		wrong += mote_call(p[i], ADD, NULL, 0, &m, PATIENCE) || *(uint64_t *)m->data != 2;
		mote_msg_free(m);
	}
	EXPECT_EQ(wrong, 0);
	for (unsigned long i = 0; i < n; i++)
		mote_exit_pid(p[i], i & 1 ? MOTE_REASON_KILL : MOTE_REASON_SHUTDOWN);
	while (processes() > 1)
		mote_sleep(mote_in_ms(1));
	free(p);
}

/* The crowd is alive when the runtime stops. */
static void left_behind(void)
{
	unsigned long n = test_crowd(20000);

	for (unsigned long i = 0; i < n; i++)
		if (i & 1)
			mote_spawn(waits_for_go, NULL);
		else
			mote_spawn_opts(&(struct mote_spawn_opts){
				.size = sizeof(struct mote_spawn_opts), .handler = &counter });
	mote_yield();
}

static void waves(void)
{
	unsigned long n = test_crowd(1000), rounds = test_rounds(100);
	mote_ref *refs = malloc(n * sizeof(*refs));

	for (unsigned long r = 0; r < rounds; r++) {
		atomic_store(&ran, 0);
		for (unsigned long i = 0; i < n; i++)
			mote_send(mote_spawn_monitor(waits_for_go, NULL, &refs[i]), GO, NULL, 0);
		for (unsigned long i = 0; i < n; i++)
			mote_msg_free(mote_receive_ref(refs[i], PATIENCE));
		if (!EXPECT(atomic_load(&ran) == n) || !EXPECT(processes() == 1))
			break;
	}
	EXPECT(mailbox_is_empty());
	free(refs);
}

/* A chain of processes, each linked to the next; the first one's end takes all of them along. */
static void chained(void *arg)
{
	uintptr_t left = (uintptr_t)arg;

	if (left)
		mote_spawn_link(chained, (void *)(left - 1));
	mote_receive(MOTE_FOREVER);
}

static void chain(void)
{
	uintptr_t n = test_crowd(10000);
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(chained, (void *)n, &ref);

	while (processes() < n + 2)
		mote_sleep(mote_in_ms(1));
	mote_exit_pid(p, mote_reason_error(EIO, NULL));
	EXPECT(got_down(ref, p, MOTE_ERROR));
	while (processes() > 1)
		mote_sleep(mote_in_ms(1));
}

int main(void)
{
	selftest_process_opts("a crowd with stacks, all waiting, all woken", stackful, SCHEDULERS(2));
	selftest_process_opts("a crowd of servers, all told, some asked", servers, SCHEDULERS(2));
	selftest_process_opts("a crowd alive when the runtime stops", left_behind, SCHEDULERS(2));
	selftest_process_opts("waves of spawn and exit", waves, SCHEDULERS(2));
	selftest_process_opts("a chain of links falls as a whole", chain, SCHEDULERS(2));
	return selftest_done();
}
