/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* lane_helpers.h: a lane with both of its ends in one OS process, each with its own mapping, as two would have it. */
#ifndef SELFTESTS_LANE_HELPERS_H
#define SELFTESTS_LANE_HELPERS_H

#include "proc.h"

#include "port/lane.h"
#include "port/segment.h"

#include <unistd.h>

struct test_lane {
	struct segment w_own, w_peer, r_own, r_peer;
	struct lane_writer w;
	struct lane_reader r;
	_Atomic uint64_t wanted;
	int w_fd, r_fd;
};

static inline void lane_again(struct test_lane *t, uint64_t size)
{
	size_t page = segment_page();
	char *w = t->w_own.map, *r = t->w_peer.map;

	memset(w, 0, page + size);
	memset(t->r_own.map, 0, page);
	lane_writer_init(&t->w, w, w + page, t->r_peer.map, size, &t->wanted);
	lane_reader_init(&t->r, r, r + page, t->r_own.map, size);
}

static inline bool lane_open(struct test_lane *t, uint64_t size)
{
	size_t page = segment_page();

	t->w_fd = segment_make(&t->w_own, page + size, page);
	t->r_fd = segment_make(&t->r_own, page, page);
	if (!EXPECT(t->w_fd >= 0) || !EXPECT(t->r_fd >= 0) ||
	    !EXPECT(!segment_take(&t->w_peer, t->w_fd, page + size, page)) ||
	    !EXPECT(!segment_take(&t->r_peer, t->r_fd, page, page)))
		return false;
	lane_again(t, size);
	return true;
}

static inline void lane_shut(struct test_lane *t)
{
	segment_drop(&t->w_own);
	segment_drop(&t->w_peer);
	segment_drop(&t->r_own);
	segment_drop(&t->r_peer);
	close(t->w_fd);
	close(t->r_fd);
}

/* What a record's body of that number holds at i. */
static inline unsigned char lane_byte(uint64_t number, size_t i)
{
	return (unsigned char)(number * 31 + i);
}

static inline void lane_fill(struct record *r, uint64_t number)
{
	unsigned char *body = (unsigned char *)(r + 1);

	r->kind = 1;
	r->flags = (uint8_t)number;
	r->ref = number;
	r->to_serial = ~number;
	for (size_t i = 0; i < r->size; i++)
		body[i] = lane_byte(number, i);
}

static inline bool lane_is(const struct record *head, const void *data, uint64_t number, size_t size)
{
	const unsigned char *body = data;

	if (head->size != size || head->ref != number || head->to_serial != ~number || head->flags != (uint8_t)number)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (body[i] != lane_byte(number, i))
			return false;
	}
	return true;
}

#endif
