/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The commands on one key, as Redis has them. What goes to the log gives the same whenever it is read: points in time,
 * not spans; results, not fractions.
 */
#include "shard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define REPLY (&s->reply)
#define FLOAT_MAX 5120			/* characters of the largest, written out */

static const char not_integer[] = "value is not an integer or out of range";

static bool error(struct shard *s, const char *text)
{
	out_format(REPLY, "-ERR %s\r\n", text);
	return false;
}

static bool get_int(struct shard *s, const struct arg *a, int64_t *n)
{
	return parse_int(a->p, a->len, n) || error(s, not_integer);
}

/* A time of expiry: from seconds, and from a span, as `how` says. */
static bool get_time(struct shard *s, const struct arg *a, int how, int64_t least, int64_t *when)
{
	if (!get_int(s, a, when))
		return false;
	if (*when >= least && !(how & HOW_SECONDS && __builtin_mul_overflow(*when, (int64_t)1000, when)) &&
	    (how & HOW_ABSOLUTE || !__builtin_add_overflow(*when, shard_now(s), when)))
		return true;
	out_format(REPLY, "-ERR invalid expire time in '%s' command\r\n", s->cmd->name);
	return false;
}

static void reply_value(struct shard *s, struct entry *e)
{
	if (e)
		out_bulk(REPLY, entry_value(e), e->vlen);
	else
		out_text(REPLY, s->resp == 3 ? "_\r\n" : "$-1\r\n");
}

/* e: what shard_find_to_write() found. Its time of expiry stays. */
static struct entry *put(struct shard *s, struct entry *e, const struct arg *key, const char *p, uint32_t len)
{
	e = e ? shard_resize(s, e, len, len) : shard_insert(s, key, len);
	memcpy(entry_value(e), p, len);
	return e;
}

static void delete(struct shard *s, struct arg *key, struct entry *e)
{
	SHARD_LOG(s, ARG("DEL"), *key);
	shard_delete(s, e);
}

enum {
	SET_NX = 1, SET_XX = 2, SET_GET = 4, SET_KEEPTTL = 8, SET_EX = 16, SET_PX = 32, SET_EXAT = 64, SET_PXAT = 128,
	SET_TIME = SET_EX | SET_PX | SET_EXAT | SET_PXAT,
};

/* SET's options; *when: the time of expiry, 0 for none. */
static bool get_options(struct shard *s, struct arg *argv, int *flags, int64_t *when)
{
	static const struct { const char *name; int flag, not, how; } words[] = {
		{ "nx", SET_NX, SET_XX, 0 },
		{ "xx", SET_XX, SET_NX, 0 },
		{ "get", SET_GET, 0, 0 },
		{ "keepttl", SET_KEEPTTL, SET_TIME, 0 },
		{ "ex", SET_EX, SET_KEEPTTL | (SET_TIME & ~SET_EX), HOW_SECONDS },
		{ "px", SET_PX, SET_KEEPTTL | (SET_TIME & ~SET_PX), 0 },
		{ "exat", SET_EXAT, SET_KEEPTTL | (SET_TIME & ~SET_EXAT), HOW_SECONDS | HOW_ABSOLUTE },
		{ "pxat", SET_PXAT, SET_KEEPTTL | (SET_TIME & ~SET_PXAT), HOW_ABSOLUTE },
		{ 0 },
	};
	struct arg *value = NULL;
	int how = 0;

	for (int i = 3, w; i < s->argc; i++) {
		for (w = 0; words[w].name && !arg_is(&argv[i], words[w].name); w++)
			;
		if (!words[w].name || *flags & words[w].not || (words[w].flag & SET_TIME && i + 1 == s->argc))
			return error(s, "syntax error");
		*flags |= words[w].flag;
		if (words[w].flag & SET_TIME) {
			value = &argv[++i];
			how = words[w].how;
		}
	}
	return !value || get_time(s, value, how, 1, when);
}

void string_set(struct shard *s, struct arg *argv)
{
	struct arg *key = &argv[1], *value = &argv[2];
	struct entry *e;
	int64_t when = 0;
	char text[24];
	int flags = 0;

	if (s->argc > 3 && !get_options(s, argv, &flags, &when))
		return;
	e = shard_find_to_write(s, key);
	if (flags & SET_GET)
		reply_value(s, e);
	if ((flags & SET_NX && e) || (flags & SET_XX && !e)) {
		if (!(flags & SET_GET))
			reply_value(s, NULL);
		return;
	}
	if (when)
		SHARD_LOG(s, ARG("SET"), *key, *value, ARG("PXAT"), { text, print_int(text, when) });
	else if (flags & SET_KEEPTTL)
		SHARD_LOG(s, ARG("SET"), *key, *value, ARG("KEEPTTL"));
	else
		SHARD_LOG(s, ARG("SET"), *key, *value);
	e = put(s, e, key, value->p, value->len);
	if (!(flags & SET_KEEPTTL) && (when || e->expires))
		shard_expire(s, e, when);
	if (!(flags & SET_GET))
		out_text(REPLY, "+OK\r\n");
}

void string_get(struct shard *s, struct arg *argv)
{
	reply_value(s, shard_find(s, &argv[1]));
}

void string_getdel(struct shard *s, struct arg *argv)
{
	struct entry *e = shard_find_to_write(s, &argv[1]);

	reply_value(s, e);
	if (e)
		delete(s, &argv[1], e);
}

/* INCR, DECR, INCRBY and DECRBY: how is the sign. */
void string_add(struct shard *s, struct arg *argv)
{
	int64_t n = 0, by = 1;
	struct entry *e;
	char text[24];

	if (s->argc == 3 && !get_int(s, &argv[2], &by))
		return;
	e = shard_find_to_write(s, &argv[1]);
	if (s->cmd->how < 0 && by == INT64_MIN) {
		error(s, "decrement would overflow");
	} else if (e && !parse_int(entry_value(e), e->vlen, &n)) {
		error(s, not_integer);
	} else if (__builtin_add_overflow(n, by * s->cmd->how, &n)) {
		error(s, "increment or decrement would overflow");
	} else {
		shard_log(s, argv, s->argc);
		put(s, e, &argv[1], text, print_int(text, n));
		out_number(REPLY, ':', n);
	}
}

static bool parse_float(const char *p, size_t len, long double *f)
{
	char text[FLOAT_MAX], *end;

	if (!len || len >= sizeof(text) || strchr(" \t\n\v\f\r", *p))
		return false;
	memcpy(text, p, len);
	text[len] = 0;
	*f = strtold(text, &end);
	return end == text + len && !isnan(*f);
}

void string_incrbyfloat(struct shard *s, struct arg *argv)
{
	struct entry *e = shard_find_to_write(s, &argv[1]);
	long double f = 0, by;
	char text[FLOAT_MAX];
	int len;

	if ((e && !parse_float(entry_value(e), e->vlen, &f)) || !parse_float(argv[2].p, argv[2].len, &by)) {
		error(s, "value is not a valid float");
		return;
	}
	f += by;
	if (isnan(f) || isinf(f)) {
		error(s, "increment would produce NaN or Infinity");
		return;
	}
	len = snprintf(text, sizeof(text), "%.17Lf", f);
	while (text[len - 1] == '0')
		len--;
	len -= text[len - 1] == '.';
	if (len == 2 && !memcmp(text, "-0", 2))
		*text = '0', len = 1;
	SHARD_LOG(s, ARG("SET"), argv[1], { text, len }, ARG("KEEPTTL"));
	put(s, e, &argv[1], text, len);
	out_bulk(REPLY, text, len);
}

/* APPEND, and SETRANGE: writes at an offset, after zeros if need be. */
void string_overwrite(struct shard *s, struct arg *argv)
{
	const struct arg *value = &argv[s->argc - 1];
	struct entry *e;
	int64_t at, old, len;

	if (s->argc == 4 && !get_int(s, &argv[2], &at))
		return;
	e = shard_find_to_write(s, &argv[1]);
	old = e ? e->vlen : 0;
	at = s->argc == 4 ? at : old;
	len = at > BULK_MAX ? at : at + value->len > old ? at + value->len : old;
	if (at < 0) {
		error(s, "offset is out of range");
	} else if (s->argc == 4 && !value->len) {
		out_number(REPLY, ':', old);
	} else if (len > BULK_MAX) {
		error(s, "string exceeds maximum allowed size (proto-max-bulk-len)");
	} else {
		if (!e)
			e = shard_insert(s, &argv[1], len);
		else if (len > old)
			e = shard_resize(s, e, len, len > e->room && len < BULK_MAX / 2 ? 2 * len : len);
		if (at > old)
			memset(entry_value(e) + old, 0, at - old);
		shard_log(s, argv, s->argc);
		memcpy(entry_value(e) + at, value->p, value->len);
		out_number(REPLY, ':', len);
	}
}

void string_strlen(struct shard *s, struct arg *argv)
{
	struct entry *e = shard_find(s, &argv[1]);

	out_number(REPLY, ':', e ? e->vlen : 0);
}

void string_getrange(struct shard *s, struct arg *argv)
{
	int64_t from, to, len;
	struct entry *e;

	if (!get_int(s, &argv[2], &from) || !get_int(s, &argv[3], &to))
		return;
	e = shard_find(s, &argv[1]);
	len = e ? e->vlen : 0;
	if (from < 0 && to < 0 && from > to)
		len = 0;
	from = from >= 0 ? from : from + len > 0 ? from + len : 0;
	to = to >= 0 ? to : to + len > 0 ? to + len : 0;
	to = to < len ? to : len - 1;
	if (from > to || !len)
		out_bulk(REPLY, "", 0);
	else
		out_bulk(REPLY, entry_value(e) + from, to - from + 1);
}

void key_del(struct shard *s, struct arg *argv)
{
	struct entry *e = shard_find_to_write(s, &argv[1]);

	if (e)
		delete(s, &argv[1], e);
	out_number(REPLY, ':', e != NULL);
}

void key_exists(struct shard *s, struct arg *argv)
{
	out_number(REPLY, ':', shard_find(s, &argv[1]) != NULL);
}

void key_type(struct shard *s, struct arg *argv)
{
	out_text(REPLY, shard_find(s, &argv[1]) ? "+string\r\n" : "+none\r\n");
}

enum { EXPIRE_NX = 1, EXPIRE_XX = 2, EXPIRE_GT = 4, EXPIRE_LT = 8 };

static bool get_expire_flags(struct shard *s, struct arg *argv, int *flags)
{
	static const char *const names[] = { "nx", "xx", "gt", "lt" };

	for (int i = 3, w; i < s->argc; i++) {
		for (w = 0; w < 4 && !arg_is(&argv[i], names[w]); w++)
			;
		if (w == 4) {
			out_format(REPLY, "-ERR Unsupported option %.*s\r\n", (int)argv[i].len, argv[i].p);
			return false;
		}
		*flags |= 1 << w;
	}
	if (*flags & EXPIRE_NX && *flags & ~EXPIRE_NX)
		return error(s, "NX and XX, GT or LT options at the same time are not compatible");
	return !(*flags & EXPIRE_GT && *flags & EXPIRE_LT) ||
	       error(s, "GT and LT options at the same time are not compatible");
}

/* EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT */
void key_expire(struct shard *s, struct arg *argv)
{
	struct entry *e;
	char text[24];
	int64_t when;
	int flags = 0;

	if (!get_expire_flags(s, argv, &flags) || !get_time(s, &argv[2], s->cmd->how, INT64_MIN, &when))
		return;
	e = shard_find_to_write(s, &argv[1]);
	if (!e || (flags & EXPIRE_NX && e->expires) || (flags & EXPIRE_XX && !e->expires) ||
	    (flags & EXPIRE_GT && (!e->expires || when <= e->expires)) ||
	    (flags & EXPIRE_LT && e->expires && when >= e->expires)) {
		out_text(REPLY, ":0\r\n");
		return;
	}
	if (!s->loading && when <= shard_now(s)) {
		delete(s, &argv[1], e);
	} else {
		SHARD_LOG(s, ARG("PEXPIREAT"), argv[1], { text, print_int(text, when) });
		shard_expire(s, e, when);
	}
	out_text(REPLY, ":1\r\n");
}

/* TTL, PTTL, EXPIRETIME, PEXPIRETIME */
void key_ttl(struct shard *s, struct arg *argv)
{
	struct entry *e = shard_find(s, &argv[1]);
	int64_t left = e ? -1 : -2;

	if (e && e->expires) {
		left = e->expires - (s->cmd->how & HOW_ABSOLUTE ? 0 : shard_now(s));
		left = left < 0 ? 0 : left;
		left = s->cmd->how & HOW_SECONDS ? (left + 500) / 1000 : left;
	}
	out_number(REPLY, ':', left);
}

void key_persist(struct shard *s, struct arg *argv)
{
	struct entry *e = shard_find_to_write(s, &argv[1]);
	bool had = e && e->expires;

	if (had) {
		SHARD_LOG(s, ARG("PERSIST"), argv[1]);
		shard_expire(s, e, 0);
	}
	out_number(REPLY, ':', had);
}
