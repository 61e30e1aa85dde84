// SPDX-License-Identifier: MIT OR GPL-2.0
/* State machines in time: timeouts that run, answers that wait, messages that are kept, and the ways to an end. */
#include "proc.h"

#include <mote/server.h>
#include <mote/statem.h>
#include <mote/sys.h>

/* --- a pedestrian light: waits, then green for a while; who asks meanwhile waits for the next one --- */

enum { RED, GREEN };
enum {
	BUTTON = 1, LOOK, OVER, ANSWER, NEXT, STOP, STOP_NEXT, STOP_AND_ANSWER, CRASH, KEEP, GIVE,
	KEEP_AND_POSTPONE, TOUCH
};

enum { ALONE = 4711, ONE_OF_MANY };	/* in a request: whether it is the only one that is postponed */

static _Atomic int terminated_in, green_entered;
static _Atomic uint32_t terminated_kind;

struct light {
	const void *seen;		/* where the data of the postponed request lay */
	int tries;
	struct mote_msg *kept;
	int64_t green_ms;
};

static int light_init(struct light *l, void *arg)
{
	l->green_ms = arg ? *(int64_t *)arg : 2;
	return 0;
}

static void common(struct light *l, int state, const struct mote_statem_event *e)
{
	int64_t v[2] = { state, l->tries };

	if (e->type == MOTE_STATEM_ENTER)
		return;
	switch (e->m->type) {
	case LOOK:
		mote_reply(e->from, ANSWER, v, sizeof(v));
		break;
	case NEXT:
		mote_statem_next_state(*(int *)e->m->data);
		break;
	case STOP:
		EXPECT_EQ(mote_statem_internal(CRASH, NULL, 0), 0);
		mote_statem_next_state(GREEN);
		mote_statem_exit((struct mote_reason){ MOTE_CUSTOM, 7, "why", 4 });
		break;
	case STOP_NEXT:
		EXPECT_EQ(mote_statem_internal(STOP, NULL, 0), 0);
		EXPECT_EQ(mote_statem_internal(CRASH, NULL, 0), 0);
		break;
	case STOP_AND_ANSWER:
		mote_reply(e->from, ANSWER, v, sizeof(v));
		mote_statem_exit(MOTE_REASON_SHUTDOWN);
		break;
	case CRASH:
		abort();
	case KEEP:
		l->kept = mote_msg_keep(e->m);
		EXPECT(l->kept == e->m);
		EXPECT(!mote_msg_keep(e->m));
		break;
	case GIVE:
		mote_reply_msg(e->from, l->kept);
		break;
	case KEEP_AND_POSTPONE:
		l->kept = mote_msg_keep(e->m);
		mote_statem_postpone();
		break;
	case TOUCH:
		EXPECT_EQ(((char *)e->m->data)[e->m->size - 1], 'x');
	}
}

static void red(struct light *l, const struct mote_statem_event *e)
{
	if (e->type == MOTE_STATEM_CALL && e->m->type == BUTTON) {
		EXPECT(*(int *)e->m->data != ALONE || !l->tries || e->m->data == l->seen);
		l->seen = e->m->data;
		l->tries++;
		mote_statem_postpone();
	} else {
		common(l, RED, e);
	}
}

static void green(struct light *l, const struct mote_statem_event *e)
{
	if (e->type == MOTE_STATEM_ENTER) {
		atomic_fetch_add(&green_entered, 1);
		EXPECT_EQ(mote_statem_timeout(MOTE_STATEM_STATE_TIMEOUT, mote_in_ms(l->green_ms), OVER, "over", 5), 0);
	} else if (e->type == MOTE_STATEM_TIMEOUT) {
		EXPECT_EQ(e->timeout, MOTE_STATEM_STATE_TIMEOUT);
		EXPECT(e->m->type == OVER && !strcmp(e->m->data, "over"));
		mote_statem_next_state(RED);
	} else if (e->type == MOTE_STATEM_CALL && e->m->type == BUTTON) {
		EXPECT(*(int *)e->m->data != ALONE || e->m->data == l->seen);
		mote_reply(e->from, ANSWER, e->m->data, e->m->size);
	} else {
		common(l, GREEN, e);
	}
}

static void light_terminate(struct light *l, int state, const struct mote_reason *why)
{
	(void)l;
	atomic_store(&terminated_in, state);
	atomic_store(&terminated_kind, why->kind);
}

MOTE_STATES(light_states, struct light, [RED] = { "red", red }, [GREEN] = { "green", green });
MOTE_STATEM(light, struct light, MOTE_STATES_OF(light_states), .flags = MOTE_STATEM_STATE_ENTER, .init = light_init,
	    .terminate = light_terminate);

static mote_pid light_new(mote_ref *ref)
{
	mote_pid pid = MOTE_NOBODY;

	atomic_store(&terminated_in, -1);
	EXPECT_EQ(mote_statem_start_monitor(&light.ops, NULL, NULL, &pid, ref), 0);
	return pid;
}

static void go(mote_pid pid, int state)
{
	mote_cast(pid, NEXT, &state, sizeof(state));
}

/* The state it is in; what[1]: how often the postponed request was tried. */
static int64_t look(mote_pid pid)
{
	struct mote_msg *m = NULL;
	int64_t v = -1;

	EXPECT_EQ(mote_call(pid, LOOK, NULL, 0, &m, PATIENCE), 0);
	if (m)
		v = *(int64_t *)m->data;
	mote_msg_free(m);
	return v;
}

static void postponed_call(void)
{
	int number = ALONE;
	mote_ref ref, asked;
	mote_pid pid = light_new(&ref);
	struct mote_msg *m;

	asked = mote_request(pid, BUTTON, &number, sizeof(number));
	EXPECT_EQ(look(pid), RED);
	EXPECT(!mote_receive_ref(asked, MOTE_NOW));
	go(pid, GREEN);
	m = mote_receive_ref(asked, PATIENCE);
	EXPECT(m && m->type == ANSWER && *(int *)m->data == number);
	mote_msg_free(m);
	/* the state timeout ends green */
	while (look(pid) == GREEN)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&terminated_in), RED);
}

/* Who waits for an answer of a machine that ends learns of it; whose deadline passes gets nothing later. */
static void postponed_for_ever(void)
{
	int number = ONE_OF_MANY;
	mote_ref ref, asked;
	mote_pid pid = light_new(&ref);
	struct mote_msg *m;

	EXPECT_EQ(mote_call(pid, BUTTON, &number, sizeof(number), NULL, mote_in_ms(1)), -ETIMEDOUT);
	asked = mote_request(pid, BUTTON, &number, sizeof(number));
	for (int i = 0; i < 100; i++)
		mote_cast(pid, TOUCH, "x", 1);
	EXPECT_EQ(mote_call(pid, STOP_AND_ANSWER, NULL, 0, NULL, PATIENCE), 0);
	m = mote_receive_ref(asked, PATIENCE);
	EXPECT(is_down(m, asked, pid, MOTE_SHUTDOWN));
	mote_msg_free(m);
	EXPECT(got_down(ref, pid, MOTE_SHUTDOWN));
	EXPECT(mailbox_is_empty());
}

static void ends(void)
{
	mote_ref ref;
	mote_pid pid = light_new(&ref);
	struct mote_msg *m;

	/* neither the inserted event, nor the one behind it, nor the other state come about */
	atomic_store(&green_entered, 0);
	mote_cast(pid, STOP_NEXT, NULL, 0);
	m = mote_receive_ref(ref, PATIENCE);
	if (EXPECT(is_down(m, ref, pid, MOTE_CUSTOM)))
		EXPECT(mote_msg_down(m)->reason.code == 7 && !strcmp(mote_msg_down(m)->reason.data, "why"));
	mote_msg_free(m);
	EXPECT_EQ(atomic_load(&terminated_in), RED);
	EXPECT_EQ(atomic_load(&terminated_kind), MOTE_CUSTOM);
	EXPECT_EQ(atomic_load(&green_entered), 0);

	pid = light_new(&ref);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT_EQ(atomic_load(&terminated_in), -1);
}

static void crashes(void)
{
	mote_ref ref, asked;
	struct mote_msg *m;
	int number = ALONE;
	mote_pid pid;

	if (SANITIZED) {
		selftest_skip("sanitizers report crashes themselves");
		return;
	}
	pid = light_new(&ref);
	asked = mote_request(pid, BUTTON, &number, sizeof(number));
	go(pid, GREEN);
	go(pid, RED);
	mote_cast(pid, CRASH, NULL, 0);
	m = mote_receive_ref(asked, PATIENCE);
	EXPECT(m && m->type == ANSWER);
	mote_msg_free(m);
	EXPECT(got_down(ref, pid, MOTE_SIGNAL));
	EXPECT_EQ(atomic_load(&terminated_in), RED);
	EXPECT_EQ(atomic_load(&terminated_kind), MOTE_SIGNAL);
}

static void kept(void)
{
	mote_ref ref;
	mote_pid pid = light_new(&ref);
	struct mote_msg *m = NULL;

	mote_cast(pid, KEEP, "this", 5);
	for (int i = 0; i < 50; i++)
		EXPECT_EQ(look(pid), RED);
	EXPECT_EQ(mote_call(pid, GIVE, NULL, 0, &m, PATIENCE), 0);
	EXPECT(m && m->type == KEEP && !strcmp(m->data, "this"));
	mote_msg_free(m);
	mote_cast(pid, KEEP_AND_POSTPONE, "this", 5);
	m = mote_receive_ref(ref, PATIENCE);
	if (EXPECT(is_down(m, ref, pid, MOTE_ERROR)))
		EXPECT_EQ(mote_msg_down(m)->reason.code, EINVAL);
	mote_msg_free(m);
}

static void looked_into(void)
{
	mote_ref ref;
	mote_pid pid = light_new(&ref);
	size_t size = sizeof(struct light);
	struct mote_msg *m = NULL;
	struct light l;

	EXPECT_EQ(mote_sys_get_state(pid, &l, &size, PATIENCE), 0);
	EXPECT_EQ(size, sizeof(l));
	EXPECT_EQ(l.green_ms, 2);
	l.green_ms = 1000000;
	EXPECT_EQ(mote_sys_replace_state(pid, &l, sizeof(l), PATIENCE), 0);
	EXPECT_EQ(mote_sys_replace_state(pid, &l, sizeof(l) - 1, PATIENCE), -EINVAL);
	go(pid, GREEN);
	mote_sleep(mote_in_ms(10));
	EXPECT_EQ(look(pid), GREEN);
	EXPECT_EQ(mote_sys_get_status(pid, &m, PATIENCE), 0);
	EXPECT(m && strstr(m->data, "state green"));
	mote_msg_free(m);
	/* suspended it does nothing; a timeout that is due then comes afterwards */
	l.green_ms = 1;
	EXPECT_EQ(mote_sys_replace_state(pid, &l, sizeof(l), PATIENCE), 0);
	go(pid, RED);
	go(pid, GREEN);
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	mote_sleep(mote_in_ms(5));
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	while (look(pid) == GREEN)
		mote_sleep(mote_in_ms(1));
	put_down(pid);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
}

/* What was handled is freed, and not only when the machine ends: 400 MB otherwise. */
static void freed(void)
{
	static char text[20000];
	mote_ref ref;
	mote_pid pid = light_new(&ref);
	uint64_t before;

	if (SANITIZED) {
		put_down(pid);
		selftest_skip("ASan keeps what is freed for a while");
		return;
	}
	text[sizeof(text) - 1] = 'x';
	before = test_resident();
	for (int i = 0; i < 20000; i++) {
		if (i % 2)
			mote_send(pid, TOUCH, text, sizeof(text));
		else
			mote_cast(pid, TOUCH, text, sizeof(text));
		if (i % 100 == 0)
			EXPECT_EQ(look(pid), RED);
	}
	EXPECT(test_resident() < before + (100u << 20));
	put_down(pid);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
}

/* --- rules that a callback may break --- */

enum rule { OTHER_STATE, POSTPONED, INSERTED, CHANGED, PUSHED, POPPED, NO_STATE, NO_SUCH_STATE, CONTINUED, EXIT_THERE,
	    RULES };

static void breaker_event(void *data, int state, const struct mote_statem_event *e);

static const struct mote_statem_state breaker_states[] = { { "one", NULL }, { "two", NULL } };

static const struct mote_statem_ops breaker = {
	.size = sizeof(breaker), .data_size = sizeof(enum rule), .flags = MOTE_STATEM_STATE_ENTER,
	.states = breaker_states, .nr_states = 2, .handle_event = breaker_event,
};

static void break_rule(enum rule rule)
{
	switch (rule) {
	case OTHER_STATE:
		mote_statem_next_state(1);	/* where it is: fine */
		mote_statem_next_state(0);
		break;
	case POSTPONED:
		mote_statem_postpone();
		break;
	case INSERTED:
		EXPECT_EQ(mote_statem_internal(1, NULL, 0), -EINVAL);
		break;
	case CHANGED:
		EXPECT_EQ(mote_statem_change_callbacks(&breaker), -EINVAL);
		break;
	case PUSHED:
		EXPECT_EQ(mote_statem_push_callbacks(&breaker), -EINVAL);
		break;
	case POPPED:
		EXPECT_EQ(mote_statem_pop_callbacks(), -EINVAL);
		break;
	case EXIT_THERE:
		mote_statem_repeat_state();
		mote_statem_exit(MOTE_REASON_SHUTDOWN);
		break;
	default:
		break;
	}
}

static void breaker_event(void *data, int state, const struct mote_statem_event *e)
{
	enum rule *rule = data;
	struct mote_statem_ops smaller = breaker;

	if (e->type == MOTE_STATEM_ENTER) {
		if (state == 1)
			break_rule(*rule);
		return;
	}
	EXPECT_EQ(e->type, MOTE_STATEM_CAST);
	smaller.data_size = 1;
	EXPECT_EQ(mote_statem_change_callbacks(&smaller), -EINVAL);
	EXPECT_EQ(mote_statem_change_callbacks(NULL), -EINVAL);
	EXPECT_EQ(mote_statem_pop_callbacks(), -ENOENT);
	EXPECT_EQ(mote_statem_timeout(-3, MOTE_NOW, 1, NULL, 0), -EINVAL);
	EXPECT_EQ(mote_statem_timeout_update(-3, 1, NULL, 0), -EINVAL);
	EXPECT_EQ(mote_statem_timeout_cancel(-3), -EINVAL);
	EXPECT_EQ(mote_statem_timeout(0, mote_in_ms(1), MOTE_MSG_EXIT, NULL, 0), -EINVAL);
	EXPECT_EQ(mote_statem_internal(1, NULL, 1), -EINVAL);
	EXPECT_EQ(mote_statem_next_event(&(struct mote_statem_event){ .type = MOTE_STATEM_ENTER }), -EINVAL);
	EXPECT_EQ(mote_statem_next_event(&(struct mote_statem_event){ .type = MOTE_STATEM_CALL }), -EINVAL);
	*rule = *(enum rule *)e->m->data;
	if (*rule == CONTINUED)
		EXPECT_EQ(mote_server_continue(1, NULL, 0), 0);
	mote_statem_next_state(*rule == NO_STATE ? -1 : *rule == NO_SUCH_STATE ? 2 : 1);
}

static void rules(void)
{
	for (enum rule rule = 0; rule < RULES; rule++) {
		struct mote_msg *m;
		mote_pid pid;
		mote_ref ref;

		EXPECT_EQ(mote_statem_start_monitor(&breaker, NULL, NULL, &pid, &ref), 0);
		mote_cast(pid, 1, &rule, sizeof(rule));
		m = mote_receive_ref(ref, PATIENCE);
		if (!EXPECT(is_down(m, ref, pid, rule == EXIT_THERE ? MOTE_SHUTDOWN : MOTE_ERROR)) ||
		    (rule != EXIT_THERE && !EXPECT(mote_msg_down(m)->reason.code == EINVAL)))
			test_note("rule %d", rule);
		mote_msg_free(m);
	}
}

/* --- timeouts that run --- */

enum { SET = 1, UPDATE, CANCEL, CAME, POKE };

struct order {
	int what, which;
	int64_t ms;
	char text[8];
};

struct timed {
	mote_pid boss;
};

static int timed_init(void *data, void *arg)
{
	((struct timed *)data)->boss = *(mote_pid *)arg;
	return 0;
}

static void timed_event(void *data, int state, const struct mote_statem_event *e)
{
	struct timed *t = data;
	const struct order *o = e->m->data;
	struct order came = { .which = e->timeout };

	if (e->type == MOTE_STATEM_TIMEOUT) {
		EXPECT_EQ(e->m->size, sizeof(came.text));
		memcpy(came.text, e->m->data, sizeof(came.text));
		mote_send(t->boss, CAME, &came, sizeof(came));
		return;
	}
	if (e->m->type == POKE) {
		mote_statem_next_state(!state);
		return;
	}
	if (e->m->size != sizeof(*o))
		return;
	switch (o->what) {
	case SET:
		EXPECT_EQ(mote_statem_timeout(o->which, o->ms < 0 ? MOTE_FOREVER : mote_in_ms(o->ms), CAME, o->text,
					      sizeof(o->text)), 0);
		break;
	case UPDATE:
		EXPECT_EQ(mote_statem_timeout_update(o->which, CAME, o->text, sizeof(o->text)), 0);
		break;
	case CANCEL:
		EXPECT_EQ(mote_statem_timeout_cancel(o->which), 0);
	}
}

static const struct mote_statem_ops timed = {
	.size = sizeof(timed), .data_size = sizeof(struct timed), .init = timed_init, .handle_event = timed_event,
};

static void tell(mote_pid pid, int what, int which, int64_t ms, const char *text)
{
	struct order o = { .what = what, .which = which, .ms = ms };

	strcpy(o.text, text);
	mote_cast(pid, 1, &o, sizeof(o));
}

static bool came(int which, const char *text)
{
	struct mote_msg *m = mote_receive_type(CAME, PATIENCE);
	bool ok = m && ((struct order *)m->data)->which == which && !strcmp(((struct order *)m->data)->text, text);

	if (m && !ok)
		test_note("timeout %d, %s", ((struct order *)m->data)->which, ((struct order *)m->data)->text);
	mote_msg_free(m);
	return ok;
}

#define NONE_CAME() \
	do { \
		tell(pid, SET, 99, 1, "end"); \
		EXPECT(came(99, "end")); \
		EXPECT(mailbox_is_empty()); \
	} while (0)

static void running_timeouts(void)
{
	mote_pid me = mote_self(), pid;
	int state = MOTE_STATEM_STATE_TIMEOUT, event = MOTE_STATEM_EVENT_TIMEOUT;
	int64_t began = mote_now().ns;

	EXPECT_EQ(mote_statem_start(&timed, &me, NULL, &pid), 0);
	tell(pid, SET, 1, 3, "one");
	tell(pid, SET, 2, 2, "two");
	tell(pid, SET, state, 1, "st");
	EXPECT(came(state, "st"));
	EXPECT(came(2, "two"));
	EXPECT(came(1, "one"));
	EXPECT(mote_now().ns - began >= 3000000);
	/* the next event ends an event timeout; a message that is for nobody is one, too */
	tell(pid, SET, event, 1, "ev");
	EXPECT(came(event, "ev"));
	tell(pid, SET, event, 100000, "ev");
	mote_send(pid, 77, NULL, 0);
	tell(pid, UPDATE, event, 0, "now");
	EXPECT(came(event, "now"));
	/* another state ends a state timeout, and no other */
	tell(pid, SET, state, 100000, "st");
	tell(pid, SET, 5, 2, "five");
	mote_cast(pid, POKE, NULL, 0);
	tell(pid, UPDATE, state, 0, "now");
	EXPECT(came(state, "now"));
	EXPECT(came(5, "five"));
	/* begun anew, updated, cancelled in both ways */
	tell(pid, SET, 6, 100000, "six");
	tell(pid, SET, 6, 1, "6");
	EXPECT(came(6, "6"));
	tell(pid, SET, 6, 3, "six");
	tell(pid, UPDATE, 6, 0, "VI");
	EXPECT(came(6, "VI"));
	tell(pid, SET, 7, 1, "seven");
	tell(pid, CANCEL, 7, 0, "");
	tell(pid, SET, 8, 1, "eight");
	tell(pid, SET, 8, -1, "");
	NONE_CAME();
	/* many at once */
	for (int i = 0; i < 100; i++)
		tell(pid, SET, 100 + i, 1, "many");
	for (int i = 0; i < 100; i++)
		mote_msg_free(mote_receive_type(CAME, PATIENCE));
	NONE_CAME();
	put_down(pid);
}

/* A timeout that fires while its state is left, or itself set anew: its message comes too late. */
static void race_timeouts(void)
{
	mote_pid me = mote_self(), pid;
	unsigned long rounds = test_rounds(3000);
	uint64_t random = test_seed();
	struct mote_msg *m;

	EXPECT_EQ(mote_statem_start(&timed, &me, NULL, &pid), 0);
	for (unsigned long i = 0; i < rounds; i++) {
		struct order o = { .what = SET, .which = MOTE_STATEM_STATE_TIMEOUT };
		char late[8];

		snprintf(o.text, sizeof(o.text), "%lu", i % 1000000);
		mote_cast(pid, 1, &o, sizeof(o));
		/* fires now, while it sleeps, or never */
		o.which = 3;
		o.ms = test_random(&random) % 2;
		mote_cast(pid, 1, &o, sizeof(o));
		test_jitter(&random);
		mote_cast(pid, POKE, NULL, 0);
		tell(pid, CANCEL, 3, 0, "");
		tell(pid, SET, 4, 0, "mark");
		while ((m = mote_receive_type(CAME, PATIENCE)) && ((struct order *)m->data)->which != 4) {
			memcpy(late, ((struct order *)m->data)->text, sizeof(late));
			EXPECT(!strcmp(late, o.text));
			mote_msg_free(m);
		}
		EXPECT(m);
		mote_msg_free(m);
	}
	NONE_CAME();
	put_down(pid);
}

/* Machines are killed while much waits in them; all of it goes. */
static void race_kill(void)
{
	uint64_t random = test_seed();
	int number = ONE_OF_MANY;

	for (unsigned long i = 0; i < test_rounds(1000); i++) {
		mote_ref ref, asked[4];
		mote_pid pid = light_new(&ref);

		for (int j = 0; j < 4; j++) {
			asked[j] = mote_request(pid, BUTTON, &number, sizeof(number));
			go(pid, j % 2);
		}
		test_jitter(&random);
		mote_exit_pid(pid, MOTE_REASON_KILL);
		for (int j = 0; j < 4; j++) {
			struct mote_msg *m = mote_receive_ref(asked[j], PATIENCE);

			EXPECT(m);
			mote_msg_free(m);
		}
		EXPECT(got_down(ref, pid, MOTE_KILLED));
	}
	EXPECT(mailbox_is_empty());
}

int main(void)
{
	selftest_process_opts("a postponed call is answered in the next state, and not copied", postponed_call,
			      SCHEDULERS(2));
	selftest_process("a postponed call that is never answered", postponed_for_ever);
	selftest_process("stop: nothing comes after it; kill: no terminate", ends);
	selftest_process("a crash in a callback ends the machine, with terminate", crashes);
	selftest_process("messages may be kept, but not postponed as well", kept);
	selftest_process("what was handled is freed", freed);
	selftest_process("sys: the data, the state's name, suspended timeouts", looked_into);
	selftest_process("rules of state enter calls, and numbers that are no states", rules);
	selftest_process("timeouts of all kinds: run, begun anew, updated, cancelled", running_timeouts);
	selftest_process_opts("race: timeouts against what ends them", race_timeouts, SCHEDULERS(2));
	selftest_process_opts("race: kill against postponed calls", race_kill, SCHEDULERS(2));
	return selftest_done();
}
