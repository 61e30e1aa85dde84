// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A thousand connections at once, with a process at each end; and descriptors that wander between schedulers while
 * data comes, which is where receiving ahead could lose or swap something.
 */
#include "io_helpers.h"

#ifdef __SANITIZE_THREAD__
#define CONNECTIONS	200		/* it knows no more than some thousand threads, and is slow */
#else
#define CONNECTIONS	1000
#endif
#define ROUNDS		10

static struct mote_addr addr;
static _Atomic int wrong;

static void serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char buf[4096];
	ssize_t n;

	while ((n = mote_net_recv(fd, buf, sizeof(buf), mote_in_ms(60000))) > 0) {
		mote_yield();
		if (mote_net_send(fd, buf, n, MOTE_FOREVER) != n)
			atomic_fetch_add(&wrong, 1);
	}
	if (n < 0)
		atomic_fetch_add(&wrong, 1);
	mote_fd_close(fd);
}

static void acceptor(void *arg)
{
	int listener = (int)(intptr_t)arg;

	for (;;) {
		int fd = mote_net_accept(listener, NULL, MOTE_FOREVER);

		if (!EXPECT(fd >= 0))
			return;
		mote_spawn(serve_one, (void *)(intptr_t)fd);
	}
}

static void client(void *arg)
{
	uint32_t id = (uint32_t)(intptr_t)arg;
	int fd = mote_net_connect(&addr, mote_in_ms(50000));

	if (!EXPECT(fd >= 0))
		return;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		/* Mostly small, now and then more than one buffer holds. */
		size_t size = i % 5 == 4 ? 1500 : 4 + i % 3;
		uint32_t out[1500] = { 0 }, in[1500] = { 0 };

		for (size_t k = 0; k < size; k++)
			out[k] = id * 1000003 + i * 5003 + k;
		if (mote_net_send(fd, out, size * 4, mote_in_ms(50000)) != (ssize_t)size * 4 ||
		    !io_recv_all(fd, in, size * 4) || memcmp(in, out, size * 4)) {
			atomic_fetch_add(&wrong, 1);
			return;
		}
	}
}

static void thousand(void)
{
	static mote_ref mon[CONNECTIONS];
	int listener = io_listen(&addr), before = io_count_fds();
	mote_ref server_mon;
	mote_pid server;

	atomic_store(&wrong, 0);
	server = mote_spawn_monitor(acceptor, (void *)(intptr_t)listener, &server_mon);
	for (int i = 0; i < CONNECTIONS; i++)
		mote_spawn_monitor(client, (void *)(intptr_t)i, &mon[i]);
	for (int i = 0; i < CONNECTIONS; i++) {
		struct mote_msg *m = mote_receive_ref(mon[i], mote_in_ms(60000));

		EXPECT(m != NULL);
		mote_msg_free(m);
	}
	EXPECT_EQ(atomic_load(&wrong), 0);
	mote_exit_pid(server, MOTE_REASON_KILL);
	io_await_down(server_mon);	/* owned all accepted sockets: they are gone now */
	EXPECT_EQ(io_count_fds(), before);
	mote_fd_close(listener);
}

/*
 * One stream, read by turns by processes that come and go on whatever scheduler, with computing neighbours that make
 * it worthwhile to steal.
 */
struct relay {
	int fd;
	uint32_t next;
	_Atomic int left;
};

static void spin_neighbour(void *arg)
{
	mote_deadline end = mote_in_ms(400);

	(void)arg;
	while (mote_now().ns < end.ns)
		mote_yield();
}

static void relay_reader(void *arg)
{
	struct relay *r = arg;
	uint32_t got[16];
	size_t want = sizeof(got[0]) * (1 + r->next % 16);
	struct mote_spawn_opts opts = { .size = sizeof(opts), .fn = relay_reader, .arg = r };

	if (!io_recv_all(r->fd, got, want)) {
		atomic_fetch_add(&wrong, 1);
		return;
	}
	for (size_t i = 0; i < want / sizeof(got[0]); i++)
		if (got[i] != r->next++)
			atomic_fetch_add(&wrong, 1);
	if (atomic_fetch_sub(&r->left, 1) <= 1)
		mote_fd_close(r->fd);
	else
		mote_spawn_opts(&opts);
}

static void relay_writer(void *arg)
{
	uint32_t values[37], next = 0;
	int fd = (int)(intptr_t)arg;

	for (;;) {
		size_t n = 1 + next % 37;

		for (size_t i = 0; i < n; i++)
			values[i] = next + i;
		next += n;
		if (mote_net_send(fd, values, n * 4, mote_in_ms(50000)) < 0)
			return;
		if (next % 3 == 0)
			mote_yield();
	}
}

static void wander(void)
{
	enum { STREAMS = 16, TURNS = 300 };
	static struct relay relays[STREAMS];
	mote_ref writers[STREAMS], spinners[8];

	atomic_store(&wrong, 0);
	for (int i = 0; i < 8; i++)
		mote_spawn_monitor(spin_neighbour, NULL, &spinners[i]);
	for (int i = 0; i < STREAMS; i++) {
		int ends[2];

		if (!io_pair(ends))
			return;
		relays[i].fd = ends[0];
		relays[i].next = 0;
		atomic_store(&relays[i].left, TURNS);
		mote_spawn(relay_reader, &relays[i]);
		mote_spawn_monitor(relay_writer, (void *)(intptr_t)ends[1], &writers[i]);
	}
	for (int i = 0; i < STREAMS; i++) {
		struct mote_msg *m = mote_receive_ref(writers[i], mote_in_ms(60000));

		EXPECT(m != NULL);
		mote_msg_free(m);
		EXPECT_EQ(atomic_load(&relays[i].left), 0);
	}
	for (int i = 0; i < 8; i++)
		io_await_down(spinners[i]);
	EXPECT_EQ(atomic_load(&wrong), 0);
}

int main(void)
{
	static const struct mote_opts two = { .size = sizeof(two), .schedulers = 2 };

	io_watchdog(120);
	selftest_process("a thousand connections", thousand);
	selftest_process_opts("a thousand connections, two schedulers", thousand, &two);
	selftest_process("streams whose readers wander", wander);
	selftest_process_opts("streams whose readers wander, two schedulers", wander, &two);
	return selftest_done();
}
