/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * No memory. In the first half not one byte is to be had: every allocation of the library's fails, and what it had put
 * aside is used up. Who has to be told of an end is told all the same; every other call says -ENOMEM, changes nothing,
 * and works again when there is memory. In the second half the kernel sets the limits.
 */
#include "limits.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#define DIE	7u
#define GO	8u

#if !SANITIZED
#define CAN_FAIL 1

static _Atomic bool no_memory, no_tables;
static _Atomic unsigned int fail_every, allocations;	/* 0: none */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
	    *__libc_memalign(size_t, size_t);

static bool fails(void)
{
	unsigned int n = fail_every;

	if (!no_memory && !(n && !(++allocations % n)))
		return false;
	errno = ENOMEM;
	return true;
}

/* This program's, and so the library's. */
void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	if (no_tables)
		errno = ENOMEM;		/* glibc asserts that, when it makes a thread meanwhile */
	return fails() || no_tables ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	return fails() ? NULL : __libc_realloc(p, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : __libc_memalign(alignment, size);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (fails())
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

#define CLASSES	9
#define HOARD	40000

static struct mote_msg *hoards[CLASSES][HOARD];
static int hoarded[CLASSES];

/* Uses up every block that the library has put aside for small things, by one scheduler's only process. */
static void memory_ends(void)
{
	static const size_t sizes[CLASSES] = { 0, 64, 128, 192, 448, 960, 1472, 1984, 4032 };

	no_memory = true;
	for (int c = 0; c < CLASSES; c++) {
		while (hoarded[c] < HOARD && (hoards[c][hoarded[c]] = mote_msg_new(1, sizes[c])))
			hoarded[c]++;
		EXPECT(hoarded[c] < HOARD);
		EXPECT_EQ(mote_errno(), -ENOMEM);
	}
}

static void memory_returns(void)
{
	no_memory = false;
	for (int c = 0; c < CLASSES; c++) {
		while (hoarded[c])
			mote_msg_free(hoards[c][--hoarded[c]]);
	}
}

/* What came back meanwhile is used up again. */
static void memory_still_ended(void)
{
	memory_returns();
	memory_ends();
}

static void dies_with_bytes(void *arg)
{
	char bytes[100] = "because";
	struct mote_msg *m;

	(void)arg;
	do
		m = mote_receive(MOTE_FOREVER);
	while (m->type != DIE);
	mote_exit((struct mote_reason){ MOTE_CUSTOM, 42, bytes, sizeof(bytes) });
}

static void ends_are_told(void)
{
	mote_ref first, second, asked[2], late;
	struct mote_msg *order, *m;
	const struct mote_exit_info *exit;
	const struct mote_down_info *down;
	mote_pid pid;

	mote_trap_exit(true);
	for (int round = 0; round < 3; round++) {
		pid = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = dies_with_bytes,
			.flags = MOTE_LINK | MOTE_MONITOR, .ref = &first });
		second = mote_monitor(pid);
		asked[0] = mote_request(pid, 1, NULL, 0);
		asked[1] = mote_request(pid, 1, "question", 9);
		mote_yield();
		order = mote_msg_new(DIE, 0);
		/* One request is in its hands, another still on its way. */
		late = mote_request_msg(pid, mote_msg_new(2, 0));
		memory_ends();
		EXPECT_EQ(mote_send_msg(pid, order), 0);

		m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
		EXPECT(is_exit(m, pid, MOTE_CUSTOM));
		exit = m ? mote_msg_exit(m) : NULL;
		EXPECT(exit && exit->reason.code == 42 && exit->reason.size == 0);
		mote_msg_free(m);
		for (int i = 0; i < 5; i++) {
			mote_ref ref = i == 0 ? first : i == 1 ? second : i == 2 ? asked[0] : i == 3 ? asked[1] : late;

			m = mote_receive_ref(ref, PATIENCE);
			EXPECT(is_down(m, ref, pid, MOTE_CUSTOM));
			down = m ? mote_msg_down(m) : NULL;
			EXPECT(down && down->reason.code == 42 && down->reason.size == 0);
			mote_msg_free(m);
		}
		/* Nobody is there any more: that is told, too. */
		memory_returns();
		EXPECT(mailbox_is_empty());
	}
	/* With memory the bytes arrive. */
	pid = mote_spawn_monitor(dies_with_bytes, NULL, &first);
	mote_send(pid, DIE, NULL, 0);
	m = mote_receive_ref(first, PATIENCE);
	down = m ? mote_msg_down(m) : NULL;
	EXPECT(down && down->reason.size == 100 && !strcmp(down->reason.data, "because"));
	mote_msg_free(m);
}

/* A hub of many links dies, and many die into a hub. */
static void hub(void *arg)
{
	mote_pid *pids = arg;

	mote_trap_exit(true);
	for (int i = 0; mote_pid_valid(pids[i]); i++)
		EXPECT_EQ(mote_link(pids[i]), 0);
	mote_exit((struct mote_reason){ MOTE_CUSTOM, 1, mote_receive_type(DIE, MOTE_FOREVER)->data, 8 });
}

static void waits(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void thousand_links(bool tables)
{
	static mote_pid pids[1001];
	struct mote_msg *order;
	mote_pid middle;

	for (int i = 0; i < 1000; i++) {
		pids[i] = mote_spawn(waits, NULL);
		while (test_info(pids[i]).state != MOTE_WAITING)
			mote_yield();
	}
	no_tables = !tables;
	middle = mote_spawn(hub, pids);
	while (test_info(pids[999]).links != 1)
		mote_yield();
	EXPECT_EQ(test_info(middle).links, 1000);
	for (int i = 0; i < 100; i++)
		put_down(pids[i]);
	while (test_info(middle).links != 900)
		mote_yield();
	order = mote_msg_new(DIE, 8);
	memory_ends();
	EXPECT_EQ(mote_send_msg(middle, order), 0);
	EXPECT(processes_come_to(1));
	no_tables = false;
	memory_returns();
}

static void a_thousand_links(void)
{
	thousand_links(true);
	/* A table of links that could not be had is not needed. */
	thousand_links(false);
}

/* A request that is not answered leaves its receiver's hands. */

static void lets_go(void *arg)
{
	int how = *(int *)arg;
	struct mote_msg *m = mote_receive(MOTE_FOREVER), *order;
	mote_pid asker = m->from;

	order = mote_receive(MOTE_FOREVER);
	if (how == 0)
		mote_msg_free(m);
	else if (how == 1)
		EXPECT_EQ(mote_send_msg(asker, m), -ENOMEM);
	else
		EXPECT_EQ(mote_net_send_msg(1, m, MOTE_FOREVER), -ENOMEM);
	mote_msg_free(order);
	mote_exit((struct mote_reason){ MOTE_CUSTOM, 5, NULL, 0 });
}

static void requests_let_go(void)
{
	for (int i = 0; i < 6; i++) {
		int how = i / 2;
		mote_pid pid = mote_spawn(lets_go, &how);
		mote_ref ref = i & 1 ? mote_request(pid, 1, "question", 9) : mote_request(pid, 1, NULL, 0);
		struct mote_msg *order = mote_msg_new(GO, 0);

		mote_yield();
		memory_ends();
		EXPECT_EQ(mote_send_msg(pid, order), 0);
		EXPECT(got_down(ref, pid, MOTE_CUSTOM));
		EXPECT(mailbox_is_empty());
		memory_returns();
	}
}

static void defers(void *arg)
{
	(void)arg;
}

static int64_t job(void *arg)
{
	(void)arg;
	return 5;
}

/* What each call that needs memory says: -ENOMEM while there is none, 0 or more when there is. */
#define SAYS(call, expected) \
	do { \
		long long said_ = (long long)(call); \
		if (said_ != (expected)) { \
			selftest_complain(__FILE__, __LINE__, #call); \
			printf("#   %lld, not %lld\n", said_, (long long)(expected)); \
		} \
	} while (0)

static int says(bool worked)
{
	return worked ? 0 : mote_errno();
}

static void each_call(mote_pid other, mote_pid linked, int fd, int err)
{
	static char big[100000];
	struct mote_spawn_opts opts = { .size = sizeof(opts), .fn = waits, .name = "limited", .flags = MOTE_LINK };
	mote_ref ref, refs[64];
	mote_timer timer;
	mote_pid pid;
	void *p;
	int n;

	SAYS(mote_send(other, 1, NULL, 0), err);
	SAYS(mote_send(other, 1, big, 64), err);
	SAYS(mote_send(other, 1, big, sizeof(big)), err);
	SAYS(mote_call(other, 1, NULL, 0, NULL, PATIENCE), err);
	ref = mote_request(other, 1, big, 100);
	SAYS(says(ref.id), err);
	if (ref.id)
		mote_msg_free(mote_receive_ref(ref, PATIENCE));
	SAYS(mote_exit_pid(linked, (struct mote_reason){ MOTE_NORMAL, 0, NULL, 0 }), err);
	SAYS(mote_link(other), err);
	SAYS(mote_unlink(linked), err);
	if (!err)
		SAYS(mote_link(linked), 0);
	ref = mote_monitor(other);
	SAYS(says(ref.id), err);
	if (ref.id)
		SAYS(mote_demonitor(ref, MOTE_FLUSH), 1);
	SAYS(mote_register("limited", other), err);
	if (!err)
		SAYS(mote_unregister("limited"), 0);
	pid = mote_spawn_opts(&opts);
	SAYS(says(mote_pid_valid(pid)), err);
	if (!err)
		put_down(pid);
	timer = mote_send_after(mote_in_ms(60000), other, 1, NULL, 0);
	SAYS(says(timer.id), err);
	if (timer.id)
		SAYS(mote_timer_cancel(timer, NULL), 0);
	timer = mote_send_every(1000000000, other, 1, NULL, 0);
	SAYS(says(timer.id), err);
	if (timer.id)
		SAYS(mote_timer_cancel(timer, NULL), 0);
	p = mote_alloc(10);
	SAYS(says(p), err);
	mote_free(p);
	p = mote_zalloc(1 << 20);
	SAYS(says(p), err);
	mote_free(p);
	SAYS(mote_defer(defers, NULL), err);
	if (!err)
		SAYS(mote_undefer(defers, NULL), 0);
	SAYS(mote_blocking(job, NULL, NULL, MOTE_FOREVER), err);
	SAYS(mote_fd_give(fd, other), err);
	if (err)
		EXPECT(mote_pid_equal(mote_fd_owner(fd), mote_self()));
	/* An alias needs memory only when the table of references is full. */
	for (n = 0; n < 64; n++) {
		refs[n] = mote_alias(0);
		if (!refs[n].id)
			break;
	}
	if (err) {
		EXPECT(n < 64);
		SAYS(mote_errno(), err);
	} else {
		EXPECT_EQ(n, 64);
	}
	while (n--)
		SAYS(mote_unalias(refs[n]), 1);
}

static void answers(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		struct mote_from from = mote_msg_from(m);

		if (from.ref.id)
			mote_reply(from, m->type, NULL, 0);
		mote_msg_free(m);
	}
}

static void each_call_says_so(void)
{
	mote_pid other = mote_spawn(answers, NULL), linked = mote_spawn(answers, NULL);
	int fd = mote_file_open("/dev/null", O_RDWR, 0);
	struct mote_process_info before, after;
	uint64_t alive;
	int fds[2];

	mote_trap_exit(true);
	EXPECT_EQ(mote_link(linked), 0);
	EXPECT_EQ(mote_call(other, 1, NULL, 0, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_call(linked, 1, NULL, 0, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_blocking(job, NULL, NULL, MOTE_FOREVER), 0);
	before = test_info(mote_self());
	alive = processes_alive();
	for (int round = 0; round < 3; round++) {
		memory_ends();
		each_call(other, linked, fd, -ENOMEM);
		memory_still_ended();
		each_call(other, linked, fd, -ENOMEM);
		memory_returns();
		after = test_info(mote_self());
		EXPECT_EQ(after.links, before.links);
		EXPECT_EQ(after.monitors, before.monitors);
		EXPECT_EQ(after.fds, before.fds);
		EXPECT_EQ(after.memory, before.memory);
		EXPECT_EQ(after.mailbox, 0);
		EXPECT_EQ(test_info(linked).links, 1);
		EXPECT_EQ(test_info(other).links, 0);
		EXPECT_EQ(test_info(other).monitored_by, 0);
		EXPECT_EQ(processes_alive(), alive);
		EXPECT(!mote_pid_valid(mote_whereis("limited")));
	}
	/* Now all of it works: fd goes to `other`, which is linked. */
	fds[0] = mote_file_open("/dev/null", O_RDWR, 0);
	each_call(other, linked, fds[0], 0);
	EXPECT_EQ(mote_call(other, 1, NULL, 0, NULL, PATIENCE), 0);
	EXPECT(mote_pid_equal(mote_fd_owner(fds[0]), other));
	EXPECT_EQ(test_info(other).links, 1);
	EXPECT_EQ(mote_fd_close(fd), 0);
}

static void intervals_are_late(void)
{
	const int64_t period = 300000000;
	mote_timer timer = mote_send_every(period, mote_self(), GO, NULL, 0);
	mote_deadline until = mote_in_ns(period + 20000000);

	EXPECT(timer.id);
	memory_ends();
	/* Not freed: there is still no memory. */
	while (mote_receive_type(GO, MOTE_NOW))
		;
	EXPECT_EQ(mote_sleep(until), 0);
	EXPECT(!mote_receive_type(GO, MOTE_NOW));
	/* It does not wait for its next turn, but for memory. */
	EXPECT(mote_timer_left(timer) < period / 10);
	memory_returns();
	EXPECT(got_type(GO));
	EXPECT(got_type(GO));
	EXPECT_EQ(mote_timer_cancel(timer, NULL), 0);
}

static void os_signals_are_late(void)
{
	EXPECT_EQ(mote_os_signal(SIGUSR1, true), 0);
	kill(getpid(), SIGUSR1);
	EXPECT(got_type(MOTE_MSG_OS_SIGNAL));
	memory_ends();
	kill(getpid(), SIGUSR1);
	mote_sleep(mote_in_ms(20));
	EXPECT(!mote_receive_type(MOTE_MSG_OS_SIGNAL, MOTE_NOW));
	memory_returns();
	EXPECT(got_type(MOTE_MSG_OS_SIGNAL));
	EXPECT_EQ(mote_os_signal(SIGUSR1, false), 0);
	EXPECT(mailbox_is_empty());
}

/* One allocation in n fails, anywhere: each child is accounted for. */

static void child(void *arg)
{
	mote_ref ref = mote_monitor(*(mote_pid *)arg);
	void *p = mote_alloc(5000);

	mote_register("somebody", mote_self());
	mote_call(*(mote_pid *)arg, 1, "question", 9, NULL, PATIENCE);
	mote_free(p);
	if (ref.id)
		mote_demonitor(ref, 0);
}

static void one_in_n(void)
{
	mote_pid server = mote_spawn(answers, NULL);
	unsigned long refused = 0, ended = 0;
	uint64_t alive = processes_alive();

	EXPECT_EQ(mote_call(server, 1, NULL, 0, NULL, PATIENCE), 0);
	for (unsigned int n = 2; n < 40; n++) {
		fail_every = n;
		for (unsigned long i = 0; i < test_rounds(50); i++) {
			mote_ref refs[40];
			mote_pid pids[40];

			for (int k = 0; k < 40; k++) {
				pids[k] = mote_spawn_opts(&(struct mote_spawn_opts){
					.size = sizeof(struct mote_spawn_opts), .fn = child, .arg = &server,
					.flags = MOTE_MONITOR, .ref = &refs[k], .label = "child",
					.stack_size = i % 4 ? 0 : 128 << 10 });
				if (!mote_pid_valid(pids[k]))
					EXPECT_EQ(mote_errno(), -ENOMEM);
			}
			for (int k = 0; k < 40; k++) {
				struct mote_msg *m;

				if (!mote_pid_valid(pids[k])) {
					refused++;
					continue;
				}
				m = mote_receive_ref(refs[k], PATIENCE);
				if (!is_down(m, refs[k], pids[k], MOTE_NORMAL))
					EXPECT(is_down(m, refs[k], pids[k], MOTE_ERROR));
				ended++;
				mote_msg_free(m);
			}
		}
		fail_every = 0;
	}
	test_note("%lu spawned, %lu refused", ended, refused);
	EXPECT(ended > 0);
	EXPECT_EQ(processes_alive(), alive);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	EXPECT(!mote_pid_valid(mote_whereis("somebody")));
	EXPECT_EQ(mote_call(server, 1, NULL, 0, NULL, PATIENCE), 0);
	test_note("%llu ended monitors are kept by their target", (unsigned long long)test_info(server).monitored_by);
}

/* The runtime stops without memory, too: those who have to be told to end are told. */

static void traps(void *arg)
{
	mote_trap_exit(true);
	waits(arg);
	waits(arg);
	waits(arg);
}

static void stops(void)
{
	for (int round = 0; round < 2; round++) {
		EXPECT_EQ(mote_start(SCHEDULERS(2)), 0);
		for (int i = 0; i < 1000; i++) {
			mote_pid pid = mote_spawn(round ? traps : waits, NULL);

			while (test_info(pid).state != MOTE_WAITING)
				usleep(10);
		}
		/* By this thread: what processes give back when they end does not come here at once. */
		memory_ends();
		EXPECT_EQ(mote_stop(mote_in_ms(20000), NULL, NULL), 0);
		memset(hoarded, 0, sizeof(hoarded));	/* they went with the runtime */
		no_memory = false;
	}
	EXPECT_EQ(mote_start(NULL), 0);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
}

/* Each allocation of the start fails once. */
static void starts(void)
{
	bool ok = false;

	for (int n = 1; n < 2000 && !ok; n++) {
		int err;

		allocations = 0;
		fail_every = (unsigned int)n;
		err = mote_start(SCHEDULERS(2));
		fail_every = 0;
		/* What fails twice as late is the program's next one. */
		if (err && err != -ENOMEM && err != -EAGAIN) {
			EXPECT_EQ(err, -ENOMEM);
			break;
		}
		ok = !err && allocations < (unsigned int)n;
		if (!err)
			EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
		EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), -ESRCH);
	}
	EXPECT(ok);
}
#else
#define CAN_FAIL 0
#endif

static void needs_allocator(void)
{
	selftest_skip("the allocator is the sanitizer's");
}

#if !CAN_FAIL
#define ends_are_told needs_allocator
#define a_thousand_links needs_allocator
#define requests_let_go needs_allocator
#define each_call_says_so needs_allocator
#define intervals_are_late needs_allocator
#define os_signals_are_late needs_allocator
#define one_in_n needs_allocator
#define starts needs_allocator
#define stops needs_allocator
#endif

int main(void)
{
	(void)needs_allocator;
	selftest_process_opts("no memory at all: who has to be told of an end is told", ends_are_told, SCHEDULERS(1));
	selftest_process_opts("no memory at all: a thousand links break", a_thousand_links, SCHEDULERS(1));
	selftest_process_opts("no memory at all: a request that is let go is refused in the end", requests_let_go,
			      SCHEDULERS(1));
	selftest_process_opts("no memory at all: each call says so, changes nothing, and works again", each_call_says_so,
			      SCHEDULERS(1));
	selftest_process_opts("no memory at all: intervals are late, not lost", intervals_are_late, SCHEDULERS(1));
	selftest_process_opts("no memory at all: POSIX signals are late, not lost", os_signals_are_late, SCHEDULERS(1));
	selftest_process("one allocation in n fails: everybody is accounted for", one_in_n);
	selftest_case("no memory at all: the runtime can be stopped", stops);
	selftest_case("any allocation of the start fails: a clear error, and nothing is left", starts);
	return selftest_done();
}
