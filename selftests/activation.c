// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * With the module, a process that blocks outside the library loses its scheduler because the kernel says so,
 * and not to the overseer's looks: told apart by the counts, not by time. selftests/sched_handover.c has what
 * holds in both cases.
 */
#include <uapi/linux/mote.h>
#undef MOTE_FOREVER
#include "proc.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define STUCK	2
#define ROUND	3

#define ONE (&(const struct mote_opts){ .size = sizeof(struct mote_opts), .schedulers = 1 })
#define FEW(n) (&(const struct mote_opts){ .size = sizeof(struct mote_opts), .schedulers = 1, .spares = (n) })

static int pipe_fds[2];
static struct mote_runtime_info before;

static struct mote_runtime_info runtime_info(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info;
}

/* The overseer may come first now and then, on a machine that is busy with something else. */
static void expect_activations(unsigned long least)
{
	struct mote_runtime_info now = runtime_info();
	unsigned long handovers = now.handovers - before.handovers;
	unsigned long activations = now.activations - before.activations;

	test_note("%lu hand-overs, %lu of them activations; %llu in vain", handovers, activations,
		  (unsigned long long)now.activations_vain);
	EXPECT(handovers >= least);
	EXPECT(8 * activations >= handovers);
}

struct release {
	mote_pid reader;
	unsigned long rounds;
	_Atomic unsigned long taken;	/* bytes, by the reader */
};

/* On the reader's only scheduler it can't do this before the reader has lost it. */
static void lets_go(void *arg)
{
	struct release *r = arg;

	for (unsigned long i = 0; i < r->rounds; i++) {
		do
			EXPECT_EQ(mote_sleep(mote_in_us(200)), 0);
		while (runtime_info().schedulers == 1 && test_info(r->reader).state != MOTE_DETACHED);
		EXPECT_EQ(write(pipe_fds[1], "x", 1), 1);
		/* So that DETACHED means the next one. */
		while (atomic_load(&r->taken) == i)
			mote_sleep(mote_in_us(50));
	}
}

static void blocked_in_read(void)
{
	struct release release = { mote_self(), test_rounds(100), 0 };
	mote_ref ref;
	mote_pid p;
	char c;

	EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	before = runtime_info();
	p = mote_spawn_monitor(lets_go, &release, &ref);
	for (unsigned long i = 0; i < release.rounds; i++) {
		EXPECT_EQ(read(pipe_fds[0], &c, 1), 1);
		/* Here it gets a scheduler again. */
		mote_yield();
		atomic_store(&release.taken, i + 1);
	}
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	if (runtime_info().schedulers == 1)
		expect_activations(release.rounds);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void sleeps(void)
{
	struct timespec t = { .tv_nsec = 3000000 };

	nanosleep(&t, NULL);
}

/* Nothing waits when it blocks: bytes come later, to a ring that somebody has to look at. */
static void *writes_later(void *arg)
{
	usleep(1000);
	EXPECT_EQ(write(*(int *)arg, "x", 1), 1);
	return NULL;
}

static void echoes(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char c;

	while (mote_net_recv(fd, &c, 1, MOTE_FOREVER) == 1)
		EXPECT_EQ(write(pipe_fds[1], &c, 1), 1);
}

static void nothing_waits_yet(void)
{
	unsigned long rounds = test_rounds(50);
	pthread_t foreign;
	int fds[2];
	char c;

	EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	mote_fd_adopt(fds[0]);
	mote_spawn_link(echoes, (void *)(intptr_t)fds[0]);
	before = runtime_info();
	for (unsigned long i = 0; i < rounds; i++) {
		mote_sleep(mote_in_us(200));
		pthread_create(&foreign, NULL, writes_later, &fds[1]);
		EXPECT_EQ(read(pipe_fds[0], &c, 1), 1);
		pthread_join(foreign, NULL);
	}
	if (runtime_info().schedulers == 1)
		expect_activations(rounds / 2);
	close(fds[1]);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* Each runs on what the one before has left. */
static void blocks_in_turn(void *arg)
{
	char c;

	mote_send(*(mote_pid *)arg, STUCK, NULL, 0);
	EXPECT_EQ(read(pipe_fds[0], &c, 1), 1);
}

static void many_blocked(void)
{
	mote_pid self = mote_self();
	enum { N = 6 };
	mote_ref refs[N];
	mote_pid p[N];

	EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
	before = runtime_info();
	for (unsigned long r = 0; r < test_rounds(10); r++) {
		for (int i = 0; i < N; i++)
			p[i] = mote_spawn_monitor(blocks_in_turn, &self, &refs[i]);
		for (int i = 0; i < N; i++)
			EXPECT(got_type(STUCK));
		EXPECT_EQ(write(pipe_fds[1], "xxxxxx", N), N);
		for (int i = 0; i < N; i++)
			EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	}
	EXPECT(runtime_info().activations > before.activations);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* The only spare is the sentry, and the overseer needs it for an endless loop. */
static atomic_bool release;

static void computes(void *arg)
{
	mote_send(*(mote_pid *)arg, STUCK, NULL, 0);
	while (!atomic_load(&release))
		;
}

static void overseer_takes_sentry(void)
{
	mote_pid self = mote_self(), p;
	mote_ref ref;

	for (unsigned long i = 0; i < test_rounds(20); i++) {
		atomic_store(&release, false);
		p = mote_spawn_monitor(computes, &self, &ref);
		EXPECT(got_type(STUCK));
		while (test_info(p).state != MOTE_DETACHED)
			mote_sleep(mote_in_us(100));
		atomic_store(&release, true);
		EXPECT(got_down(ref, p, MOTE_NORMAL));
		sleeps();
	}
	EXPECT(runtime_info().handovers > runtime_info().activations);
	EXPECT_EQ(runtime_info().workers, 2);
}

/* Whoever waits with mote waits in the runtime. */
static void waits_with_mote(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char c;

	while (mote_net_recv(fd, &c, 1, MOTE_FOREVER) == 1)
		EXPECT_EQ(mote_net_send(fd, &c, 1, MOTE_FOREVER), 1);
}

static void pure_loads(void)
{
	mote_pid m = mote_spawn(mirror, NULL);
	int fds[2];
	char c = 'e';

	EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	mote_fd_adopt(fds[0]);
	mote_fd_adopt(fds[1]);
	mote_spawn_link(waits_with_mote, (void *)(intptr_t)fds[1]);
	for (unsigned long i = 0; i < test_rounds(500); i++) {
		EXPECT(ping(m));
		EXPECT_EQ(mote_sleep(mote_in_us(100)), 0);
		EXPECT_EQ(mote_net_send(fds[0], &c, 1, PATIENCE), 1);
		EXPECT_EQ(mote_net_recv(fds[0], &c, 1, PATIENCE), 1);
		mote_free(mote_alloc(3000));
	}
	put_down(m);
	EXPECT_EQ(runtime_info().activations, 0);
}

/* Everybody at once, at random. */
static void naps_or_pings(void *arg)
{
	uint64_t rng = (uintptr_t)arg * 77 + test_seed();
	mote_pid m = mote_spawn(mirror, NULL);

	for (unsigned long i = 0; i < test_rounds(50); i++) {
		struct timespec t = { .tv_nsec = test_random(&rng) % 1000000 };

		if (test_random(&rng) % 2)
			nanosleep(&t, NULL);
		else if (test_random(&rng) % 2)
			EXPECT(ping(m));
		else
			mote_sleep(mote_in_us(test_random(&rng) % 1000));
	}
	put_down(m);
}

static void crew(void)
{
	enum { N = 12 };
	mote_ref refs[N];
	mote_pid p[N];

	for (uintptr_t i = 0; i < N; i++)
		p[i] = mote_spawn_monitor(naps_or_pings, (void *)i, &refs[i]);
	for (int i = 0; i < N; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	EXPECT(runtime_info().activations > 0);
	test_note("%llu hand-overs, %llu activations, %llu in vain, %u workers",
		  (unsigned long long)runtime_info().handovers, (unsigned long long)runtime_info().activations,
		  (unsigned long long)runtime_info().activations_vain, runtime_info().workers);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void starts_and_stops(void)
{
	for (unsigned long i = 0; i < test_rounds(50); i++)
		EXPECT_EQ(mote_run(nothing, NULL, FEW(1 + i % 3)), 0);
}

/* The child has no runtime, and may start one. */
static void forks(void)
{
	int status;
	pid_t pid;

	if (SANITIZED) {
		selftest_skip("the sanitizers' own locks and threads do not survive a fork with threads running");
		return;
	}
	before = runtime_info();
	pid = fork();
	if (!pid)
		_exit(mote_run(nothing, NULL, ONE) ? 1 : 0);
	while (waitpid(pid, &status, 0) < 0)
		EXPECT_EQ(errno, EINTR);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	blocked_in_read();
}

static bool module_activates(void)
{
	struct mote_query query = { .size = sizeof(query) };
	const char *port = getenv("MOTE_PORT");
	int fd = open("/dev/mote", O_RDWR | O_CLOEXEC), err;

	if (fd < 0)
		return false;
	err = ioctl(fd, MOTE_IOC_QUERY, &query);
	close(fd);
	return !err && (query.features & MOTE_FEATURE_ACTIVATE) && !(port && !strcmp(port, "user"));
}

static void (*body)(void);

static void body_or_skip(void)
{
	if (test_skip_seeded("MOTE_SEED: chance decides who loses its scheduler"))
		return;
	if (!module_activates())
		selftest_skip("no module, or one that has no activations on this kernel");
	else
		body();
}

static void process_case(const char *name, void (*fn)(void), const struct mote_opts *opts)
{
	body = fn;
	selftest_process_opts(name, body_or_skip, opts);
}

int main(void)
{
	process_case("read() of a pipe", blocked_in_read, ONE);
	process_case("read() of a pipe, two schedulers", blocked_in_read, SCHEDULERS(2));
	process_case("nothing waits yet", nothing_waits_yet, ONE);
	process_case("several, one after the other", many_blocked, ONE);
	process_case("several, one after the other, two schedulers", many_blocked, SCHEDULERS(2));
	process_case("the overseer needs the sentry", overseer_takes_sentry, FEW(1));
	process_case("none for those that wait with mote", pure_loads, ONE);
	process_case("none for those that wait with mote, two schedulers", pure_loads, SCHEDULERS(2));
	process_case("all at once", crew, ONE);
	process_case("all at once, two schedulers", crew, SCHEDULERS(2));
	process_case("a fork", forks, ONE);
	body = starts_and_stops;
	selftest_case("starting and stopping", body_or_skip);
	return selftest_done();
}
