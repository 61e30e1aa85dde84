/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Schedules of the example jobs: what is read, and when it is next.
 */
#include "selftest.h"

#if __has_include(<sqlite3.h>)
#include "../examples/jobs/cron.c"

/* "2026-11-22 23:00", UTC */
static int64_t at(const char *text)
{
	struct tm tm = { 0 };

	EXPECT(strptime(text, "%Y-%m-%d %H:%M", &tm));
	return timegm(&tm);
}

static void next_times(void)
{
	static const struct {
		const char *schedule, *after, *next;
	} rows[] = {
		{ "* * * * *", "2026-11-22 23:00", "2026-11-22 23:01" },
		{ "*/5 * * * *", "2026-11-22 23:00", "2026-11-22 23:05" },
		{ "*/5 * * * *", "2026-11-22 23:59", "2026-11-23 00:00" },
		{ "3-10/3 * * * *", "2026-11-22 23:06", "2026-11-22 23:09" },
		{ "3-10/3 * * * *", "2026-11-22 23:09", "2026-11-23 00:03" },
		{ "5/20 * * * *", "2026-11-22 23:05", "2026-11-22 23:25" },
		{ "1,7,30 6 * * *", "2026-11-22 06:07", "2026-11-22 06:30" },
		{ "0 9-17 * * mon-fri", "2026-11-20 17:00", "2026-11-23 09:00" },	/* over a weekend */
		{ "0 0 * * 7", "2026-11-23 00:00", "2026-11-29 00:00" },		/* 7 is Sunday, as 0 */
		{ "0 0 * * sun", "2026-11-23 00:00", "2026-11-29 00:00" },
		{ "0 0 1 * *", "2026-12-01 00:00", "2027-01-01 00:00" },
		{ "0 0 31 * *", "2026-11-01 00:00", "2026-12-31 00:00" },
		{ "0 0 29 2 *", "2026-11-22 00:00", "2028-02-29 00:00" },
		{ "0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00" },		/* 2100 has none */
		{ "0 0 13 * fri", "2026-11-22 00:00", "2026-11-27 00:00" },		/* one of both is enough */
		{ "0 0 */2 * fri", "2026-11-22 00:00", "2026-11-27 00:00" },		/* a star: both */
		{ "30 4 * JAN,Dec *", "2026-11-22 00:00", "2026-12-01 04:30" },
		{ "@hourly", "2026-11-22 22:59", "2026-11-22 23:00" },
		{ "@daily", "2026-11-22 00:00", "2026-11-23 00:00" },
		{ "@weekly", "2026-11-22 00:00", "2026-11-29 00:00" },
		{ "@monthly", "2026-12-31 23:59", "2027-01-01 00:00" },
		{ "@yearly", "2026-01-01 00:00", "2027-01-01 00:00" },
		{ "  0\t0  *  *  * ", "2026-11-22 12:00", "2026-11-23 00:00" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct cron c;
		int64_t next = cron_parse(&c, rows[i].schedule) ? -2 : cron_next(&c, at(rows[i].after));
		/* A minute is the same from its first second to its last. */
		int64_t late = next < 0 ? next : cron_next(&c, at(rows[i].after) + 59);

		if (!EXPECT(next == at(rows[i].next) && late == next))
			printf("#   %s after %s: %lld\n", rows[i].schedule, rows[i].after, (long long)next);
	}
}

static void wrong_ones(void)
{
	static const char *const wrong[] = {
		"", "*", "* * * *", "* * * * * *", "60 * * * *", "-1 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *",
		"* * * 0 *", "* * * 13 *", "* * * * 8", "5-3 * * * *", "*/0 * * * *", "*/ * * * *", "1, * * * *", ",1 * * * *",
		"a * * * *", "* * * foo *", "1- * * * *", "1.5 * * * *", "99999999999 * * * *", "0 0 30 2 *", "0 0 31 4,6,9,11 *",
		"@never", "@hourly x", "*1 * * * *",
	};
	struct cron c;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		if (!EXPECT(cron_parse(&c, wrong[i])))
			printf("#   '%s'\n", wrong[i]);
}

int main(void)
{
	selftest_case("the next time", next_times);
	selftest_case("wrong schedules are refused", wrong_ones);
	return selftest_done();
}
#else
int main(void)
{
	printf("TAP version 13\n1..0 # SKIP there is no sqlite3.h (libsqlite3-dev)\n");
	return 4;
}
#endif
