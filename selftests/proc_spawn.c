// SPDX-License-Identifier: MIT OR GPL-2.0
/* Spawning: options, atomic links and monitors, names, limits. */
#include "proc.h"

#define OPTS(...) (&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), __VA_ARGS__ })

enum { SELF = 1, GO };

static _Atomic int ran;

static void mark(void *arg)
{
	atomic_fetch_add(&ran, 1);
	if (arg)
		*(int *)arg = 42;
}

static void spawn_runs(void)
{
	int value = 0;
	mote_ref ref;
	mote_pid pid = mote_spawn_monitor(mark, &value, &ref);

	EXPECT(mote_pid_valid(pid));
	EXPECT(!mote_pid_equal(pid, mote_self()));
	EXPECT_EQ(pid.node, 0);
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	EXPECT_EQ(value, 42);
}

static void say_self(void *arg)
{
	mote_pid self = mote_self();

	EXPECT(mote_in_process());
	mote_send(*(mote_pid *)arg, SELF, &self, sizeof(self));
}

static void self_is_the_pid(void)
{
	mote_pid me = mote_self();

	for (int i = 0; i < 100; i++) {
		mote_pid pid = mote_spawn(say_self, &me);
		struct mote_msg *m = mote_receive_type(SELF, PATIENCE);

		if (!EXPECT(m))
			return;
		EXPECT(mote_pid_equal(*(mote_pid *)m->data, pid));
		EXPECT(mote_pid_equal(m->from, pid));
		mote_msg_free(m);
	}
}

static void fail_at_once(void *arg)
{
	(void)arg;
	mote_exit(mote_reason_error(EIO, "at once"));
}

static void link_is_atomic(void)
{
	unsigned long n = test_rounds(30000);

	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++) {
		mote_pid pid = i & 1 ? mote_spawn_link(fail_at_once, NULL) :
				       spawn_pinned(fail_at_once, NULL, i >> 1, MOTE_LINK, NULL);

		if (!EXPECT(got_exit(pid, MOTE_ERROR)))
			return;
	}
	EXPECT(mailbox_is_empty());
}

static void monitor_is_atomic(void)
{
	unsigned long n = test_rounds(30000);

	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref = { 0, 0, 0, 0, 0 };
		mote_pid pid = i & 1 ? mote_spawn_monitor(fail_at_once, NULL, &ref) :
				       spawn_pinned(fail_at_once, NULL, i >> 1, MOTE_MONITOR, &ref);

		if (!EXPECT(got_down(ref, pid, MOTE_ERROR)))
			return;
	}
	EXPECT(mailbox_is_empty());
}

static void link_and_monitor_together(void)
{
	mote_ref ref;
	mote_pid pid;

	mote_trap_exit(true);
	pid = mote_spawn_opts(OPTS(.fn = fail_at_once, .flags = MOTE_LINK | MOTE_MONITOR, .ref = &ref));
	EXPECT(got_down(ref, pid, MOTE_ERROR));
	EXPECT(got_exit(pid, MOTE_ERROR));
	EXPECT(mailbox_is_empty());
}

static void parent_of_one(void *arg)
{
	mote_pid child = mote_spawn_link(sink, NULL);

	mote_send(*(mote_pid *)arg, SELF, &child, sizeof(child));
	mote_msg_free(mote_receive_type(GO, PATIENCE));
	mote_exit(mote_reason_error(EPIPE, NULL));
}

static void child_dies_with_parent(void)
{
	mote_pid me = mote_self(), parent = mote_spawn(parent_of_one, &me), child;
	struct mote_msg *m = mote_receive_type(SELF, PATIENCE);
	mote_ref ref;

	if (!EXPECT(m))
		return;
	child = *(mote_pid *)m->data;
	mote_msg_free(m);
	EXPECT(mote_pid_equal(test_info(child).parent, parent));
	ref = mote_monitor(child);
	mote_send(parent, GO, NULL, 0);
	EXPECT(got_down(ref, child, MOTE_ERROR));
}

static void named(void *arg)
{
	EXPECT(mote_pid_equal(mote_whereis("proc_spawn"), mote_self()));
	sink(arg);
}

static void name_is_atomic(void)
{
	for (int i = 0; i < 200; i++) {
		char name[] = "proc_spawn";
		mote_pid pid = mote_spawn_opts(OPTS(.fn = named, .name = name));

		memset(name, 'x', sizeof(name) - 1);
		if (!EXPECT(mote_pid_valid(pid)))
			return;
		EXPECT(mote_pid_equal(mote_whereis("proc_spawn"), pid));
		if (i & 1)
			mote_yield();
		put_down(pid);
		EXPECT(!mote_pid_valid(mote_whereis("proc_spawn")));
	}
}

static uint64_t processes(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	EXPECT_EQ(mote_runtime_info(&info), 0);
	return info.processes;
}

static void name_taken(void)
{
	mote_ref ref;
	uint64_t before;

	mote_trap_exit(true);
	EXPECT_EQ(mote_register("taken", mote_self()), 0);
	atomic_store(&ran, 0);
	before = processes();
	for (int i = 0; i < 100; i++) {
		mote_pid pid = mote_spawn_opts(OPTS(.fn = mark, .name = "taken", .ref = &ref,
						    .flags = MOTE_LINK | MOTE_MONITOR));

		EXPECT(!mote_pid_valid(pid));
		EXPECT_EQ(mote_errno(), -EEXIST);
	}
	EXPECT(mote_pid_equal(mote_whereis("taken"), mote_self()));
	EXPECT_EQ(processes(), before);
	mote_sleep(mote_in_ms(2));
	EXPECT_EQ(atomic_load(&ran), 0);
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
}

static void refused(const struct mote_spawn_opts *o, int err)
{
	EXPECT(!mote_pid_valid(mote_spawn_opts(o)));
	EXPECT_EQ(mote_errno(), err);
}

static void bad_options(void)
{
	static const struct mote_handler_ops ops = { .size = sizeof(ops) };
	char name[257];
	struct { struct mote_spawn_opts o; char more[16]; } wide = { .o = { .size = sizeof(wide), .fn = mark } };

	atomic_store(&ran, 0);
	refused(OPTS(.arg = NULL), -EINVAL);
	refused(OPTS(.fn = mark, .handler = &ops), -EINVAL);
	refused(OPTS(.fn = mark, .flags = 1u << 30), -EINVAL);
	refused(OPTS(.fn = mark, .priority = 99), -EINVAL);
	refused(OPTS(.fn = mark, .priority = -1), -EINVAL);
	refused(OPTS(.fn = mark, .mailbox_policy = MOTE_MAILBOX_DROP), -EINVAL);
	refused(OPTS(.fn = mark, .mailbox_limit = 1, .mailbox_policy = 3), -EINVAL);
	refused(OPTS(.fn = mark, .name = ""), -EINVAL);
	memset(name, 'n', 256);
	name[256] = 0;
	refused(OPTS(.fn = mark, .name = name), -EINVAL);
	refused(&(struct mote_spawn_opts){ .fn = mark }, -EINVAL);
	wide.more[8] = 1;
	refused(&wide.o, -E2BIG);
	mote_sleep(mote_in_ms(2));
	EXPECT_EQ(atomic_load(&ran), 0);
	wide.more[8] = 0;
	EXPECT(mote_pid_valid(mote_spawn_opts(&wide.o)));
	name[255] = 0;
	EXPECT(mote_pid_valid(mote_spawn_opts(OPTS(.fn = mark, .name = name))));
}

static void wait_for_go(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive_type(GO, PATIENCE));
}

static void options_are_kept(void)
{
	struct mote_process_info info;
	mote_pid pid = mote_spawn_opts(OPTS(.fn = wait_for_go, .label = "a label", .priority = MOTE_PRIORITY_LOW,
					    .flags = MOTE_PINNED | MOTE_TRAP_EXIT, .scheduler = 1));

	/* trapping from birth: the signal comes before the process has run at all */
	mote_exit_pid(pid, MOTE_REASON_SHUTDOWN);
	mote_sleep(mote_in_ms(2));
	EXPECT(mote_alive(pid));
	info = test_info(pid);
	EXPECT(info.label && !strcmp(info.label, "a label"));
	EXPECT_EQ(info.priority, MOTE_PRIORITY_LOW);
	EXPECT(info.pinned);
	EXPECT(info.trap_exit);
	EXPECT_EQ(info.scheduler, 1);
	EXPECT(mote_pid_equal(info.parent, mote_self()));
	put_down(pid);

	pid = mote_spawn(wait_for_go, NULL);
	info = test_info(pid);
	EXPECT(!info.label);
	EXPECT_EQ(info.priority, MOTE_PRIORITY_NORMAL);
	EXPECT(!info.pinned && !info.trap_exit && !info.server);
	put_down(pid);
}

static size_t dig(size_t bytes)
{
	volatile char block[4096];
	size_t sum = 0;

	memset((char *)block, (int)bytes, sizeof(block));
	if (bytes > sizeof(block) + 256)
		sum = dig(bytes - sizeof(block) - 256);
	return sum + (size_t)block[bytes % sizeof(block)];
}

static void digger(void *arg)
{
	EXPECT(test_info(mote_self()).stack >= *(size_t *)arg);
	dig(*(size_t *)arg * 5 / 8);
}

static void stack_sizes(void)
{
	static size_t sizes[] = { 16 << 10, 64 << 10, 100000, 1 << 20, 8 << 20, 64 << 20 };
	mote_ref ref;
	mote_pid pid;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		/* a sanitizer's own frames need more than the smallest stack */
		if (SANITIZED && sizes[i] < 64 << 10)
			continue;
		pid = mote_spawn_opts(OPTS(.fn = digger, .arg = &sizes[i], .stack_size = sizes[i],
					   .flags = MOTE_MONITOR, .ref = &ref));
		EXPECT(got_down(ref, pid, MOTE_NORMAL));
	}
	pid = mote_spawn_opts(OPTS(.fn = digger, .arg = &sizes[1], .flags = MOTE_MONITOR, .ref = &ref));
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
}

static void stack_by_default(void *arg)
{
	EXPECT_EQ(test_info(mote_self()).stack, 65536);
	(void)arg;
}

static void default_stack(void)
{
	mote_ref ref;
	mote_pid pid;

	if (SANITIZED) {
		selftest_skip("stacks are larger under a sanitizer");
		return;
	}
	pid = mote_spawn_monitor(stack_by_default, NULL, &ref);
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
}

#define LIMIT 100

static void limit(void)
{
	mote_pid pids[LIMIT + 1], last = MOTE_NOBODY;
	unsigned int n = 0;

	while (n <= LIMIT) {
		pids[n] = mote_spawn(sink, NULL);
		if (!mote_pid_valid(pids[n]))
			break;
		n++;
	}
	EXPECT_EQ(mote_errno(), -EAGAIN);
	EXPECT_EQ(n, LIMIT - 1);	/* and this process */
	EXPECT_EQ(processes(), LIMIT);
	for (int i = 0; i < 50; i++) {
		put_down(pids[n / 2]);
		EXPECT(!mote_alive(pids[n / 2]));
		last = mote_spawn(sink, NULL);
		if (!EXPECT(mote_pid_valid(last)))
			return;
		pids[n / 2] = last;
	}
	EXPECT(!mote_pid_valid(mote_spawn(sink, NULL)));
}

static int by_serial(const void *a, const void *b)
{
	const mote_pid *x = a, *y = b;

	if (x->serial != y->serial)
		return x->serial < y->serial ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static void never_reused(void)
{
	unsigned long n = test_rounds(60000);
	mote_pid *pids = calloc(n, sizeof(*pids));
	mote_ref ref;

	for (unsigned long i = 0; i < n; i++) {
		pids[i] = mote_spawn_monitor(mark, NULL, &ref);
		EXPECT(mote_pid_valid(pids[i]));
		mote_msg_free(mote_receive_ref(ref, PATIENCE));
	}
	for (unsigned long i = 0; i < n; i++)
		if (!EXPECT(!mote_alive(pids[i])))
			break;
	qsort(pids, n, sizeof(*pids), by_serial);
	for (unsigned long i = 1; i < n; i++)
		if (!EXPECT(!mote_pid_equal(pids[i - 1], pids[i])))
			break;
	free(pids);
}

int main(void)
{
	const struct mote_opts few = { .size = sizeof(few), .schedulers = 2, .max_processes = LIMIT };

	selftest_process("spawn runs fn(arg) in a process of its own, which ends normally", spawn_runs);
	selftest_process("mote_self() is the pid that spawn returned", self_is_the_pid);
	selftest_process_opts("spawn_link is atomic: the reason, never noproc", link_is_atomic, SCHEDULERS(2));
	selftest_process_opts("spawn_monitor is atomic: the reason, never noproc", monitor_is_atomic, SCHEDULERS(2));
	selftest_process("link and monitor in one spawn", link_and_monitor_together);
	selftest_process("a linked child dies with its parent", child_dies_with_parent);
	selftest_process_opts("a name is registered atomically with the spawn", name_is_atomic, SCHEDULERS(2));
	selftest_process("a name taken: -EEXIST, no process, no trace", name_taken);
	selftest_process("bad options are refused: -EINVAL, -E2BIG", bad_options);
	selftest_process_opts("label, priority, pinned, trap_exit are what was asked", options_are_kept, SCHEDULERS(2));
	selftest_process("stacks are as large as asked for", stack_sizes);
	selftest_process("a stack is 64 KiB by default", default_stack);
	selftest_process_opts("max_processes: -EAGAIN, and room again after a DOWN", limit, &few);
	selftest_process_opts("pids are never reused", never_reused, SCHEDULERS(2));
	return selftest_done();
}
