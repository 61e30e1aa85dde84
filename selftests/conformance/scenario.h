/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * scenario.h: the language of the scenarios, one line a step: "p1 link p0". Each process takes its steps in order;
 * those that nobody spawns are there from the beginning, and know each other. docs/conformance.md lists the steps.
 */
#ifndef CONFORMANCE_SCENARIO_H
#define CONFORMANCE_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PROCS	5
#define MAX_STEPS	8	/* of one process */
#define MAX_SLOTS	8	/* monitors, aliases, timers of one process, together */
#define NOBODY		15

enum op {
	OP_SPAWN, OP_SPAWN_LINK, OP_SPAWN_MONITOR, OP_TASK, OP_AWAIT, OP_YIELD, OP_SHUTDOWN,
	OP_SEND, OP_SEND_NAME, OP_ASK, OP_ANSWER, OP_CALL, OP_RECV, OP_POLL, OP_WAIT,
	OP_LINK, OP_UNLINK, OP_MONITOR, OP_MONITOR_NAME, OP_DEMONITOR, OP_FLUSH, OP_ALIAS, OP_ALIAS_ONCE, OP_UNALIAS,
	OP_TRAP, OP_UNTRAP, OP_EXIT, OP_CRASH, OP_SIGNAL, OP_REGISTER, OP_UNREGISTER, OP_WHEREIS, OP_TIMER, OP_CANCEL,
	NR_OPS
};

/*
 * What follows the word: p a process, s a slot that is used, d a slot that is made, n a name, r a reason, q what to
 * receive.
 */
static const struct { const char *word, *form; } ops[NR_OPS] = {
	[OP_SPAWN] = { "spawn", "p" },		[OP_SPAWN_LINK] = { "spawn_link", "p" },
	[OP_SPAWN_MONITOR] = { "spawn_monitor", "pd" }, [OP_SEND] = { "send", "p" },
	[OP_SEND_NAME] = { "send_name", "n" },	[OP_ASK] = { "ask", "ps" },
	[OP_TASK] = { "task", "pd" },		[OP_AWAIT] = { "await", "s" },
	[OP_YIELD] = { "yield", "s" },		[OP_SHUTDOWN] = { "shutdown", "s" },
	[OP_ANSWER] = { "answer", "" },		[OP_CALL] = { "call", "p" },
	[OP_RECV] = { "recv", "q" },		[OP_POLL] = { "poll", "q" },
	[OP_WAIT] = { "wait", "q" },		[OP_LINK] = { "link", "p" },
	[OP_UNLINK] = { "unlink", "p" },	[OP_MONITOR] = { "monitor", "pd" },
	[OP_MONITOR_NAME] = { "monitor_name", "nd" }, [OP_DEMONITOR] = { "demonitor", "s" },
	[OP_FLUSH] = { "flush", "s" },		[OP_ALIAS] = { "alias", "d" },
	[OP_ALIAS_ONCE] = { "alias_once", "d" }, [OP_UNALIAS] = { "unalias", "s" },
	[OP_TRAP] = { "trap", "" },		[OP_UNTRAP] = { "untrap", "" },
	[OP_EXIT] = { "exit", "r" },		[OP_CRASH] = { "crash", "" },
	[OP_SIGNAL] = { "signal", "pr" },	[OP_REGISTER] = { "register", "np" },
	[OP_UNREGISTER] = { "unregister", "n" }, [OP_WHEREIS] = { "whereis", "n" },
	[OP_TIMER] = { "timer", "pd" },		[OP_CANCEL] = { "cancel", "s" },
};

enum reason {
	R_NORMAL, R_SHUTDOWN, R_DETAIL, R_KILL, R_KILLED, R_NOPROC, R_ERROR, R_CUSTOM, R_CRASH, R_TIMEOUT, NR_REASONS
};

static const char *const reasons[NR_REASONS] = {
	"normal", "shutdown", "detail", "kill", "killed", "noproc", "error", "custom", "crash", "timeout",
};

/* Two, for processes with an even and an odd number: in Erlang a process has at most one. */
static const char *const names[] = { "even", "odd" };

enum pattern { Q_ANY, Q_MSG, Q_EXIT, Q_DOWN, Q_FROM, Q_REF, NR_PATTERNS };

struct step {
	uint8_t op, who, slot, name, reason, pattern;
};

struct scenario {
	unsigned int id;
	uint8_t nr_procs, len[MAX_PROCS];
	struct step steps[MAX_PROCS][MAX_STEPS];
};

static inline bool op_receives(int op)
{
	return op == OP_RECV || op == OP_POLL || op == OP_WAIT;
}

static inline bool op_spawns(int op)
{
	return op <= OP_TASK;
}

/* Which step of process i made a slot; MAX_STEPS: none did. */
static inline int slot_maker(const struct scenario *sc, int i, int slot)
{
	for (int k = 0; k < sc->len[i]; k++) {
		if (strchr(ops[sc->steps[i][k].op].form, 'd') && sc->steps[i][k].slot == slot)
			return k;
	}
	return MAX_STEPS;
}

/* Who spawns it; NOBODY: it is there from the beginning. */
static inline int spawner_of(const struct scenario *sc, int child, int *at)
{
	*at = 0;
	for (int i = 0; i < sc->nr_procs; i++) {
		for (int k = 0; k < sc->len[i]; k++) {
			if (op_spawns(sc->steps[i][k].op) && sc->steps[i][k].who == child) {
				*at = k;
				return i;
			}
		}
	}
	return NOBODY;
}

/* Whether it is spawned as a task. */
static inline bool is_task(const struct scenario *sc, int child)
{
	int at, parent = spawner_of(sc, child, &at);

	return parent != NOBODY && sc->steps[parent][at].op == OP_TASK;
}

/* The processes that i may name at step k: a set of bits. */
static inline unsigned int knows(const struct scenario *sc, int i, int k)
{
	unsigned int set = 1u << i;
	int at, parent = spawner_of(sc, i, &at);

	if (parent != NOBODY)
		set |= knows(sc, parent, at);
	for (int j = 0; parent == NOBODY && j < sc->nr_procs; j++) {
		if (spawner_of(sc, j, &at) == NOBODY)
			set |= 1u << j;
	}
	for (int n = 0; n < k; n++) {
		if (op_spawns(sc->steps[i][n].op))
			set |= 1u << sc->steps[i][n].who;
	}
	return set;
}

static inline bool slot_fits(int op, int maker)
{
	switch (op) {
	case OP_DEMONITOR: case OP_FLUSH: case OP_RECV: case OP_POLL: case OP_WAIT:
		return maker == OP_MONITOR || maker == OP_MONITOR_NAME || maker == OP_SPAWN_MONITOR;
	case OP_ASK: case OP_UNALIAS:
		return maker == OP_ALIAS || maker == OP_ALIAS_ONCE;
	case OP_CANCEL:
		return maker == OP_TIMER;
	case OP_AWAIT: case OP_YIELD: case OP_SHUTDOWN:
		return maker == OP_TASK;
	}
	return false;
}

static inline bool step_valid(const struct scenario *sc, int i, int k)
{
	const struct step *s = &sc->steps[i][k];
	const char *form = ops[s->op].form;
	bool self_fits = s->op == OP_SEND || s->op == OP_SIGNAL || s->op == OP_REGISTER || s->op == OP_TIMER;

	if (op_spawns(s->op)) {
		int at, parent = spawner_of(sc, s->who, &at);

		/* Once, and never a circle. */
		if (parent != i || at != k || s->who <= i)
			return false;
	} else if (strchr(form, 'p') || (*form == 'q' && s->pattern == Q_FROM)) {
		if (!(knows(sc, i, k) & 1u << s->who) || (s->who == i && !self_fits && *form != 'q'))
			return false;
	}
	if (s->op == OP_REGISTER && s->name != s->who % 2)
		return false;
	if (strchr(form, 'd'))
		return slot_maker(sc, i, s->slot) == k;
	if (strchr(form, 's') || (*form == 'q' && s->pattern == Q_REF)) {
		int maker = slot_maker(sc, i, s->slot);

		return maker < k && slot_fits(s->op, sc->steps[i][maker].op);
	}
	return true;
}

static inline bool scenario_valid(const struct scenario *sc)
{
	for (int i = 0; i < sc->nr_procs; i++) {
		for (int k = 0; k < sc->len[i]; k++) {
			if (!step_valid(sc, i, k))
				return false;
		}
	}
	return sc->nr_procs > 0;
}

static inline void step_print(FILE *f, int i, const struct step *s)
{
	fprintf(f, "p%d %s", i, ops[s->op].word);
	for (const char *form = ops[s->op].form; *form; form++) {
		switch (*form) {
		case 'p':
			fprintf(f, " p%d", s->who);
			break;
		case 's': case 'd':
			fprintf(f, " r%d", s->slot);
			break;
		case 'n':
			fprintf(f, " %s", names[s->name]);
			break;
		case 'r':
			fprintf(f, " %s", reasons[s->reason]);
			break;
		case 'q':
			if (s->pattern == Q_FROM)
				fprintf(f, " p%d", s->who);
			else if (s->pattern == Q_REF)
				fprintf(f, " r%d", s->slot);
			else
				fprintf(f, " %s", (const char *[]){ "any", "msg", "exit", "down" }[s->pattern]);
			break;
		}
	}
	fprintf(f, "\n");
}

static inline void scenario_print(FILE *f, const struct scenario *sc)
{
	fprintf(f, "scenario %u %d\n", sc->id, sc->nr_procs);
	for (int i = 0; i < sc->nr_procs; i++) {
		for (int k = 0; k < sc->len[i]; k++)
			step_print(f, i, &sc->steps[i][k]);
	}
	fprintf(f, "end\n");
}

static inline int word_find(const char *word, const char *const *list, int n)
{
	for (int i = 0; i < n; i++) {
		if (!strcmp(word, list[i]))
			return i;
	}
	return -1;
}

static inline int numbered(const char *word, char letter, int limit)
{
	int n = word[0] == letter && word[1] ? word[1] - '0' : -1;

	return n >= 0 && n < limit && !word[2] ? n : -1;
}

static inline int argument_parse(struct step *s, char kind, const char *word)
{
	static const char *const patterns[] = { "any", "msg", "exit", "down" };
	int n = -1;

	switch (kind) {
	case 'p':
		s->who = n = numbered(word, 'p', MAX_PROCS);
		break;
	case 's': case 'd':
		s->slot = n = numbered(word, 'r', MAX_SLOTS);
		break;
	case 'n':
		s->name = n = word_find(word, names, 2);
		break;
	case 'r':
		s->reason = n = word_find(word, reasons, NR_REASONS);
		break;
	case 'q':
		n = word_find(word, patterns, 4);
		s->pattern = n;
		if (n < 0 && (n = numbered(word, 'p', MAX_PROCS)) >= 0) {
			s->pattern = Q_FROM;
			s->who = n;
		} else if (n < 0 && (n = numbered(word, 'r', MAX_SLOTS)) >= 0) {
			s->pattern = Q_REF;
			s->slot = n;
		}
		break;
	}
	return n;
}

static inline bool step_parse(struct scenario *sc, char *line)
{
	char *save, *word = strtok_r(line, " \n", &save);
	int i = word ? numbered(word, 'p', MAX_PROCS) : -1, op;
	struct step *s;

	word = strtok_r(NULL, " \n", &save);
	if (i < 0 || !word || sc->len[i] == MAX_STEPS)
		return false;
	for (op = 0; op < NR_OPS && strcmp(word, ops[op].word); op++)
		;
	if (op == NR_OPS)
		return false;
	s = &sc->steps[i][sc->len[i]++];
	s->op = op;
	for (const char *form = ops[op].form; *form; form++) {
		word = strtok_r(NULL, " \n", &save);
		if (!word || argument_parse(s, *form, word) < 0)
			return false;
	}
	if (i >= sc->nr_procs)
		sc->nr_procs = i + 1;
	return !strtok_r(NULL, " \n", &save);
}

/* 1: one was read; 0: the file is over; -1: it is no scenario. Lines that begin with # are comments. */
static inline int scenario_read(FILE *f, struct scenario *sc)
{
	char line[128];
	bool begun = false;

	memset(sc, 0, sizeof(*sc));
	while (fgets(line, sizeof(line), f)) {
		int nr_procs;

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (sscanf(line, "scenario %u %d", &sc->id, &nr_procs) == 2 && !begun && nr_procs <= MAX_PROCS) {
			sc->nr_procs = nr_procs;
			begun = true;
		} else if (!strcmp(line, "end\n")) {
			return begun && scenario_valid(sc) ? 1 : -1;
		} else if (!begun || !step_parse(sc, line)) {
			return -1;
		}
	}
	return begun ? -1 : 0;
}

static inline uint32_t chance(uint64_t *state)
{
	uint64_t x = (*state += UINT64_C(0x9e3779b97f4a7c15));

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)(x >> 32);
}

#endif
