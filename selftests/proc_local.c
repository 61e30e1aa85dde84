// SPDX-License-Identifier: MIT OR GPL-2.0
/* Process-local storage: each process has its own, until its cleanups have run. */
#include "proc.h"

enum { GO = 1, READY };

static const char key, other;
static char first[4], second[4];

static void sets_and_removes(void)
{
	EXPECT(!mote_local_get(&key));
	EXPECT_EQ(mote_local_set(&key, NULL), 0);
	EXPECT_EQ(mote_local_set(&key, first), 0);
	EXPECT_EQ(mote_local_set(&other, second), 0);
	EXPECT(mote_local_get(&key) == first);
	EXPECT(mote_local_get(&other) == second);
	EXPECT_EQ(mote_local_set(&key, second), 0);
	EXPECT(mote_local_get(&key) == second);
	EXPECT_EQ(mote_local_set(&key, NULL), 0);
	EXPECT(!mote_local_get(&key));
	EXPECT(mote_local_get(&other) == second);
	EXPECT_EQ(mote_local_set(&other, NULL), 0);
	EXPECT(!mote_local_get(&other));
}

static void many(void)
{
	static char keys[300];

	for (size_t i = 0; i < sizeof(keys); i++)
		EXPECT_EQ(mote_local_set(&keys[i], &keys[i]), 0);
	for (size_t i = 0; i < sizeof(keys); i += 2)
		EXPECT_EQ(mote_local_set(&keys[i], NULL), 0);
	for (size_t i = 0; i < sizeof(keys); i++)
		EXPECT(mote_local_get(&keys[i]) == (i & 1 ? &keys[i] : NULL));
	for (size_t i = 0; i < sizeof(keys); i++)
		EXPECT_EQ(mote_local_set(&keys[i], NULL), 0);
}

/* Keeps its own pid's slot under the key, while others do the same and all change threads. */
static void keeper(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	void *mine = (void *)(uintptr_t)(mote_self().slot + 1);
	bool ok = !mote_local_get(&key);

	ok &= mote_local_set(&key, mine) == 0;
	for (int i = 0; i < 50; i++) {
		mote_yield();
		ok &= mote_local_get(&key) == mine;
	}
	mote_send(boss, READY, &ok, sizeof(ok));
}

/* The slots are used again: none of a later round may see what an earlier tenant left. */
static void each_its_own(void)
{
	unsigned long n = test_crowd(100);
	mote_pid self = mote_self();

	for (int round = 0; round < 3; round++) {
		for (unsigned long i = 0; i < n; i++)
			EXPECT(mote_pid_valid(mote_spawn_link(keeper, &self)));
		for (unsigned long i = 0; i < n; i++) {
			struct mote_msg *m = mote_receive_type(READY, PATIENCE);

			EXPECT(m && *(bool *)m->data);
			mote_msg_free(m);
		}
	}
	EXPECT(!mote_local_get(&key));
}

static _Atomic(void *) seen;

static void look(void *arg)
{
	(void)arg;
	atomic_store(&seen, mote_local_get(&key));
	mote_local_set(&other, first);
}

static void killed(void *arg)
{
	mote_local_set(&key, first);
	mote_defer(look, NULL);
	mote_send(*(mote_pid *)arg, READY, NULL, 0);
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

/* What a cleanup sets goes, too: the leak checker of a sanitizer looks. */
static void cleanups_see_it(void)
{
	mote_pid self = mote_self(), pid = mote_spawn(killed, &self);

	EXPECT(got_type(READY));
	put_down(pid);
	EXPECT(atomic_load(&seen) == first);
}

static int remember(void *state, void *arg)
{
	(void)state;
	return mote_local_set(&key, arg);
}

static void recall(void *state, struct mote_from from, const struct mote_msg *m)
{
	void *value = mote_local_get(&key);

	(void)state;
	mote_reply(from, m->type, &value, sizeof(value));
}

/* A handler has it from callback to callback, though each may run on another stack. */
static void of_a_handler(void)
{
	static const struct mote_handler_ops ops = { .size = sizeof(ops), .init = remember, .call = recall };
	mote_pid pid = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &ops, .arg = second });
	struct mote_msg *m = NULL;

	EXPECT_EQ(mote_call(pid, GO, NULL, 0, &m, PATIENCE), 0);
	EXPECT(m && *(void **)m->data == second);
	mote_msg_free(m);
	put_down(pid);
}

static void none_on_a_foreign_thread(void)
{
	EXPECT(!mote_local_get(&key));
}

int main(void)
{
	selftest_process("set, replace, remove", sets_and_removes);
	selftest_process("many keys", many);
	selftest_process_opts("each process has its own, and a new tenant nothing", each_its_own, SCHEDULERS(2));
	selftest_process("cleanups still see it", cleanups_see_it);
	selftest_process("a handler has it from callback to callback", of_a_handler);
	selftest_case("a foreign thread has none", none_on_a_foreign_thread);
	return selftest_done();
}
