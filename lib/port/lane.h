/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/lane.h: a one-way ring of records between two OS processes that need not trust each other: three pieces of shared
 * memory, and what each end knows by itself. Nothing here knows how the memory came about, who sleeps, or what
 * a record means.
 *
 *	producer page	head: how many bytes were published, ever. want: the tail that the writer waits for, or 0
 *	data		a power of two, mapped twice in a row, so that a record never wraps
 *	consumer page	tail: how many bytes were taken, ever
 *
 * The writer writes the first two, the reader the third; each has the other's read-only, believes none of it, and copies
 * before it checks. The worst that one end can do to the other is to make it see rubbish between two indexes that hold.
 *
 * Writer					Reader
 *	record					head, acquire
 *	head, release				record
 *						tail, release
 * Where one waits for the other, each stores, makes a full fence, then loads what the other stores (port/fence.h): at
 * least one of the two sees the other's store. For room: want against tail, here. For records: head against the reader's
 * bell, in port/carrier.c.
 */
#ifndef PORT_LANE_H
#define PORT_LANE_H

#include "port/port.h"

#include <stdatomic.h>

#define LANE_ALIGN	16

struct lane_producer {
	_Atomic uint64_t head;
	_Atomic uint64_t want __attribute__((aligned(64)));
};

struct lane_consumer {
	_Atomic uint64_t tail;
};

/* Everything but the memory is the writer's alone, and under the lock that makes him the only one. */
struct lane_writer {
	struct lane_producer *producer;
	unsigned char *data;
	const struct lane_consumer *consumer;
	uint64_t size;				/* of the data */
	uint64_t head;				/* what is reserved ends here */
	uint64_t published;
	uint64_t tail;				/* as last seen: there may be more room by now */
	_Atomic uint64_t *wanted;		/* the tail that is waited for, for lane_room(); 0: none */
	bool broken;				/* the reader's tail cannot be true */
};

struct lane_reader {
	const struct lane_producer *producer;
	const unsigned char *data;
	struct lane_consumer *consumer;
	uint64_t size;
	uint64_t tail;				/* what is taken ends here */
	uint64_t released;			/* the tail that the writer sees */
	uint64_t head;				/* as last seen and found good */
	bool closed;				/* head is final */
};

enum lane_found { LANE_EMPTY, LANE_RECORD, LANE_BROKEN };

/* Bytes of a body. A quarter: so that the writer need not wait for an empty ring. */
static inline size_t lane_record_max(uint64_t size)
{
	return size / 4 - sizeof(struct record);
}

/* What a record takes. */
static inline uint64_t lane_space(uint32_t body)
{
	return (sizeof(struct record) + (uint64_t)body + LANE_ALIGN - 1) & ~(uint64_t)(LANE_ALIGN - 1);
}

/*
 * Over memory that is all zero, and stays. size: a power of two, at least 16384. wanted is the writer's, but lies apart:
 * with what lane_room() is asked from.
 */
void lane_writer_init(struct lane_writer *w, void *producer, void *data, const void *consumer, uint64_t size,
		      _Atomic uint64_t *wanted);
void lane_reader_init(struct lane_reader *r, const void *producer, const void *data, void *consumer, uint64_t size);

/* Of body <= lane_record_max(). NULL: no room, or broken. */
struct record *lane_reserve(struct lane_writer *w, uint32_t body);

/*
 * After a lane_reserve() that failed: leaves word that room is wanted, and tries once more. NULL: lane_room() will be true
 * one day, and who lets it be so is told by lane_release() to wake us.
 */
struct record *lane_reserve_or_want(struct lane_writer *w, uint32_t body);

/* Whether what lane_reserve_or_want() waits for is there. Any thread, and any of them may take note, once. */
static inline bool lane_room(const struct lane_consumer *consumer, const _Atomic uint64_t *wanted)
{
	/* acquire: who calls lane_room_noted() has seen the whole of the lane_reserve_or_want() */
	uint64_t want = atomic_load_explicit(wanted, memory_order_acquire);

	/* relaxed: who then reserves looks at it again. A difference: no index grows past 2^63, but the peer may say so */
	return want && (int64_t)(atomic_load_explicit(&consumer->tail, memory_order_relaxed) - want) >= 0;
}

/* After lane_room(): false: somebody else was faster. */
bool lane_room_noted(const struct lane_consumer *consumer, _Atomic uint64_t *wanted);

/* Publishes all that was reserved. False: nothing was. No fence. */
bool lane_publish(struct lane_writer *w);

/* Whether lane_next() would find something. */
static inline bool lane_pending(const struct lane_reader *r)
{
	if (r->closed)
		return r->tail != r->head;
	/* relaxed: lane_next() acquires before it looks at a record */
	return atomic_load_explicit(&r->producer->head, memory_order_relaxed) != r->tail;
}

/* The record at the tail: *head is a copy that was checked; *body may still be written to by the peer. */
enum lane_found lane_next(struct lane_reader *r, struct record *head, const void **body);

/* Takes the record that lane_next() has found. */
static inline void lane_take(struct lane_reader *r, const struct record *head)
{
	r->tail += lane_space(head->size);
}

/* Lets the writer have what was taken; a full fence. True: the writer waits for it, and is to be woken if it sleeps. */
bool lane_release(struct lane_reader *r);

/* The writer is gone: takes its index a last time. False: it cannot be true; there is nothing more. */
bool lane_close(struct lane_reader *r);

#endif
