// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * State machines: in which order events come, and what of a callback's wishes counts. The rows of gen_statem.
 *
 * Most of it is played by a machine whose events say what it has to do, and whose diary is compared with what Erlang's
 * gen_statem (OTP 25) wrote for the same events.
 */
#include "proc.h"

#include <mote/server.h>
#include <mote/statem.h>
#include <mote/sys.h>

#include <ctype.h>

/* --- the machine that does as its events say --- */

/*
 * The diary: " 0cp1" is the event "p1", a cast (i: internal, f: info, t: event timeout, s: state timeout, a, b: named
 * ones), in state 0; ">01" a state enter call of 1, from 0. What an event says: 0 to 3, k, r: next, keep, repeat the
 * state; p: postpone; e(...), f(...): insert an internal event, an info; zs(...), ls(...), us(...), xs: timeout s at
 * once, late, update, cancel; M, P, O: change, push, pop callbacks.
 */
struct player {
	char diary[6000];
	size_t length;
	int fuel;		/* as many events may say something */
	int repeats;
	int pushed;
};

static void note(struct player *p, const char *text, size_t n)
{
	if (p->length + n < sizeof(p->diary)) {
		memcpy(p->diary + p->length, text, n);
		p->length += n;
	}
}

static int which_timeout(char c)
{
	return c == 't' ? MOTE_STATEM_EVENT_TIMEOUT : c == 's' ? MOTE_STATEM_STATE_TIMEOUT : c - 'a';
}

/* What is in the parentheses at text, and where it goes on. */
static const char *inside(const char *text, char *buf, size_t size)
{
	size_t n = 0;

	for (int depth = 1; *++text; ) {
		depth += (*text == '(') - (*text == ')');
		if (!depth)
			break;
		if (n + 1 < size)
			buf[n++] = *text;
	}
	buf[n] = 0;
	return text;
}

static const struct mote_statem_ops *other_callbacks(void);

static void obey(struct player *p, const char *text)
{
	struct mote_msg m;
	char buf[256];
	int which = 0;

	for (; *text; text++) {
		char c = *text;

		if (strchr("zlux", c))
			which = which_timeout(*++text);
		if (strchr("efzlu", c))
			text = inside(text + 1, buf, sizeof(buf));
		if (isdigit((unsigned char)c)) {
			mote_statem_next_state(c - '0');
			continue;
		}
		switch (c) {
		case 'k':
			mote_statem_keep_state();
			break;
		case 'r':
			mote_statem_repeat_state();
			break;
		case 'p':
			mote_statem_postpone();
			break;
		case 'e':
			EXPECT_EQ(mote_statem_internal(7, buf, strlen(buf) + 1), 0);
			break;
		case 'f':
			m = (struct mote_msg){ .type = 8, .data = buf, .size = (uint32_t)strlen(buf) + 1 };
			EXPECT_EQ(mote_statem_next_event(&(struct mote_statem_event){ .type = MOTE_STATEM_INFO,
										      .m = &m }), 0);
			break;
		case 'z':
			EXPECT_EQ(mote_statem_timeout(which, MOTE_NOW, 9, buf, strlen(buf) + 1), 0);
			break;
		case 'l':
			EXPECT_EQ(mote_statem_timeout(which, mote_in_ms(1000000), 9, buf, strlen(buf) + 1), 0);
			break;
		case 'u':
			EXPECT_EQ(mote_statem_timeout_update(which, 9, buf, strlen(buf) + 1), 0);
			break;
		case 'x':
			EXPECT_EQ(mote_statem_timeout_cancel(which), 0);
			break;
		case 'M':
			EXPECT_EQ(mote_statem_change_callbacks(other_callbacks()), 0);
			break;
		case 'P':
			EXPECT_EQ(mote_statem_push_callbacks(other_callbacks()), 0);
			p->pushed++;
			break;
		case 'O':
			EXPECT_EQ(mote_statem_pop_callbacks(), p->pushed ? 0 : -ENOENT);
			p->pushed -= p->pushed > 0;
		}
	}
}

static void play(struct player *p, int state, const struct mote_statem_event *e)
{
	static const char letters[] = {
		[MOTE_STATEM_CAST] = 'c', [MOTE_STATEM_INTERNAL] = 'i', [MOTE_STATEM_INFO] = 'f',
	};
	char c;

	if (e->type == MOTE_STATEM_ENTER) {
		note(p, (char[]){ '>', (char)('0' + e->old_state), (char)('0' + state) }, 3);
		if (state == 2)
			mote_statem_timeout(MOTE_STATEM_STATE_TIMEOUT, MOTE_NOW, 9, "k", 2);
		else if (state == 3 && p->repeats++ % 2 == 0)
			mote_statem_repeat_state();
		return;
	}
	c = e->type != MOTE_STATEM_TIMEOUT ? letters[e->type] : e->timeout == MOTE_STATEM_EVENT_TIMEOUT ? 't' :
	    e->timeout == MOTE_STATEM_STATE_TIMEOUT ? 's' : (char)('a' + e->timeout);
	note(p, (char[]){ ' ', (char)('0' + state), c }, 3);
	note(p, e->m->data, strlen(e->m->data));
	if (p->fuel-- > 0)
		obey(p, e->m->data);
}

/* Which of the two ways of callbacks was called. */
static bool by_table;

static void play_in(void *data, int state, const struct mote_statem_event *e)
{
	by_table = true;
	play(data, state, e);
}

static void play_0(void *data, const struct mote_statem_event *e)
{
	play_in(data, 0, e);
}

static void play_1(void *data, const struct mote_statem_event *e)
{
	play_in(data, 1, e);
}

static void play_2(void *data, const struct mote_statem_event *e)
{
	play_in(data, 2, e);
}

static void play_3(void *data, const struct mote_statem_event *e)
{
	play_in(data, 3, e);
}

static void play_any(void *data, int state, const struct mote_statem_event *e)
{
	by_table = false;
	play(data, state, e);
}

static int player_init(void *data, void *arg)
{
	struct player *p = data;

	(void)arg;
	p->fuel = 60;
	return 0;
}

static const struct mote_statem_state player_states[] = {
	{ "zero", play_0 }, { "one", play_1 }, { "two", play_2 }, { "three", play_3 },
};

static const struct mote_statem_ops player_table = {
	.size = sizeof(player_table), .data_size = sizeof(struct player), .flags = MOTE_STATEM_STATE_ENTER,
	.states = player_states, .nr_states = 4, .init = player_init,
};

static const struct mote_statem_ops player_function = {
	.size = sizeof(player_function), .data_size = sizeof(struct player), .flags = MOTE_STATEM_STATE_ENTER,
	.handle_event = play_any, .init = player_init,
};

static const struct mote_statem_ops quiet_table = {
	.size = sizeof(quiet_table), .data_size = sizeof(struct player), .states = player_states, .nr_states = 4,
	.init = player_init,
};

static const struct mote_statem_ops quiet_function = {
	.size = sizeof(quiet_function), .data_size = sizeof(struct player), .handle_event = play_any,
	.init = player_init,
};

static bool with_enter = true;

static const struct mote_statem_ops *other_callbacks(void)
{
	if (!with_enter)
		return by_table ? &quiet_function : &quiet_table;
	return by_table ? &player_function : &player_table;
}

/* Sends the events, parted by spaces; *p gets the player's data after the last of them. */
static void perform(const struct mote_statem_ops *ops, const char *events, struct player *p)
{
	size_t size = sizeof(*p);
	char event[512];
	mote_pid pid;

	if (!EXPECT(mote_statem_start(ops, NULL, NULL, &pid) == 0))
		return;
	while (*events) {
		size_t n = strcspn(events, " ");

		memcpy(event, events, n);
		event[n] = 0;
		EXPECT_EQ(mote_cast(pid, 1, event, n + 1), 0);
		events += n + (events[n] == ' ');
	}
	EXPECT_EQ(mote_sys_get_state(pid, p, &size, PATIENCE), 0);
	EXPECT_EQ(size, sizeof(*p));
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);
}

static const struct played {
	const char *events, *diary;
} played[] = {
	{ "1 2 3 0", ">00 0c1>01 1c2>12 2sk 2c3>23>23 3c0>30" },
	{ "k 0 1 1", ">00 0ck 0c0 0c1>01 1c1" },
	{ "r 3 r", ">00 0cr>00 0c3>03>03 3cr>33>33" },
	{ "1r r1 1k k1", ">00 0c1r>00 0cr1>01 1c1k 1ck1" },
	{ "p 1", ">00 0cp 0c1>01 1cp" },
	{ "p p1 e(p) 2", ">00 0cp 0cp1>01 1cp 1cp1 1ce(p) 1ip 1c2>12 2cp 2cp1>21 1cp 1cp1 1ip" },
	{ "p pe(g)1 y", ">00 0cp 0cpe(g)1>01 1ig 1cp 1cpe(g)1 1ig 1cy" },
	{ "1p zs(0)zt(1) 2", ">00 0c1p>01 1c1p 1czs(0)zt(1) 1s0>10 0c1p>01 1c1p 1c2>12 2c1p>21 1c1p" },
	{ "e(a)e(b)e(c)", ">00 0ce(a)e(b)e(c) 0ia 0ib 0ic" },
	{ "e(e(h)f(i))e(o)", ">00 0ce(e(h)f(i))e(o) 0ie(h)f(i) 0ih 0fi 0io" },
	{ "e(a)1pe(b) 2",
	  ">00 0ce(a)1pe(b)>01 1ia 1ib 1ce(a)1pe(b) 1ia 1ib 1c2>12 2ce(a)1pe(b)>21 1ia 1ib 1ce(a)1pe(b)"
	  " 1ia 1ib" },
	{ "e(a)zs(h)e(b) k", ">00 0ce(a)zs(h)e(b) 0ia 0ib 0sh 0ck" },
	{ "za(1)zb(2)e(3)", ">00 0cza(1)zb(2)e(3) 0i3>03>03 3a1>31 1b2>12 2sk" },
	{ "zt(t)e(a) k", ">00 0czt(t)e(a) 0ia 0ck" },
	{ "zt(t)zs(s)za(a)zb(b)zt(w)", ">00 0czt(t)zs(s)za(a)zb(b)zt(w) 0ss 0aa 0bb" },
	{ "zs(s)1 k", ">00 0czs(s)1>01 1ss 1ck" },
	{ "lt(n)ut(w) k", ">00 0clt(n)ut(w) 0tw 0ck" },
	{ "ls(n) us(w) k", ">00 0cls(n) 0cus(w) 0ck" },
	{ "ls(n)xs us(w)", ">00 0cls(n)xs 0cus(w) 0sw" },
	{ "us(w)1 ls(a)1us(b) 2", ">00 0cus(w)1>01 1sw 1cls(a)1us(b) 1sb 1c2>12 2sk" },
	{ "la(n) ua(w) xa ua(v) k", ">00 0cla(n) 0cua(w) 0cxa 0cua(v) 0av 0ck" },
	{ "2ls(n) k us(w)", ">00 0c2ls(n)>02 2sk 2ck 2cus(w) 2sw" },
	{ "2xs k", ">00 0c2xs>02 2sk 2ck" },
	{ "zb(b)xb zb(b) zb(c)za(a)zb(d)", ">00 0czb(b)xb 0czb(b) 0bb 0czb(c)za(a)zb(d) 0aa 0bd" },
	{ "M 1 M 2 1M2", ">00 0cM 0c1>01 1cM 1c2>12 2sk 2c1M2" },
	{ "P P 1 O 2 O O 3", ">00 0cP 0cP 0c1>01 1cO 1c2>12 2sk 2cO 2cO 2c3>23>23" },
	{ "1P2O e(p)M1", ">00 0c1P2O>02 2sk 2ce(p)M1>21 1ip" },
	{ "zt(p) 3e(e(kzb())3f(p))pxt us(p) 1 p zb(pp)",
	  ">00 0czt(p) 0tp 0c3e(e(kzb())3f(p))pxt>03>03 3ie(kzb())3f(p) 3ikzb() 3fp 3tp"
	  " 3c3e(e(kzb())3f(p))pxt 3ie(kzb())3f(p) 3ikzb() 3fp 3b 3cus(p) 3sp 3c1>31 1fp 1tp"
	  " 1c3e(e(kzb())3f(p))pxt>13>13 3ie(kzb())3f(p) 3ikzb() 3fp 3fp 3tp 3c3e(e(kzb())3f(p))pxt"
	  " 3ie(kzb())3f(p) 3ikzb() 3fp 3fp 3sp 3b 3cp 3czb(pp) 3bpp" },
	{ "pzt(k)e(1P)1 ua(ls(0)) 2za(e(0e(p))) 0 f(lb(f()za(p0r)))xb ls()e(3us()e(0))",
	  ">00 0cpzt(k)e(1P)1>01 1i1P 1cpzt(k)e(1P)1 1i1P 1cua(ls(0)) 1als(0) 1c2za(e(0e(p)))>12"
	  " 2cpzt(k)e(1P)1>21 1i1P 1cpzt(k)e(1P)1 1i1P 1ae(0e(p)) 1i0e(p)>10 0ip 0cpzt(k)e(1P)1>01 1i1P"
	  " 1ip 1cpzt(k)e(1P)1 1i1P 1c0>10 0ip 0cpzt(k)e(1P)1>01 1i1P 1ip 1cpzt(k)e(1P)1 1i1P"
	  " 1cf(lb(f()za(p0r)))xb 1flb(f()za(p0r)) 1cls()e(3us()e(0)) 1i3us()e(0)>13>13 3i0>30 0ip"
	  " 0cpzt(k)e(1P)1>01 1i1P 1ip 1cpzt(k)e(1P)1 1i1P" },
	{ "za(e(3kpM)pzs(lb(r)e()P)ua(2))lb(pla(2))zb(0O) 2 zb() 01",
	  ">00 0cza(e(3kpM)pzs(lb(r)e()P)ua(2))lb(pla(2))zb(0O) 0ae(3kpM)pzs(lb(r)e()P)ua(2) 0i3kpM 0b0O"
	  " 0slb(r)e()P 0i 0a2>02 2ae(3kpM)pzs(lb(r)e()P)ua(2) 2i3kpM 2i3kpM 2slb(r)e()P 2i 2a2 2c2"
	  " 2czb() 2b 2c01>21 1ae(3kpM)pzs(lb(r)e()P)ua(2) 1i3kpM 1i3kpM 1i3kpM 1slb(r)e()P 1i 1a2>12"
	  " 2ae(3kpM)pzs(lb(r)e()P)ua(2) 2i3kpM 2i3kpM 2i3kpM 2i3kpM 2slb(r)e()P 2i 2a2" },
	{ "1 e(zb(2))31 zt(3)p ut()1 zs(Ppe(xbzb(1)))e(P)e(zt(k)p) zt(xb20)",
	  ">00 0c1>01 1ce(zb(2))31 1izb(2) 1b2>12 2sk 2czt(3)p 2t3>23>23 3czt(3)p 3t3 3cut()1>31 1czt(3)p"
	  " 1t3>13>13 3czt(3)p 3t3 3czs(Ppe(xbzb(1)))e(P)e(zt(k)p) 3iP 3izt(k)p 3sPpe(xbzb(1)) 3ixbzb(1)"
	  " 3b1>31 1czt(3)p 1izt(k)p 1sPpe(xbzb(1)) 1ixbzb(1) 1b1 1czt(xb20) 1txb20>10 0czt(3)p 0izt(k)p"
	  " 0sPpe(xbzb(1)) 0ixbzb(1) 0b1>01 1czt(3)p 1izt(k)p 1sPpe(xbzb(1)) 1ixbzb(1) 1b1" },
};

/* The same without state enter calls. */
static const struct played quiet[] = {
	{ "p r 1 k", " 0cp 0cr 0c1 1cp 1ck" },
	{ "1p r1 pr e(r) 2", " 0c1p 1c1p 1cr1 1cpr 1ce(r) 1ir 1c2 2c1p 1c1p 1cpr" },
	{ "ls(g)r us(h) 1us(i)", " 0cls(g)r 0cus(h) 0c1us(i) 1si" },
	{ "zs(g)r zt(h)r k", " 0czs(g)r 0sg 0czt(h)r 0th 0ck" },
	{ "M 1 Pr O2", " 0cM 0c1 1cPr 1cO2" },
};

static void play_all(const struct mote_statem_ops *ops, const struct played *all, size_t n)
{
	static struct player p;

	for (size_t i = 0; i < n; i++) {
		memset(&p, 0, sizeof(p));
		perform(ops, all[i].events, &p);
		p.diary[sizeof(p.diary) - 1] = 0;
		if (!EXPECT(!strcmp(p.diary, all[i].diary)))
			test_note("%s:\n#  wants %s\n#  wrote %s", all[i].events, all[i].diary, p.diary);
	}
}

#define PLAY(ops, all) play_all(ops, all, sizeof(all) / sizeof((all)[0]))

static void as_erlang_by_table(void)
{
	PLAY(&player_table, played);
}

static void as_erlang_by_function(void)
{
	PLAY(&player_function, played);
}

static void as_erlang_without_enter(void)
{
	with_enter = false;
	PLAY(&quiet_table, quiet);
	PLAY(&quiet_function, quiet);
	with_enter = true;
}

/* --- init, and its wishes --- */

enum { FIRST, SECOND, THIRD };

struct log {
	char said[64];
};

static void say(struct log *l, char c)
{
	size_t n = strlen(l->said);

	if (n + 1 < sizeof(l->said))
		l->said[n] = c;
}

static int busy_init(struct log *l, void *arg)
{
	int err = arg ? *(int *)arg : 0;

	say(l, 'i');
	mote_statem_next_state(SECOND);
	EXPECT_EQ(mote_statem_internal('1', NULL, 0), 0);
	EXPECT_EQ(mote_statem_internal('2', NULL, 0), 0);
	EXPECT_EQ(mote_statem_timeout(3, MOTE_NOW, 't', NULL, 0), 0);
	return err;
}

static void busy_event(struct log *l, int state, const struct mote_statem_event *e)
{
	if (e->type == MOTE_STATEM_ENTER) {
		EXPECT_EQ(e->old_state, state);
		EXPECT_EQ(e->m->size, 0);
		EXPECT(!mote_msg_keep(e->m));
		EXPECT_EQ(mote_msg_ref(e->m).id, 0);
		say(l, (char)('A' + state));
	} else if (e->type == MOTE_STATEM_CALL) {
		mote_reply(e->from, 1, l->said, strlen(l->said) + 1);
	} else {
		say(l, (char)e->m->type);
	}
}

MOTE_STATEM(busy, struct log, .flags = MOTE_STATEM_STATE_ENTER, .initial = FIRST, .init = busy_init,
	    .handle_event = busy_event);

static void before_any_message(void)
{
	struct mote_msg *m = NULL;
	mote_pid pid;

	EXPECT_EQ(mote_statem_start(&busy.ops, NULL, NULL, &pid), 0);
	EXPECT_EQ(mote_cast(pid, 'c', NULL, 0), 0);
	EXPECT_EQ(mote_send(pid, 'm', NULL, 0), 0);
	EXPECT_EQ(mote_call(pid, 1, NULL, 0, &m, PATIENCE), 0);
	if (m)
		EXPECT(!strcmp(m->data, "iB12tcm"));
	mote_msg_free(m);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);
}

static void starts(void)
{
	struct mote_server_opts named = { .size = sizeof(named), .name = "machine" };
	int err = -ENOTTY, ignore = MOTE_IGNORE;
	struct mote_statem_ops bad = busy.ops;
	mote_pid pid, other;
	mote_ref ref;

	EXPECT_EQ(mote_statem_start(&busy.ops, &err, NULL, &pid), -ENOTTY);
	EXPECT_EQ(mote_statem_start(&busy.ops, &ignore, NULL, &pid), MOTE_IGNORE);
	EXPECT_EQ(mote_statem_start(&busy.ops, NULL, &named, &pid), 0);
	EXPECT(mote_pid_equal(mote_whereis("machine"), pid));
	EXPECT_EQ(mote_statem_start(&busy.ops, NULL, &named, &other), -EEXIST);
	EXPECT(mote_pid_equal(other, pid));
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);

	EXPECT_EQ(mote_statem_start_monitor(&busy.ops, NULL, NULL, &pid, &ref), 0);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT_EQ(mote_statem_start_monitor(&busy.ops, NULL, NULL, &pid, NULL), -EINVAL);

	mote_trap_exit(true);
	EXPECT_EQ(mote_statem_start_link(&busy.ops, NULL, NULL, &pid), 0);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_exit(pid, MOTE_KILLED));
	mote_trap_exit(false);

	EXPECT_EQ(mote_statem_start(NULL, NULL, NULL, &pid), -EINVAL);
	bad.initial = -1;
	EXPECT_EQ(mote_statem_start(&bad, NULL, NULL, &pid), -EINVAL);
	bad = busy.ops;
	bad.flags = 2;
	EXPECT_EQ(mote_statem_start(&bad, NULL, NULL, &pid), -EINVAL);
	bad = busy.ops;
	bad.reserved = 1;
	EXPECT_EQ(mote_statem_start(&bad, NULL, NULL, &pid), -EINVAL);
	bad = busy.ops;
	bad.nr_states = 1;
	EXPECT_EQ(mote_statem_start(&bad, NULL, NULL, &pid), -EINVAL);
	bad = player_table;
	bad.initial = 4;
	EXPECT_EQ(mote_statem_start(&bad, NULL, NULL, &pid), -EINVAL);
	EXPECT(mailbox_is_empty());
}

/* --- a table with checked types, in which one state has no function --- */

struct door {
	int coins, pushes;
};

enum { COIN = 1, PUSH, ASK };

static void locked(struct door *d, const struct mote_statem_event *e)
{
	if (e->type == MOTE_STATEM_CAST && e->m->type == COIN) {
		d->coins++;
		mote_statem_next_state(SECOND);
	} else if (e->type == MOTE_STATEM_CAST && e->m->type == PUSH) {
		mote_statem_postpone();
	}
}

static void opened(struct door *d, const struct mote_statem_event *e)
{
	if (e->type == MOTE_STATEM_CAST && e->m->type == PUSH) {
		d->pushes++;
		mote_statem_next_state(THIRD);
	}
}

static void elsewhere(struct door *d, int state, const struct mote_statem_event *e)
{
	EXPECT_EQ(state, THIRD);
	EXPECT_EQ(d->pushes, 1);
	if (e->type == MOTE_STATEM_CALL)
		mote_reply(e->from, e->m->type, d, sizeof(*d));
}

static int door_text(const struct door *d, int state, char *buf, size_t size)
{
	return snprintf(buf, size, "%d coins in %d", d->coins, state);
}

MOTE_STATES(door_states, struct door,
	    [FIRST] = { "locked", locked }, [SECOND] = { "open", opened }, [THIRD] = { "elsewhere", NULL });
MOTE_STATEM(door, struct door, MOTE_STATES_OF(door_states), .handle_event = elsewhere, .format_status = door_text);

static void mixed_table(void)
{
	struct mote_statem_ops bare = door.ops;
	struct mote_msg *m = NULL;
	mote_pid pid;
	mote_ref ref;

	EXPECT_EQ(mote_statem_start(&door.ops, NULL, NULL, &pid), 0);
	mote_cast(pid, PUSH, NULL, 0);
	mote_cast(pid, COIN, NULL, 0);
	EXPECT_EQ(mote_call(pid, ASK, NULL, 0, &m, PATIENCE), 0);
	if (m)
		EXPECT_EQ(((struct door *)m->data)->coins, 1);
	mote_msg_free(m);
	m = NULL;
	EXPECT_EQ(mote_sys_get_status(pid, &m, PATIENCE), 0);
	EXPECT(m && strstr(m->data, "state elsewhere: 1 coins in 2"));
	mote_msg_free(m);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);

	bare.handle_event = NULL;
	EXPECT_EQ(mote_statem_start_monitor(&bare, NULL, NULL, &pid, &ref), 0);
	mote_cast(pid, PUSH, NULL, 0);
	mote_cast(pid, COIN, NULL, 0);
	EXPECT(mote_alive(pid));
	mote_cast(pid, COIN, NULL, 0);
	m = mote_receive_ref(ref, PATIENCE);
	if (EXPECT(is_down(m, ref, pid, MOTE_ERROR)))
		EXPECT_EQ(mote_msg_down(m)->reason.code, ENOSYS);
	mote_msg_free(m);
}

int main(void)
{
	selftest_process("events come in the order of gen_statem, with a function per state", as_erlang_by_table);
	selftest_process("the same with one function for all", as_erlang_by_function);
	selftest_process("the same without state enter calls", as_erlang_without_enter);
	selftest_process_opts("what init asks for comes before any message", before_any_message, SCHEDULERS(2));
	selftest_process_opts("starts as servers do", starts, SCHEDULERS(2));
	selftest_process("a table with checked types, and a state without a function", mixed_table);
	return selftest_done();
}
