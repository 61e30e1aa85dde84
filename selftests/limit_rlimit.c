/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The kernel's limits on memory: RLIMIT_DATA, RLIMIT_AS, and a memory cgroup. Each is reached while the runtime works,
 * by whatever needs memory, and lifted; and each may be there already when it starts.
 */
#include "limits.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define MIB	((size_t)1 << 20)

static void waits(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

static bool runs(mote_pid pid)
{
	while (mote_alive(pid) && test_info(pid).state != MOTE_WAITING)
		mote_yield();
	return mote_alive(pid);
}

#define CROWD 20000

/* Until there is no stack for one more. How many there were. */
static int spawn_to_the_end(mote_pid *pids)
{
	for (int n = 0; n < CROWD; n++) {
		struct mote_msg *m;
		mote_ref ref;

		pids[n] = mote_spawn_monitor(waits, NULL, &ref);
		if (!mote_pid_valid(pids[n])) {
			EXPECT_EQ(mote_errno(), -ENOMEM);
			return n;
		}
		if (runs(pids[n])) {
			mote_demonitor(ref, MOTE_FLUSH);
			continue;
		}
		m = mote_receive_ref(ref, PATIENCE);
		EXPECT(is_down(m, ref, pids[n], MOTE_ERROR) && mote_msg_down(m)->reason.code == ENOMEM);
		/* Its text needs memory, too. */
		EXPECT(m && (!mote_msg_down(m)->reason.size ||
			     reason_says(&mote_msg_down(m)->reason, "no stack: out of memory")));
		mote_msg_free(m);
		return n;
	}
	selftest_complain(__FILE__, __LINE__, "the limit was not reached");
	return CROWD;
}

/* Until a mailbox can't have one more. How many it got. */
static int send_to_the_end(mote_pid to)
{
	static char big[64 << 10];
	int n = 0, err;

	while (!(err = mote_send(to, 1, big, sizeof(big))) && n < 10000)
		n++;
	EXPECT_EQ(err, -ENOMEM);
	while (!(err = mote_send(to, 1, big, 1)) && n < 1000000)
		n++;
	EXPECT_EQ(err, -ENOMEM);
	return n;
}

static int alloc_to_the_end(void)
{
	static void *blocks[100000];
	int n = 0;

	while (n < 100000 && (blocks[n] = mote_alloc(64 << 10)))
		n++;
	EXPECT_EQ(mote_errno(), -ENOMEM);
	for (int i = 0; i < n; i++)
		mote_free(blocks[i]);
	return n;
}

static int timers_to_the_end(void)
{
	static mote_timer timers[100000];
	static char big[64 << 10];
	int n = 0;

	for (; n < 100000; n++) {
		timers[n] = mote_send_after(mote_in_ms(60000), mote_self(), 1, big, sizeof(big));
		if (!timers[n].id)
			break;
	}
	EXPECT_EQ(mote_errno(), -ENOMEM);
	for (int i = 0; i < n; i++)
		EXPECT_EQ(mote_timer_cancel(timers[i], NULL), 0);
	return n;
}

static void counts(void *arg)
{
	unsigned long *n = arg;

	mote_msg_free(mote_receive_type(PING, MOTE_FOREVER));
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type == PING)
			mote_send(m->from, PING, n, sizeof(*n));
		else
			++*n;
		mote_msg_free(m);
	}
}

static int the_limit;
static const char *what_counts;

static void reached_and_lifted(void)
{
	static mote_pid pids[CROWD];
	int first = 0;

	for (int round = 0; round < 3; round++) {
		unsigned long received = 0;
		mote_pid counter = mote_spawn(counts, &received);
		int n, sent, blocks, timers;

		runs(counter);
		limit_set(the_limit, status_bytes(what_counts) + 32 * MIB);
		n = spawn_to_the_end(pids);
		EXPECT(n > 0);
		for (int i = 0; i < n; i++)
			EXPECT(mote_alive(pids[i]));
		limit_set(the_limit, status_bytes(what_counts) + 32 * MIB);
		sent = send_to_the_end(counter);
		blocks = alloc_to_the_end();
		timers = timers_to_the_end();
		EXPECT(sent > 0);
		/* The counter takes what it was sent, and nothing of it is lost. */
		limit_set(the_limit, RLIM_INFINITY);
		EXPECT_EQ(mote_send(counter, PING, NULL, 0), 0);
		EXPECT(ping(counter));
		EXPECT_EQ(received, sent);
		test_note("%d stacks, %d messages, %d blocks, %d timers", n, sent, blocks, timers);
		/* What was used once is there again. */
		if (!round)
			first = n;
		EXPECT(n >= first);
		for (int i = 0; i < n; i++)
			mote_exit_pid(pids[i], MOTE_REASON_KILL);
		put_down(counter);
		EXPECT(processes_come_to(1));
	}
}

static void reached(int limit, const char *counted)
{
	if (SANITIZED) {
		selftest_skip("a sanitizer needs memory of its own");
		return;
	}
	the_limit = limit;
	what_counts = counted;
	limits_child_process(reached_and_lifted, SCHEDULERS(1));
}

static void data(void)
{
	reached(RLIMIT_DATA, "VmData");
}

static void address_space(void)
{
	reached(RLIMIT_AS, "VmSize");
}

/* A limit that is there when the runtime starts. */

static size_t room;

static void answers(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		/* With the block that it came in: no memory is needed. */
		mote_reply_msg(mote_msg_from(m), m);
	}
}

static void works_a_little(void)
{
	mote_pid pid = mote_spawn(answers, NULL);
	int err = mote_pid_valid(pid) ? mote_call(pid, 1, NULL, 0, NULL, PATIENCE) : mote_errno();

	/* In little room it may be refused, or have no stack. */
	if (err && (err == -ENOMEM || err == -EPIPE || err == -ESRCH))
		selftest_skip("no room");
	else
		EXPECT_EQ(err, 0);
}

static void starts_in_little_room(void)
{
	struct rlimit limit = { 0, 0 };
	int err;

	limit.rlim_cur = limit.rlim_max = status_bytes(what_counts) + room;
	EXPECT_EQ(setrlimit(the_limit, &limit), 0);
	limits_main = works_a_little;
	err = mote_run(selftest_main, &limits_main, SCHEDULERS(2));
	/* 1: it started, but the first process could not have its stack. */
	if (err && err != 1 && err != -ENOMEM && err != -EAGAIN)
		EXPECT_EQ(err, 0);
	if (err && !atomic_load(&selftest_failed))
		selftest_skip("no room");
}

static void started(int limit, const char *counted, size_t enough)
{
	size_t least = 0;

	if (SANITIZED) {
		selftest_skip("a sanitizer needs memory of its own");
		return;
	}
	the_limit = limit;
	what_counts = counted;
	for (room = 0; room <= enough; room += room < 64 * MIB ? 3 * MIB + 4096 : 64 * MIB) {
		limits_child(starts_in_little_room);
		if (!least && !selftest_why[0])
			least = room;
		if (room < enough / 2)
			selftest_why[0] = 0;
	}
	test_note("two schedulers start with %zu MiB left", least / MIB);
	EXPECT(!selftest_why[0]);
	selftest_why[0] = 0;
	EXPECT(least && least <= enough / 2);
}

static void started_data(void)
{
	started(RLIMIT_DATA, "VmData", 256 * MIB);
}

static void started_address_space(void)
{
	started(RLIMIT_AS, "VmSize", 1024 * MIB);
}

/* A memory cgroup, of version 1 or 2. */

static char group[512];

static bool group_write(const char *file, const char *text)
{
	char path[600];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", group, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* One below our own, of this size. */
static bool group_make(size_t size)
{
	char line[400], text[32];
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool v2 = false, found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		char *path = strrchr(line, ':');

		line[strcspn(line, "\n")] = 0;
		if (strstr(line, ":memory:"))
			snprintf(group, sizeof(group), "/sys/fs/cgroup/memory%s/mote-test-%d", path + 1, getpid());
		else if (!strncmp(line, "0::", 3))
			snprintf(group, sizeof(group), "/sys/fs/cgroup%s/mote-test-%d", path + 1, getpid());
		else
			continue;
		v2 = line[0] == '0';
		found = mkdir(group, 0700) == 0;
		snprintf(text, sizeof(text), "%zu", size);
		if (found && !group_write(v2 ? "memory.max" : "memory.limit_in_bytes", text)) {
			rmdir(group);
			found = false;
		}
	}
	if (f)
		fclose(f);
	if (!found)
		selftest_skip("no memory cgroup can be made");
	return found;
}

static bool group_enter(void)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", getpid());
	return EXPECT(group_write("cgroup.procs", text));
}

/* Files larger than the group: the kernel takes pages back from the cache. */
static void writes_much(void)
{
	static char block[MIB];
	char path[] = "/tmp/mote-limit-XXXXXX";
	int fd = mkstemp(path);

	struct statfs fs;

	EXPECT(fd >= 0);
	unlink(path);
	if (!fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC) {
		selftest_skip("/tmp is memory itself");
		return;
	}
	EXPECT_EQ(mote_fd_adopt(fd), 0);
	for (int i = 0; i < 150; i++) {
		/* Version 1 of cgroups does not make writers wait for the disk: a group may fill with what is not written yet. */
		if (!(i % 8))
			EXPECT_EQ(mote_file_sync(fd, true), 0);
		memset(block, i, sizeof(block));
		EXPECT_EQ(mote_file_write(fd, block, sizeof(block), (int64_t)i * (int64_t)MIB, MOTE_FOREVER), MIB);
	}
	EXPECT_EQ(mote_file_sync(fd, true), 0);
	for (int i = 0; i < 150; i += 7) {
		EXPECT_EQ(mote_file_read(fd, block, sizeof(block), (int64_t)i * (int64_t)MIB, MOTE_FOREVER), MIB);
		EXPECT(block[0] == (char)i && block[MIB - 1] == (char)i);
	}
	works_a_little();
}

static void in_group_files(void)
{
	limits_main = writes_much;
	limits_opts = SCHEDULERS(2);
	if (group_enter())
		limits_run();
}

static void cgroup_files(void)
{
	if (SANITIZED) {
		selftest_skip("a sanitizer needs memory of its own");
		return;
	}
	if (!group_make(64 * MIB))
		return;
	limits_child(in_group_files);
	EXPECT_EQ(rmdir(group), 0);
}

/* Memory itself: no call can fail where the kernel has promised more than there is. It ends the OS process, at once. */
static void takes_all(void)
{
	for (int i = 0; i < 1000; i++) {
		char *p = mote_alloc(MIB);

		if (p)
			memset(p, 1, MIB);
	}
}

static void in_group_takes_all(void)
{
	limits_main = takes_all;
	limits_opts = SCHEDULERS(2);
	if (group_enter())
		limits_run();
}

static void cgroup_memory(void)
{
	int status;

	if (SANITIZED) {
		selftest_skip("a sanitizer needs memory of its own");
		return;
	}
	if (!group_make(64 * MIB))
		return;
	/* Or it would be moved there. */
	group_write("memory.memsw.limit_in_bytes", "67108864");
	group_write("memory.swap.max", "0");
	status = limits_child_status(in_group_takes_all);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_EQ(rmdir(group), 0);
}

int main(void)
{
	selftest_case("RLIMIT_DATA: reached by stacks, messages, blocks, timers; lifted; nothing is lost", data);
	selftest_case("RLIMIT_AS: likewise", address_space);
	selftest_case("RLIMIT_DATA: starting with little, a clear error or a working runtime", started_data);
	selftest_case("RLIMIT_AS: likewise", started_address_space);
	selftest_case("a memory cgroup: files larger than it", cgroup_files);
	selftest_case("a memory cgroup: what the kernel has promised and can't keep ends the OS process", cgroup_memory);
	return selftest_done();
}
