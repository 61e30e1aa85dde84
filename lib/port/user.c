// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The port that needs no module: lanes in sealed memory (port/segment.h), eventfds for bells, a socket to each peer that
 * nothing is said on between handshake and end, and a thread that does what has to be waited for.
 *
 * Only the thread makes, changes and frees peers. Others read what does not change while the carrier is up, ring, and
 * leave errands.
 *
 * A peer is dead when its pidfd says so or its socket hangs up: exec shows only as the latter, and a forked child that
 * still holds the socket hides all but the former. What it published was there before either.
 */
#include "port/carrier.h"
#include "port/fence.h"
#include "port/handshake.h"
#include "port/rendezvous.h"
#include "port/segment.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LANE_BYTES	(UINT64_C(1) << 20)
#define SLOTS_MAX	256
#define PATIENCE_MS	5000		/* for a handshake */
#define AGAIN_MS	3		/* until the next try, of what others have to be done with first */
#define HELD_MS		2		/* until core is offered again what it has refused */
#define CROWDED_MS	100		/* until the next try to accept, without descriptors or memory */

/* Odd: its worker sleeps. Grows, so that a peer rings once for each time. */
struct bell {
	_Atomic uint64_t word;
} __attribute__((aligned(64)));

enum peer_state {
	CALLING,			/* we do, from time to time */
	GREETED,			/* we have, and it is to answer */
	ACCEPTED,			/* it has connected, and is to greet */
	WELCOMED,			/* it was, and is to be ready */
	STANDING,
	OVER,				/* until core releases it */
	DEAD,				/* to be freed when the thread has looked at all events */
};

struct peer {
	struct carrier c;		/* first */
	_Atomic(struct peer *) next;	/* atomic: a forked child walks the list, in whatever state that was */
	enum peer_state state;
	bool released;
	int sock, pidfd;		/* or -1 */
	int bell_fd;			/* that the peer rings */
	int peer_bell_fd;		/* stays open until nobody can ring any more */
	const struct bell *peer_bell;
	_Atomic uint64_t rung;		/* its word when we last rang */
	struct segment writer, reader;	/* ours */
	struct segment peer_writer, peer_reader, peer_bells;
	int64_t deadline, again;	/* of the handshake */
	struct request *requests;	/* answered by how that ends */
};

static struct rendezvous here = RENDEZVOUS_NONE;
static unsigned int nr_slots;
static struct segment bells;
static int bells_fd = -1;
static int *slot_fds;			/* epolls of the peers' bells */
static _Atomic(struct peer *) peers;
static unsigned int nr_peers;
static int epoll_fd = -1, poke_fd = -1, listen_fd = -1;
static pthread_t thread;
static bool running;
static _Atomic bool ending, holding;
static _Atomic(struct errand *) errands;	/* newest first */
static int64_t accept_again, unhold_at;		/* 0: not */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* The number goes first: a child that is forked in between closes nothing that is somebody else's by then. */
static void fd_close(int *fd)
{
	int old = *fd;

	*fd = -1;
	atomic_signal_fence(memory_order_seq_cst);
	if (old >= 0)
		close(old);
}

static struct peer *peer_first(void)
{
	/* relaxed: only the thread changes it */
	return atomic_load_explicit(&peers, memory_order_relaxed);
}

static struct peer *peer_next(struct peer *p)
{
	return atomic_load_explicit(&p->next, memory_order_relaxed);
}

/* --- peers --- */

static struct peer *peer_new(enum peer_state state)
{
	struct peer *p;

	if (nr_peers >= CARRIERS_MAX)
		return NULL;
	p = aligned_alloc(_Alignof(struct peer), sizeof(*p));
	if (!p)
		return NULL;
	memset(p, 0, sizeof(*p));
	p->state = state;
	p->sock = p->pidfd = p->bell_fd = p->peer_bell_fd = -1;
	p->deadline = now_ms() + PATIENCE_MS;
	atomic_init(&p->next, peer_first());
	/* release: a forked child finds it whole */
	atomic_store_explicit(&peers, p, memory_order_release);
	nr_peers++;
	return p;
}

static int watch(int fd, uint64_t data)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

/* Nothing is heard of it any more, and it cannot ring. */
static void peer_hang_up(struct peer *p)
{
	fd_close(&p->sock);
	fd_close(&p->pidfd);
	/* Taken out by hand: the peer has that file as well. */
	if (p->bell_fd >= 0)
		epoll_ctl(slot_fds[p->c.home], EPOLL_CTL_DEL, p->bell_fd, NULL);
	fd_close(&p->bell_fd);
}

/* Back to how it was made. */
static void peer_strip(struct peer *p)
{
	peer_hang_up(p);
	fd_close(&p->peer_bell_fd);
	segment_drop(&p->writer);
	segment_drop(&p->reader);
	segment_drop(&p->peer_writer);
	segment_drop(&p->peer_reader);
	segment_drop(&p->peer_bells);
}

static void peer_drop(struct peer *p)
{
	peer_strip(p);
	p->state = DEAD;
}

/* None of the events that the thread still has to look at is of them. */
static void peers_bury(void)
{
	_Atomic(struct peer *) *at = &peers;
	struct peer *p;

	while ((p = atomic_load_explicit(at, memory_order_relaxed))) {
		if (p->state != DEAD) {
			at = &p->next;
			continue;
		}
		atomic_store_explicit(at, peer_next(p), memory_order_release);
		nr_peers--;
		free(p);
	}
}

static void requests_move(struct peer *to, struct peer *from)
{
	struct request **at = &to->requests;

	while (*at)
		at = &(*at)->next;
	*at = from->requests;
	from->requests = NULL;
}

/* Comes to nothing. */
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
	struct message m = { .kind = MESSAGE_BYE, .why = why };

	snprintf(m.text, sizeof(m.text), "%s", text);
	/* If it cannot be told it sees the socket hang up. */
	message_send(p->sock, &m, NULL);
}

/* --- making a connection --- */

static size_t bells_size(unsigned int slots)
{
	size_t page = segment_page();

	return (slots * sizeof(struct bell) + page - 1) / page * page;
}

/* Our part of it, and the message that offers it. fds: two of them are new. */
static int peer_equip(struct peer *p, struct message *m, int fds[MESSAGE_FDS])
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };
	size_t page = segment_page();

	p->c.home = carrier_choose_home();
	/* Never read, so that it stays readable; each write of nothing then is an edge, and can't fill it up. */
	p->bell_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->bell_fd < 0)
		return -errno;
	if (epoll_ctl(slot_fds[p->c.home], EPOLL_CTL_ADD, p->bell_fd, &e))
		return -errno;
	fds[FD_WRITER] = segment_make(&p->writer, page + LANE_BYTES, page);
	if (fds[FD_WRITER] < 0)
		return fds[FD_WRITER];
	fds[FD_READER] = segment_make(&p->reader, page, page);
	if (fds[FD_READER] < 0) {
		close(fds[FD_WRITER]);
		return fds[FD_READER];
	}
	fds[FD_BELLS] = bells_fd;
	fds[FD_RING] = p->bell_fd;
	*m = (struct message){ .node = port_node, .slots = nr_slots, .home = p->c.home, .data = LANE_BYTES };
	strcpy(m->name, here.name);
	return 0;
}

static int peer_offer(struct peer *p, enum message_kind kind)
{
	int fds[MESSAGE_FDS], err;
	struct message m;

	err = peer_equip(p, &m, fds);
	if (err)
		return err;
	m.kind = kind;
	err = message_send(p->sock, &m, fds);
	close(fds[FD_WRITER]);
	close(fds[FD_READER]);
	return err;
}

/* The peer's part of it. */
static int peer_adopt(struct peer *p, const struct message *m, int fds[MESSAGE_FDS])
{
	size_t page = segment_page();
	int err;

	if (fds[0] < 0 || m->data != LANE_BYTES || !m->slots || m->slots > SLOTS_MAX || m->home >= m->slots ||
	    !port_name_good(m->name) || !is_eventfd(fds[FD_RING]))
		return -EPROTO;
	err = segment_take(&p->peer_writer, fds[FD_WRITER], page + LANE_BYTES, page);
	if (!err)
		err = segment_take(&p->peer_reader, fds[FD_READER], page, page);
	if (!err)
		err = segment_take(&p->peer_bells, fds[FD_BELLS], bells_size(m->slots), bells_size(m->slots));
	if (err)
		return err;
	p->peer_bell = (const struct bell *)p->peer_bells.map + m->home;
	p->peer_bell_fd = fds[FD_RING];
	fds[FD_RING] = -1;
	strcpy(p->c.name, m->name);
	return 0;
}

static void peer_stand(struct peer *p)
{
	char *out = p->writer.map;
	const char *in = p->peer_writer.map;
	size_t page = segment_page();

	lane_writer_init(&p->c.out, out, out + page, p->peer_reader.map, LANE_BYTES, &p->c.wanted);
	lane_reader_init(&p->c.in, in, in + page, p->reader.map, LANE_BYTES);
	p->state = STANDING;
	while (p->requests) {
		struct request *r = p->requests;

		p->requests = r->next;
		free(r);
	}
	carrier_raise(&p->c);
}

/* --- calling --- */

static struct peer *peer_find(uint32_t node, const struct peer *but)
{
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		if (p->c.node == node && p != but && p->state != DEAD)
			return p;
	}
	return NULL;
}

static void call_later(struct peer *p)
{
	peer_strip(p);
	p->state = CALLING;
	p->again = now_ms() + AGAIN_MS;
}

static void call(struct peer *p)
{
	int err;

	/* The last one with this node has not ended for core yet. */
	if (peer_find(p->c.node, p)) {
		call_later(p);
		return;
	}
	p->sock = rendezvous_call(&here, p->c.node);
	if (p->sock == -EAGAIN) {
		call_later(p);
		return;
	}
	if (p->sock < 0) {
		err = p->sock;
		p->sock = -1;
		peer_fail(p, err);
		return;
	}
	p->pidfd = peer_watch(p->sock);
	err = p->pidfd < 0 ? p->pidfd : watch(p->sock, (uintptr_t)p);
	if (!err)
		err = watch(p->pidfd, (uintptr_t)p | 1);
	if (!err)
		err = peer_offer(p, MESSAGE_HELLO);
	if (err)
		peer_fail(p, err == -EPIPE ? -ECONNREFUSED : err);
	else
		p->state = GREETED;
}

static void connect_request(struct request *r)
{
	uint32_t node = r->node ? r->node : rendezvous_find(&here, r->name);
	struct peer *p;

	if (!node || node == port_node) {
		request_fail(r, node ? -EINVAL : -ENOENT);
		return;
	}
	/* There may be two: one that is over, and one that is to follow. */
	for (p = peer_first(); p && (p->c.node != node || p->state >= OVER); p = peer_next(p))
		;
	if (p && p->state == STANDING) {
		request_stands(r, &p->c);
		return;
	}
	if (p) {
		r->next = p->requests;
		p->requests = r;
		return;
	}
	p = peer_new(CALLING);
	if (!p) {
		request_fail(r, nr_peers >= CARRIERS_MAX ? -EMFILE : -ENOMEM);
		return;
	}
	r->next = NULL;
	p->requests = r;
	p->c.node = node;
	call(p);
}

/* --- being called --- */

static void accept_all(void)
{
	for (;;) {
		int sock = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct peer *p;

		if (sock < 0 && (errno == ECONNABORTED || errno == EINTR))
			continue;
		if (sock < 0 && errno != EAGAIN) {
			/* It would stay readable. */
			epoll_ctl(epoll_fd, EPOLL_CTL_DEL, listen_fd, NULL);
			accept_again = now_ms() + CROWDED_MS;
		}
		if (sock < 0)
			return;
		p = peer_new(ACCEPTED);
		if (!p) {
			close(sock);
			continue;
		}
		p->sock = sock;
		p->pidfd = peer_watch(sock);
		if (p->pidfd < 0 || watch(sock, (uintptr_t)p) || watch(p->pidfd, (uintptr_t)p | 1))
			peer_drop(p);
	}
}

static void peer_hear(struct peer *p);

/*
 * Whether to go on with p, which says that it is that node. Of two that call each other at once the one with the lower id
 * prevails. True: not now.
 */
static bool hello_too_early(struct peer *p, uint32_t node)
{
	struct peer *q = peer_find(node, p);

	/* It would not call if it had not given up what we have: that is about to be heard. */
	if (q && q->sock >= 0)
		peer_hear(q);
	for (q = peer_first(); q; q = peer_next(q)) {
		if (q->c.node == node && q != p && q->state != DEAD && q->state != CALLING &&
		    (q->state != GREETED || port_node < node))
			return true;
	}
	/* What we have begun ourselves is left to it. */
	while ((q = peer_find(node, p))) {
		requests_move(p, q);
		peer_drop(q);
	}
	return false;
}

static void hello(struct peer *p, const struct message *m, int fds[MESSAGE_FDS])
{
	struct message again = { .kind = MESSAGE_AGAIN };
	int err;

	if (!m->node || m->node == port_node) {
		say_bye(p, PORT_CUT, "wrong node");
		peer_drop(p);
		return;
	}
	if (hello_too_early(p, m->node)) {
		message_send(p->sock, &again, NULL);
		peer_drop(p);
		return;
	}
	p->c.node = m->node;
	err = peer_adopt(p, m, fds);
	if (!err)
		err = peer_offer(p, MESSAGE_WELCOME);
	if (!err) {
		p->state = WELCOMED;
		return;
	}
	say_bye(p, PORT_CUT, err == -EPROTO ? "what was offered is no connection" : strerror(-err));
	peer_fail(p, err == -EPIPE ? -ECONNREFUSED : err);
}

static void welcome(struct peer *p, const struct message *m, int fds[MESSAGE_FDS])
{
	struct message ready = { .kind = MESSAGE_READY };
	int err = m->node == p->c.node ? peer_adopt(p, m, fds) : -EPROTO;

	if (err) {
		say_bye(p, PORT_CUT, err == -EPROTO ? "what was offered is no connection" : strerror(-err));
	} else {
		err = message_send(p->sock, &ready, NULL);
		if (!err) {
			peer_stand(p);
			return;
		}
	}
	peer_fail(p, err == -EPIPE ? -ECONNREFUSED : err);
}

/* --- hearing of it --- */

/* It is gone, and all that it said was heard. */
static void peer_gone(struct peer *p)
{
	if (p->state != STANDING) {
		peer_fail(p, -ECONNREFUSED);
		return;
	}
	carrier_end(&p->c, PORT_DIED, NULL);
	peer_hang_up(p);
	p->state = OVER;
}

static void peer_over(struct peer *p, enum port_end why, const char *text)
{
	carrier_end(&p->c, why, text);
	peer_hang_up(p);
	p->state = OVER;
}

static void peer_said(struct peer *p, const struct message *m, int fds[MESSAGE_FDS])
{
	if (m->kind == MESSAGE_BYE) {
		if (p->state == STANDING)
			peer_over(p, m->why == PORT_CLOSED ? PORT_CLOSED : PORT_CUT, m->text);
		else
			peer_fail(p, m->why == PORT_CLOSED ? -ECONNREFUSED : -EPROTO);
	} else if (p->state == ACCEPTED && m->kind == MESSAGE_HELLO) {
		hello(p, m, fds);
	} else if (p->state == GREETED && m->kind == MESSAGE_WELCOME) {
		welcome(p, m, fds);
	} else if (p->state == GREETED && m->kind == MESSAGE_AGAIN) {
		call_later(p);
	} else if (p->state == WELCOMED && m->kind == MESSAGE_READY) {
		peer_stand(p);
	} else {
		say_bye(p, PORT_CUT, "unexpected message");
		if (p->state == STANDING)
			peer_over(p, PORT_CUT, "it said on the socket what is not said there");
		else
			peer_fail(p, -EPROTO);
	}
}

/* Reads what the peer's socket has. */
static void peer_hear(struct peer *p)
{
	while (p->sock >= 0) {
		int fds[MESSAGE_FDS];
		struct message m;
		int err = message_receive(p->sock, &m, fds);

		if (err == -EAGAIN)
			return;
		if (err == -EPIPE) {
			peer_gone(p);
			return;
		}
		if (err)
			m = (struct message){ 0 };
		peer_said(p, &m, fds);
		for (int i = 0; i < MESSAGE_FDS; i++)
			fd_close(&fds[i]);
	}
}

/* --- the thread --- */

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
		p = (struct peer *)((char *)e - offsetof(struct peer, c.release));
		peer_drop(p);
		break;
	}
}

static struct errand *errands_take(void)
{
	/* acquire: pairs with user_errand() */
	struct errand *e = atomic_exchange_explicit(&errands, NULL, memory_order_acquire), *first = NULL;

	while (e) {
		struct errand *next = e->next;

		e->next = first;
		first = e;
		e = next;
	}
	return first;
}

static void errands_do(void)
{
	struct errand *e = errands_take();

	while (e) {
		struct errand *next = e->next;

		errand_do(e);
		e = next;
	}
	/* acquire: pairs with user_held() */
	if (!unhold_at && atomic_load_explicit(&holding, memory_order_acquire))
		unhold_at = now_ms() + HELD_MS;
}

static void user_errand(struct errand *e)
{
	struct errand *first = atomic_load_explicit(&errands, memory_order_relaxed);

	do {
		e->next = first;
		/* release: the thread sees what it is about */
	} while (!atomic_compare_exchange_weak_explicit(&errands, &first, e, memory_order_release,
							 memory_order_relaxed));
	/* Who comes second finds the thread poked. */
	if (!first)
		eventfd_write(poke_fd, 1);
}

static void user_held(void)
{
	/* acq_rel: the thread, which takes this back before it looks at all carriers, sees what was held before */
	if (!atomic_exchange_explicit(&holding, true, memory_order_acq_rel))
		eventfd_write(poke_fd, 1);
}

static void unhold_all(void)
{
	unhold_at = 0;
	atomic_exchange_explicit(&holding, false, memory_order_acq_rel);
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		if (p->state == STANDING || p->state == OVER)
			carrier_unhold(&p->c);
	}
}

static void handshake_late(struct peer *p)
{
	if (p->sock >= 0)
		say_bye(p, PORT_CLOSED, "the handshake took too long");
	peer_fail(p, -ETIMEDOUT);
}

/* Does what is due. Returns when something will be, in ms from now; -1: nothing. */
static int timers(void)
{
	int64_t now = now_ms(), next = INT64_MAX;

	if (unhold_at && unhold_at <= now)
		unhold_all();
	if (accept_again && accept_again <= now) {
		accept_again = watch(listen_fd, 1) ? now + CROWDED_MS : 0;
	}
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		if (p->state < STANDING && p->deadline <= now)
			handshake_late(p);
		if (p->state == CALLING && p->again <= now)
			call(p);
		if (p->state < STANDING && p->deadline < next)
			next = p->deadline;
		if (p->state == CALLING && p->again < next)
			next = p->again;
	}
	if (unhold_at && unhold_at < next)
		next = unhold_at;
	if (accept_again && accept_again < next)
		next = accept_again;
	if (next == INT64_MAX)
		return -1;
	return next <= now ? 0 : next - now > INT_MAX ? INT_MAX : (int)(next - now);
}

static void event_do(uint64_t data)
{
	struct peer *p = (struct peer *)(uintptr_t)(data & ~UINT64_C(1));
	eventfd_t n;

	if (!data) {
		eventfd_read(poke_fd, &n);
		return;
	}
	if (!p) {
		accept_all();
		return;
	}
	if (p->state == DEAD || p->sock < 0)
		return;
	peer_hear(p);
	if ((data & 1) && p->sock >= 0)
		peer_gone(p);
}

static void all_bye(void)
{
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		if (p->sock >= 0)
			say_bye(p, PORT_CLOSED, "");
		peer_hang_up(p);
	}
}

static void *thread_main(void *unused)
{
	struct epoll_event events[64];

	pthread_setname_np(pthread_self(), "mote/port");
	/* acquire: pairs with user_close() */
	while (!atomic_load_explicit(&ending, memory_order_acquire)) {
		int n = epoll_wait(epoll_fd, events, 64, timers());

		for (int i = 0; i < n; i++)
			event_do(events[i].data.u64);
		errands_do();
		peers_bury();
	}
	all_bye();
	return unused;
}

/* --- the port --- */

static void slots_close(void)
{
	for (unsigned int i = 0; slot_fds && i < nr_slots; i++)
		fd_close(&slot_fds[i]);
	free(slot_fds);
	slot_fds = NULL;
	fd_close(&bells_fd);
	fd_close(&poke_fd);
}

static void user_stop(void)
{
	struct errand *e = errands_take();

	while (e) {
		struct errand *next = e->next;

		if (e->kind == ERRAND_CONNECT)
			free((char *)e - offsetof(struct request, errand));
		e = next;
	}
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		while (p->requests) {
			struct request *r = p->requests;

			p->requests = r->next;
			free(r);
		}
		peer_drop(p);
	}
	peers_bury();
	rendezvous_leave(&here);
	slots_close();
	segment_drop(&bells);
}

static int user_start(const char *name, unsigned int slots)
{
	int err;

	if (!slots || slots > SLOTS_MAX)
		return -EINVAL;
	atomic_store_explicit(&peers, NULL, memory_order_relaxed);
	atomic_store_explicit(&errands, NULL, memory_order_relaxed);
	atomic_store_explicit(&ending, false, memory_order_relaxed);
	atomic_store_explicit(&holding, false, memory_order_relaxed);
	nr_peers = 0;
	accept_again = unhold_at = 0;
	running = false;
	slot_fds = malloc(slots * sizeof(*slot_fds));
	if (!slot_fds)
		return -ENOMEM;
	nr_slots = slots;
	for (unsigned int i = 0; i < slots; i++)
		slot_fds[i] = -1;
	err = rendezvous_take(&here, name);
	for (unsigned int i = 0; !err && i < slots; i++) {
		slot_fds[i] = epoll_create1(EPOLL_CLOEXEC);
		if (slot_fds[i] < 0)
			err = -errno;
	}
	if (!err) {
		poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		err = poke_fd < 0 ? -errno : 0;
	}
	if (!err) {
		bells_fd = segment_make(&bells, bells_size(slots), bells_size(slots));
		err = bells_fd < 0 ? bells_fd : 0;
	}
	if (err) {
		user_stop();
		return err;
	}
	port_node = here.id;
	return 0;
}

static int user_open(void)
{
	sigset_t all, old;
	int err;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		return -errno;
	listen_fd = rendezvous_listen(&here);
	err = listen_fd < 0 ? listen_fd : watch(poke_fd, 0);
	if (!err)
		err = watch(listen_fd, 1);
	if (!err) {
		/* Signals are for the program's own threads. */
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &old);
		err = -pthread_create(&thread, NULL, thread_main, NULL);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	running = !err;
	if (err) {
		fd_close(&listen_fd);
		fd_close(&epoll_fd);
	}
	return err;
}

static void user_close(void)
{
	if (running) {
		/* release: what was committed before is there when the peers hear of the end */
		atomic_store_explicit(&ending, true, memory_order_release);
		eventfd_write(poke_fd, 1);
		pthread_join(thread, NULL);
	}
	running = false;
	fd_close(&listen_fd);
	fd_close(&epoll_fd);
}

/*
 * In a forked child, which has descriptors, but neither the thread nor the memory. The parent's locks are not its own. The
 * list of peers is sound at any moment; what is missing from it, or was closed just then, is a descriptor more or less
 * in the child, and peers have the pidfd to go by.
 */
static void user_forget(void)
{
	fd_close(&listen_fd);
	fd_close(&epoll_fd);
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		fd_close(&p->sock);
		fd_close(&p->pidfd);
		fd_close(&p->bell_fd);
		fd_close(&p->peer_bell_fd);
	}
	for (unsigned int i = 0; i < nr_slots; i++)
		fd_close(&slot_fds[i]);
	fd_close(&bells_fd);
	fd_close(&poke_fd);
	fd_close(&here.lock);
	fd_close(&here.dir);
	bells = (struct segment){ NULL, 0 };
	running = false;
}

static int user_list(bool (*visit)(uint32_t node, const char *name, void *arg), void *arg)
{
	return rendezvous_list(&here, visit, arg);
}

static int user_bell_fd(unsigned int slot)
{
	return slot_fds[slot];
}

static struct bell *bell_of(unsigned int slot)
{
	return (struct bell *)bells.map + slot;
}

static void user_park(unsigned int slot)
{
	struct bell *b = bell_of(slot);
	uint64_t word = atomic_load_explicit(&b->word, memory_order_relaxed);

	/* relaxed: only the slot's worker writes it, and the fence orders it before the look at the lanes */
	atomic_store_explicit(&b->word, (word | 1) + (word & 1) * 2, memory_order_relaxed);
	full_fence();
}

static void user_awake(unsigned int slot)
{
	struct bell *b = bell_of(slot);
	uint64_t word = atomic_load_explicit(&b->word, memory_order_relaxed);

	/* relaxed: who still sees the old word rings for nothing */
	if (word & 1)
		atomic_store_explicit(&b->word, word + 1, memory_order_relaxed);
}

static void user_ring(struct carrier *c)
{
	struct peer *p = (struct peer *)c;
	/* relaxed: after the caller's fence */
	uint64_t word = atomic_load_explicit(&p->peer_bell->word, memory_order_relaxed);

	/* Once for each sleep: what comes after the first ring is found when it wakes. A lying peer hurts itself. */
	if (!(word & 1) || word == atomic_load_explicit(&p->rung, memory_order_relaxed))
		return;
	/*
	 * Nothing is added: the peer shares the file and could have made it wait for room. An edge it is all the same.
	 * Then noted, relaxed: somebody who rings at the same time does so once too often.
	 */
	eventfd_write(p->peer_bell_fd, 0);
	atomic_store_explicit(&p->rung, word, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->rings, 1, memory_order_relaxed);
}

const struct port_ops port_user = {
	.name = "user",
	.start = user_start,
	.open = user_open,
	.close = user_close,
	.stop = user_stop,
	.forget = user_forget,
	.errand = user_errand,
	.held = user_held,
	.list = user_list,
	.bell_fd = user_bell_fd,
	.park = user_park,
	.awake = user_awake,
	.ring = user_ring,
};
