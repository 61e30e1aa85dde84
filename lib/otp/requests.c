// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Many requests at once. A collection is a hash table by reference, of the process that made it: what comes is looked up
 * in it, so that a thousand answers in the mailbox cost a thousand steps.
 */
#include "core/process.h"

#include <mote/server.h>

#include <errno.h>
#include <string.h>

#define SLOTS_FIRST 16

struct entry {
	mote_ref ref;		/* id 0: free */
	void *label;
};

struct mote_requests {
	struct entry *slots;
	size_t nr_slots;	/* a power of two, or 0 */
	size_t count;
};

static size_t slot_of(const struct mote_requests *r, uint64_t id)
{
	/* Fibonacci hashing: ids of one process follow each other, those of several schedulers do in bands. */
	return (size_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (r->nr_slots - 1);
}

static struct entry *find(const struct mote_requests *r, uint64_t id)
{
	if (!r->nr_slots || !id)
		return NULL;
	for (size_t i = slot_of(r, id); r->slots[i].ref.id; i = (i + 1) & (r->nr_slots - 1)) {
		if (r->slots[i].ref.id == id)
			return &r->slots[i];
	}
	return NULL;
}

static void put(struct mote_requests *r, struct entry entry)
{
	size_t i = slot_of(r, entry.ref.id);

	while (r->slots[i].ref.id)
		i = (i + 1) & (r->nr_slots - 1);
	r->slots[i] = entry;
}

/* Room for one more, half of the table free. */
static int grow(struct mote_requests *r)
{
	struct mote_requests larger = { .nr_slots = r->nr_slots ? r->nr_slots * 2 : SLOTS_FIRST };

	if (r->count < r->nr_slots / 2)
		return 0;
	larger.slots = mote_alloc(larger.nr_slots * sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	memset(larger.slots, 0, larger.nr_slots * sizeof(*larger.slots));
	for (size_t i = 0; i < r->nr_slots; i++) {
		if (r->slots[i].ref.id)
			put(&larger, r->slots[i]);
	}
	mote_free(r->slots);
	r->slots = larger.slots;
	r->nr_slots = larger.nr_slots;
	return 0;
}

/* Those behind it that would no longer be found move up. */
static void take_out(struct mote_requests *r, struct entry *e)
{
	size_t mask = r->nr_slots - 1, hole = (size_t)(e - r->slots);

	for (size_t i = (hole + 1) & mask; r->slots[i].ref.id; i = (i + 1) & mask) {
		size_t home = slot_of(r, r->slots[i].ref.id);

		if (((i - home) & mask) >= ((i - hole) & mask)) {
			r->slots[hole] = r->slots[i];
			hole = i;
		}
	}
	r->slots[hole].ref.id = 0;
	r->count--;
}

struct mote_requests *mote_requests_new(void)
{
	struct mote_requests *r = mote_alloc(sizeof(*r));

	if (r)
		memset(r, 0, sizeof(*r));
	return r;
}

void mote_requests_free(struct mote_requests *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->nr_slots; i++) {
		if (r->slots[i].ref.id)
			mote_demonitor(r->slots[i].ref, MOTE_FLUSH);
	}
	mote_free(r->slots);
	mote_free(r);
}

int mote_requests_send(struct mote_requests *r, mote_pid to, uint32_t type, const void *data, size_t size, void *label)
{
	struct entry entry = { .label = label };
	int err = grow(r);

	if (err)
		return err;
	entry.ref = mote_request(to, type, data, size);
	if (!entry.ref.id)
		return mote_errno();
	put(r, entry);
	r->count++;
	return 0;
}

size_t mote_requests_count(const struct mote_requests *r)
{
	return r->count;
}

static bool is_ours(const struct mote_msg *m, void *arg)
{
	return find(arg, mote_msg_ref(m).id);
}

int mote_requests_receive(struct mote_requests *r, struct mote_msg **reply, void **label, mote_deadline deadline)
{
	struct mote_msg *m;
	struct entry *e;

	if (!r->count)
		return -ENOENT;
	m = mote_receive_match(is_ours, r, deadline);
	if (!m)
		return mote_errno();
	e = find(r, mote_msg_ref(m).id);
	if (label)
		*label = e->label;
	take_out(r, e);
	return call_result(m, reply);
}

int mote_multi_call(struct mote_multi_result *results, size_t n, uint32_t type, const void *data, size_t size,
		    mote_deadline deadline)
{
	struct mote_requests *r;
	int replied = 0;

	if (!results || n > INT32_MAX || (size && !data))
		return -EINVAL;
	r = mote_requests_new();
	if (!r)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		results[i].reply = NULL;
		results[i].err = mote_requests_send(r, results[i].pid, type, data, size, &results[i]);
		if (!results[i].err)
			results[i].err = -ETIMEDOUT;
	}
	while (r->count) {
		struct mote_multi_result *result;
		struct mote_msg *m = NULL;
		void *label = NULL;
		int err = mote_requests_receive(r, &m, &label, deadline);

		result = label;
		if (!result)
			break;
		result->err = err;
		result->reply = m;
		replied += !err;
	}
	mote_requests_free(r);
	return replied;
}
