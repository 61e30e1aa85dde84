/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The example jobs from outside: what becomes of jobs that succeed, fail, hang, are cancelled; schedules, by a clock of
 * ours; command lines and databases that are wrong.
 */
#include "jobs_run.h"

static struct jobs j;

static void runs_jobs(void)
{
	pid_t server;
	long id;

	jobs_init(&j, "runs", jobs_program());
	id = jobs_enqueue(&j, "default -- sh -c 'echo \"$JOB_ID $JOB_ATTEMPT $*\" >>'$D/ran' ; echo fine' - a \"b  c\" ''");
	EXPECT_EQ(id, 1);
	EXPECT_EQ(jobs_enqueue(&j, "other -- true"), 2);
	EXPECT_EQ(jobs_enqueue(&j, "default --delay 1h -- true"), 3);
	EXPECT_EQ(jobs_enqueue(&j, "default --priority -1 -- true"), 4);
	server = jobs_serve(&j, "--queue default:1");
	EXPECT_LOG(&j, WAIT_FOR(jobs_in(&j, "completed") == 2));
	EXPECT_EQ(jobs_stop(server), 0);
	EXPECT(!strcmp(jobs_file(&j, "ran"), "1 1 a b  c \n"));
	EXPECT(strstr(jobs_run(&j, "show $D/db 1"), "exit status 0: fine"));
	EXPECT_EQ(jobs_in(&j, "waiting"), 2);
	/* One at a time, by priority. */
	EXPECT_LOG(&j, strstr(jobs_file(&j, "log"), "job 4,") < strstr(j.said, "job 1,"));
	jobs_run(&j, "prune $D/db 0s");
	EXPECT_EQ(atoi(j.said), 2);
	EXPECT_EQ(jobs_in(&j, ""), 2);
}

static void retries_and_buries(void)
{
	pid_t server;
	double at[4];
	char *p;

	jobs_init(&j, "retries", jobs_program());
	EXPECT_EQ(jobs_enqueue(&j, "default --attempts 4 --backoff 50ms -- "
			       "sh -c 'date +%%s.%%N >>'$D/ran' ; echo no; exit 3'"), 1);
	EXPECT_EQ(jobs_enqueue(&j, "default --attempts 1 -- /nowhere/to/be/found"), 2);
	EXPECT_EQ(jobs_enqueue(&j, "default --attempts 1 -- sh -c 'kill -SEGV $$'"), 3);
	EXPECT_EQ(jobs_enqueue(&j, "default --attempts 1 --timeout 100ms -- sh -c 'sleep 100 & wait'"), 4);
	EXPECT_EQ(jobs_enqueue(&j, "default --attempts 3 --backoff 10ms -- sh -c '[ $JOB_ATTEMPT = 3 ]'"), 5);
	server = jobs_serve(&j, "");
	EXPECT_LOG(&j, WAIT_FOR(jobs_in(&j, "dead") == 4 && jobs_in(&j, "completed") == 1));
	EXPECT(strstr(jobs_run(&j, "show $D/db 1"), "exit status 3: no"));
	EXPECT(strstr(jobs_run(&j, "show $D/db 2"), "exit status 127: /nowhere/to/be/found: "));
	EXPECT(strstr(jobs_run(&j, "show $D/db 3"), "signal 11"));
	EXPECT(strstr(jobs_run(&j, "show $D/db 4"), "longer than its timeout"));
	EXPECT(strstr(jobs_run(&j, "show $D/db 5"), "attempt      3\n"));
	EXPECT_EQ(count_lines(jobs_run(&j, "dead $D/db"), "dead"), 4);

	/* The pauses grow: 50, 100, 200 ms, each by up to a quarter shorter. They may be longer by any time. */
	EXPECT_EQ(jobs_lines(&j, "ran"), 4);
	p = j.said;
	for (int i = 0; i < 4; i++)
		at[i] = strtod(p, &p);
	EXPECT(at[1] - at[0] >= 0.037 && at[2] - at[1] >= 0.074 && at[3] - at[2] >= 0.149);

	/* Back to life, all of them, from the first attempt on. */
	jobs_run(&j, "retry $D/db 2");
	EXPECT_EQ(j.status, 0);
	EXPECT_LOG(&j, WAIT_FOR(count_lines(jobs_file(&j, "log"), "job 2,") == 2));
	jobs_run(&j, "retry $D/db dead");
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 8));
	EXPECT_EQ(jobs_stop(server), 0);
}

static void cancels(void)
{
	pid_t server;

	jobs_init(&j, "cancels", jobs_program());
	EXPECT_EQ(jobs_enqueue(&j, "default -- sh -c 'trap \"\" TERM; echo x >>'$D/ran'; sleep 100; sleep 100'"), 1);
	EXPECT_EQ(jobs_enqueue(&j, "none -- true"), 2);
	server = jobs_serve(&j, "--lease 400ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 1));
	jobs_run(&j, "cancel $D/db 1");
	EXPECT_EQ(j.status, 0);
	EXPECT_LOG(&j, WAIT_FOR(strstr(jobs_file(&j, "log"), "not ours any more")));
	jobs_run(&j, "cancel $D/db 2");
	EXPECT_EQ(jobs_in(&j, "cancelled"), 2);
	jobs_run(&j, "cancel $D/db 2");
	EXPECT_EQ(j.status, 1);
	EXPECT_EQ(jobs_stop(server), 0);
	EXPECT_EQ(jobs_lines(&j, "ran"), 1);
}

/* Told to stop, a server gives its jobs back; killed, its programs go with it, and the lease ends. */
static void servers_end(void)
{
	pid_t server, program;

	jobs_init(&j, "ends", jobs_program());
	EXPECT_EQ(jobs_enqueue(&j, "default --attempts 2 -- "
			       "sh -c 'echo $$ >>'$D/ran'; [ -e '$D/done' ] || exec sleep 100'"), 1);
	server = jobs_serve(&j, "--lease 400ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 1));
	program = atoi(j.said);
	EXPECT(!kill(program, 0));
	EXPECT_EQ(jobs_stop(server), 0);
	EXPECT(kill(program, 0));
	EXPECT(strstr(jobs_run(&j, "show $D/db 1"), "attempt      0\n"));
	EXPECT(strstr(j.said, "its server was stopped"));

	server = jobs_serve(&j, "--lease 400ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 2));
	program = atoi(strchr(j.said, '\n') + 1);
	jobs_kill(server);
	EXPECT(WAIT_FOR(kill(program, 0)));
	EXPECT_EQ(jobs_in(&j, "executing"), 1);
	/* The second of two attempts is the last one. */
	server = jobs_serve(&j, "--lease 400ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 3));
	jobs_kill(server);
	server = jobs_serve(&j, "--lease 400ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_in(&j, "dead") == 1));
	EXPECT(strstr(jobs_run(&j, "show $D/db 1"), "its server was lost"));
	EXPECT_EQ(jobs_stop(server), 0);
}

/* Whenever it is told to: nothing of its is left to wait for the end of a lease. */
static void stops_clean(void)
{
	jobs_init(&j, "stops", jobs_program());
	srand(getpid());
	for (int round = 0; round < 8; round++) {
		pid_t server;

		for (int i = 0; i < 4; i++)
			jobs_enqueue(&j, "default -- sleep 0.02");
		server = jobs_serve(&j, "--poll 5ms");
		sleep_ms(rand() % 60);
		EXPECT_EQ(jobs_stop(server), 0);
		EXPECT_EQ(jobs_in(&j, "executing"), 0);
	}
}

static void clock_set(long long ms)
{
	char path[256], other[260];
	FILE *file;

	snprintf(path, sizeof(path), "%s/clock", j.dir);
	snprintf(other, sizeof(other), "%s.new", path);
	file = fopen(other, "w");
	fprintf(file, "%lld", ms);
	fclose(file);
	rename(other, path);
}

static void schedules(void)
{
	pid_t server;

	jobs_init(&j, "schedules", jobs_steps_program());
	snprintf(j.environment, sizeof(j.environment), "JOBS_CLOCK=%s/clock", j.dir);
	clock_set(0);
	jobs_run(&j, "cron add $D/db '0 * * * *' default --attempts 1 -- sh -c 'echo x >>'$D/ran");
	EXPECT_EQ(atoi(j.said), 1);
	jobs_run(&j, "cron add $D/db '@yearly' default -- true");
	EXPECT_EQ(count_lines(jobs_run(&j, "cron list $D/db"), "default"), 2);
	server = jobs_serve(&j, "--lease 400ms");
	EXPECT_EQ(jobs_lines(&j, "ran"), 0);
	clock_set(3600 * 1000);
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 1));
	clock_set(2 * 3600 * 1000);
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 2));
	EXPECT_EQ(jobs_stop(server), 0);
	/* All hours of a day without a server are made up for by one. */
	clock_set(26 * 3600 * 1000);
	server = jobs_serve(&j, "--lease 400ms");
	EXPECT_LOG(&j, WAIT_FOR(jobs_lines(&j, "ran") == 3));
	EXPECT_LOG(&j, WAIT_FOR(jobs_in(&j, "completed") == 3));
	jobs_run(&j, "cron remove $D/db 1");
	clock_set(27 * 3600 * 1000 + 1);
	sleep_ms(300);
	EXPECT_EQ(jobs_stop(server), 0);
	EXPECT_EQ(jobs_in(&j, ""), 3);
}

static void wrong_commands(void)
{
	static const char *const wrong[] = {
		"", "nothing", "serve", "serve $D/db --queue", "serve $D/db --queue a:0", "serve $D/db --queue a --queue a",
		"serve $D/db --lease 5x", "serve $D/db --lease 1ms", "enqueue", "enqueue $D/db", "enqueue $D/db q",
		"enqueue $D/db q --", "enqueue $D/db q -- ''", "enqueue $D/db '' -- true", "enqueue $D/db a:b -- true",
		"enqueue $D/db q true", "enqueue $D/db q --attempts 0 -- true", "enqueue $D/db q --attempts 1x -- true",
		"enqueue $D/db q --delay -5s -- true", "enqueue $D/db q --color red -- true", "list", "list $D/db odd",
		"list $D/db dead more", "dead $D/db more", "show $D/db", "show $D/db x", "show $D/db 0", "retry $D/db",
		"cancel $D/db",
		"prune $D/db", "cron", "cron $D/db", "cron add $D/db", "cron add $D/db '* * * * *' q", "cron remove $D/db",
		"cron add $D/db '* * * *' q -- true", "cron add $D/db '60 * * * *' q -- true",
		"cron add $D/db '* * 30 2 *' q -- true", "cron add $D/db '* * * * * *' q -- true",
	};

	jobs_init(&j, "wrong", jobs_program());
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		jobs_run(&j, "%s", wrong[i]);
		if (!EXPECT(j.status == 2 && *j.said))
			printf("#   %s: %d\n", wrong[i], j.status);
	}
	jobs_run(&j, "list $D/db");
	EXPECT(j.status == 1 && strstr(j.said, "unable to open"));
	EXPECT_EQ(jobs_enqueue(&j, "q -- true"), 1);
	jobs_run(&j, "show $D/db 2");
	EXPECT(j.status == 1 && strstr(j.said, "none of that number"));
	jobs_run(&j, "cron remove $D/db 1");
	EXPECT_EQ(j.status, 1);
	EXPECT_EQ(jobs_in(&j, ""), 1);
}

/* Overwrites a part of the database. */
static void scribble(const char *text, long at)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/db", j.dir);
	file = fopen(path, "r+");
	fseek(file, at, SEEK_SET);
	for (int i = 0; i < 40; i++)
		fputs(text, file);
	fclose(file);
}

static void wrong_databases(void)
{
	jobs_init(&j, "damaged", jobs_program());
	EXPECT_EQ(jobs_enqueue(&j, "q -- true"), 1);
	/* The schema is in the first page; the jobs' own is the second. */
	scribble("not what was there. ", 4096);
	jobs_run(&j, "serve $D/db");
	EXPECT(j.status == 1 && (strstr(j.said, "damaged") || strstr(j.said, "malformed")));
	scribble("no database at all. ", 0);
	jobs_run(&j, "serve $D/db");
	EXPECT(j.status == 1 && strstr(j.said, "file is not a database"));
	jobs_enqueue(&j, "q -- true");
	EXPECT(j.status == 1 && strstr(j.said, "file is not a database"));
	jobs_run(&j, "serve $D");
	EXPECT(j.status == 1 && strstr(j.said, "unable to open"));
}

int main(void)
{
	program_needed(jobs_program());
	program_needed(jobs_steps_program());
	alarm(120);
	selftest_case("jobs are run, by queue and priority", runs_jobs);
	selftest_case("what fails is tried again, then a dead letter", retries_and_buries);
	selftest_case("jobs are cancelled while they run", cancels);
	selftest_case("a server that ends gives its jobs back", servers_end);
	selftest_case("a server that stops leaves nothing executing", stops_clean);
	selftest_case("schedules give one job for each time", schedules);
	selftest_case("wrong command lines are refused", wrong_commands);
	selftest_case("wrong databases are refused", wrong_databases);
	return selftest_done();
}
