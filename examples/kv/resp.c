/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "kv.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

static int fail(struct parser *p, const char *what)
{
	snprintf(p->error, sizeof(p->error), "Protocol error: %s", what);
	return PARSE_ERROR;
}

static void add(struct parser *p, char *s, size_t len)
{
	if (p->nargs == p->args_room) {
		p->args_room = p->args_room * 2 + 64;
		p->args = kv_realloc(p->args, p->args_room * sizeof(*p->args));
	}
	p->args[p->nargs++] = (struct arg){ s, len };
}

/* Splits a line at its blanks; quotes and escapes only make words shorter, so they are rewritten in place. */
static int split(struct parser *p, char *s, char *end)
{
	static const char escapes[] = "nrtba", meant[] = "\n\r\t\b\a";

	for (;;) {
		char *word, *to, quote = 0;

		while (s < end && isspace((unsigned char)*s))
			s++;
		if (s == end)
			return PARSE_COMMAND;
		for (word = to = s; s < end && (quote || !isspace((unsigned char)*s)); s++) {
			if (quote == '"' && *s == '\\' && s + 1 < end) {
				const char *e = strchr(escapes, *++s);

				*to++ = *s && e ? meant[e - escapes] : *s;
			} else if (quote && *s == quote) {
				if (s + 1 < end && !isspace((unsigned char)s[1]))
					return fail(p, "unbalanced quotes in request");
				quote = 0;
			} else if (!quote && (*s == '"' || *s == '\'')) {
				quote = *s;
			} else {
				*to++ = *s;
			}
		}
		if (quote)
			return fail(p, "unbalanced quotes in request");
		add(p, word, to - word);
	}
}

static int parse_inline(struct parser *p)
{
	char *s = p->buf + p->pos, *nl = memchr(s, '\n', p->len - p->pos);

	if (!nl)
		return p->len - p->pos > INLINE_MAX ? fail(p, "too big inline request") : PARSE_MORE;
	p->pos = nl + 1 - p->buf;
	return split(p, s, nl > s && nl[-1] == '\r' ? nl - 1 : nl);
}

/* A line of one letter and a number. */
static int parse_length(struct parser *p, int64_t max, int64_t *n, const char *too_long, const char *invalid)
{
	char *s = p->buf + p->pos, *cr = memchr(s, '\r', p->len - p->pos);

	if (!cr || cr + 1 == p->buf + p->len)
		return p->len - p->pos > INLINE_MAX ? fail(p, too_long) : PARSE_MORE;
	if (!parse_int(s + 1, cr - s - 1, n) || *n > max || (p->strict && cr[1] != '\n'))
		return fail(p, invalid);
	p->pos = cr + 2 - p->buf;
	return PARSE_COMMAND;
}

int parser_next(struct parser *p)
{
	int r;

	if (!p->left) {
		p->start = p->pos;
		p->first = p->nargs;
		if (p->pos == p->len)
			return PARSE_MORE;
		if (p->buf[p->pos] != '*')
			return p->strict ? fail(p, "expected '*'") : parse_inline(p);
		r = parse_length(p, ARGS_MAX, &p->left, "too big mbulk count string", "invalid multibulk length");
		if (r != PARSE_COMMAND)
			return p->left = 0, r;
		p->left = p->left > 0 ? p->left : 0;
		p->bulk = -1;
	}
	for (; p->left; p->left--) {
		if (p->bulk < 0) {
			if (p->pos == p->len)
				return PARSE_MORE;
			if (p->buf[p->pos] != '$') {
				fail(p, "expected '$', got '?'");
				p->error[strlen(p->error) - 2] = p->buf[p->pos];
				return PARSE_ERROR;
			}
			r = parse_length(p, BULK_MAX, &p->bulk, "too big bulk count string", "invalid bulk length");
			if (r != PARSE_COMMAND)
				return p->bulk = -1, r;
			if (p->bulk < 0)
				return fail(p, "invalid bulk length");
		}
		if (p->len - p->pos < (size_t)p->bulk + 2)
			return PARSE_MORE;
		if (p->strict && memcmp(p->buf + p->pos + p->bulk, "\r\n", 2))
			return fail(p, "no end of line after a string");
		add(p, p->buf + p->pos, p->bulk);
		p->pos += p->bulk + 2;
		p->bulk = -1;
	}
	return PARSE_COMMAND;
}

bool parser_room(struct parser *p)
{
	uint32_t n = p->nargs - p->first;
	char *old = p->buf + p->start;

	if (n && p->first)
		memmove(p->args, p->args + p->first, n * sizeof(*p->args));
	if (p->start)
		memmove(p->buf, old, p->len - p->start);
	p->offset += p->start;
	p->len -= p->start;
	p->pos -= p->start;
	p->start = p->first = 0;
	p->nargs = n;
	if (p->len == p->room || (p->room > p->least && !p->len)) {
		p->room = p->len ? p->room * 2 : p->least;
		if (p->room > REQUEST_MAX)
			return false;
		p->buf = kv_realloc(p->buf, p->room);
	}
	for (uint32_t i = 0; i < n; i++)
		p->args[i].p = p->buf + (p->args[i].p - old);
	return true;
}

void out_grow(struct out *o, size_t n)
{
	size_t room = o->len + n > o->room * 2 ? o->len + n : o->room * 2;
	struct mote_msg *m = mote_msg_new(0, room < 192 ? 192 : room);

	if (!m)
		mote_exit(mote_reason_error(ENOMEM, "no memory for a reply"));
	if (o->len)
		memcpy(m->data, o->data, o->len);
	mote_msg_free(o->m);
	*o = (struct out){ m, m->data, o->len, m->size };
}

struct mote_msg *out_take(struct out *o, uint32_t type)
{
	struct mote_msg *m = o->m;

	m->type = type;
	m->size = o->len;
	*o = (struct out){ 0 };
	return m;
}

void out_drop(struct out *o)
{
	mote_msg_free(o->m);
	*o = (struct out){ 0 };
}

int print_int(char *buf, int64_t n)
{
	uint64_t u = n < 0 ? -(uint64_t)n : (uint64_t)n;
	char digits[20];
	int len = 0, i = 20;

	do
		digits[--i] = '0' + u % 10;
	while (u /= 10);
	if (n < 0)
		buf[len++] = '-';
	memcpy(buf + len, digits + i, 20 - i);
	return len + 20 - i;
}

void out_number(struct out *o, char kind, int64_t n)
{
	out_need(o, 24);
	o->data[o->len++] = kind;
	o->len += print_int(o->data + o->len, n);
	memcpy(o->data + o->len, "\r\n", 2);
	o->len += 2;
}

void out_bulk(struct out *o, const void *p, size_t n)
{
	out_need(o, n + 32);
	out_number(o, '$', n);
	memcpy(o->data + o->len, p, n);
	memcpy(o->data + o->len + n, "\r\n", 2);
	o->len += n + 2;
}

void out_format(struct out *o, const char *format, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, format);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, format, ap);
	out_need(o, n + 1);
	o->len += vsnprintf(o->data + o->len, n + 1, format, again);
	va_end(again);
	va_end(ap);
}

void out_command(struct out *o, const struct arg *args, unsigned int n)
{
	out_number(o, '*', n);
	for (unsigned int i = 0; i < n; i++)
		out_bulk(o, args[i].p, args[i].len);
}

bool parse_int(const char *p, size_t len, int64_t *n)
{
	bool negative = len && *p == '-';
	uint64_t u = 0, max = (uint64_t)INT64_MAX + negative;

	p += negative;
	len -= negative;
	if (!len || len > 19 || (*p == '0' && (len > 1 || negative)))
		return false;
	for (; len; len--, p++) {
		if (*p < '0' || *p > '9' || u > (max - (*p - '0')) / 10)
			return false;
		u = u * 10 + (*p - '0');
	}
	*n = negative ? (int64_t)-u : (int64_t)u;
	return true;
}

bool arg_is(const struct arg *a, const char *word)
{
	return a->len == strlen(word) && !strncasecmp(a->p, word, a->len);
}
