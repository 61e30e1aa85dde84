// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Events as text. What comes from outside can't forge: a line of the log is one line, and what is no printable text is
 * escaped.
 */
#include "core/process.h"
#include "otp/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct out {
	char *buf;
	size_t size, length;
};

static void put_bytes(struct out *o, const char *bytes, size_t n)
{
	if (o->length < o->size)
		memcpy(o->buf + o->length, bytes, n < o->size - o->length ? n : o->size - o->length);
	o->length += n;
}

static void put_string(struct out *o, const char *s)
{
	put_bytes(o, s, strlen(s));
}

__attribute__((format(printf, 2, 3)))
static void put(struct out *o, const char *format, ...)
{
	char text[128];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put_bytes(o, text, n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* What snprintf() would return, with the NUL in its place. */
static int out_end(struct out *o)
{
	if (o->size)
		o->buf[o->length < o->size ? o->length : o->size - 1] = 0;
	return (int)o->length;
}

static bool is_continuation(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* The length of the UTF-8 character at s, or 0: it is none. Shortest forms only, and no surrogates. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 :
		   s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

	if (!n || n > left)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if (!is_continuation(s[i]))
			return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* C1 controls, which terminals obey. */
static bool is_c1(const unsigned char *s, size_t n)
{
	return n == 2 && s[0] == 0xc2 && s[1] < 0xa0;
}

/* Line breaks become ", " and the indentation that follows goes, as in OTP's single_line. */
static void put_line_text(struct out *o, const char *text, size_t size, bool quoted)
{
	const unsigned char *s = (const unsigned char *)text;

	for (size_t i = 0, n; i < size; i += n) {
		n = utf8_length(s + i, size - i);
		if (s[i] == '\n') {
			n = 1;
			while (i + n < size && (s[i + n] == ' ' || s[i + n] == '\t' || s[i + n] == '\n'))
				n++;
			if (i + n < size)
				put_string(o, ", ");
		} else if (!n || s[i] < 0x20 || s[i] == 0x7f || is_c1(s + i, n)) {
			n = n ? n : 1;
			for (size_t k = 0; k < n; k++)
				put(o, "\\x%02x", s[i + k]);
		} else {
			if (quoted && (s[i] == '"' || s[i] == '\\'))
				put_string(o, "\\");
			put_bytes(o, text + i, n);
		}
	}
}

static bool is_plain_word(const char *s)
{
	return *s && !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/@+<>")];
}

static void put_value(struct out *o, const struct mote_field *f, bool json)
{
	switch (f->kind) {
	case MOTE_FIELD_INT:
		put(o, "%lld", (long long)f->value.integer);
		break;
	case MOTE_FIELD_REAL:
		/* JSON has no such numbers */
		if (json && !(f->value.real - f->value.real == 0))
			put_string(o, "null");
		else
			put(o, "%.17g", f->value.real);
		break;
	case MOTE_FIELD_BOOL:
		put_string(o, f->value.boolean ? "true" : "false");
		break;
	case MOTE_FIELD_PID:
		put(o, json ? "\"" MOTE_PID_FMT "\"" : MOTE_PID_FMT, MOTE_PID_ARG(f->value.pid));
		break;
	default:
		put(o, json ? "\"%p\"" : "%p", f->value.pointer);
	}
}

static void put_time(struct out *o, int64_t us)
{
	int64_t seconds = us / 1000000 - (us % 1000000 < 0), rest = us - seconds * 1000000;
	time_t t = (time_t)seconds;
	struct tm tm;

	gmtime_r(&t, &tm);
	put(o, "%04d-%02d-%02dT%02d:%02d:%02d.%06d+00:00", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
	    tm.tm_min, tm.tm_sec, (int)rest);
}

int mote_log_format_line(const struct mote_log_event *e, char *buf, size_t size, void *arg)
{
	struct out o = { .buf = buf, .size = size };

	(void)arg;
	put_time(&o, e->time_us);
	put(&o, " %s: ", mote_log_level_name(e->level));
	put_line_text(&o, e->text, e->text_size, false);
	if (mote_pid_valid(e->pid))
		put(&o, " pid=" MOTE_PID_FMT, MOTE_PID_ARG(e->pid));
	for (const struct mote_field *f = e->fields; f && f->key; f++) {
		put_string(&o, " ");
		put_line_text(&o, f->key, strlen(f->key), false);
		put_string(&o, "=");
		if (f->kind != MOTE_FIELD_TEXT) {
			put_value(&o, f, false);
		} else if (f->value.text && is_plain_word(f->value.text)) {
			put_string(&o, f->value.text);
		} else if (f->value.text) {
			put_string(&o, "\"");
			put_line_text(&o, f->value.text, strlen(f->value.text), true);
			put_string(&o, "\"");
		}
	}
	put_string(&o, "\n");
	return out_end(&o);
}

static void put_json_text(struct out *o, const char *text, size_t size)
{
	const unsigned char *s = (const unsigned char *)text;

	put_string(o, "\"");
	for (size_t i = 0, n; i < size; i += n) {
		n = utf8_length(s + i, size - i);
		if (!n) {
			n = 1;
			put_string(o, "\xef\xbf\xbd");	/* U+FFFD: JSON is UTF-8 */
		} else if (s[i] == '"' || s[i] == '\\') {
			put(o, "\\%c", s[i]);
		} else if (s[i] == '\n') {
			put_string(o, "\\n");
		} else if (s[i] < 0x20 || s[i] == 0x7f) {
			put(o, "\\u%04x", s[i]);
		} else {
			put_bytes(o, text + i, n);
		}
	}
	put_string(o, "\"");
}

static void put_json_key(struct out *o, const char *key)
{
	put_string(o, ",");
	put_json_text(o, key, strlen(key));
	put_string(o, ":");
}

int mote_log_format_json(const struct mote_log_event *e, char *buf, size_t size, void *arg)
{
	struct out o = { .buf = buf, .size = size };

	(void)arg;
	put_string(&o, "{\"time\":\"");
	put_time(&o, e->time_us);
	put(&o, "\",\"level\":\"%s\",\"text\":", mote_log_level_name(e->level));
	put_json_text(&o, e->text, e->text_size);
	if (mote_pid_valid(e->pid))
		put(&o, ",\"pid\":\"" MOTE_PID_FMT "\"", MOTE_PID_ARG(e->pid));
	if (e->site) {
		put_string(&o, ",\"file\":");
		put_json_text(&o, e->site->file, strlen(e->site->file));
		put(&o, ",\"line\":%d,\"function\":", e->site->line);
		put_json_text(&o, e->site->function, strlen(e->site->function));
	}
	/* Apart, so that no key of the program's hides one of these. */
	put_string(&o, ",\"metadata\":{");
	for (const struct mote_field *f = e->fields; f && f->key; f++) {
		if (f == e->fields) {
			put_json_text(&o, f->key, strlen(f->key));
			put_string(&o, ":");
		} else {
			put_json_key(&o, f->key);
		}
		if (f->kind != MOTE_FIELD_TEXT)
			put_value(&o, f, true);
		else if (f->value.text)
			put_json_text(&o, f->value.text, strlen(f->value.text));
		else
			put_string(&o, "null");
	}
	put_string(&o, "}}\n");
	return out_end(&o);
}
