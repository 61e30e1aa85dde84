/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/field.h: pairs of key and value, which logs and telemetry carry. An array of them ends with one whose key is
 * NULL:
 *
 *	MOTE_FIELDS(mote_field_text("user", name), mote_field_int("tries", 3))
 */
#ifndef MOTE_FIELD_H
#define MOTE_FIELD_H

#include <mote/base.h>

MOTE_BEGIN_DECLS

enum mote_field_kind { MOTE_FIELD_TEXT, MOTE_FIELD_INT, MOTE_FIELD_REAL, MOTE_FIELD_BOOL, MOTE_FIELD_PID,
		       MOTE_FIELD_POINTER };

/* Borrows key and text. */
struct mote_field {
	const char *key;
	int kind;			/* enum mote_field_kind */
	int reserved;			/* 0 */
	union {
		const char *text;	/* NULL is fine */
		int64_t integer;
		double real;
		bool boolean;
		mote_pid pid;
		void *pointer;		/* for handlers of the same program; printed as an address */
	} value;
};

/* Any thread. */
static inline struct mote_field mote_field_text(const char *key, const char *text)
{
	struct mote_field f = { key, MOTE_FIELD_TEXT, 0, { text } };

	return f;
}

static inline struct mote_field mote_field_int(const char *key, int64_t integer)
{
	struct mote_field f = { key, MOTE_FIELD_INT, 0, { NULL } };

	f.value.integer = integer;
	return f;
}

static inline struct mote_field mote_field_real(const char *key, double real)
{
	struct mote_field f = { key, MOTE_FIELD_REAL, 0, { NULL } };

	f.value.real = real;
	return f;
}

static inline struct mote_field mote_field_bool(const char *key, bool boolean)
{
	struct mote_field f = { key, MOTE_FIELD_BOOL, 0, { NULL } };

	f.value.boolean = boolean;
	return f;
}

static inline struct mote_field mote_field_pid(const char *key, mote_pid pid)
{
	struct mote_field f = { key, MOTE_FIELD_PID, 0, { NULL } };

	f.value.pid = pid;
	return f;
}

static inline struct mote_field mote_field_pointer(const char *key, void *pointer)
{
	struct mote_field f = { key, MOTE_FIELD_POINTER, 0, { NULL } };

	f.value.pointer = pointer;
	return f;
}

#ifndef __cplusplus
#define MOTE_FIELDS(...) ((const struct mote_field[]){ __VA_ARGS__, { 0 } })
#endif

/* The first with that key, or NULL. fields may be NULL. Any thread. */
MOTE_API const struct mote_field *mote_field_find(const struct mote_field *fields, const char *key);

MOTE_END_DECLS

#endif
