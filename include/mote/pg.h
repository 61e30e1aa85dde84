/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/pg.h: groups of processes, across nodes. They are Erlang's pg: each node runs a process per scope, which knows
 * the members on its node, and tells those of the same scope on the nodes that are connected. What one node sees of
 * another's members lags behind; without further changes all see the same. Groups come and go with their members.
 *
 * A scope is known by its name, which is its process's, too; a handle stays good while it is started again. When it
 * does not run, functions say -ESRCH. A group is any bytes. Looking takes no locks, and waits for nobody.
 */
#ifndef MOTE_PG_H
#define MOTE_PG_H

#include <mote/base.h>
#include <mote/server.h>
#include <mote/supervisor.h>

MOTE_BEGIN_DECLS

struct mote_pg;

/*
 * The scope of that name (NULL: "pg"), whether it runs or not: always the same pointer, good until the program ends.
 * NULL with mote_errno(): -EINVAL (no name, as of mote_register()), -ENOMEM. Any thread.
 */
MOTE_API struct mote_pg *mote_pg_scope(const char *name);

/*
 * Starts a scope (NULL: "pg"), _link: linked to the caller. On a runtime that is no node, or under a name that no
 * other node uses, it is local. 0, with *pid (may be NULL); -EEXIST: it runs, *pid is its process; -EINVAL, -EAGAIN,
 * -ENOMEM. Follow pg:start/1, start_link/1.
 */
MOTE_API int mote_pg_start(const char *scope, mote_pid *pid);
MOTE_API int mote_pg_start_link(const char *scope, mote_pid *pid);

/* For a supervisor; the name, if there is one, must outlive it. */
MOTE_API struct mote_child_spec mote_pg_child(const char *scope);

/*
 * Have processes of this node join or leave a group: all n at once, or none. One that has joined several times is
 * there as often, and leaves as often; one that ends leaves by itself. 0; -ENOENT: none of them is a member;
 * -EREMOTE: one is of another node; -ESRCH; -EINVAL (nobody), -EMSGSIZE, -ENOMEM, -EPIPE (the scope ended meanwhile).
 * Follow pg:join/3, leave/3.
 */
MOTE_API int mote_pg_join(struct mote_pg *pg, const void *group, size_t size, const mote_pid *pids, size_t n);
MOTE_API int mote_pg_leave(struct mote_pg *pg, const void *group, size_t size, const mote_pid *pids, size_t n);

/*
 * Fill pids, up to max, with the members of a group, and return how many there are; _local: those of this node. -ESRCH,
 * -EINVAL. Any thread. Follow pg:get_members/2, get_local_members/2.
 */
MOTE_API int64_t mote_pg_members(struct mote_pg *pg, const void *group, size_t size, mote_pid *pids, size_t max);
MOTE_API int64_t mote_pg_local_members(struct mote_pg *pg, const void *group, size_t size, mote_pid *pids, size_t max);

/*
 * Call fn with each group that has members; _local: on this node. fn sees a copy, and may do whatever the caller may.
 * Return how many groups; -ESRCH, -EINVAL, -ENOMEM. Follow pg:which_groups/1, which_local_groups/1.
 */
typedef void (*mote_pg_fn)(const void *group, size_t size, const mote_pid *pids, size_t n, void *arg);
MOTE_API int64_t mote_pg_groups(struct mote_pg *pg, mote_pg_fn fn, void *arg);
MOTE_API int64_t mote_pg_local_groups(struct mote_pg *pg, mote_pg_fn fn, void *arg);

/*
 * From now on the caller gets a message for each change of one group, or of all; and *ref, which they carry:
 * mote_msg_ref(), mote_receive_ref(). fn (may be NULL) is called with what was there before the first of them. Until
 * mote_pg_demonitor(), or the scope ends, which nobody is told: monitor it. How many groups fn was, or would have
 * been, called with; -ESRCH, -EINVAL,
 * -ENOMEM, -EPIPE. Follow pg:monitor/2, monitor_scope/1.
 */
MOTE_API int64_t mote_pg_monitor(struct mote_pg *pg, const void *group, size_t size, mote_ref *ref, mote_pg_fn fn,
				 void *arg);
MOTE_API int64_t mote_pg_monitor_scope(struct mote_pg *pg, mote_ref *ref, mote_pg_fn fn, void *arg);

/* No more of them from now on; those in the mailbox stay. 0; -ENOENT: it is no such reference of the caller's. */
MOTE_API int mote_pg_demonitor(struct mote_pg *pg, mote_ref ref);

#define MOTE_MSG_PG_JOIN	(MOTE_MSG_SYSTEM + 0x700)	/* data: struct mote_pg_event */
#define MOTE_MSG_PG_LEAVE	(MOTE_MSG_SYSTEM + 0x701)

struct mote_pg_event {
	uint32_t nr_pids, size;		/* size: bytes of the group */
	uint64_t reserved;
	/* the pids, then the group */
};

static inline const mote_pid *mote_pg_event_pids(const struct mote_pg_event *e)
{
	return (const mote_pid *)(e + 1);
}

static inline const void *mote_pg_event_group(const struct mote_pg_event *e)
{
	return mote_pg_event_pids(e) + e->nr_pids;
}

MOTE_END_DECLS

#endif
