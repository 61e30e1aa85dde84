/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/program.h: programs as children of supervisors. A keeper, a process here, starts an OS process, puts what it
 * prints into the log line by line, and ends when it does, with its exit status as the reason.
 */
#ifndef MOTE_PROGRAM_H
#define MOTE_PROGRAM_H

#include <mote/base.h>

MOTE_BEGIN_DECLS

/* All that it points to is copied. */
struct mote_program {
	size_t size;
	const char *const *argv;	/* argv[0] is looked up in PATH; NULL-terminated */
	const char *const *envp;	/* NULL: ours */
	const char *cwd;		/* where it runs; NULL: where we do */
	const char *node;		/* the name by which it is a node (mote/node.h), which it has to become; NULL: none */
	const char *label;		/* what the log calls it; NULL: argv[0] */
	int stop_signal;		/* sent first when it is to end; 0: SIGTERM */
	int stdout_level;		/* enum mote_log_level, of lines of its stdout; 0: MOTE_LOG_INFO; MOTE_LOG_NONE: /dev/null */
	int stderr_level;		/* of its stderr; 0: MOTE_LOG_NOTICE */
	unsigned int line_max;		/* bytes of a line; longer ones are cut into several. 0: 4096; at most 65,536 */
	int64_t stop_ms;		/* between that signal and SIGKILL; 0: 5000; below 0: SIGKILL at once */
	int64_t start_ms;		/* for a node to connect; 0: 10,000 */
};

/*
 * Starts the program, linked to the caller by way of its keeper, *keeper. Returns when it runs; when it is to be a
 * node, when it is connected. The keeper ends when the OS process does: normally for exit status 0, else with
 * MOTE_ERROR and a text that says what ("exit status 3", "signal 9 (SIGKILL)"; code: the status, or 128 + the
 * signal's number). Told to exit, or when the caller ends, it sends the signal, waits, kills, and ends for the reason
 * it was told; killed, it kills. What the program printed before its end is in the log before the keeper ends; what
 * those print that it left behind, is not waited for. 0, or: -ENOENT, -EACCES and what else execve(2) says; -ENOTDIR,
 * -ENOENT (cwd); -EINVAL, -E2BIG, -EMFILE, -ENOMEM, -EAGAIN; of a node also what mote_node_start() says. Follows
 * Elixir's MuonTrap.Daemon and Erlang's open_port({spawn_executable}).
 */
MOTE_API int mote_program_start_link(const struct mote_program *program, mote_pid *keeper);

MOTE_END_DECLS

#endif
