// SPDX-License-Identifier: MIT OR GPL-2.0
/* MOTE_SEED: the same program and the same seed take the same steps, in any OS process. */
#include "proc.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static struct mote_runtime_info info(void)
{
	struct mote_runtime_info i = { .size = sizeof(i) };

	EXPECT_EQ(mote_runtime_info(&i), 0);
	return i;
}

/*
 * What the children run: messages, calls, timers, deaths, names, pinned processes, memory, and processes that are still
 * there when the first one ends. It tells what it saw, and the hash of the schedule, also that of the last cleanup.
 */
static uint64_t seen;

static void saw(uint64_t what)
{
	seen = (seen ^ what) * 0x100000001b3u;
}

static void worker(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 77 + 1;

	for (int i = 0; i < 30; i++) {
		struct mote_msg *m = mote_receive(mote_in_us(test_random(&seed) % 300));

		if (m && m->type == 1)
			mote_reply(mote_msg_from(m), 2, &i, sizeof(i));
		saw(m ? m->type * 1000u + (uintptr_t)arg : (uintptr_t)arg);
		mote_msg_free(m);
		mote_free(mote_alloc(test_random(&seed) % 3000));
		if (test_random(&seed) % 4 == 0)
			mote_yield();
	}
	if ((uintptr_t)arg % 3 == 0)
		mote_exit(mote_reason_error(EIO, "as planned"));
}

static void last_words(void *arg)
{
	struct mote_runtime_info i = { .size = sizeof(i) };

	(void)arg;
	mote_runtime_info(&i);
	printf("%016llx\n", (unsigned long long)i.schedule_hash);
}

static void survivor(void *arg)
{
	(void)arg;
	mote_defer(last_words, NULL);
	mote_trap_exit(true);
	while (mote_receive(mote_in_ms(1)))
		;
	for (int i = 0; i < 100; i++)
		mote_sleep(mote_in_us(50));
	sink(NULL);
}

static void workload(void *arg)
{
	mote_pid p[16];
	struct mote_msg *m;
	int ended = 0;

	(void)arg;
	for (uintptr_t i = 0; i < 3; i++)
		mote_spawn(survivor, NULL);
	for (uintptr_t i = 0; i < 16; i++) {
		mote_ref ref;

		p[i] = mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), .fn = worker,
			.arg = (void *)i, .flags = MOTE_MONITOR | (i % 5 ? 0 : MOTE_PINNED), .scheduler = (unsigned int)i,
			.priority = i % 7 ? MOTE_PRIORITY_NORMAL : MOTE_PRIORITY_LOW, .ref = &ref });
	}
	for (int i = 0; i < 400; i++) {
		if (mote_call(p[i % 16], 1, &i, sizeof(i), &m, mote_in_us(40)) == 0) {
			saw(*(uint32_t *)m->data);
			mote_msg_free(m);
		}
		mote_send(p[i * 7 % 16], 3, &i, sizeof(i));
	}
	while (ended < 16 && (m = mote_receive(PATIENCE))) {
		if (mote_msg_down(m))
			saw(mote_msg_down(m)->pid.slot), ended++;
		mote_msg_free(m);
	}
	if (ended != 16 || !info().replayable)
		printf("wrong\n");
	printf("%016llx %016llx %lld\n", (unsigned long long)seen, (unsigned long long)info().schedule_hash,
	       (long long)mote_now().ns);
}

/* What a child with that seed prints. */
static void child(uint64_t seed, unsigned int schedulers, char *said, size_t size)
{
	char command[128];
	size_t n;
	FILE *f;

	snprintf(command, sizeof(command), "MOTE_SEED=%llu MOTE_SCHEDULERS=%u exec /proc/%d/exe workload",
		 (unsigned long long)seed, schedulers, (int)getpid());
	f = popen(command, "re");
	if (!EXPECT(f))
		return;
	n = fread(said, 1, size - 1, f);
	said[n] = 0;
	EXPECT_EQ(pclose(f), 0);
	EXPECT(n > 20 && !strstr(said, "wrong"));
}

static const uint64_t seeds[] = { 0, 1, 2, 3, 4711, UINT64_MAX };

#define SEEDS (SANITIZED ? 3 : sizeof(seeds) / sizeof(seeds[0]))

static void same_seed(void)
{
	char once[512], again[512];

	for (unsigned int i = 0; i < SEEDS; i++) {
		for (unsigned int n = 1; n <= 5; n += SANITIZED ? 3 : 2) {
			child(seeds[i], n, once, sizeof(once));
			child(seeds[i], n, again, sizeof(again));
			if (!EXPECT(!strcmp(once, again)))
				test_note("seed %llu: %s%s", (unsigned long long)seeds[i], once, again);
		}
	}
}

static void other_seed(void)
{
	char said[sizeof(seeds) / sizeof(seeds[0])][512];

	for (unsigned int i = 0; i < SEEDS; i++) {
		child(seeds[i], 2, said[i], sizeof(said[i]));
		for (unsigned int j = 0; j < i; j++)
			EXPECT(strcmp(said[i], said[j]));
	}
}

static void nap(void *arg)
{
	(void)arg;
	mote_sleep(mote_in_ms(365ll * 86400 * 1000));
}

static void a_year(void *arg)
{
	mote_deadline began = mote_now();
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(nap, NULL, &ref);

	(void)arg;
	EXPECT(is_down(mote_receive_ref(ref, MOTE_FOREVER), ref, p, MOTE_NORMAL));
	EXPECT(mote_now().ns - began.ns >= 365ll * 86400 * 1000000000);
	EXPECT(info().replayable);
}

static void time_jumps(void)
{
	setenv("MOTE_SEED", "1", 1);
	EXPECT_EQ(mote_run(a_year, NULL, NULL), 0);
	unsetenv("MOTE_SEED");
}

/* Not atomic, as a bug would be. */
static int counter;

static void adds(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	int was = counter;

	mote_send(boss, 1, NULL, 0);
	counter = was + 1;
}

static void race(void *arg)
{
	mote_pid self = mote_self();
	mote_ref ref[2];

	counter = 0;
	for (int i = 0; i < 2; i++)
		mote_spawn_monitor(adds, &self, &ref[i]);
	for (int i = 0; i < 2; i++)
		mote_msg_free(mote_receive_ref(ref[i], PATIENCE));
	*(int *)arg = counter;
}

/* A bug that a few seeds meet, they meet again and again. */
static void finds_races(void)
{
	int met = 0, result, again, tries = SANITIZED ? 60 : 200;
	char seed[16];

	for (int i = 0; i < tries; i++) {
		snprintf(seed, sizeof(seed), "%d", i);
		setenv("MOTE_SEED", seed, 1);
		EXPECT_EQ(mote_run(race, &result, NULL), 0);
		EXPECT_EQ(mote_run(race, &again, NULL), 0);
		EXPECT_EQ(result, again);
		met += result == 1;
	}
	unsetenv("MOTE_SEED");
	test_note("%d of %d seeds met the race", met, tries);
	EXPECT(met > 0 && met < tries);
}

static void look(void *arg)
{
	*(struct mote_runtime_info *)arg = info();
}

static void environment(void)
{
	static const char *const bad[] = { "x", "-1", "1x", " 1", "18446744073709551616" };
	struct mote_runtime_info i;

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		setenv("MOTE_SEED", bad[k], 1);
		EXPECT_EQ(mote_run(look, &i, NULL), -EINVAL);
	}
	setenv("MOTE_SEED", "18446744073709551615", 1);
	EXPECT_EQ(mote_run(look, &i, NULL), 0);
	EXPECT(i.seeded && i.replayable && !i.spoiled_by && i.seed == UINT64_MAX && i.schedule_hash);
	setenv("MOTE_SEED", "0", 1);
	EXPECT_EQ(mote_run(look, &i, SCHEDULERS(3)), 0);
	EXPECT(i.seeded && i.seed == 0);
	EXPECT_EQ(i.schedulers, 3);
	setenv("MOTE_SEED", "", 1);
	EXPECT_EQ(mote_run(look, &i, NULL), 0);
	EXPECT(!i.seeded && !i.replayable && !i.spoiled_by && !i.seed && !i.schedule_hash);
	unsetenv("MOTE_SEED");
	EXPECT_EQ(mote_run(look, &i, NULL), 0);
	EXPECT(!i.seeded);
}

/* Everything takes part: none of what is there to be left to a seed is left out by all of them. */
static void takes_part(void *arg)
{
	struct mote_runtime_info *sum = arg, i;

	workload(NULL);
	i = info();
	sum->steals += i.steals;
	sum->handovers += i.handovers;
}

static void all_takes_part(void)
{
	struct mote_runtime_info sum = { .size = sizeof(sum) };
	int out = dup(STDOUT_FILENO);

	fflush(stdout);
	if (!EXPECT(freopen("/dev/null", "we", stdout)))
		return;
	for (int i = 0; i < 10; i++) {
		char seed[16];

		snprintf(seed, sizeof(seed), "%d", i);
		setenv("MOTE_SEED", seed, 1);
		mote_run(takes_part, &sum, SCHEDULERS(3));
	}
	unsetenv("MOTE_SEED");
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	close(out);
	test_note("%llu steals, %llu hand-overs", (unsigned long long)sum.steals, (unsigned long long)sum.handovers);
	EXPECT(sum.steals && sum.handovers);
}

/* What no seed decides. Each waits for it for much longer than it takes: if time jumped meanwhile, it would miss it. */
#define COMES 77

static void by_file(void)
{
	int fd = mote_file_open("/dev/null", 0, 0);

	EXPECT(fd >= 0);
	mote_fd_close(fd);
}

static int64_t dozes(void *arg)
{
	(void)arg;
	usleep(20000);
	return 5;
}

static void by_blocking(void)
{
	int64_t result = 0;

	EXPECT_EQ(mote_blocking(dozes, NULL, &result, PATIENCE), 0);
	EXPECT_EQ(result, 5);
}

static void *sends_late(void *arg)
{
	mote_pid *to = arg;

	usleep(20000);
	mote_send(*to, COMES, NULL, 0);
	return NULL;
}

static void by_thread(void)
{
	mote_pid self = mote_self();
	pthread_t t;

	EXPECT_EQ(pthread_create(&t, NULL, sends_late, &self), 0);
	EXPECT(got_type(COMES));
	pthread_join(t, NULL);
}

static void by_signal(void)
{
	struct mote_msg *m;

	EXPECT_EQ(mote_os_signal(SIGUSR1, true), 0);
	kill(getpid(), SIGUSR1);
	m = mote_receive_type(MOTE_MSG_OS_SIGNAL, PATIENCE);
	EXPECT(m);
	mote_msg_free(m);
}

static void by_child(void)
{
	struct mote_child child;

	EXPECT_EQ(mote_child_start(&child, (const char *[]){ "true", NULL }, NULL, NULL), 0);
}

static struct {
	const char *name;
	void (*fn)(void);
	const char *blamed;
} spoilers[] = {
	{ "a file", by_file, "I/O" },
	{ "mote_blocking", by_blocking, "mote_blocking()" },
	{ "a thread", by_thread, "thread" },
	{ "a signal", by_signal, "I/O" },
	{ "a child", by_child, "I/O" },
};

static int warnings;
static char warning[256];

static void hear(int level, const char *text, void *arg)
{
	(void)arg;
	if (level == MOTE_LOG_WARNING && strstr(text, "replay")) {
		warnings++;
		snprintf(warning, sizeof(warning), "%s", text);
	}
}

static int64_t real_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void spoil(void *arg)
{
	size_t i = (size_t)(uintptr_t)arg;
	int64_t began;

	EXPECT(info().replayable);
	spoilers[i].fn();
	EXPECT(info().seeded && !info().replayable);
	if (!EXPECT(info().spoiled_by && strstr(info().spoiled_by, spoilers[i].blamed)))
		test_note("%s: %s", spoilers[i].name, info().spoiled_by);
	/* It goes on in real time. */
	began = real_now();
	mote_sleep(mote_in_ms(5));
	EXPECT(real_now() - began >= 5000000);
}

static void says_so(void)
{
	struct mote_opts opts = { .size = sizeof(opts), .log = hear };

	setenv("MOTE_SEED", "1", 1);
	for (size_t i = 0; i < sizeof(spoilers) / sizeof(spoilers[0]); i++) {
		warnings = 0;
		EXPECT_EQ(mote_run(spoil, (void *)(uintptr_t)i, &opts), 0);
		EXPECT_EQ(warnings, 1);
		EXPECT(strstr(warning, spoilers[i].blamed));
	}
	unsetenv("MOTE_SEED");
}

static _Atomic bool answered;

static void wakes_main(void *arg)
{
	(void)arg;
	EXPECT(info().seeded && !info().replayable);
	EXPECT(strstr(info().spoiled_by, "mote_start"));
	EXPECT(got_type(COMES));
	mote_sleep(mote_in_ms(1));
	atomic_store(&answered, true);
}

static void embedded(void)
{
	mote_pid p;

	setenv("MOTE_SEED", "1", 1);
	EXPECT_EQ(mote_start(NULL), 0);
	p = mote_spawn(wakes_main, NULL);
	usleep(2000);
	mote_send(p, COMES, NULL, 0);
	while (!atomic_load(&answered))
		usleep(1000);
	EXPECT_EQ(mote_stop(PATIENCE, NULL, NULL), 0);
	unsetenv("MOTE_SEED");
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "workload"))
		return mote_run(workload, NULL, NULL) != 0;
	unsetenv("MOTE_SEED");
	selftest_case("the same seed: the same steps in another OS process", same_seed);
	selftest_case("another seed: other steps", other_seed);
	selftest_case("a year of sleep is over at once", time_jumps);
	selftest_case("a race that some seeds meet, they meet again", finds_races);
	selftest_case("MOTE_SEED, and what mote_runtime_info says", environment);
	selftest_case("steals and hand-overs take part", all_takes_part);
	selftest_case("what can not be replayed says so, and works", says_so);
	selftest_case("mote_start: works, and is never replayable", embedded);
	return selftest_done();
}
