/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/supervisor.h: what supervisors of all kinds share. One server is all of them: supervisor.c, supervisor_call.c;
 * dynamic_supervisor.c and partition_supervisor.c are what they are asked by, and what is special of them.
 */
#ifndef OTP_SUPERVISOR_H
#define OTP_SUPERVISOR_H

#include "otp/child.h"

#include <mote/message.h>

enum supervisor_message {
	SUPERVISOR_START_CHILD = MOTE_MSG_SYSTEM + 0x200,	/* struct spec */
	SUPERVISOR_START_ARG,		/* the bytes for a child of the template */
	SUPERVISOR_TERMINATE_CHILD,	/* id with its NUL; so do the next two */
	SUPERVISOR_RESTART_CHILD,
	SUPERVISOR_DELETE_CHILD,
	SUPERVISOR_TERMINATE_PID,	/* mote_pid */
	SUPERVISOR_WHICH_CHILDREN,
	SUPERVISOR_WHICH_CHILD,		/* id with its NUL */
	SUPERVISOR_COUNT_CHILDREN,
	SUPERVISOR_GET_CHILDSPEC,	/* id with its NUL */
	SUPERVISOR_RESIZE,		/* uint32_t */
	SUPERVISOR_ANSWER,		/* struct supervisor_answer, then what was asked for */
	SUPERVISOR_RETRY,		/* to itself: mote_pid, the key of the child */
	SUPERVISOR_RUN,			/* to a child: struct run of child.c */
};

struct supervisor_answer {
	int32_t err;
	uint32_t count;			/* of what follows */
	mote_pid pid;
};

/* Of WHICH_CHILDREN and WHICH_CHILD; the id follows, with its NUL, if id_size. */
struct supervisor_entry {
	mote_pid pid;
	uint32_t id_size;
	uint8_t type, restarting;
	uint16_t zero;
};

/*
 * What a supervisor is started with. Its starter may be killed before it begins: init gets it in one piece with the
 * name, the extra bytes, and the specifications, as struct spec.
 */
struct supervisor_boot {
	enum { SUPERVISOR_FIXED, SUPERVISOR_DYNAMIC, SUPERVISOR_PARTITION } kind;
	/*
	 * Of all kinds, as far as they have them. children: all; or the template, or none; or that of each partition.
	 */
	struct mote_supervisor_opts opts;
	size_t max_children;				/* dynamic */
	const void *extra;				/* likewise */
	size_t extra_size;
	unsigned int partitions;			/* partition */
	void *(*with_arg)(void *arg, unsigned int partition);
	size_t name_at, extra_at, specs_at;		/* from its own beginning */
};

struct supervisor {
	struct children children;
	struct intensity intensity;
	struct mote_backoff backoff;			/* first_ms 0: none */
	int strategy, auto_shutdown;
	bool dynamic;
	size_t max_children;				/* 0: any number */
	/* Of a dynamic one. A template has the prefix in its own argument already. */
	struct spec *template;
	void *prefix;
	size_t prefix_size;
};

/* supervisor.c */
extern const struct mote_server_ops supervisor_ops;

/* supervisor_start.c: starts one of any kind. */
int supervisor_start(const struct supervisor_boot *boot, bool link, mote_pid *pid);

/*
 * By whoever asks: a call. Returns what the answer says, or why there is none; *answer (may be NULL) is given with 0
 * only.
 */
int supervisor_ask(mote_pid supervisor, uint32_t type, const void *data, size_t size, mote_pid *pid,
		   struct mote_msg **answer, mote_deadline deadline);

/* With a specification, which must be of this node. */
int supervisor_ask_start(mote_pid supervisor, const struct mote_child_spec *spec, bool dynamic, mote_pid *pid,
			 mote_deadline deadline);

/* In the supervisor: answers a request. */
void supervisor_call(void *state, struct mote_from from, const struct mote_msg *m);

/* One that has ended, or was stopped, is not to be started again: OTP's del_child. */
void supervisor_forget(struct supervisor *sup, struct child *c);

/* A child that was added and is to run. Its start's result; forgotten if the start failed. */
int supervisor_start_added(struct supervisor *sup, struct child *c, mote_pid *pid);

/* One that was stopped. Results of mote_supervisor_restart_child(). */
int supervisor_start_again(struct supervisor *sup, struct child *c, mote_pid *pid);

/* dynamic_supervisor.c, in the supervisor. */
int dynamic_init(struct supervisor *sup, const struct supervisor_boot *boot, const struct mote_child_spec *template);
int dynamic_start_child(struct supervisor *sup, const struct mote_child_spec *spec, mote_pid *pid);
int dynamic_start_arg(struct supervisor *sup, const void *arg, size_t size, mote_pid *pid);
int dynamic_terminate(struct supervisor *sup, mote_pid pid);

/* partition_supervisor.c, in the supervisor. */
int partition_init(struct supervisor *sup, const struct supervisor_boot *boot, const struct mote_child_spec *child);
int partition_resize(struct supervisor *sup, uint32_t count);

#endif
