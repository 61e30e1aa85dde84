// SPDX-License-Identifier: MIT OR GPL-2.0
/* What a process costs: resident memory per idle server, of a million, and per waiting process with a stack. */
#include "proc.h"

enum { GO = 1 };

static uint64_t processes(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info.processes;
}

static void add(void *state, const struct mote_msg *m)
{
	(void)m;
	++*(uint64_t *)state;
}

static const struct mote_handler_ops counter = {
	.size = sizeof(counter), .state_size = sizeof(uint64_t), .info = add };

static bool measurable(void)
{
	if (SANITIZED)
		selftest_skip("a sanitizer's own memory would be measured");
	else if (!test_resident())
		selftest_skip("/proc/self/statm can't be read");
	return !selftest_why[0];
}

static bool busy(mote_pid p)
{
	struct mote_process_info info = test_info(p);

	return info.server && (info.state != MOTE_WAITING || info.mailbox || info.stack);
}

static void all_idle(void)
{
	for (mote_pid p = mote_process_next(MOTE_NOBODY); mote_pid_valid(p); p = mote_process_next(p))
		while (busy(p))
			mote_yield();
}

static void idle_servers(void)
{
	unsigned long n = test_crowd(1000000);
	uint64_t before, spawned, used;

	if (!measurable())
		return;
	before = test_resident();
	for (unsigned long i = 0; i < n; i++)
		if (!EXPECT(mote_pid_valid(mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .handler = &counter }))))
			return;
	all_idle();
	spawned = test_resident();
	/* each one has worked once, and is idle again */
	for (mote_pid p = mote_process_next(MOTE_NOBODY); mote_pid_valid(p); p = mote_process_next(p))
		if (!mote_pid_equal(p, mote_self()))
			mote_send(p, GO, NULL, 0);
	all_idle();
	used = test_resident();
	EXPECT_EQ(processes(), n + 1);
	test_note("%lu idle servers with 8 bytes of state: %.1f bytes each, %.1f after each has worked", n,
		  (double)(spawned - before) / (double)n, (double)(used - before) / (double)n);
	if (n >= 100000) {
		EXPECT((spawned - before) / n < 512);
		EXPECT((used - before) / n < 512);
	}
}

static void waiting_processes(void)
{
	unsigned long n = test_crowd(100000);
	uint64_t before, after;

	if (!measurable())
		return;
	before = test_resident();
	for (unsigned long i = 0; i < n; i++) {
		if (!EXPECT(mote_pid_valid(mote_spawn(sink, NULL))))
			return;
		if (i % 100 == 0)
			mote_yield();
	}
	for (mote_pid p = mote_process_next(MOTE_NOBODY); mote_pid_valid(p); p = mote_process_next(p))
		while (!mote_pid_equal(p, mote_self()) && test_info(p).wait != MOTE_WAIT_MESSAGE)
			mote_yield();
	after = test_resident();
	test_note("%lu waiting processes with stacks: %.1f bytes each", n, (double)(after - before) / (double)n);
	EXPECT((after - before) / n < 3 * 4096);
}

/* A process that has never run has no stack. High priority: the spawner does not let any of them run. */
static void spawns_unrun(void *arg)
{
	unsigned long n = *(unsigned long *)arg;
	uint64_t before = test_resident(), after;

	for (unsigned long i = 0; i < n; i++)
		if (!EXPECT(mote_pid_valid(mote_spawn(sink, NULL))))
			return;
	after = test_resident();
	test_note("%lu processes just spawned: %.1f bytes each", n, (double)(after - before) / (double)n);
	EXPECT((after - before) / n < 1024);
}

static void never_run(void)
{
	unsigned long n = test_crowd(100000);
	mote_ref ref;
	mote_pid p;

	if (!measurable())
		return;
	p = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = spawns_unrun, .arg = &n, .priority = MOTE_PRIORITY_HIGH,
		.flags = MOTE_MONITOR, .ref = &ref });
	EXPECT(got_down(ref, p, MOTE_NORMAL));
}

/* What a crowd has used can be used by the next; the tables do not grow with every crowd. */
static void crowds_come_and_go(void)
{
	unsigned long n = test_crowd(20000);
	uint64_t first = 0;

	if (!measurable())
		return;
	for (int round = 0; round < 20; round++) {
		mote_pid *p = malloc(n * sizeof(*p));

		for (unsigned long i = 0; i < n; i++)
			p[i] = i & 1 ? mote_spawn(sink, NULL) :
				       mote_spawn_opts(&(struct mote_spawn_opts){
						.size = sizeof(struct mote_spawn_opts), .handler = &counter });
		mote_yield();
		for (unsigned long i = 0; i < n; i++)
			mote_exit_pid(p[i], MOTE_REASON_KILL);
		while (processes() > 1)
			mote_sleep(mote_in_ms(1));
		free(p);
		if (round == 2)
			first = test_resident();
	}
	EXPECT(test_resident() < first + first / 2 + (64u << 20));
}

int main(void)
{
	selftest_process("an idle handler costs its control block and its state", idle_servers);
	selftest_process("a waiting process costs a page of stack, or little more", waiting_processes);
	selftest_process_opts("a process that has not run yet costs its control block", never_run, SCHEDULERS(1));
	selftest_process_opts("memory is used again", crowds_come_and_go, SCHEDULERS(2));
	return selftest_done();
}
