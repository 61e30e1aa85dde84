// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Everything at once: actors on two schedulers do at random all that the law of processes knows, to each other, and
 * each keeps account of what it may and what it must be told. Seeded by MOTE_TEST_SEED.
 */
#include "proc.h"

enum { DATA = 1, ASK, ANSWER, TICK };

#define ACTORS 24
#define KEEP 8		/* monitors, links, timers that an actor keeps account of */
#define NAMES 5

static _Atomic(const mote_pid *) actors[ACTORS];
static _Atomic uint64_t did[16], cleanups_due, cleanups_done;
static mote_pid boss;

/* The newest actor of that number, or one who has just ended. */
static mote_pid peer(uint32_t i)
{
	const mote_pid *p = atomic_load(&actors[i]);

	return p ? *p : MOTE_NOBODY;
}

struct data {
	uint32_t sender, n;
};

struct timer {
	mote_timer t;
	uint32_t id;
	bool armed;
};

struct actor {
	uint32_t index;
	uint64_t seed;
	struct { mote_pid pid; uint32_t next; } to[ACTORS];
	struct { mote_pid pid; uint32_t next; } from[ACTORS];
	struct { mote_ref ref; mote_pid pid; } monitors[KEEP];
	mote_pid links[KEEP];		/* to other actors, who may link and unlink, too: no exact account */
	mote_pid children[KEEP];	/* linked, and do nothing but end */
	mote_pid gone[KEEP * 2];	/* children that were unlinked, or whose EXIT has come */
	uint32_t nr_gone;
	struct timer timers[KEEP];
	uint32_t next_timer;
	bool ended;
};

static uint32_t pick(struct actor *a, uint32_t n)
{
	return test_random(&a->seed) % n;
}

static int find(const mote_pid *pids, int n, mote_pid p)
{
	for (int i = 0; i < n; i++)
		if (mote_pid_valid(pids[i]) && mote_pid_equal(pids[i], p))
			return i;
	return -1;
}

static void complain(const char *what, const struct mote_msg *m)
{
	selftest_complain(__FILE__, __LINE__, what);
	test_describe(m);
}

static void child_is_gone(struct actor *a, int i)
{
	a->gone[a->nr_gone++ % (KEEP * 2)] = a->children[i];
	a->children[i] = MOTE_NOBODY;
}

static void take_exit(struct actor *a, const struct mote_msg *m)
{
	const struct mote_exit_info *e = mote_msg_exit(m);
	int i;

	if (e->reason.kind == MOTE_CUSTOM && e->reason.code == 999)
		return;		/* by mote_exit_pid: needs no link */
	if (find(a->gone, KEEP * 2, e->pid) >= 0)
		complain("an EXIT of a child that has ended, or was unlinked", m);
	i = find(a->links, KEEP, e->pid);
	if (i >= 0)
		a->links[i] = MOTE_NOBODY;
	i = find(a->children, KEEP, e->pid);
	if (i >= 0)
		child_is_gone(a, i);
}

static void take_down(struct actor *a, const struct mote_msg *m)
{
	const struct mote_down_info *d = mote_msg_down(m);

	for (int i = 0; i < KEEP; i++) {
		if (a->monitors[i].ref.id && mote_ref_equal(a->monitors[i].ref, d->ref)) {
			EXPECT(mote_pid_equal(a->monitors[i].pid, d->pid));
			a->monitors[i].ref.id = 0;
			return;
		}
	}
	complain("a DOWN of a monitor that is not, or that has fired", m);
}

static void take(struct actor *a, struct mote_msg *m)
{
	const struct data *d = m->data;
	uint32_t n;

	switch (m->type) {
	case DATA:
		if (!mote_pid_equal(a->from[d->sender].pid, m->from)) {
			a->from[d->sender].pid = m->from;
			a->from[d->sender].next = 0;
		}
		EXPECT_EQ(d->n, a->from[d->sender].next);
		a->from[d->sender].next = d->n + 1;
		break;
	case ASK:
		n = *(uint32_t *)m->data * 3;
		mote_reply(mote_msg_from(m), ANSWER, &n, sizeof(n));
		break;
	case TICK:
		n = *(uint32_t *)m->data;
		for (int i = 0; i < KEEP; i++) {
			if (a->timers[i].armed && a->timers[i].id == n) {
				a->timers[i].armed = false;
				n = ~0u;
			}
		}
		EXPECT_EQ(n, ~0u);
		break;
	case MOTE_MSG_EXIT:
		take_exit(a, m);
		break;
	case MOTE_MSG_DOWN:
		take_down(a, m);
		break;
	default:
		complain("a message of this type", m);
	}
	mote_msg_free(m);
}

static void take_all(struct actor *a)
{
	struct mote_msg *m;

	while ((m = mote_receive(MOTE_NOW)))
		take(a, m);
}

static bool exit_of(const struct mote_msg *m, void *arg)
{
	const struct mote_exit_info *e = m->type == MOTE_MSG_EXIT ? m->data : NULL;

	return e && mote_pid_equal(e->pid, *(mote_pid *)arg) &&
	       !(e->reason.kind == MOTE_CUSTOM && e->reason.code == 999);
}

static void unlink_child(struct actor *a, int i)
{
	mote_unlink(a->children[i]);
	/* one that was in the mailbox before stays; from now on there must be none */
	mote_msg_free(mote_receive_match(exit_of, &a->children[i], MOTE_NOW));
	child_is_gone(a, i);
}

static void do_cancel(struct actor *a, int i)
{
	int err = mote_timer_cancel(a->timers[i].t, NULL);

	if (err == 0)
		a->timers[i].armed = false;
	else
		EXPECT_EQ(err, -ENOENT);
}

static void child(void *arg)
{
	if ((uintptr_t)arg & 1)
		mote_yield();
	if ((uintptr_t)arg & 2)
		mote_exit(mote_reason_error(EIO, "child"));
}

static void cleanup(void *arg)
{
	(void)arg;
	atomic_fetch_add(&cleanups_done, 1);
}

static void with_name(struct actor *a)
{
	char name[16];
	int err;

	snprintf(name, sizeof(name), "stress.%u", pick(a, NAMES));
	err = mote_register(name, mote_self());
	if (err == 0) {
		EXPECT(mote_pid_equal(mote_whereis(name), mote_self()));
		if (pick(a, 4))
			EXPECT_EQ(mote_unregister(name), 0);
	} else {
		EXPECT_EQ(err, -EEXIST);
	}
	mote_send_name(name, MOTE_MSG_RESERVED, NULL, 0);
}

static void ask(struct actor *a, mote_pid p)
{
	uint32_t n = pick(a, 1000000);
	struct mote_msg *m = NULL;
	int err = mote_call(p, ASK, &n, sizeof(n), &m, mote_in_us(100));

	if (err == 0) {
		EXPECT(m && m->type == ANSWER && *(uint32_t *)m->data == n * 3);
		mote_msg_free(m);
	} else {
		/* Random calls come in circles, too. */
		EXPECT(err == -ETIMEDOUT || err == -ESRCH || err == -EPIPE || err == -EDEADLK);
	}
}

static void step(struct actor *a)
{
	uint32_t op = pick(a, 16), who = pick(a, ACTORS), k = pick(a, KEEP);
	mote_pid p = peer(who);
	struct data d;
	void *mem;

	if (!mote_pid_valid(p) || mote_pid_equal(p, mote_self()))
		return;
	atomic_fetch_add_explicit(&did[op], 1, memory_order_relaxed);
	switch (op) {
	case 0: case 1: case 2:
		if (!mote_pid_equal(a->to[who].pid, p)) {
			a->to[who].pid = p;
			a->to[who].next = 0;
		}
		d = (struct data){ a->index, a->to[who].next++ };
		mote_send(p, DATA, &d, sizeof(d));
		break;
	case 3:
		ask(a, p);
		break;
	case 4:
		if (!a->monitors[k].ref.id) {
			a->monitors[k].pid = p;
			a->monitors[k].ref = mote_monitor(p);
			EXPECT(a->monitors[k].ref.id);
		}
		break;
	case 5:
		if (a->monitors[k].ref.id) {
			mote_demonitor(a->monitors[k].ref, MOTE_FLUSH);
			a->monitors[k].ref.id = 0;
		}
		break;
	case 6:
		if (!mote_pid_valid(a->links[k])) {
			a->links[k] = p;
			EXPECT_EQ(mote_link(p), 0);
		}
		break;
	case 7:
		if (mote_pid_valid(a->links[k])) {
			EXPECT_EQ(mote_unlink(a->links[k]), 0);
			a->links[k] = MOTE_NOBODY;
		}
		if (mote_pid_valid(a->children[k]))
			unlink_child(a, (int)k);
		break;
	case 8:
		if (!a->timers[k].armed) {
			uint32_t id = a->next_timer++;

			a->timers[k] = (struct timer){ .id = id, .armed = true };
			a->timers[k].t = mote_send_after(mote_in_us(pick(a, 300)), mote_self(), TICK, &id, sizeof(id));
			EXPECT(a->timers[k].t.id);
		}
		break;
	case 9:
		if (a->timers[k].armed)
			do_cancel(a, (int)k);
		break;
	case 10:
		with_name(a);
		break;
	case 11:
		if (!mote_pid_valid(a->children[k]))
			a->children[k] = mote_spawn_link(child, (void *)(uintptr_t)pick(a, 4));
		break;
	case 12:
		if (pick(a, 2))
			mote_yield();
		else
			mote_sleep(mote_in_us(pick(a, 40)));
		break;
	case 13:
		if (pick(a, 4) == 0)
			mote_exit_pid(p, (struct mote_reason){ MOTE_CUSTOM, 999, "stress", 6 });
		else
			mote_check();
		break;
	case 14:
		if (pick(a, 40) == 0)
			mote_exit_pid(p, MOTE_REASON_KILL);
		break;
	case 15:
		mem = mote_alloc(pick(a, 3000));
		EXPECT(mem);
		if (pick(a, 2))
			mote_free(mem);
		break;
	}
}

/* Before it ends an actor settles its accounts: what must come comes, what must not does not. */
static void settle(struct actor *a)
{
	mote_deadline until = PATIENCE;

	for (int i = 0; i < KEEP; i++) {
		if (a->monitors[i].ref.id)
			mote_demonitor(a->monitors[i].ref, MOTE_FLUSH);
		a->monitors[i].ref.id = 0;
		if (mote_pid_valid(a->children[i]))
			unlink_child(a, i);
	}
	for (int i = 0; i < KEEP; i++) {
		while (a->timers[i].armed) {
			struct mote_msg *m = mote_receive(until);

			if (!EXPECT(m))
				return;
			take(a, m);
		}
	}
	take_all(a);
}

static void actor(void *arg)
{
	struct actor *a = mote_zalloc(sizeof(*a));
	uint32_t steps;

	a->index = (uint32_t)(uintptr_t)arg;
	a->seed = test_seed() + mote_self().serial * 77 + a->index;
	atomic_fetch_add(&cleanups_due, 1);
	mote_defer(cleanup, NULL);
	steps = 50 + pick(a, 200);
	for (uint32_t i = 0; i < steps; i++) {
		step(a);
		take_all(a);
	}
	if (pick(a, 4))
		settle(a);
	if (pick(a, 2))
		mote_exit(mote_reason_error(EPIPE, "the end"));
}

/* life: where the pid is kept, for as long as anybody may look at it. */
static mote_ref start(uint32_t i, mote_pid *life)
{
	mote_ref ref;
	mote_pid p = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = actor, .arg = (void *)(uintptr_t)i, .ref = &ref,
		.flags = MOTE_MONITOR | MOTE_TRAP_EXIT | (i % 4 ? 0 : MOTE_PINNED), .scheduler = i / 4,
		.priority = i % 7 == 0 ? MOTE_PRIORITY_LOW : MOTE_PRIORITY_NORMAL });

	EXPECT(mote_pid_valid(p));
	*life = p;
	atomic_store(&actors[i], life);
	return ref;
}

static uint64_t processes(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info.processes;
}

static void stress(void)
{
	mote_ref refs[ACTORS];
	unsigned long lives = test_rounds(6000), ended = 0, started = 0;
	unsigned long kinds[MOTE_CUSTOM + 1] = { 0 };
	mote_pid *pids = calloc(lives + ACTORS, sizeof(*pids));

	boss = mote_self();
	atomic_store(&cleanups_due, 0);
	atomic_store(&cleanups_done, 0);
	for (uint32_t i = 0; i < ACTORS; i++)
		atomic_store(&actors[i], NULL);
	for (uint32_t i = 0; i < ACTORS; i++, started++)
		refs[i] = start(i, &pids[started]);
	while (ended < started) {
		struct mote_msg *m = mote_receive(PATIENCE);
		const struct mote_down_info *d = m ? mote_msg_down(m) : NULL;
		uint32_t i;

		if (!EXPECT(d)) {
			test_note("%lu of %lu have ended", ended, started);
			test_bail_out();
		}
		for (i = 0; i < ACTORS && !mote_ref_equal(refs[i], d->ref); i++)
			;
		if (!EXPECT(i < ACTORS))
			test_bail_out();
		EXPECT(mote_pid_equal(d->pid, peer(i)));
		EXPECT(d->reason.kind == MOTE_NORMAL || d->reason.kind == MOTE_ERROR || d->reason.kind == MOTE_KILLED);
		kinds[d->reason.kind]++;
		ended++;
		refs[i].id = 0;
		mote_msg_free(m);
		if (started < lives) {
			refs[i] = start(i, &pids[started]);
			started++;
		}
	}
	EXPECT(mailbox_is_empty());
	for (int i = 0; i < NAMES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "stress.%d", i);
		EXPECT(!mote_pid_valid(mote_whereis(name)));
	}
	for (int i = 0; i < 10000 && processes() > 1; i++)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(processes(), 1);
	EXPECT_EQ(atomic_load(&cleanups_due), atomic_load(&cleanups_done));
	EXPECT_EQ(test_info(boss).monitors, 0);
	free(pids);
	test_note("%lu lives: %lu normal, %lu errors, %lu killed", ended, kinds[MOTE_NORMAL], kinds[MOTE_ERROR],
		  kinds[MOTE_KILLED]);
}

int main(void)
{
	selftest_process_opts("everything at once, two schedulers", stress, SCHEDULERS(2));
	selftest_process_opts("everything at once, one scheduler", stress, SCHEDULERS(1));
	selftest_process_opts("everything at once, four schedulers", stress, SCHEDULERS(4));
	return selftest_done();
}
