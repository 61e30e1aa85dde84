// SPDX-License-Identifier: MIT OR GPL-2.0
/* A lane gives back what was put in, in order, through every way of wrapping, filling up and making room. */
#include "lane_helpers.h"

#include "port/handshake.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define SIZE	(UINT64_C(1) << 16)

static void one(void)
{
	struct test_lane t;
	struct record head, *r;
	const void *body;

	if (!lane_open(&t, SIZE))
		return;
	EXPECT(!lane_pending(&t.r));
	EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_EMPTY);
	r = lane_reserve(&t.w, 100);
	EXPECT((uintptr_t)r % 16 == 0);
	lane_fill(r, 1);
	/* Not yet published. */
	EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_EMPTY);
	EXPECT(lane_publish(&t.w));
	EXPECT(!lane_publish(&t.w));
	EXPECT(lane_pending(&t.r));
	EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_RECORD);
	EXPECT(lane_is(&head, body, 1, 100));
	/* It stays until it is taken. */
	EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_RECORD);
	lane_take(&t.r, &head);
	EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_EMPTY);
	lane_shut(&t);
}

/* Random sizes and batches, until the ring has wrapped hundreds of times. */
static void sizes(void)
{
	uint64_t seed = test_seed(), in = 0, out = 0, bytes = 0;
	uint32_t sizes_in[4096];
	struct test_lane t;
	struct record head;
	const void *body;

	if (!lane_open(&t, SIZE))
		return;
	while (bytes < 100 * SIZE) {
		unsigned int n = test_random(&seed) % 20;

		while (n--) {
			uint32_t size = test_random(&seed) % (test_random(&seed) % 8 ? 200 : lane_record_max(SIZE) + 1);
			struct record *r = lane_reserve(&t.w, size);

			if (!r)
				break;
			lane_fill(r, in);
			sizes_in[in++ % 4096] = size;
			bytes += lane_space(size);
		}
		lane_publish(&t.w);
		n = test_random(&seed) % 20;
		while (n-- && lane_next(&t.r, &head, &body) == LANE_RECORD) {
			if (!EXPECT(lane_is(&head, body, out, sizes_in[out % 4096])))
				return;
			out++;
			lane_take(&t.r, &head);
		}
		lane_release(&t.r);
		EXPECT(!t.w.broken);
	}
	while (lane_next(&t.r, &head, &body) == LANE_RECORD) {
		EXPECT(lane_is(&head, body, out, sizes_in[out % 4096]));
		out++;
		lane_take(&t.r, &head);
	}
	EXPECT_EQ(in, out);
	EXPECT(in > 100);
	lane_shut(&t);
}

/* Exactly full; then room, announced once, when half of it is free. */
static void full(void)
{
	struct test_lane t;
	struct record head;
	const void *body;
	unsigned int n = 0, told = 0, taken = 0;

	if (!lane_open(&t, SIZE))
		return;
	while (lane_reserve(&t.w, 1024 - sizeof(struct record)))
		n++;
	EXPECT_EQ(n, SIZE / 1024);
	EXPECT(!lane_reserve_or_want(&t.w, 0));
	lane_publish(&t.w);
	while (lane_next(&t.r, &head, &body) == LANE_RECORD) {
		EXPECT(lane_room(t.w.consumer, &t.wanted) == (taken >= n / 2));
		lane_take(&t.r, &head);
		taken++;
		if (lane_release(&t.r)) {
			told++;
			EXPECT_EQ(taken, n / 2);
		}
	}
	EXPECT_EQ(taken, n);
	EXPECT_EQ(told, 1);
	EXPECT(lane_room_noted(t.w.consumer, &t.wanted));
	EXPECT(!lane_room_noted(t.w.consumer, &t.wanted));
	EXPECT(!lane_room(t.w.consumer, &t.wanted));
	EXPECT(lane_reserve(&t.w, 1024));
	EXPECT(!t.w.broken);
	lane_shut(&t);
}

/* Whoever finds the ring full, and the reader just not, gets its room all the same. */
static void room_at_once(void)
{
	struct test_lane t;
	struct record head;
	const void *body;

	if (!lane_open(&t, SIZE))
		return;
	while (lane_reserve(&t.w, 1024))
		;
	lane_publish(&t.w);
	while (lane_next(&t.r, &head, &body) == LANE_RECORD)
		lane_take(&t.r, &head);
	lane_release(&t.r);
	EXPECT(lane_reserve_or_want(&t.w, 1024));
	EXPECT(!lane_room(t.w.consumer, &t.wanted));
	lane_shut(&t);
}

/* What is published after the end was seen does not count. */
static void closed(void)
{
	struct test_lane t;
	struct record head;
	const void *body;

	if (!lane_open(&t, SIZE))
		return;
	for (uint64_t i = 0; i < 3; i++)
		lane_fill(lane_reserve(&t.w, 40), i);
	lane_publish(&t.w);
	EXPECT(lane_close(&t.r));
	lane_fill(lane_reserve(&t.w, 40), 3);
	lane_publish(&t.w);
	for (uint64_t i = 0; i < 3; i++) {
		EXPECT(lane_pending(&t.r));
		EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_RECORD);
		EXPECT(lane_is(&head, body, i, 40));
		lane_take(&t.r, &head);
	}
	EXPECT(!lane_pending(&t.r));
	EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_EMPTY);
	lane_shut(&t);
}

/* --- two at the same time --- */

static unsigned long nr_records;

static void nap(unsigned long tries)
{
	if (tries > 100)
		sched_yield();
}

static void write_all(struct lane_writer *w)
{
	uint64_t seed = test_seed();

	for (unsigned long i = 0; i < nr_records; i++) {
		uint32_t size = test_random(&seed) % 120;
		struct record *r;

		for (unsigned long tries = 0; !(r = lane_reserve(w, size)); tries++) {
			lane_publish(w);
			nap(tries);
			if (!EXPECT(!w->broken))
				return;
		}
		lane_fill(r, i);
		if (test_random(&seed) % 8 == 0)
			lane_publish(w);
	}
	lane_publish(w);
}

static unsigned long read_all(struct lane_reader *r)
{
	uint64_t seed = test_seed();
	struct record head;
	const void *body;
	unsigned long i = 0, tries = 0;

	while (i < nr_records) {
		enum lane_found found = lane_next(r, &head, &body);

		if (found == LANE_EMPTY) {
			lane_release(r);
			nap(++tries);
			continue;
		}
		tries = 0;
		if (!EXPECT(found == LANE_RECORD) || !EXPECT(lane_is(&head, body, i, test_random(&seed) % 120)))
			break;
		/* As the writer draws it. */
		test_random(&seed);
		lane_take(r, &head);
		if (++i % 64 == 0)
			lane_release(r);
	}
	return i;
}

static void *writing(void *arg)
{
	write_all(arg);
	return NULL;
}

static void threads(void)
{
	struct test_lane t;
	pthread_t other;

	nr_records = test_rounds(1000000);
	if (!lane_open(&t, SIZE))
		return;
	pthread_create(&other, NULL, writing, &t.w);
	EXPECT_EQ(read_all(&t.r), nr_records);
	pthread_join(other, NULL);
	lane_shut(&t);
}

/* Sends descriptors over, and takes the other's, with the code that the port does it with. */
static bool swap(int sock, int own, int *other)
{
	int fds[MESSAGE_FDS] = { own, own, own, own };
	struct message m = { .kind = MESSAGE_HELLO };
	struct pollfd p = { .fd = sock, .events = POLLIN };

	if (!EXPECT(!message_send(sock, &m, fds)) || !EXPECT(poll(&p, 1, 60000) == 1) ||
	    !EXPECT(!message_receive(sock, &m, fds)))
		return false;
	*other = fds[0];
	return true;
}

static void os_process_writes(int sock)
{
	struct segment own, peer;
	size_t page = segment_page();
	struct lane_writer w;
	_Atomic uint64_t wanted;
	int other, fd = segment_make(&own, page + SIZE, page);
	char *map = own.map;

	if (!EXPECT(fd >= 0) || !swap(sock, fd, &other) || !EXPECT(!segment_take(&peer, other, page, page)))
		return;
	lane_writer_init(&w, map, map + page, peer.map, SIZE, &wanted);
	write_all(&w);
}

static void os_processes(void)
{
	struct segment own, peer;
	size_t page = segment_page();
	struct lane_reader r;
	int pair[2], other, status, fd;
	const char *map;
	pid_t pid;

	nr_records = test_rounds(1000000);
	if (!EXPECT(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)))
		return;
	pid = fork();
	if (!pid) {
		os_process_writes(pair[1]);
		_exit(atomic_load(&selftest_failed) ? 1 : 0);
	}
	fd = segment_make(&own, page, page);
	if (EXPECT(fd >= 0) && swap(pair[0], fd, &other) &&
	    EXPECT(!segment_take(&peer, other, page + SIZE, page))) {
		map = peer.map;
		lane_reader_init(&r, map, map + page, own.map, SIZE);
		EXPECT_EQ(read_all(&r), nr_records);
		segment_drop(&peer);
		close(other);
	}
	segment_drop(&own);
	close(fd);
	close(pair[0]);
	close(pair[1]);
	EXPECT(waitpid(pid, &status, 0) == pid && !status);
}

int main(void)
{
	selftest_case("one record", one);
	selftest_case("random sizes, wrapping", sizes);
	selftest_case("full, and room", full);
	selftest_case("room between two looks", room_at_once);
	selftest_case("closed", closed);
	selftest_case("a million records between two threads", threads);
	selftest_case("a million records between two OS processes", os_processes);
	return selftest_done();
}
