/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/carrier.h: what the two ports share, and floor 0 alone knows: carriers, the slots that they belong to, and the news
 * that a port's thread leaves there.
 *
 * Slots. A slot has a lock, held by whoever polls it: its own worker, or an idle one that helps. It is only ever tried,
 * never waited for. All hooks but wake() are called under it, so that what belongs to a carrier comes in order, and a
 * carrier leaves the slot's list, under the lock, before its hook down: nobody who polls can have it afterwards.
 *
 * News come by a stack that anybody may push to, and are taken in order. A push is counted in port_busy before and ends
 * with hooks->wake(), so a slot that sleeps, or is about to, will see it.
 *
 * Bells. A slot's bell says whether its worker sleeps, in memory that peers can read.
 *	who publishes: head (or tail)	| full fence | is it parked? then ring
 *	who sleeps:    parked		| full fence | look at all heads (and tails), news; sleep if there is nothing
 * One of the two sees what the other has stored. A ring to a slot that has not got as far as sleeping is not lost: what it
 * leaves in the descriptor ends the sleep at once.
 *
 * Lives. The port's thread makes a carrier and frees it: once its end was handed to core, and core has released it.
 */
#ifndef PORT_CARRIER_H
#define PORT_CARRIER_H

#include "port/lane.h"
#include "port/port.h"

#include <stdatomic.h>

#define CARRIERS_MAX	1024			/* of a node */
#define COMPLAINT_MAX	128

enum news_kind { NEWS_UP, NEWS_END, NEWS_UNREACHABLE };

struct news {
	struct news *next;
	enum news_kind kind;
};

/* What is asked of a port's thread. */
enum errand_kind { ERRAND_CONNECT, ERRAND_CUT, ERRAND_RELEASE };

struct errand {
	struct errand *next;
	enum errand_kind kind;
};

/* A port_connect(). Allocated by it, freed when it was answered. */
struct request {
	struct errand errand;
	struct news news;
	struct request *next;			/* the port's */
	uint32_t node;
	int err;
	char name[PORT_NAME_MAX + 1];
};

struct carrier {
	/* Looked at by every poll, written by few. */
	struct lane_reader in __attribute__((aligned(64)));	/* under the slot's lock */
	_Atomic uint64_t wanted;		/* of out: who writes waits for room */
	_Atomic bool held;			/* core has refused a record: not before the port's thread says so */
	bool draining;				/* in.head is final; under the slot's lock */

	struct lane_writer out __attribute__((aligned(64)));	/* under core's lock */
	_Atomic uint64_t nr_out, full;		/* written under that lock; the others under the slot's */

	_Atomic uint64_t nr_in __attribute__((aligned(64)));
	_Atomic uint64_t rings;
	unsigned int home;			/* its slot here; this and what follows stays once it is up */
	uint32_t node;
	char name[PORT_NAME_MAX + 1];
	void *core;
	_Atomic unsigned int end;		/* 0, or 1 + enum port_end: who first sets it does the rest */
	char complaint[COMPLAINT_MAX];		/* by who has set end; seen by who has the news of it */
	struct news up, down;
	struct errand cut, release;
};

struct port_ops {
	const char *name;
	int (*start)(const char *name, unsigned int slots);	/* sets port_node */
	int (*open)(void);
	void (*close)(void);			/* no thread of the port's runs afterwards */
	void (*stop)(void);			/* frees all carriers */
	void (*forget)(void);
	void (*errand)(struct errand *e);	/* takes it to the thread, whoever calls */
	void (*held)(void);			/* some carrier here is held: carriers_unhold() in a few ms */
	int (*list)(bool (*visit)(uint32_t node, const char *name, void *arg), void *arg);
	int (*bell_fd)(unsigned int slot);
	void (*park)(unsigned int slot);	/* stores that, makes a full fence */
	void (*awake)(unsigned int slot);
	void (*ring)(struct carrier *c);	/* after a full fence: the peer's home slot, if it is parked */
};

extern const struct port_ops port_user __attribute__((visibility("hidden")));
extern const struct port_ops port_kmod __attribute__((visibility("hidden")));	/* start: -ENODEV: no module */

extern const struct port_ops *port_ops __attribute__((visibility("hidden")));	/* NULL: this is no node */

bool port_name_good(const char *name);

/* The slots. */
int carriers_start(unsigned int slots, const struct port_hooks *hooks);
void carriers_close(void);			/* when this returns nobody is in a hook, but wake(), nor will be */
void carriers_stop(void);

/* By the port's thread. c is all zero, but for node, name, home, and the lanes. */
unsigned int carrier_choose_home(void);		/* slots take turns */
void carrier_raise(struct carrier *c);
void request_fail(struct request *r, int err);
void request_stands(struct request *r, const struct carrier *c);	/* -EISCONN, after c's up */

/* Any thread. complaint may be NULL. False: it had ended already. */
bool carrier_end(struct carrier *c, enum port_end why, const char *complaint);

/* By the port's thread: offers again what core has refused. */
void carrier_unhold(struct carrier *c);

#endif
