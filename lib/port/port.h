/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/port.h: how other OS processes are reached. A node is an OS process with a runtime that others can reach; a
 * carrier is what connects two of them: records from here to there, records from there to here, in order, and the
 * news of the end. What a record means is core's business (core/remote.h). Today carriers are pairs of lanes in shared
 * memory (port/lane.h), made by one of two ports: user.c, which needs no module, and kmod.c.
 *
 * Ports know neither processes nor schedulers: a scheduler is a number here, its slot, and what its worker passes
 * through as `s`. Control (connecting, deaths) is the business of a thread of the port's own, which only ever leaves
 * news for a slot and wakes it: every hook but wake() is called by port_poll(), on a slot's worker, between two tasks.
 */
#ifndef PORT_PORT_H
#define PORT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scheduler;
struct carrier;

#define PORT_NAME_MAX	63		/* bytes of [A-Za-z0-9_.-] */

/*
 * The head of a record as it lies in a lane, native byte order; the body follows. 16-byte aligned. What is said of kind
 * and the rest is for core; a port copies it, checks size, and hands it up.
 */
struct record {
	uint32_t size;			/* of the body; at most carrier_record_max() */
	uint8_t kind;
	uint8_t flags;
	uint16_t zero;
	uint64_t to_serial;
	uint64_t from_serial;		/* a process of the sending node: which one that is, the carrier knows */
	uint32_t to_slot;
	uint32_t from_slot;
	uint64_t ref;
	uint32_t ref_slot;
	uint32_t type;
};

_Static_assert(sizeof(struct record) == 48, "three quarters of a cache line");

enum port_end {
	PORT_CLOSED,			/* the other side's runtime was stopped, or the connection was ended in order */
	PORT_DIED,			/* its OS process is gone */
	PORT_CUT,			/* it broke the rules, or says that we did */
};

struct port_hooks {
	/* Has port_poll(slot) called soon, and the slot's worker woken if it sleeps. Any thread. */
	void (*wake)(unsigned int slot);

	/* A connection stands, whoever began it. Once for each carrier, before any record of it. */
	void (*up)(struct scheduler *s, struct carrier *c);

	/*
	 * A record. head is a private copy, body lies where the peer may write meanwhile: copy it, then look at it. False:
	 * not now (no memory, or over budget); it is offered again at a later poll, and nothing else of c before.
	 */
	bool (*record)(struct scheduler *s, struct carrier *c, const struct record *head, const void *body);

	/* After a carrier_reserve() that failed: there may be room now. */
	void (*room)(struct scheduler *s, struct carrier *c);

	/*
	 * No record of c will follow: those that its end had published have all been delivered. Once. The hook calls
	 * carrier_release() when nobody uses c any more, then or later.
	 */
	void (*down)(struct scheduler *s, struct carrier *c, enum port_end why);

	/*
	 * A port_connect() has come to nothing: err is -errno; -EISCONN: it stands already, and its up was called before.
	 * Exactly one of up (of that node) and this answers each.
	 */
	void (*unreachable)(struct scheduler *s, uint32_t node, const char *name, int err);
};

struct port_opts {
	const char *name;		/* of this node; NULL: $MOTE_NODE; if that is not there either, this is no node */
	unsigned int slots;		/* schedulers */
	const struct port_hooks *hooks;	/* stays */
};

/* This node's id; 0: no node. Unique among all that live or have lived on this machine since it booted. */
extern uint32_t port_node __attribute__((visibility("hidden")));

static inline bool port_is_here(uint32_t node)
{
	return node == port_node;
}

/*
 * Takes the name, gets an id and the bells; nobody can connect yet. $MOTE_PORT: auto (default), user, kmod. 0, also when
 * this is to be no node; -EEXIST (a living node has the name), -EINVAL (name, MOTE_PORT), -ENODEV (kmod: no module), ...
 */
int port_start(const struct port_opts *opts);
/* From now on connections are made and accepted. After the schedulers have started. 0 or -errno. */
int port_open(void);
/* Ends all connections in order (what was committed can still be read there). No hook is called any more. */
void port_close(void);
void port_stop(void);			/* after port_close(), if it was opened */
void port_forget(void);			/* in a forked child: closes what must not live on in it */

const char *port_name(void);		/* "none", "user" or "kmod" */
const char *port_node_name(void);	/* "" : no node */

/*
 * Begins a connection to the node of that id, or (0) of that name, if there is none; never waits. Answered by the hooks
 * up or unreachable, also when it stands already. -ENETDOWN: this is no node; -EINVAL (name, or oneself), -ENOMEM.
 */
int port_connect(uint32_t node, const char *name);

/* Calls visit for each node that could be connected to, oneself included, until it says false. May wait for files. */
int port_list(bool (*visit)(uint32_t node, const char *name, void *arg), void *arg);

/* The bell of a slot: a descriptor that is readable, with an edge for each ring; never read. -1: no node. */
int port_bell_fd(unsigned int slot);

/*
 * Delivers news and records of the carriers whose home is that slot, at most some hundred of each. all: of any slot
 * that nobody else is just polling. True: there was something. Only by the slot's worker.
 */
bool port_poll(struct scheduler *s, unsigned int slot, bool all);

extern _Atomic uint32_t port_busy __attribute__((visibility("hidden")));	/* carriers, and news for any slot */
bool port_pending_slow(unsigned int slot);

/* Whether port_poll(slot) would find something: a load where there are no carriers, else one or two for each. */
static inline bool port_pending(unsigned int slot)
{
	return __builtin_expect(__atomic_load_n((const uint32_t *)&port_busy, __ATOMIC_RELAXED), 0) &&
	       port_pending_slow(slot);
}

/*
 * Before a slot's worker sleeps: from now on peers ring its bell; a full barrier, then the look of port_pending().
 * False: something is there, do not sleep. port_awake() afterwards in any case.
 */
bool port_sleep(unsigned int slot);
void port_awake(unsigned int slot);

/* --- carriers: of one that is up and not released --- */

uint32_t carrier_node(const struct carrier *c);
const char *carrier_name(const struct carrier *c);		/* of the peer; "": it has none */
size_t carrier_record_max(const struct carrier *c);		/* bytes of a body, at least 8192 */

/* core's own, NULL at first. Set in the hook up. */
void carrier_set_core(struct carrier *c, void *core);
void *carrier_core(const struct carrier *c);

/*
 * Room for a record with a body of size bytes, whose head (but head->size) and body the caller fills in, behind all
 * that was reserved before. NULL: none now; the hook room follows when there may be. The caller holds a lock of its own
 * that makes him the carrier's only writer from here to carrier_commit().
 */
struct record *carrier_reserve(struct carrier *c, size_t size);

/* Publishes all that was reserved, and rings if the reader sleeps (a system call then). Under that lock. */
void carrier_commit(struct carrier *c);

/* The peer has broken the rules (what: for a report), or is not wanted any more (PORT_CLOSED): the hook down follows. */
void carrier_cut(struct carrier *c, enum port_end why, const char *what);

/* After the hook down. */
void carrier_release(struct carrier *c);

/* What the peer was told, and why it was cut, for people; "" if nothing. */
const char *carrier_complaint(const struct carrier *c);

struct carrier_counts {
	uint64_t records_in, records_out, bytes_in, bytes_out, rings, full;	/* full: reserves that found no room */
};
void carrier_count(const struct carrier *c, struct carrier_counts *counts);	/* racy */

#endif
