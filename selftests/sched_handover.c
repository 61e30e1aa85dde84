// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A process that computes or blocks outside the library loses its scheduler; its neighbours keep theirs.
 *
 * Each case has one process that gets stuck, in its own way, until its neighbours have done their share of messages,
 * timers and I/O on the very same scheduler: if they wait for it, the test waits for ever.
 */
#include "proc.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define GO	1
#define STUCK	2
#define BACK	3
#define ROUND	4

static atomic_bool release;
static int pipe_fds[2];

static struct mote_runtime_info runtime_info(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info;
}

/* Ways to get stuck. */

static void computes(void)
{
	while (!atomic_load(&release))
		;
}

static void sleeps(void)
{
	struct timespec t = { .tv_nsec = 5000000 };

	while (!atomic_load(&release))
		nanosleep(&t, NULL);
}

static void reads(void)
{
	char c;

	EXPECT_EQ(read(pipe_fds[0], &c, 1), 1);
}

static int lock_fds[2];

static void waits_for_lock(void)
{
	while (flock(lock_fds[1], LOCK_EX) < 0)
		EXPECT_EQ(errno, EINTR);
}

static char *slow_page;

static void faults(void)
{
	EXPECT_EQ(*(volatile char *)slow_page, 7);
}

/* Almost always inside the runtime, for a moment, with calls that are not counted for its slice. */
static void looks_around(void)
{
	while (!atomic_load(&release))
		mote_whereis("nobody");
}

/* The child keeps its parent in an uninterruptible wait; it may not touch anything. */
static void vforks(void)
{
	pid_t pid = vfork();

	if (!pid) {
		char c;

		while (syscall(SYS_read, pipe_fds[0], &c, 1) < 0)
			;
		_exit(0);
	}
	EXPECT(pid > 0);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void let_go(void)
{
	atomic_store(&release, true);
	if (pipe_fds[1] >= 0)
		EXPECT_EQ(write(pipe_fds[1], "x", 1), 1);
	if (lock_fds[0] >= 0)
		flock(lock_fds[0], LOCK_UN);
}

/* The neighbours. */

static void echo(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char c;

	for (;;) {
		if (mote_net_recv(fd, &c, 1, MOTE_FOREVER) != 1 || mote_net_send(fd, &c, 1, MOTE_FOREVER) != 1)
			return;
	}
}

/* An echo over a socket pair: both ends wait in the same scheduler's ring. */
static bool socket_round(int fd)
{
	char c = 'e';

	return mote_net_send(fd, &c, 1, PATIENCE) == 1 && mote_net_recv(fd, &c, 1, PATIENCE) == 1 && c == 'e';
}

static void neighbours_go_on(int rounds, int fd)
{
	mote_pid m = mote_spawn(mirror, NULL);

	for (int i = 0; i < rounds; i++) {
		EXPECT(ping(m));
		EXPECT_EQ(mote_sleep(mote_in_us(200)), 0);
		if (fd >= 0)
			EXPECT(socket_round(fd));
	}
	put_down(m);
}

struct stuck {
	void (*how)(void);
	mote_pid boss;
};

static void gets_stuck(void *arg)
{
	struct stuck *stuck = arg;

	mote_send(stuck->boss, STUCK, NULL, 0);
	stuck->how();
	mote_send(stuck->boss, BACK, NULL, 0);
}

static int socket_server(void)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds))
		return -1;
	mote_fd_adopt(fds[0]);
	mote_fd_adopt(fds[1]);
	mote_spawn_link(echo, (void *)(intptr_t)fds[1]);
	return fds[0];
}

static void stuck_in(void (*how)(void), bool io)
{
	struct stuck stuck = { how, mote_self() };
	uint64_t before = runtime_info().handovers;
	int fd = io ? socket_server() : -1;
	mote_ref ref;
	mote_pid p;

	atomic_store(&release, false);
	EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	mote_trap_exit(true);
	p = mote_spawn_monitor(gets_stuck, &stuck, &ref);
	EXPECT(got_type(STUCK));
	neighbours_go_on((int)test_rounds(50), fd);
	/* On one scheduler nothing of that was possible otherwise. */
	if (runtime_info().schedulers == 1 && how != looks_around) {
		EXPECT_EQ(test_info(p).state, MOTE_DETACHED);
		EXPECT(runtime_info().handovers > before);
	}
	let_go();
	EXPECT(got_type(BACK));
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	neighbours_go_on(5, fd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void endless_loop(void)
{
	stuck_in(computes, true);
}

static void nanosleeping(void)
{
	stuck_in(sleeps, true);
}

static void blocking_read(void)
{
	stuck_in(reads, true);
}

static void short_calls(void)
{
	stuck_in(looks_around, true);
}

static void file_lock(void)
{
	char path[] = "/tmp/mote-handover-XXXXXX";

	lock_fds[0] = mkstemp(path);
	lock_fds[1] = open(path, O_RDWR | O_CLOEXEC);
	unlink(path);
	EXPECT_EQ(flock(lock_fds[0], LOCK_EX), 0);
	stuck_in(waits_for_lock, true);
	close(lock_fds[0]);
	close(lock_fds[1]);
	lock_fds[0] = lock_fds[1] = -1;
}

/* What the thread that was in vfork() had under way in the ring waits for it: so no I/O here. docs/scheduling.md */
static void in_vfork(void)
{
	stuck_in(vforks, false);
}

static void *kills_later(void *arg)
{
	usleep(30000);
	mote_exit_pid(*(mote_pid *)arg, MOTE_REASON_KILL);
	return NULL;
}

static void receives(void *arg)
{
	char c;

	mote_net_recv((int)(intptr_t)arg, &c, 1, MOTE_FOREVER);
}

/* The scheduler itself must not depend on the thread that it has left: others can still wake it. */
static void woken_from_outside(void)
{
	struct stuck stuck = { vforks, mote_self() };
	int fds[2];
	struct mote_msg *m;
	pthread_t foreign;
	mote_pid p, waits;
	mote_ref ref, ref2;

	EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	mote_fd_adopt(fds[0]);
	p = mote_spawn_monitor(gets_stuck, &stuck, &ref);
	EXPECT(got_type(STUCK));
	while (test_info(p).state != MOTE_DETACHED)
		mote_sleep(mote_in_us(100));
	waits = mote_spawn_monitor(receives, (void *)(intptr_t)fds[0], &ref2);
	pthread_create(&foreign, NULL, kills_later, &waits);
	/* With no timer that would have it look. */
	m = mote_receive_ref(ref2, MOTE_FOREVER);
	EXPECT(is_down(m, ref2, waits, MOTE_KILLED));
	mote_msg_free(m);
	EXPECT_EQ(test_info(p).state, MOTE_DETACHED);
	let_go();
	EXPECT(got_type(BACK));
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	pthread_join(foreign, NULL);
	close(fds[1]);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static int uffd;

static void *resolve_fault(void *unused)
{
	static char page[4096] __attribute__((aligned(4096))) = { 7 };
	struct uffdio_copy copy = { .src = (uintptr_t)page, .len = 4096 };
	struct uffd_msg msg;

	(void)unused;
	if (read(uffd, &msg, sizeof(msg)) != sizeof(msg))
		return NULL;
	while (!atomic_load(&release))
		usleep(1000);
	copy.dst = msg.arg.pagefault.address & ~4095ull;
	ioctl(uffd, UFFDIO_COPY, &copy);
	return NULL;
}

static void page_fault(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread;

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api)) {
		selftest_skip("no userfaultfd here");
		return;
	}
	slow_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	area.range.start = (uintptr_t)slow_page;
	area.range.len = 4096;
	EXPECT_EQ(ioctl(uffd, UFFDIO_REGISTER, &area), 0);
	pthread_create(&thread, NULL, resolve_fault, NULL);
	stuck_in(faults, true);
	pthread_join(thread, NULL);
	munmap(slow_page, 4096);
	close(uffd);
}

/* Each loses its scheduler, or waits for a spare that another has given back. */
static void naps(void *arg)
{
	struct timespec t = { .tv_nsec = 30000000 };

	nanosleep(&t, NULL);
	mote_send(*(mote_pid *)arg, BACK, NULL, 0);
}

static void thousands(void)
{
	int n = (int)test_crowd((unsigned long)(2000 * (test_factor() < 1 ? test_factor() : 1)));
	mote_pid self = mote_self();

	for (int i = 0; i < n; i++)
		EXPECT(mote_pid_valid(mote_spawn(naps, &self)));
	for (int i = 0; i < n; i++) {
		if (!EXPECT(got_type(BACK)))
			return;
	}
	test_note("%d naps: %llu schedulers handed over, %llu denied, %u workers", n,
		  (unsigned long long)runtime_info().handovers, (unsigned long long)runtime_info().handovers_denied,
		  runtime_info().workers);
	/* all are home again, or on their way */
	while (mote_process_next(MOTE_NOBODY).serial && runtime_info().processes > 1)
		mote_sleep(mote_in_ms(1));
	EXPECT(runtime_info().workers <= runtime_info().schedulers + 8);
}

static void computes_until_released(void *arg)
{
	(void)arg;
	computes();
}

/* A foreign thread: processes get no scheduler until one of the stuck has ended. */
static void *release_when_denied(void *arg)
{
	struct mote_runtime_info *info = arg;

	do {
		usleep(1000);
		*info = runtime_info();
	} while (!info->handovers_denied);
	usleep(50000);
	*info = runtime_info();
	atomic_store(&release, true);
	return NULL;
}

static void bound(void)
{
	mote_ref refs[4];
	mote_pid p[4];
	struct mote_runtime_info info;
	pthread_t foreign;

	/* A scheduler and two spares: the fourth that computes has nobody to hand over to. */
	atomic_store(&release, false);
	for (int i = 0; i < 4; i++)
		p[i] = mote_spawn_monitor(computes_until_released, NULL, &refs[i]);
	pthread_create(&foreign, NULL, release_when_denied, &info);
	mote_yield();
	for (int i = 0; i < 4; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	pthread_join(foreign, NULL);
	EXPECT_EQ(info.handovers_denied, 1);
	EXPECT_EQ(info.workers, 3);
	neighbours_go_on(3, -1);
}

/* A pinned process keeps its thread, whoever shares it. */
static void notes_thread(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	pid_t tid = gettid();

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		EXPECT_EQ(gettid(), tid);
		mote_send(boss, m->type, NULL, 0);
		mote_msg_free(m);
		EXPECT_EQ(gettid(), tid);
	}
}

static void pinned_hog(void *arg)
{
	pid_t tid = gettid();

	mote_send(*(mote_pid *)arg, STUCK, NULL, 0);
	computes();
	EXPECT_EQ(gettid(), tid);
	mote_yield();
	EXPECT_EQ(gettid(), tid);
}

/* Always queued when another is stuck. */
static void pinned_yields(void *arg)
{
	pid_t tid = gettid();

	(void)arg;
	for (;;) {
		mote_yield();
		EXPECT_EQ(gettid(), tid);
	}
}

static void pinned(void)
{
	mote_pid self = mote_self(), p = spawn_pinned(notes_thread, &self, 0, 0, NULL), hog;
	mote_pid yields = spawn_pinned(pinned_yields, NULL, 0, 0, NULL);
	mote_ref ref;

	for (unsigned long i = 0; i < test_rounds(20); i++) {
		atomic_store(&release, false);
		EXPECT(ping(p));
		hog = spawn_pinned(pinned_hog, &self, 0, MOTE_MONITOR, &ref);
		EXPECT(got_type(STUCK));
		/* A pinned neighbour waits for its thread; others do not. */
		mote_send(p, ROUND, NULL, 0);
		while (test_info(hog).state != MOTE_DETACHED)
			mote_sleep(mote_in_us(100));
		mote_sleep(mote_in_ms(2));
		EXPECT(!mote_receive_type(ROUND, MOTE_NOW));
		atomic_store(&release, true);
		EXPECT(got_type(ROUND));
		EXPECT(got_down(ref, hog, MOTE_NORMAL));
	}
	put_down(p);
	put_down(yields);
}

/*
 * One spare: it serves while the first worker is stuck, and gets stuck itself. When the first one is back the scheduler
 * goes on there, although the spare has not come back.
 */
static atomic_bool release_spare;

static void computes_on_spare(void *arg)
{
	mote_send(*(mote_pid *)arg, STUCK, NULL, 0);
	while (!atomic_load(&release_spare))
		;
}

static void first_worker_helps_out(void)
{
	mote_pid self = mote_self(), first, second;
	struct mote_runtime_info info;
	mote_ref refs[2];
	pthread_t foreign;

	atomic_store(&release, false);
	atomic_store(&release_spare, false);
	first = mote_spawn_monitor(computes_until_released, NULL, &refs[0]);
	while (test_info(first).state != MOTE_DETACHED)
		mote_sleep(mote_in_us(100));
	second = mote_spawn_monitor(computes_on_spare, &self, &refs[1]);
	pthread_create(&foreign, NULL, release_when_denied, &info);
	EXPECT(got_type(STUCK));
	EXPECT(got_down(refs[0], first, MOTE_NORMAL));
	EXPECT_EQ(test_info(second).state, MOTE_DETACHED);
	atomic_store(&release_spare, true);
	EXPECT(got_down(refs[1], second, MOTE_NORMAL));
	pthread_join(foreign, NULL);
	EXPECT(info.handovers_denied >= 1);
}

/* What foreign threads send belongs to no scheduler in particular; with all stuck, one must come for it. */
static void *sends_later(void *arg)
{
	usleep(30000);
	mote_send(*(mote_pid *)arg, GO, NULL, 0);
	return NULL;
}

static void foreign_message(void)
{
	mote_pid self = mote_self(), p[4];
	pthread_t foreign;
	mote_ref refs[4];

	atomic_store(&release, false);
	for (int i = 0; i < 4; i++)
		p[i] = mote_spawn_monitor(computes_until_released, NULL, &refs[i]);
	pthread_create(&foreign, NULL, sends_later, &self);
	EXPECT(got_type(GO));
	atomic_store(&release, true);
	for (int i = 0; i < 4; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	pthread_join(foreign, NULL);
}

/* Nothing waits but a completion, in the ring that nobody looks at. */
static void *writes_later(void *arg)
{
	usleep(30000);
	EXPECT_EQ(write(*(int *)arg, "x", 1), 1);
	return NULL;
}

static void foreign_bytes(void)
{
	pthread_t foreign;
	mote_ref ref;
	mote_pid p;
	int fds[2];
	char c;

	EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	mote_fd_adopt(fds[0]);
	atomic_store(&release, false);
	p = mote_spawn_monitor(computes_until_released, NULL, &ref);
	pthread_create(&foreign, NULL, writes_later, &fds[1]);
	EXPECT_EQ(mote_net_recv(fds[0], &c, 1, MOTE_FOREVER), 1);
	atomic_store(&release, true);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	pthread_join(foreign, NULL);
	close(fds[1]);
}

/* Sends in order, and gets stuck in the middle of it, also in the middle of what is held back for the receiver. */
static void streams(void *arg)
{
	uint64_t rng = test_seed(), now;

	for (uint32_t i = 0; i < 4000; i++) {
		mote_send(*(mote_pid *)arg, ROUND, &i, sizeof(i));
		if (!(i % 997)) {
			now = (uint64_t)mote_now().ns + 1000000 + test_random(&rng) % 4000000;
			while ((uint64_t)mote_now().ns < now)
				;
		}
	}
}

static void order(void)
{
	mote_pid self = mote_self();
	mote_ref ref;
	mote_pid p;

	for (unsigned long r = 0; r < test_rounds(5); r++) {
		p = mote_spawn_monitor(streams, &self, &ref);
		for (uint32_t i = 0; i < 4000; i++) {
			struct mote_msg *m = mote_receive_type(ROUND, PATIENCE);

			if (!EXPECT(m && *(const uint32_t *)m->data == i))
				return;
			mote_msg_free(m);
		}
		EXPECT(got_down(ref, p, MOTE_NORMAL));
	}
}

static void computes_and_checks(void *arg)
{
	mote_send(*(mote_pid *)arg, STUCK, NULL, 0);
	computes();
	mote_check();
	mote_send(*(mote_pid *)arg, BACK, NULL, 0);
}

/* An exit signal reaches it when it comes back; until then it is alive. */
static void killed_while_away(void)
{
	mote_pid self = mote_self(), p;
	mote_ref ref;

	atomic_store(&release, false);
	p = mote_spawn_monitor(computes_and_checks, &self, &ref);
	EXPECT(got_type(STUCK));
	while (test_info(p).state != MOTE_DETACHED)
		mote_sleep(mote_in_us(100));
	mote_exit_pid(p, MOTE_REASON_KILL);
	mote_sleep(mote_in_ms(5));
	EXPECT(mote_alive(p));
	EXPECT(mote_pid_equal(test_info(p).pid, p));
	atomic_store(&release, true);
	EXPECT(got_down(ref, p, MOTE_KILLED));
	EXPECT(mailbox_is_empty());
}

/* What needs no scheduler works without one. */
static void asks_itself(void *arg)
{
	struct stuck *stuck = arg;
	mote_pid self = mote_self();

	EXPECT(!mote_receive(MOTE_NOW));
	while (test_info(self).state != MOTE_DETACHED && !atomic_load(&release))
		;
	EXPECT(mote_in_process());
	EXPECT(mote_pid_equal(mote_self(), self));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	EXPECT(mote_pid_equal(mote_self(), self));
	mote_send(stuck->boss, BACK, NULL, 0);
	EXPECT_EQ(test_info(self).state, MOTE_RUNNING);
	EXPECT(mote_pid_equal(mote_self(), self));
}

static void without_scheduler(void)
{
	struct stuck stuck = { NULL, mote_self() };
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(asks_itself, &stuck, &ref);

	EXPECT(got_type(BACK));
	EXPECT(got_down(ref, p, MOTE_NORMAL));
}

/* All at once, at random: who computes, who sends, who sleeps. Every message counts. */
#define CREW 12

struct crew {
	mote_pid boss;
	uint64_t seed;
};

static void works_and_hogs(void *arg)
{
	struct crew *c = arg;
	uint64_t rng = c->seed, until;

	for (unsigned long i = 0; i < test_rounds(60); i++) {
		switch (test_random(&rng) % 4) {
		case 0:
			until = (uint64_t)mote_now().ns + test_random(&rng) % 4000000;
			while ((uint64_t)mote_now().ns < until)
				;
			break;
		case 1: {
			struct timespec t = { .tv_nsec = test_random(&rng) % 4000000 };

			nanosleep(&t, NULL);
			break;
		}
		case 2:
			mote_sleep(mote_in_us(test_random(&rng) % 2000));
			break;
		default:
			for (int k = 0; k < 50; k++)
				mote_free(mote_alloc(test_random(&rng) % 3000));
			break;
		}
		mote_send(c->boss, ROUND, NULL, 0);
	}
}

static void crew(void)
{
	static struct crew c[CREW];
	unsigned long n = test_rounds(60) * CREW;
	mote_ref refs[CREW];
	mote_pid p[CREW];

	for (int i = 0; i < CREW; i++) {
		c[i] = (struct crew){ mote_self(), test_seed() + (uint64_t)i * 77 };
		p[i] = mote_spawn_monitor(works_and_hogs, &c[i], &refs[i]);
	}
	for (unsigned long i = 0; i < n; i++) {
		struct mote_msg *m = mote_receive_type(ROUND, PATIENCE);

		if (!EXPECT(m))
			return;
		mote_msg_free(m);
	}
	for (int i = 0; i < CREW; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	test_note("%llu schedulers handed over", (unsigned long long)runtime_info().handovers);
}

static void stuck_at_the_end(void *arg)
{
	(void)arg;
	computes();
}

static void count_alive(mote_pid pid, const char *label, void *arg)
{
	(void)pid;
	(void)label;
	++*(int *)arg;
}

/* In a child, whose runtime is frozen by it. */
static void stop_names_it(void)
{
	pid_t pid = fork();
	int status, alive = 0;

	if (!pid) {
		atomic_store(&release, false);
		if (mote_start(SCHEDULERS(1)) || !mote_pid_valid(mote_spawn(stuck_at_the_end, NULL)) ||
		    !mote_pid_valid(mote_spawn(sink, NULL)))
			_exit(2);
		usleep(30000);
		_exit(mote_stop(mote_in_ms(100), count_alive, &alive) == 1 && alive == 1 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#define ONE (&(const struct mote_opts){ .size = sizeof(struct mote_opts), .schedulers = 1 })
#define FEW(n) (&(const struct mote_opts){ .size = sizeof(struct mote_opts), .schedulers = 1, .spares = (n) })

int main(void)
{
	pipe_fds[1] = lock_fds[0] = lock_fds[1] = -1;
	selftest_process_opts("an endless loop", endless_loop, ONE);
	selftest_process_opts("nanosleep", nanosleeping, ONE);
	selftest_process_opts("a blocking read", blocking_read, ONE);
	selftest_process_opts("an endless loop of short calls", short_calls, ONE);
	selftest_process_opts("flock", file_lock, ONE);
	selftest_process_opts("a slow page fault", page_fault, ONE);
	selftest_process_opts("vfork: messages and timers go on", in_vfork, ONE);
	selftest_process_opts("vfork: the scheduler can be woken from outside", woken_from_outside, ONE);
	selftest_process_opts("an endless loop, two schedulers", endless_loop, SCHEDULERS(2));
	selftest_process_opts("nanosleep, two schedulers", nanosleeping, SCHEDULERS(2));
	pipe_fds[1] = -1;
	selftest_process_opts("thousands at once", thousands, FEW(8));
	selftest_process_opts("at the bound neighbours wait, and that is counted", bound, FEW(2));
	selftest_process_opts("a pinned process keeps its thread", pinned, ONE);
	selftest_process_opts("a pinned process keeps its thread, two schedulers", pinned, SCHEDULERS(2));
	selftest_process_opts("the first worker helps out its spare", first_worker_helps_out, FEW(1));
	selftest_process_opts("a foreign thread's message while all are stuck", foreign_message, SCHEDULERS(2));
	selftest_process_opts("bytes that come while all are stuck", foreign_bytes, ONE);
	selftest_process_opts("order per pair", order, ONE);
	selftest_process_opts("order per pair, two schedulers", order, SCHEDULERS(2));
	selftest_process_opts("killed while away", killed_while_away, ONE);
	selftest_process_opts("calls that need no scheduler", without_scheduler, ONE);
	selftest_process_opts("all at once", crew, ONE);
	selftest_process_opts("all at once, two schedulers", crew, SCHEDULERS(2));
	selftest_case("mote_stop names who does not come back", stop_names_it);
	return selftest_done();
}
