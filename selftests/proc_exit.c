// SPDX-License-Identifier: MIT OR GPL-2.0
/* Exit signals: the whole table, and what reasons carry. */
#include "proc.h"

enum { GO = 1, REPORT, SIGNAL_ME };
enum outcome { NOTHING, DIES, MESSAGE };

static const char detail[] = "a detail";

/* Every kind of reason, with what it can carry. */
static const struct mote_reason reasons[] = {
	{ MOTE_NORMAL, 0, NULL, 0 },
	{ MOTE_SHUTDOWN, 0, NULL, 0 },
	{ MOTE_SHUTDOWN, 0, detail, sizeof(detail) },
	{ MOTE_KILL, 0, NULL, 0 },
	{ MOTE_KILLED, 0, NULL, 0 },
	{ MOTE_NOPROC, 0, NULL, 0 },
	{ MOTE_NOCONNECTION, 0, NULL, 0 },
	{ MOTE_TIMEOUT, 0, NULL, 0 },
	{ MOTE_ERROR, EPIPE, detail, sizeof(detail) },
	{ MOTE_SIGNAL, 11, detail, sizeof(detail) },
	{ MOTE_CUSTOM, -77, "\0bytes\xff", 7 },
	{ MOTE_CUSTOM, 5, NULL, 0 },
};

#define NR_REASONS (sizeof(reasons) / sizeof(reasons[0]))

static bool same_reason(const struct mote_reason *a, const struct mote_reason *b)
{
	return a->kind == b->kind && a->code == b->code && a->size == b->size &&
	       (!a->size || !memcmp(a->data, b->data, a->size));
}

/* Passes EXIT messages on to its parent, in a message that holds their reason flat. */
struct report {
	mote_pid pid;
	uint32_t kind;
	int32_t code;
	uint32_t size;
	char data[64];
};

static void victim(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct mote_exit_info *e = mote_msg_exit(m);

		if (e) {
			struct report r = { e->pid, e->reason.kind, e->reason.code, (uint32_t)e->reason.size, "" };

			memcpy(r.data, e->reason.data ? e->reason.data : "", e->reason.size);
			EXPECT(mote_pid_equal(m->from, e->pid));
			mote_send(boss, REPORT, &r, sizeof(r));
		} else if (m->type == PING) {
			mote_send(boss, PING, NULL, 0);
		}
		mote_msg_free(m);
	}
}

/* Links to the victim, then ends with a reason. */
struct source {
	mote_pid boss, victim;
	const struct mote_reason *reason;
};

static void linked_source(void *arg)
{
	struct source *s = arg;

	mote_trap_exit(true);	/* it must end by its own reason only */
	EXPECT_EQ(mote_link(s->victim), 0);
	mote_send(s->boss, GO, NULL, 0);
	mote_msg_free(mote_receive_type(GO, PATIENCE));
	mote_exit(*s->reason);
}

static void judge(mote_pid v, mote_ref ref, mote_pid from, enum outcome want, const struct mote_reason *reason)
{
	struct mote_msg *m;

	if (want == DIES) {
		m = mote_receive_ref(ref, PATIENCE);
		if (EXPECT(is_down(m, ref, v, reason->kind)))
			EXPECT(same_reason(&mote_msg_down(m)->reason, reason));
		else
			test_describe(m);
		mote_msg_free(m);
		return;
	}
	if (want == MESSAGE) {
		m = mote_receive_type(REPORT, PATIENCE);
		if (EXPECT(m)) {
			struct report *r = m->data;

			EXPECT(mote_pid_equal(r->pid, from));
			EXPECT(same_reason(&(struct mote_reason){ r->kind, r->code, r->data, r->size }, reason));
		}
		mote_msg_free(m);
	}
	mote_sleep(mote_in_ms(1));
	EXPECT(ping(v));
	EXPECT_EQ(mote_demonitor(ref, MOTE_FLUSH), 1);
	EXPECT(mailbox_is_empty());
	put_down(v);
}

static void from_a_link(bool trap)
{
	for (size_t i = 0; i < NR_REASONS; i++) {
		mote_pid me = mote_self(), sender;
		mote_ref ref;
		mote_pid v = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = victim, .arg = &me, .ref = &ref,
			.flags = MOTE_MONITOR | (trap ? MOTE_TRAP_EXIT : 0) });
		struct source s = { me, v, &reasons[i] };
		enum outcome want = trap ? MESSAGE : reasons[i].kind == MOTE_NORMAL ? NOTHING : DIES;
		mote_ref gone;

		sender = mote_spawn_monitor(linked_source, &s, &gone);
		EXPECT(got_type(GO));
		mote_send(sender, GO, NULL, 0);
		EXPECT(got_down(gone, sender, reasons[i].kind));
		judge(v, ref, sender, want, &reasons[i]);
	}
}

static void link_no_trap(void)
{
	from_a_link(false);
}

static void link_trap(void)
{
	from_a_link(true);
}

static void inactive_source(void *arg)
{
	struct source *s = arg;

	mote_trap_exit(true);
	mote_link(s->victim);
	mote_unlink(s->victim);
	mote_exit(*s->reason);
}

static void from_an_inactive_link(void)
{
	for (int trap = 0; trap < 2; trap++) {
		for (size_t i = 0; i < NR_REASONS; i++) {
			mote_pid me = mote_self(), sender;
			mote_ref ref, gone;
			mote_pid v = mote_spawn_opts(&(struct mote_spawn_opts){
				.size = sizeof(struct mote_spawn_opts), .fn = victim, .arg = &me, .ref = &ref,
				.flags = MOTE_MONITOR | (trap ? MOTE_TRAP_EXIT : 0) });
			struct source s = { me, v, &reasons[i] };

			sender = mote_spawn_monitor(inactive_source, &s, &gone);
			EXPECT(got_down(gone, sender, reasons[i].kind));
			judge(v, ref, sender, NOTHING, &reasons[i]);
		}
	}
}

static void by_exit_pid(bool trap)
{
	for (size_t i = 0; i < NR_REASONS; i++) {
		static const struct mote_reason killed = { MOTE_KILLED, 0, NULL, 0 };
		mote_pid me = mote_self();
		mote_ref ref;
		mote_pid v = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = victim, .arg = &me, .ref = &ref,
			.flags = MOTE_MONITOR | (trap ? MOTE_TRAP_EXIT : 0) });
		enum outcome want = trap ? MESSAGE : reasons[i].kind == MOTE_NORMAL ? NOTHING : DIES;
		const struct mote_reason *reason = &reasons[i];

		if (reasons[i].kind == MOTE_KILL) {
			want = DIES;
			reason = &killed;
		}
		if (i & 1)
			EXPECT(ping(v));	/* half of them have not run yet when the signal comes */
		EXPECT_EQ(mote_exit_pid(v, reasons[i]), 0);
		judge(v, ref, me, want, reason);
	}
}

static void exit_pid_no_trap(void)
{
	by_exit_pid(false);
}

static void exit_pid_trap(void)
{
	by_exit_pid(true);
}

static _Atomic int survived;

static void normal_to_self(void *arg)
{
	(void)arg;
	mote_exit_pid(mote_self(), MOTE_REASON_NORMAL);
	mote_yield();
	atomic_store(&survived, 1);
	mote_sleep(mote_in_ms(1));
	mote_exit(MOTE_REASON_SHUTDOWN);
}

static void normal_to_self_kills(void)
{
	mote_ref ref;
	mote_pid pid;

	atomic_store(&survived, 0);
	pid = mote_spawn_monitor(normal_to_self, NULL, &ref);
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&survived), 0);
}

static void self_while_trapping(void)
{
	mote_trap_exit(true);
	EXPECT_EQ(mote_exit_pid(mote_self(), MOTE_REASON_NORMAL), 0);
	EXPECT(got_exit(mote_self(), MOTE_NORMAL));
	EXPECT_EQ(mote_exit_pid(mote_self(), MOTE_REASON_SHUTDOWN), 0);
	EXPECT(got_exit(mote_self(), MOTE_SHUTDOWN));
}

static void kill_self(void *arg)
{
	(void)arg;
	mote_trap_exit(true);
	mote_exit_pid(mote_self(), MOTE_REASON_KILL);
	mote_sleep(PATIENCE);
	atomic_store(&survived, 1);
}

static void kill_to_self(void)
{
	mote_ref ref;
	mote_pid pid;

	atomic_store(&survived, 0);
	pid = mote_spawn_monitor(kill_self, NULL, &ref);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT_EQ(atomic_load(&survived), 0);
}

static void join_link(void *arg)
{
	mote_link(*(mote_pid *)arg);
	sink(NULL);
}

/* exit_pid(kill) is `killed` to those linked; it goes on from link to link as that. */
static void kill_is_killed_beyond(void)
{
	mote_pid pids[10];
	mote_ref refs[10];

	mote_trap_exit(true);
	pids[0] = mote_spawn_monitor(sink, NULL, &refs[0]);
	for (int i = 1; i < 10; i++) {
		pids[i] = mote_spawn_monitor(join_link, &pids[i - 1], &refs[i]);
		while (test_info(pids[i]).links != 1)
			mote_yield();
	}
	while (test_info(pids[0]).links != 1)
		mote_yield();
	EXPECT_EQ(mote_link(pids[9]), 0);
	mote_exit_pid(pids[0], MOTE_REASON_KILL);
	for (int i = 0; i < 10; i++)
		EXPECT(got_down(refs[i], pids[i], MOTE_KILLED));
	EXPECT(got_exit(pids[9], MOTE_KILLED));
}

static void first_signal_wins(void)
{
	mote_pid me = mote_self();

	for (int i = 0; i < 1000; i++) {
		mote_ref ref;
		mote_pid v = mote_spawn_monitor(victim, &me, &ref);

		mote_exit_pid(v, MOTE_REASON_NORMAL);
		mote_exit_pid(v, mote_reason_error(EIO, "first"));
		mote_exit_pid(v, MOTE_REASON_SHUTDOWN);
		mote_exit_pid(v, MOTE_REASON_KILL);
		if (!EXPECT(got_down(ref, v, MOTE_ERROR)))
			return;
	}
}

static void in_receive(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive(MOTE_FOREVER));
	atomic_store(&survived, 1);
}

static void in_selective_receive(void *arg)
{
	(void)arg;
	mote_send(mote_self(), GO, NULL, 0);
	mote_msg_free(mote_receive_type(SIGNAL_ME, PATIENCE));
	atomic_store(&survived, 1);
}

static void in_sleep(void *arg)
{
	(void)arg;
	mote_sleep(MOTE_FOREVER);
	atomic_store(&survived, 1);
}

static void in_call(void *arg)
{
	mote_call(*(mote_pid *)arg, GO, NULL, 0, NULL, MOTE_FOREVER);
	atomic_store(&survived, 1);
}

static void in_yield(void *arg)
{
	(void)arg;
	for (;;)
		mote_yield();
}

static void in_check(void *arg)
{
	(void)arg;
	for (;;)
		mote_check();
}

static void in_sends(void *arg)
{
	for (;;)
		mote_send(*(mote_pid *)arg, GO, NULL, 0);
}

static void wherever_it_is(void)
{
	static const mote_fn places[] = { in_receive, in_selective_receive, in_sleep, in_call, in_yield, in_check,
					  in_sends };
	mote_pid quiet = mote_spawn(sink, NULL);
	uint64_t seed = test_seed();
	unsigned long n = test_rounds(2000);

	atomic_store(&survived, 0);
	for (unsigned long i = 0; i < n; i++) {
		static const struct mote_reason why[] = { { MOTE_SHUTDOWN, 0, NULL, 0 }, { MOTE_KILL, 0, NULL, 0 } };
		mote_ref ref;
		mote_pid pid = mote_spawn_monitor(places[i % 7], &quiet, &ref);

		test_jitter(&seed);
		if (i % 5 == 0)
			mote_sleep(mote_in_us(50));
		mote_exit_pid(pid, why[i & 1]);
		if (!EXPECT(got_down(ref, pid, i & 1 ? MOTE_KILLED : MOTE_SHUTDOWN)))
			test_note("place %lu", i % 7);
	}
	EXPECT_EQ(atomic_load(&survived), 0);
}

/*
 * The signal has come while the victim computes; then it makes its first runtime call, and that one over and over.
 * Whichever it is, it must not come back, or not much longer.
 */
static bool none(const struct mote_msg *m, void *arg)
{
	(void)m;
	(void)arg;
	return false;
}

static void c_receive(void)	{ mote_msg_free(mote_receive(MOTE_FOREVER)); }
static void c_receive_now(void)	{ mote_msg_free(mote_receive(MOTE_NOW)); }
static void c_type(void)	{ mote_msg_free(mote_receive_type(GO, MOTE_FOREVER)); }
static void c_match(void)	{ mote_msg_free(mote_receive_match(none, NULL, MOTE_FOREVER)); }
static void c_ref(void)		{ mote_msg_free(mote_receive_ref(mote_alias(0), MOTE_FOREVER)); }
static void c_sleep(void)	{ mote_sleep(MOTE_FOREVER); }
static void c_sleep_now(void)	{ mote_sleep(MOTE_NOW); }
static void c_yield(void)	{ mote_yield(); }
static void c_check(void)	{ mote_check(); }
static void c_send(void)	{ mote_send((mote_pid){ 1, 0xfffff, 0 }, GO, NULL, 0); }
static void c_link(void)	{ mote_link(MOTE_NOBODY); }
static void c_unlink(void)	{ mote_unlink((mote_pid){ 1, 0xfffff, 0 }); }
static void c_monitor(void)	{ mote_demonitor(mote_monitor((mote_pid){ 1, 0xfffff, 0 }), MOTE_FLUSH); }
static void c_alias(void)	{ mote_unalias(mote_alias(0)); }
static void c_timer(void)	{ mote_timer_cancel(mote_send_after(MOTE_FOREVER, mote_self(), GO, NULL, 0), NULL); }
static void c_alloc(void)	{ mote_free(mote_alloc(10)); }
static void c_defer(void)	{ mote_undefer(free, NULL); }
static void c_name(void)	{ mote_unregister("nobody has it"); }
static void c_trap(void)	{ mote_trap_exit(true); }
static void c_exit_pid(void)	{ mote_exit_pid((mote_pid){ 1, 0xfffff, 0 }, MOTE_REASON_SHUTDOWN); }

static const struct {
	const char *name;
	void (*call)(void);
} calls[] = {
	{ "receive", c_receive }, { "receive now", c_receive_now }, { "receive_type", c_type },
	{ "receive_match", c_match }, { "receive_ref", c_ref }, { "sleep", c_sleep }, { "sleep now", c_sleep_now },
	{ "yield", c_yield }, { "check", c_check }, { "send", c_send }, { "link", c_link }, { "unlink", c_unlink },
	{ "monitor", c_monitor }, { "alias", c_alias }, { "timer", c_timer }, { "alloc", c_alloc },
	{ "defer", c_defer }, { "name", c_name }, { "trap_exit", c_trap }, { "exit_pid", c_exit_pid },
};

static _Atomic int computing;	/* 1: the victim is; 2: it may go on */

static void computes_then_calls(void *arg)
{
	void (*call)(void) = calls[*(size_t *)arg].call;

	mote_trap_exit(true);
	atomic_store(&computing, 1);
	while (atomic_load(&computing) != 2)
		;
	for (;;)
		call();
}

static void at_the_next_call(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		mote_ref ref;
		mote_pid p;

		atomic_store(&computing, 0);
		p = spawn_pinned(computes_then_calls, &i, 1, MOTE_MONITOR, &ref);
		while (atomic_load(&computing) != 1)
			mote_yield();
		mote_exit_pid(p, MOTE_REASON_KILL);
		atomic_store(&computing, 2);
		if (!EXPECT(got_down(ref, p, MOTE_KILLED))) {
			test_note("mote_%s", calls[i].name);
			test_bail_out();
		}
	}
}

static void next_call(void)
{
	if (test_one_thread())
		return;
	on_first_scheduler(at_the_next_call, NULL);
}

static void big_exit(void *arg)
{
	struct mote_reason r = { MOTE_CUSTOM, 9, arg, MOTE_REASON_MAX };

	mote_exit(r);
}

static void largest_reason(void)
{
	static unsigned char big[MOTE_REASON_MAX + 1];
	mote_ref ref;
	mote_pid pid;
	struct mote_msg *m;
	const struct mote_exit_info *e;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * 31 + i / 256);
	mote_trap_exit(true);
	pid = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = big_exit, .arg = big, .ref = &ref,
		.flags = MOTE_LINK | MOTE_MONITOR });
	m = mote_receive_ref(ref, PATIENCE);
	if (EXPECT(is_down(m, ref, pid, MOTE_CUSTOM))) {
		EXPECT_EQ(mote_msg_down(m)->reason.size, MOTE_REASON_MAX);
		EXPECT(!memcmp(mote_msg_down(m)->reason.data, big, MOTE_REASON_MAX));
	}
	mote_msg_free(m);
	m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
	if (EXPECT(is_exit(m, pid, MOTE_CUSTOM))) {
		e = mote_msg_exit(m);
		EXPECT_EQ(e->reason.code, 9);
		EXPECT(!memcmp(e->reason.data, big, MOTE_REASON_MAX));
	}
	mote_msg_free(m);
	EXPECT_EQ(mote_exit_pid(mote_self(), (struct mote_reason){ MOTE_CUSTOM, 1, big, MOTE_REASON_MAX }), 0);
	m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
	if (EXPECT(is_exit(m, mote_self(), MOTE_CUSTOM)))
		EXPECT(!memcmp(mote_msg_exit(m)->reason.data, big, MOTE_REASON_MAX));
	mote_msg_free(m);
	EXPECT_EQ(mote_exit_pid(mote_self(), (struct mote_reason){ MOTE_CUSTOM, 1, big, sizeof(big) }), -EMSGSIZE);
	EXPECT_EQ(mote_exit_pid(mote_self(), (struct mote_reason){ 1000, 0, NULL, 0 }), -EINVAL);
	EXPECT(mailbox_is_empty());
}

static void nothing(void *arg)
{
	(void)arg;
}

static void to_the_dead(void)
{
	mote_ref ref;
	mote_pid pid = mote_spawn_monitor(nothing, NULL, &ref);

	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	mote_trap_exit(true);
	EXPECT_EQ(mote_exit_pid(pid, MOTE_REASON_KILL), 0);
	EXPECT_EQ(mote_exit_pid(pid, MOTE_REASON_SHUTDOWN), 0);
	EXPECT(mailbox_is_empty());
}

static void trap_setting(void)
{
	EXPECT(!mote_trap_exit(true));
	EXPECT(mote_trap_exit(true));
	EXPECT(test_info(mote_self()).trap_exit);
	EXPECT(mote_trap_exit(false));
	EXPECT(!mote_trap_exit(false));
	EXPECT(!test_info(mote_self()).trap_exit);
}

static bool formats_as(struct mote_reason r, const char *text)
{
	char buf[128], little[6];
	int n = mote_reason_format(&r, buf, sizeof(buf));
	bool ok = !strcmp(buf, text) && n == (int)strlen(text);

	if (!ok)
		test_note("%d \"%s\", not \"%s\"", n, buf, text);
	ok = ok && mote_reason_format(&r, little, sizeof(little)) == n && little[5] == 0 &&
	     !strncmp(little, text, strlen(little)) && mote_reason_format(&r, NULL, 0) == n;
	return ok;
}

static void format(void)
{
	EXPECT(formats_as(MOTE_REASON_NORMAL, "normal"));
	EXPECT(formats_as(MOTE_REASON_SHUTDOWN, "shutdown"));
	EXPECT(formats_as(mote_reason_error(32, "broken pipe"), "error 32: broken pipe"));
}

int main(void)
{
	selftest_process("a link, any reason, not trapping: normal does nothing, others kill with the same reason",
			 link_no_trap);
	selftest_process("a link, any reason, trapping: a message EXIT{from, reason}", link_trap);
	selftest_process("a link that is no longer active: nothing", from_an_inactive_link);
	selftest_process("mote_exit_pid, not trapping: normal nothing, kill killed, others that reason",
			 exit_pid_no_trap);
	selftest_process("mote_exit_pid, trapping: a message, but kill kills", exit_pid_trap);
	selftest_process("mote_exit_pid(self, normal) ends oneself", normal_to_self_kills);
	selftest_process("mote_exit_pid(self) while trapping is a message", self_while_trapping);
	selftest_process("mote_exit_pid(self, kill) can't be trapped", kill_to_self);
	selftest_process("a kill is killed to those linked, and so on along links", kill_is_killed_beyond);
	selftest_process_opts("the first exit signal of a sender wins", first_signal_wins, SCHEDULERS(2));
	selftest_process_opts("exit signals act wherever the process is", wherever_it_is, SCHEDULERS(2));
	selftest_process_opts("a kill acts at the next runtime call, whichever it is", next_call, SCHEDULERS(2));
	selftest_process("reasons carry up to 4,096 bytes; more is -EMSGSIZE", largest_reason);
	selftest_process("an exit signal to the dead vanishes", to_the_dead);
	selftest_process("mote_trap_exit returns the previous setting", trap_setting);
	selftest_process("reasons as text", format);
	return selftest_done();
}
