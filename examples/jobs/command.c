/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The command line: commands that look into the database, or change it, without a server.
 */
#include "jobs.h"

struct request {
	const char *path, *schedule, *queue, *state;
	char command[COMMAND_MAX];
	size_t size;
	int64_t attempts, backoff, timeout, delay, priority, id, age;
	int64_t result;			/* what there is to print, or -1 */
};

static void print_command(sqlite3_stmt *query, int column)
{
	const char *p = sqlite3_column_blob(query, column), *end = p + sqlite3_column_bytes(query, column);

	for (; p && p < end; p += strlen(p) + 1) {
		bool plain = *p && !p[strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,@%+")];

		putchar(' ');
		if (plain) {
			fputs(p, stdout);
			continue;
		}
		putchar('\'');
		for (const char *c = p; *c; c++)
			fputs(*c == '\'' ? "'\\''" : (char[]){ *c, 0 }, stdout);
		putchar('\'');
	}
	putchar('\n');
}

/* "in 5m", "2h ago" */
static const char *span_text(int64_t ms, char text[32])
{
	int64_t s = (ms < 0 ? -ms : ms) / 1000, n = s < 120 ? s : s < 7200 ? s / 60 : s < 172800 ? s / 3600 : s / 86400;
	const char *unit = s < 120 ? "s" : s < 7200 ? "m" : s < 172800 ? "h" : "d";

	snprintf(text, 32, ms > 0 ? "in %lld%s" : "%lld%s ago", (long long)n, unit);
	return text;
}

static int enqueue(struct db *db, const void *in, struct out *out)
{
	struct request *r = (struct request *)in;
	int64_t now = jobs_time_ms();

	(void)out;
	db_do(db, "INSERT INTO jobs (queue, command, priority, max_attempts, backoff_ms, timeout_ms, run_at, inserted_at)"
	      " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "tbiiiiii", r->queue, r->command, r->size, r->priority, r->attempts,
	      r->backoff, r->timeout, now + r->delay, now);
	r->result = sqlite3_last_insert_rowid(db->sql);
	return 0;
}

static int cron_add(struct db *db, const void *in, struct out *out)
{
	struct request *r = (struct request *)in;
	struct cron c;

	(void)out;
	cron_parse(&c, r->schedule);
	db_do(db, "INSERT INTO cron (schedule, queue, command, priority, max_attempts, backoff_ms, timeout_ms, next_at)"
	      " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "ttbiiiii", r->schedule, r->queue, r->command, r->size, r->priority,
	      r->attempts, r->backoff, r->timeout, cron_next(&c, jobs_time_ms() / 1000) * 1000);
	r->result = sqlite3_last_insert_rowid(db->sql);
	return 0;
}

static int cron_list(struct db *db, const void *in, struct out *out)
{
	sqlite3_stmt *query = db_query(db, "SELECT id, schedule, queue, next_at, command FROM cron ORDER BY id", "");
	char when[32];

	(void)in, (void)out;
	while (db_row(db, query)) {
		printf("%6lld  %-16s %-12s %-9s", sqlite3_column_int64(query, 0), sqlite3_column_text(query, 1),
		       sqlite3_column_text(query, 2), span_text(sqlite3_column_int64(query, 3) - jobs_time_ms(), when));
		print_command(query, 4);
	}
	return 0;
}

static int list(struct db *db, const void *in, struct out *out)
{
	const struct request *r = in;
	sqlite3_stmt *query = db_query(db, "SELECT id, state, queue, attempt, max_attempts,"
		" coalesce(finished_at, lease_until, run_at), command FROM jobs WHERE ?1 = '' OR state = ?1 ORDER BY id", "t",
		r->state);
	char when[32];

	(void)out;
	while (db_row(db, query)) {
		printf("%6lld  %-9s %-12s %2lld/%-2lld %-9s", sqlite3_column_int64(query, 0), sqlite3_column_text(query, 1),
		       sqlite3_column_text(query, 2), sqlite3_column_int64(query, 3), sqlite3_column_int64(query, 4),
		       span_text(sqlite3_column_int64(query, 5) - jobs_time_ms(), when));
		print_command(query, 6);
	}
	return 0;
}

static int show(struct db *db, const void *in, struct out *out)
{
	const struct request *r = in;
	sqlite3_stmt *query = db_query(db, "SELECT command, id, queue, state, priority, attempt, max_attempts, backoff_ms,"
		" timeout_ms, strftime('%Y-%m-%dT%H:%M:%fZ', inserted_at / 1000.0, 'unixepoch') AS inserted,"
		" strftime('%Y-%m-%dT%H:%M:%fZ', run_at / 1000.0, 'unixepoch') AS run,"
		" strftime('%Y-%m-%dT%H:%M:%fZ', finished_at / 1000.0, 'unixepoch') AS finished,"
		" strftime('%Y-%m-%dT%H:%M:%fZ', lease_until / 1000.0, 'unixepoch') AS lease, owner, note"
		" FROM jobs WHERE id = ?", "i", r->id);
	int found = 0;

	(void)out;
	while (db_row(db, query)) {
		found = 1;
		for (int i = 1; i < sqlite3_column_count(query); i++)
			if (sqlite3_column_type(query, i) != SQLITE_NULL)
				printf("%-12s %s\n", sqlite3_column_name(query, i), sqlite3_column_text(query, i));
		printf("%-12s", "command");
		print_command(query, 0);
	}
	return found ? 0 : -ENOENT;
}

static int stats(struct db *db, const void *in, struct out *out)
{
	sqlite3_stmt *query = db_query(db, "SELECT queue, sum(state = 'waiting'), sum(state = 'executing'),"
		" sum(state = 'completed'), sum(state = 'dead'), sum(state = 'cancelled'),"
		" max(0, ?1 - min(CASE WHEN state = 'waiting' THEN run_at END)) / 1000.0 FROM jobs GROUP BY queue", "i",
		jobs_time_ms());

	(void)in, (void)out;
	printf("%-12s %9s %9s %9s %9s %9s  %s\n", "queue", "waiting", "executing", "completed", "dead", "cancelled", "late");
	while (db_row(db, query)) {
		printf("%-12s", sqlite3_column_text(query, 0));
		for (int i = 1; i <= 5; i++)
			printf(" %9lld", sqlite3_column_int64(query, i));
		printf("  %.1fs\n", sqlite3_column_double(query, 6));
	}
	return 0;
}

/* One job, or with id 0 all dead letters; from the first attempt on. */
static int retry(struct db *db, const void *in, struct out *out)
{
	const struct request *r = in;

	(void)out;
	return db_do(db, "UPDATE jobs SET state = 'waiting', attempt = 0, run_at = ?1, finished_at = NULL"
		     " WHERE iif(?2, id = ?2 AND state IN ('completed', 'dead', 'cancelled', 'waiting'), state = 'dead')",
		     "ii", jobs_time_ms(), r->id) || !r->id ? 0 : -ENOENT;
}

/* A worker that has it notices when it renews its lease, and stops the program. */
static int cancel(struct db *db, const void *in, struct out *out)
{
	(void)out;
	return db_do(db, "UPDATE jobs SET state = 'cancelled', finished_at = ?, owner = NULL, lease_until = NULL"
		     " WHERE id = ? AND state IN ('waiting', 'executing')", "ii", jobs_time_ms(),
		     ((struct request *)in)->id) ? 0 : -ENOENT;
}

static int prune(struct db *db, const void *in, struct out *out)
{
	struct request *r = (struct request *)in;

	(void)out;
	r->result = db_do(db, "DELETE FROM jobs WHERE state IN ('completed', 'cancelled') AND finished_at < ?", "i",
			  jobs_time_ms() - r->age);
	return 0;
}

static int cron_remove(struct db *db, const void *in, struct out *out)
{
	(void)out;
	return db_do(db, "DELETE FROM cron WHERE id = ?", "i", ((struct request *)in)->id) ? 0 : -ENOENT;
}

static const struct command {
	const char *group;		/* a word before the name, or NULL */
	struct op op;
	const char *wants;		/* after DB; s schedule, q queue, o options and command, i id, d id or "dead", S state, a age */
	enum { LOOKS, CHANGES, CREATES } how;
} commands[] = {
	{ NULL, { "enqueue", enqueue }, "qo", CREATES },
	{ NULL, { "list", list }, "S", LOOKS },
	{ NULL, { "dead", list }, "D", LOOKS },
	{ NULL, { "stats", stats }, "", LOOKS },
	{ NULL, { "show", show }, "i", LOOKS },
	{ NULL, { "retry", retry }, "d", CHANGES },
	{ NULL, { "cancel", cancel }, "i", CHANGES },
	{ NULL, { "prune", prune }, "a", CHANGES },
	{ "cron", { "add", cron_add }, "sqo", CREATES },
	{ "cron", { "list", cron_list }, "", LOOKS },
	{ "cron", { "remove", cron_remove }, "i", CHANGES },
};

static struct request request = {
	.attempts = 20, .backoff = 15000, .state = "", .result = -1,
};

static bool parse_number(const char *text, int64_t min, int64_t max, int64_t *n)
{
	char *end;

	*n = strtoll(text, &end, 10);
	return end != text && !*end && *n >= min && *n <= max;
}

/* [OPTION]... -- COMMAND [ARGUMENT]... */
static bool parse_job(char **argv)
{
	for (; *argv && strcmp(*argv, "--"); argv += 2) {
		if (!argv[1])
			return false;
		if (!strcmp(*argv, "--attempts") && parse_number(argv[1], 1, 1000000, &request.attempts))
			continue;
		if (!strcmp(*argv, "--priority") && parse_number(argv[1], -1000000, 1000000, &request.priority))
			continue;
		if (!strcmp(*argv, "--backoff") && parse_span(argv[1], &request.backoff))
			continue;
		if (!strcmp(*argv, "--timeout") && parse_span(argv[1], &request.timeout))
			continue;
		if (!strcmp(*argv, "--delay") && parse_span(argv[1], &request.delay))
			continue;
		return false;
	}
	if (!*argv || !argv[1] || !*argv[1])
		return false;
	while (*++argv) {
		size_t size = strlen(*argv) + 1;

		if (size > sizeof(request.command) - request.size) {
			fprintf(stderr, "jobs: a command line of more than %d bytes\n", COMMAND_MAX);
			exit(2);
		}
		memcpy(request.command + request.size, *argv, size);
		request.size += size;
	}
	return true;
}

static bool parse_wanted(const struct command *c, char **argv)
{
	static const char *const states[] = { "waiting", "executing", "completed", "dead", "cancelled" };
	const char *error;
	struct cron cron;

	for (const char *want = c->wants; *want; want++) {
		if (*want == 'D') {
			request.state = "dead";
			continue;
		}
		if (!*argv)
			return *want == 'S';
		switch (*want) {
		case 's':
			error = cron_parse(&cron, request.schedule = *argv);
			if (error) {
				fprintf(stderr, "jobs: '%s': %s\n", *argv, error);
				exit(2);
			}
			break;
		case 'q':
			request.queue = *argv;
			if (!**argv || strlen(*argv) >= QUEUE_MAX || strchr(*argv, ':'))
				return false;
			break;
		case 'o':
			return parse_job(argv);
		case 'd':
			if (!strcmp(*argv, "dead"))
				break;
			/* fall through */
		case 'i':
			if (!parse_number(*argv, 1, INT64_MAX, &request.id))
				return false;
			break;
		case 'S':
			for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
				if (!strcmp(*argv, states[i]))
					request.state = states[i];
			if (!*request.state)
				return false;
			break;
		case 'a':
			if (!parse_span(*argv, &request.age))
				return false;
			break;
		}
		argv++;
	}
	return !*argv;
}

static int64_t execute(void *arg)
{
	const struct command *c = arg;
	struct db db = { 0 };
	int err = db_open(&db, request.path, c->how == CREATES);

	if (!err && c->how == LOOKS) {
		err = c->op.run(&db, &request, NULL);
		err = db.err ? db.err : err;
	} else if (!err) {
		err = db_transaction(&db, &c->op, &request, NULL);
	}
	if (err == -ENOENT)
		fprintf(stderr, "jobs: %s: there is none of that number that this could be done to\n", c->op.name);
	else if (err)
		fprintf(stderr, "jobs: %s: %s\n", request.path, db.text);
	else if (request.result >= 0)
		printf("%lld\n", (long long)request.result);
	db_close(&db);
	return err;
}

static void command_process(void *arg)
{
	int64_t err = -EAGAIN;

	mote_blocking(execute, arg, &err, MOTE_FOREVER);
	settings.status = err != 0;
}

int command_main(int argc, char **argv, const struct mote_opts *opts)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		const struct command *c = &commands[i];
		char **p = argv + 1;

		if (c->group && (argc < 2 || strcmp(*p++, c->group)))
			continue;
		if (!*p || strcmp(*p++, c->op.name))
			continue;
		request.path = *p;
		if (!*p || !parse_wanted(c, p + 1))
			return 2;
		return mote_run(command_process, (void *)c, opts) ? 1 : settings.status || fflush(stdout);
	}
	return 2;
}
