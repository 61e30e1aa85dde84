// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Who subscribes is in a registry of this node, named after the pubsub. Each node's pubsub is a process, and all of
 * one name are a group; what is broadcast is sent to each of them once, and they pass it on to whom their registry
 * has.
 */
#include "otp/handle.h"

#include <mote/name.h>
#include <mote/pg.h>
#include <mote/pubsub.h>
#include <mote/registry.h>
#include <mote/server.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX		".subscribers"
#define NAME_MAX_BYTES	240
#define SCOPE		"mote.pubsub"
#define FORWARD		(MOTE_MSG_SYSTEM + 0x800)	/* struct forward, the topic, the data */
#define FEW		64				/* subscribers, or nodes, that need no memory */

struct forward {
	uint32_t type;
	uint32_t topic_size;
	mote_pid but;		/* who is not to get it */
};

/* What the handle of one that runs leads to; freed when the process has ended and nobody looks any more. */
struct pubsub {
	struct mote_registry *subscribers;
	struct mote_pubsub *handle;
	struct belonging belonging;
	struct garbage garbage;
};

struct pubsub_server {
	struct pubsub *pubsub;
};

/* --- the process */

static void pubsub_free(struct garbage *g)
{
	free(container_of(g, struct pubsub, garbage));
}

static void pubsub_close(struct process *p, struct belonging *b)
{
	struct pubsub *pubsub = container_of(b, struct pubsub, belonging);

	(void)p;
	handle_lead(pubsub->handle, NULL);
	epoch_retire(&pubsub->garbage, pubsub_free, sizeof(*pubsub));
}

static int pubsub_open(struct pubsub_server *server, struct mote_pubsub *handle, struct mote_registry *subscribers)
{
	struct scheduler *s = runtime_enter("mote_pubsub_start_link");
	struct pubsub *pubsub = calloc(1, sizeof(*pubsub));
	int err = -ENOMEM;

	if (pubsub) {
		pubsub->subscribers = subscribers;
		pubsub->handle = handle;
		pubsub->belonging.end = pubsub_close;
		err = belonging_add(process_self(s), &pubsub->belonging);
	}
	if (err) {
		free(pubsub);
	} else {
		server->pubsub = pubsub;
		handle_lead(handle, pubsub);
	}
	process_leave(s);
	return err;
}

/* The registry of an earlier one ends when it hears of that one's end, which may be after we were started. */
static bool wait_for(mote_pid old)
{
	struct mote_msg *m;
	mote_ref ref;

	/* It had the name a moment ago. */
	if (!mote_pid_valid(old))
		return true;
	ref = mote_monitor(old);
	m = ref.id ? mote_receive_ref(ref, mote_in_ms(5000)) : NULL;
	if (!m)
		mote_demonitor(ref, MOTE_FLUSH);
	mote_msg_free(m);
	return m;
}

static int server_init(void *state, void *arg)
{
	struct handle *handle = arg;
	char name[NAME_MAX_BYTES + sizeof(SUFFIX)];
	struct mote_registry_opts opts = { .size = sizeof(opts), .name = name, .keys = MOTE_REGISTRY_DUPLICATE_BY_KEY };
	mote_pid self = mote_self(), scope, old;
	int err;

	snprintf(name, sizeof(name), "%s" SUFFIX, handle->name);
	while ((err = mote_registry_start_link(&opts, &old)) == -EEXIST && wait_for(old))
		;
	if (err)
		return err;
	err = pubsub_open(state, arg, mote_registry_named(name));
	if (err)
		return err;
	/* The scope is that of all pubsubs, and lives on. When it ends this one does, too, to join the next. */
	do {
		err = mote_pg_start(SCOPE, &scope);
	} while (err == -EEXIST && !mote_pid_valid(scope));
	if (err && err != -EEXIST)
		return err;
	if (!mote_monitor(scope).id)
		return mote_errno();
	return mote_pg_join(mote_pg_scope(SCOPE), handle->name, strlen(handle->name), &self, 1);
}

/* To those of this node. mote_send() may wait, or end the caller: nothing is held then but memory of his heap. */
static int deliver(struct mote_registry *subscribers, mote_pid but, const char *topic, size_t topic_size, uint32_t type,
		   const void *data, size_t size, mote_deadline deadline)
{
	mote_pid few[FEW], *pids = few;
	int64_t n, max = FEW;
	int err = 0, sent;

	while ((n = mote_registry_lookup(subscribers, topic, topic_size, pids, (size_t)max)) > max) {
		if (pids != few)
			mote_free(pids);
		max = n + n / 4;
		pids = mote_alloc((size_t)max * sizeof(*pids));
		if (!pids)
			return -ENOMEM;
	}
	for (int64_t i = 0; i < n; i++) {
		if (mote_pid_equal(pids[i], but))
			continue;
		sent = mote_send_until(pids[i], type, data, size, deadline);
		if (sent == -ENOMEM || sent == -EMSGSIZE)
			err = sent;
	}
	if (pids != few)
		mote_free(pids);
	return n < 0 ? (int)n : err;
}

static void server_info(void *state, const struct mote_msg *m)
{
	const char *topic = (const char *)m->data + sizeof(struct forward);
	struct pubsub_server *server = state;
	struct forward f;
	size_t left;

	if (mote_msg_down(m))
		mote_server_exit(mote_msg_down(m)->reason);
	if (m->type != FORWARD || m->size < sizeof(f))
		return;
	memcpy(&f, m->data, sizeof(f));
	left = m->size - sizeof(f);
	/* Nobody's full mailbox may keep the others waiting. */
	if (f.topic_size <= left && f.type < MOTE_MSG_SYSTEM)
		deliver(server->pubsub->subscribers, f.but, topic, f.topic_size, f.type, topic + f.topic_size,
			left - f.topic_size, MOTE_NOW);
}

static const struct mote_server_ops server_ops = {
	.size = sizeof(server_ops),
	.state_size = sizeof(struct pubsub_server),
	.init = server_init,
	.handle_info = server_info,
	.flags = MOTE_SERVER_OPAQUE,
};

struct mote_pubsub *mote_pubsub_named(const char *name)
{
	bool fits = name && strnlen(name, NAME_MAX_BYTES + 1) <= NAME_MAX_BYTES;

	return (struct mote_pubsub *)handle_named(HANDLE_PUBSUB, fits ? name : NULL);
}

int mote_pubsub_start_link(const char *name, mote_pid *pid)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .label = "pubsub", .name = name };
	struct mote_pubsub *p = mote_pubsub_named(name);
	mote_pid got = MOTE_NOBODY;
	int err = p ? mote_server_start_link(&server_ops, p, &opts, &got) : mote_errno();

	if (pid)
		*pid = got;
	return err;
}

static int child_start(void *arg, mote_pid *pid)
{
	return mote_pubsub_start_link(arg, pid);
}

struct mote_child_spec mote_pubsub_child(const char *name)
{
	return (struct mote_child_spec){ .id = name, .start = child_start, .arg = (void *)name };
}

/* --- the calls */

/* NULL: it does not run. Registries are for ever: what is returned may be used after the section. */
static struct mote_registry *subscribers_of(struct mote_pubsub *p)
{
	struct scheduler *s = runtime_enter("a function of mote/pubsub.h");
	struct mote_registry *subscribers = NULL;
	struct pubsub *pubsub;

	epoch_enter(s);
	pubsub = handle_look(p);
	if (pubsub)
		subscribers = pubsub->subscribers;
	epoch_leave(s);
	process_leave(s);
	return subscribers;
}

int mote_pubsub_subscribe(struct mote_pubsub *p, const char *topic)
{
	struct mote_registry *subscribers;

	if (!p || !topic)
		return -EINVAL;
	subscribers = subscribers_of(p);
	return subscribers ? mote_registry_register(subscribers, topic, strlen(topic), NULL, 0, NULL) : -ESRCH;
}

int64_t mote_pubsub_unsubscribe(struct mote_pubsub *p, const char *topic)
{
	struct mote_registry *subscribers;

	if (!p || !topic)
		return -EINVAL;
	subscribers = subscribers_of(p);
	return subscribers ? mote_registry_unregister(subscribers, topic, strlen(topic)) : -ESRCH;
}

static struct mote_msg *forward_new(mote_pid but, const char *topic, uint32_t type, const void *data, size_t size)
{
	struct forward f = { .type = type, .topic_size = (uint32_t)strlen(topic), .but = but };
	struct mote_msg *m = size <= UINT32_MAX ? mote_msg_new(FORWARD, sizeof(f) + f.topic_size + size) : NULL;

	if (!m)
		return NULL;
	memcpy(m->data, &f, sizeof(f));
	memcpy((char *)m->data + sizeof(f), topic, f.topic_size);
	if (size)
		memcpy((char *)m->data + sizeof(f) + f.topic_size, data, size);
	return m;
}

/* To the pubsubs of that name on all other nodes, or on one. How many; or an error. */
static int64_t forward(struct mote_pubsub *p, mote_node node, mote_pid but, const char *topic, uint32_t type,
		       const void *data, size_t size)
{
	const char *name = ((struct handle *)p)->name;
	mote_pid few[FEW], *pids = few;
	int64_t n, max = FEW, sent = 0;
	struct mote_msg *m = NULL;

	while ((n = mote_pg_members(mote_pg_scope(SCOPE), name, strlen(name), pids, (size_t)max)) > max) {
		if (pids != few)
			mote_free(pids);
		max = n + n / 4;
		pids = mote_alloc((size_t)max * sizeof(*pids));
		if (!pids)
			return -ENOMEM;
	}
	for (int64_t i = 0; i < n; i++) {
		if (port_is_here(pids[i].node) || (node.id && pids[i].node != node.id))
			continue;
		if (!m)
			m = forward_new(but, topic, type, data, size);
		if (!m) {
			sent = mote_errno();
			break;
		}
		mote_send(pids[i], FORWARD, m->data, m->size);
		sent++;
	}
	mote_msg_free(m);
	if (pids != few)
		mote_free(pids);
	return sent;
}

static int broadcast(struct mote_pubsub *p, bool local, mote_pid from, const char *topic, uint32_t type,
		     const void *data, size_t size)
{
	struct mote_registry *subscribers;
	int64_t far = 0;
	int err;

	if (!p || !topic || type >= MOTE_MSG_SYSTEM || (size && !data))
		return -EINVAL;
	subscribers = subscribers_of(p);
	if (!subscribers)
		return -ESRCH;
	if (!local)
		far = forward(p, (mote_node){ 0 }, from, topic, type, data, size);
	err = deliver(subscribers, from, topic, strlen(topic), type, data, size, MOTE_FOREVER);
	return far < 0 ? (int)far : err;
}

int mote_pubsub_broadcast(struct mote_pubsub *p, const char *topic, uint32_t type, const void *data, size_t size)
{
	return broadcast(p, false, MOTE_NOBODY, topic, type, data, size);
}

int mote_pubsub_broadcast_from(struct mote_pubsub *p, mote_pid from, const char *topic, uint32_t type,
			       const void *data, size_t size)
{
	return broadcast(p, false, from, topic, type, data, size);
}

int mote_pubsub_local(struct mote_pubsub *p, const char *topic, uint32_t type, const void *data, size_t size)
{
	return broadcast(p, true, MOTE_NOBODY, topic, type, data, size);
}

int mote_pubsub_local_from(struct mote_pubsub *p, mote_pid from, const char *topic, uint32_t type, const void *data,
			   size_t size)
{
	return broadcast(p, true, from, topic, type, data, size);
}

int mote_pubsub_on(struct mote_pubsub *p, mote_node node, const char *topic, uint32_t type, const void *data,
		   size_t size)
{
	int64_t n;

	if (!p || !topic || type >= MOTE_MSG_SYSTEM || (size && !data))
		return -EINVAL;
	if (!subscribers_of(p))
		return -ESRCH;
	if (port_is_here(node.id))
		return broadcast(p, true, MOTE_NOBODY, topic, type, data, size);
	n = forward(p, node, MOTE_NOBODY, topic, type, data, size);
	return n < 0 ? (int)n : n ? 0 : -ENETUNREACH;
}
