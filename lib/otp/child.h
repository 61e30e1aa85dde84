/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/child.h: the children of a supervisor, and what is done to one of them.
 *
 * All of it belongs to the supervisor's process, and lies in its heap. A kill may end the supervisor at any runtime
 * call in here, then nobody looks at it any more; a crash of a child's start function only where that is called.
 */
#ifndef OTP_CHILD_H
#define OTP_CHILD_H

#include "otp/restart.h"
#include "otp/spec.h"

enum child_state {
	CHILD_STOPPED,		/* to OTP its pid is `undefined` */
	CHILD_RUNNING,
	CHILD_RESTARTING,	/* a RETRY is on its way, or there will be one */
};

struct child {
	struct child *next, *prev;		/* in the order of start */
	struct child *key_next, *id_next;	/* in the chains of the tables */
	struct spec *spec;
	/* Running: its pid. Restarting: what RETRY says, the pid that it had or one that nobody ever has. */
	mote_pid key;
	struct failures failures;
	uint32_t number;			/* of a partition */
	uint8_t state;				/* enum child_state */
	bool waited;				/* restarting: the wait was for a failure that is counted already */
	bool judged;				/* stopped with all others: why it ended is known */
	bool off;				/* a partition beyond those in use */
};

struct table {
	uint32_t mask, used;			/* chains: mask + 1, if there are any */
	struct child **chains;
};

struct children {
	struct child *first, *last;
	size_t count, running, supervisors;
	struct table by_key, by_id;		/* by_id: of children that have one, unless anonymous */
	uint32_t keys;				/* made up so far */
	bool anonymous;				/* ids need not differ */
	bool quiet;				/* no progress reports */
	const char *name;			/* of the supervisor, for reports; or NULL */
	/* Of partitions: where their pids are shown, and what makes their arguments. */
	struct mote_partitions *partitions;
	void *(*with_arg)(void *arg, unsigned int partition);
};

/* children.c: all O(1), but children_add amortised */

/* The last one; takes the reference to spec, also when it fails. NULL: out of memory. */
struct child *children_add(struct children *all, struct spec *spec);
/* One that does not run, or no longer. */
void children_remove(struct children *all, struct child *c);
struct child *children_find_id(const struct children *all, const char *id);
struct child *children_find_key(const struct children *all, mote_pid key);
void child_set_running(struct children *all, struct child *c, mote_pid pid);
void child_set_stopped(struct children *all, struct child *c);
void child_set_restarting(struct children *all, struct child *c);

/* child.c */

/*
 * Starts one that does not run. 0; MOTE_IGNORE; -errno. *holder: of the name, with -EEXIST; else MOTE_NOBODY. *why:
 * given, may be NULL: the DOWN of one that ended instead.
 */
int child_start(struct children *all, struct child *c, mote_pid *holder, struct mote_msg **why);

/* Stops it, if it runs, in the way and the time that its specification says, and waits until it is gone. */
void child_stop(struct children *all, struct child *c);

/* Stops all at once; they are gone when it returns, from here, too. What else is in the mailbox is lost. */
void children_stop_together(struct children *all);

void child_report(const struct children *all, const struct child *c, int context, const struct mote_reason *why);

static inline bool child_is_temporary(const struct child *c)
{
	return c->spec->child.restart == MOTE_TEMPORARY;
}

#endif
