/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kill -9 of whoever changes the database of the example jobs, at every named step and at random: no job is lost. A job
 * may be run twice, and that is counted; two servers that live do not run one twice.
 */
#include "jobs_run.h"

#define STEPS_MAX 64
#define AT_ONCE 6		/* scenarios */
#define JOBS 4

/* With a sanitizer each of the many programs takes long to start: a part of the steps, another one each time. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOW 1
#else
#define SLOW 0
#endif
#define ROUNDS (SLOW ? 30 : 60)

static int environment(struct jobs *j, const char *format, const char *more)
{
	int n = snprintf(j->environment, sizeof(j->environment), "JOBS_CLOCK=%s/clock ", j->dir);

	return snprintf(j->environment + n, sizeof(j->environment) - n, format, more);
}

static void clock_set(struct jobs *j, long long ms)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/clock", j->dir);
	file = fopen(path, "w");
	fprintf(file, "%lld", ms);
	fclose(file);
}

/* A server that is killed at that step, or has not come there when there is nothing left to do. */
static bool serve_until(struct jobs *j)
{
	pid_t server = jobs_serve(j, "--lease 500ms");
	double limit = seconds_now() + 20;
	int status;

	while (!child_ended(server, &status, 50)) {
		if (seconds_now() > limit || jobs_in(j, "completed") == JOBS + 1)
			return !jobs_stop(server);
	}
	return WIFSIGNALED(status);
}

/*
 * Commands and servers are killed at the step; before that one server is, with jobs under way, so that there is
 * something to put back. Then nobody is killed any more. Every job whose number was printed has been run, and the schedule's one.
 */
static bool survives(const char *step)
{
	static struct jobs j;
	char wanted[32];
	pid_t server;
	int made;
	bool good;

	jobs_init(&j, step, jobs_steps_program());
	clock_set(&j, 0);
	for (int i = 0; i < JOBS; i++) {
		environment(&j, strncmp(step, "enqueue", 7) || i % 2 ? "JOBS_DIE=%s" : "JOBS_DIE=none.%s", step);
		if (jobs_enqueue(&j, "default --backoff 10ms -- sh -c 'echo \"job $JOB_ID\" >>'$D/ran'; sleep 0.3'"))
			continue;
		/* Not acknowledged: it may be there, or not. */
		environment(&j, "%s", "");
		if (jobs_in(&j, "") == i)
			jobs_enqueue(&j, "default --backoff 10ms -- sh -c 'echo \"job $JOB_ID\" >>'$D/ran'; sleep 0.3'");
	}
	environment(&j, "JOBS_DIE=%s", step);
	jobs_run(&j, "cron add $D/db '0 * * * *' default -- sh -c 'echo \"cron $JOB_ID\" >>'$D/ran");
	environment(&j, "%s", "");
	if (!count_lines(jobs_run(&j, "cron list $D/db"), "default"))
		jobs_run(&j, "cron add $D/db '0 * * * *' default -- sh -c 'echo \"cron $JOB_ID\" >>'$D/ran");
	server = jobs_serve(&j, "--lease 500ms");
	good = WAIT_FOR(jobs_lines(&j, "ran") >= 2);
	jobs_kill(server);
	clock_set(&j, 3600 * 1000);
	environment(&j, "JOBS_DIE=%s", step);
	good &= serve_until(&j);
	environment(&j, "%s", "");
	server = jobs_serve(&j, "--lease 500ms");
	good &= WAIT_FOR(jobs_in(&j, "completed") >= JOBS + 1);
	good &= !jobs_stop(server);
	made = jobs_in(&j, "");
	good &= made == JOBS + 1 && jobs_in(&j, "completed") == made;
	jobs_file(&j, "ran");
	for (int i = 1; i <= made; i++) {
		snprintf(wanted, sizeof(wanted), " %d\n", i);
		good &= strstr(j.said, wanted) != NULL;
	}
	good &= count_lines(j.said, "cron") >= 1;
	if (!good) {
		printf("# killed at %s: %d jobs, ran:\n#   %s\n", step, made, j.said);
		jobs_run(&j, "list $D/db");
		printf("# %s\n", j.said);
		jobs_file(&j, "log");
		printf("# %s\n", j.said);
	}
	fflush(stdout);
	return good;
}

static int find_steps(char steps[][64])
{
	static struct jobs j;
	char *line, *rest;
	pid_t server;
	int n = 0;

	jobs_init(&j, "steps", jobs_steps_program());
	environment(&j, "JOBS_STEPS=%s/steps", j.dir);
	jobs_enqueue(&j, "default -- sleep 0.5");
	jobs_run(&j, "cron add $D/db '0 0 1 1 *' default -- true");
	server = jobs_serve(&j, "--lease 500ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_in(&j, "completed") == 1));
	EXPECT_EQ(jobs_stop(server), 0);
	jobs_file(&j, "steps");
	for (rest = j.said; (line = strsep(&rest, "\n")) && *line; ) {
		int i = 0;

		while (i < n && strcmp(steps[i], line))
			i++;
		if (i == n && n < STEPS_MAX)
			snprintf(steps[n++], sizeof(steps[0]), "%s", line);
	}
	return n;
}

static void killed_at_each_step(void)
{
	static char steps[STEPS_MAX][64];
	const char *rounds = getenv("MOTE_TEST_ROUNDS");
	int stride = rounds && atof(rounds) < 1 ? 1 / atof(rounds) : SLOW ? 4 : 1, killed = 0;
	int n = find_steps(steps), begun = getpid() % stride, status;

	/* create, enqueue, add; take, renew, finish, reap, cron: three each; and three of a worker. */
	EXPECT(n == 27);
	for (int under_way = 0; begun < n || under_way; under_way--) {
		for (; begun < n && under_way < AT_ONCE; begun += stride, under_way++, killed++) {
			fflush(stdout);
			if (!fork())
				_exit(!survives(steps[begun]));
		}
		if (!EXPECT(wait(&status) > 0))
			break;
		EXPECT_EQ(status, 0);
	}
	printf("# killed at %d steps of %d\n", killed, n);
}

/* Jobs come in all the while; two servers are killed at random. */
static void killed_at_random(void)
{
	static struct jobs j;
	pid_t server[2] = { 0 };
	int asked = 0, kills = 0, ran, lost = 0;
	char wanted[32];

	jobs_init(&j, "random", jobs_program());
	srand(getpid());
	for (int round = 0; round < ROUNDS; round++) {
		int victim = rand() % 4;

		if (jobs_enqueue(&j, "default --backoff 10ms --attempts 1000 -- sh -c 'echo $JOB_ID >>'$D/ran'; sleep 0.0%d'",
				 rand() % 10))
			asked++;
		if (victim < 2 && server[victim]) {
			jobs_kill(server[victim]);
			server[victim] = 0;
			kills++;
		}
		for (int i = 0; i < 2; i++)
			if (!server[i])
				server[i] = jobs_serve(&j, "--lease 1s");
		sleep_ms(rand() % 40);
	}
	EXPECT_EQ(asked, ROUNDS);
	EXPECT_LOG(&j, WAIT_FOR(jobs_in(&j, "completed") == asked));
	EXPECT_EQ(jobs_stop(server[0]), 0);
	EXPECT_EQ(jobs_stop(server[1]), 0);
	ran = jobs_lines(&j, "ran");
	for (int i = 1; i <= asked; i++) {
		bool found = false;

		snprintf(wanted, sizeof(wanted), "%d\n", i);
		for (const char *p = j.said; !found && (p = strstr(p, wanted)); p++)
			found = p == j.said || p[-1] == '\n';
		lost += !found;
	}
	EXPECT_EQ(lost, 0);
	printf("# %d jobs, %d kills: %d runs, %d lost\n", asked, kills, ran, lost);
	EXPECT(kills > ROUNDS / 12);
}

static void two_servers(void)
{
	static struct jobs j;
	pid_t server[2];

	jobs_init(&j, "two", jobs_program());
	for (int i = 0; i < 40; i++)
		jobs_enqueue(&j, "default -- sh -c 'echo $JOB_ID >>'$D/ran'; sleep 0.02'");
	for (int i = 0; i < 2; i++)
		server[i] = jobs_serve(&j, "--lease 60s");
	EXPECT_LOG(&j, WAIT_FOR(jobs_in(&j, "completed") == 40));
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(jobs_stop(server[i]), 0);
	/* Nobody was killed, and no lease ran out: exactly once. */
	EXPECT_EQ(jobs_lines(&j, "ran"), 40);
	EXPECT_EQ(count_lines(jobs_file(&j, "log"), "attempt 1 of 20: exit status 0"), 40);
}

static bool holds_lock(pid_t pid)
{
	FILE *f = fopen("/proc/locks", "re");
	char line[256];
	bool found = false;
	int holder;

	while (f && fgets(line, sizeof(line), f))
		found |= sscanf(line, "%*s POSIX %*s WRITE %d", &holder) == 1 && holder == pid;
	if (f)
		fclose(f);
	return found;
}

/* It stands still, and not in the middle of a transaction: nobody else could begin one. */
static void stand_still(pid_t pid)
{
	for (int i = 0; i < 100; i++) {
		kill(pid, SIGSTOP);
		sleep_ms(10);
		if (!holds_lock(pid))
			return;
		kill(pid, SIGCONT);
		sleep_ms(10);
	}
}

/* It stood still while its lease ran out, and somebody else has the job: what it says of it then is void. */
static void comes_too_late(void)
{
	static struct jobs j;
	pid_t late, other;

	jobs_init(&j, "late", jobs_program());
	EXPECT_EQ(jobs_enqueue(&j, "default --backoff 10ms -- sh -c 'cd '$D'; echo $JOB_ATTEMPT >>ran; "
			       "until [ -e go$JOB_ATTEMPT ]; do sleep 0.01; done; [ $JOB_ATTEMPT = 2 ]'"), 1);
	late = jobs_serve(&j, "--lease 500ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 1));
	stand_still(late);
	other = jobs_serve(&j, "--lease 500ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 2));
	close(open(temp_path("late/go1"), O_WRONLY | O_CREAT, 0644));
	sleep_ms(100);
	kill(late, SIGCONT);
	EXPECT_LOG(&j, WAIT_FOR(strstr(jobs_file(&j, "log"), "job 1, attempt 1 of 20")));
	EXPECT_EQ(jobs_in(&j, "executing"), 1);
	close(open(temp_path("late/go2"), O_WRONLY | O_CREAT, 0644));
	EXPECT_LOG(&j, WAIT_FOR(jobs_in(&j, "completed") == 1));
	EXPECT_EQ(jobs_stop(late), 0);
	EXPECT_EQ(jobs_stop(other), 0);
	EXPECT_EQ(jobs_lines(&j, "ran"), 2);
}

int main(void)
{
	program_needed(jobs_program());
	program_needed(jobs_steps_program());
	alarm(240);
	temp_path("");
	selftest_case("two servers run each job once", two_servers);
	selftest_case("a server that comes too late changes nothing", comes_too_late);
	selftest_case("kill -9 at random loses nothing", killed_at_random);
	selftest_case("kill -9 at each step loses nothing", killed_at_each_step);
	return selftest_done();
}
