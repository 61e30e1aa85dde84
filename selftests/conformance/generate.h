/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * generate.h: a random scenario from a seed. Each uses a random part of the steps there are, and uses it often: so
 * that those meet that have to do with each other.
 */
#ifndef CONFORMANCE_GENERATE_H
#define CONFORMANCE_GENERATE_H

#include "scenario.h"

struct generator {
	uint64_t dice;
	struct scenario *sc;
	unsigned int weights[NR_OPS];
	uint8_t reasons[4];		/* the few that this scenario uses */
	uint8_t parent[MAX_PROCS];	/* NOBODY: none */
	unsigned int known;		/* to the process in hand, so far: bits */
	unsigned int favourite;		/* whom it mostly deals with: a bit */
	uint8_t nr_slots;
};

static inline unsigned int roll(struct generator *g, unsigned int n)
{
	return chance(&g->dice) % n;
}

/* One of the processes in set; NOBODY: it is empty. */
static inline int pick(struct generator *g, unsigned int set)
{
	int n = __builtin_popcount(set);

	if (!n)
		return NOBODY;
	for (n = roll(g, n); n; n--)
		set &= set - 1;
	return __builtin_ctz(set);
}

/* A slot of process i for that use; -1: it has none. */
static inline int pick_slot(struct generator *g, int i, int op)
{
	unsigned int set = 0;
	int slot;

	for (int k = 0; k < g->sc->len[i]; k++) {
		if (strchr(ops[g->sc->steps[i][k].op].form, 'd') && slot_fits(op, g->sc->steps[i][k].op))
			set |= 1u << g->sc->steps[i][k].slot;
	}
	slot = pick(g, set);
	return slot == NOBODY ? -1 : slot;
}

static inline bool step_fill(struct generator *g, int i, struct step *s)
{
	unsigned int others = g->known & ~(1u << i);
	int slot;

	s->who = pick(g, others & g->favourite && roll(g, 3) ? g->favourite : others);
	switch (s->op) {
	case OP_SEND: case OP_TIMER: case OP_SIGNAL:
		if (!roll(g, 8))
			s->who = i;
		break;
	case OP_REGISTER:
		s->who = pick(g, g->known);
		s->name = s->who % 2;
		break;
	case OP_SEND_NAME: case OP_MONITOR_NAME: case OP_UNREGISTER: case OP_WHEREIS:
		s->who = 0;
		s->name = roll(g, 2);
		break;
	case OP_RECV: case OP_POLL: case OP_WAIT:
		s->pattern = roll(g, 2) ? (int)Q_ANY : (int)roll(g, NR_PATTERNS);
		if (s->pattern == Q_FROM && s->who == NOBODY)
			s->pattern = Q_MSG;
		if (s->pattern != Q_FROM)
			s->who = 0;
		if (s->pattern == Q_REF) {
			slot = pick_slot(g, i, s->op);
			if (slot < 0)
				s->pattern = Q_DOWN;
			else
				s->slot = slot;
		}
		break;
	}
	if (strchr(ops[s->op].form, 'p') && s->who == NOBODY)
		return false;
	if (strchr(ops[s->op].form, 'r'))
		s->reason = g->reasons[roll(g, 4)];
	if (strchr(ops[s->op].form, 's')) {
		slot = pick_slot(g, i, s->op);
		if (slot < 0)
			return false;
		s->slot = slot;
	}
	if (strchr(ops[s->op].form, 'd'))
		s->slot = g->nr_slots++;
	return true;
}

static inline void step_add(struct generator *g, int i)
{
	struct step *s = &g->sc->steps[i][g->sc->len[i]];
	unsigned int sum = 0, at;

	for (int op = 0; op < NR_OPS; op++)
		sum += g->weights[op];
	for (int tries = 0; tries < 20; tries++) {
		memset(s, 0, sizeof(*s));
		for (at = roll(g, sum); at >= g->weights[s->op]; s->op++)
			at -= g->weights[s->op];
		if (step_fill(g, i, s)) {
			g->sc->len[i]++;
			return;
		}
	}
	memset(s, 0, sizeof(*s));
}

static inline void spawn_add(struct generator *g, int i, int child)
{
	struct step *s = &g->sc->steps[i][g->sc->len[i]++];

	*s = (struct step){ .op = OP_SPAWN + roll(g, 3), .who = child };
	if (g->weights[OP_AWAIT] && roll(g, 4))
		s->op = OP_TASK;
	if (strchr(ops[s->op].form, 'd'))
		s->slot = g->nr_slots++;
	g->known |= 1u << child;
}

static inline void proc_fill(struct generator *g, int i, int len)
{
	unsigned int children = 0;
	int child;

	g->nr_slots = 0;
	g->known = knows(g->sc, i, 0);
	for (int j = 0; j < g->sc->nr_procs; j++) {
		if (g->parent[j] == i)
			children |= 1u << j;
		/* Those not spawned yet by anybody look like roots to knows(). */
		if (g->parent[j] != NOBODY && g->parent[j] >= i)
			g->known &= ~(1u << j);
	}
	g->favourite = 1u << roll(g, g->sc->nr_procs);
	len += __builtin_popcount(children);
	if (len > MAX_STEPS)
		len = MAX_STEPS;
	for (int k = 0; k < len; k++) {
		if (children && ((int)roll(g, 3) == 0 || len - k <= __builtin_popcount(children))) {
			child = pick(g, children);
			children &= ~(1u << child);
			spawn_add(g, i, child);
		} else {
			step_add(g, i);
		}
	}
}

/* What goes together: a scenario takes some of these. */
static const uint8_t themes[][8] = {
	{ OP_LINK, OP_UNLINK, OP_LINK, NR_OPS },
	{ OP_MONITOR, OP_DEMONITOR, OP_FLUSH, NR_OPS },
	{ OP_REGISTER, OP_UNREGISTER, OP_WHEREIS, OP_SEND_NAME, OP_MONITOR_NAME, NR_OPS },
	{ OP_ALIAS, OP_ALIAS_ONCE, OP_ASK, OP_ASK, OP_ANSWER, OP_ANSWER, OP_UNALIAS, NR_OPS },
	{ OP_AWAIT, OP_AWAIT, OP_YIELD, OP_SHUTDOWN, OP_SHUTDOWN, NR_OPS },
	{ OP_CALL, OP_CALL, OP_ANSWER, OP_ANSWER, NR_OPS },
	{ OP_TIMER, OP_TIMER, OP_CANCEL, NR_OPS },
	{ OP_SIGNAL, OP_SIGNAL, NR_OPS },
	{ OP_TRAP, OP_TRAP, OP_UNTRAP, NR_OPS },
	{ OP_SEND, OP_SEND, OP_SEND, NR_OPS },
};

static inline void weights_roll(struct generator *g)
{
	unsigned int nr_themes = sizeof(themes) / sizeof(themes[0]);

	g->weights[OP_RECV] = 4;
	g->weights[OP_EXIT] = 1 + roll(g, 2);
	g->weights[OP_POLL] = roll(g, 2);
	g->weights[OP_WAIT] = roll(g, 2);
	g->weights[OP_CRASH] = !roll(g, 4);
	for (unsigned int n = 2 + roll(g, 3); n; n--) {
		const uint8_t *theme = themes[roll(g, nr_themes)];

		for (; *theme < NR_OPS; theme++)
			g->weights[*theme] += 2;
	}
	for (int i = 0; i < 4; i++)
		g->reasons[i] = roll(g, R_CRASH);
	/* Nobody can tell noproc that somebody said from the real one, but killed one can say. */
	for (int i = 0; i < 4; i++) {
		if (g->reasons[i] == R_NOPROC)
			g->reasons[i] = R_KILL;
	}
}

/* size: about how many steps at most. */
static inline void scenario_generate(struct scenario *sc, unsigned int id, uint64_t seed, int size)
{
	struct generator g = { .dice = seed, .sc = sc };
	int steps;

	memset(sc, 0, sizeof(*sc));
	sc->id = id;
	weights_roll(&g);
	sc->nr_procs = size < 4 ? 2 : 2 + (roll(&g, 5) + roll(&g, 4)) / 3;
	if (sc->nr_procs > MAX_PROCS)
		sc->nr_procs = MAX_PROCS;
	steps = 2 + roll(&g, size);
	g.parent[0] = NOBODY;
	for (int i = 1; i < sc->nr_procs; i++)
		g.parent[i] = roll(&g, 3) && !g.weights[OP_AWAIT] ? NOBODY : (int)roll(&g, i);
	for (int i = 0; i < sc->nr_procs; i++) {
		int share = 1 + roll(&g, 2 * steps / sc->nr_procs + 1);

		proc_fill(&g, i, share);
	}
}

#endif
