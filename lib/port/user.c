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
#include "port/errand.h"
#include "port/peer.h"
#include "port/rendezvous.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS	5000		/* for a handshake */
#define AGAIN_MS	3		/* until the next try, of what others have to be done with first */
#define HELD_MS		2		/* until core is offered again what it has refused */
#define CROWDED_MS	100		/* until the next try to accept, without descriptors or memory */
#define CALLERS_MAX	64		/* who may take their time with a greeting */

static struct rendezvous here = RENDEZVOUS_NONE;
static int listen_fd = -1;
static pthread_t thread;
static bool running;
static _Atomic bool ending;
static int64_t accept_again, unhold_at;		/* 0: not */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* --- saying --- */

static void say_bye(struct peer *p, enum port_end why, const char *text)
{
	struct message m = { .kind = MESSAGE_BYE, .why = why };

	snprintf(m.text, sizeof(m.text), "%s", text);
	/* If it cannot be told it sees the socket hang up. */
	message_send(p->sock, &m, NULL);
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

/* --- calling --- */

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
	err = p->pidfd < 0 ? p->pidfd : peer_watch_both(p);
	if (!err)
		err = peer_offer(p, MESSAGE_HELLO);
	/* It has hung up without having heard us: many call it, or it ends, which the next call will tell. */
	if (err == -EPIPE)
		call_later(p);
	else if (err)
		peer_fail(p, err);
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
	p = peer_new(CALLING, now_ms() + PATIENCE_MS);
	if (!p) {
		request_fail(r, -ENOMEM);
		return;
	}
	r->next = NULL;
	p->requests = r;
	p->c.node = node;
	call(p);
}

/* --- being called --- */

static void say_again(int sock)
{
	struct message m = { .kind = MESSAGE_AGAIN };

	message_send(sock, &m, NULL);
}

/* Who has had the longest time to say something makes room for one more, and may try again if it is honest. */
static void callers_limit(void)
{
	struct peer *oldest = NULL;
	unsigned int n = 0;

	/* The newest are first. */
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		if (p->state == ACCEPTED) {
			oldest = p;
			n++;
		}
	}
	if (n >= CALLERS_MAX) {
		say_again(oldest->sock);
		peer_drop(oldest);
	}
}

static void accept_all(void)
{
	for (;;) {
		int sock = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct peer *p;

		if (sock < 0 && (errno == ECONNABORTED || errno == EINTR))
			continue;
		if (sock < 0 && errno != EAGAIN) {
			/* It would stay readable. */
			epoll_ctl(peers_epoll(), EPOLL_CTL_DEL, listen_fd, NULL);
			accept_again = now_ms() + CROWDED_MS;
		}
		if (sock < 0)
			return;
		callers_limit();
		p = peer_new(ACCEPTED, now_ms() + PATIENCE_MS);
		if (!p) {
			say_again(sock);
			close(sock);
			continue;
		}
		p->sock = sock;
		p->pidfd = peer_watch(sock);
		if (p->pidfd < 0 || peer_watch_both(p))
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
	int err;

	if (!m->node || m->node == port_node) {
		say_bye(p, PORT_CUT, "wrong node");
		peer_drop(p);
		return;
	}
	if (hello_too_early(p, m->node)) {
		say_again(p->sock);
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
			if (fds[i] >= 0)
				close(fds[i]);
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

static void errands_do(void)
{
	struct errand *e = errands_take();

	while (e) {
		struct errand *next = e->next;

		errand_do(e);
		e = next;
	}
	if (errands_held() && !unhold_at)
		unhold_at = now_ms() + HELD_MS;
}

static void unhold_all(void)
{
	unhold_at = 0;
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
		accept_again = peers_watch(listen_fd, 1) ? now + CROWDED_MS : 0;
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

	/* An errand. */
	if (!data)
		return;
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
		int n = epoll_wait(peers_epoll(), events, 64, timers());

		for (int i = 0; i < n; i++)
			event_do(events[i].data.u64);
		errands_do();
		peers_bury();
	}
	all_bye();
	return unused;
}

/* --- the port --- */

static void user_stop(void)
{
	errands_stop();
	peers_stop();
	rendezvous_leave(&here);
	bells_stop();
}

static int user_start(const char *name, unsigned int slots)
{
	int err;

	atomic_store_explicit(&ending, false, memory_order_relaxed);
	accept_again = unhold_at = 0;
	running = false;
	err = peers_start();
	if (!err)
		err = errands_start();
	if (!err)
		err = bells_start(slots);
	if (!err)
		err = rendezvous_take(&here, name);
	if (err) {
		user_stop();
		return err;
	}
	port_node = here.id;
	return 0;
}

static void listener_close(void)
{
	if (listen_fd >= 0)
		close(listen_fd);
	listen_fd = -1;
}

static int user_open(void)
{
	sigset_t all, old;
	int err;

	listen_fd = rendezvous_listen(&here);
	err = listen_fd < 0 ? listen_fd : peers_watch(errands_fd(), 0);
	if (!err)
		err = peers_watch(listen_fd, 1);
	if (!err) {
		/* Signals are for the program's own threads. */
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &old);
		err = -pthread_create(&thread, NULL, thread_main, NULL);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	running = !err;
	if (err)
		listener_close();
	return err;
}

static void user_close(void)
{
	if (running) {
		/* release: what was committed before is there when the peers hear of the end */
		atomic_store_explicit(&ending, true, memory_order_release);
		errands_poke();
		pthread_join(thread, NULL);
	}
	running = false;
	listener_close();
}

/* In a forked child, which has descriptors, but neither the thread nor the memory. The parent's locks are not its own. */
static void user_forget(void)
{
	listener_close();
	peers_forget();
	bells_forget();
	errands_forget();
	rendezvous_forget(&here);
	running = false;
}

static int user_list(bool (*visit)(uint32_t node, const char *name, void *arg), void *arg)
{
	return rendezvous_list(&here, visit, arg);
}

const struct port_ops port_user = {
	.name = "user",
	.start = user_start,
	.open = user_open,
	.close = user_close,
	.stop = user_stop,
	.forget = user_forget,
	.errand = errand_give,
	.held = errands_hold,
	.list = user_list,
	.bell_fd = bell_slot_fd,
	.park = bell_park,
	.awake = bell_awake,
	.ring = peer_ring,
};
