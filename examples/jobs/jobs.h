/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * jobs: background jobs, on mote. A job is a command line in an SQLite database; it is run until it ends with exit
 * status 0, again and again with growing pauses, or until its attempts are used up: then it is a dead letter.
 * docs/jobs.md says what is promised.
 *
 *   root (rest_for_one)            serve.c
 *    |- store                      store.c: owns the connection; every transaction by way of it (db.c, queue.c)
 *    |- reaper, cron               chore.c: leases that ran out; jobs that are due (cron.c)
 *    `- a queue (one_for_all), for each
 *        |- workers (dynamic)      worker.c: one process per job under way; its program is on a leash (leash.c)
 *        `- producer               producer.c: takes as many jobs as there are workers free
 *
 *              enqueue            take                    exit status 0
 *   (nothing) --------> waiting --------> executing ------------------------> completed
 *                          ^                  |  failed, or its lease ran out
 *                          |                  |  and attempts are left      last attempt
 *                          `--- after a pause-+-------------------------> dead
 *
 * Each arrow is one transaction. While a job is executing somebody has a lease on it, renewed by the worker. Whoever
 * dies, kill -9 and power cut included, renews nothing, and when the lease is over the reaper of any server puts the
 * job back. Each take gives a new token; what a worker says with an old one is void.
 */
#ifndef JOBS_H
#define JOBS_H

#include <errno.h>
#include <mote.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_MAX	64		/* bytes of a queue's name, with its end */
#define QUEUES_MAX	32
#define COMMAND_MAX	(96 << 10)	/* bytes of a command line: what exec takes, about */
#define NOTE_MAX	1000		/* bytes of a program's last words that are kept */
#define BUSY_MS		5000		/* so long others may have the database to themselves */

enum {					/* message types; the first ones are the store's operations, see ops[] */
	JOBS_TAKE, JOBS_RENEW, JOBS_FINISH, JOBS_REAP, JOBS_CRON, JOBS_OPS,
	JOBS_RUN, JOBS_TICK,
};

/* main.c */
struct settings {
	const char *path;
	int64_t lease_ms, poll_ms;
	struct queue {
		char name[QUEUE_MAX];
		int workers;
	} queues[QUEUES_MAX];
	int nr_queues;
	char owner[64];			/* who has the leases: for people */
	int status;			/* of the program */
};

extern struct settings settings;	/* constant once the runtime has started, but status */

void jobs_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool parse_span(const char *text, int64_t *ms);		/* "250ms", "90", "90s", "5m", "2h", "7d" */
/* Weak, so that a test can bring its own: the time, and a place to be killed at. */
int64_t jobs_time_ms(void);
void jobs_step(const char *operation, const char *when);

/* db.c: SQLite, on threads that may block: all of this is called by way of mote_blocking() */
struct db {
	sqlite3 *sql;
	int err;			/* the first error, -errno, since the transaction began */
	char text[200];			/* what SQLite says of it */
};

struct out {
	char *data;
	size_t size, room;
};

struct op {
	const char *name;
	int (*run)(struct db *db, const void *in, struct out *out);	/* 0, or -errno: nothing happened */
};

int db_open(struct db *db, const char *path, bool create);
int db_check(struct db *db);		/* looks at all of the file */
void db_close(struct db *db);
int db_transaction(struct db *db, const struct op *op, const void *in, struct out *out);
/* formats: i int64_t, t text, b const void * and size_t. Errors add up in db->err. */
sqlite3_stmt *db_query(struct db *db, const char *sql, const char *format, ...);
bool db_row(struct db *db, sqlite3_stmt *query);	/* false: that was the last one; query is gone */
int64_t db_do(struct db *db, const char *sql, const char *format, ...);		/* how many rows changed */

/* queue.c: what the server does to jobs */
struct take {				/* JOBS_TAKE: as many jobs as there are, one after another */
	char queue[QUEUE_MAX], owner[64];
	int64_t lease_ms, demand;
};

struct job {
	int64_t id, token, lease_until, timeout_ms, attempt, max_attempts;
	char queue[QUEUE_MAX];
	uint32_t size;			/* of what follows, padded to 8: the arguments, each with its end */
	char command[];
};

struct renew {				/* JOBS_RENEW: the end of the lease; -ENOENT: the job is not yours any more */
	int64_t id, token, lease_ms;
};

struct finish {				/* JOBS_FINISH; -ENOENT likewise */
	int64_t id, token;
	enum { JOB_DONE, JOB_FAILED, JOB_RETURNED } how;
	char note[NOTE_MAX + 100];
};

extern const struct op ops[];

static inline size_t job_space(size_t command)
{
	return (sizeof(struct job) + command + 7) & ~(size_t)7;
}

/* cron.c */
struct cron {				/* sets of bits */
	uint64_t minutes;
	uint32_t hours, days, months, weekdays;
	bool any_day, any_weekday;	/* a star: only the other one counts */
};

const char *cron_parse(struct cron *c, const char *text);	/* NULL, or what is wrong */
int64_t cron_next(const struct cron *c, int64_t after);		/* seconds since 1970, UTC; -1: never */

/* store.c, chore.c, producer.c, worker.c, serve.c */
extern const struct mote_server_ops *const store_ops, *const chore_ops, *const producer_ops;
extern const struct chore {
	const char *name;
	uint32_t op;
} reaper, cron;

/* 0; what the operation says; -ESRCH, -EPIPE, -ETIMEDOUT. *reply may be NULL. */
int store_call(uint32_t op, const void *in, size_t size, struct mote_msg **reply, mote_deadline deadline);
void workers_name(char *name, const struct queue *q);	/* QUEUE_MAX + 16 bytes */
void worker_main(void *arg);		/* runs the job that it is sent, JOBS_RUN */
void serve_main(void *arg);

/* leash.c: what stands between a worker and its program */
int leash_main(char **argv);

/* command.c: all other commands; 2: wrong */
int command_main(int argc, char **argv, const struct mote_opts *opts);

#endif
