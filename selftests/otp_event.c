// SPDX-License-Identifier: MIT OR GPL-2.0
/* Event managers: handlers that come, go, are swapped and fail, in the manager and apart. The rows of gen_event. */
#include "proc.h"

#include <mote/event.h>
#include <mote/server.h>
#include <mote/sys.h>

enum {
	LOG = 1, FAIL, REMOVE, CRASH, ASK, ASK_AND_GO, LATER, NOW, SLOW, KEEP, WHOSE, ASK_MANAGER, BAD_RETURN, GATE
};

static _Atomic bool gate;		/* open? */
static _Atomic int seen;		/* events, by all handlers together */

/* What all handlers did, in order: two letters each, the handler's name and what. */
static char diary[4096];
static _Atomic unsigned int written;

static void diary_clear(void)
{
	memset(diary, 0, sizeof(diary));
	atomic_store(&written, 0);
}

static void note(char who, char what)
{
	unsigned int at = atomic_fetch_add(&written, 2);

	if (at + 2 < sizeof(diary)) {
		diary[at] = who;
		diary[at + 1] = what;
	}
}

static bool wrote(const char *text)
{
	if (!strcmp(diary, text))
		return true;
	test_note("wrote %s", diary);
	return false;
}

struct recorder {
	char name;
	int events;
	struct mote_from waiting;
	struct mote_msg *kept;
	char inherited[16];
};

static int recorder_init(struct recorder *r, void *arg, const struct mote_msg *old)
{
	const char *name = arg;

	EXPECT(!r->name && !r->events);
	r->name = name[0];
	note(r->name, old ? 'I' : 'i');
	if (old)
		memcpy(r->inherited, old->data, old->size);
	if (name[1] == '!')
		return -ENOTTY;
	if (name[1] == '+')
		return 5;
	if (name[1] == '#')
		abort();
	return 0;
}

static int act(struct recorder *r, const struct mote_msg *m)
{
	int who = m->size ? *(char *)m->data : r->name;

	if (who != r->name)
		return 0;
	switch (m->type) {
	case FAIL:
		return -EPROTO;
	case REMOVE:
		return MOTE_EVENT_REMOVE;
	case BAD_RETURN:
		return 17;
	case CRASH:
		abort();
	case SLOW:
		mote_sleep(mote_in_ms(5));
		note(r->name, 's');
		break;
	case GATE:
		while (!atomic_load(&gate))
			mote_sleep(mote_in_ms(1));
		break;
	case KEEP:
		r->kept = mote_msg_keep(m);
		note(r->name, r->kept ? 'k' : 'n');
		mote_msg_free(r->kept);
	}
	return 0;
}

static int recorder_event(struct recorder *r, const struct mote_msg *m)
{
	r->events++;
	atomic_fetch_add(&seen, 1);
	note(r->name, 'e');
	return act(r, m);
}

static int recorder_info(struct recorder *r, const struct mote_msg *m)
{
	note(r->name, m->type == MOTE_MSG_EXIT ? 'x' : 'f');
	return m->type < MOTE_MSG_RESERVED ? act(r, m) : 0;
}

static int recorder_call(struct recorder *r, struct mote_from from, const struct mote_msg *m)
{
	char text[32];

	note(r->name, 'c');
	switch (m->type) {
	case ASK:
		EXPECT(m->size == 5 && !strcmp(m->data, "what"));
		mote_reply(from, 1, &r->events, sizeof(r->events));
		return 0;
	case ASK_AND_GO:
		mote_reply(from, 1, &r->events, sizeof(r->events));
		return MOTE_EVENT_REMOVE;
	case LATER:
		r->waiting = from;
		return 0;
	case NOW:
		mote_reply(r->waiting, 1, &r->events, sizeof(r->events));
		mote_reply(from, 1, &r->events, sizeof(r->events));
		return 0;
	case KEEP:
		r->kept = mote_msg_keep(m);
		EXPECT(r->kept);
		mote_reply_msg(from, r->kept);
		return 0;
	case WHOSE:
		snprintf(text, sizeof(text), "%c%s", r->name, r->inherited);
		mote_reply(from, 1, text, strlen(text) + 1);
		return 0;
	case ASK_MANAGER:
		EXPECT_EQ(mote_event_sync_notify(*(mote_pid *)m->data, LOG, NULL, 0, PATIENCE), -EDEADLK);
		EXPECT_EQ(mote_event_call(*(mote_pid *)m->data, "one", LOG, NULL, 0, NULL, PATIENCE), -EDEADLK);
		EXPECT_EQ(mote_event_delete_handler(*(mote_pid *)m->data, "one", NULL, 0, NULL, PATIENCE), -EDEADLK);
		mote_reply(from, 1, &r->events, sizeof(r->events));
		return 0;
	default:
		return act(r, m);
	}
}

static const char ends[] = {
	[MOTE_EVENT_DELETED] = 'D', [MOTE_EVENT_SWAPPED] = 'S', [MOTE_EVENT_REMOVED] = 'R', [MOTE_EVENT_FAILED] = 'F',
	[MOTE_EVENT_ADDER_ENDED] = 'A', [MOTE_EVENT_STOPPED] = 'T',
};

static struct mote_msg *recorder_terminate(struct recorder *r, const struct mote_event_end *why)
{
	struct mote_msg *m;

	note(r->name, ends[why->kind]);
	if (why->kind == MOTE_EVENT_FAILED)
		EXPECT(why->reason.kind == MOTE_ERROR || why->reason.kind == MOTE_SIGNAL);
	if (why->kind != MOTE_EVENT_DELETED && why->kind != MOTE_EVENT_SWAPPED) {
		EXPECT(!why->m);
		return NULL;
	}
	if (!EXPECT(why->m) || !why->m->size)
		return NULL;
	/* gives back what it got, and its name */
	m = mote_msg_new(9, why->m->size + 1);
	memcpy(m->data, why->m->data, why->m->size);
	((char *)m->data)[why->m->size - 1] = r->name;
	((char *)m->data)[why->m->size] = 0;
	return m;
}

MOTE_EVENT_HANDLER(recorder, struct recorder, .init = recorder_init, .handle_event = recorder_event,
		   .handle_call = recorder_call, .handle_info = recorder_info, .terminate = recorder_terminate);

static const struct mote_event_ops nothing = { .size = sizeof(nothing) };

/* All cases are gone through twice. */
static unsigned int where;

static mote_pid manager_new(void)
{
	mote_pid mgr = MOTE_NOBODY;

	diary_clear();
	EXPECT_EQ(mote_event_start(NULL, &mgr), 0);
	return mgr;
}

static int add(mote_pid mgr, const char *id, const char *name)
{
	return mote_event_add_handler(mgr, &(struct mote_event_handler){
		.id = id, .ops = &recorder.ops, .arg = (void *)name, .flags = where }, PATIENCE);
}

static int add_sup(mote_pid mgr, const char *id, const char *name)
{
	return mote_event_add_sup_handler(mgr, &(struct mote_event_handler){
		.id = id, .ops = &recorder.ops, .arg = (void *)name, .flags = where }, PATIENCE);
}

static bool has(mote_pid mgr, const char *ids, size_t size)
{
	struct mote_msg *m = NULL;
	bool ok;

	EXPECT_EQ(mote_event_which_handlers(mgr, &m, PATIENCE), 0);
	ok = m && m->size == size && (!size || !memcmp(m->data, ids, size));
	if (m && !ok)
		test_note("has %.*s", (int)m->size, (char *)m->data);
	mote_msg_free(m);
	return ok;
}

/* Apart handlers go when they have gone. */
static void until_has(mote_pid mgr, const char *ids, size_t size)
{
	struct mote_msg *m = NULL;
	bool ok = false;

	for (mote_deadline d = PATIENCE; !ok && mote_now().ns < d.ns;) {
		EXPECT_EQ(mote_event_which_handlers(mgr, &m, PATIENCE), 0);
		ok = m && m->size == size && (!size || !memcmp(m->data, ids, size));
		mote_msg_free(m);
		if (!ok)
			mote_sleep(mote_in_ms(1));
	}
	EXPECT(ok);
}

static int events_of(mote_pid mgr, const char *id)
{
	struct mote_msg *m = NULL;
	int n = mote_event_call(mgr, id, ASK, "what", 5, &m, PATIENCE);

	if (!n)
		n = *(int *)m->data;
	mote_msg_free(m);
	return n;
}

static void stop(mote_pid mgr)
{
	EXPECT_EQ(mote_server_stop(mgr, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT(mailbox_is_empty());
}

/* Only this process is left. */
static void until_alone(void)
{
	mote_pid me = mote_self();

	while (!mote_pid_equal(mote_process_next(MOTE_NOBODY), me) || mote_pid_valid(mote_process_next(me)))
		mote_sleep(mote_in_ms(1));
}

/* Has the manager given everything to its handlers, and have they all had it? */
static void settle(mote_pid mgr)
{
	EXPECT_EQ(mote_event_sync_notify(mgr, LOG, NULL, 0, PATIENCE), 0);
}

static void adding(void)
{
	mote_pid mgr = manager_new(), far = mgr;
	char long_id[MOTE_EVENT_ID_MAX + 2];
	struct mote_msg *m = NULL;

	EXPECT(has(mgr, "", 0));
	EXPECT_EQ(add(mgr, "one", "a"), 0);
	EXPECT_EQ(add(mgr, "two", "b"), 0);
	EXPECT_EQ(add(mgr, "one", "c"), -EEXIST);
	EXPECT_EQ(add(mgr, "bad", "c!"), -ENOTTY);
	EXPECT_EQ(add(mgr, "bad", "c+"), -EINVAL);
	EXPECT_EQ(add(mgr, "", "c"), -EINVAL);
	EXPECT_EQ(add(mgr, NULL, "c"), -EINVAL);
	EXPECT_EQ(mote_event_add_handler(mgr, NULL, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_event_add_handler(mgr, &(struct mote_event_handler){ .id = "x" }, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_event_add_handler(mgr, &(struct mote_event_handler){
		.id = "x", .ops = &recorder.ops, .flags = 2 }, PATIENCE), -EINVAL);
	memset(long_id, 'i', sizeof(long_id));
	long_id[MOTE_EVENT_ID_MAX + 1] = 0;
	EXPECT_EQ(add(mgr, long_id, "c"), -EINVAL);
	long_id[MOTE_EVENT_ID_MAX] = 0;
	EXPECT_EQ(add(mgr, long_id, "l"), 0);
	EXPECT_EQ(mote_event_delete_handler(mgr, long_id, NULL, 0, NULL, PATIENCE), 0);
	far.node++;
	EXPECT_EQ(add(far, "x", "x"), -EREMOTE);
	/* the newest first */
	EXPECT(has(mgr, "two\0one", 8));
	EXPECT(wrote("aibic" "ic" "ililD"));
	EXPECT_EQ(mote_sys_get_status(mgr, &m, PATIENCE), 0);
	EXPECT(m && strstr(m->data, where ? "handlers: two (apart) one (apart)" : "handlers: two one"));
	mote_msg_free(m);
	stop(mgr);
	EXPECT_EQ(add(mgr, "one", "a"), -ESRCH);
}

static void notifying(void)
{
	struct mote_event_handler nil = { .id = "nil", .ops = &nothing, .flags = where };
	mote_pid mgr = manager_new();

	settle(mgr);
	EXPECT_EQ(add(mgr, "one", "a"), 0);
	EXPECT_EQ(mote_event_add_handler(mgr, &nil, PATIENCE), 0);
	EXPECT_EQ(add(mgr, "two", "b"), 0);
	EXPECT_EQ(mote_event_notify(mgr, LOG, NULL, 0), 0);
	EXPECT_EQ(mote_event_notify(mgr, MOTE_MSG_SYSTEM, NULL, 0), -EINVAL);
	EXPECT_EQ(mote_event_sync_notify(mgr, MOTE_MSG_SYSTEM, NULL, 0, PATIENCE), -EINVAL);
	settle(mgr);
	mote_send(mgr, LOG, NULL, 0);
	/* an info is not waited for; what is sent later is handled later */
	settle(mgr);
	if (!where)
		EXPECT(wrote("aibibeaebeaebfafbeae"));
	EXPECT_EQ(events_of(mgr, "one"), 3);
	EXPECT_EQ(events_of(mgr, "two"), 3);
	EXPECT_EQ(mote_event_call(mgr, "nil", ASK, NULL, 0, NULL, PATIENCE), -ENOSYS);
	/* waits for all */
	diary_clear();
	EXPECT_EQ(mote_event_sync_notify(mgr, SLOW, "a", 1, PATIENCE), 0);
	EXPECT(strstr(diary, "as"));
	stop(mgr);
}

static void calling(void)
{
	mote_pid mgr = manager_new();
	struct mote_msg *m = NULL;
	mote_ref ref;

	EXPECT_EQ(add(mgr, "one", "a"), 0);
	EXPECT_EQ(events_of(mgr, "one"), 0);
	EXPECT_EQ(events_of(mgr, "two"), -ENOENT);
	EXPECT_EQ(mote_event_call(mgr, "", ASK, NULL, 0, NULL, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_event_call(mgr, "one", MOTE_MSG_SYSTEM, NULL, 0, NULL, PATIENCE), -EINVAL);
	/* answered later */
	ref = mote_event_send_request(mgr, "one", LATER, NULL, 0);
	EXPECT(ref.id);
	EXPECT_EQ(mote_event_call(mgr, "one", NOW, NULL, 0, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_event_response(mote_receive_ref(ref, PATIENCE), &m), 0);
	EXPECT(m && m->type == 1);
	mote_msg_free(m);
	ref = mote_event_send_request(mgr, "two", LATER, NULL, 0);
	EXPECT_EQ(mote_event_response(mote_receive_ref(ref, PATIENCE), &m), -ENOENT);
	EXPECT(!mote_event_send_request(mgr, NULL, LATER, NULL, 0).id);
	EXPECT_EQ(mote_errno(), -EINVAL);
	/* the message is the handler's to keep */
	EXPECT_EQ(mote_event_call(mgr, "one", KEEP, "kept", 5, &m, PATIENCE), 0);
	EXPECT(m && m->type == KEEP && m->size == 5 && !strcmp(m->data, "kept"));
	mote_msg_free(m);
	EXPECT_EQ(mote_event_sync_notify(mgr, KEEP, NULL, 0, PATIENCE), 0);
	EXPECT(strstr(diary, where ? "ak" : "an"));
	EXPECT_EQ(mote_event_call(mgr, "one", ASK_MANAGER, &mgr, sizeof(mgr), NULL, PATIENCE), 0);
	/* one that goes with its answer, one that goes without */
	EXPECT_EQ(mote_event_call(mgr, "one", ASK_AND_GO, NULL, 0, NULL, PATIENCE), 0);
	until_has(mgr, "", 0);
	EXPECT_EQ(add(mgr, "one", "a"), 0);
	ref = mote_event_send_request(mgr, "one", LATER, NULL, 0);
	EXPECT_EQ(mote_event_call(mgr, "one", FAIL, NULL, 0, NULL, PATIENCE), -EPIPE);
	until_has(mgr, "", 0);
	/* who waits for an answer that was put off waits for the manager's end, or that of the handler's process */
	if (!where)
		EXPECT_EQ(mote_event_response(mote_receive_ref(ref, MOTE_NOW), &m), -ETIMEDOUT);
	else
		EXPECT_EQ(mote_event_response(mote_receive_ref(ref, PATIENCE), &m), -EPIPE);
	EXPECT_EQ(mote_server_stop(mgr, MOTE_REASON_NORMAL, PATIENCE), 0);
	if (!where)
		EXPECT_EQ(mote_event_response(mote_receive_ref(ref, PATIENCE), &m), -EPIPE);
	EXPECT(mailbox_is_empty());
}

static void going(void)
{
	mote_pid mgr = manager_new();
	struct mote_msg *m = NULL;

	EXPECT_EQ(add(mgr, "one", "a"), 0);
	EXPECT_EQ(add(mgr, "two", "b"), 0);
	EXPECT_EQ(add(mgr, "three", "c"), 0);
	EXPECT_EQ(mote_event_delete_handler(mgr, "two", "why", 4, &m, PATIENCE), 0);
	EXPECT(m && m->type == 9 && !strcmp(m->data, "whyb"));
	mote_msg_free(m);
	EXPECT_EQ(mote_event_delete_handler(mgr, "two", NULL, 0, &m, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_event_notify(mgr, REMOVE, "c", 1), 0);
	until_has(mgr, "one", 4);
	EXPECT_EQ(mote_event_notify(mgr, FAIL, "a", 1), 0);
	until_has(mgr, "", 0);
	EXPECT(strstr(diary, "bD") && strstr(diary, "cR") && strstr(diary, "aF"));
	EXPECT_EQ(add(mgr, "four", "d"), 0);
	EXPECT_EQ(add(mgr, "five", "e"), 0);
	mote_send(mgr, BAD_RETURN, "d", 1);
	until_has(mgr, "five", 5);
	/* those that are left are told of the manager's end, before it has ended */
	settle(mgr);
	diary_clear();
	stop(mgr);
	EXPECT(wrote("eT"));
}

static void swapping(void)
{
	mote_pid mgr = manager_new();
	struct mote_event_handler new = { .id = "new", .ops = &recorder.ops, .arg = "n", .flags = where };
	struct mote_msg *m = NULL;

	EXPECT_EQ(add(mgr, "one", "a"), 0);
	EXPECT_EQ(add(mgr, "two", "b"), 0);
	EXPECT_EQ(mote_event_swap_handler(mgr, "one", "so", 3, &new, PATIENCE), 0);
	EXPECT(has(mgr, "new\0two", 8));
	EXPECT_EQ(mote_event_call(mgr, "new", WHOSE, NULL, 0, &m, PATIENCE), 0);
	EXPECT(m && !strcmp(m->data, "nsoa"));
	mote_msg_free(m);
	EXPECT(wrote("aibiaSnInc"));
	/* with itself, with one that is not there, with one that is somebody else */
	EXPECT_EQ(mote_event_swap_handler(mgr, "new", NULL, 0, &new, PATIENCE), 0);
	EXPECT_EQ(mote_event_swap_handler(mgr, "one", NULL, 0, &new, PATIENCE), -EEXIST);
	new.id = "other";
	EXPECT_EQ(mote_event_swap_handler(mgr, "one", NULL, 0, &new, PATIENCE), 0);
	EXPECT(has(mgr, "other\0new\0two", 14));
	/* one that does not want: the old one is gone */
	new.arg = "!!";
	new.id = "bad";
	EXPECT_EQ(mote_event_swap_handler(mgr, "other", NULL, 0, &new, PATIENCE), -ENOTTY);
	EXPECT(has(mgr, "new\0two", 8));
	EXPECT_EQ(mote_event_swap_handler(mgr, "", NULL, 0, &new, PATIENCE), -EINVAL);
	stop(mgr);
}

struct teller {
	mote_pid mgr;
	int n;
};

static void tells(void *arg)
{
	const struct teller *t = arg;

	for (int i = 0; i < t->n; i++) {
		if (i % 50)
			EXPECT_EQ(mote_event_notify(t->mgr, LOG, NULL, 0), 0);
		else
			EXPECT_EQ(mote_event_sync_notify(t->mgr, LOG, NULL, 0, PATIENCE), 0);
	}
}

/* No event falls between a handler and its successor, and none goes to both. */
static void swapping_under_load(void)
{
	mote_pid mgr = manager_new();
	struct mote_event_handler new = { .ops = &recorder.ops, .arg = "a", .flags = where };
	struct teller t = { mgr, (int)test_rounds(10000) };
	const char *id[] = { "0", "1" };
	mote_pid teller;
	mote_ref ref;
	int swaps = 0;

	EXPECT_EQ(add(mgr, "0", "a"), 0);
	atomic_store(&seen, 0);
	teller = mote_spawn_monitor(tells, &t, &ref);
	do {
		new.id = id[(swaps + 1) % 2];
		EXPECT_EQ(mote_event_swap_handler(mgr, id[swaps % 2], NULL, 0, &new, PATIENCE), 0);
		swaps++;
	} while (mote_alive(teller));
	EXPECT(got_down(ref, teller, MOTE_NORMAL));
	settle(mgr);
	EXPECT_EQ(atomic_load(&seen), t.n + 1);
	stop(mgr);
}

static bool got_event_exit(mote_pid mgr, const char *id, int kind, const char *new_id)
{
	struct mote_msg *m = mote_receive_type(MOTE_MSG_EVENT_EXIT, PATIENCE);
	const struct mote_event_exit *e = m ? m->data : NULL;
	bool ok = e && mote_pid_equal(m->from, mgr) && m->size == sizeof(*e) && e->kind == kind && !strcmp(e->id, id) &&
		  !strcmp(e->new_id, new_id);

	if (e && !ok)
		test_note("EVENT_EXIT of %s, kind %d, new %s", e->id, e->kind, e->new_id);
	mote_msg_free(m);
	return ok;
}

struct adder {
	mote_pid mgr;
	const char *id, *name;
	bool swap;
};

static void adds_and_ends(void *arg)
{
	const struct adder *a = arg;
	struct mote_event_handler new = { .id = a->id, .ops = &recorder.ops, .arg = (void *)a->name, .flags = where };

	if (a->swap)
		EXPECT_EQ(mote_event_swap_sup_handler(a->mgr, a->id, NULL, 0, &new, PATIENCE), 0);
	else
		EXPECT_EQ(add_sup(a->mgr, a->id, a->name), 0);
	mote_exit(mote_reason_error(EDOM, "adder"));
}

static void supervised(void)
{
	mote_pid mgr = manager_new(), adder;
	struct mote_event_handler new = { .id = "new", .ops = &recorder.ops, .arg = "n", .flags = where };
	mote_ref ref;

	EXPECT_EQ(add_sup(mgr, "one", "a"), 0);
	EXPECT_EQ(add_sup(mgr, "two", "b"), 0);
	EXPECT_EQ(add_sup(mgr, "three", "c"), 0);
	EXPECT_EQ(mote_event_delete_handler(mgr, "one", NULL, 0, NULL, PATIENCE), 0);
	EXPECT(got_event_exit(mgr, "one", MOTE_EVENT_DELETED, ""));
	EXPECT_EQ(mote_event_notify(mgr, REMOVE, "b", 1), 0);
	EXPECT(got_event_exit(mgr, "two", MOTE_EVENT_REMOVED, ""));
	EXPECT_EQ(mote_event_notify(mgr, FAIL, "c", 1), 0);
	EXPECT(got_event_exit(mgr, "three", MOTE_EVENT_FAILED, ""));
	EXPECT(has(mgr, "", 0));
	/* the successor has the same supervisor, unless another takes it */
	EXPECT_EQ(add_sup(mgr, "one", "a"), 0);
	EXPECT_EQ(mote_event_swap_handler(mgr, "one", NULL, 0, &new, PATIENCE), 0);
	EXPECT(got_event_exit(mgr, "one", MOTE_EVENT_SWAPPED, "new"));
	adder = mote_spawn_monitor(adds_and_ends, &(struct adder){ mgr, "new", "m", true }, &ref);
	EXPECT(got_event_exit(mgr, "new", MOTE_EVENT_SWAPPED, "new"));
	EXPECT(got_down(ref, adder, MOTE_ERROR));
	until_has(mgr, "", 0);
	/* the adder ends: its handlers go, and only these; the others learn of the EXIT */
	diary_clear();
	EXPECT_EQ(add(mgr, "rest", "r"), 0);
	adder = mote_spawn_monitor(adds_and_ends, &(struct adder){ mgr, "hers", "h", false }, &ref);
	EXPECT(got_down(ref, adder, MOTE_ERROR));
	until_has(mgr, "rest", 5);
	settle(mgr);
	if (where)
		EXPECT(wrote("rihihAre"));
	else
		EXPECT(wrote("rihihArxre"));
	/* who supervises a handler does not end with the manager, even if that ends badly */
	EXPECT_EQ(add_sup(mgr, "last", "l"), 0);
	EXPECT_EQ(mote_server_stop(mgr, mote_reason_error(EIO, "bad"), PATIENCE), 0);
	EXPECT(got_event_exit(mgr, "last", MOTE_EVENT_STOPPED, ""));
	EXPECT(mailbox_is_empty());
}

/* A manager that is killed can say nothing: the link does. */
static void killed_manager(void)
{
	mote_pid mgr = manager_new();

	EXPECT_EQ(add_sup(mgr, "one", "a"), 0);
	mote_trap_exit(true);
	mote_exit_pid(mgr, MOTE_REASON_KILL);
	EXPECT(got_exit(mgr, MOTE_KILLED));
	mote_trap_exit(false);
	EXPECT(mailbox_is_empty());
	/* no apart handler stays behind */
	until_alone();
	EXPECT(wrote(where ? "aiaT" : "ai"));
}

static void crashing(void)
{
	mote_pid mgr = manager_new();
	mote_ref ref = mote_monitor(mgr);
	int err;

	if (SANITIZED) {
		put_down(mgr);
		selftest_skip("sanitizers report crashes themselves");
		return;
	}
	EXPECT_EQ(add(mgr, "one", "a"), 0);
	EXPECT_EQ(add_sup(mgr, "two", "b"), 0);
	EXPECT_EQ(add(mgr, "three", "c"), 0);
	if (!where) {
		/* in the manager: all go, and it was the fault of one */
		EXPECT_EQ(mote_event_sync_notify(mgr, CRASH, "b", 1, PATIENCE), -EPIPE);
		EXPECT(got_event_exit(mgr, "two", MOTE_EVENT_FAILED, ""));
		EXPECT(got_down(ref, mgr, MOTE_SIGNAL));
		EXPECT(wrote("aibicicebecTbFaT"));
		EXPECT(mailbox_is_empty());
		return;
	}
	/* apart: that one goes, and who waits does not wait for it */
	EXPECT_EQ(mote_event_sync_notify(mgr, CRASH, "b", 1, PATIENCE), 0);
	EXPECT(got_event_exit(mgr, "two", MOTE_EVENT_FAILED, ""));
	EXPECT(strstr(diary, "bF"));
	EXPECT(has(mgr, "three\0one", 10));
	EXPECT_EQ(mote_event_call(mgr, "one", CRASH, NULL, 0, NULL, PATIENCE), -EPIPE);
	until_has(mgr, "three", 6);
	EXPECT_EQ(add(mgr, "x", "x#"), -EPIPE);
	EXPECT_EQ(events_of(mgr, "three"), 1);
	/* one that crashes instead of saying its last words is gone all the same */
	EXPECT_EQ(mote_event_notify(mgr, CRASH, "c", 1), 0);
	err = mote_event_delete_handler(mgr, "three", NULL, 0, NULL, PATIENCE);
	EXPECT(err == -EPIPE || err == -ENOENT);
	EXPECT(has(mgr, "", 0));
	mote_demonitor(ref, MOTE_FLUSH);
	stop(mgr);
}

/* One that does not get on keeps nobody but those who wait for all. */
static void stuck(void)
{
	struct mote_event_handler here = { .id = "here", .ops = &recorder.ops, .arg = "h" };
	mote_pid mgr = manager_new();
	struct mote_msg *m;
	mote_ref ref;

	atomic_store(&gate, false);
	EXPECT_EQ(add(mgr, "stuck", "s"), 0);
	EXPECT_EQ(mote_event_add_handler(mgr, &here, PATIENCE), 0);
	EXPECT_EQ(mote_event_notify(mgr, GATE, "s", 1), 0);
	EXPECT_EQ(events_of(mgr, "here"), 1);
	ref = mote_request(mgr, LOG, NULL, 0);
	EXPECT_EQ(events_of(mgr, "here"), 2);
	EXPECT(!mote_receive_ref(ref, MOTE_NOW));
	atomic_store(&gate, true);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(m && !mote_msg_down(m));
	mote_msg_free(m);
	EXPECT_EQ(events_of(mgr, "stuck"), 2);
	stop(mgr);
}

static void deletes(void *arg)
{
	EXPECT_EQ(mote_event_delete_handler(*(mote_pid *)arg, "gone", NULL, 0, NULL, PATIENCE), -EPIPE);
}

/* An apart handler is killed while it is about to be deleted: what the manager learns of its end is for nobody else. */
static void gone_already(void)
{
	struct mote_event_handler here = { .id = "here", .ops = &recorder.ops, .arg = "h" };
	mote_pid mgr = manager_new(), pid, apart = MOTE_NOBODY, deleter;
	mote_ref ref;

	EXPECT_EQ(mote_event_add_handler(mgr, &here, PATIENCE), 0);
	EXPECT_EQ(add(mgr, "gone", "g"), 0);
	for (pid = MOTE_NOBODY; mote_pid_valid(pid = mote_process_next(pid));) {
		if (!mote_pid_equal(pid, mgr) && !mote_pid_equal(pid, mote_self()))
			apart = pid;
	}
	EXPECT_EQ(mote_sys_suspend(mgr, PATIENCE), 0);
	deleter = mote_spawn_monitor(deletes, &mgr, &ref);
	while (!test_info(mgr).mailbox)
		mote_sleep(mote_in_ms(1));
	put_down(apart);
	EXPECT_EQ(mote_sys_resume(mgr, PATIENCE), 0);
	EXPECT(got_down(ref, deleter, MOTE_NORMAL));
	settle(mgr);
	EXPECT(wrote("higihe"));
	stop(mgr);
}

/* What was handled is freed, and not only when the manager ends: 400 MB otherwise. */
static void freed(void)
{
	static char text[20000];
	mote_pid mgr = manager_new();
	uint64_t before;

	if (SANITIZED) {
		put_down(mgr);
		selftest_skip("ASan keeps what is freed for a while");
		return;
	}
	EXPECT_EQ(add(mgr, "one", "a"), 0);
	before = test_resident();
	for (int i = 0; i < 20000; i++) {
		if (i % 10 == 0)
			EXPECT_EQ(mote_event_sync_notify(mgr, LOG, text, sizeof(text), PATIENCE), 0);
		else if (i % 2)
			EXPECT_EQ(mote_event_notify(mgr, LOG, text, sizeof(text)), 0);
		else
			EXPECT_EQ(mote_send(mgr, LOG, text, sizeof(text)), 0);
	}
	settle(mgr);
	EXPECT(test_resident() < before + (100u << 20));
	stop(mgr);
}

static void race_kill(void)
{
	uint64_t random = test_seed();

	for (unsigned long i = 0; i < test_rounds(300); i++) {
		mote_pid mgr = manager_new();
		mote_ref ref = mote_monitor(mgr), asked[3];

		EXPECT_EQ(add(mgr, "one", "a"), 0);
		EXPECT_EQ(add(mgr, "two", "b"), 0);
		for (int j = 0; j < 3; j++) {
			asked[j] = j == 1 ? mote_event_send_request(mgr, "one", ASK, "what", 5) :
					    mote_request(mgr, LOG, NULL, 0);
			mote_event_notify(mgr, j ? LOG : REMOVE, "b", 1);
		}
		test_jitter(&random);
		mote_exit_pid(mgr, MOTE_REASON_KILL);
		for (int j = 0; j < 3; j++)
			mote_msg_free(mote_receive_ref(asked[j], PATIENCE));
		EXPECT(got_down(ref, mgr, MOTE_KILLED));
	}
	EXPECT(mailbox_is_empty());
	until_alone();
}

static void starts(void)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .name = "events" };
	mote_pid mgr, other;
	mote_ref ref;

	EXPECT_EQ(mote_event_start(&opts, &mgr), 0);
	EXPECT_EQ(mote_event_start(&opts, &other), -EEXIST);
	EXPECT(mote_pid_equal(mote_whereis("events"), mgr) && mote_pid_equal(mgr, other));
	put_down(mgr);
	EXPECT_EQ(mote_event_start_monitor(NULL, &mgr, &ref), 0);
	EXPECT_EQ(mote_event_start_monitor(NULL, &other, NULL), -EINVAL);
	put_down(mgr);
	EXPECT(got_down(ref, mgr, MOTE_KILLED));
	mote_trap_exit(true);
	EXPECT_EQ(mote_event_start_link(NULL, &mgr), 0);
	put_down(mgr);
	EXPECT(got_exit(mgr, MOTE_KILLED));
	mote_trap_exit(false);
}

static void parent_main(void *arg)
{
	mote_pid mgr;

	EXPECT_EQ(mote_event_start_link(NULL, &mgr), 0);
	EXPECT_EQ(add(mgr, "one", "a"), 0);
	*(mote_pid *)arg = mgr;
	mote_exit(MOTE_REASON_SHUTDOWN);
}

/* It ends with its parent, in order. */
static void orphan(void)
{
	mote_pid mgr = MOTE_NOBODY, parent;
	mote_ref ref;

	diary_clear();
	parent = mote_spawn_monitor(parent_main, &mgr, &ref);
	EXPECT(got_down(ref, parent, MOTE_SHUTDOWN));
	ref = mote_monitor(mgr);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
	EXPECT(wrote("aiaT"));
}

int main(void)
{
	static const struct {
		const char *name;
		void (*fn)(void);
	} cases[] = {
		{ "handlers are added under a name, newest first", adding },
		{ "notify and sync_notify reach all", notifying },
		{ "one handler is asked", calling },
		{ "handlers are deleted, want to go, fail; the manager ends", going },
		{ "handlers are swapped, and inherit", swapping },
		{ "no event is lost by a swap", swapping_under_load },
		{ "supervised handlers", supervised },
		{ "a manager is killed", killed_manager },
		{ "a handler crashes", crashing },
		{ "the manager ends with its parent", orphan },
		{ "what was handled is freed", freed },
		{ "race: kill the manager", race_kill },
	};
	char name[128];

	selftest_process("starts as servers do", starts);
	for (int apart = 0; apart < 2; apart++) {
		where = apart ? MOTE_EVENT_APART : 0;
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			snprintf(name, sizeof(name), "%s%s", cases[i].name, apart ? ", apart" : "");
			selftest_process_opts(name, cases[i].fn, i % 2 ? SCHEDULERS(2) : NULL);
		}
	}
	selftest_process("an apart handler that is stuck", stuck);
	selftest_process("an apart handler that is gone when it is deleted", gone_already);
	return selftest_done();
}
