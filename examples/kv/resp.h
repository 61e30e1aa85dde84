/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * resp.h: Redis's protocol. A parser that goes on where it stopped, and a writer whose buffer is a message, so that
 * what was written can be sent (to a process or a socket) without a copy.
 */
#ifndef KV_RESP_H
#define KV_RESP_H

#include <mote.h>
#include <string.h>

#define BUFFER_SIZE	(16u << 10)	/* of an idle connection */
#define BULK_MAX	(512u << 20)
#define ARGS_MAX	(1u << 20)
#define INLINE_MAX	(64u << 10)
#define REQUEST_MAX	(1u << 30)	/* one request, all of it; what is announced costs nothing until it comes */

struct arg {
	char *p;
	uint32_t len;
};

#define ARG(literal) (struct arg){ (char *)(literal), sizeof(literal) - 1 }

struct parser {
	char *buf;
	size_t len, room, pos;
	size_t start;			/* of the command that is being parsed */
	uint64_t offset;		/* of buf[0] in the stream */
	struct arg *args;
	uint32_t nargs, args_room;
	uint32_t first;			/* its first argument */
	int64_t left, bulk;		/* arguments missing; length of the next, -1: not known yet */
	size_t least;			/* room to begin with */
	bool strict;			/* a file: every byte counts, nothing is inline */
	char error[64];
};

enum { PARSE_MORE, PARSE_COMMAND, PARSE_ERROR };

/* The next command: args[first..nargs), valid until parser_room() is called. Some have no arguments at all. */
int parser_next(struct parser *p);

/* Forgets what was parsed and makes room to receive at buf + len. False: the request is too big. */
bool parser_room(struct parser *p);

struct out {
	struct mote_msg *m;
	char *data;
	size_t len, room;
};

void out_grow(struct out *o, size_t n);

static inline void out_need(struct out *o, size_t n)
{
	if (o->room - o->len < n)
		out_grow(o, n);
}

static inline void out_put(struct out *o, const void *p, size_t n)
{
	out_need(o, n + 1);
	memcpy(o->data + o->len, p, n);
	o->len += n;
}

static inline void out_text(struct out *o, const char *text)
{
	out_put(o, text, strlen(text));
}

void out_number(struct out *o, char kind, int64_t n);		/* kind is the type's letter: ':', '*', '%'... */
void out_bulk(struct out *o, const void *p, size_t n);
void out_format(struct out *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
void out_command(struct out *o, const struct arg *args, unsigned int n);	/* as a client would send it */
struct mote_msg *out_take(struct out *o, uint32_t type);
void out_drop(struct out *o);

bool parse_int(const char *p, size_t len, int64_t *n);	/* strictly: no space, no plus, no leading zero */
int print_int(char *buf, int64_t n);			/* at most 20 bytes, not terminated */
bool arg_is(const struct arg *a, const char *word);	/* any case */
bool glob_match(const char *pattern, size_t plen, const char *s, size_t len);

#endif
