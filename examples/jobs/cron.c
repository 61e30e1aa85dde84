/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Schedules as crontab(5) has them: minute, hour, day of month, month, day of week; in UTC, so that no hour comes
 * twice or not at all.
 */
#include "jobs.h"

#include <strings.h>
#include <time.h>

static const char *const month_names[] = { "jan", "feb", "mar", "apr", "may", "jun",
					   "jul", "aug", "sep", "oct", "nov", "dec" };
static const char *const day_names[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" };

static const struct field {
	const char *name;
	int min, max;
	const char *const *names;
	int nr_names;
} fields[] = {
	{ "minute", 0, 59, NULL, 0 },
	{ "hour", 0, 23, NULL, 0 },
	{ "day of month", 1, 31, NULL, 0 },
	{ "month", 1, 12, month_names, 12 },
	{ "day of week", 0, 7, day_names, 7 },	/* 7: Sunday, too */
};

static const char *const shorts[][2] = {
	{ "@yearly", "0 0 1 1 *" }, { "@monthly", "0 0 1 * *" }, { "@weekly", "0 0 * * 0" },
	{ "@daily", "0 0 * * *" }, { "@hourly", "0 * * * *" },
};

static bool parse_value(const struct field *f, const char **p, int *value)
{
	for (int i = 0; i < f->nr_names; i++) {
		if (!strncasecmp(*p, f->names[i], 3)) {
			*value = f->min + i;
			*p += 3;
			return true;
		}
	}
	if (**p < '0' || **p > '9')
		return false;
	for (*value = 0; **p >= '0' && **p <= '9' && *value < 1000; ++*p)
		*value = *value * 10 + (**p - '0');
	return *value >= f->min && *value <= f->max;
}

/* A list of values, ranges and stars, each perhaps with a step. */
static bool parse_field(const struct field *f, const char **p, uint64_t *set)
{
	*set = 0;
	do {
		int from, to, step = 1;

		if (**p == '*') {
			++*p;
			from = f->min;
			to = f->max;
		} else {
			if (!parse_value(f, p, &from))
				return false;
			to = from;
			if (**p == '-' && (++*p, !parse_value(f, p, &to) || to < from))
				return false;
			if (**p == '/' && to == from)
				to = f->max;
		}
		if (**p == '/') {
			static const struct field steps = { "step", 1, 60, NULL, 0 };

			++*p;
			if (!parse_value(&steps, p, &step))
				return false;
		}
		for (int i = from; i <= to; i += step)
			*set |= UINT64_C(1) << i;
	} while (**p == ',' && ++*p);
	return **p == ' ' || **p == '\t' || !**p;
}

const char *cron_parse(struct cron *c, const char *text)
{
	static const char *const wrong[] = { "the minute is wrong", "the hour is wrong", "the day of the month is wrong",
					     "the month is wrong", "the day of the week is wrong" };
	uint64_t sets[5];
	bool star[5];

	for (size_t i = 0; i < sizeof(shorts) / sizeof(*shorts); i++)
		if (!strcmp(text, shorts[i][0]))
			text = shorts[i][1];
	for (int i = 0; i < 5; i++) {
		text += strspn(text, " \t");
		if (!*text)
			return "five fields are wanted: minute, hour, day of month, month, day of week";
		star[i] = *text == '*';
		if (!parse_field(&fields[i], &text, &sets[i]))
			return wrong[i];
	}
	if (text[strspn(text, " \t")])
		return "there is something behind the five fields";
	*c = (struct cron){
		.minutes = sets[0], .hours = sets[1], .days = sets[2], .months = sets[3],
		.weekdays = (sets[4] | sets[4] >> 7) & 0x7f, .any_day = star[2], .any_weekday = star[4],
	};
	return cron_next(c, 0) < 0 ? "there is no such day" : NULL;
}

/* If both days are given one of them is enough. */
static bool day_fits(const struct cron *c, const struct tm *tm)
{
	bool day = c->days >> tm->tm_mday & 1, weekday = c->weekdays >> tm->tm_wday & 1;

	return c->any_day || c->any_weekday ? day && weekday : day || weekday;
}

int64_t cron_next(const struct cron *c, int64_t after)
{
	time_t at = after - after % 60 + 60;
	struct tm tm;

	/* Leaps over months, days and hours that do not fit. February 29 is at most eight years away; 13 are plenty. */
	while (gmtime_r(&at, &tm) && at - after < INT64_C(13) * 366 * 86400) {
		if (!(c->months >> (tm.tm_mon + 1) & 1)) {
			tm = (struct tm){ .tm_year = tm.tm_year, .tm_mon = tm.tm_mon + 1, .tm_mday = 1 };
			at = timegm(&tm);
		} else if (!day_fits(c, &tm)) {
			at += 86400 - at % 86400;
		} else if (!(c->hours >> tm.tm_hour & 1)) {
			at += 3600 - at % 3600;
		} else if (!(c->minutes >> tm.tm_min & 1)) {
			at += 60;
		} else {
			return at;
		}
	}
	return -1;
}
