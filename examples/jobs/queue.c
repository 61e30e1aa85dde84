/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the server does to jobs, each a transaction.
 */
#include "jobs.h"

#define BACKOFF_MAX_MS "86400000"	/* a day */

static void take_row(sqlite3_stmt *query, const char *queue, int64_t lease_until, struct out *out)
{
	size_t size = sqlite3_column_bytes(query, 5), space = job_space(size);
	struct job *job = (struct job *)(out->data + out->size);

	memset(job, 0, space);
	job->id = sqlite3_column_int64(query, 0);
	job->token = sqlite3_column_int64(query, 1);
	job->timeout_ms = sqlite3_column_int64(query, 2);
	job->attempt = sqlite3_column_int64(query, 3);
	job->max_attempts = sqlite3_column_int64(query, 4);
	job->lease_until = lease_until;
	job->size = size;
	snprintf(job->queue, sizeof(job->queue), "%s", queue);
	memcpy(job->command, sqlite3_column_blob(query, 5), size);
	out->size += space;
}

static int take(struct db *db, const void *in, struct out *out)
{
	const struct take *t = in;
	int64_t now = jobs_time_ms();

	/* One at a time, as long as the next one is sure to fit. */
	for (int64_t n = 0; n < t->demand && out->room - out->size >= job_space(COMMAND_MAX); n++) {
		size_t before = out->size;
		sqlite3_stmt *query = db_query(db,
			"UPDATE jobs SET state = 'executing', attempt = attempt + 1, token = token + 1,"
			" lease_until = ?1, owner = ?2, note = NULL WHERE id = (SELECT id FROM jobs"
			"  WHERE state = 'waiting' AND queue = ?3 AND run_at <= ?4 ORDER BY priority, run_at, id LIMIT 1)"
			" RETURNING id, token, timeout_ms, attempt, max_attempts, command",
			"itti", now + t->lease_ms, t->owner, t->queue, now);

		while (db_row(db, query))
			take_row(query, t->queue, now + t->lease_ms, out);
		if (out->size == before)
			break;
	}
	return 0;
}

static int renew(struct db *db, const void *in, struct out *out)
{
	const struct renew *r = in;
	int64_t until = jobs_time_ms() + r->lease_ms;

	memcpy(out->data, &until, sizeof(until));
	out->size = sizeof(until);
	return db_do(db, "UPDATE jobs SET lease_until = ? WHERE id = ? AND token = ? AND state = 'executing'", "iii",
		     until, r->id, r->token) ? 0 : -ENOENT;
}

/*
 * The pause is backoff * 2^(attempt - 1), a day at most, and by up to a quarter longer or shorter: what has failed
 * together is not to come back together.
 */
#define SETTLE	"state = CASE WHEN attempt >= max_attempts THEN 'dead' ELSE 'waiting' END,"		\
		" finished_at = CASE WHEN attempt >= max_attempts THEN ?1 END, owner = NULL, lease_until = NULL,"
#define PAUSE	"CAST(min(backoff_ms * (1 << min(attempt - 1, 30)), " BACKOFF_MAX_MS ")"			\
		" * (0.75 + abs(random() % 1000) / 2000.0) AS INTEGER)"

static int finish(struct db *db, const void *in, struct out *out)
{
	static const char *const how[] = {
		[JOB_DONE] = "UPDATE jobs SET state = 'completed', finished_at = ?1, owner = NULL, lease_until = NULL, note = ?2"
			     " WHERE id = ?3 AND token = ?4 AND state = 'executing'",
		[JOB_FAILED] = "UPDATE jobs SET " SETTLE " run_at = ?1 + " PAUSE ", note = ?2"
			       " WHERE id = ?3 AND token = ?4 AND state = 'executing'",
		/* As if it had not been taken. */
		[JOB_RETURNED] = "UPDATE jobs SET state = 'waiting', attempt = attempt - 1, run_at = ?1, owner = NULL,"
				 " lease_until = NULL, note = ?2 WHERE id = ?3 AND token = ?4 AND state = 'executing'",
	};
	const struct finish *f = in;

	(void)out;
	return db_do(db, how[f->how], "itii", jobs_time_ms(), f->note, f->id, f->token) ? 0 : -ENOENT;
}

static int reap(struct db *db, const void *in, struct out *out)
{
	int64_t n = db_do(db, "UPDATE jobs SET " SETTLE " run_at = ?1, note = 'its server was lost'"
			  " WHERE state = 'executing' AND lease_until < ?1", "i", jobs_time_ms());

	(void)in;
	memcpy(out->data, &n, sizeof(n));
	out->size = sizeof(n);
	return 0;
}

/* That a job is made and that its time has gone by is one transaction: each time gives one job, whoever is killed. */
static int cron_due(struct db *db, const void *in, struct out *out)
{
	int64_t now = jobs_time_ms(), n = 0;
	sqlite3_stmt *query = db_query(db, "SELECT id, schedule FROM cron WHERE next_at <= ?", "i", now);

	(void)in;
	while (db_row(db, query)) {
		int64_t id = sqlite3_column_int64(query, 0), next = -1;
		const char *schedule = (const char *)sqlite3_column_text(query, 1);
		struct cron c;

		db_do(db, "INSERT INTO jobs (queue, command, priority, max_attempts, backoff_ms, timeout_ms, run_at, inserted_at)"
		      " SELECT queue, command, priority, max_attempts, backoff_ms, timeout_ms, next_at, ?1 FROM cron WHERE id = ?2",
		      "ii", now, id);
		if (schedule && !cron_parse(&c, schedule))
			next = cron_next(&c, now / 1000);
		/* Never again: a date that is in no year to come. */
		db_do(db, "UPDATE cron SET next_at = ? WHERE id = ?", "ii", next < 0 ? INT64_MAX : next * 1000, id);
		n++;
	}
	memcpy(out->data, &n, sizeof(n));
	out->size = sizeof(n);
	return 0;
}

const struct op ops[] = {
	[JOBS_TAKE] = { "take", take },
	[JOBS_RENEW] = { "renew", renew },
	[JOBS_FINISH] = { "finish", finish },
	[JOBS_REAP] = { "reap", reap },
	[JOBS_CRON] = { "cron", cron_due },
};
