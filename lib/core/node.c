// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The table of nodes, and how they come and go. A node is CONNECTING, then UP, then DOWN, never back: what its processes
 * had with ours has ended then, and a second connection could not say what was lost. A node that is started anew has
 * another id.
 */
#include "core/node.h"
#include "core/edge.h"
#include "core/remote.h"

#include <mote/info.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS		256
#define NODES_MAX	65536
#define BUDGET		(UINT64_C(256) << 20)
#define EDGES_MAX	(UINT64_C(1) << 22)

uint64_t node_budget;

static _Atomic(struct node *) buckets[BUCKETS];	/* pushed only, under the lock */
static struct lock table_lock;
static uint32_t nr_nodes;

/* Who waits for a connection: on his stack. */
struct connector {
	struct connector *next, **link;
	const char *name;
	struct task *task;
	uint32_t node;
	int err;
	_Atomic bool done;
};

static struct lock connectors_lock;
static struct connector *connectors;

struct node *node_find(uint32_t id)
{
	/* acquire: pairs with node_add() */
	struct node *n = atomic_load_explicit(&buckets[id % BUCKETS], memory_order_acquire);

	while (n && n->id != id)
		n = n->next;
	return n;
}

/* *made: it was not there. */
static struct node *node_add(uint32_t id, bool *made)
{
	struct node *n;

	*made = false;
	lock_take(&table_lock);
	n = node_find(id);
	if (!n && nr_nodes < NODES_MAX)
		n = aligned_alloc(CACHE_LINE, (sizeof(*n) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	else
		goto out;
	if (!n)
		goto out;
	memset(n, 0, sizeof(*n));
	n->id = id;
	atomic_init(&n->state, MOTE_NODE_CONNECTING);
	n->next = atomic_load_explicit(&buckets[id % BUCKETS], memory_order_relaxed);
	/* release: who finds it finds it whole */
	atomic_store_explicit(&buckets[id % BUCKETS], n, memory_order_release);
	nr_nodes++;
	*made = true;
out:
	lock_drop(&table_lock);
	return n;
}

struct node *node_get(uint32_t id)
{
	struct node *n = node_find(id);
	bool made;

	if (likely(n) || !port_node || !id || port_is_here(id))
		return n;
	n = node_add(id, &made);
	if (n && made && port_connect(id, NULL)) {
		lock_take(&n->lock);
		edge_node_down(n);
		lock_drop(&n->lock);
	}
	return n;
}

/* That is UP; names are unique among the living. NULL: none. */
static struct node *node_named(const char *name)
{
	for (int i = 0; i < BUCKETS; i++) {
		struct node *n = atomic_load_explicit(&buckets[i], memory_order_acquire);

		for (; n; n = n->next)
			if (node_state(n) == MOTE_NODE_UP && !strcmp(n->name, name))
				return n;
	}
	return NULL;
}

bool node_down_by(uint32_t id, uint64_t seq)
{
	struct node *n = node_find(id);

	return n && node_state(n) == MOTE_NODE_DOWN && n->down_seq <= seq;
}

void node_charge(struct node *n, struct signal *sig)
{
	sig->charged = true;
	if (sig->kind == SIGNAL_LINK || sig->kind == SIGNAL_MONITOR)
		atomic_fetch_add_explicit(&n->edges, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&n->undelivered, sizeof(*sig) + sig->msg.size, memory_order_relaxed);
}

bool node_edges_full(struct node *n)
{
	return atomic_load_explicit(&n->edges, memory_order_relaxed) >= EDGES_MAX;
}

void node_uncharge_slow(struct signal *sig)
{
	struct node *n = node_find(sig->msg.from.node);

	sig->charged = false;
	if (sig->kind == SIGNAL_LINK || sig->kind == SIGNAL_MONITOR)
		atomic_fetch_sub_explicit(&n->edges, 1, memory_order_relaxed);
	else
		atomic_fetch_sub_explicit(&n->undelivered, sizeof(*sig) + sig->msg.size, memory_order_relaxed);
	if (sig->kind == SIGNAL_FOREIGN)
		sig->kind = SIGNAL_MESSAGE;
	else if (sig->kind == SIGNAL_FOREIGN_REQUEST)
		sig->kind = SIGNAL_REQUEST;
}

/* --- hooks of the port --- */

/* To those who wait for this name: err 0 and the node. */
static void connected(struct scheduler *s, const char *name, uint32_t node, int err)
{
	struct connector *c, *next;
	struct task *t;

	do {
		t = NULL;
		lock_take(&connectors_lock);
		for (c = connectors; c && !t; c = next) {
			next = c->next;
			if (strcmp(c->name, name))
				continue;
			*c->link = c->next;
			if (c->next)
				c->next->link = c->link;
			c->node = node;
			c->err = err;
			t = c->task;
			/* release: its frame may go as soon as it sees this */
			atomic_store_explicit(&c->done, true, memory_order_release);
		}
		lock_drop(&connectors_lock);
		if (t)
			task_wake(s, t);
	} while (t);
}

static void node_gone(struct scheduler *s, struct node *n)
{
	struct carrier *c;
	bool was_up;

	lock_take(&n->lock);
	was_up = node_state(n) == MOTE_NODE_UP;
	c = n->carrier;
	n->carrier = NULL;
	edge_node_down(n);
	lock_drop(&n->lock);
	if (c)
		carrier_release(c);
	remote_down(s, n);
	edges_cut(s);
	if (was_up)
		node_watch_tell(s, n, MOTE_MSG_NODE_DOWN);
}

static void hook_up(struct scheduler *s, struct carrier *c)
{
	bool made;
	struct node *n = node_add(carrier_node(c), &made);

	/* Without memory for it, or (it was lost once) with nothing left to say, it goes again; the hook down finds no node. */
	if (!n || node_state(n) != MOTE_NODE_CONNECTING) {
		carrier_cut(c, PORT_CLOSED, "not wanted");
		connected(s, carrier_name(c), 0, n ? -ESRCH : -ENOMEM);
		return;
	}
	carrier_set_core(c, n);
	memcpy(n->name, carrier_name(c), strlen(carrier_name(c)) + 1);
	lock_take(&n->lock);
	n->carrier = c;
	/* release: the name */
	atomic_store_explicit(&n->state, MOTE_NODE_UP, memory_order_release);
	lock_drop(&n->lock);
	node_watch_tell(s, n, MOTE_MSG_NODE_UP);
	remote_push(s, n);
	connected(s, n->name, n->id, 0);
}

static void hook_down(struct scheduler *s, struct carrier *c, enum port_end why)
{
	struct node *n = carrier_core(c);

	if (!n) {
		carrier_release(c);
		return;
	}
	if (why == PORT_CUT)
		runtime_log(MOTE_LOG_ERROR, "node %u %s was cut off: %s", n->id, n->name, carrier_complaint(c));
	node_gone(s, n);
}

static void hook_unreachable(struct scheduler *s, uint32_t id, const char *name, int err)
{
	struct node *n = id ? node_find(id) : NULL;

	/* It may stand already, perhaps by the other side's doing. */
	if (err == -EISCONN && n && name && *name)
		connected(s, name, id, 0);
	else if (name && *name)
		connected(s, name, 0, err == -ENOENT || err == -ECONNREFUSED || err == -EPROTO ? -ESRCH : err);
	if (n && node_state(n) == MOTE_NODE_CONNECTING)
		node_gone(s, n);
}

static void hook_room(struct scheduler *s, struct carrier *c)
{
	struct node *n = carrier_core(c);

	if (n)
		remote_room_found(s, n);
}

static const struct port_hooks hooks = {
	.wake = scheduler_nudge,
	.up = hook_up,
	.record = remote_record,
	.room = hook_room,
	.down = hook_down,
	.unreachable = hook_unreachable,
};

/* --- the life of the table --- */

static void nodes_clear(void)
{
	memset(buckets, 0, sizeof(buckets));
	nr_nodes = 0;
	table_lock = connectors_lock = (struct lock){ 0 };
	connectors = NULL;
	remote_forget();
	node_watch_forget();
}

int nodes_start(const char *name, unsigned int schedulers, uint64_t budget)
{
	struct port_opts opts = { .name = name, .slots = schedulers, .hooks = &hooks };

	node_budget = budget ? budget : BUDGET;
	if (name && !*name)
		return 0;
	return port_start(&opts);
}

int nodes_open(void)
{
	return port_open();
}

void nodes_close(void)
{
	port_close();
}

void nodes_stop(void)
{
	port_stop();
	for (int i = 0; i < BUCKETS; i++) {
		struct node *n, *next;

		for (n = atomic_load(&buckets[i]); n; n = next) {
			next = n->next;
			remote_drop(n);
			free(n);
		}
	}
	edges_stop();
	nodes_clear();
}

void nodes_forget(void)
{
	port_forget();
	edges_forget();
	nodes_clear();
}

/* --- public --- */

mote_node mote_node_self(void)
{
	return (mote_node){ port_node };
}

const char *mote_node_name(void)
{
	return port_node_name();
}

uint32_t node_connect(const char *name, int64_t deadline, int *err)
{
	struct scheduler *s = scheduler_self();
	struct process *self = process_self(s);
	struct sleeper sl = { .task = NULL };
	struct connector c = { .name = name, .task = &self->task };
	bool fatal = false;

	lock_take(&connectors_lock);
	c.next = connectors;
	c.link = &connectors;
	if (connectors)
		connectors->link = &c.next;
	connectors = &c;
	lock_drop(&connectors_lock);
	*err = port_connect(0, name);
	while (!*err && !fatal) {
		signals_take(s, self);
		fatal = self->fatal && !self->task.dying;
		/* acquire: pairs with connected() */
		if (atomic_load_explicit(&c.done, memory_order_acquire) || fatal)
			break;
		*err = process_wait(s, self, &sl, deadline, MOTE_WAIT_NODE);
		s = scheduler_self();
	}
	sleeper_disarm(&sl);
	lock_take(&connectors_lock);
	if (!atomic_load_explicit(&c.done, memory_order_relaxed)) {
		*c.link = c.next;
		if (c.next)
			c.next->link = c.link;
	}
	lock_drop(&connectors_lock);
	if (fatal)
		task_die(&self->task);
	if (!*err)
		*err = c.err;
	return *err ? 0 : c.node;
}

mote_node mote_node_connect(const char *name, mote_deadline deadline)
{
	struct scheduler *s = runtime_enter("mote_node_connect");
	mote_node node = { 0 };
	int err = -EINVAL;
	struct node *n;

	if (!port_node)
		err = -ENETDOWN;
	else if (name && *name && strlen(name) <= MOTE_NODE_NAME_MAX)
		err = 0;
	if (!err)
		node.id = node_connect(name, deadline.ns, &err);
	/* Only now: who has the name may have died since, and another have it. */
	n = err == -ETIMEDOUT ? node_named(name) : NULL;
	if (n) {
		node.id = n->id;
		err = 0;
	}
	s = scheduler_self();
	if (err)
		process_fail(process_self(s), err);
	process_leave(s);
	return node;
}

int mote_node_disconnect(mote_node node)
{
	struct scheduler *s = runtime_try_enter();
	struct node *n = node_find(node.id);
	int err = -ESRCH;

	if (n) {
		lock_take(&n->lock);
		if (n->carrier) {
			carrier_cut(n->carrier, PORT_CLOSED, "disconnected");
			err = 0;
		}
		lock_drop(&n->lock);
		/* Who found the lock taken has left something. */
		remote_push(s, n);
	}
	if (s)
		process_leave(s);
	return err;
}

int mote_node_info(mote_node node, struct mote_node_info *info)
{
	struct mote_node_info full = { .size = info->size, .node = node };
	struct carrier_counts counts = { 0 };
	struct scheduler *s;
	struct node *n;
	int err = -ESRCH;

	if (info->size < sizeof(info->size))
		return -EINVAL;
	s = runtime_try_enter();
	n = node_find(node.id);
	if (node.id && port_is_here(node.id)) {
		full.state = MOTE_NODE_SELF;
		strcpy(full.name, port_node_name());
		err = 0;
	} else if (n) {
		full.state = node_state(n);
		if (full.state != MOTE_NODE_CONNECTING)
			strcpy(full.name, n->name);
		lock_take(&n->lock);
		if (n->carrier)
			carrier_count(n->carrier, &counts);
		lock_drop(&n->lock);
		remote_push(s, n);
		full.records_in = counts.records_in;
		full.records_out = counts.records_out;
		full.bytes_in = counts.bytes_in;
		full.bytes_out = counts.bytes_out;
		full.rings = counts.rings;
		full.undelivered = atomic_load_explicit(&n->undelivered, memory_order_relaxed);
		full.queued = atomic_load_explicit(&n->queued, memory_order_relaxed);
		err = 0;
	}
	if (s)
		runtime_leave_on(s);
	if (!err)
		opts_give(info, full.size, &full, sizeof(full));
	return err;
}

struct node_visit {
	bool (*visit)(mote_node node, const char *name, int state, void *arg);
	void *arg;
};

static bool visit_node(uint32_t id, const char *name, void *arg)
{
	struct node_visit *v = arg;
	struct node *n = node_find(id);
	int state = port_is_here(id) ? MOTE_NODE_SELF : n ? node_state(n) : MOTE_NODE_STRANGER;

	return v->visit((mote_node){ id }, name, state, v->arg);
}

int mote_node_each(bool (*visit)(mote_node node, const char *name, int state, void *arg), void *arg)
{
	struct node_visit v = { visit, arg };
	struct scheduler *s;
	int err;

	if (!port_node)
		return -ENETDOWN;
	s = runtime_try_enter();
	runtime_veil();
	err = port_list(visit_node, &v);
	runtime_unveil(s);
	if (s)
		runtime_leave_on(s);
	return err;
}
