// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LANE_BYTES	(UINT64_C(1) << 20)

static _Atomic(struct peer *) peers;
static unsigned int nr_peers;
static int epoll_fd = -1;

/* The number goes first: a child that is forked in between closes nothing that is somebody else's by then. */
static void fd_close(int *fd)
{
	int old = *fd;

	*fd = -1;
	atomic_signal_fence(memory_order_seq_cst);
	if (old >= 0)
		close(old);
}

int peers_start(void)
{
	/* In a forked child those of the parent are left to it. */
	atomic_store_explicit(&peers, NULL, memory_order_relaxed);
	nr_peers = 0;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return epoll_fd < 0 ? -errno : 0;
}

void peers_stop(void)
{
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		while (p->requests) {
			struct request *r = p->requests;

			p->requests = r->next;
			free(r);
		}
		peer_drop(p);
	}
	peers_bury();
	fd_close(&epoll_fd);
}

/*
 * The list is sound at any moment; what is missing from it, or was closed just then, is a descriptor more or less in the
 * child, and peers have the pidfd to go by.
 */
void peers_forget(void)
{
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		fd_close(&p->sock);
		fd_close(&p->pidfd);
		fd_close(&p->bell_fd);
		fd_close(&p->peer_bell_fd);
	}
	fd_close(&epoll_fd);
}

int peers_epoll(void)
{
	return epoll_fd;
}

int peers_watch(int fd, uint64_t data)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

int peer_watch_both(struct peer *p)
{
	int err = peers_watch(p->sock, (uintptr_t)p);

	return err ? err : peers_watch(p->pidfd, (uintptr_t)p | 1);
}

struct peer *peer_first(void)
{
	/* relaxed: only the thread changes it */
	return atomic_load_explicit(&peers, memory_order_relaxed);
}

struct peer *peer_next(struct peer *p)
{
	return atomic_load_explicit(&p->next, memory_order_relaxed);
}

struct peer *peer_find(uint32_t node, const struct peer *but)
{
	for (struct peer *p = peer_first(); p; p = peer_next(p)) {
		if (p->c.node == node && p != but && p->state != DEAD)
			return p;
	}
	return NULL;
}

struct peer *peer_new(enum peer_state state, int64_t deadline)
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
	p->deadline = deadline;
	atomic_init(&p->next, peer_first());
	/* release: a forked child finds it whole */
	atomic_store_explicit(&peers, p, memory_order_release);
	nr_peers++;
	return p;
}

void peer_hang_up(struct peer *p)
{
	/* By hand: a child that is just forked has those files, too, and while it has they would stay watched. */
	if (p->sock >= 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, p->sock, NULL);
	if (p->pidfd >= 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, p->pidfd, NULL);
	fd_close(&p->sock);
	fd_close(&p->pidfd);
	if (p->bell_fd >= 0)
		bell_unmake(p->c.home, p->bell_fd);
	p->bell_fd = -1;
}

void peer_strip(struct peer *p)
{
	peer_hang_up(p);
	fd_close(&p->peer_bell_fd);
	segment_drop(&p->writer);
	segment_drop(&p->reader);
	segment_drop(&p->peer_writer);
	segment_drop(&p->peer_reader);
	segment_drop(&p->peer_bells);
}

void peer_drop(struct peer *p)
{
	peer_strip(p);
	p->state = DEAD;
}

void peers_bury(void)
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

void requests_move(struct peer *to, struct peer *from)
{
	struct request **at = &to->requests;

	while (*at)
		at = &(*at)->next;
	*at = from->requests;
	from->requests = NULL;
}

void peer_fail(struct peer *p, int err)
{
	while (p->requests) {
		struct request *r = p->requests;

		p->requests = r->next;
		request_fail(r, err);
	}
	peer_drop(p);
}

int peer_equip(struct peer *p, struct message *m, int fds[MESSAGE_FDS])
{
	size_t page = segment_page();
	int fd;

	p->c.home = carrier_choose_home();
	fd = bell_make(p->c.home);
	if (fd < 0)
		return fd;
	p->bell_fd = fd;
	fds[FD_WRITER] = segment_make(&p->writer, page + LANE_BYTES, page);
	if (fds[FD_WRITER] < 0)
		return fds[FD_WRITER];
	fds[FD_READER] = segment_make(&p->reader, page, page);
	if (fds[FD_READER] < 0) {
		close(fds[FD_WRITER]);
		return fds[FD_READER];
	}
	fds[FD_BELLS] = bells_fd();
	fds[FD_RING] = p->bell_fd;
	*m = (struct message){ .node = port_node, .slots = bells_count(), .home = p->c.home, .data = LANE_BYTES };
	strcpy(m->name, port_node_name());
	return 0;
}

int peer_adopt(struct peer *p, const struct message *m, int fds[MESSAGE_FDS])
{
	size_t page = segment_page();
	int err;

	if (fds[0] < 0 || m->data != LANE_BYTES || !m->slots || m->slots > BELLS_MAX || m->home >= m->slots ||
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

void peer_stand(struct peer *p)
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

void peer_ring(struct carrier *c)
{
	struct peer *p = (struct peer *)c;
	/* relaxed: after the caller's fence */
	uint64_t word = atomic_load_explicit(&p->peer_bell->word, memory_order_relaxed);

	/* Once for each sleep: what comes after the first ring is found when it wakes. A lying peer hurts itself. */
	if (!(word & 1) || word == atomic_load_explicit(&p->rung, memory_order_relaxed))
		return;
	bell_ring(p->peer_bell_fd);
	/* Afterwards, and relaxed: somebody who rings at the same time does so once too often. */
	atomic_store_explicit(&p->rung, word, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->rings, 1, memory_order_relaxed);
}

