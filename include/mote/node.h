/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/node.h: processes of other OS processes. A runtime with a name ($MOTE_NODE, or mote_opts.node) is a node: others
 * of the same user, on the same machine, can reach its processes. A pid of another node works in mote_send, mote_call,
 * mote_link, mote_monitor, mote_exit_pid and so on as one's own does; the first use connects the two nodes. When a node
 * ends, in whatever way, or the connection does, links to its processes yield EXIT noconnection, monitors and
 * requests DOWN noconnection, once each, after all that it had sent. docs/nodes.md has the rest.
 *
 * Between two nodes a connection that was lost stays lost: pids of the other are dead from then on.
 */
#ifndef MOTE_NODE_H
#define MOTE_NODE_H

#include <mote/base.h>
#include <mote/process.h>

MOTE_BEGIN_DECLS

#define MOTE_NODE_NAME_MAX 63	/* bytes of [A-Za-z0-9_.-] */

/* A node. Compare ids. Never used again for another node while the machine runs. id 0: none; pid.node is such an id. */
typedef struct mote_node {
	uint32_t id;
} mote_node;

/* This one; id 0: the runtime is no node, or does not run. Its name; "": no node. Any thread. */
MOTE_API mote_node mote_node_self(void);
MOTE_API const char *mote_node_name(void);

/* Where pid lives: one's own node, or another. Any thread. */
static inline mote_node mote_pid_node(mote_pid pid)
{
	mote_node node = { pid.node };

	return node;
}

enum mote_node_state {
	MOTE_NODE_SELF,
	MOTE_NODE_UP,		/* connected */
	MOTE_NODE_CONNECTING,
	MOTE_NODE_DOWN,		/* was connected */
	MOTE_NODE_STRANGER,	/* could be connected to */
};

struct mote_node_info {
	size_t size;
	mote_node node;
	int state;		/* enum mote_node_state */
	char name[MOTE_NODE_NAME_MAX + 1];
	/* Since the connection stands; of an undelivered message all bytes count until its receiver takes it. */
	uint64_t records_in, records_out, bytes_in, bytes_out;
	uint64_t rings;		/* system calls made to wake it */
	uint64_t undelivered;	/* bytes that came from there and are in mailboxes here */
	uint64_t queued;	/* bytes that wait here for room there */
};

/* About one node that is or was connected, or oneself. 0; -ESRCH; -EINVAL (size). Any thread. */
MOTE_API int mote_node_info(mote_node node, struct mote_node_info *info);

/*
 * Calls visit, until it returns false, with each node that this one can reach, itself included, connected or not. Reads
 * files: call it from a process by way of mote_blocking() if that matters. visit must not call mote.
 * 0; -ENETDOWN: this is no node; or what reading said. Any thread.
 */
MOTE_API int mote_node_each(bool (*visit)(mote_node node, const char *name, int state, void *arg), void *arg);

/*
 * Connects to the node of that name, or finds it connected. id 0 on failure, with mote_errno(): -ENETDOWN (this is
 * no node), -EINVAL (name), -ESRCH (there is none, or it will not have us), -ETIMEDOUT, -ENOMEM, -ECANCELED.
 * Follows net_kernel:connect_node/1.
 */
MOTE_API mote_node mote_node_connect(const char *name, mote_deadline deadline);

/* Ends the connection to a node: both sides see noconnection. 0; -ESRCH: there is none. Follows disconnect_node/1. */
MOTE_API int mote_node_disconnect(mote_node node);

#define MOTE_MSG_NODE_UP	0x80000004u	/* data: struct mote_node_event */
#define MOTE_MSG_NODE_DOWN	0x80000005u

struct mote_node_event {
	mote_node node;
	char name[MOTE_NODE_NAME_MAX + 1];
};

/*
 * From now on the caller gets a message when a connection comes up or goes down, until it ends or passes false. NODE_UP
 * comes before, NODE_DOWN after any other sign of that node by way of this call's process. 0; -ENETDOWN; -ENOMEM. Follows
 * net_kernel:monitor_nodes/1.
 */
MOTE_API int mote_node_watch(bool watch);

/*
 * Names of other nodes. The first asks, and waits for the answer: MOTE_NOBODY if there is no such name, with mote_errno():
 * -ESRCH (no name), -ENETUNREACH (no such node), -ETIMEDOUT, -EINVAL, -ECANCELED. The second sends to whoever has the name
 * when the message arrives; 0 also if nobody has. The third watches whoever has it when the request arrives; DOWN noproc if
 * nobody has. Errors as those of mote_send and mote_monitor. Follow rpc/erlang:send and monitor of {Name, Node}.
 */
MOTE_API mote_pid mote_whereis_on(mote_node node, const char *name, mote_deadline deadline);
MOTE_API int mote_send_name_on(mote_node node, const char *name, uint32_t type, const void *data, size_t size);
MOTE_API mote_ref mote_monitor_name_on(mote_node node, const char *name);

/*
 * What other nodes may start here: entry points by name (1 to 255 bytes), since addresses differ between programs. args:
 * size bytes, the process's until it ends, aligned to 16. Registering a name anew replaces it; fn NULL withdraws it.
 * 0; -EINVAL, -ENOMEM. Any thread, also before mote_start().
 */
typedef void (*mote_entry_fn)(const void *args, size_t size);
MOTE_API int mote_entry_register(const char *name, mote_entry_fn fn);

struct mote_spawn_on_opts {
	size_t size;
	const char *entry;		/* registered there */
	const void *args;		/* args_size bytes, copied */
	size_t args_size;
	unsigned int flags;		/* MOTE_LINK, MOTE_MONITOR, MOTE_TRAP_EXIT */
	unsigned int reserved;		/* 0 */
	const char *name;		/* registered there, atomically with the spawn; NULL: none */
	mote_ref *ref;			/* with MOTE_MONITOR */
};

/*
 * Spawns a process on another node (or this one) and waits for the answer. Link and monitor are atomic with the spawn.
 * MOTE_NOBODY on failure, with mote_errno(): -ENOENT (no such entry point there), -EEXIST (name), -EAGAIN, -ENOMEM (there
 * or here), -ENETUNREACH (no such node), -ETIMEDOUT and -ECANCELED (a process that was begun all the same is killed),
 * -EINVAL, -E2BIG, -EMSGSIZE. Follows erlang:spawn_opt/5 and spawn_request/5.
 */
MOTE_API mote_pid mote_spawn_on(mote_node node, const struct mote_spawn_on_opts *opts, mote_deadline deadline);

struct mote_node_start_opts {
	size_t size;
	const char *const *argv;	/* argv[0] is looked up in PATH; NULL-terminated */
	const char *const *envp;	/* NULL: ours; MOTE_NODE is set in any case */
	const char *name;		/* of the new node */
	const int *fds;			/* its 0, 1, 2, as of mote_child_start(); NULL: ours */
	int64_t stop_ms;		/* between SIGTERM and SIGKILL; 0: 5000 */
};

/*
 * Starts an OS process as a node, linked to the caller: returns the pid of its keeper, a process here, when the node is
 * connected; *node gets its id. The keeper ends when the OS process does: normally for exit status 0, else with MOTE_ERROR
 * and a text that says what ("exit status 3", "signal 9 (SIGKILL)"; code: the status, or 128 + the signal's number). When
 * the keeper is told to exit, or the caller ends, the OS process gets SIGTERM, and SIGKILL stop_ms later. MOTE_NOBODY on
 * failure, with mote_errno(): what mote_child_start() says; -ETIMEDOUT (it is killed); -ECHILD: it ended before it
 * connected; -EEXIST: a living node has the name; -ENETDOWN, -EINVAL, -E2BIG, -ENOMEM. Follows peer:start_link/1.
 */
MOTE_API mote_pid mote_node_start(const struct mote_node_start_opts *opts, mote_node *node, mote_deadline deadline);

MOTE_END_DECLS

#endif
