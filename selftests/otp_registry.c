// SPDX-License-Identifier: MIT OR GPL-2.0
/* Registries, as Elixir's are: entering, leaving, looking, telling, locking, and their end. */
#include "proc.h"

#include <mote/pg.h>
#include <mote/pubsub.h>
#include <mote/registry.h>
#include <mote/server.h>
#include <mote/sys.h>

#define KEY(text) (text), strlen(text)

static struct mote_registry *start_opts(const char *name, int keys, unsigned int partitions)
{
	struct mote_registry_opts opts = { .size = sizeof(opts), .name = name, .keys = keys, .partitions = partitions };
	mote_pid pid;

	EXPECT_EQ(mote_registry_start_link(&opts, &pid), 0);
	EXPECT(mote_pid_equal(mote_whereis(name), pid));
	return mote_registry_named(name);
}

static struct mote_registry *start(int keys)
{
	return start_opts("registry", keys, 0);
}

static int enter(struct mote_registry *r, const char *key, const char *value)
{
	return mote_registry_register(r, KEY(key), KEY(value), NULL);
}

/* What visitors saw, as text: "key=value," each. */
struct seen {
	char text[512];
	mote_pid pid;
	int stop_after;			/* 0: never */
	int n;
};

static bool see(const struct mote_registry_entry *e, void *arg)
{
	struct seen *seen = arg;
	size_t at = strlen(seen->text);

	snprintf(seen->text + at, sizeof(seen->text) - at, "%.*s=%.*s,", (int)e->key_size, (const char *)e->key,
		 (int)e->value_size, (const char *)e->value);
	seen->pid = e->pid;
	return ++seen->n != seen->stop_after;
}

static bool value_is(struct mote_registry *r, const char *key, const char *value)
{
	char buf[64];
	size_t size = sizeof(buf);

	return mote_registry_value(r, KEY(key), NULL, buf, &size) == 0 && size == strlen(value) &&
	       !memcmp(buf, value, size);
}

/* --- a process that registers for somebody else, and lives until told otherwise */

enum { ENTER = 1, LEAVE, ENTERED };

struct wish {
	struct mote_registry *r;
	char key[24], value[24];
};

static void member(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		struct wish *w = m->data;
		int err = 0;

		if (m->type == ENTER)
			err = enter(w->r, w->key, w->value);
		else if (m->type == LEAVE)
			err = (int)mote_registry_unregister(w->r, KEY(w->key));
		mote_send(m->from, ENTERED, &err, sizeof(err));
		mote_msg_free(m);
	}
}

static int ask(mote_pid pid, uint32_t what, struct mote_registry *r, const char *key, const char *value)
{
	struct wish w = { .r = r };
	struct mote_msg *m;
	int err;

	snprintf(w.key, sizeof(w.key), "%s", key);
	snprintf(w.value, sizeof(w.value), "%s", value);
	mote_send(pid, what, &w, sizeof(w));
	m = mote_receive_type(ENTERED, PATIENCE);
	if (!EXPECT(m))
		return -ETIMEDOUT;
	memcpy(&err, m->data, sizeof(err));
	mote_msg_free(m);
	return err;
}

static mote_pid entered(struct mote_registry *r, const char *key, const char *value)
{
	mote_pid pid = mote_spawn(member, NULL);

	EXPECT_EQ(ask(pid, ENTER, r, key, value), 0);
	return pid;
}

/* --- cases */

static void unique(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_UNIQUE);
	mote_pid holder, pids[2] = { MOTE_NOBODY }, other;

	EXPECT_EQ(mote_registry_lookup(r, KEY("a"), pids, 2), 0);
	EXPECT(!mote_pid_valid(mote_registry_whereis(r, KEY("a"))));
	EXPECT_EQ(mote_registry_register(r, KEY("a"), KEY("one"), &holder), 0);
	EXPECT_EQ(mote_registry_lookup(r, KEY("a"), pids, 2), 1);
	EXPECT(mote_pid_equal(pids[0], mote_self()));
	EXPECT(mote_pid_equal(mote_registry_whereis(r, KEY("a")), mote_self()));
	EXPECT(value_is(r, "a", "one"));
	/* The second one is refused, also the holder itself. */
	EXPECT_EQ(mote_registry_register(r, KEY("a"), KEY("two"), &holder), -EEXIST);
	EXPECT(mote_pid_equal(holder, mote_self()));
	other = entered(r, "b", "three");
	EXPECT_EQ(ask(other, ENTER, r, "a", "four"), -EEXIST);
	EXPECT_EQ(mote_registry_register(r, KEY("b"), KEY("five"), &holder), -EEXIST);
	EXPECT(mote_pid_equal(holder, other));
	EXPECT(value_is(r, "a", "one") && value_is(r, "b", "three"));
	EXPECT_EQ(mote_registry_count(r), 2);
	EXPECT_EQ(mote_registry_unregister(r, KEY("a")), 1);
	EXPECT_EQ(mote_registry_unregister(r, KEY("a")), 0);
	EXPECT_EQ(mote_registry_unregister(r, KEY("b")), 0);	/* another's */
	EXPECT(mote_pid_equal(mote_registry_whereis(r, KEY("b")), other));
	EXPECT_EQ(ask(other, ENTER, r, "a", "six"), 0);
	EXPECT(value_is(r, "a", "six"));
	put_down(other);
	EXPECT_EQ(mote_registry_count(r), 0);
}

static void any_bytes(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_UNIQUE);
	char big[5000], value[5000], got[6000];
	size_t size = sizeof(got);

	for (size_t i = 0; i < sizeof(big); i++) {
		big[i] = (char)(i * 7);
		value[i] = (char)(i * 13);
	}
	EXPECT_EQ(mote_registry_register(r, NULL, 0, NULL, 0, NULL), 0);
	EXPECT_EQ(mote_registry_register(r, "\0", 1, "x", 1, NULL), 0);
	EXPECT_EQ(mote_registry_register(r, "\0\0", 2, "y", 1, NULL), 0);
	for (size_t n = 3; n < 40; n++)
		EXPECT_EQ(mote_registry_register(r, big, n, big, n, NULL), 0);
	EXPECT_EQ(mote_registry_register(r, big, sizeof(big), value, sizeof(value), NULL), 0);
	EXPECT_EQ(mote_registry_count(r), 41);
	EXPECT(mote_pid_valid(mote_registry_whereis(r, "", 0)));
	EXPECT_EQ(mote_registry_value(r, big, sizeof(big), NULL, got, &size), 0);
	EXPECT(size == sizeof(value) && !memcmp(got, value, size));
	/* A buffer too small gets what fits, and hears what there is. */
	size = 3;
	memset(got, 1, sizeof(got));
	EXPECT_EQ(mote_registry_value(r, big, sizeof(big), NULL, got, &size), 0);
	EXPECT(size == sizeof(value) && !memcmp(got, value, 3) && got[3] == 1);
	EXPECT_EQ(mote_registry_value(r, KEY("none"), NULL, got, &size), -ENOENT);
	EXPECT_EQ(mote_registry_register(r, big, (size_t)1 << 31, NULL, 0, NULL), -EMSGSIZE);
	EXPECT_EQ(mote_registry_register(NULL, big, 1, NULL, 0, NULL), -EINVAL);
}

static void duplicate(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_DUPLICATE);
	mote_pid other = entered(r, "a", "1"), pids[4] = { MOTE_NOBODY };

	EXPECT_EQ(enter(r, "a", "2"), 0);
	EXPECT_EQ(enter(r, "b", "3"), 0);
	EXPECT_EQ(enter(r, "a", "4"), 0);
	EXPECT_EQ(mote_registry_count(r), 4);
	EXPECT_EQ(mote_registry_lookup(r, KEY("a"), pids, 4), 3);
	EXPECT(mote_pid_equal(pids[0], other) && mote_pid_equal(pids[1], mote_self()));
	EXPECT(mote_pid_equal(pids[2], mote_self()));
	memset(pids, 0, sizeof(pids));
	EXPECT_EQ(mote_registry_lookup(r, KEY("a"), pids, 1), 3);
	EXPECT(mote_pid_equal(pids[0], other) && !mote_pid_valid(pids[1]));
	EXPECT(!mote_pid_valid(mote_registry_whereis(r, KEY("a"))));
	EXPECT_EQ(mote_registry_update_value(r, KEY("a"), KEY("9")), -EINVAL);
	/* All of the caller's, nobody else's. */
	EXPECT_EQ(mote_registry_unregister(r, KEY("a")), 2);
	EXPECT_EQ(mote_registry_lookup(r, KEY("a"), pids, 4), 1);
	EXPECT(mote_pid_equal(pids[0], other));
	put_down(other);
	EXPECT_EQ(mote_registry_lookup(r, KEY("a"), pids, 4), 0);
	EXPECT_EQ(mote_registry_count(r), 1);
}

static bool value_starts(const struct mote_registry_entry *e, void *arg)
{
	return e->value_size && *(const char *)e->value == *(const char *)arg;
}

/* A predicate that takes away what it is asked about, and enters it anew. */
static bool meddles(const struct mote_registry_entry *e, void *arg)
{
	struct mote_registry *r = arg;

	(void)e;
	mote_registry_unregister(r, KEY("a"));
	EXPECT_EQ(enter(r, "a", "new"), 0);
	return true;
}

static void unregister_match(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_DUPLICATE);
	mote_pid other = entered(r, "a", "x-other");
	struct seen seen = { 0 };

	enter(r, "a", "x1");
	enter(r, "a", "y1");
	enter(r, "a", "x2");
	enter(r, "b", "x3");
	EXPECT_EQ(mote_registry_unregister_match(r, KEY("a"), value_starts, "z"), 0);
	EXPECT_EQ(mote_registry_unregister_match(r, KEY("a"), value_starts, "x"), 2);
	EXPECT_EQ(mote_registry_match(r, KEY("a"), see, &seen), 2);
	EXPECT(!strcmp(seen.text, "a=x-other,a=y1,"));
	EXPECT_EQ(mote_registry_count(r), 3);
	EXPECT_EQ(mote_registry_unregister_match(r, KEY("a"), meddles, r), 0);
	memset(&seen, 0, sizeof(seen));
	EXPECT_EQ(mote_registry_match(r, KEY("a"), see, &seen), 2);
	EXPECT(!strcmp(seen.text, "a=x-other,a=new,"));
	put_down(other);
}

static void unregister_match_unique(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_UNIQUE);

	enter(r, "a", "x");
	EXPECT_EQ(mote_registry_unregister_match(r, KEY("a"), value_starts, "y"), 0);
	EXPECT(value_is(r, "a", "x"));
	EXPECT_EQ(mote_registry_unregister_match(r, KEY("a"), value_starts, "x"), 1);
	EXPECT_EQ(mote_registry_count(r), 0);
}

static void update_value(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_UNIQUE);
	mote_pid other = entered(r, "b", "theirs");
	struct seen seen = { 0 };

	enter(r, "a", "1");
	enter(r, "c", "3");
	EXPECT_EQ(mote_registry_update_value(r, KEY("a"), KEY("a longer one")), 0);
	EXPECT(value_is(r, "a", "a longer one"));
	EXPECT_EQ(mote_registry_update_value(r, KEY("a"), NULL, 0), 0);
	EXPECT(value_is(r, "a", ""));
	EXPECT_EQ(mote_registry_update_value(r, KEY("b"), KEY("mine")), -ENOENT);
	EXPECT(value_is(r, "b", "theirs"));
	EXPECT_EQ(mote_registry_update_value(r, KEY("d"), KEY("?")), -ENOENT);
	EXPECT_EQ(mote_registry_keys(r, mote_self(), see, &seen), 2);
	EXPECT(!strcmp(seen.text, "a=,c=3,"));
	put_down(other);
	EXPECT_EQ(mote_registry_unregister(r, KEY("a")), 1);
	EXPECT_EQ(mote_registry_unregister(r, KEY("c")), 1);
	EXPECT_EQ(mote_registry_count(r), 0);
}

static void visitors(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_DUPLICATE);
	mote_pid other = entered(r, "a", "1");
	struct seen seen = { 0 };

	enter(r, "a", "2");
	enter(r, "b", "3");
	enter(r, "a", "2");
	EXPECT_EQ(mote_registry_match(r, KEY("a"), see, &seen), 3);
	EXPECT(!strcmp(seen.text, "a=1,a=2,a=2,"));
	seen = (struct seen){ .stop_after = 2 };
	EXPECT_EQ(mote_registry_match(r, KEY("a"), see, &seen), 2);
	EXPECT(!strcmp(seen.text, "a=1,a=2,"));
	seen = (struct seen){ 0 };
	EXPECT_EQ(mote_registry_match(r, KEY("c"), see, &seen), 0);
	EXPECT_EQ(mote_registry_select(r, see, &seen), 4);
	EXPECT(strstr(seen.text, "b=3,") && strstr(seen.text, "a=1,a=2,a=2,") && strlen(seen.text) == 16);
	seen = (struct seen){ .stop_after = 1 };
	EXPECT_EQ(mote_registry_select(r, see, &seen), 1);
	/* keys: of any process, in the order in which it entered */
	seen = (struct seen){ 0 };
	EXPECT_EQ(mote_registry_keys(r, mote_self(), see, &seen), 3);
	EXPECT(!strcmp(seen.text, "a=2,b=3,a=2,"));
	seen = (struct seen){ 0 };
	EXPECT_EQ(mote_registry_keys(r, other, see, &seen), 1);
	EXPECT(!strcmp(seen.text, "a=1,") && mote_pid_equal(seen.pid, other));
	EXPECT_EQ(mote_registry_keys(r, MOTE_NOBODY, see, &seen), 0);
	seen = (struct seen){ 0 };
	EXPECT_EQ(mote_registry_values(r, KEY("a"), mote_self(), see, &seen), 2);
	EXPECT(!strcmp(seen.text, "a=2,a=2,"));
	EXPECT_EQ(mote_registry_count_match(r, KEY("a"), value_starts, "2"), 2);
	EXPECT_EQ(mote_registry_count_select(r, value_starts, "3"), 1);
	EXPECT_EQ(mote_registry_count_select(r, value_starts, "9"), 0);
	put_down(other);
	EXPECT_EQ(mote_registry_keys(r, other, see, &seen), 0);
}

/* --- dispatch */

struct calls {
	_Atomic int calls, entries;
	mote_pid by[16];
	_Atomic bool mixed, odd;
	bool crash;
};

static void dispatched(const struct mote_registry_entry *entries, size_t n, void *arg)
{
	struct calls *calls = arg;
	int call = atomic_fetch_add(&calls->calls, 1);

	if (call < 16)
		calls->by[call] = mote_self();
	for (size_t i = 0; i < n; i++) {
		if (entries[i].key_size != 1 || memcmp(entries[i].key, "k", 1) || entries[i].value_size != 3 ||
		    memcmp(entries[i].value, "val", 3))
			atomic_store(&calls->odd, true);
		if (i && !mote_pid_equal(entries[i].pid, entries[i - 1].pid))
			atomic_store(&calls->mixed, true);
	}
	atomic_fetch_add(&calls->entries, (int)n);
	if (calls->crash)
		mote_exit(mote_reason_error(EIO, "in a dispatch"));
}

static void dispatch(void)
{
	struct mote_registry *r = start_opts("by pid", MOTE_REGISTRY_DUPLICATE, 4);
	struct mote_registry *k = start_opts("by key", MOTE_REGISTRY_DUPLICATE_BY_KEY, 4);
	struct mote_registry *u = start_opts("unique", MOTE_REGISTRY_UNIQUE, 4);
	struct calls calls = { 0 };
	int64_t n;

	EXPECT_EQ(mote_registry_dispatch(r, KEY("k"), dispatched, &calls, 0), 0);
	EXPECT_EQ(calls.calls, 0);
	for (int i = 0; i < 8; i++) {
		mote_pid pid = entered(r, "k", "val");

		EXPECT_EQ(ask(pid, ENTER, r, "k", "val"), 0);
		EXPECT_EQ(ask(pid, ENTER, k, "k", "val"), 0);
	}
	enter(u, "k", "val");
	n = mote_registry_dispatch(r, KEY("k"), dispatched, &calls, 0);
	EXPECT(n > 1 && n <= 4);
	EXPECT_EQ(calls.calls, n);
	EXPECT_EQ(calls.entries, 16);
	EXPECT(!calls.odd && mote_pid_equal(calls.by[0], mote_self()));
	calls = (struct calls){ 0 };
	EXPECT_EQ(mote_registry_dispatch(k, KEY("k"), dispatched, &calls, MOTE_REGISTRY_PARALLEL), 1);
	EXPECT_EQ(calls.entries, 8);
	EXPECT(mote_pid_equal(calls.by[0], mote_self()));
	calls = (struct calls){ 0 };
	EXPECT_EQ(mote_registry_dispatch(u, KEY("k"), dispatched, &calls, 0), 1);
	EXPECT_EQ(calls.entries, 1);
	EXPECT_EQ(mote_registry_dispatch(u, KEY("k"), dispatched, &calls, 2), -EINVAL);
}

static void crashing_caller(void *arg)
{
	struct calls calls = { .crash = true };

	mote_registry_dispatch(arg, KEY("k"), dispatched, &calls, MOTE_REGISTRY_PARALLEL);
	selftest_complain(__FILE__, __LINE__, "a dispatch whose parts crash does not return");
}

static void dispatch_parallel(void)
{
	struct mote_registry *r = start_opts("by pid", MOTE_REGISTRY_DUPLICATE, 3);
	struct calls calls = { 0 };
	struct mote_msg *m;
	mote_ref ref;
	mote_pid pid;
	int64_t n;

	for (int i = 0; i < 9; i++)
		entered(r, "k", "val");
	mote_trap_exit(true);
	n = mote_registry_dispatch(r, KEY("k"), dispatched, &calls, MOTE_REGISTRY_PARALLEL);
	EXPECT(n > 1 && n <= 3);
	EXPECT_EQ(calls.calls, n);
	EXPECT_EQ(calls.entries, 9);
	EXPECT(!calls.odd);
	for (int i = 0; i < n; i++) {
		EXPECT(!mote_pid_equal(calls.by[i], mote_self()));
		for (int j = 0; j < i; j++)
			EXPECT(!mote_pid_equal(calls.by[i], calls.by[j]));
	}
	EXPECT(mailbox_is_empty());
	/* A part that crashes is linked to its caller. */
	pid = mote_spawn_monitor(crashing_caller, r, &ref);
	EXPECT(got_down(ref, pid, MOTE_ERROR));
	calls = (struct calls){ .crash = true };
	EXPECT_EQ(mote_registry_dispatch(r, KEY("k"), dispatched, &calls, MOTE_REGISTRY_PARALLEL), -EPIPE);
	while ((m = mote_receive(MOTE_NOW))) {
		EXPECT(m->type == MOTE_MSG_EXIT);
		mote_msg_free(m);
	}
}

static void meta(void)
{
	static const struct mote_registry_meta given[] = { { "v", "1.0", 1, 3 }, { "w", NULL, 1, 0 } };
	struct mote_registry_opts opts = { .size = sizeof(opts), .name = "registry", .meta = given, .nr_meta = 2 };
	struct mote_registry *r = mote_registry_named("registry");
	char buf[16];
	size_t size = sizeof(buf);

	EXPECT_EQ(mote_registry_put_meta(r, KEY("x"), KEY("2")), -ESRCH);
	EXPECT_EQ(mote_registry_start_link(&opts, NULL), 0);
	EXPECT_EQ(mote_registry_meta(r, KEY("v"), buf, &size), 0);
	EXPECT(size == 3 && !memcmp(buf, "1.0", 3));
	size = sizeof(buf);
	EXPECT_EQ(mote_registry_meta(r, KEY("w"), buf, &size), 0);
	EXPECT_EQ(size, 0);
	EXPECT_EQ(mote_registry_meta(r, KEY("x"), buf, &size), -ENOENT);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(mote_registry_put_meta(r, KEY("x"), KEY("22")), 0);
	size = sizeof(buf);
	EXPECT_EQ(mote_registry_meta(r, KEY("x"), buf, &size), 0);
	EXPECT_EQ(size, 2);
	EXPECT_EQ(mote_registry_count(r), 0);		/* no entries */
	EXPECT_EQ(mote_registry_delete_meta(r, KEY("x")), 0);
	EXPECT_EQ(mote_registry_delete_meta(r, KEY("x")), -ENOENT);
	EXPECT_EQ(mote_registry_meta(r, KEY("x"), buf, &size), -ENOENT);
}

static bool got_event(uint32_t type, struct mote_registry *r, mote_pid pid, const char *key, const char *value)
{
	struct mote_msg *m = mote_receive(PATIENCE);
	const struct mote_registry_event *e = m ? m->data : NULL;
	bool ok = m && m->type == type && e->registry == r && mote_pid_equal(e->pid, pid) &&
		  e->key_size == strlen(key) && !memcmp(mote_registry_event_key(e), key, e->key_size) &&
		  e->value_size == strlen(value) &&
		  !memcmp(mote_registry_event_value(e), value, e->value_size) && mote_pid_equal(m->from, pid);

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

static void listeners(void)
{
	struct mote_registry_opts opts = { .size = sizeof(opts), .name = "registry", .keys = MOTE_REGISTRY_DUPLICATE,
					   .listeners = (const char *[]){ "nobody", "ear", NULL } };
	struct mote_registry *r = mote_registry_named("registry");
	mote_pid self = mote_self(), other;

	EXPECT_EQ(mote_registry_start_link(&opts, NULL), 0);
	EXPECT_EQ(mote_register("ear", self), 0);
	EXPECT_EQ(enter(r, "a", "x1"), 0);
	EXPECT_EQ(enter(r, "a", "x2"), 0);
	EXPECT(got_event(MOTE_MSG_REGISTERED, r, self, "a", "x1"));
	EXPECT(got_event(MOTE_MSG_REGISTERED, r, self, "a", "x2"));
	EXPECT_EQ(mote_registry_unregister_match(r, KEY("a"), value_starts, "y"), 0);
	EXPECT(mailbox_is_empty());			/* there are others left */
	EXPECT_EQ(mote_registry_unregister_match(r, KEY("a"), value_starts, "x"), 2);
	EXPECT(got_event(MOTE_MSG_UNREGISTERED, r, self, "a", ""));
	EXPECT_EQ(enter(r, "a", "x3"), 0);
	EXPECT(got_event(MOTE_MSG_REGISTERED, r, self, "a", "x3"));
	EXPECT_EQ(mote_registry_unregister(r, KEY("a")), 1);
	EXPECT(got_event(MOTE_MSG_UNREGISTERED, r, self, "a", ""));
	EXPECT_EQ(mote_registry_unregister(r, KEY("none")), 0);
	EXPECT(got_event(MOTE_MSG_UNREGISTERED, r, self, "none", ""));
	/* The end of a process is not told: who wants to know monitors it. */
	other = mote_spawn(member, NULL);
	mote_send(other, ENTER, &(struct wish){ r, "b", "y" }, sizeof(struct wish));
	EXPECT(got_event(MOTE_MSG_REGISTERED, r, other, "b", "y"));
	EXPECT(got_type(ENTERED));
	put_down(other);
	EXPECT(mailbox_is_empty());
}

/* --- locks */

struct turn {
	struct mote_registry *r;
	_Atomic int inside, order;
	int orders[8];
	_Atomic int next;
	_Atomic bool clash;
	mote_pid boss;
};

static int in_turn(void *arg)
{
	struct turn *t = arg;

	if (atomic_fetch_add(&t->inside, 1))
		atomic_store(&t->clash, true);
	mote_sleep(mote_in_ms(1));
	atomic_fetch_sub(&t->inside, 1);
	return 7;
}

static void taker(void *arg)
{
	struct turn *t = arg;

	EXPECT_EQ(mote_registry_lock(t->r, KEY("l"), in_turn, t, PATIENCE), 7);
	mote_send(t->boss, 1, NULL, 0);
}

static int again(void *arg)
{
	struct turn *t = arg;

	EXPECT_EQ(mote_registry_lock(t->r, KEY("l"), in_turn, t, PATIENCE), -EDEADLK);
	EXPECT_EQ(mote_registry_lock(t->r, KEY("other"), in_turn, t, PATIENCE), 7);
	return -3;
}

static int hold(void *arg)
{
	struct turn *t = arg;

	mote_send(t->boss, 2, NULL, 0);
	mote_msg_free(mote_receive_type(3, MOTE_FOREVER));
	return 0;
}

static void holder(void *arg)
{
	struct turn *t = arg;

	mote_registry_lock(t->r, KEY("l"), hold, t, PATIENCE);
	mote_send(t->boss, 4, NULL, 0);
	mote_msg_free(mote_receive_type(3, MOTE_FOREVER));
}

static void locks(void)
{
	struct turn t = { .r = start(MOTE_REGISTRY_UNIQUE), .boss = mote_self() };
	mote_pid pid;

	for (int i = 0; i < 6; i++)
		mote_spawn(taker, &t);
	for (int i = 0; i < 6; i++)
		EXPECT(got_type(1));
	EXPECT(!t.clash);
	EXPECT_EQ(mote_registry_lock(t.r, KEY("l"), again, &t, PATIENCE), -3);
	/* Somebody has it: a wait that is given up leaves nothing behind. */
	pid = mote_spawn(holder, &t);
	EXPECT(got_type(2));
	EXPECT_EQ(mote_registry_lock(t.r, KEY("l"), in_turn, &t, mote_in_ms(10)), -ETIMEDOUT);
	EXPECT_EQ(mote_registry_lock(t.r, KEY("l2"), in_turn, &t, PATIENCE), 7);
	mote_send(pid, 3, NULL, 0);
	EXPECT(got_type(4));
	EXPECT_EQ(mote_registry_lock(t.r, KEY("l"), in_turn, &t, PATIENCE), 7);
	put_down(pid);
	/* Who ends with it loses it. */
	pid = mote_spawn(holder, &t);
	EXPECT(got_type(2));
	mote_spawn(taker, &t);
	put_down(pid);
	EXPECT(got_type(1));
	EXPECT_EQ(mote_registry_lock(t.r, KEY("l"), in_turn, &t, PATIENCE), 7);
	EXPECT_EQ(mote_registry_lock(mote_registry_named("none"), KEY("l"), in_turn, &t, PATIENCE), -ESRCH);
	EXPECT(!t.clash && mailbox_is_empty());
}

static void waiter(void *arg)
{
	struct turn *t = arg;
	int err;

	mote_send(t->boss, 5, NULL, 0);
	err = mote_registry_lock(t->r, KEY("l"), in_turn, t, PATIENCE);
	mote_send(t->boss, 6, &err, sizeof(err));
}

static void lock_ends_with_registry(void)
{
	struct turn t = { .r = start(MOTE_REGISTRY_UNIQUE), .boss = mote_self() };
	mote_pid server = mote_whereis("registry");
	struct mote_msg *m;
	int err = 0;

	mote_unlink(server);
	mote_spawn(holder, &t);
	EXPECT(got_type(2));
	mote_spawn(waiter, &t);
	EXPECT(got_type(5));
	mote_sleep(mote_in_ms(2));
	put_down(server);
	m = mote_receive_type(6, PATIENCE);
	if (m)
		memcpy(&err, m->data, sizeof(err));
	mote_msg_free(m);
	/* ESRCH: it had not come to ask. */
	EXPECT(err == -EPIPE || err == -ESRCH);
}

/* --- via */

static int plain_init(int *state, void *arg)
{
	*state = *(int *)arg;
	return 0;
}

static void plain_call(int *state, struct mote_from from, const struct mote_msg *m)
{
	mote_reply(from, m->type, state, sizeof(*state));
}

MOTE_SERVER(plain, int, .init = plain_init, .handle_call = plain_call);

static void via(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_UNIQUE), *d = start_opts("dup", MOTE_REGISTRY_DUPLICATE, 0);
	struct mote_via name = mote_registry_via(r, KEY("worker")), wrong = mote_registry_via(d, KEY("worker"));
	struct mote_via none = mote_registry_via(mote_registry_named("none"), KEY("worker"));
	struct mote_server_opts opts = { .size = sizeof(opts), .via = &name };
	mote_pid pid, holder;
	struct mote_msg *m;
	int n = 42;

	EXPECT(!mote_pid_valid(mote_via_whereis(&name)));
	EXPECT_EQ(mote_server_start(&plain.ops, &n, &opts, &pid), 0);
	EXPECT(mote_pid_equal(mote_via_whereis(&name), pid));
	EXPECT_EQ(mote_server_start(&plain.ops, &n, &opts, &holder), -EEXIST);
	EXPECT(mote_pid_equal(holder, pid));
	EXPECT_EQ(mote_call(mote_via_whereis(&name), 1, NULL, 0, &m, PATIENCE), 0);
	EXPECT(m && m->size == sizeof(n) && !memcmp(m->data, &n, sizeof(n)));
	mote_msg_free(m);
	put_down(pid);
	EXPECT(!mote_pid_valid(mote_via_whereis(&name)));
	EXPECT_EQ(mote_server_start(&plain.ops, &n, &opts, &pid), 0);
	put_down(pid);
	opts.via = &wrong;
	EXPECT_EQ(mote_server_start(&plain.ops, &n, &opts, &pid), -EINVAL);
	opts.via = &none;
	EXPECT_EQ(mote_server_start(&plain.ops, &n, &opts, &pid), -ESRCH);
}

/* --- ends */

static void dies_at_once(void *arg)
{
	struct mote_registry **r = arg;

	EXPECT_EQ(enter(r[0], "mine", "x"), 0);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(enter(r[1], "mine", "x"), 0);
}

static void gone_before_down(void)
{
	struct mote_registry *r[2] = { start(MOTE_REGISTRY_UNIQUE), start_opts("dup", MOTE_REGISTRY_DUPLICATE, 2) };
	unsigned long rounds = test_rounds(3000);

	for (unsigned long i = 0; i < rounds; i++) {
		mote_ref ref;
		mote_pid pid = mote_spawn_monitor(dies_at_once, r, &ref), pids[1];

		if (!got_down(ref, pid, MOTE_NORMAL) ||
		    !EXPECT(!mote_pid_valid(mote_registry_whereis(r[0], KEY("mine")))) ||
		    !EXPECT(mote_registry_lookup(r[1], KEY("mine"), pids, 1) == 0))
			break;
	}
	EXPECT_EQ(mote_registry_count(r[0]), 0);
	EXPECT_EQ(mote_registry_count(r[1]), 0);
	EXPECT(mailbox_is_empty());
}

/* The registry's end takes its members along; those that trap exits live, and may enter the next one. */
static void registry_ends(void)
{
	struct mote_registry_opts opts = { .size = sizeof(opts), .name = "registry" };
	struct mote_registry *r = start(MOTE_REGISTRY_UNIQUE);
	mote_pid server = mote_whereis("registry"), other = entered(r, "b", "2"), next;
	struct seen seen = { 0 };
	mote_ref ref = mote_monitor(other), gone;
	size_t size = 0;

	mote_trap_exit(true);
	EXPECT_EQ(enter(r, "a", "1"), 0);
	EXPECT_EQ(mote_registry_start_link(&opts, &next), -EEXIST);
	EXPECT(mote_pid_equal(next, server));
	gone = mote_monitor(server);
	mote_exit_pid(server, MOTE_REASON_KILL);
	EXPECT(got_down(gone, server, MOTE_KILLED));
	/* Who has seen its end finds nothing, and an error. */
	EXPECT_EQ(mote_registry_lookup(r, KEY("a"), NULL, 0), -ESRCH);
	EXPECT(!mote_pid_valid(mote_registry_whereis(r, KEY("a"))));
	EXPECT_EQ(mote_registry_value(r, KEY("a"), NULL, NULL, &size), -ESRCH);
	EXPECT_EQ(enter(r, "a", "1"), -ESRCH);
	EXPECT_EQ(mote_registry_unregister(r, KEY("a")), -ESRCH);
	EXPECT_EQ(mote_registry_unregister_match(r, KEY("a"), value_starts, "1"), -ESRCH);
	EXPECT_EQ(mote_registry_update_value(r, KEY("a"), KEY("1")), -ESRCH);
	EXPECT_EQ(mote_registry_count(r), -ESRCH);
	EXPECT_EQ(mote_registry_match(r, KEY("a"), see, &seen), -ESRCH);
	EXPECT_EQ(mote_registry_select(r, see, &seen), -ESRCH);
	EXPECT_EQ(mote_registry_keys(r, mote_self(), see, &seen), -ESRCH);
	EXPECT_EQ(mote_registry_dispatch(r, KEY("a"), dispatched, NULL, 0), -ESRCH);
	EXPECT_EQ(mote_registry_meta(r, KEY("a"), NULL, &size), -ESRCH);
	EXPECT_EQ(mote_registry_delete_meta(r, KEY("a")), -ESRCH);
	EXPECT(got_down(ref, other, MOTE_KILLED));
	EXPECT(got_exit(server, MOTE_KILLED));
	EXPECT(mailbox_is_empty());
	/* Started again, the handle is good again. */
	EXPECT(start(MOTE_REGISTRY_UNIQUE) == r);
	EXPECT_EQ(mote_registry_count(r), 0);
	EXPECT_EQ(enter(r, "a", "new"), 0);
	EXPECT(value_is(r, "a", "new"));
	EXPECT_EQ(mote_registry_keys(r, mote_self(), see, &seen), 1);
	EXPECT_EQ(mote_registry_unregister(r, KEY("a")), 1);
}

static bool ping_member(mote_pid pid)
{
	mote_send(pid, ENTERED, NULL, 0);
	return got_type(ENTERED);
}

/* Linked by the first entry, no more after the last. */
static void link_while_entered(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_DUPLICATE);
	mote_pid server = mote_whereis("registry"), pid = mote_spawn(member, NULL);
	struct mote_msg *m = NULL;

	EXPECT_EQ(test_info(pid).links, 0);
	ask(pid, ENTER, r, "a", "1");
	ask(pid, ENTER, r, "a", "2");
	EXPECT_EQ(test_info(pid).links, 1);
	ask(pid, LEAVE, r, "a", "");
	EXPECT_EQ(mote_sys_get_status(server, &m, PATIENCE), 0);	/* so it has acknowledged the unlink */
	mote_msg_free(m);
	EXPECT(ping_member(pid));
	EXPECT_EQ(test_info(pid).links, 0);
	/* The link between the registry and who started it is another matter. */
	EXPECT_EQ(test_info(mote_self()).links, 1);
	EXPECT_EQ(enter(r, "a", "1"), 0);
	EXPECT_EQ(mote_registry_unregister(r, KEY("a")), 1);
	EXPECT_EQ(test_info(mote_self()).links, 1);
	mote_unlink(server);
	put_down(server);
	EXPECT_EQ(ask(pid, LEAVE, r, "a", ""), -ESRCH);
	put_down(pid);
}

static void starts(void)
{
	struct mote_registry_opts opts = { .size = sizeof(opts) };
	char large[2 * sizeof(opts)] = { 0 };
	mote_pid pid = mote_self();

	EXPECT(mote_registry_named("one") == mote_registry_named("one"));
	EXPECT(mote_registry_named("one") != mote_registry_named("two"));
	EXPECT(!mote_registry_named("") && mote_errno() == -EINVAL);
	EXPECT(!mote_registry_named(NULL) && mote_errno() == -EINVAL);
	EXPECT_EQ(mote_registry_start_link(&opts, &pid), -EINVAL);
	EXPECT(!mote_pid_valid(pid));
	opts.name = "one";
	opts.keys = 3;
	EXPECT_EQ(mote_registry_start_link(&opts, &pid), -EINVAL);
	opts.keys = 0;
	opts.partitions = 1025;
	EXPECT_EQ(mote_registry_start_link(&opts, &pid), -EINVAL);
	opts.partitions = 1024;
	opts.listeners = (const char *[]){ "", NULL };
	EXPECT_EQ(mote_registry_start_link(&opts, &pid), -EINVAL);
	opts.listeners = NULL;
	opts.nr_meta = 1;
	EXPECT_EQ(mote_registry_start_link(&opts, &pid), -EINVAL);
	opts.nr_meta = 0;
	memcpy(large, &opts, sizeof(opts));
	memcpy(large, &(size_t){ sizeof(large) }, sizeof(size_t));
	large[sizeof(opts)] = 1;
	EXPECT_EQ(mote_registry_start_link((void *)large, &pid), -E2BIG);
	EXPECT_EQ(mote_register("one", mote_self()), 0);
	EXPECT_EQ(mote_registry_start_link(&opts, &pid), -EEXIST);
	EXPECT(mote_pid_equal(pid, mote_self()));
	mote_unregister("one");
	EXPECT_EQ(mote_registry_start_link(&opts, &pid), 0);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT_EQ(mote_registry_count(mote_registry_named("one")), -ESRCH);
}

static void registrant(void *arg)
{
	/* Started again before the registry is, it ends, and is started once more. */
	if (enter(mote_registry_named("rooms"), "hall", "open"))
		mote_exit(mote_reason_error(ESRCH, "no registry"));
	mote_send(*(mote_pid *)arg, 1, NULL, 0);
	mote_msg_free(mote_receive_type(2, MOTE_FOREVER));
}

/* Below a supervisor, with registry, groups and pubsub as its children: what ends is started again, and found anew. */
static void supervised(void)
{
	static const struct mote_registry_opts rooms = { .size = sizeof(rooms), .name = "rooms" };
	mote_pid self = mote_self(), sup, server, member;
	struct mote_child_spec children[] = {
		mote_registry_child(&rooms), mote_pg_child("groups"), mote_pubsub_child("news"),
		{ .id = "registrant", .fn = registrant, .arg = &self },
	};
	struct mote_supervisor_opts opts = { .size = sizeof(opts), .children = children, .nr_children = 4,
					     .strategy = MOTE_ONE_FOR_ONE, .max_restarts = 10 };
	struct mote_registry *r = mote_registry_named("rooms");

	EXPECT_EQ(mote_supervisor_start_link(&opts, &sup), 0);
	EXPECT(got_type(1));
	member = mote_registry_whereis(r, KEY("hall"));
	EXPECT(mote_pid_valid(member));
	server = mote_whereis("rooms");
	mote_exit_pid(server, MOTE_REASON_KILL);
	/* The member went with it, and is there again as soon as both are: at the first try, or the next. */
	EXPECT(got_type(1));
	EXPECT(!mote_pid_equal(mote_whereis("rooms"), server));
	EXPECT(mote_pg_members(mote_pg_scope("groups"), KEY("g"), NULL, 0) == 0);
	put_down(mote_whereis("groups"));
	put_down(mote_whereis("news"));
	EXPECT_EQ(mote_server_stop(sup, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT_EQ(mote_registry_count(r), -ESRCH);
	EXPECT_EQ(mote_pubsub_subscribe(mote_pubsub_named("news"), "x"), -ESRCH);
}

static struct mote_registry *outer;

static int64_t outside(void *arg)
{
	mote_pid pids[2];
	struct seen *seen = arg;

	EXPECT_EQ(mote_registry_lookup(outer, KEY("a"), pids, 2), 1);
	EXPECT(value_is(outer, "a", "1"));
	EXPECT_EQ(mote_registry_match(outer, KEY("a"), see, seen), 1);
	EXPECT_EQ(mote_registry_put_meta(outer, KEY("m"), KEY("2")), 0);
	EXPECT_EQ(mote_registry_count(outer), 1);
	return 0;
}

static void foreign(void)
{
	struct seen seen = { 0 };
	size_t size = 0;

	outer = start(MOTE_REGISTRY_UNIQUE);
	enter(outer, "a", "1");
	EXPECT_EQ(mote_blocking(outside, &seen, NULL, PATIENCE), 0);
	EXPECT(!strcmp(seen.text, "a=1,"));
	EXPECT_EQ(mote_registry_meta(outer, KEY("m"), NULL, &size), 0);
	EXPECT_EQ(size, 1);
}

static bool crash(const struct mote_registry_entry *e, void *arg)
{
	(void)arg;
	*(volatile int *)NULL = (int)e->key_size;
	return true;
}

static bool leave(const struct mote_registry_entry *e, void *arg)
{
	(void)arg;
	(void)e;
	mote_exit(MOTE_REASON_SHUTDOWN);
}

static void visits_badly(void *arg)
{
	mote_registry_select(outer, arg, NULL);
}

static void bad_visitors(void)
{
	mote_ref ref;
	mote_pid pid;

	outer = start(MOTE_REGISTRY_UNIQUE);
	enter(outer, "a", "1");
	pid = mote_spawn_monitor(visits_badly, leave, &ref);
	EXPECT(got_down(ref, pid, MOTE_SHUTDOWN));
	EXPECT(value_is(outer, "a", "1"));
	if (SANITIZED)
		return;
	pid = mote_spawn_monitor(visits_badly, crash, &ref);
	EXPECT(got_down(ref, pid, MOTE_SIGNAL));
	EXPECT(value_is(outer, "a", "1"));
}

static void many(void)
{
	struct mote_registry *r = start(MOTE_REGISTRY_UNIQUE);
	unsigned long n = test_crowd(20000);
	struct seen seen = { .stop_after = 1 };

	for (unsigned long i = 0; i < n; i++)
		EXPECT_EQ(mote_registry_register(r, &i, sizeof(i), &i, sizeof(i), NULL), 0);
	EXPECT_EQ(mote_registry_count(r), n);
	for (unsigned long i = 0; i < n; i += 3)
		EXPECT_EQ(mote_registry_unregister(r, &i, sizeof(i)), 1);
	for (unsigned long i = 0; i < n; i++)
		EXPECT(mote_pid_valid(mote_registry_whereis(r, &i, sizeof(i))) == (i % 3 != 0));
	for (unsigned long i = n; i-- > 0;)
		EXPECT_EQ(mote_registry_unregister(r, &i, sizeof(i)), i % 3 != 0);
	EXPECT_EQ(mote_registry_count(r), 0);
	EXPECT_EQ(mote_registry_select(r, see, &seen), 0);
}

int main(void)
{
	selftest_process("unique keys", unique);
	selftest_process("keys and values are any bytes", any_bytes);
	selftest_process("duplicate keys", duplicate);
	selftest_process("unregister_match", unregister_match);
	selftest_process("unregister_match of a unique key", unregister_match_unique);
	selftest_process("update_value", update_value);
	selftest_process("match, select, keys, values, counts", visitors);
	selftest_process("dispatch, once per partition", dispatch);
	selftest_process("dispatch in parallel", dispatch_parallel);
	selftest_process("meta", meta);
	selftest_process("listeners are told", listeners);
	selftest_process("locks", locks);
	selftest_process("a registry that ends leaves nobody waiting for its locks", lock_ends_with_registry);
	selftest_process("names of servers", via);
	selftest_process("entries are gone before DOWN comes", gone_before_down);
	selftest_process("a registry ends, and is started again", registry_ends);
	selftest_process("linked as long as there are entries", link_while_entered);
	selftest_process("starts that fail", starts);
	selftest_process("below a supervisor", supervised);
	selftest_process("foreign threads look", foreign);
	selftest_process("a visitor that ends its process", bad_visitors);
	selftest_process("many keys", many);
	return selftest_done();
}
