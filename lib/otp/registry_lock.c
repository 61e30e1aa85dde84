// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Locks, kept by the registry's process: who has one, and who waits. Each asker is monitored; what it has or waits
 * for ends with it. What one process sends arrives in order, so an UNLOCK is always about the LOCK before it, given
 * or not.
 */
#include "otp/registry.h"

#include <errno.h>

/* In the server's heap. The first under its key has the lock. */
struct registry_locks {
	struct registry_locks *next;
	struct mote_from from;
	mote_ref watch;
	uint64_t size;
	char key[];
};

static bool of_key(const struct registry_locks *l, const void *key, size_t size)
{
	return l->size == size && !memcmp(l->key, key, size);
}

static void answer(const struct registry_locks *l, int32_t err)
{
	mote_reply(l->from, REGISTRY_LOCK, &err, sizeof(err));
}

static struct registry_locks *holder(struct registry_locks *l, const void *key, size_t size)
{
	while (l && !of_key(l, key, size))
		l = l->next;
	return l;
}

void locks_ask(struct registry_locks **locks, struct mote_from from, const struct mote_msg *m)
{
	bool free = !holder(*locks, m->data, m->size);
	struct registry_locks **at = locks, *new;
	int32_t err = -EDEADLK;

	for (; *at; at = &(*at)->next) {
		if (of_key(*at, m->data, m->size) && mote_pid_equal((*at)->from.pid, from.pid)) {
			mote_reply(from, REGISTRY_LOCK, &err, sizeof(err));
			return;
		}
	}
	new = mote_alloc(sizeof(*new) + m->size);
	err = -ENOMEM;
	if (!new) {
		mote_reply(from, REGISTRY_LOCK, &err, sizeof(err));
		return;
	}
	*new = (struct registry_locks){ .from = from, .watch = mote_monitor(from.pid), .size = m->size };
	memcpy(new->key, m->data, m->size);
	if (!new->watch.id) {
		answer(new, -ENOMEM);
		mote_free(new);
		return;
	}
	*at = new;
	if (free)
		answer(new, 0);
}

/* If it had the lock, the next one gets it. */
static void end(struct registry_locks **locks, struct registry_locks **at)
{
	struct registry_locks *l = *at, *next;
	bool had = holder(*locks, l->key, l->size) == l;

	*at = l->next;
	next = had ? holder(*locks, l->key, l->size) : NULL;
	if (next)
		answer(next, 0);
	mote_demonitor(l->watch, MOTE_FLUSH);
	mote_free(l);
}

void locks_release(struct registry_locks **locks, const struct mote_msg *m)
{
	for (struct registry_locks **at = locks; *at; at = &(*at)->next) {
		if (of_key(*at, m->data, m->size) && mote_pid_equal((*at)->from.pid, m->from)) {
			end(locks, at);
			return;
		}
	}
}

void locks_down(struct registry_locks **locks, const struct mote_down_info *down)
{
	for (struct registry_locks **at = locks; *at; at = &(*at)->next) {
		if (mote_ref_equal((*at)->watch, down->ref)) {
			end(locks, at);
			return;
		}
	}
}

PROCESS_ENTRY static int enter_locked(int (*fn)(void *arg), void *arg)
{
	int result = fn(arg);

	PROCESS_ENTRY_END();
	return result;
}

static mote_pid server_of(struct mote_registry *r)
{
	struct scheduler *s = runtime_enter("mote_registry_lock");
	mote_pid server = MOTE_NOBODY;
	struct ledger *l;

	epoch_enter(s);
	l = ledger_look(r);
	if (l)
		server = l->server;
	epoch_leave(s);
	process_leave(s);
	return server;
}

int mote_registry_lock(struct mote_registry *r, const void *key, size_t key_size, int (*fn)(void *arg), void *arg,
		       mote_deadline deadline)
{
	mote_pid server = r ? server_of(r) : MOTE_NOBODY;
	struct mote_msg *reply = NULL;
	int32_t answer;
	int result;

	if (!r)
		return -EINVAL;
	if (!mote_pid_valid(server))
		return -ESRCH;
	result = mote_call(server, REGISTRY_LOCK, key, key_size, &reply, deadline);
	if (!result) {
		memcpy(&answer, reply->data, sizeof(answer));
		mote_msg_free(reply);
		result = answer;
		if (answer)
			return answer;
		result = enter_locked(fn, arg);
	} else if (result != -ETIMEDOUT) {
		return result;
	}
	mote_send(server, REGISTRY_UNLOCK, key, key_size);
	return result;
}
