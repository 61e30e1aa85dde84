/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp_kids.h: children for supervisors under test. Each is a server that is called by a letter, and writes it down when
 * it is started, and in upper case when it is stopped and says last words.
 */
#ifndef SELFTESTS_OTP_KIDS_H
#define SELFTESTS_OTP_KIDS_H

#include "proc.h"

#include <mote/server.h>
#include <mote/supervisor.h>
#include <mote/sys.h>

enum { KID_PING = 1, KID_EXIT, KID_SEGV, KID_UNLINK };

/* What the next starts of that letter do. */
static struct kid_plan {
	_Atomic int fail;		/* so many fail with -ENOTTY */
	_Atomic int starts;		/* how many there were, failed ones too */
	_Atomic bool ignore;
	_Atomic bool stuck;		/* init does not return */
} kid_plans[26];

static char kid_trace[512];
static _Atomic unsigned int kid_trace_length;

static inline void kid_write(char letter)
{
	unsigned int at = atomic_fetch_add(&kid_trace_length, 1);

	if (at < sizeof(kid_trace) - 1)
		kid_trace[at] = letter;
}

static inline void kids_forget(void)
{
	memset(kid_trace, 0, sizeof(kid_trace));
	atomic_store(&kid_trace_length, 0);
}

static inline void kids_reset(void)
{
	memset((void *)kid_plans, 0, sizeof(kid_plans));
	kids_forget();
}

/* What was written since the last look. */
static inline bool kids_wrote(const char *expected)
{
	bool same = !strcmp(kid_trace, expected);

	if (!same)
		test_note("wrote %s, not %s", kid_trace, expected);
	kids_forget();
	return same;
}

struct kid {
	char letter;
};

static inline struct kid_plan *kid_plan(char letter)
{
	return &kid_plans[(letter - 'a') % 26];
}

static int kid_init(struct kid *k, void *arg)
{
	struct kid_plan *plan = kid_plan(*(const char *)arg);

	k->letter = *(const char *)arg;
	atomic_fetch_add(&plan->starts, 1);
	if (atomic_load(&plan->stuck)) {
		mote_register("stuck", mote_self());
		mote_sleep(MOTE_FOREVER);
	}
	if (atomic_load(&plan->fail)) {
		atomic_fetch_sub(&plan->fail, 1);
		return -ENOTTY;
	}
	if (atomic_load(&plan->ignore))
		return MOTE_IGNORE;
	kid_write(k->letter);
	return 0;
}

static void kid_call(struct kid *k, struct mote_from from, const struct mote_msg *m)
{
	mote_reply(from, m->type, &k->letter, 1);
}

static void kid_cast(struct kid *k, const struct mote_msg *m)
{
	struct mote_reason why = { 0 };

	(void)k;
	switch (m->type) {
	case KID_EXIT:
		memcpy(&why, m->data, sizeof(why));
		mote_server_exit(why);
		break;
	case KID_SEGV:
		*(volatile int *)NULL = 1;
		break;
	case KID_UNLINK:
		mote_unlink(*(mote_pid *)m->data);
		break;
	}
}

static void kid_terminate(struct kid *k, const struct mote_reason *why)
{
	(void)why;
	kid_write((char)(k->letter - 'a' + 'A'));
}

MOTE_SERVER(kid, struct kid, .init = kid_init, .handle_call = kid_call, .handle_cast = kid_cast,
	    .terminate = kid_terminate);

static const struct mote_server_opts kid_opts = { .size = sizeof(kid_opts), .flags = MOTE_TRAP_EXIT };

/* KID("a", .restart = MOTE_TRANSIENT) */
#define KID(letter, ...) { .id = letter, .server = &kid.ops, .arg = (void *)letter, .opts = &kid_opts, __VA_ARGS__ }

#define REASON(k) MOTE_LITERAL(struct mote_reason){ .kind = (k) }
#define OOPS MOTE_LITERAL(struct mote_reason){ .kind = MOTE_CUSTOM, .code = 7 }

/* The child of that id, if it runs. */
static inline mote_pid kid_pid(mote_pid sup, const char *id)
{
	struct mote_child_info info;

	return mote_supervisor_which_child(sup, id, &info, PATIENCE) ? MOTE_NOBODY : info.pid;
}

static inline bool kid_answers(mote_pid pid, char letter)
{
	struct mote_msg *m = NULL;
	bool ok = mote_call(pid, KID_PING, NULL, 0, &m, PATIENCE) == 0 && m->size == 1 && *(char *)m->data == letter;

	mote_msg_free(m);
	return ok;
}

/*
 * Has it end with that reason, and waits. Its supervisor has learnt it before we do: what that is asked next, it
 * answers when it has acted.
 */
static inline bool kid_end(mote_pid pid, struct mote_reason why)
{
	mote_ref ref = mote_monitor(pid);
	struct mote_msg *m;
	bool down;

	mote_cast(pid, KID_EXIT, &why, sizeof(why));
	m = mote_receive_ref(ref, PATIENCE);
	down = is_down(m, ref, pid, why.kind);
	if (!down)
		test_describe(m);
	mote_msg_free(m);
	return down;
}

/* Waits until there is such a child, other than old. */
static inline mote_pid kid_wait(mote_pid sup, const char *id, mote_pid old)
{
	for (int i = 0; i < 20000; i++) {
		mote_pid pid = kid_pid(sup, id);

		if (mote_pid_valid(pid) && !mote_pid_equal(pid, old))
			return pid;
		mote_sleep(mote_in_ms(1));
	}
	return MOTE_NOBODY;
}

static inline bool counts_are(mote_pid sup, uint64_t specs, uint64_t active, uint64_t supervisors, uint64_t workers)
{
	struct mote_child_counts c = { .size = sizeof(c) };
	int err = mote_supervisor_count_children(sup, &c, PATIENCE);
	bool ok = !err && c.specs == specs && c.active == active && c.supervisors == supervisors &&
		  c.workers == workers;

	if (!ok)
		test_note("%d: specs %d active %d supervisors %d workers %d", err, (int)c.specs, (int)c.active,
			  (int)c.supervisors, (int)c.workers);
	return ok;
}

#define SUPERVISOR(...) (&(struct mote_supervisor_opts){ .size = sizeof(struct mote_supervisor_opts), __VA_ARGS__ })
#define CHILDREN(list) .children = (list), .nr_children = sizeof(list) / sizeof((list)[0])

/* Starts it linked, with the caller trapping exits; the caller has to live on. */
static inline mote_pid sup_start(const struct mote_supervisor_opts *opts)
{
	mote_pid pid = MOTE_NOBODY;

	mote_trap_exit(true);
	EXPECT_EQ(mote_supervisor_start_link(opts, &pid), 0);
	return pid;
}

static inline void sup_stop(mote_pid sup)
{
	EXPECT_EQ(mote_server_stop(sup, MOTE_REASON_SHUTDOWN, PATIENCE), 0);
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));
}

#endif
