/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * model.h: the law of docs/processes.md as a machine that searches every order of events which it allows, and
 * collects the outcomes. What it knows of order is only this: the signals of one process to another arrive in the
 * order sent.
 *
 * A step of a process is one event, so is the arrival of a signal, a timer that fires, a deadline that passes. Time
 * does not exist: a timer may fire, and a deadline (wait, call) pass, at any moment. Only when nothing else can
 * happen the first process that waits in recv is given its tick.
 *
 * Where mote and Erlang differ, `mote` says whose law it is. A process of mote that is to end is still there for a
 * while: whoever links to it, monitors it or calls it meanwhile learns its reason; one of Erlang's is gone at once,
 * and they learn noproc. And mote may end a call of a circle of calls.
 *
 * An event that no other one can hinder, and that hinders none, is taken at once and alone ("safe" below): the
 * outcomes are the same, with far fewer orders to look at.
 */
#ifndef CONFORMANCE_MODEL_H
#define CONFORMANCE_MODEL_H

#include "outcome.h"

#define MAX_FLYING	48
#define MAX_MAIL	16
#define IN_CIRCLE	2
#define SHUTTING	3
#define SHUT_KILLED	4

enum signal_kind {
	S_MESSAGE,	/* a: the step that sent it */
	S_ALIAS,	/* a: likewise, b: the step that made the alias */
	S_REPLY,	/* a: likewise, b: the call */
	S_REQUEST,	/* a: the call */
	S_TASK,		/* the answer of a task; a: the step that made it */
	S_LINK, S_UNLINK, S_ACK,	/* a: which unlink */
	S_EXIT_LINK, S_EXIT,		/* a: reason; b: of S_EXIT: to oneself, trapping exits */
	S_MONITOR,	/* a: the step that made it */
	S_DOWN,		/* a: likewise, b: reason */
};

struct flying {
	uint8_t from, to, kind, a, b;
	uint8_t last_words;	/* of the dead: these have no order among them */
};

enum life { UNBORN, ALIVE, ENDING, NAMELESS, DEAD };

struct proc {
	uint8_t life, end, pc, trap;
	/* Waits for the answer to its step pc; IN_CIRCLE: and may be told so; SHUTTING, SHUT_KILLED: a task's end. */
	uint8_t calling;
	uint8_t fresh;		/* 1 + the step that others saw the effect of, but whose result may not be noted yet */
	uint8_t armed, fired;	/* timers: bits of the steps that made them */
	uint8_t monitors, aliases;
	uint8_t nr_mail, asked;	/* asked: whether `last` is there */
	uint8_t link[MAX_PROCS];	/* 0: none; 1: active; else 1 + which unlink is under way */
	uint8_t unlinks[MAX_PROCS];
	uint8_t watched[MAX_PROCS];	/* by whom, with which monitors */
	uint8_t done;		/* of a task: it has answered */
	/* Tasks, bits of the steps that made them: have answered, have failed; nobody is to ask any more. */
	uint8_t answered, failed, settled, pad;
	uint16_t last;		/* the request or ask that `answer` answers */
	uint16_t mail[MAX_MAIL];
	uint16_t seen[MAX_STEPS];
};

struct state {
	struct proc procs[MAX_PROCS];
	uint8_t owner[2];	/* of the names, NOBODY: none */
	uint8_t nr_flying, pad;
	struct flying flying[MAX_FLYING];	/* sorted by pair, each pair's in order */
};

struct model {
	const struct scenario *sc;
	unsigned int limit;		/* of states */
	bool mote, too_big;
	/* Bits of whom a process may yet signal or link to, from a step on. */
	uint8_t threats[MAX_PROCS][MAX_STEPS + 1];
	struct outcome *outcomes;
	unsigned int nr_outcomes, max_outcomes, nr_states, max_states;
	uint64_t *table;		/* of states seen: two words of hash each */
};

static inline uint64_t hash_bytes(const void *data, size_t size, uint64_t h)
{
	const char *bytes = data;
	uint64_t word;

	for (; size; size -= size < 8 ? size : 8, bytes += 8) {
		word = 0;
		memcpy(&word, bytes, size < 8 ? size : 8);
		h = (h ^ word) * UINT64_C(0x9fb21c651e98df25);
		h ^= h >> 29;
	}
	return h ^ h >> 32;
}

static inline void table_grow(struct model *m)
{
	uint64_t *old = m->table;
	unsigned int n = m->max_states;

	m->max_states = n ? 4 * n : 4096;
	m->table = calloc(m->max_states, 16);
	if (!m->table)
		abort();
	for (unsigned int i = 0; i < n; i++) {
		if (!old[2 * i])
			continue;
		for (unsigned int at = old[2 * i];; at++) {
			uint64_t *slot = &m->table[2 * (at & (m->max_states - 1))];

			if (!slot[0]) {
				memcpy(slot, &old[2 * i], 16);
				break;
			}
		}
	}
	free(old);
}

/* False: it was there. */
static inline bool state_note(struct model *m, const struct state *st)
{
	size_t size = offsetof(struct state, flying) + st->nr_flying * sizeof(st->flying[0]);
	uint64_t key[2] = { hash_bytes(st, size, 1) | 1, hash_bytes(st, size, UINT64_C(0x1234567)) };

	if (2 * m->nr_states >= m->max_states)
		table_grow(m);
	for (unsigned int at = key[0];; at++) {
		uint64_t *slot = &m->table[2 * (at & (m->max_states - 1))];

		if (slot[0] == key[0] && slot[1] == key[1])
			return false;
		if (!slot[0]) {
			memcpy(slot, key, 16);
			m->nr_states++;
			return true;
		}
	}
}

static inline void fly(struct model *m, struct state *st, struct flying f)
{
	int at = 0;

	if (st->nr_flying == MAX_FLYING) {
		m->too_big = true;
		return;
	}
	while (at < st->nr_flying && (st->flying[at].from < f.from ||
				      (st->flying[at].from == f.from && st->flying[at].to <= f.to)))
		at++;
	memmove(&st->flying[at + 1], &st->flying[at], (st->nr_flying - at) * sizeof(f));
	st->flying[at] = f;
	st->nr_flying++;
}

static inline void signal_send(struct model *m, struct state *st, int from, int to, int kind, int a, int b)
{
	fly(m, st, (struct flying){ .from = from, .to = to, .kind = kind, .a = a, .b = b });
}

static inline void mail_add(struct model *m, struct proc *p, uint16_t code)
{
	if (p->nr_mail == MAX_MAIL)
		m->too_big = true;
	else
		p->mail[p->nr_mail++] = code;
}

static inline void mail_take(struct proc *p, int at)
{
	memmove(&p->mail[at], &p->mail[at + 1], (MAX_MAIL - 1 - at) * sizeof(p->mail[0]));
	p->mail[MAX_MAIL - 1] = 0;
	p->nr_mail--;
}

static inline void names_release(struct state *st, int i)
{
	for (int n = 0; n < 2; n++) {
		if (st->owner[n] == i)
			st->owner[n] = NOBODY;
	}
}

/* Tells all who are to know: these last words have no order among them. */
static inline void bury(struct model *m, struct state *st, int i)
{
	struct proc *p = &st->procs[i], old = *p;

	names_release(st, i);
	p->life = DEAD;
	memset(p->link, 0, sizeof(p->link));
	memset(p->unlinks, 0, sizeof(p->unlinks));
	memset(p->watched, 0, sizeof(p->watched));
	for (int j = 0; j < m->sc->nr_procs; j++) {
		if (old.link[j] == 1)
			fly(m, st, (struct flying){ i, j, S_EXIT_LINK, old.end, 0, 1 });
		for (int k = 0; k < MAX_STEPS; k++) {
			if (old.watched[j] & 1 << k)
				fly(m, st, (struct flying){ i, j, S_DOWN, k, old.end, 1 });
		}
	}
}

static inline void die(struct model *m, struct state *st, int i, int reason)
{
	struct proc *p = &st->procs[i], old = *p;

	memset(p, 0, sizeof(*p));
	p->life = ENDING;
	p->end = reason;
	memcpy(p->link, old.link, sizeof(p->link));
	memcpy(p->unlinks, old.unlinks, sizeof(p->unlinks));
	memcpy(p->watched, old.watched, sizeof(p->watched));
	memcpy(p->seen, old.seen, sizeof(p->seen));
	/* Its timers for others go on. */
	for (int k = 0; k < MAX_STEPS; k++) {
		if (m->sc->steps[i][k].op == OP_TIMER && m->sc->steps[i][k].who != i)
			p->armed |= old.armed & 1 << k;
	}
	p->fired = old.fired;
	if (!m->mote)
		bury(m, st, i);
}

/*
 * The table of exit signals. `lenient`: to oneself, while one trapped exits: normal does not end one then (Erlang's way,
 * seen when it comes after the end of the trapping; in mote it never does).
 */
static inline void exit_act(struct model *m, struct state *st, int from, int to, int reason, bool link,
			    bool lenient)
{
	struct proc *p = &st->procs[to];

	if (!link && reason == R_KILL)
		die(m, st, to, R_KILLED);
	else if (p->trap)
		mail_add(m, p, SEEN(SEEN_EXIT, from, reason));
	else if (reason != R_NORMAL || (!link && from == to && !lenient))
		die(m, st, to, reason);
}

/* What the dead answer has no order either, nor any with their last words. */
static inline void arrive_dead(struct model *m, struct state *st, struct flying f)
{
	switch (f.kind) {
	case S_LINK:
		fly(m, st, (struct flying){ f.to, f.from, S_EXIT_LINK, R_NOPROC, 0, 1 });
		break;
	case S_UNLINK:
		fly(m, st, (struct flying){ f.to, f.from, S_ACK, f.a, 0, 1 });
		break;
	case S_MONITOR: case S_REQUEST:
		fly(m, st, (struct flying){ f.to, f.from, S_DOWN, f.a, R_NOPROC, 1 });
		break;
	}
}

/* An exit signal right behind may end the process before it has noted that. */
static inline void call_over(struct proc *p, uint16_t seen)
{
	p->seen[p->pc++] = seen;
	p->fresh = p->pc;
	p->calling = 0;
}

/* What became of the task that step k made; who shuts it down waits for that. */
static inline void task_told(struct model *m, struct state *st, int i, int k, bool answered)
{
	const struct step *s = m->sc->steps[i];
	struct proc *p = &st->procs[i];

	p->monitors &= ~(1 << k);
	if (p->calling >= SHUTTING && s[p->pc].slot == s[k].slot) {
		p->settled |= 1 << k;
		call_over(p, SEEN(answered ? SEEN_YES : SEEN_NO, 0, 0));
	} else if (answered) {
		p->answered |= 1 << k;
	} else {
		p->failed |= 1 << k;
	}
}

static inline void arrive(struct model *m, struct state *st, int at)
{
	struct flying f = st->flying[at];
	struct proc *p = &st->procs[f.to];
	int active;

	memmove(&st->flying[at], &st->flying[at + 1], (--st->nr_flying - at) * sizeof(f));
	if (p->life == DEAD) {
		arrive_dead(m, st, f);
		return;
	}
	/* Where there is nobody any more who could take a message, edges still count. */
	if (p->life != ALIVE && (f.kind < S_REQUEST || f.kind == S_TASK || f.kind == S_EXIT || f.kind == S_DOWN))
		return;
	switch (f.kind) {
	case S_REQUEST:
		p->watched[f.from] |= 1 << f.a;
		/* fall through */
	case S_MESSAGE:
		if (p->life == ALIVE)
			mail_add(m, p, SEEN(SEEN_MESSAGE, f.from, f.a));
		break;
	case S_ALIAS:
		if (!(p->aliases & 1 << f.b))
			break;
		if (m->sc->steps[f.to][f.b].op == OP_ALIAS_ONCE)
			p->aliases &= ~(1 << f.b);
		mail_add(m, p, SEEN(SEEN_MESSAGE, f.from, f.a));
		break;
	case S_REPLY:
		if (p->calling && p->calling < SHUTTING && p->pc == f.b)
			call_over(p, SEEN(SEEN_MESSAGE, f.from, f.a));
		break;
	case S_TASK:
		if (p->monitors & 1 << f.a)
			task_told(m, st, f.to, f.a, true);
		break;
	case S_LINK:
		if (!p->link[f.from])
			p->link[f.from] = 1;
		break;
	case S_UNLINK:
		if (p->link[f.from] == 1)
			p->link[f.from] = 0;
		signal_send(m, st, f.to, f.from, S_ACK, f.a, 0);
		break;
	case S_ACK:
		if (p->link[f.from] == 1 + f.a)
			p->link[f.from] = 0;
		break;
	case S_EXIT_LINK:
		active = p->link[f.from] == 1;
		p->link[f.from] = 0;
		if (active && p->life == ALIVE)
			exit_act(m, st, f.from, f.to, f.a, true, false);
		break;
	case S_EXIT:
		exit_act(m, st, f.from, f.to, f.a, false, f.b);
		break;
	case S_MONITOR:
		p->watched[f.from] |= 1 << f.a;
		break;
	case S_DOWN:
		if (m->sc->steps[f.to][f.a].op == OP_CALL) {
			if (p->calling && p->pc == f.a)
				call_over(p, SEEN(f.b == R_NOPROC ? SEEN_NOPROC : SEEN_GONE, 0, 0));
		} else if (m->sc->steps[f.to][f.a].op == OP_TASK) {
			if (p->monitors & 1 << f.a)
				task_told(m, st, f.to, f.a, false);
		} else if (p->monitors & 1 << f.a) {
			p->monitors &= ~(1 << f.a);
			mail_add(m, p, SEEN(SEEN_DOWN, m->sc->steps[f.to][f.a].slot, f.b));
		}
		break;
	}
}

/* Whether i waits for one that has its request unread, and waits for one that has, and so on, up to i. */
static inline bool in_circle(const struct model *m, const struct state *st, int i)
{
	int at = i, to, n;

	for (n = 0; n < MAX_PROCS; n++) {
		const struct proc *p = &st->procs[at];

		if (p->life != ALIVE || !p->calling || p->calling >= SHUTTING)
			return false;
		to = m->sc->steps[at][p->pc].who;
		for (int k = 0; k < st->procs[to].nr_mail; k++) {
			if (st->procs[to].mail[k] == SEEN(SEEN_MESSAGE, at, p->pc))
				goto found;
		}
		return false;
found:
		at = to;
		if (at == i)
			return true;
	}
	return false;
}

/* Where the first message is that a step wants; -1: there is none. */
static inline int mail_find(const struct proc *p, const struct step *s)
{
	for (int at = 0; at < p->nr_mail; at++) {
		int kind = SEEN_KIND(p->mail[at]), a = SEEN_A(p->mail[at]);

		switch (s->pattern) {
		case Q_ANY:
			return at;
		case Q_MSG: case Q_FROM:
			if (kind == SEEN_MESSAGE && (s->pattern == Q_MSG || a == s->who))
				return at;
			break;
		case Q_EXIT:
			if (kind == SEEN_EXIT)
				return at;
			break;
		case Q_DOWN: case Q_REF:
			if (kind == SEEN_DOWN && (s->pattern == Q_DOWN || a == s->slot))
				return at;
			break;
		}
	}
	return -1;
}

static inline void receive(struct model *m, struct proc *p, int at)
{
	uint16_t code = p->mail[at];

	if (SEEN_KIND(code) == SEEN_MESSAGE) {
		int op = m->sc->steps[SEEN_A(code)][SEEN_B(code)].op;

		if (op == OP_ASK || op == OP_CALL) {
			p->asked = 1;
			p->last = code;
		}
	}
	mail_take(p, at);
	p->seen[p->pc++] = code;
}

static inline void answer(struct model *m, struct state *st, int i, int k)
{
	struct proc *p = &st->procs[i];
	int asker = SEEN_A(p->last), step = SEEN_B(p->last);
	const struct step *s = &m->sc->steps[asker][step];

	if (!p->asked)
		return;
	if (s->op == OP_CALL) {
		signal_send(m, st, i, asker, S_REPLY, k, step);
		/* Once is enough. */
		p->asked = 0;
		p->last = 0;
	} else {
		signal_send(m, st, i, asker, S_ALIAS, k, slot_maker(m->sc, asker, s->slot));
	}
}

static inline void born(struct state *st, int parent, int child, bool link)
{
	st->procs[child].life = ALIVE;
	if (link) {
		st->procs[parent].link[child] = 1;
		st->procs[child].link[parent] = 1;
	}
}

static inline void link_to(struct model *m, struct state *st, int i, int to)
{
	if (st->procs[i].link[to] == 1)
		return;
	st->procs[i].link[to] = 1;
	signal_send(m, st, i, to, S_LINK, 0, 0);
}

static inline void unlink_from(struct model *m, struct state *st, int i, int to)
{
	struct proc *p = &st->procs[i];

	if (p->link[to] != 1)
		return;
	p->link[to] = 1 + ++p->unlinks[to];
	signal_send(m, st, i, to, S_UNLINK, p->unlinks[to], 0);
}

static inline void flush(struct proc *p, int slot)
{
	for (int at = 0; at < p->nr_mail; at++) {
		if (SEEN_KIND(p->mail[at]) == SEEN_DOWN && SEEN_A(p->mail[at]) == slot) {
			mail_take(p, at);
			return;
		}
	}
}

/* What others may see the effect of: the process may be ended before it has noted what it saw. */
static inline void saw(struct proc *p, int k, int kind, int a)
{
	p->seen[k] = SEEN(kind, a, 0);
	p->fresh = 1 + k;
}

/* What is known of a task already; nobody is to ask for it again. */
static inline int task_end(struct proc *p, int k)
{
	int bit = 1 << k, seen = p->settled & bit ? SEEN_NONE : p->answered & bit ? SEEN_YES : SEEN_NO;

	p->settled |= bit;
	return seen;
}

static inline void task_ask(struct model *m, struct state *st, int i, int k, bool give_up)
{
	struct proc *p = &st->procs[i];
	int bit = 1 << k, task = m->sc->steps[i][k].who;

	if ((p->settled | p->answered | p->failed) & bit) {
		int seen = task_end(p, k);

		saw(p, p->pc - 1, seen == SEEN_NO ? SEEN_GONE : seen, 0);
		return;
	}
	saw(p, p->pc - 1, SEEN_LATE, 0);
	if (!give_up)
		return;
	p->settled |= bit;
	p->monitors &= ~bit;
	unlink_from(m, st, i, task);
	signal_send(m, st, i, task, S_EXIT, R_TIMEOUT, 0);
}

/* True: its end has to be waited for. */
static inline bool task_shut(struct model *m, struct state *st, int i, int k)
{
	struct proc *p = &st->procs[i];
	int task = m->sc->steps[i][k].who;

	if (p->settled & 1 << k)
		return false;
	unlink_from(m, st, i, task);
	signal_send(m, st, i, task, S_EXIT, R_SHUTDOWN, 0);
	if ((p->answered | p->failed) & 1 << k)
		return false;
	p->calling = SHUTTING;
	return true;
}

/* Takes the process's next step, which can be taken. */
static inline void step_take(struct model *m, struct state *st, int i)
{
	const struct scenario *sc = m->sc;
	struct proc *p = &st->procs[i];
	int k = p->pc, at, maker;
	const struct step *s = &sc->steps[i][k];

	p->fresh = 0;
	if (k == sc->len[i]) {
		if (is_task(sc, i) && !p->done) {
			maker = spawner_of(sc, i, &at);
			p->done = 1;
			signal_send(m, st, i, maker, S_TASK, at, 0);
		} else {
			die(m, st, i, R_NORMAL);
		}
		return;
	}
	if (op_receives(s->op)) {
		at = mail_find(p, s);
		if (at >= 0)
			receive(m, p, at);
		else
			p->seen[p->pc++] = SEEN(SEEN_NONE, 0, 0);
		return;
	}
	if (s->op == OP_CALL) {
		p->calling = 1;
		signal_send(m, st, i, s->who, S_REQUEST, k, 0);
		return;
	}
	maker = slot_maker(sc, i, s->slot);
	if (s->op == OP_SHUTDOWN && task_shut(m, st, i, maker))
		return;
	p->pc++;
	switch (s->op) {
	case OP_SPAWN: case OP_SPAWN_LINK: case OP_SPAWN_MONITOR: case OP_TASK:
		born(st, i, s->who, s->op == OP_SPAWN_LINK || s->op == OP_TASK);
		if (s->op == OP_SPAWN_MONITOR || s->op == OP_TASK) {
			p->monitors |= 1 << k;
			st->procs[s->who].watched[i] |= 1 << k;
		}
		break;
	case OP_AWAIT: case OP_YIELD:
		task_ask(m, st, i, maker, s->op == OP_AWAIT);
		break;
	case OP_SHUTDOWN:
		saw(p, k, task_end(p, maker), 0);
		break;
	case OP_SEND: case OP_ASK:
		signal_send(m, st, i, s->who, S_MESSAGE, k, 0);
		break;
	case OP_SEND_NAME:
		saw(p, k, st->owner[s->name] == NOBODY ? SEEN_NO : SEEN_YES, 0);
		if (st->owner[s->name] != NOBODY)
			signal_send(m, st, i, st->owner[s->name], S_MESSAGE, k, 0);
		break;
	case OP_ANSWER:
		answer(m, st, i, k);
		break;
	case OP_LINK:
		link_to(m, st, i, s->who);
		break;
	case OP_UNLINK:
		unlink_from(m, st, i, s->who);
		break;
	case OP_MONITOR:
		p->monitors |= 1 << k;
		signal_send(m, st, i, s->who, S_MONITOR, k, 0);
		break;
	case OP_MONITOR_NAME:
		/* Of oneself there is none in Erlang; in mote there is one, which never fires. */
		if (st->owner[s->name] != i || m->mote)
			p->monitors |= 1 << k;
		if (st->owner[s->name] == NOBODY)
			signal_send(m, st, i, i, S_DOWN, k, R_NOPROC);
		else if (st->owner[s->name] != i)
			signal_send(m, st, i, st->owner[s->name], S_MONITOR, k, 0);
		break;
	case OP_DEMONITOR: case OP_FLUSH:
		p->seen[k] = SEEN(p->monitors & 1 << maker ? SEEN_YES : SEEN_NO, 0, 0);
		p->monitors &= ~(1 << maker);
		if (s->op == OP_FLUSH)
			flush(p, s->slot);
		break;
	case OP_ALIAS: case OP_ALIAS_ONCE:
		p->aliases |= 1 << k;
		break;
	case OP_UNALIAS:
		p->seen[k] = SEEN(p->aliases & 1 << maker ? SEEN_YES : SEEN_NO, 0, 0);
		p->aliases &= ~(1 << maker);
		break;
	case OP_TRAP: case OP_UNTRAP:
		p->trap = s->op == OP_TRAP;
		break;
	case OP_EXIT:
		die(m, st, i, s->reason);
		break;
	case OP_CRASH:
		die(m, st, i, R_CRASH);
		break;
	case OP_SIGNAL:
		signal_send(m, st, i, s->who, S_EXIT, s->reason, s->who == i && p->trap);
		break;
	case OP_REGISTER:
		if (st->owner[s->name] == NOBODY &&
		    (st->procs[s->who].life == ALIVE || st->procs[s->who].life == ENDING)) {
			st->owner[s->name] = s->who;
			saw(p, k, SEEN_YES, 0);
		} else {
			saw(p, k, SEEN_NO, 0);
		}
		break;
	case OP_UNREGISTER:
		saw(p, k, st->owner[s->name] == NOBODY ? SEEN_NO : SEEN_YES, 0);
		st->owner[s->name] = NOBODY;
		break;
	case OP_WHEREIS:
		at = st->owner[s->name];
		p->seen[k] = at == NOBODY ? SEEN(SEEN_NONE, 0, 0) : SEEN(SEEN_PROCESS, at, 0);
		break;
	case OP_TIMER:
		p->armed |= 1 << k;
		break;
	case OP_CANCEL:
		saw(p, k, p->armed & 1 << maker ? SEEN_YES : SEEN_NO, 0);
		p->armed &= ~(1 << maker);
		break;
	}
}

/* Whether nothing can end the process from outside, as far as one can see. */
static inline bool proc_safe(const struct model *m, const struct state *st, int i)
{
	for (int j = 0; j < m->sc->nr_procs; j++) {
		const struct proc *q = &st->procs[j];

		if (st->procs[i].link[j] || q->link[i])
			return false;
		if (j != i && (q->life == UNBORN || q->life == ALIVE) && m->threats[j][q->pc] & 1 << i)
			return false;
	}
	for (int at = 0; at < st->nr_flying; at++) {
		const struct flying *f = &st->flying[at];

		if (f->kind >= S_LINK && f->kind <= S_EXIT && (f->to == i || f->from == i))
			return false;
	}
	return true;
}

/* Whether the next step commutes with whatever others do, and cannot be prevented. */
static inline bool step_safe(const struct model *m, const struct state *st, int i)
{
	const struct proc *p = &st->procs[i];
	const struct step *s = &m->sc->steps[i][p->pc];

	if (p->life != ALIVE || p->calling || p->pc == m->sc->len[i])
		return false;
	switch (s->op) {
	case OP_SEND: case OP_ASK: case OP_SIGNAL: case OP_TIMER:
		return s->who != i && proc_safe(m, st, i);
	case OP_RECV:
		return mail_find(p, s) >= 0 && proc_safe(m, st, i);
	case OP_SPAWN: case OP_SPAWN_LINK: case OP_SPAWN_MONITOR: case OP_TASK: case OP_MONITOR: case OP_LINK:
	case OP_CALL: case OP_ANSWER: case OP_ALIAS: case OP_ALIAS_ONCE: case OP_TRAP: case OP_UNTRAP:
		return proc_safe(m, st, i);
	}
	return false;
}

static inline bool safe_take(struct model *m, struct state *st)
{
	for (int at = 0; at < st->nr_flying; at++) {
		const struct flying *f = &st->flying[at];

		/* The dead answer, or not, the same at any time. */
		if (st->procs[f->to].life == DEAD && (!at || f[-1].from != f->from || f[-1].to != f->to)) {
			arrive(m, st, at);
			return true;
		}
	}
	for (int i = 0; i < m->sc->nr_procs; i++) {
		if (step_safe(m, st, i)) {
			step_take(m, st, i);
			return true;
		}
	}
	return false;
}

static inline void outcome_note(struct model *m, const struct state *st)
{
	struct outcome o;

	memset(&o, 0, sizeof(o));
	for (int i = 0; i < m->sc->nr_procs; i++) {
		o.end[i] = st->procs[i].life == UNBORN ? END_UNKNOWN : st->procs[i].end;
		memcpy(o.seen[i], st->procs[i].seen, sizeof(o.seen[i]));
	}
	for (unsigned int i = 0; i < m->nr_outcomes; i++) {
		if (!memcmp(&m->outcomes[i], &o, sizeof(o)))
			return;
	}
	if (m->nr_outcomes == m->max_outcomes) {
		m->max_outcomes = m->max_outcomes ? 2 * m->max_outcomes : 16;
		m->outcomes = realloc(m->outcomes, m->max_outcomes * sizeof(o));
		if (!m->outcomes)
			abort();
	}
	m->outcomes[m->nr_outcomes++] = o;
}

static inline void explore(struct model *m, struct state *st);

static inline void explore_arrival(struct model *m, const struct state *st, int at)
{
	const struct flying *f = &st->flying[at];
	const struct proc *p = &st->procs[f->to];
	struct state next = *st;

	arrive(m, &next, at);
	explore(m, &next);
	if (p->life == ALIVE && next.procs[f->to].life != ALIVE && p->fresh) {
		next = *st;
		next.procs[f->to].seen[p->fresh - 1] = 0;
		arrive(m, &next, at);
		explore(m, &next);
	}
}

static inline bool explore_arrivals(struct model *m, const struct state *st)
{
	for (int at = 0; at < st->nr_flying; at++) {
		const struct flying *f = &st->flying[at];
		bool first = !at || f[-1].from != f->from || f[-1].to != f->to;

		/* Or with nothing but last words before it. */
		for (int b = at; !first && f->last_words && st->flying[b].last_words; b--)
			first = !b || st->flying[b - 1].from != f->from || st->flying[b - 1].to != f->to;
		if (first)
			explore_arrival(m, st, at);
	}
	return st->nr_flying > 0;
}

static inline bool explore_steps(struct model *m, const struct state *st, int i)
{
	const struct proc *p = &st->procs[i];
	const struct step *s = &m->sc->steps[i][p->pc];
	struct state next;

	if (p->life == ENDING || p->life == NAMELESS) {
		next = *st;
		if (p->life == ENDING) {
			names_release(&next, i);
			next.procs[i].life = NAMELESS;
		} else {
			bury(m, &next, i);
		}
		explore(m, &next);
		return true;
	}
	if (p->life != ALIVE)
		return false;
	if (p->calling >= SHUTTING) {
		if (p->calling == SHUT_KILLED)
			return false;
		next = *st;
		next.procs[i].calling = SHUT_KILLED;
		signal_send(m, &next, i, m->sc->steps[i][slot_maker(m->sc, i, s->slot)].who, S_EXIT, R_KILL, 0);
		explore(m, &next);
		return true;
	}
	if (p->calling) {
		next = *st;
		call_over(&next.procs[i], SEEN(SEEN_LATE, 0, 0));
		explore(m, &next);
		/* Several may find the same circle, each before the others have left it. */
		if (m->mote && (p->calling == IN_CIRCLE || in_circle(m, st, i))) {
			next = *st;
			if (p->calling == IN_CIRCLE)
				call_over(&next.procs[i], SEEN(SEEN_CYCLE, 0, 0));
			else
				next.procs[i].calling = IN_CIRCLE;
			explore(m, &next);
		}
		return true;
	}
	if (p->pc < m->sc->len[i] && s->op == OP_RECV && mail_find(p, s) < 0)
		return false;
	next = *st;
	step_take(m, &next, i);
	explore(m, &next);
	/* Erlang's link/1 says noproc at once, though there may be a link, whose exit signal is on its way. */
	if (!m->mote && p->pc < m->sc->len[i] && s->op == OP_LINK && p->link[s->who] == 1 &&
	    st->procs[s->who].life == DEAD) {
		next = *st;
		step_take(m, &next, i);
		fly(m, &next, (struct flying){ s->who, i, S_EXIT, R_NOPROC, 0, 1 });
		explore(m, &next);
	}
	return true;
}

/* Whether somebody may still look whether the timer has fired. */
static inline bool timer_cancelled(const struct model *m, const struct state *st, int i, int k)
{
	const struct proc *p = &st->procs[i];

	for (int n = p->pc; p->life == ALIVE && n < m->sc->len[i]; n++) {
		if (m->sc->steps[i][n].op == OP_CANCEL && m->sc->steps[i][n].slot == m->sc->steps[i][k].slot)
			return true;
	}
	return false;
}

static inline bool explore_timers(struct model *m, const struct state *st, int i)
{
	bool any = false;

	for (int k = 0; k < MAX_STEPS; k++) {
		int bit = 1 << k, who = m->sc->steps[i][k].who;
		struct state next = *st;
		struct proc *p = &next.procs[i];

		if (!((p->armed | p->fired) & bit))
			continue;
		if (p->armed & bit && timer_cancelled(m, st, i, k)) {
			p->fired |= bit;
		} else {
			p->fired &= ~bit;
			if (next.procs[who].life == ALIVE)
				mail_add(m, &next.procs[who], SEEN(SEEN_MESSAGE, i, k));
		}
		p->armed &= ~bit;
		explore(m, &next);
		any = true;
	}
	return any;
}

static inline void explore(struct model *m, struct state *from)
{
	struct state st = *from;
	bool any;

	while (!m->too_big && safe_take(m, &st))
		;
	if (m->too_big || !state_note(m, &st))
		return;
	if (m->nr_states > m->limit) {
		m->too_big = true;
		return;
	}
	any = explore_arrivals(m, &st);
	for (int i = 0; i < m->sc->nr_procs; i++) {
		any |= explore_steps(m, &st, i);
		any |= explore_timers(m, &st, i);
	}
	if (any)
		return;
	for (int i = 0; i < m->sc->nr_procs; i++) {
		struct proc *p = &st.procs[i];

		if (p->life == ALIVE) {
			p->seen[p->pc++] = SEEN(SEEN_TICK, 0, 0);
			explore(m, &st);
			return;
		}
	}
	outcome_note(m, &st);
}

/* False: more states than the limit. The outcomes are the caller's to free. */
static inline bool model_run(const struct scenario *sc, bool mote, unsigned int limit, struct model *m)
{
	struct state st;
	int at;

	*m = (struct model){ .sc = sc, .limit = limit, .mote = mote };
	memset(&st, 0, sizeof(st));
	st.owner[0] = st.owner[1] = NOBODY;
	for (int i = 0; i < sc->nr_procs; i++) {
		if (spawner_of(sc, i, &at) == NOBODY)
			st.procs[i].life = ALIVE;
		for (int k = sc->len[i] - 1; k >= 0; k--) {
			int op = sc->steps[i][k].op;

			m->threats[i][k] = m->threats[i][k + 1];
			if (op == OP_SIGNAL || op == OP_LINK || op == OP_SPAWN_LINK || op == OP_TASK)
				m->threats[i][k] |= 1 << sc->steps[i][k].who;
			if (op == OP_AWAIT || op == OP_SHUTDOWN)
				m->threats[i][k] |= 1 << sc->steps[i][slot_maker(sc, i, sc->steps[i][k].slot)].who;
		}
	}
	explore(m, &st);
	free(m->table);
	m->table = NULL;
	if (m->too_big) {
		free(m->outcomes);
		m->outcomes = NULL;
	}
	return !m->too_big;
}

#endif
