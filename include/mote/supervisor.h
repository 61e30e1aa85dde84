/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/supervisor.h: processes that start others, in order, start them again when they end, and stop them, in reverse
 * order. They are Erlang's supervisor and Elixir's Supervisor, DynamicSupervisor and PartitionSupervisor; docs/otp.md
 * says where they differ.
 *
 * A supervisor is a server (mote/server.h) that traps exits: stop it with mote_server_stop(), look into it with
 * mote/sys.h. It ends when its parent does, and stops its children whenever it ends otherwise than by a kill; a kill
 * reaches them by their links. While it starts or stops a child, whatever is asked of it waits.
 *
 * Pids of supervisors may be those of other nodes, unless a function says local: pointers do not travel, -EREMOTE. All
 * functions that ask a supervisor return what mote_call() does, too: -ESRCH (there is none), -EPIPE, -ETIMEDOUT (it may
 * yet do it), -ECONNRESET, -ENOMEM. -EOPNOTSUPP: it is no supervisor of that kind.
 */
#ifndef MOTE_SUPERVISOR_H
#define MOTE_SUPERVISOR_H

#include <mote/base.h>
#include <mote/process.h>
#include <mote/server.h>

MOTE_BEGIN_DECLS

enum mote_restart {
	MOTE_PERMANENT,		/* always started again */
	MOTE_TRANSIENT,		/* unless it ended with normal or shutdown */
	MOTE_TEMPORARY,		/* never; its specification goes with it */
};

enum mote_strategy {
	MOTE_ONE_FOR_ONE,	/* only the child that ended is started again */
	MOTE_ONE_FOR_ALL,	/* all are stopped and started */
	MOTE_REST_FOR_ONE,	/* those that were started after it, too */
};

/*
 * Whether a supervisor ends, with shutdown, when significant children have ended by themselves and are not started
 * again.
 */
enum mote_auto_shutdown {
	MOTE_AUTO_NEVER,		/* it may have no significant ones */
	MOTE_AUTO_ANY_SIGNIFICANT,
	MOTE_AUTO_ALL_SIGNIFICANT,
};

enum mote_child_type { MOTE_WORKER, MOTE_SUPERVISOR };

#define MOTE_SHUTDOWN_DEFAULT	INT64_C(0)	/* 5,000 ms; supervisors: infinity */
#define MOTE_SHUTDOWN_BRUTAL	INT64_C(-1)	/* killed at once */
#define MOTE_SHUTDOWN_INFINITY	INT64_C(-2)

#define MOTE_RESTARTS_NONE	UINT32_MAX	/* OTP's intensity 0: the first one is too many */

struct mote_supervisor_opts;
struct mote_dynamic_opts;
struct mote_partition_opts;
struct mote_program;

/*
 * How to start a child: exactly one of start, server, fn, supervisor, dynamic, partition, program. Supervisors keep a
 * copy of the specification, of id and name, of *opts (with its name), and, if arg_size says so, of what arg points to.
 * All else that it points to must outlive the supervisor.
 */
struct mote_child_spec {
	const char *id;			/* unique among its siblings; NULL: the name; dynamic ones need none */
	/*
	 * Called by the supervisor, with arg. Must start a process, link it to the caller (else the supervisor does),
	 * and give its pid. 0; MOTE_IGNORE; or -errno. The supervisor waits with it, and if it crashes, the supervisor
	 * does.
	 */
	int (*start)(void *arg, mote_pid *pid);
	const struct mote_server_ops *server;		/* mote_server_start_link(server, arg, opts) */
	mote_fn fn;					/* a process that runs fn(arg); it counts as started at once */
	const struct mote_supervisor_opts *supervisor;	/* another supervisor below this one */
	const struct mote_dynamic_opts *dynamic;	/* likewise */
	const struct mote_partition_opts *partition;	/* likewise */
	const struct mote_program *program;		/* an OS process: mote/program.h */
	void *arg;
	size_t arg_size;		/* 0: arg is passed through; else so many bytes of it are copied */
	const struct mote_server_opts *opts;	/* of server and fn, NULL: none; its name there, of server its via */
	const char *name;		/* short for opts with a name */
	int restart;			/* enum mote_restart */
	int type;			/* enum mote_child_type, of start; the others' is known */
	bool significant;		/* transient or temporary ones only; see enum mote_auto_shutdown */
	int64_t shutdown_ms;		/* from exit signal shutdown to kill; or MOTE_SHUTDOWN_... */
};

/*
 * Instead of giving up after too many restarts: wait before the next one, longer each time (suture's way). The failures
 * of each child are counted; while they are no more than max_restarts, it is started again at once. The count is halved
 * for each decay_ms that the child has run.
 */
struct mote_backoff {
	int64_t first_ms;	/* the first wait; 0: no backoff, OTP's way: give up. Each next one is twice as long */
	int64_t max_ms;		/* 0: 60,000 */
	int64_t decay_ms;	/* 0: 30,000 */
	double jitter;		/* a wait is multiplied by 1 - jitter to 1 + jitter; 0: 0.5; below 0: none */
};

struct mote_supervisor_opts {
	size_t size;
	const char *name;			/* registered before the children are started */
	const struct mote_via *via;		/* instead of a name; borrowed */
	int strategy;				/* enum mote_strategy */
	unsigned int max_restarts;		/* 0: 3. More than these within max_seconds end it, with shutdown */
	unsigned int max_seconds;		/* 0: 5 */
	int auto_shutdown;			/* enum mote_auto_shutdown */
	const struct mote_child_spec *children;	/* started in this order */
	size_t nr_children;
	struct mote_backoff backoff;
};

/*
 * Starts a supervisor, and returns when all its children are started. 0, with *pid; or, as soon as one fails, those
 * before it stopped again, what its start returned. Otherwise as mote_server_start(): -EEXIST: the name is taken, *pid
 * is its holder; -EINVAL, -E2BIG (opts, or a specification); -ENOTUNIQ: two children of the same id. Follow
 * supervisor:start_link/2,3.
 */
MOTE_API int mote_supervisor_start(const struct mote_supervisor_opts *opts, mote_pid *pid);
MOTE_API int mote_supervisor_start_link(const struct mote_supervisor_opts *opts, mote_pid *pid);

/*
 * Starts one more child, the last in order. 0, with *pid (pid may be NULL); MOTE_IGNORE, and its specification is kept
 * unless it is temporary; what its start returned: the specification is not kept. -EEXIST: there is one of that id,
 * *pid, and if it does not run (OTP: already_present) MOTE_NOBODY; -EINVAL. Local. O(1). Follows
 * supervisor:start_child/2.
 */
MOTE_API int mote_supervisor_start_child(mote_pid supervisor, const struct mote_child_spec *spec, mote_pid *pid,
					 mote_deadline deadline);

/*
 * Stops a child, whose specification is kept unless it is temporary. 0, also if it did not run; -ENOENT. O(1). Follows
 * supervisor:terminate_child/2.
 */
MOTE_API int mote_supervisor_terminate_child(mote_pid supervisor, const char *id, mote_deadline deadline);

/*
 * Starts one that was stopped, or did not start. Results as of start_child; -EBUSY: it runs; -EINPROGRESS: the
 * supervisor is at it; -ENOENT. O(1). Follows supervisor:restart_child/2.
 */
MOTE_API int mote_supervisor_restart_child(mote_pid supervisor, const char *id, mote_pid *pid, mote_deadline deadline);

/* Forgets one that does not run. 0; -EBUSY, -EINPROGRESS, -ENOENT as above. O(1). Follows supervisor:delete_child/2. */
MOTE_API int mote_supervisor_delete_child(mote_pid supervisor, const char *id, mote_deadline deadline);

struct mote_child_info {
	const char *id;			/* NULL: of a dynamic supervisor, and it has none */
	mote_pid pid;			/* MOTE_NOBODY: it does not run */
	int type;			/* enum mote_child_type */
	bool restarting;		/* it is to be started again */
};

/*
 * The children, in the order of their start (those of a dynamic supervisor in none). Returns how many; *children is
 * given, with all that it points to: mote_free(). O(n). Of supervisors of all kinds. Follows
 * supervisor:which_children/1.
 */
MOTE_API int mote_supervisor_which_children(mote_pid supervisor, struct mote_child_info **children,
					    mote_deadline deadline);

/* One of them; info->id is NULL. 0; -ENOENT. O(1). Follows supervisor:which_child/2. */
MOTE_API int mote_supervisor_which_child(mote_pid supervisor, const char *id, struct mote_child_info *info,
					 mote_deadline deadline);

struct mote_child_counts {
	size_t size;
	uint64_t specs;			/* children, running or not (with a template: 1) */
	uint64_t active;		/* that run */
	uint64_t supervisors, workers;	/* specs by type; with a template children by type */
};

/* Fills *counts, whose size the caller set. O(n), dynamic ones O(1). Follows supervisor:count_children/1. */
MOTE_API int mote_supervisor_count_children(mote_pid supervisor, struct mote_child_counts *counts,
					    mote_deadline deadline);

/*
 * What the supervisor knows: *spec is given, with its copies: mote_free(). -ENOENT. Local. Follows
 * supervisor:get_childspec/2.
 */
MOTE_API int mote_supervisor_get_childspec(mote_pid supervisor, const char *id, struct mote_child_spec **spec,
					   mote_deadline deadline);

/*
 * Whether a supervisor would take them. auto_shutdown: its; -1: not known yet. 0; -EINVAL; -ENOTUNIQ. Any thread.
 * Follows supervisor:check_childspecs/1,2.
 */
MOTE_API int mote_supervisor_check_childspecs(const struct mote_child_spec *specs, size_t n, int auto_shutdown);

/* --- children that come and go: DynamicSupervisor, and simple_one_for_one (with a template) */

struct mote_dynamic_opts {
	size_t size;
	const char *name;
	const struct mote_via *via;
	unsigned int max_restarts, max_seconds;	/* as above */
	int auto_shutdown;			/* with a template: enum mote_auto_shutdown */
	size_t max_children;			/* 0: any number */
	const struct mote_child_spec *child;	/* template of all: simple_one_for_one; NULL: each has its own */
	/* Put before the arguments of each child (Elixir: extra_arguments); copied. See mote_dynamic_start_arg(). */
	const void *extra;
	size_t extra_size;
	struct mote_backoff backoff;
};

/*
 * Starts a supervisor of no children yet. As mote_supervisor_start(). Strategy: one for one; at its end all children
 * are stopped at once, not one after the other. Follow DynamicSupervisor.start_link/1.
 */
MOTE_API int mote_dynamic_start(const struct mote_dynamic_opts *opts, mote_pid *pid);
MOTE_API int mote_dynamic_start_link(const struct mote_dynamic_opts *opts, mote_pid *pid);

/*
 * Starts a child of any specification; ids are for people only. 0, with *pid (pid may be NULL); MOTE_IGNORE, or what
 * its start returned: no specification is kept. -ENOSPC: max_children; -EINVAL, also with extra arguments if the
 * child's is one passed through; -EOPNOTSUPP: there is a template. Local. O(1). Follows
 * DynamicSupervisor.start_child/2.
 */
MOTE_API int mote_dynamic_start_child(mote_pid supervisor, const struct mote_child_spec *spec, mote_pid *pid,
				      mote_deadline deadline);

/*
 * Starts a child of the template. What it gets as arg is a copy: the supervisor's extra bytes, then the template's
 * (arg_size), then these, each from the next multiple of 16 on; with size 0 and nothing copied before, the template's
 * arg itself. Results as above. Also on other nodes. O(1) and the copy. Follows supervisor:start_child/2 of
 * simple_one_for_one.
 */
MOTE_API int mote_dynamic_start_arg(mote_pid supervisor, const void *arg, size_t size, mote_pid *pid,
				    mote_deadline deadline);

/* Stops a child. 0; -ENOENT. O(1). Follows DynamicSupervisor.terminate_child/2. */
MOTE_API int mote_dynamic_terminate_child(mote_pid supervisor, mote_pid child, mote_deadline deadline);

/* --- the same child several times: PartitionSupervisor */

struct mote_partition_opts {
	size_t size;
	const char *name;			/* required */
	const struct mote_child_spec *child;	/* of each partition; ids become "0", "1", ...; no name */
	unsigned int partitions;		/* 0: as many as schedulers */
	int strategy;				/* enum mote_strategy */
	unsigned int max_restarts, max_seconds;	/* as above */
	/*
	 * The argument of a partition's child, made from child->arg, at each start; NULL: all get that. Elixir:
	 * with_arguments.
	 */
	void *(*with_arg)(void *arg, unsigned int partition);
	struct mote_backoff backoff;
};

/* As mote_supervisor_start(). The name is also that of the partitions. Follow PartitionSupervisor.start_link/1. */
MOTE_API int mote_partition_start(const struct mote_partition_opts *opts, mote_pid *pid);
MOTE_API int mote_partition_start_link(const struct mote_partition_opts *opts, mote_pid *pid);

/* Where the partitions of a supervisor of this node are. */
struct mote_partitions;

/*
 * Those of the supervisor of that name; NULL: -ESRCH, -ENOMEM. Given back with mote_partitions_put(), by a process at
 * its end at the latest. Good until then, also when the supervisor is gone: start it again, and get its partitions
 * anew. Any thread.
 */
MOTE_API struct mote_partitions *mote_partitions_get(const char *name);
MOTE_API void mote_partitions_put(struct mote_partitions *p);

/*
 * The child of a key: some nanoseconds, no message. Keys that are integers: modulo; bytes: hashed. While the child is
 * being restarted it is the one that ended (calls give -ESRCH); MOTE_NOBODY: it never ran. Any thread. Follow {:via,
 * PartitionSupervisor, {name, key}}.
 */
MOTE_API mote_pid mote_partition_at(const struct mote_partitions *p, uint64_t key);
MOTE_API mote_pid mote_partition_of(const struct mote_partitions *p, const void *key, size_t size);

/* How many there are. Any thread. Follows PartitionSupervisor.partitions/1. */
MOTE_API unsigned int mote_partition_count(const struct mote_partitions *p);

/*
 * Has the supervisor stop partitions, the last first, or start them again: at most as many as it began with, at least
 * 1, or -EINVAL. 0, or what the start of one returned: those before it stay. Follows PartitionSupervisor.resize!/2.
 */
MOTE_API int mote_partition_resize(mote_pid supervisor, unsigned int partitions, mote_deadline deadline);

MOTE_END_DECLS

#endif
