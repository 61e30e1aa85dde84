// SPDX-License-Identifier: MIT OR GPL-2.0
/* Names: one process per name, gone with the process before anybody learns of its end. */
#include "proc.h"

enum { GO = 1, DATA, DONE };

static void nothing(void *arg)
{
	(void)arg;
}

static bool nobody(const char *name)
{
	return !mote_pid_valid(mote_whereis(name));
}

static void basics(void)
{
	mote_pid p = mote_spawn(sink, NULL), q = mote_spawn(sink, NULL);

	EXPECT(nobody("a"));
	EXPECT_EQ(mote_unregister("a"), -ENOENT);
	EXPECT_EQ(mote_register("a", p), 0);
	EXPECT(mote_pid_equal(mote_whereis("a"), p));
	EXPECT(!strcmp(test_info(p).name, "a"));
	EXPECT_EQ(mote_register("a", q), -EEXIST);
	EXPECT_EQ(mote_register("a", p), -EEXIST);
	EXPECT(mote_pid_equal(mote_whereis("a"), p));
	/* any number per process */
	EXPECT_EQ(mote_register("b", p), 0);
	EXPECT_EQ(mote_register("c", mote_self()), 0);
	EXPECT(mote_pid_equal(mote_whereis("b"), p));
	EXPECT_EQ(mote_unregister("a"), 0);
	EXPECT(nobody("a"));
	EXPECT(mote_pid_equal(mote_whereis("b"), p));
	EXPECT_EQ(mote_register("a", q), 0);
	EXPECT(mote_pid_equal(mote_whereis("a"), q));
	put_down(p);
	EXPECT(nobody("b"));
	EXPECT(mote_pid_equal(mote_whereis("a"), q));
	EXPECT_EQ(mote_unregister("b"), -ENOENT);
	put_down(q);
	EXPECT(nobody("a"));
	EXPECT(!strcmp(test_info(mote_self()).name, "c"));
	EXPECT_EQ(mote_unregister("c"), 0);
	EXPECT(!strcmp(test_info(mote_self()).name, ""));
}

static void what_is_a_name(void)
{
	char name[257];

	memset(name, 'n', sizeof(name));
	name[256] = 0;
	EXPECT_EQ(mote_register("", mote_self()), -EINVAL);
	EXPECT_EQ(mote_register(name, mote_self()), -EINVAL);
	EXPECT(nobody(name));
	name[255] = 0;
	EXPECT_EQ(mote_register(name, mote_self()), 0);
	EXPECT(mote_pid_equal(mote_whereis(name), mote_self()));
	name[254] = 0;
	EXPECT(nobody(name));
	name[254] = 'n';
	EXPECT_EQ(mote_unregister(name), 0);
	EXPECT_EQ(mote_register("Grüße, 世界", mote_self()), 0);
	EXPECT(mote_pid_equal(mote_whereis("Grüße, 世界"), mote_self()));
	EXPECT(nobody("Gr\xc3\xbc\xc3\x9f" "e"));
}

static void of_the_dead(void)
{
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(nothing, NULL, &ref);

	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT_EQ(mote_register("dead", p), -ESRCH);
	EXPECT_EQ(mote_register("dead", MOTE_NOBODY), -ESRCH);
	EXPECT(nobody("dead"));
	EXPECT_EQ(mote_register("dead", mote_self()), 0);
}

static void by_name(void)
{
	struct mote_msg *m;

	EXPECT_EQ(mote_send_name("me", DATA, "x", 2), -ESRCH);
	EXPECT_EQ(mote_register("me", mote_self()), 0);
	EXPECT_EQ(mote_send_name("me", DATA, "x", 2), 0);
	EXPECT_EQ(mote_send_name("me", MOTE_MSG_EXIT, "x", 2), -EINVAL);
	m = mote_receive(PATIENCE);
	EXPECT(m && m->type == DATA && m->size == 2);
	mote_msg_free(m);
	EXPECT_EQ(mote_unregister("me"), 0);
	EXPECT_EQ(mote_send_name("me", DATA, "x", 2), -ESRCH);
	EXPECT(mailbox_is_empty());
}

struct seen {
	mote_pid pid;
	unsigned long left;
	unsigned char times[2000];
	unsigned long others;
};

static bool visit(const char *name, mote_pid pid, void *arg)
{
	struct seen *s = arg;
	unsigned int i;

	if (sscanf(name, "each.%u", &i) == 1 && i < sizeof(s->times)) {
		s->times[i]++;
		if (!mote_pid_equal(pid, s->pid))
			s->others++;
	}
	return --s->left > 0;
}

static void each(void)
{
	static struct seen s;
	char name[32];
	unsigned int once = 0;

	memset(&s, 0, sizeof(s));
	s = (struct seen){ .pid = mote_self(), .left = ~0ul };
	for (unsigned int i = 0; i < sizeof(s.times); i++) {
		snprintf(name, sizeof(name), "each.%u", i);
		EXPECT_EQ(mote_register(name, mote_self()), 0);
	}
	mote_name_each(visit, &s);
	for (unsigned int i = 0; i < sizeof(s.times); i++)
		once += s.times[i] == 1;
	EXPECT_EQ(once, sizeof(s.times));
	EXPECT_EQ(s.others, 0);
	s = (struct seen){ .pid = mote_self(), .left = 3 };
	mote_name_each(visit, &s);
	EXPECT_EQ(s.left, 0);
	for (unsigned int i = 0; i < sizeof(s.times); i++) {
		snprintf(name, sizeof(name), "each.%u", i);
		EXPECT(mote_pid_equal(mote_whereis(name), mote_self()));
		EXPECT_EQ(mote_unregister(name), 0);
	}
}

static void own_three(void *arg)
{
	(void)arg;
	mote_register("name.1", mote_self());
	mote_register("name.2", mote_self());
	mote_register("name.3", mote_self());
}

static void gone_before_down(void)
{
	unsigned long n = test_rounds(20000);

	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid p = spawn_pinned(own_three, NULL, (unsigned int)i, MOTE_MONITOR, &ref);

		EXPECT(got_down(ref, p, MOTE_NORMAL));
		if (!EXPECT(nobody("name.1") && nobody("name.2") && nobody("name.3")))
			return;
	}
}

/* Several fight for one name: it is never two people's. */
struct fight {
	_Atomic int holders, wins;
	unsigned long rounds;
};

static void fighter(void *arg)
{
	struct fight *f = arg;
	uint64_t seed = test_seed() + mote_self().serial;

	for (unsigned long i = 0; i < f->rounds; i++) {
		int err = mote_register("fight", mote_self());

		if (err == 0) {
			EXPECT_EQ(atomic_fetch_add(&f->holders, 1), 0);
			EXPECT(mote_pid_equal(mote_whereis("fight"), mote_self()));
			test_jitter(&seed);
			EXPECT_EQ(atomic_fetch_sub(&f->holders, 1), 1);
			EXPECT_EQ(mote_unregister("fight"), 0);
			atomic_fetch_add(&f->wins, 1);
		} else {
			EXPECT_EQ(err, -EEXIST);
			mote_check();
		}
	}
}

static void race_register(void)
{
	struct fight f = { .rounds = test_rounds(50000) };
	mote_ref refs[6];

	for (unsigned int i = 0; i < 6; i++)
		EXPECT(mote_pid_valid(spawn_pinned(fighter, &f, i, MOTE_MONITOR, &refs[i])));
	for (int i = 0; i < 6; i++)
		mote_msg_free(mote_receive_ref(refs[i], MOTE_FOREVER));
	EXPECT(atomic_load(&f.wins) > 0);
	EXPECT(nobody("fight"));
	test_note("%d registrations", atomic_load(&f.wins));
}

static void short_life(void *arg)
{
	uint64_t seed = *(uint64_t *)arg;

	test_jitter(&seed);
}

/* A name given to a process while it dies: refused, or gone again when DOWN has come. */
static void register_races_exit(void *arg)
{
	unsigned long n = test_rounds(30000), given = 0;
	uint64_t seed = test_seed();

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		uint64_t life = seed + i;
		mote_ref ref;
		mote_pid p = spawn_pinned(short_life, &life, 1, MOTE_MONITOR, &ref), w;
		int err;

		for (uint32_t j = test_random(&seed) % 5; j; j--)
			test_jitter(&seed);
		err = mote_register("dying", p);
		EXPECT(err == 0 || err == -ESRCH);
		given += err == 0;
		w = mote_whereis("dying");
		EXPECT(!mote_pid_valid(w) || (err == 0 && mote_pid_equal(w, p)));
		EXPECT(got_down(ref, p, MOTE_NORMAL));
		if (!EXPECT(nobody("dying")))
			return;
	}
	test_note("%lu of %lu were still alive", given, n);
}

static void race_exit(void)
{
	on_first_scheduler(register_races_exit, NULL);
}

/* Look-ups while a name changes hands by death: never somebody whose DOWN has been seen. */
struct handover {
	_Atomic(const mote_pid *) dead;	/* the last tenant whose DOWN has come */
	_Atomic bool stop;
	mote_pid boss;
};

static void looker(void *arg)
{
	struct handover *h = arg;

	while (!atomic_load(&h->stop)) {
		const mote_pid *dead = atomic_load(&h->dead);
		mote_pid p = mote_whereis("handed.on");

		if (mote_pid_valid(p)) {
			if (!EXPECT(!dead || !mote_pid_equal(p, *dead)))
				break;
			mote_send(p, DATA, NULL, 0);
		}
		mote_send_name("handed.on", DATA, NULL, 0);
		mote_check();
	}
}

static void tenant(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive(mote_in_us(30)));
}

static void names_change_hands(void *arg)
{
	unsigned long n = test_rounds(3000);
	struct handover h = { .boss = mote_self() };
	mote_pid *p = calloc(n, sizeof(*p));
	mote_ref done, ref;
	mote_pid l = spawn_pinned(looker, &h, 1, MOTE_MONITOR, &done);

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		p[i] = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = tenant, .name = "handed.on",
			.flags = MOTE_MONITOR | MOTE_PINNED, .ref = &ref });

		if (!EXPECT(mote_pid_valid(p[i])) || !EXPECT(got_down(ref, p[i], MOTE_NORMAL)))
			break;
		atomic_store(&h.dead, &p[i]);
	}
	atomic_store(&h.stop, true);
	EXPECT(got_down(done, l, MOTE_NORMAL));
	free(p);
}

static void race_lookup(void)
{
	on_first_scheduler(names_change_hands, NULL);
}

int main(void)
{
	selftest_process("register, whereis, unregister; one process per name", basics);
	selftest_process("a name is 1 to 255 bytes", what_is_a_name);
	selftest_process("no names for the dead: -ESRCH", of_the_dead);
	selftest_process("send by name; -ESRCH when it is nobody's", by_name);
	selftest_process("mote_name_each sees every name once, stops when told", each);
	selftest_process_opts("whoever sees DOWN sees whereis answer nobody", gone_before_down, SCHEDULERS(2));
	selftest_process_opts("race: a name is never two processes'", race_register, SCHEDULERS(2));
	selftest_process_opts("race: register against the exit of the named", race_exit, SCHEDULERS(2));
	selftest_process_opts("race: look-ups while a name changes hands", race_lookup, SCHEDULERS(2));
	return selftest_done();
}
