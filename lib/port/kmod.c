// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The port over the module (include/uapi/linux/mote.h): lanes, bells and deaths are the kernel's, and a thread
 * reads what it has to say.
 *
 * A connection is a pair of lanes, each opened by its writer. Who opens one unasked calls; the answer is a
 * lane whose cookie names it. If both call at once, either call answers the other. The upper half of a cookie
 * says which slot its sender is to be rung at.
 *
 * Who ends a connection says why in the only page that it writes and the other one looks at afterwards: the
 * consumer page of the lane from there to here.
 *
 * Only the thread makes, changes and frees peers. Others read what does not change while the carrier is up,
 * and ring.
 */
#include "port/carrier.h"
#include "port/errand.h"
#include "port/fence.h"
#include "port/kmod.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <uapi/linux/mote.h>

#define LANE_BYTES	(UINT64_C(1) << 20)
#define PATIENCE_MS	5000		/* for an answer */
#define HELD_MS		2		/* until core is offered again what it has refused */
#define FAREWELL	1024		/* where in the consumer page */

struct farewell {
	_Atomic uint32_t why;		/* 0, or 1 + enum port_end, as the peer is to see it */
	char text[COMPLAINT_MAX];
};

enum peer_state {
	WAITING,			/* for the last connection with this node to be over for core */
	CALLED,				/* we have, and it is to answer */
	STANDING,
	OVER,				/* until core releases it */
};

struct peer {
	struct carrier c;		/* first */
	struct peer *next;
	enum peer_state state;
	uint32_t lane_out, lane_in;	/* 0: none */
	uint64_t size_in;
	unsigned int peer_home;
	const struct mote_bell *bell;
	struct area out_producer, out_consumer, in_producer, in_consumer, bells;
	int64_t deadline;
	struct request *requests;	/* answered by how the call ends */
};

static int device = -1;
static unsigned int nr_slots;
static struct area own_bells;
static int *bell_fds;
static struct peer *peers;
static unsigned int nr_peers;
static pthread_t thread;
static bool running;
static _Atomic bool ending;

int kmod_device(void)
{
	return device;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t bells_length(unsigned int slots)
{
	size_t page = page_size();

	return (sizeof(struct mote_bells) + slots * sizeof(struct mote_bell) + page - 1) / page * page;
}

static struct farewell *farewell_in(const struct area *consumer)
{
	return (struct farewell *)((char *)consumer->map + FAREWELL);
}

/* --- peers --- */

static struct peer *peer_new(uint32_t node)
{
	struct peer *p;

	if (nr_peers >= CARRIERS_MAX)
		return NULL;
	p = aligned_alloc(_Alignof(struct peer), sizeof(*p));
	if (!p)
		return NULL;
	memset(p, 0, sizeof(*p));
	p->c.node = node;
	p->c.home = carrier_choose_home();
	p->deadline = now_ms() + PATIENCE_MS;
	p->next = peers;
	peers = p;
	nr_peers++;
	return p;
}

static void lane_shut(uint32_t lane)
{
	struct mote_object o = { .size = sizeof(o), .id = lane };

	/* It fails if the peer was what it belonged to. */
	ioctl(device, MOTE_IOC_LANE_CLOSE, &o);
}

/* The mappings stay: records may still lie there, and somebody may be about to ring. */
static void peer_hang_up(struct peer *p)
{
	if (p->lane_out)
		lane_shut(p->lane_out);
	if (p->lane_in)
		lane_shut(p->lane_in);
	p->lane_out = p->lane_in = 0;
}

static void peer_drop(struct peer *p)
{
	struct peer **at = &peers;

	peer_hang_up(p);
	area_drop(&p->out_producer);
	area_drop(&p->out_consumer);
	area_drop(&p->in_producer);
	area_drop(&p->in_consumer);
	area_drop(&p->bells);
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	nr_peers--;
	free(p);
}

static void peer_fail(struct peer *p, int err)
{
	while (p->requests) {
		struct request *r = p->requests;

		p->requests = r->next;
		request_fail(r, err);
	}
	peer_drop(p);
}

static void say_bye(struct peer *p, enum port_end why, const char *text)
{
	struct farewell *f = farewell_in(&p->in_consumer);

	snprintf(f->text, sizeof(f->text), "%s", text);
	/* release: the text is there for who finds this */
	atomic_store_explicit(&f->why, 1 + why, memory_order_release);
}

static void peer_over(struct peer *p, enum port_end why, const char *text)
{
	carrier_end(&p->c, why, text);
	peer_hang_up(p);
	p->state = OVER;
}

/* --- making a connection --- */

static int node_find(uint32_t node, const char *name, struct mote_node_desc *desc)
{
	*desc = (struct mote_node_desc){ .size = sizeof(*desc), .node = node, .uid = node ? 0 : MOTE_OWN_UID };
	if (!node)
		strncpy(desc->name, name, sizeof(desc->name) - 1);
	if (ioctl(device, MOTE_IOC_NODE_FIND, desc))
		return errno == ESRCH ? -ENOENT : -errno;
	return 0;
}

/* Our lane, which answers that one; 0: it calls. */
static int peer_open_out(struct peer *p, uint32_t answers)
{
	struct mote_lane_open open = {
		.size = sizeof(open), .node = p->c.node, .data_size = LANE_BYTES,
		.cookie = (uint64_t)p->c.home << 32 | answers,
	};
	size_t page = page_size();
	int err;

	if (ioctl(device, MOTE_IOC_LANE_OPEN, &open))
		return errno == ESRCH ? -ENOENT : -errno;
	p->lane_out = open.lane;
	err = area_map(&p->out_producer, device, MOTE_AREA_WRITER, p->lane_out, page + 2 * LANE_BYTES, true);
	if (!err)
		err = area_map(&p->out_consumer, device, MOTE_AREA_READER, p->lane_out, page, false);
	return err;
}

/* Its lane, and the bells that say where to ring. */
static int peer_map_in(struct peer *p)
{
	struct mote_node_desc desc;
	size_t page = page_size();
	int err = node_find(p->c.node, NULL, &desc);

	if (err)
		return err;
	desc.name[sizeof(desc.name) - 1] = 0;
	if (p->peer_home >= desc.nr_slots || !port_name_good(desc.name))
		return -EPROTO;
	strcpy(p->c.name, desc.name);
	err = area_map(&p->in_producer, device, MOTE_AREA_WRITER, p->lane_in, page + 2 * p->size_in, false);
	if (!err)
		err = area_map(&p->in_consumer, device, MOTE_AREA_READER, p->lane_in, page, true);
	if (!err)
		err = area_map(&p->bells, device, MOTE_AREA_BELLS, p->c.node, bells_length(desc.nr_slots), false);
	if (!err)
		p->bell = &((const struct mote_bells *)p->bells.map)->bell[p->peer_home];
	return err;
}

static void peer_stand(struct peer *p)
{
	char *out = p->out_producer.map;
	const char *in = p->in_producer.map;
	size_t page = page_size();

	lane_writer_init(&p->c.out, out, out + page, p->out_consumer.map, LANE_BYTES, &p->c.wanted);
	lane_reader_init(&p->c.in, in, in + page, p->in_consumer.map, p->size_in);
	p->state = STANDING;
	while (p->requests) {
		struct request *r = p->requests;

		p->requests = r->next;
		free(r);
	}
	carrier_raise(&p->c);
}

/* There may be two peers of a node: one that is over, and one that is to follow. */
static struct peer *peer_of(uint32_t node, bool over)
{
	for (struct peer *p = peers; p; p = p->next) {
		if (p->c.node == node && (p->state == OVER) == over)
			return p;
	}
	return NULL;
}

/* Calls, or answers, as soon as that may be. */
static void peer_begin(struct peer *p)
{
	int err;

	if (peer_of(p->c.node, true))
		return;
	if (!p->lane_in) {
		err = peer_open_out(p, 0);
		p->state = CALLED;
		if (err)
			peer_fail(p, err);
		return;
	}
	err = peer_map_in(p);
	if (!err)
		err = peer_open_out(p, p->lane_in);
	if (err)
		peer_fail(p, err == -ENOENT ? -ECONNREFUSED : err);
	else
		peer_stand(p);
}

static void connect_request(struct request *r)
{
	struct mote_node_desc desc;
	int err = node_find(r->node, r->name, &desc);
	struct peer *p;

	/* What has no name is no runtime's. */
	if (!err && !desc.name[0])
		err = -ECONNREFUSED;
	if (!err && desc.node == port_node)
		err = -EINVAL;
	if (err) {
		request_fail(r, err);
		return;
	}
	p = peer_of(desc.node, false);
	if (p && p->state == STANDING) {
		request_stands(r, &p->c);
		return;
	}
	if (p) {
		r->next = p->requests;
		p->requests = r;
		return;
	}
	p = peer_new(desc.node);
	if (!p) {
		request_fail(r, nr_peers >= CARRIERS_MAX ? -EMFILE : -ENOMEM);
		return;
	}
	r->next = NULL;
	p->requests = r;
	peer_begin(p);
}

/* --- what the module says --- */

static void lane_opened(const struct mote_event *e)
{
	struct peer *p = peer_of(e->node, false);
	uint32_t answers = (uint32_t)e->cookie;
	int err;

	if (!p && !answers)
		p = peer_new(e->node);
	/* An answer to what was given up; a second call, which breaks the rules; no memory. */
	if (!p || p->lane_in || (answers && answers != p->lane_out)) {
		lane_shut(e->lane);
		return;
	}
	p->lane_in = e->lane;
	p->size_in = e->value;
	p->peer_home = (unsigned int)(e->cookie >> 32);
	if (p->state == WAITING) {
		peer_begin(p);
		return;
	}
	err = peer_map_in(p);
	if (err)
		peer_fail(p, err == -ENOENT ? -ECONNREFUSED : err);
	else
		peer_stand(p);
}

/* By the other side: it has said why, if it had come so far. */
static void lane_closed(const struct mote_event *e)
{
	char text[COMPLAINT_MAX];
	struct peer *p = peers;
	struct farewell *f;
	uint32_t why;

	while (p && p->lane_out != e->lane && p->lane_in != e->lane)
		p = p->next;
	if (!p) {
		return;
	}
	if (p->state != STANDING) {
		peer_fail(p, -ECONNREFUSED);
		return;
	}
	f = farewell_in(&p->out_consumer);
	/* acquire: pairs with say_bye() */
	why = atomic_load_explicit(&f->why, memory_order_acquire);
	/* The peer's, and may change while it is copied. */
	memcpy(text, f->text, sizeof(text));
	text[sizeof(text) - 1] = 0;
	peer_over(p, why == 1 + PORT_CUT ? PORT_CUT : PORT_CLOSED, why ? text : NULL);
}

static void node_down(const struct mote_event *e)
{
	struct peer *p, *next;

	for (p = peers; p; p = next) {
		next = p->next;
		if (p->c.node != e->node || p->state == OVER)
			continue;
		if (p->state == STANDING)
			peer_over(p, PORT_DIED, NULL);
		else
			peer_fail(p, -ECONNREFUSED);
	}
}

static void events_read(void)
{
	struct mote_event events[32];
	ssize_t n;

	while ((n = read(device, events, sizeof(events))) > 0) {
		for (size_t i = 0; i < (size_t)n / sizeof(events[0]); i++) {
			if (events[i].type == MOTE_EVENT_LANE_OPENED)
				lane_opened(&events[i]);
			else if (events[i].type == MOTE_EVENT_LANE_CLOSED)
				lane_closed(&events[i]);
			else if (events[i].type == MOTE_EVENT_NODE_DOWN)
				node_down(&events[i]);
		}
	}
}

/* --- the thread --- */

static void peer_released(struct peer *p)
{
	uint32_t node = p->c.node;

	peer_drop(p);
	p = peer_of(node, false);
	if (p && p->state == WAITING)
		peer_begin(p);
}

static void errand_do(struct errand *e)
{
	struct peer *p;

	switch (e->kind) {
	case ERRAND_CONNECT:
		connect_request((struct request *)((char *)e - offsetof(struct request, errand)));
		break;
	case ERRAND_CUT:
		p = (struct peer *)((char *)e - offsetof(struct peer, c.cut));
		if (p->state != STANDING)
			break;
		say_bye(p, atomic_load_explicit(&p->c.end, memory_order_relaxed) - 1, p->c.complaint);
		peer_hang_up(p);
		p->state = OVER;
		break;
	case ERRAND_RELEASE:
		peer_released((struct peer *)((char *)e - offsetof(struct peer, c.release)));
		break;
	}
}

static void errands_do(void)
{
	struct errand *e = errands_take();

	while (e) {
		struct errand *next = e->next;

		errand_do(e);
		e = next;
	}
}

static void unhold_all(void)
{
	for (struct peer *p = peers; p; p = p->next) {
		if (p->state >= STANDING)
			carrier_unhold(&p->c);
	}
}

/* Ends the calls that nobody has answered. Returns when there may be another one, in ms from now; -1: never. */
static int calls_expire(int64_t now)
{
	int64_t first = INT64_MAX;
	struct peer *p, *next;

	for (p = peers; p; p = next) {
		next = p->next;
		if (p->state != CALLED)
			continue;
		if (p->deadline <= now)
			peer_fail(p, -ETIMEDOUT);
		else if (p->deadline < first)
			first = p->deadline;
	}
	return first == INT64_MAX ? -1 : (int)(first - now);
}

static void all_bye(void)
{
	for (struct peer *p = peers; p; p = p->next) {
		if (p->state == STANDING)
			say_bye(p, PORT_CLOSED, "");
		peer_hang_up(p);
	}
}

static void *thread_main(void *unused)
{
	struct pollfd fds[] = { { .fd = device, .events = POLLIN }, { .fd = errands_fd(), .events = POLLIN } };
	int64_t unhold_at = 0;

	pthread_setname_np(pthread_self(), "mote/port");
	/* acquire: pairs with kmod_close() */
	while (!atomic_load_explicit(&ending, memory_order_acquire)) {
		int64_t now = now_ms();
		int wait = calls_expire(now);

		if (unhold_at && unhold_at <= now) {
			unhold_at = 0;
			unhold_all();
		}
		if (unhold_at && (wait < 0 || wait > HELD_MS))
			wait = HELD_MS;
		poll(fds, 2, wait);
		events_read();
		errands_do();
		if (errands_held() && !unhold_at)
			unhold_at = now_ms() + HELD_MS;
	}
	all_bye();
	return unused;
}

/* --- the port --- */

static void kmod_forget(void)
{
	for (unsigned int i = 0; bell_fds && i < nr_slots; i++) {
		if (bell_fds[i] >= 0)
			close(bell_fds[i]);
	}
	errands_forget();
	if (device >= 0)
		close(device);
	device = -1;
	bell_fds = NULL;
	running = false;
}

static void kmod_stop(void)
{
	int *fds = bell_fds;

	while (peers) {
		struct peer *p = peers;

		while (p->requests) {
			struct request *r = p->requests;

			p->requests = r->next;
			free(r);
		}
		peer_drop(p);
	}
	errands_stop();
	area_drop(&own_bells);
	kmod_forget();
	free(fds);
}

static int bells_open(void)
{
	bell_fds = malloc(nr_slots * sizeof(*bell_fds));
	if (!bell_fds)
		return -ENOMEM;
	for (unsigned int i = 0; i < nr_slots; i++)
		bell_fds[i] = -1;
	for (unsigned int i = 0; i < nr_slots; i++) {
		struct mote_object o = { .size = sizeof(o), .id = i };

		bell_fds[i] = ioctl(device, MOTE_IOC_BELL_FD, &o);
		if (bell_fds[i] < 0)
			return -errno;
	}
	return area_map(&own_bells, device, MOTE_AREA_BELLS, port_node, bells_length(nr_slots), true);
}

static int kmod_start(const char *name, unsigned int slots)
{
	int err;

	if (!slots || slots > MOTE_SLOTS_MAX)
		return -EINVAL;
	peers = NULL;
	nr_peers = 0;
	running = false;
	nr_slots = slots;
	atomic_store_explicit(&ending, false, memory_order_relaxed);
	device = device_open(name, slots, &port_node);
	if (device < 0) {
		err = device;
		device = -1;
		return err;
	}
	err = errands_start();
	if (!err)
		err = bells_open();
	if (err) {
		kmod_stop();
		port_node = 0;
	}
	return err;
}

static int kmod_open(void)
{
	sigset_t all, old;
	int err;

	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = -pthread_create(&thread, NULL, thread_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	running = !err;
	return err;
}

static void kmod_close(void)
{
	if (!running)
		return;
	/* release: what was committed before is there when the peers hear of the end */
	atomic_store_explicit(&ending, true, memory_order_release);
	errands_poke();
	pthread_join(thread, NULL);
	running = false;
}

static int kmod_list(bool (*visit)(uint32_t node, const char *name, void *arg), void *arg)
{
	struct mote_node_desc nodes[64];
	struct mote_node_list list = { .size = sizeof(list), .nodes = (uintptr_t)nodes };
	uint32_t uid = geteuid();

	do {
		for (int i = 0; i < 64; i++)
			nodes[i] = (struct mote_node_desc){ .size = sizeof(nodes[i]) };
		list.nr = 64;
		if (ioctl(device, MOTE_IOC_NODE_LIST, &list))
			return -errno;
		for (uint32_t i = 0; i < list.nr; i++) {
			nodes[i].name[sizeof(nodes[i].name) - 1] = 0;
			/* Others' names are not ours to look up, and without one it is no runtime's. */
			if (nodes[i].uid == uid && port_name_good(nodes[i].name) &&
			    !visit(nodes[i].node, nodes[i].name, arg))
				return 0;
		}
		if (list.nr)
			list.after = nodes[list.nr - 1].node;
	} while (list.nr == 64);
	return 0;
}

static int kmod_bell_fd(unsigned int slot)
{
	return bell_fds[slot];
}

/* The module's words, which it writes, too. */
static uint32_t *state_of(unsigned int slot)
{
	return &((struct mote_bells *)own_bells.map)->bell[slot].state;
}

static void kmod_park(unsigned int slot)
{
	/* relaxed: the fence orders it before the look at the lanes */
	__atomic_store_n(state_of(slot), MOTE_BELL_PARKED, __ATOMIC_RELAXED);
	full_fence();
}

static void kmod_awake(unsigned int slot)
{
	/* relaxed: who still sees the old state rings for nothing */
	__atomic_store_n(state_of(slot), MOTE_BELL_RUNNING, __ATOMIC_RELAXED);
}

static void kmod_ring(struct carrier *c)
{
	struct peer *p = (struct peer *)c;
	struct mote_enter enter = {
		.size = sizeof(enter), .flags = MOTE_ENTER_RING, .ring = { .node = c->node, .slot = p->peer_home },
	};

	/* relaxed: after the caller's fence. The module takes PARKED away, so that one of many rings. */
	if (__atomic_load_n(&p->bell->state, __ATOMIC_RELAXED) != MOTE_BELL_PARKED)
		return;
	ioctl(device, MOTE_IOC_ENTER, &enter);
	atomic_fetch_add_explicit(&c->rings, 1, memory_order_relaxed);
}

const struct port_ops port_kmod = {
	.name = "kmod",
	.start = kmod_start,
	.open = kmod_open,
	.close = kmod_close,
	.stop = kmod_stop,
	.forget = kmod_forget,
	.errand = errand_give,
	.held = errands_hold,
	.list = kmod_list,
	.bell_fd = kmod_bell_fd,
	.park = kmod_park,
	.awake = kmod_awake,
	.ring = kmod_ring,
};
