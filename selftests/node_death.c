/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Nodes that die at any moment, by SIGKILL: what had been sent arrives without a gap, then each link and each monitor
 * yields its noconnection, exactly once, and nothing comes after that.
 */
#include "nodes.h"

enum { NUMBER = 1, READY, STOP };

struct talk {
	mote_pid boss, to;
	uint64_t n;		/* after so many it kills its own node; 0: it talks on */
};

static void talker(const void *args, size_t size)
{
	struct talk t;

	if (!EXPECT(size == sizeof(t)))
		return;
	memcpy(&t, args, sizeof(t));
	mote_send(t.boss, READY, NULL, 0);
	for (uint64_t i = 0; !t.n || i < t.n; i++) {
		mote_send(t.to, NUMBER, &i, sizeof(i));
		if (i % 64 == 0)
			mote_yield();
	}
	kill(getpid(), SIGKILL);
}

/* Numbers without a gap, then DOWN. Returns how many came; UINT64_MAX: something else did. */
static uint64_t until_down(mote_ref ref, mote_pid p)
{
	for (uint64_t next = 0;; next++) {
		struct mote_msg *m = mote_receive(PATIENCE);
		bool down = is_down(m, ref, p, MOTE_NOCONNECTION);
		bool right = m && m->type == NUMBER && *(uint64_t *)m->data == next;

		if (!down && !right) {
			test_note("number %llu was due", (unsigned long long)next);
			test_describe(m);
			return UINT64_MAX;
		}
		mote_msg_free(m);
		if (down)
			return next;
	}
}

/* Killed from outside, in full flight. */
static void under_load(void)
{
	unsigned long n = test_rounds(20);
	uint64_t seed = test_seed(), sum = 0;

	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++) {
		struct talk t = { mote_self(), mote_self(), 0 };
		struct peer b;
		mote_ref ref;
		mote_pid p;
		uint64_t got;

		peer_start(&b, "b");
		p = peer_spawn_args(&b, "talker", &t, sizeof(t), MOTE_MONITOR, &ref);
		EXPECT(got_type(READY));
		mote_sleep(mote_in_us(test_random(&seed) % 3000));
		peer_kill(&b);
		got = until_down(ref, p);
		if (!EXPECT(got != UINT64_MAX))
			return;
		sum += got;
		mote_sleep(mote_in_ms(1));
		EXPECT(mailbox_is_empty());
	}
	test_note("%llu messages before %lu deaths", (unsigned long long)sum, n);
}

/* Kills itself after its last message: what was acknowledged, at least, arrives. */
static void by_its_own_hand(void)
{
	unsigned long n = test_rounds(20);

	for (unsigned long i = 0; i < n; i++) {
		struct talk t = { mote_self(), mote_self(), 1 + i * 37 };
		struct peer b;
		mote_ref ref;
		mote_pid p;
		uint64_t got;

		peer_start(&b, "b");
		p = peer_spawn_args(&b, "talker", &t, sizeof(t), MOTE_MONITOR, &ref);
		EXPECT(got_type(READY));
		got = until_down(ref, p);
		EXPECT(got <= t.n);
		peer_kill(&b);
	}
}

/* A mirror that was seen to answer had all before in our hands when it died. */
static void what_was_seen_to_be_sent(void)
{
	unsigned long n = test_rounds(20);

	for (unsigned long i = 0; i < n; i++) {
		struct peer b;
		mote_ref ref;
		mote_pid p;

		peer_start(&b, "b");
		p = peer_spawn(&b, "puppet", MOTE_MONITOR, &ref);
		TELL(p, DO_SEND, .kind = 1000);
		EXPECT(ping(p));		/* so they lie in the mailbox, or in the lane before the answer */
		TELL(p, DO_STOP_NODE, .kind = 0);
		for (uint32_t j = 0; j < 1000; j++) {
			struct mote_msg *m = mote_receive(PATIENCE);

			if (!EXPECT(m && m->type == 1 && *(uint32_t *)m->data == j)) {
				test_describe(m);
				return;
			}
			mote_msg_free(m);
		}
		EXPECT(got_down(ref, p, MOTE_NOCONNECTION));
		EXPECT(mailbox_is_empty());
		peer_kill(&b);
	}
}

/* Links and monitors of every kind, made and unmade while the node dies: each that stands is told of once. */
struct tie {
	mote_pid far, boss;
	uint64_t seed;
};

static void tied(void *arg)
{
	struct tie t = *(struct tie *)arg;
	unsigned int monitors = 0, downs = 0;
	mote_ref refs[16], last;
	struct mote_msg *m;
	bool linked = false;

	mote_trap_exit(true);
	mote_send(t.boss, READY, NULL, 0);
	for (int i = 0; i < 200 && monitors < 16; i++) {
		switch (test_random(&t.seed) % 6) {
		case 0:
			linked = true;
			mote_link(t.far);
			break;
		case 1:
			mote_unlink(t.far);
			while ((m = mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW)))
				mote_msg_free(m);
			linked = false;
			break;
		case 2:
			refs[monitors++] = mote_monitor(t.far);
			break;
		case 3:
			if (monitors)
				mote_demonitor(refs[--monitors], MOTE_FLUSH);
			break;
		case 4:
			mote_sleep(mote_in_us(test_random(&t.seed) % 100));
			break;
		case 5:
			mote_send(t.far, NUMBER, NULL, 0);
			break;
		}
	}
	for (unsigned int i = 0; i < monitors; i++) {
		m = mote_receive_ref(refs[i], PATIENCE);
		downs += is_down(m, refs[i], t.far, MOTE_NOCONNECTION);
		mote_msg_free(m);
	}
	EXPECT_EQ(downs, monitors);
	if (linked)
		EXPECT(got_exit(t.far, MOTE_NOCONNECTION));
	last = mote_monitor(t.far);
	EXPECT(got_down(last, t.far, MOTE_NOCONNECTION));
	/* each link made anew after the end has brought one more, before that DOWN */
	while (linked && (m = mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW))) {
		EXPECT(is_exit(m, t.far, MOTE_NOCONNECTION));
		mote_msg_free(m);
	}
	mote_sleep(mote_in_ms(2));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	mote_send(t.boss, STOP, NULL, 0);
}

static void ties(void)
{
	unsigned long n = test_rounds(10);
	uint64_t seed = test_seed() + 5;

	for (unsigned long i = 0; i < n; i++) {
		struct tie t[50];
		struct peer b;

		peer_start(&b, "b");
		t[0].far = peer_spawn(&b, "far_sink", 0, NULL);
		for (int j = 0; j < 50; j++) {
			t[j] = (struct tie){ t[0].far, mote_self(), test_seed() + test_random(&seed) };
			mote_spawn(tied, &t[j]);
		}
		for (int j = 0; j < 50; j++)
			EXPECT(got_type(READY));
		mote_sleep(mote_in_us(test_random(&seed) % 2000));
		peer_kill(&b);
		for (int j = 0; j < 50; j++)
			EXPECT(got_type(STOP));
	}
}

/* A thousand processes with a link and two monitors each: all hear, once. */
static void mourner(void *arg)
{
	struct tie t = *(struct tie *)arg;
	mote_ref a = mote_monitor(t.far), b;

	mote_trap_exit(true);
	mote_link(t.far);
	b = mote_monitor(t.far);
	mote_send(t.boss, READY, NULL, 0);
	EXPECT(got_exit(t.far, MOTE_NOCONNECTION));
	EXPECT(got_down(a, t.far, MOTE_NOCONNECTION));
	EXPECT(got_down(b, t.far, MOTE_NOCONNECTION));
	mote_yield();
	EXPECT(mailbox_is_empty());
	mote_send(t.boss, STOP, NULL, 0);
}

static void a_thousand_mourners(void)
{
	unsigned long n = test_crowd(1000);
	struct tie t = { .boss = mote_self() };
	struct peer b;

	peer_start(&b, "b");
	t.far = peer_spawn(&b, "puppet", 0, NULL);
	for (unsigned long i = 0; i < n; i++)
		mote_spawn(mourner, &t);
	for (unsigned long i = 0; i < n; i++)
		EXPECT(got_type(READY));
	EXPECT_EQ(far_info(t.far).links, n);
	EXPECT_EQ(far_info(t.far).monitored_by, 2 * n);
	peer_kill(&b);
	for (unsigned long i = 0; i < n; i++)
		EXPECT(got_type(STOP));
	EXPECT(mailbox_is_empty());
}

/* Spawns under way: each comes back, as a pid that is dead or as an error; no link or monitor stays. */
static void spawning(void *arg)
{
	struct tie t = *(struct tie *)arg;
	mote_node node = mote_pid_node(t.far);

	mote_trap_exit(true);
	mote_send(t.boss, READY, NULL, 0);
	for (;;) {
		mote_ref ref;
		mote_pid p = mote_spawn_on(node, &(struct mote_spawn_on_opts){
			.size = sizeof(struct mote_spawn_on_opts), .entry = "far_sink",
			.flags = MOTE_LINK | MOTE_MONITOR, .ref = &ref }, PATIENCE);
		int err = mote_errno();

		if (!mote_pid_valid(p)) {
			EXPECT_EQ(err, -ENETUNREACH);
			break;
		}
		mote_unlink(p);
		if (mote_demonitor(ref, MOTE_FLUSH) && test_random(&t.seed) % 2)
			mote_exit_pid(p, MOTE_REASON_KILL);
	}
	for (struct mote_msg *m; (m = mote_receive(MOTE_NOW));) {
		EXPECT(m->type == MOTE_MSG_EXIT);	/* of a link that broke before the unlink */
		mote_msg_free(m);
	}
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	mote_send(t.boss, STOP, NULL, 0);
}

static void spawns_into_death(void)
{
	unsigned long n = test_rounds(10);
	uint64_t seed = test_seed() + 9;

	for (unsigned long i = 0; i < n; i++) {
		struct tie t[10];
		struct peer b;

		peer_start(&b, "b");
		t[0].far = peer_spawn(&b, "far_sink", 0, NULL);
		for (int j = 0; j < 10; j++) {
			t[j] = (struct tie){ t[0].far, mote_self(), test_seed() + test_random(&seed) };
			mote_spawn(spawning, &t[j]);
		}
		for (int j = 0; j < 10; j++)
			EXPECT(got_type(READY));
		mote_sleep(mote_in_us(test_random(&seed) % 3000));
		peer_kill(&b);
		for (int j = 0; j < 10; j++)
			EXPECT(got_type(STOP));
	}
}

/* It floods us, we flood it, and it dies: those who sent to it go on. */
static void flooder(void *arg)
{
	struct talk t = *(struct talk *)arg;

	for (uint64_t i = 0; i < t.n; i++)
		EXPECT_EQ(mote_send(t.to, NUMBER, &i, sizeof(i)), 0);
	mote_send(t.boss, STOP, NULL, 0);
}

static void floods_into_death(void)
{
	unsigned long n = test_rounds(10);
	uint64_t seed = test_seed() + 2;

	for (unsigned long i = 0; i < n; i++) {
		struct talk there = { mote_self(), mote_spawn(sink, NULL), 0 };
		struct talk here = { .boss = mote_self(), .n = test_rounds(20000) };
		struct peer b;

		peer_start(&b, "b");
		here.to = peer_spawn(&b, "far_sink", 0, NULL);
		peer_spawn_args(&b, "talker", &there, sizeof(there), 0, NULL);
		EXPECT(got_type(READY));
		for (int j = 0; j < 4; j++)
			mote_spawn(flooder, &here);
		mote_sleep(mote_in_us(test_random(&seed) % 5000));
		peer_kill(&b);
		for (int j = 0; j < 4; j++)
			EXPECT(got_type(STOP));
		mote_exit_pid(there.to, MOTE_REASON_KILL);
	}
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(talker), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("SIGKILL in full flight: no gap, then DOWN", under_load);
	nodes_case("by its own hand, after its last message", by_its_own_hand);
	nodes_case("nothing is lost that was sent before an answer", what_was_seen_to_be_sent);
	nodes_case("a thousand links and two thousand monitors", a_thousand_mourners);
	nodes_case("links and monitors made and unmade meanwhile", ties);
	nodes_case("spawns under way", spawns_into_death);
	nodes_case("floods both ways", floods_into_death);
	return nodes_done();
}
