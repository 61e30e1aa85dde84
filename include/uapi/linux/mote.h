/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/mote: shared-memory lanes, wake-ups and death notices between the runtimes of one
 * machine's processes. docs/abi.md describes each call. Every structure begins with its size;
 * what is reserved, and flags that are not defined here, must be zero.
 */
#ifndef _UAPI_LINUX_MOTE_H
#define _UAPI_LINUX_MOTE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MOTE_ABI_VERSION	1

#define MOTE_NAME_SIZE		64		/* of a node's name, with the final NUL */
#define MOTE_SLOTS_MAX		256		/* bells of a node */
#define MOTE_RINGS_MAX		64		/* mote_enter.nr_rings */
#define MOTE_WORKERS_MAX	1024		/* ids are below */
#define MOTE_DATA_MIN		(1U << 16)	/* of a lane, in bytes: a power of two */
#define MOTE_DATA_MAX		(1U << 24)
#define MOTE_NO_SLOT		0xffffffffU
#define MOTE_OWN_UID		0xffffffffU
#define MOTE_FOREVER		0x7fffffffffffffffLL	/* as a deadline */

/* The structures do not occur in the numbers, so that they can grow. */
#define MOTE_IOC_QUERY		_IO(0xfb, 0)	/* struct mote_query */
#define MOTE_IOC_SETUP		_IO(0xfb, 1)	/* struct mote_setup */
#define MOTE_IOC_NODE_FIND	_IO(0xfb, 2)	/* struct mote_node_desc */
#define MOTE_IOC_NODE_LIST	_IO(0xfb, 3)	/* struct mote_node_list */
#define MOTE_IOC_NODE_WATCH	_IO(0xfb, 4)	/* struct mote_object */
#define MOTE_IOC_LANE_OPEN	_IO(0xfb, 5)	/* struct mote_lane_open */
#define MOTE_IOC_LANE_CLOSE	_IO(0xfb, 6)	/* struct mote_object */
#define MOTE_IOC_ENTER		_IO(0xfb, 7)	/* struct mote_enter */
#define MOTE_IOC_BELL_FD	_IO(0xfb, 8)	/* struct mote_object; gives a descriptor */
#define MOTE_IOC_WORKER		_IO(0xfb, 9)	/* struct mote_worker */
#define MOTE_IOC_ACTIVATE_WAIT	_IO(0xfb, 10)	/* struct mote_activate_wait */

#define MOTE_FEATURE_ACTIVATE		(1ULL << 0)	/* WORKER, ACTIVATE_WAIT */
#define MOTE_FEATURE_URING		(1ULL << 1)	/* MOTE_URING_* */
#define MOTE_FEATURE_URING_CANCEL	(1ULL << 2)	/* ring exit, exec cancel WAIT */
#define MOTE_FEATURE_HANDOFF		(1ULL << 3)	/* a wake can stay on the waker's CPU */

struct mote_query {
	__u32 size;		/* out: of the module's structure */
	__u32 flags;
	__u32 version;		/* out: MOTE_ABI_VERSION */
	__u32 nodes_per_user;	/* out: limits, as they are now */
	__u32 lanes_per_node;
	__u32 lanes_per_peer;
	__u64 bytes_per_user;
	__u64 features;		/* out: MOTE_FEATURE_* */
};

struct mote_setup {
	__u32 size;
	__u32 flags;
	__u32 nr_slots;		/* 1 ... MOTE_SLOTS_MAX */
	__u32 mode;		/* 0600, | 0060: the group, | 0006: others may reach it */
	__u32 event_slot;	/* its bell is rung for each event, too; or MOTE_NO_SLOT */
	__u32 node;		/* out: id, never reused while the module is loaded; below 2^31 */
	char name[MOTE_NAME_SIZE];	/* [A-Za-z0-9_.-]*, NUL-padded; empty: has none */
};

/* NODE_FIND: by node, or, if that is 0, by uid and name. */
struct mote_node_desc {
	__u32 size;
	__u32 flags;
	__u32 node;
	__u32 uid;		/* in the caller's user namespace; in: MOTE_OWN_UID: the caller's */
	__u32 pid;		/* out: in the caller's pid namespace, 0: it has none there */
	__u32 mode;		/* out */
	__u32 nr_slots;		/* out */
	__u32 reserved;
	char name[MOTE_NAME_SIZE];
};

struct mote_node_list {
	__u32 size;
	__u32 flags;
	__u32 after;		/* list nodes with larger ids only; 0: all */
	__u32 nr;		/* in: room for, out: written */
	__u64 nodes;		/* struct mote_node_desc[nr], by ascending id */
};

#define MOTE_WATCH_STOP		(1U << 0)	/* a flag of NODE_WATCH */
/* What NODE_WATCH, LANE_CLOSE and BELL_FD take. */
struct mote_object {
	__u32 size;
	__u32 flags;
	__u32 id;		/* a node, 0: all; a lane; a slot */
	__u32 reserved;
};

struct mote_lane_open {
	__u32 size;
	__u32 flags;
	__u32 node;		/* the reader; the caller's node writes */
	__u32 lane;		/* out: id, below 2^31 */
	__u64 data_size;
	__u64 cookie;		/* for the reader's event */
};

struct mote_ring {
	__u32 node;
	__u32 slot;
};

#define MOTE_ENTER_RING		(1U << 0)	/* .ring is used */
#define MOTE_ENTER_WAIT		(1U << 1)	/* .slot, .seq, .deadline are used */
struct mote_enter {
	__u32 size;
	__u32 flags;
	struct mote_ring ring;	/* the one most often needed, without a pointer */
	__u32 slot;
	__u32 seq;		/* as the caller saw it last: wait only if it still is so */
	__s64 deadline;		/* CLOCK_MONOTONIC, absolute, in ns */
	__u64 rings;		/* struct mote_ring[nr_rings]: more bells */
	__u32 nr_rings;
	__u32 reserved;
};

#define MOTE_WORKER_STOP	(1U << 0)
struct mote_worker {
	__u32 size;
	__u32 flags;
	__u64 mode;		/* address of a __u32: where the calling thread is */
	__u64 want;		/* address of a __u32: not 0, if there is something else to run */
	__u32 mode_user;	/* what *mode is while the thread may be replaced */
	__u32 worker;		/* what ACTIVATE_WAIT calls the thread */
};

#define MOTE_ACTIVATE_POST	(1U << 0)	/* ends another one's wait, with .worker */
struct mote_activate_wait {
	__u32 size;
	__u32 flags;
	__s64 deadline;		/* CLOCK_MONOTONIC, absolute, in ns */
	__u32 worker;		/* out: it blocks. POST, in: MOTE_WORKERS_MAX or more */
	__u32 reserved;
	__u64 since;		/* out: CLOCK_MONOTONIC, in ns */
};

/* What read() gives. */
#define MOTE_EVENT_NODE_UP	1	/* node */
#define MOTE_EVENT_NODE_DOWN	2	/* node, why; value: for DOWN_EXIT, as of wait(2) */
#define MOTE_EVENT_LANE_OPENED	3	/* node (the writer), lane, cookie; value: the data size */
#define MOTE_EVENT_LANE_CLOSED	4	/* node (the other end), lane */
#define MOTE_DOWN_CLOSED	1	/* why a node is dead */
#define MOTE_DOWN_EXIT		2
#define MOTE_DOWN_EXEC		3
struct mote_event {
	__u32 type;
	__u32 node;
	__u32 lane;
	__u32 why;
	__u64 value;
	__u64 cookie;
};

/* mmap() of a node's descriptor, at this offset, shared, in exactly the area's length. */
#define MOTE_MAP(area, id)	((__u64)(id) << 32 | (__u64)(area) << 28)
#define MOTE_AREA_BELLS		0	/* id: own node; or of a lane's other end: read-only */
#define MOTE_AREA_WRITER	1	/* id: lane; producer page, data twice; reader: read-only */
#define MOTE_AREA_READER	2	/* id: lane; consumer page; writer: read-only */
#define MOTE_BELL_RUNNING	0
#define MOTE_BELL_SPINNING	1
#define MOTE_BELL_PARKED	2	/* the only state in which ringing is of use */

/* Written by the node, but for seq; a ring stores RUNNING over PARKED, then counts seq up. */
struct mote_bell {
	__u32 state;
	__u32 seq;		/* written by the kernel */
	__u32 user[14];		/* the node's, for its peers to see */
};

/* MOTE_AREA_BELLS, rounded up to whole pages. */
struct mote_bells {
	__u32 node;		/* what precedes user[] is written by the kernel */
	__u32 nr_slots;
	__u32 events;		/* how many wait to be read */
	__u32 down;		/* not 0: the node is dead (MOTE_DOWN_*) */
	__u32 user[12];
	struct mote_bell bell[];
};

/* IORING_OP_URING_CMD: cmd_op; sqe->cmd holds a struct mote_uring_cmd. */
#define MOTE_URING_WAIT		_IO(0xfb, 64)	/* slot, seq: completes when that bell rings */
#define MOTE_URING_RING		_IO(0xfb, 65)	/* node, slot */
#define MOTE_URING_CANCEL	_IO(0xfb, 66)	/* slot: its WAIT completes with -ECANCELED */

#define MOTE_RING_HANDOFF	(1U << 0)	/* RING: a WAIT with .seq follows, */
#define MOTE_RING_OWN_SHIFT	8		/* | slot << this */
struct mote_uring_cmd {
	__u32 node;
	__u32 slot;
	__u32 seq;
	__u32 flags;
};

#endif
