/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The database: WAL, and synchronous=FULL, so that a transaction that has ended has ended for good.
 */
#include "jobs.h"

#define APPLICATION_ID 1835691874	/* "mjob" */

static const char schema[] =
	"CREATE TABLE jobs ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" queue TEXT NOT NULL,"
	" command BLOB NOT NULL,"
	" state TEXT NOT NULL DEFAULT 'waiting'"
	"  CHECK (state IN ('waiting', 'executing', 'completed', 'dead', 'cancelled')),"
	" priority INTEGER NOT NULL DEFAULT 0,"
	" attempt INTEGER NOT NULL DEFAULT 0,"
	" max_attempts INTEGER NOT NULL,"
	" backoff_ms INTEGER NOT NULL,"
	" timeout_ms INTEGER NOT NULL,"
	" run_at INTEGER NOT NULL,"		/* times: milliseconds since 1970 */
	" inserted_at INTEGER NOT NULL,"
	" finished_at INTEGER,"
	" token INTEGER NOT NULL DEFAULT 0,"	/* one more with each take */
	" lease_until INTEGER,"
	" owner TEXT,"
	" note TEXT);"				/* of the latest attempt */
	"CREATE INDEX waiting ON jobs (queue, priority, run_at, id) WHERE state = 'waiting';"
	"CREATE INDEX executing ON jobs (lease_until) WHERE state = 'executing';"
	"CREATE TABLE cron ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" schedule TEXT NOT NULL,"
	" queue TEXT NOT NULL,"
	" command BLOB NOT NULL,"
	" priority INTEGER NOT NULL,"
	" max_attempts INTEGER NOT NULL,"
	" backoff_ms INTEGER NOT NULL,"
	" timeout_ms INTEGER NOT NULL,"
	" next_at INTEGER NOT NULL);"
	"PRAGMA application_id = 1835691874;";

static void note_error(struct db *db, int code)
{
	if (db->err || !code)
		return;
	db->err = code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? -EBADMSG : code == SQLITE_BUSY ? -EBUSY : -EIO;
	snprintf(db->text, sizeof(db->text), "%s", db->sql ? sqlite3_errmsg(db->sql) : sqlite3_errstr(code));
}

static sqlite3_stmt *query_bind(struct db *db, const char *sql, const char *format, va_list ap)
{
	sqlite3_stmt *query = NULL;
	int code = db->err ? SQLITE_OK : sqlite3_prepare_v2(db->sql, sql, -1, &query, NULL);
	const void *blob;

	for (int i = 1; query && !code && format[i - 1]; i++) {
		switch (format[i - 1]) {
		case 'i':
			code = sqlite3_bind_int64(query, i, va_arg(ap, int64_t));
			break;
		case 't':
			code = sqlite3_bind_text(query, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
			break;
		case 'b':
			blob = va_arg(ap, const void *);
			code = sqlite3_bind_blob64(query, i, blob, va_arg(ap, size_t), SQLITE_TRANSIENT);
			break;
		}
	}
	note_error(db, code);
	return query;
}

sqlite3_stmt *db_query(struct db *db, const char *sql, const char *format, ...)
{
	sqlite3_stmt *query;
	va_list ap;

	va_start(ap, format);
	query = query_bind(db, sql, format, ap);
	va_end(ap);
	return query;
}

bool db_row(struct db *db, sqlite3_stmt *query)
{
	int code = db->err ? SQLITE_DONE : sqlite3_step(query);

	if (code == SQLITE_ROW)
		return true;
	if (code != SQLITE_DONE)
		note_error(db, code);
	sqlite3_finalize(query);
	return false;
}

int64_t db_do(struct db *db, const char *sql, const char *format, ...)
{
	sqlite3_stmt *query;
	va_list ap;

	va_start(ap, format);
	query = query_bind(db, sql, format, ap);
	va_end(ap);
	while (db_row(db, query))
		;
	return db->err ? 0 : sqlite3_changes64(db->sql);
}

static int64_t number(struct db *db, const char *sql)
{
	sqlite3_stmt *query = db_query(db, sql, "");
	int64_t n = 0;

	while (db_row(db, query))
		n = sqlite3_column_int64(query, 0);
	return n;
}

int db_transaction(struct db *db, const struct op *op, const void *in, struct out *out)
{
	int err;

	db->err = 0;
	db_do(db, "BEGIN IMMEDIATE", "");
	jobs_step(op->name, "begin");
	err = db->err ? db->err : op->run(db, in, out);
	err = db->err ? db->err : err;
	jobs_step(op->name, "commit");
	if (!err) {
		db_do(db, "COMMIT", "");
		err = db->err;
	}
	if (err && !sqlite3_get_autocommit(db->sql))
		sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
	jobs_step(op->name, "committed");
	return err;
}

static int create(struct db *db, const void *in, struct out *out)
{
	(void)in, (void)out;
	/* Somebody else's is left alone. */
	if (!number(db, "SELECT count(*) FROM sqlite_schema") && !db->err)
		note_error(db, sqlite3_exec(db->sql, schema, NULL, NULL, NULL));
	return 0;
}

int db_open(struct db *db, const char *path, bool may_create)
{
	static const struct op op = { "create", create };
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (may_create ? SQLITE_OPEN_CREATE : 0);

	db->err = 0;
	note_error(db, sqlite3_open_v2(path, &db->sql, flags, NULL));
	if (db->err)
		return db->err;
	sqlite3_busy_timeout(db->sql, BUSY_MS);
	db_do(db, "PRAGMA synchronous = FULL", "");
	if (may_create && number(db, "PRAGMA application_id") != APPLICATION_ID && !db->err)
		db_transaction(db, &op, NULL, NULL);
	if (number(db, "PRAGMA application_id") != APPLICATION_ID && !db->err) {
		snprintf(db->text, sizeof(db->text), "a database, but not of jobs");
		db->err = -EBADMSG;
	}
	if (may_create)
		db_do(db, "PRAGMA journal_mode = WAL", "");
	return db->err;
}

int db_check(struct db *db)
{
	sqlite3_stmt *query;

	db->err = 0;
	query = db_query(db, "PRAGMA quick_check(1)", "");
	while (db_row(db, query)) {
		const char *text = (const char *)sqlite3_column_text(query, 0);

		if (!db->err && text && strcmp(text, "ok")) {
			snprintf(db->text, sizeof(db->text), "damaged: %s", text);
			db->err = -EBADMSG;
		}
	}
	return db->err;
}

void db_close(struct db *db)
{
	sqlite3_close(db->sql);
	db->sql = NULL;
}
