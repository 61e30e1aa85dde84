/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/keeper.h: keepers: processes that start an OS process, and end with it. mote_node_start()'s, and lib/otp's.
 */
#ifndef CORE_KEEPER_H
#define CORE_KEEPER_H

#include <mote/node.h>
#include <sys/types.h>

struct keeper_opts {
	struct mote_node_start_opts start;	/* name NULL: it is no node; stop_ms below 0: SIGKILL at once */
	const char *cwd;			/* NULL: ours */
	int stop_signal;			/* 0: SIGTERM */
	bool kills;				/* an exit with reason killed is SIGKILL for the OS process, and at once */
};

/* As mote_node_start(), whose results it has. Linked to the caller. node and os_pid may be NULL. */
mote_pid keeper_start(const struct keeper_opts *opts, mote_node *node, pid_t *os_pid, mote_deadline deadline);

/* How many strings there are, but those that begin with `but` (may be NULL); adds their bytes to *bytes. */
size_t strings_count(const char *const *from, const char *but, size_t *bytes);

/* Copies the strings to text and their addresses to `to`; returns where the next address goes. */
const char **strings_copy(const char **to, char **text, const char *const *from, const char *but);

#endif
