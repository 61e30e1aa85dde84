// SPDX-License-Identifier: MIT OR GPL-2.0
/* Agents: functions that run where the state is. */
#include "proc.h"

#include <mote/agent.h>
#include <mote/sys.h>

struct account {
	long total;
	long moves;
};

static void total(const void *state, const void *arg, void *result)
{
	const struct account *a = state;

	(void)arg;
	*(long *)result = a->total;
}

static void add(void *state, const void *arg)
{
	struct account *a = state;

	a->total += *(const int *)arg;
	a->moves++;
}

static void add_and_tell(void *state, const void *arg, void *result)
{
	long *pair = result;

	EXPECT_EQ(pair[0] | pair[1], 0);
	pair[0] = ((struct account *)state)->total;
	add(state, arg);
	pair[1] = ((struct account *)state)->total;
}

static long total_of(mote_pid agent)
{
	long n = -1;

	EXPECT_EQ(mote_agent_get(agent, total, NULL, 0, &n, sizeof(n), PATIENCE), 0);
	return n;
}

static mote_pid agent_new(long n)
{
	struct account a = { .total = n };
	mote_pid agent = MOTE_NOBODY;

	EXPECT_EQ(mote_agent_start(sizeof(a), NULL, &a, NULL, &agent), 0);
	return agent;
}

static void all_four(void)
{
	mote_pid agent = agent_new(10);
	size_t size = sizeof(struct account);
	struct account seen;
	long pair[2] = { 0 };

	EXPECT_EQ(total_of(agent), 10);
	EXPECT_EQ(mote_agent_update(agent, add, &(int){ 5 }, sizeof(int), PATIENCE), 0);
	EXPECT_EQ(mote_agent_get_and_update(agent, add_and_tell, &(int){ 7 }, sizeof(int), pair, sizeof(pair),
					    PATIENCE), 0);
	EXPECT(pair[0] == 15 && pair[1] == 22);
	for (int i = 0; i < 100; i++)
		EXPECT_EQ(mote_agent_cast(agent, add, &i, sizeof(i)), 0);
	/* in the order sent */
	EXPECT_EQ(total_of(agent), 22 + 4950);
	EXPECT_EQ(mote_sys_get_state(agent, &seen, &size, PATIENCE), 0);
	EXPECT(size == sizeof(seen) && seen.total == 4972 && seen.moves == 102);
	seen.total = 1;
	EXPECT_EQ(mote_sys_replace_state(agent, &seen, sizeof(seen), PATIENCE), 0);
	EXPECT_EQ(total_of(agent), 1);
	EXPECT_EQ(mote_server_stop(agent, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT_EQ(mote_agent_update(agent, add, &(int){ 5 }, sizeof(int), PATIENCE), -ESRCH);
	EXPECT_EQ(mote_agent_cast(agent, add, &(int){ 5 }, sizeof(int)), 0);
}

static int from_arg(void *state, void *arg)
{
	struct account *a = state;
	int n = *(int *)arg;

	EXPECT(!a->total && !a->moves);
	a->total = n;
	return n < 0 || n == MOTE_IGNORE ? n : 0;
}

static void starts(void)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .name = "agent" };
	mote_pid agent, other;
	int n = 40;

	EXPECT_EQ(mote_agent_start(sizeof(struct account), from_arg, &n, &opts, &agent), 0);
	EXPECT_EQ(total_of(mote_whereis("agent")), 40);
	EXPECT_EQ(mote_agent_start(sizeof(struct account), from_arg, &n, &opts, &other), -EEXIST);
	EXPECT(mote_pid_equal(agent, other));
	n = -ENOTTY;
	EXPECT_EQ(mote_agent_start(sizeof(struct account), from_arg, &n, NULL, &other), -ENOTTY);
	n = MOTE_IGNORE;
	EXPECT_EQ(mote_agent_start(sizeof(struct account), from_arg, &n, NULL, &other), MOTE_IGNORE);
	put_down(agent);
	/* zeroes; and no state at all */
	EXPECT_EQ(mote_agent_start(sizeof(struct account), NULL, NULL, NULL, &agent), 0);
	EXPECT_EQ(total_of(agent), 0);
	put_down(agent);
	EXPECT_EQ(mote_agent_start(0, NULL, NULL, NULL, &agent), 0);
	put_down(agent);
	EXPECT_EQ(mote_agent_start(SIZE_MAX, NULL, NULL, NULL, &agent), -EINVAL);
	mote_trap_exit(true);
	EXPECT_EQ(mote_agent_start_link(sizeof(struct account), NULL, NULL, NULL, &agent), 0);
	mote_exit_pid(agent, MOTE_REASON_KILL);
	EXPECT(got_exit(agent, MOTE_KILLED));
	mote_trap_exit(false);
	EXPECT(mailbox_is_empty());
}

static void mirror_bytes(const void *state, const void *arg, void *result)
{
	(void)state;
	memcpy(result, arg, 100000);
}

static void add_slowly(void *state, const void *arg)
{
	mote_sleep(mote_in_ms(20));
	add(state, arg);
}

static void crash(void *state, const void *arg)
{
	(void)state;
	(void)arg;
	abort();
}

static void ask_itself(const void *state, const void *arg, void *result)
{
	(void)state;
	*(int *)result = mote_agent_update(*(const mote_pid *)arg, add, &(int){ 1 }, sizeof(int), mote_in_ms(100));
}

static void corners(void)
{
	static char out[100000], back[100000];
	mote_pid agent = agent_new(0), far = agent;
	int five = 5, err = 0;
	long n;

	/* a large argument, a large result */
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)i;
	EXPECT_EQ(mote_agent_get(agent, mirror_bytes, out, sizeof(out), back, sizeof(back), PATIENCE), 0);
	EXPECT(!memcmp(out, back, sizeof(out)));
	/* it is done, although nobody waits any more */
	EXPECT_EQ(mote_agent_update(agent, add_slowly, &five, sizeof(five), mote_in_ms(1)), -ETIMEDOUT);
	EXPECT_EQ(total_of(agent), 5);
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(mote_agent_get(agent, ask_itself, &agent, sizeof(agent), &err, sizeof(err), PATIENCE), 0);
	EXPECT_EQ(err, -EDEADLK);
	/* what is no order is dropped */
	mote_send(agent, 1, "x", 1);
	mote_cast(agent, 1, "x", 1);
	EXPECT_EQ(mote_call(agent, 1, NULL, 0, NULL, mote_in_ms(1)), -ETIMEDOUT);
	EXPECT_EQ(total_of(agent), 5);
	EXPECT_EQ(mote_agent_update(agent, NULL, NULL, 0, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_agent_update(agent, add, NULL, 4, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_agent_get(agent, total, NULL, 0, NULL, sizeof(n), PATIENCE), -EINVAL);
	EXPECT_EQ(mote_agent_get(agent, total, NULL, SIZE_MAX, &n, sizeof(n), PATIENCE), -EINVAL);
	EXPECT_EQ(mote_agent_get(agent, total, "", SIZE_MAX, &n, sizeof(n), PATIENCE), -EMSGSIZE);
	far.node++;
	EXPECT_EQ(mote_agent_update(far, add, &five, sizeof(five), PATIENCE), -EREMOTE);
	EXPECT_EQ(mote_agent_cast(far, add, &five, sizeof(five)), -EREMOTE);
	EXPECT_EQ(mote_agent_get(MOTE_NOBODY, total, NULL, 0, &n, sizeof(n), PATIENCE), -EINVAL);
	put_down(agent);
}

static void crashes(void)
{
	mote_pid agent = agent_new(0);
	mote_ref ref = mote_monitor(agent);

	if (SANITIZED) {
		put_down(agent);
		selftest_skip("sanitizers report crashes themselves");
		return;
	}
	EXPECT_EQ(mote_agent_update(agent, crash, NULL, 0, PATIENCE), -EPIPE);
	EXPECT(got_down(ref, agent, MOTE_SIGNAL));
}

struct adder {
	mote_pid agent;
	int turns;
};

static void adds(void *arg)
{
	const struct adder *a = arg;

	for (int i = 0; i < a->turns; i++) {
		if (i % 2)
			EXPECT_EQ(mote_agent_update(a->agent, add, &(int){ 1 }, sizeof(int), PATIENCE), 0);
		else
			EXPECT_EQ(mote_agent_cast(a->agent, add, &(int){ 1 }, sizeof(int)), 0);
	}
}

static void many(void)
{
	struct adder a = { agent_new(0), (int)test_rounds(400) };
	mote_ref refs[8];
	mote_pid pids[8];

	for (int i = 0; i < 8; i++)
		pids[i] = mote_spawn_monitor(adds, &a, &refs[i]);
	for (int i = 0; i < 8; i++)
		EXPECT(got_down(refs[i], pids[i], MOTE_NORMAL));
	EXPECT_EQ(total_of(a.agent), 8L * a.turns);
	put_down(a.agent);
}

/* Who asks is killed while the agent works for it: its stack, where the result was to go, is gone. */
static void asks(void *arg)
{
	char out[300] = "", back[300];

	for (;;)
		mote_agent_get(*(mote_pid *)arg, total, out, sizeof(out), back, sizeof(long), PATIENCE);
}

static void race_kill(void)
{
	mote_pid agent = agent_new(1);
	uint64_t random = test_seed();

	for (unsigned long i = 0; i < test_rounds(2000); i++) {
		mote_pid p = mote_spawn(asks, &agent);

		test_jitter(&random);
		put_down(p);
	}
	EXPECT_EQ(total_of(agent), 1);
	put_down(agent);
}

int main(void)
{
	selftest_process("get, update, get_and_update, cast", all_four);
	selftest_process("starts: zeroes, a copy, a function; names, links", starts);
	selftest_process("large arguments, deadlines, mistakes", corners);
	selftest_process("a function that crashes ends the agent", crashes);
	selftest_process_opts("many at once: each is counted", many, SCHEDULERS(2));
	selftest_process_opts("race: kill against who asks", race_kill, SCHEDULERS(2));
	return selftest_done();
}
