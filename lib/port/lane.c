// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/lane.h"
#include "port/fence.h"

#include <string.h>

void lane_writer_init(struct lane_writer *w, void *producer, void *data, const void *consumer, uint64_t size,
		      _Atomic uint64_t *wanted)
{
	*w = (struct lane_writer){
		.producer = producer, .data = data, .consumer = consumer, .size = size, .wanted = wanted };
	atomic_init(wanted, 0);
}

void lane_reader_init(struct lane_reader *r, const void *producer, const void *data, void *consumer, uint64_t size)
{
	*r = (struct lane_reader){ .producer = producer, .data = data, .consumer = consumer, .size = size };
}

/* Has the reader's tail. False: what it says was never published, or was taken already. */
static bool tail_look(struct lane_writer *w)
{
	/* acquire: the reader has read what we are about to write over */
	uint64_t tail = atomic_load_explicit(&w->consumer->tail, memory_order_acquire);

	if (tail - w->tail > w->published - w->tail) {
		w->broken = true;
		return false;
	}
	w->tail = tail;
	return true;
}

static bool fits(const struct lane_writer *w, uint64_t space)
{
	return w->head + space - w->tail <= w->size;
}

static struct record *place(struct lane_writer *w, uint32_t body)
{
	struct record *r = (struct record *)(w->data + (w->head & (w->size - 1)));

	w->head += lane_space(body);
	r->size = body;
	r->zero = 0;
	return r;
}

struct record *lane_reserve(struct lane_writer *w, uint32_t body)
{
	uint64_t space = lane_space(body);

	if (__builtin_expect(!fits(w, space), 0)) {
		if (w->broken || !tail_look(w) || !fits(w, space))
			return NULL;
	}
	return place(w, body);
}

struct record *lane_reserve_or_want(struct lane_writer *w, uint32_t body)
{
	uint64_t space = lane_space(body);
	/* Half a ring at a time. There will be so much: what is missing is published, or about to be. */
	uint64_t want = w->head - w->size / 2;

	if (w->broken)
		return NULL;
	/* relaxed, both: the fence orders them before the look at the tail; lane_release() does the reverse */
	atomic_store_explicit(w->wanted, want, memory_order_relaxed);
	atomic_store_explicit(&w->producer->want, want, memory_order_relaxed);
	full_fence();
	if (!tail_look(w) || !fits(w, space))
		return NULL;
	atomic_store_explicit(w->wanted, 0, memory_order_relaxed);
	/* What stays in the producer page wakes us once for nothing. */
	return place(w, body);
}

bool lane_room_noted(const struct lane_consumer *consumer, _Atomic uint64_t *wanted)
{
	uint64_t want = atomic_load_explicit(wanted, memory_order_acquire);

	/* Only that which was seen to be fulfilled: meanwhile there may have been room, and none again. */
	return want && (int64_t)(atomic_load_explicit(&consumer->tail, memory_order_relaxed) - want) >= 0 &&
	       atomic_compare_exchange_strong_explicit(wanted, &want, 0, memory_order_relaxed, memory_order_relaxed);
}

bool lane_publish(struct lane_writer *w)
{
	if (w->head == w->published)
		return false;
	w->published = w->head;
	/* release: the records are there for whoever acquires this */
	atomic_store_explicit(&w->producer->head, w->head, memory_order_release);
	return true;
}

/* What the writer says to have published. */
static bool head_look(struct lane_reader *r)
{
	/* acquire: pairs with lane_publish() */
	uint64_t head = atomic_load_explicit(&r->producer->head, memory_order_acquire);

	if (head - r->tail > r->size || head - r->tail < r->head - r->tail || head % LANE_ALIGN)
		return false;
	r->head = head;
	return true;
}

enum lane_found lane_next(struct lane_reader *r, struct record *head, const void **body)
{
	const unsigned char *at = r->data + (r->tail & (r->size - 1));

	if (r->tail == r->head) {
		if (!r->closed && !head_look(r))
			return LANE_BROKEN;
		if (r->tail == r->head)
			return LANE_EMPTY;
	}
	/* No less than LANE_ALIGN bytes are published, and the data is mapped twice: all of a head can be read. */
	memcpy(head, at, sizeof(*head));
	/* From here on it is the copy that counts: the compiler may not read the peer's again. */
	__asm__ volatile("" : : "r"(head) : "memory");
	if (head->size > lane_record_max(r->size) || lane_space(head->size) > r->head - r->tail || head->zero)
		return LANE_BROKEN;
	*body = at + sizeof(*head);
	return LANE_RECORD;
}

bool lane_release(struct lane_reader *r)
{
	uint64_t before = r->released, want;

	if (r->tail == before)
		return false;
	r->released = r->tail;
	/* release: we have read what the writer may now write over */
	atomic_store_explicit(&r->consumer->tail, r->tail, memory_order_release);
	/* tail, then want: lane_reserve_or_want() does the reverse */
	full_fence();
	want = atomic_load_explicit(&r->producer->want, memory_order_relaxed);
	/* Just now reached: a writer that waits is told once. */
	return want - before - 1 < r->tail - before;
}

bool lane_close(struct lane_reader *r)
{
	bool good = head_look(r);

	r->closed = true;
	if (!good)
		r->head = r->tail;
	return good;
}
