// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A peer that does what none of ours would: nonsense in the handshake, silence, indexes and records that cannot be, a bell
 * that would make us wait. It gets itself cut off; others notice nothing, and nothing of it is left.
 */
#include "port_helpers.h"

#include "port/handshake.h"
#include "port/lane.h"
#include "port/segment.h"

#include <sys/socket.h>
#include <sys/un.h>

#define LANE	(UINT64_C(1) << 20)

/* The villain's end. */
struct villain {
	int sock;
	struct segment writer, reader, bells, peer_writer, peer_reader;
	int fds[MESSAGE_FDS], got[MESSAGE_FDS];
	struct message hello, answer;
};

static int call_node(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%u.sock", test_dir, shared->id[0]);
	if (!EXPECT(fd >= 0) || !EXPECT(!connect(fd, (struct sockaddr *)&a, sizeof(a))))
		return -1;
	return fd;
}

/* What an honest node would say. */
static bool prepare(struct villain *v)
{
	size_t page = segment_page();

	*v = (struct villain){ .sock = call_node() };
	v->fds[FD_WRITER] = segment_make(&v->writer, page + LANE, page);
	v->fds[FD_READER] = segment_make(&v->reader, page, page);
	v->fds[FD_BELLS] = segment_make(&v->bells, page, page);
	v->fds[FD_RING] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->hello = (struct message){ .kind = MESSAGE_HELLO, .node = 1000000, .slots = 1, .data = LANE, .name = "villain" };
	return v->sock >= 0;
}

static void dispose(struct villain *v)
{
	segment_drop(&v->writer);
	segment_drop(&v->reader);
	segment_drop(&v->bells);
	segment_drop(&v->peer_writer);
	segment_drop(&v->peer_reader);
	for (int i = 0; i < MESSAGE_FDS; i++)
		close(v->fds[i]);
	close(v->sock);
}

/* Waits for what the node has to say: its kind, or 0: it has hung up. */
static unsigned int hear(struct villain *v)
{
	struct pollfd p = { .fd = v->sock, .events = POLLIN };

	if (!EXPECT(poll(&p, 1, WAIT_S * 1000) == 1))
		return 0;
	return message_receive(v->sock, &v->answer, v->got) ? 0 : v->answer.kind;
}

static void hang_up(struct villain *v)
{
	for (int i = 0; i < MESSAGE_FDS; i++) {
		if (v->got[i] >= 0)
			close(v->got[i]);
	}
	dispose(v);
}

/* Has a standing connection, like an honest node. */
static bool stand(struct villain *v)
{
	struct message ready = { .kind = MESSAGE_READY };
	size_t page = segment_page();
	unsigned int kind;

	for (;;) {
		if (!prepare(v) || !EXPECT(!message_send(v->sock, &v->hello, v->fds)))
			return false;
		kind = hear(v);
		if (kind != MESSAGE_AGAIN)
			break;
		/* Its core is not done with the last one. */
		hang_up(v);
		test_nap(1);
	}
	return EXPECT(kind == MESSAGE_WELCOME) &&
	       EXPECT(!segment_take(&v->peer_writer, v->got[FD_WRITER], page + LANE, page)) &&
	       EXPECT(!segment_take(&v->peer_reader, v->got[FD_READER], page, page)) &&
	       EXPECT(!message_send(v->sock, &ready, NULL));
}

/* --- the handshake --- */

static void bad_hello(struct villain *v)
{
	EXPECT(!message_send(v->sock, &v->hello, v->fds));
	EXPECT_EQ(hear(v), MESSAGE_BYE);
	EXPECT_EQ(v->answer.why, PORT_CUT);
	hang_up(v);
}

static void replace(struct villain *v, enum message_fd which, int fd)
{
	close(v->fds[which]);
	v->fds[which] = fd;
}

static void bad_hellos(void *unused)
{
	struct villain v;
	int pipes[2];

	(void)unused;
	AWAIT(shared->stage >= 1);
	for (int i = 0; i < 14 && prepare(&v); i++) {
		switch (i) {
		case 0:
			v.hello.node = 0;
			break;
		case 1:
			v.hello.node = shared->id[0];
			break;
		case 2:
			v.hello.slots = 0;
			break;
		case 3:
			v.hello.slots = 257;
			break;
		case 4:
			v.hello.home = 1;
			break;
		case 5:
			v.hello.data = LANE / 2;
			break;
		case 6:
			strcpy(v.hello.name, "../../etc");
			break;
		case 7:
			v.hello.name[0] = 0;
			break;
		case 8:
			replace(&v, FD_WRITER, memfd_create("x", MFD_CLOEXEC));
			break;
		case 9:
			replace(&v, FD_WRITER, dup(v.fds[FD_READER]));
			break;
		case 10:
			replace(&v, FD_BELLS, open("/dev/null", O_RDWR | O_CLOEXEC));
			break;
		case 11:
			/* More bells than there is memory. */
			v.hello.slots = 200;
			v.hello.home = 199;
			break;
		case 12:
			EXPECT(!pipe(pipes));
			replace(&v, FD_RING, pipes[1]);
			close(pipes[0]);
			break;
		case 13:
			v.hello.kind = MESSAGE_READY;
			break;
		}
		bad_hello(&v);
	}
}

/* Packets that are no messages, and descriptors that nobody asked for. */
static void garbage(void *unused)
{
	char control[CMSG_SPACE(64 * sizeof(int))], packet[4096];
	uint64_t seed = test_seed();
	struct villain v;

	(void)unused;
	AWAIT(shared->stage >= 1);
	for (int i = 0; i < 40 && prepare(&v); i++) {
		size_t n = i % 4 ? test_random(&seed) % sizeof(packet) : sizeof(v.hello);
		unsigned int nr = test_random(&seed) % 64;
		struct iovec iov = { packet, n ? n : 1 };
		struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

		for (size_t at = 0; at < sizeof(packet); at++)
			packet[at] = (char)test_random(&seed);
		if (i % 2) {
			struct cmsghdr *c;

			h.msg_control = control;
			h.msg_controllen = CMSG_SPACE((1 + nr) * sizeof(int));
			c = CMSG_FIRSTHDR(&h);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN((1 + nr) * sizeof(int));
			for (unsigned int f = 0; f <= nr; f++)
				memcpy(CMSG_DATA(c) + f * sizeof(int), &v.fds[f % MESSAGE_FDS], sizeof(int));
		}
		EXPECT(sendmsg(v.sock, &h, 0) == (ssize_t)iov.iov_len);
		EXPECT_EQ(hear(&v), MESSAGE_BYE);
		hang_up(&v);
	}
}

/* Silence, before and after the greeting. */
static void silence(void *unused)
{
	struct villain v, w;

	(void)unused;
	AWAIT(shared->stage >= 1);
	if (!prepare(&v) || !prepare(&w))
		return;
	EXPECT(!message_send(w.sock, &w.hello, w.fds));
	EXPECT_EQ(hear(&w), MESSAGE_WELCOME);
	for (int i = 0; i < MESSAGE_FDS; i++)
		close(w.got[i]);
	EXPECT_EQ(hear(&w), MESSAGE_BYE);
	EXPECT_EQ(w.answer.why, PORT_CLOSED);
	EXPECT_EQ(hear(&v), MESSAGE_BYE);
	hang_up(&v);
	hang_up(&w);
}

/* Hundreds who connect and say nothing. */
static void flood(void *unused)
{
	int socks[300];

	(void)unused;
	AWAIT(shared->stage >= 1);
	for (int i = 0; i < 300; i++)
		socks[i] = call_node();
	test_stage(2);
	AWAIT(shared->stage >= 3);
	for (int i = 0; i < 300; i++)
		close(socks[i]);
}

/* --- a connection that stands --- */

static struct lane_producer *producer(struct villain *v)
{
	return v->writer.map;
}

static struct record *record_at(struct villain *v, uint64_t index)
{
	return (struct record *)((char *)v->writer.map + segment_page() + (index & (LANE - 1)));
}

static void is_cut(struct villain *v)
{
	EXPECT_EQ(hear(v), MESSAGE_BYE);
	EXPECT_EQ(v->answer.why, PORT_CUT);
	EXPECT(v->answer.text[0]);
	EXPECT_EQ(hear(v), 0);
	hang_up(v);
}

static void bad_lanes(void *unused)
{
	static const uint64_t heads[] = { LANE + 16, UINT64_MAX, 8, UINT64_C(1) << 63 };
	static const uint32_t sizes[] = { UINT32_MAX, LANE, LANE / 4, UINT32_MAX - 63 };
	struct message again = { .kind = MESSAGE_HELLO };
	struct villain v;

	(void)unused;
	AWAIT(shared->stage >= 1);
	for (int i = 0; i < 4 && stand(&v); i++) {
		atomic_store(&producer(&v)->head, heads[i]);
		is_cut(&v);
	}
	for (int i = 0; i < 4 && stand(&v); i++) {
		/* Good ones first: they are heard, or not. */
		for (uint64_t at = 0; at < 10; at++)
			record_at(&v, at * 64)->size = 16;
		record_at(&v, 640)->size = sizes[i];
		atomic_store(&producer(&v)->head, LANE);
		is_cut(&v);
	}
	if (stand(&v)) {
		record_at(&v, 0)->zero = 1;
		atomic_store(&producer(&v)->head, 48);
		is_cut(&v);
	}
	/* On the socket, in the middle of it. */
	if (stand(&v)) {
		EXPECT(!message_send(v.sock, &again, v.fds));
		is_cut(&v);
	}
	if (stand(&v)) {
		EXPECT(send(v.sock, "?", 1, 0) == 1);
		is_cut(&v);
	}
}

/* The node writes to it and finds a tail that cannot be. */
static void bad_tail(void *unused)
{
	struct villain v;

	(void)unused;
	AWAIT(shared->stage >= 1);
	if (!stand(&v))
		return;
	atomic_store(&((struct lane_consumer *)v.reader.map)->tail, UINT64_C(1) << 40);
	test_stage(2);
	is_cut(&v);
}

/* Its bell is full and would wait; it always looks asleep. */
static void bad_bell(void *unused)
{
	struct villain v;

	(void)unused;
	AWAIT(shared->stage >= 1);
	if (!stand(&v))
		return;
	fcntl(v.fds[FD_RING], F_SETFL, 0);
	EXPECT(!eventfd_write(v.fds[FD_RING], UINT64_MAX - 1));
	test_stage(2);
	/* A new word each time: that it sleeps again. */
	for (uint64_t word = 1; shared->stage == 2; word += 2)
		atomic_store((_Atomic uint64_t *)v.bells.map, word);
	hang_up(&v);
}

/* --- those who notice nothing --- */

static void honest(void *arg)
{
	struct carrier *c;

	(void)arg;
	AWAIT(shared->stage >= 1);
	if (!EXPECT(!node_start("honest", 1)))
		return;
	c = node_connect("victim");
	for (uint64_t i = 0; EXPECT(c) && shared->stage != 9; ) {
		if (send_record(c, 77, &i, sizeof(i)))
			i++;
		loop_once(0, 1);
	}
	EXPECT_EQ(nr_downs, 0);
	node_stop(1);
}

static void late(void *arg)
{
	(void)arg;
	AWAIT(shared->stage >= 2);
	if (!EXPECT(!node_start("late", 1)))
		return;
	EXPECT(node_connect("victim"));
	test_stage(3);
	UNTIL(shared->stage >= 9);
	node_stop(1);
}

static uint64_t nr_honest;
static struct carrier *villains;

static void keep_villain(struct carrier *c)
{
	if (!strcmp(carrier_name(c), "villain"))
		villains = c;
}

static bool from_honest(struct carrier *c, const struct record *head, const void *body)
{
	if (strcmp(carrier_name(c), "honest"))
		return true;
	EXPECT(head->type == 77 && head->size == 8 && !memcmp(body, &nr_honest, 8));
	nr_honest++;
	return true;
}

/* The node, while the villain does evil. meanwhile: what it does itself, at stage 2. */
static void attack(void (*evil)(void *arg), void (*meanwhile)(void))
{
	pid_t v = node_fork(evil, NULL), h = node_fork(honest, NULL);
	pid_t l = evil == flood ? node_fork(late, NULL) : 0;
	unsigned int fds, maps;
	uint64_t before;
	int status;

	nr_honest = 0;
	villains = NULL;
	on_up = keep_villain;
	on_record = from_honest;
	release_downs = true;
	if (!EXPECT(!node_start("victim", 1)))
		return;
	fds = fds_open();
	maps = maps_open();
	shared->id[0] = port_node;
	test_stage(1);
	if (meanwhile) {
		if (!UNTIL(shared->stage >= 2 && villains))
			test_bail_out();
		meanwhile();
	}
	UNTIL(waitpid(v, &status, WNOHANG) == v);
	EXPECT_EQ(status, 0);
	/* The honest one still gets through. */
	before = nr_honest;
	UNTIL(nr_honest > before + 10);
	test_stage(9);
	UNTIL(waitpid(h, &status, WNOHANG) == h);
	EXPECT_EQ(status, 0);
	if (l)
		EXPECT_EQ(node_status(l), 0);
	UNTIL(nr_downs == nr_ups);
	AWAIT(fds_open() == fds);
	AWAIT(maps_open() == maps);
	test_note("%u connections", nr_ups);
	node_stop(1);
}

static void write_to_it(void)
{
	release_downs = false;
	while (send_record(villains, 1, "evil", 4))
		;
	UNTIL(nr_downs == 1);
	EXPECT_EQ(last_why, PORT_CUT);
	EXPECT(carrier_complaint(villains)[0]);
	carrier_release(villains);
	release_downs = true;
}

static void ring_it(void)
{
	struct carrier_counts counts;

	release_downs = false;
	for (int i = 0; i < 1000; i++) {
		send_record(villains, 1, "ring", 4);
		sched_yield();
	}
	carrier_count(villains, &counts);
	EXPECT(counts.rings);
	release_downs = true;
	test_stage(3);
}

static void hellos(void)
{
	attack(bad_hellos, NULL);
	EXPECT_EQ(nr_ups, 1);
}

static void packets(void)
{
	attack(garbage, NULL);
	EXPECT_EQ(nr_ups, 1);
}

static void lanes(void)
{
	attack(bad_lanes, NULL);
	EXPECT_EQ(nr_ups, 12);
}

static void tail(void)
{
	attack(bad_tail, write_to_it);
}

static void bell(void)
{
	attack(bad_bell, ring_it);
}

static void crowd(void)
{
	attack(flood, NULL);
	EXPECT_EQ(nr_ups, 2);
}

static void quiet(void)
{
	attack(silence, NULL);
	EXPECT_EQ(nr_ups, 1);
}

int main(void)
{
	port_tests_begin();
	port_case("greetings that are none", hellos);
	port_case("packets that are none", packets);
	port_case("lanes that cannot be", lanes);
	port_case("a tail that cannot be", tail);
	port_case("a bell that would wait", bell);
	port_case("a crowd that says nothing", crowd);
	port_case("silence", quiet);
	return port_tests_done();
}
