/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Stacks: their sizes, the guards below them, how far they were used, and what happens when no more are to be had.
 */
#include "limits.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define GUARD	(64 << 10)
#define STEP	4096
#define PIECES	256

/* How many pages in a row from `from` downward can be read, or can't; at most max. */
static size_t pages_down(const char *from, bool readable, size_t max)
{
	struct iovec there[PIECES], here;
	char bytes[PIECES];
	size_t n = 0;

	while (n < max) {
		size_t want = readable && max - n > PIECES ? PIECES : readable ? max - n : 1;
		ssize_t got;

		for (size_t i = 0; i < want; i++)
			there[i] = (struct iovec){ (char *)from - (n + i) * STEP, 1 };
		here = (struct iovec){ bytes, want };
		got = process_vm_readv(getpid(), &here, 1, there, want, 0);
		if (!readable) {
			if (got > 0)
				break;
			n++;
			continue;
		}
		if (got <= 0)
			break;
		n += (size_t)got;
		if ((size_t)got < want)
			break;
	}
	return n;
}

static void measures_itself(void *arg)
{
	size_t size = *(size_t *)arg;
	char here = 0;
	char *page = (char *)((uintptr_t)&here & ~(uintptr_t)(STEP - 1));
	size_t room = pages_down(page, true, size / STEP + 64) * STEP;
	size_t used = size > room ? size - room : 0;

	/* What is above this frame is the entry's, and the colour of the stack. */
	EXPECT(room <= size);
	EXPECT(used <= 8192);
	EXPECT(pages_down(page - room, false, GUARD / STEP) == GUARD / STEP);
	EXPECT_EQ(test_info(mote_self()).stack, size);
}

static void of_size(size_t asked, size_t size)
{
	mote_ref ref;
	mote_pid pid = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = measures_itself, .arg = &size, .stack_size = asked,
		.flags = MOTE_MONITOR, .ref = &ref });

	EXPECT(got_down(ref, pid, MOTE_NORMAL));
}

static void sizes_and_guards(void)
{
	of_size(0, 64 << 10);
	of_size(1, 16 << 10);
	of_size(16 << 10, 16 << 10);
	of_size((16 << 10) + 1, 32 << 10);
	of_size(64 << 10, 64 << 10);
	of_size(1 << 20, 1 << 20);
	of_size(64 << 20, 64 << 20);
	EXPECT(!mote_pid_valid(mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = measures_itself, .stack_size = (64 << 20) + 1 })));
	EXPECT_EQ(mote_errno(), -EINVAL);
}

static const char *guards(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info.guards;
}

/* How deep a process goes, and what mote_process_info() says of it while it waits there. */
__attribute__((noinline)) static void goes_deep(size_t depth)
{
	volatile char frame[1024];

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = 1;
	if (depth > sizeof(frame))
		goes_deep(depth - sizeof(frame));
	else
		mote_msg_free(mote_receive(MOTE_FOREVER));
	frame[0] = 2;
}

static void deep(void *arg)
{
	goes_deep(*(size_t *)arg);
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void wait_until_waiting(mote_pid pid)
{
	while (test_info(pid).state != MOTE_WAITING)
		mote_yield();
}

static mote_pid spawn_deep(size_t *depth)
{
	mote_pid pid = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = deep, .arg = depth, .stack_size = 256 << 10 });

	wait_until_waiting(pid);
	return pid;
}

static void high_water(void)
{
	static size_t shallow = 1, middle = 40 << 10, most = 200 << 10;
	mote_pid a = spawn_deep(&shallow), b = spawn_deep(&middle), c = spawn_deep(&most);
	uint64_t of_c = test_info(c).stack_high;

	test_note("of 256 KiB: %llu, %llu, %llu", (unsigned long long)test_info(a).stack_high,
		  (unsigned long long)test_info(b).stack_high, (unsigned long long)of_c);
	EXPECT(test_info(a).stack_high >= 1024);
	EXPECT(test_info(b).stack_high >= middle);
	EXPECT(of_c >= most);
	EXPECT(of_c <= 256 << 10);
	/* Sanitizers make frames larger. */
	if (!SANITIZED) {
		EXPECT(test_info(a).stack_high < 4096);
		EXPECT(test_info(b).stack_high < middle + (16 << 10));
		EXPECT(of_c < most + (32 << 10));
	}
	/* Back from the depth it still says how deep it was. */
	mote_send(c, 1, NULL, 0);
	while (test_info(c).mailbox)
		mote_yield();
	wait_until_waiting(c);
	EXPECT(test_info(c).stack_high >= of_c);
	put_down(a);
	put_down(b);
	put_down(c);
}

static void no_stack_no_mark(void)
{
	static const struct mote_handler_ops ops = { .size = sizeof(ops) };
	mote_pid server = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &ops });

	wait_until_waiting(server);
	/* It waits before its stack is given back, on another scheduler. */
	for (int i = 0; i < 1000 && test_info(server).stack; i++)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(test_info(server).stack, 0);
	EXPECT_EQ(test_info(server).stack_high, 0);
	put_down(server);
}

/* What docs/limits.md says of spawn sites. */
struct site {
	const void *at;
	uint64_t high;
};

static void by_spawn_site(void)
{
	static size_t shallow = 1, most = 100 << 10;
	mote_pid pids[20];
	struct site sites[8] = { 0 };
	mote_pid pid = MOTE_NOBODY;
	uint64_t high[2] = { 0, 0 };
	const void *at[2];

	for (int i = 0; i < 20; i += 2) {
		pids[i] = mote_spawn(deep, &shallow);
		at[0] = test_info(pids[i]).spawned_at;
		pids[i + 1] = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = deep, .arg = &most, .stack_size = 512 << 10 });
		at[1] = test_info(pids[i + 1]).spawned_at;
	}
	for (int i = 0; i < 20; i++)
		wait_until_waiting(pids[i]);

	while (mote_pid_valid(pid = mote_process_next(pid))) {
		struct mote_process_info info = { .size = sizeof(info) };

		if (mote_process_info(pid, &info))
			continue;
		for (int i = 0; i < 8; i++) {
			if (sites[i].at && sites[i].at != info.spawned_at)
				continue;
			sites[i].at = info.spawned_at;
			if (info.stack_high > sites[i].high)
				sites[i].high = info.stack_high;
			break;
		}
	}

	EXPECT(at[0] != at[1]);
	for (int i = 0; i < 8; i++) {
		for (int k = 0; k < 2; k++) {
			if (sites[i].at == at[k])
				high[k] = sites[i].high;
		}
	}
	EXPECT(high[0] >= 1024 && high[0] < 64 << 10);
	EXPECT(high[1] >= most);
	for (int i = 0; i < 20; i++)
		put_down(pids[i]);
}

/* Locked memory takes no guard markers, as kernels before Linux 6.13 do not. */

static bool lock_memory(int flags)
{
	if (mlockall(flags)) {
		selftest_skip("memory can't be locked");
		return false;
	}
	return true;
}

static bool guarded_by_mprotect(void)
{
	if (!strcmp(guards(), "mprotect"))
		return true;
	selftest_skip("locking memory has no effect here (a sanitizer)");
	return false;
}

static void waits(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void many_locked(void)
{
	mote_pid pids[200];
	size_t locked;

	if (!guarded_by_mprotect())
		return;
	sizes_and_guards();
	high_water();
	for (int i = 0; i < 200; i++)
		pids[i] = mote_spawn(waits, NULL);
	for (int i = 0; i < 200; i++)
		wait_until_waiting(pids[i]);
	/* Whole stacks are locked, but neither guards nor what is reserved for processes that are not there. */
	locked = status_bytes("VmLck");
	test_note("%zu MiB resident, of %zu MiB in locked mappings", status_bytes("VmRSS") >> 20, locked >> 20);
	EXPECT(status_bytes("VmRSS") < (size_t)500 << 20);
	for (int i = 0; i < 200; i++)
		put_down(pids[i]);
}

static void locked_from_the_start(void)
{
	if (lock_memory(MCL_FUTURE))
		limits_run();
}

static void locked_later(void)
{
	mote_pid pid;

	sizes_and_guards();
	if (!lock_memory(MCL_CURRENT | MCL_FUTURE))
		return;
	/* More than the schedulers have left over: one new chunk shows it. */
	for (int i = 0; i < 300; i++) {
		pid = mote_spawn(waits, NULL);
		wait_until_waiting(pid);
	}
	if (guarded_by_mprotect())
		sizes_and_guards();
}

static void locked(void)
{
	limits_main = many_locked;
	limits_opts = SCHEDULERS(2);
	limits_child(locked_from_the_start);
}

static void locked_meanwhile(void)
{
	limits_child_process(locked_later, SCHEDULERS(2));
}

/* vm.max_map_count is reached by mappings of the program's own, all but a few. */

#define LEFT 600		/* mappings for four chunks of 64 stacks and their guards */

static char *filler;
static size_t filler_pages;

static bool fill_mappings(void)
{
	size_t max = 0, n = 0;
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");

	if (f && fscanf(f, "%zu", &max) != 1)
		max = 0;
	if (f)
		fclose(f);
	if (!max || max > 1 << 20) {
		selftest_skip("vm.max_map_count is unknown, or very large");
		return false;
	}
	filler_pages = max + 2;
	filler = mmap(NULL, filler_pages * STEP, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!EXPECT(filler != MAP_FAILED))
		return false;
	for (n = 0; n < filler_pages; n += 2) {
		if (mprotect(filler + n * STEP, STEP, PROT_READ))
			break;
	}
	EXPECT(n < filler_pages);
	/* Two mappings each that melt into one with the pages before and after. */
	for (int i = 0; i < LEFT / 2; i++) {
		n -= 2;
		EXPECT_EQ(mprotect(filler + n * STEP, STEP, PROT_NONE), 0);
	}
	return true;
}

static void empty_mappings(void)
{
	EXPECT_EQ(munmap(filler, filler_pages * STEP), 0);
}

static void answers(void *state, struct mote_from from, const struct mote_msg *m)
{
	(void)state;
	mote_reply(from, m->type, NULL, 0);
}

/* Spawns until one can't have a stack; returns how many have one. */
static size_t spawn_until_refused(mote_pid *pids, size_t max, const char *text)
{
	size_t n;

	for (n = 0; n < max; n++) {
		struct mote_msg *m;
		mote_ref ref;

		pids[n] = mote_spawn_monitor(waits, NULL, &ref);
		if (!EXPECT(mote_pid_valid(pids[n])))
			break;
		while (mote_alive(pids[n]) && test_info(pids[n]).state != MOTE_WAITING)
			mote_yield();
		m = mote_receive_ref(ref, MOTE_NOW);
		if (m) {
			const struct mote_reason *reason = &mote_msg_down(m)->reason;

			EXPECT_EQ(reason->kind, MOTE_ERROR);
			EXPECT_EQ(reason->code, ENOMEM);
			EXPECT(reason_says(reason, text));
			mote_msg_free(m);
			return n;
		}
		mote_demonitor(ref, MOTE_FLUSH);
	}
	selftest_complain(__FILE__, __LINE__, "no limit was reached");
	return n;
}

static mote_pid spawn_server(const struct mote_handler_ops *ops)
{
	return mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), .handler = ops });
}

static void says_that_it_ran(void *state, const struct mote_msg *m)
{
	(void)state;
	mote_send(m->from, 2, NULL, 0);
}

#define CROWD 300

/* Servers that all want a stack and can't have one: a pair that has one goes on beside them. */
static void starve(const mote_pid *crowd, mote_pid echo)
{
	int64_t began;

	for (int i = 0; i < CROWD; i++)
		mote_send(crowd[i], 1, NULL, 0);
	began = mote_now().ns;
	for (int i = 0; i < 2000; i++)
		EXPECT(ping(echo));
	test_note("%d servers wait for stacks; beside them 2,000 round trips take %lld us", CROWD,
		  (long long)(mote_now().ns - began) / 1000);
}

static void mappings_run_out(void)
{
	static const struct mote_handler_ops ops = { .size = sizeof(ops), .call = answers,
						      .info = says_that_it_ran };
	static mote_pid pids[10000];
	mote_pid server = spawn_server(&ops), crowd[CROWD], echo;
	size_t n, more;

	if (!guarded_by_mprotect())
		return;
	EXPECT_EQ(mote_call(server, 1, NULL, 0, NULL, PATIENCE), 0);
	for (int i = 0; i < CROWD; i++) {
		crowd[i] = spawn_server(&ops);
		EXPECT_EQ(mote_call(crowd[i], 1, NULL, 0, NULL, PATIENCE), 0);
	}
	echo = mote_spawn(mirror, NULL);
	EXPECT(ping(echo));
	if (!fill_mappings())
		return;
	n = spawn_until_refused(pids, 10000, "vm.max_map_count");
	test_note("%zu stacks before vm.max_map_count", n);
	/* A server that has begun waits for a stack: it may have descriptors and cleanups. */
	EXPECT_EQ(mote_call(server, 1, NULL, 0, NULL, mote_in_ms(20)), -ETIMEDOUT);
	EXPECT(mote_alive(server));
	starve(crowd, echo);
	/* Those that have one live on, and what they leave is used again. */
	EXPECT_EQ(processes_alive(), n + 3 + CROWD);
	for (size_t i = 0; i < n / 2; i++)
		put_down(pids[i]);
	EXPECT_EQ(mote_call(server, 1, NULL, 0, NULL, PATIENCE), 0);
	more = spawn_until_refused(pids, 10000, "vm.max_map_count");
	EXPECT(more + 1 >= n / 2 && more <= n / 2 + 1);
	empty_mappings();
	for (int i = 0; i < CROWD; i++)
		EXPECT(got_type(2));
	more = 0;
	for (int i = 0; i < 2000; i++) {
		mote_pid pid = mote_spawn(waits, NULL);

		while (mote_alive(pid) && test_info(pid).state != MOTE_WAITING)
			mote_yield();
		more += mote_alive(pid);
	}
	EXPECT_EQ(more, 2000);
	EXPECT_EQ(mote_call(server, 1, NULL, 0, NULL, PATIENCE), 0);
}

static void map_count_child(void)
{
	/* On fault: locked, but only what is touched. */
	if (!lock_memory(MCL_FUTURE | MCL_ONFAULT))
		return;
	limits_run();
}

static void map_count(void)
{
	limits_main = mappings_run_out;
	limits_opts = SCHEDULERS(1);
	limits_child(map_count_child);
}

/* RLIMIT_MEMLOCK does not bind root, and few let others have enough of it: the kernel's answer is made up instead. */

#if !SANITIZED
static _Atomic bool memlock_reached;

/* The library's, in this program. */
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (memlock_reached && flags & MAP_STACK) {
		errno = EAGAIN;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}
#endif

static void memlock(void)
{
#if SANITIZED
	selftest_skip("mmap() is the sanitizer's");
#else
	static mote_pid pids[10000];
	size_t n, more;

	memlock_reached = true;
	n = spawn_until_refused(pids, 10000, "RLIMIT_MEMLOCK");
	for (size_t i = 0; i < n; i++)
		put_down(pids[i]);
	EXPECT_EQ(processes_alive(), 1);
	EXPECT_EQ(spawn_until_refused(pids, 10000, "RLIMIT_MEMLOCK"), n);
	memlock_reached = false;
	for (more = 0; more < 200; more++) {
		mote_pid pid = mote_spawn(waits, NULL);

		wait_until_waiting(pid);
	}
	EXPECT_EQ(processes_alive(), n + 201);
#endif
}

int main(void)
{
	selftest_process("stacks have the size asked for, and 64 KiB of guard below", sizes_and_guards);
	selftest_process("how far a stack was used", high_water);
	selftest_process("a server at rest has no stack and no mark", no_stack_no_mark);
	selftest_process("marks by spawn site", by_spawn_site);
	selftest_case("all of it with memory locked from the start", locked);
	selftest_case("all of it with memory locked later", locked_meanwhile);
	selftest_case("vm.max_map_count: a clear error, nobody else is hurt, and it goes on", map_count);
	selftest_process_opts("RLIMIT_MEMLOCK: likewise", memlock, SCHEDULERS(1));
	return selftest_done();
}
