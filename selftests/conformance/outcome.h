/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * outcome.h: what became of a scenario: how each process ended, and what its steps saw. As text:
 *	17 p0:normal 1=m1.0 3=tick p1:shutdown p2:?
 * p0's step 1 got the message that p1's step 0 sent. "?": nobody knows, the process was gone before it could be
 * watched.
 */
#ifndef CONFORMANCE_OUTCOME_H
#define CONFORMANCE_OUTCOME_H

#include "scenario.h"

enum seen {
	SEEN_NOTHING_YET,
	SEEN_MESSAGE,		/* a: the sender, b: which of its steps sent it */
	SEEN_EXIT,		/* a: from whom, b: reason */
	SEEN_DOWN,		/* a: slot, b: reason */
	SEEN_PROCESS,		/* a: which */
	SEEN_TICK,		/* nothing came, and nothing could come any more */
	SEEN_NONE,		/* nothing was there; nobody has the name */
	SEEN_YES,
	SEEN_NO,
	SEEN_LATE,		/* a call's deadline passed */
	SEEN_GONE,		/* a call's server ended */
	SEEN_NOPROC,		/* a call's server was not there */
	SEEN_CYCLE,		/* a call's server waits, and so on, for the caller: mote tells */
	SEEN_ODD,		/* what no scenario can give */
};

#define SEEN(kind, a, b) ((uint16_t)((kind) << 8 | (a) << 4 | (b)))
#define SEEN_KIND(code) ((code) >> 8)
#define SEEN_A(code) ((code) >> 4 & 15)
#define SEEN_B(code) ((code) & 15)

/* Beside the reasons. */
#define END_UNKNOWN	14
#define END_STUCK	15	/* it neither ended nor waits for anything that may come */

struct outcome {
	uint8_t end[MAX_PROCS + 3];	/* padded: compared and hashed as bytes */
	uint16_t seen[MAX_PROCS][MAX_STEPS];
};

static const char *const seen_words[] = {
	[SEEN_TICK] = "tick", [SEEN_NONE] = "none", [SEEN_YES] = "yes", [SEEN_NO] = "no", [SEEN_LATE] = "late",
	[SEEN_GONE] = "gone", [SEEN_NOPROC] = "noproc", [SEEN_CYCLE] = "cycle", [SEEN_ODD] = "odd",
};

static inline void seen_print(FILE *f, uint16_t code)
{
	int a = SEEN_A(code), b = SEEN_B(code);

	switch (SEEN_KIND(code)) {
	case SEEN_MESSAGE:
		fprintf(f, "m%d.%d", a, b);
		break;
	case SEEN_EXIT:
		fprintf(f, "x%d.%s", a, b < NR_REASONS ? reasons[b] : "odd");
		break;
	case SEEN_DOWN:
		fprintf(f, "d%d.%s", a, b < NR_REASONS ? reasons[b] : "odd");
		break;
	case SEEN_PROCESS:
		fprintf(f, "p%d", a);
		break;
	default:
		fprintf(f, "%s", seen_words[SEEN_KIND(code)]);
	}
}

static inline const char *end_word(int end)
{
	return end == END_UNKNOWN ? "?" : end < NR_REASONS ? reasons[end] : "stuck";
}

static inline void outcome_print(FILE *f, const struct scenario *sc, const struct outcome *o)
{
	fprintf(f, "%u", sc->id);
	for (int i = 0; i < sc->nr_procs; i++) {
		fprintf(f, " p%d:%s", i, end_word(o->end[i]));
		for (int k = 0; k < sc->len[i]; k++) {
			if (!o->seen[i][k])
				continue;
			fprintf(f, " %d=", k);
			seen_print(f, o->seen[i][k]);
		}
	}
	fprintf(f, "\n");
}

static inline uint16_t seen_parse(const char *word)
{
	const char *dot = strchr(word, '.');
	int kind = word[0] == 'm' ? SEEN_MESSAGE : word[0] == 'x' ? SEEN_EXIT : SEEN_DOWN, b;

	for (size_t i = SEEN_TICK; i <= SEEN_ODD; i++) {
		if (!strcmp(word, seen_words[i]))
			return SEEN(i, 0, 0);
	}
	if (word[0] == 'p' && word[1] >= '0' && word[1] <= '9')
		return SEEN(SEEN_PROCESS, word[1] - '0', 0);
	if (!dot || !strchr("mxd", word[0]) || dot != word + 2)
		return SEEN(SEEN_ODD, 0, 0);
	if (kind == SEEN_MESSAGE) {
		b = dot[1] - '0';
	} else {
		b = word_find(dot + 1, reasons, NR_REASONS);
		if (b < 0)
			b = 15;
	}
	return SEEN(kind, word[1] - '0', b & 15);
}

/* The id of the scenario, or -1. The line is written to. */
static inline long outcome_parse(char *line, struct outcome *o)
{
	char *save, *word = strtok_r(line, " \n", &save), *rest;
	long id = word ? strtol(word, &rest, 10) : -1;
	int i = -1;

	memset(o, 0, sizeof(*o));
	if (id < 0 || *rest)
		return -1;
	while ((word = strtok_r(NULL, " \n", &save))) {
		if (word[0] == 'p' && word[1] && word[2] == ':') {
			int end = word_find(word + 3, reasons, NR_REASONS);

			i = word[1] - '0';
			if (i < 0 || i >= MAX_PROCS)
				return -1;
			o->end[i] = end >= 0 ? end : !strcmp(word + 3, "?") ? END_UNKNOWN : END_STUCK;
		} else if (i >= 0 && word[0] >= '0' && word[0] < '0' + MAX_STEPS && word[1] == '=') {
			o->seen[i][word[0] - '0'] = seen_parse(word + 2);
		} else {
			return -1;
		}
	}
	return id;
}

/* Whether it is what the model allows; what nobody knows is whatever was allowed. */
static inline bool outcome_fits(const struct outcome *got, const struct outcome *allowed)
{
	for (int i = 0; i < MAX_PROCS; i++) {
		if (got->end[i] != allowed->end[i] && got->end[i] != END_UNKNOWN)
			return false;
	}
	return !memcmp(got->seen, allowed->seen, sizeof(got->seen));
}

#endif
