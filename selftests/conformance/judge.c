// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Makes scenarios, has mote and the BEAM play them, and says which outcomes the model does not allow:
 * docs/conformance.md.
 *	judge [--seed N] [--count N] [--runs N] [--file SCENARIOS] --dir SCRATCH --mote PLAYER [--beam COMMAND]
 * What fails is made smaller, as long as it still fails, and printed.
 */
#include <stddef.h>

#include "generate.h"
#include "model.h"
#include "players.h"

#include <time.h>

#define BATCH		250
#define STATES		30000		/* of the model, for one scenario */
#define SIZE		18		/* about how many steps a scenario has at most */
#define MAX_FAILURES	3		/* of a player, that are made smaller and shown */
#define SHRINK_TIME	60		/* seconds for making one smaller: a hang takes long to see */
#define COPIES		100		/* of a scenario that is being made smaller, in one run */

struct trial {
	struct scenario sc;
	struct model models[NR_PLAYERS];	/* mote's are the same */
	bool *reached[NR_PLAYERS];	/* of the model's outcomes */
	bool failed;
};

static struct {
	unsigned long played[NR_PLAYERS], reached[NR_PLAYERS], allowed[NR_PLAYERS];
	unsigned int scenarios, smaller, shown[NR_PLAYERS], failures[NR_PLAYERS];
} counts;

static bool model_of(const struct scenario *sc, enum player player, unsigned int limit, struct model *m)
{
	return model_run(sc, player != BEAM, limit, m);
}

/* --- the judgement --- */

static int outcome_find(const struct model *m, const struct outcome *o)
{
	for (unsigned int i = 0; i < m->nr_outcomes; i++) {
		if (outcome_fits(o, &m->outcomes[i]))
			return (int)i;
	}
	return -1;
}

/* Calls f with each outcome that the player wrote. */
static void outcomes_read(void (*f)(struct trial *trial, enum player player, const struct outcome *o),
			  struct trial *trials, unsigned int n, enum player player)
{
	FILE *file = fopen(outcomes_path, "r");
	char line[2048], copy[2048];
	struct outcome o;
	unsigned int seen = 0;

	while (file && fgets(line, sizeof(line), file)) {
		long id;

		strcpy(copy, line);
		id = outcome_parse(line, &o);
		if (id < 0 || id >= (long)n)
			bail_out("%s wrote: %s", player_names[player], copy);
		f(&trials[id], player, &o);
		seen++;
	}
	if (file)
		fclose(file);
	if (seen != n)
		bail_out("%s wrote %u outcomes of %u", player_names[player], seen, n);
}

static void scenarios_write(const struct scenario *list, unsigned int n)
{
	FILE *f = fopen(scenarios_path, "w");

	if (!f)
		bail_out("%s: %s", scenarios_path, strerror(errno));
	for (unsigned int i = 0; i < n; i++)
		scenario_print(f, &list[i]);
	fclose(f);
}

/* --- making what fails smaller --- */

static struct outcome offender;
static bool offended;

static void look_for_offender(struct trial *trial, enum player player, const struct outcome *o)
{
	if (outcome_find(&trial->models[player], o) >= 0)
		return;
	offended = true;
	offender = *o;
}

/* Whether the player still gets an outcome from it that is not allowed; *odd is one. */
static bool scenario_fails(const struct scenario *sc, enum player player, struct outcome *odd)
{
	struct scenario copies[COPIES];
	struct trial *trials;
	struct model m;

	if (!scenario_valid(sc) || !model_of(sc, player, 4 * STATES, &m))
		return false;
	trials = calloc(COPIES, sizeof(*trials));
	if (!trials)
		abort();
	for (unsigned int i = 0; i < COPIES; i++) {
		copies[i] = *sc;
		copies[i].id = i;
		trials[i].sc = copies[i];
		trials[i].models[player] = m;
	}
	scenarios_write(copies, COPIES);
	offended = false;
	for (uint64_t run = 0; run < 20 && !offended; run++) {
		if (!player_run(player, args.seed + run)) {
			/* It hung, or crashed: that is odd enough. */
			offended = true;
			memset(&offender, 0, sizeof(offender));
			memset(offender.end, END_STUCK, sizeof(offender.end));
			break;
		}
		outcomes_read(look_for_offender, trials, COPIES, player);
	}
	free(m.outcomes);
	free(trials);
	if (offended)
		*odd = offender;
	return offended;
}

static void step_remove(struct scenario *sc, int i, int k)
{
	memmove(&sc->steps[i][k], &sc->steps[i][k + 1], (sc->len[i] - k - 1) * sizeof(sc->steps[i][0]));
	memset(&sc->steps[i][--sc->len[i]], 0, sizeof(sc->steps[i][0]));
}

/* With each step that has become meaningless. */
static void scenario_mend(struct scenario *sc)
{
	for (int i = 0; i < sc->nr_procs; i++) {
		for (int k = 0; k < sc->len[i]; k++) {
			if (!step_valid(sc, i, k)) {
				step_remove(sc, i, k);
				i = -1;
				break;
			}
		}
	}
}

static void proc_remove(struct scenario *sc, int gone)
{
	for (int i = 0; i < sc->nr_procs; i++) {
		for (int k = sc->len[i] - 1; k >= 0; k--) {
			struct step *s = &sc->steps[i][k];

			bool names_one = strchr(ops[s->op].form, 'p') || (op_receives(s->op) && s->pattern == Q_FROM);

			if (names_one && s->who == gone)
				step_remove(sc, i, k);
			else if (names_one && s->who > gone)
				s->who--;
		}
	}
	for (int i = gone; i + 1 < sc->nr_procs; i++) {
		memcpy(sc->steps[i], sc->steps[i + 1], sizeof(sc->steps[i]));
		sc->len[i] = sc->len[i + 1];
	}
	memset(sc->steps[--sc->nr_procs], 0, sizeof(sc->steps[0]));
	sc->len[sc->nr_procs] = 0;
}

static bool shrink_try(struct scenario *sc, struct scenario *smaller, enum player player, struct outcome *odd)
{
	scenario_mend(smaller);
	if (!memcmp(sc, smaller, sizeof(*sc)) || !scenario_fails(smaller, player, odd))
		return false;
	*sc = *smaller;
	return true;
}

static bool shrink_once(struct scenario *sc, enum player player, struct outcome *odd, time_t until)
{
	struct scenario smaller;

	for (int i = sc->nr_procs - 1; i >= 0 && sc->nr_procs > 1 && time(NULL) < until; i--) {
		smaller = *sc;
		proc_remove(&smaller, i);
		if (shrink_try(sc, &smaller, player, odd))
			return true;
	}
	for (int i = 0; i < sc->nr_procs; i++) {
		for (int k = sc->len[i] - 1; k >= 0 && time(NULL) < until; k--) {
			smaller = *sc;
			step_remove(&smaller, i, k);
			if (shrink_try(sc, &smaller, player, odd))
				return true;
		}
	}
	return false;
}

static void failure_print(const struct scenario *sc, enum player player, const struct outcome *odd)
{
	struct model m;
	char *text;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	unsigned int shown = 0;

	scenario_print(f, sc);
	fprintf(f, "%s had\n  ", player_names[player]);
	outcome_print(f, sc, odd);
	if (model_of(sc, player, 4 * STATES, &m)) {
		fprintf(f, "allowed, %u:\n", m.nr_outcomes);
		for (; shown < m.nr_outcomes && shown < 12; shown++) {
			fprintf(f, "  ");
			outcome_print(f, sc, &m.outcomes[shown]);
		}
		free(m.outcomes);
	}
	fclose(f);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		printf("# %s\n", line);
	free(text);
	fflush(stdout);
}

static void failure_report(const struct trial *trial, enum player player, const struct outcome *o)
{
	struct scenario sc = trial->sc;
	struct outcome odd = *o;
	time_t until = time(NULL) + SHRINK_TIME;

	counts.failures[player]++;
	if (counts.shown[player]++ >= MAX_FAILURES)
		return;
	printf("# seed %llu: an outcome that is not allowed\n", (unsigned long long)args.seed);
	failure_print(&trial->sc, player, o);
	if (!scenario_fails(&sc, player, &odd)) {
		printf("# it did not come again in %d more plays\n", 20 * COPIES);
		return;
	}
	while (shrink_once(&sc, player, &odd, until))
		;
	printf("# made smaller:\n");
	failure_print(&sc, player, &odd);
}

/* --- all of them --- */

/* Its outcome of a run, for later: judging writes files of its own. */
static struct { struct trial *trial; enum player player; struct outcome outcome; } pending[NR_PLAYERS * MAX_FAILURES];
static unsigned int nr_pending;

static void judge(struct trial *trial, enum player player, const struct outcome *o)
{
	int at = outcome_find(&trial->models[player], o);

	counts.played[player]++;
	if (at >= 0) {
		trial->reached[player][at] = true;
		return;
	}
	/* One scenario, one failure. */
	if (trial->failed)
		return;
	trial->failed = true;
	if (nr_pending < NR_PLAYERS * MAX_FAILURES) {
		pending[nr_pending].trial = trial;
		pending[nr_pending].player = player;
		pending[nr_pending++].outcome = *o;
	} else {
		counts.failures[player]++;
	}
}

static void play(struct trial *trials, const struct scenario *list, unsigned int n, enum player player,
		 unsigned int runs)
{
	time_t until;

	for (unsigned int run = 0; run < runs; run++) {
		scenarios_write(list, n);
		if (player_run(player, args.seed * 1000 + run)) {
			outcomes_read(judge, trials, n, player);
			continue;
		}
		/* Which one was it? */
		until = time(NULL) + 2 * SHRINK_TIME;
		for (unsigned int i = 0; i < n && time(NULL) < until; i++) {
			struct outcome odd;

			if (scenario_fails(&list[i], player, &odd)) {
				failure_report(&trials[i], player, &odd);
				return;
			}
		}
		printf("# seed %llu: which of %u scenarios does that was not found\n", (unsigned long long)args.seed, n);
		counts.failures[player]++;
		return;
	}
}

static bool models_run(struct trial *trial, unsigned int limit)
{
	for (int player = 0; player < NR_PLAYERS; player++) {
		if (player == MOTE_SEEDED)
			trial->models[player] = trial->models[MOTE];
		else if (!model_of(&trial->sc, player, limit, &trial->models[player]))
			return false;
	}
	return true;
}

static void models_free(struct trial *trial)
{
	free(trial->models[MOTE].outcomes);
	free(trial->models[BEAM].outcomes);
	memset(trial->models, 0, sizeof(trial->models));
}

static void batch_judge(struct trial *trials, unsigned int n)
{
	struct scenario list[BATCH];

	nr_pending = 0;
	for (unsigned int i = 0; i < n; i++) {
		trials[i].sc.id = i;
		list[i] = trials[i].sc;
		for (int player = 0; player < NR_PLAYERS; player++) {
			counts.allowed[player] += trials[i].models[player].nr_outcomes;
			trials[i].reached[player] = calloc(trials[i].models[player].nr_outcomes, 1);
		}
	}
	play(trials, list, n, MOTE, 12 * args.runs);
	play(trials, list, n, MOTE_SEEDED, 12 * args.runs);
	if (args.beam)
		play(trials, list, n, BEAM, 4 * args.runs);
	for (unsigned int i = 0; i < nr_pending; i++)
		failure_report(pending[i].trial, pending[i].player, &pending[i].outcome);
	for (unsigned int i = 0; i < n; i++) {
		for (int player = 0; player < NR_PLAYERS; player++) {
			for (unsigned int o = 0; o < trials[i].models[player].nr_outcomes; o++)
				counts.reached[player] += trials[i].reached[player][o];
			free(trials[i].reached[player]);
		}
		models_free(&trials[i]);
	}
	counts.scenarios += n;
}

/* The same for the same seed, everywhere. Those that the model needs too long for are made anew, smaller. */
static void trial_make(struct trial *trial, unsigned int number)
{
	uint64_t dice = args.seed * UINT64_C(0x100000001b3) + number;

	memset(trial, 0, sizeof(*trial));
	for (int size = SIZE, dull = 0;; size -= size > 2) {
		scenario_generate(&trial->sc, 0, (uint64_t)chance(&dice) << 32 | chance(&dice), size);
		if (!scenario_valid(&trial->sc))
			bail_out("the generator made what is no scenario");
		if (!models_run(trial, STATES)) {
			counts.smaller++;
			models_free(trial);
			continue;
		}
		/* Where only one thing can happen less is to be learnt. */
		if (trial->models[BEAM].nr_outcomes > 1 || ++dull > 2)
			return;
		models_free(trial);
	}
}

static bool trial_read(FILE *f, struct trial *trial)
{
	int more = scenario_read(f, &trial->sc);

	trial->failed = false;
	if (more < 0 || (more && !models_run(trial, 100 * STATES)))
		bail_out("%s: no scenario, or too large a one", args.file);
	return more > 0;
}

static void judge_all(void)
{
	struct trial *trials = calloc(BATCH, sizeof(*trials));
	FILE *f = args.file ? fopen(args.file, "r") : NULL;
	unsigned int n = 0;

	if (!trials || (args.file && !f))
		bail_out("%s: %s", args.file, strerror(errno));
	for (unsigned int number = 0; f || number < args.count; number++) {
		if (!f)
			trial_make(&trials[n], number);
		else if (!trial_read(f, &trials[n]))
			break;
		if (++n == BATCH) {
			batch_judge(trials, n);
			n = 0;
		}
	}
	if (n)
		batch_judge(trials, n);
	if (f)
		fclose(f);
	free(trials);
}

int main(int argc, char **argv)
{
	unsigned int cases = 0, bad = 0;

	args.count = 2000;
	if (!args_parse(argc, argv))
		return 2;
	judge_all();
	beam_stop();
	printf("# seed %llu: %u scenarios; %u were too large and made anew\n", (unsigned long long)args.seed,
	       counts.scenarios, counts.smaller);
	for (int player = 0; player < NR_PLAYERS; player++) {
		if (!counts.played[player])
			continue;
		printf("# %s: %lu plays, %lu different outcomes of %lu allowed, %u scenarios with others\n",
		       player_names[player], counts.played[player], counts.reached[player], counts.allowed[player],
		       counts.failures[player]);
		printf("%s %u - what %s does is allowed\n", counts.failures[player] ? "not ok" : "ok", ++cases,
		       player_names[player]);
		bad += counts.failures[player];
	}
	printf("1..%u\n", cases);
	return bad != 0 || !cases;
}
