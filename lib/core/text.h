/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/text.h: text in signal handlers, where snprintf() is not allowed. What does not fit is counted, not
 * written.
 */
#ifndef CORE_TEXT_H
#define CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	char *buf;
	size_t size;
	size_t length;			/* what a large enough buffer would hold */
};

static inline void text_char(struct text *t, char c)
{
	if (t->length + 1 < t->size)
		t->buf[t->length] = c;
	t->length++;
}

static inline void text_string(struct text *t, const char *s)
{
	while (*s)
		text_char(t, *s++);
}

static inline void text_number(struct text *t, uint64_t n)
{
	char digits[20];
	int i = 0;

	do
		digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i)
		text_char(t, digits[--i]);
}

static inline void text_hex(struct text *t, uint64_t n)
{
	int shift = 60;

	text_string(t, "0x");
	while (shift && !(n >> shift & 15))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		text_char(t, "0123456789abcdef"[n >> shift & 15]);
}

/* Terminates it. */
static inline size_t text_end(struct text *t)
{
	if (t->size)
		t->buf[t->length < t->size ? t->length : t->size - 1] = 0;
	return t->length;
}

#endif
