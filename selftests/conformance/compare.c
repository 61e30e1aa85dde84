// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Makes trees of supervisors, has mote and the BEAM play them, and compares: docs/conformance.md. One event comes
 * after the other, so there is one outcome.
 *	compare [--seed N] [--count N] [--file TREES] --dir SCRATCH --mote PLAYER --beam COMMAND
 * What differs is made smaller, as long as it does, and printed.
 */
#include "players.h"
#include "scenario.h"

#define BATCH		200
#define MAX_LINES	32
#define LINE		96
#define MAX_SHOWN	3

struct tree {
	int nr_lines;
	char lines[MAX_LINES][LINE];
};

struct results {
	unsigned int n;
	char *lines[BATCH];		/* without the number */
};

/* --- making --- */

static uint64_t dice;

static unsigned int roll(unsigned int n)
{
	return chance(&dice) % n;
}

static void line_add(struct tree *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line_add(struct tree *t, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(t->lines[t->nr_lines++], LINE, format, list);
	va_end(list);
}

static const char *const restarts[] = { "permanent", "transient", "temporary" };

static void sup_add(struct tree *t, const char *id, const char *parent, const char **auto_shutdown)
{
	static const char *const strategies[] = { "one_for_one", "one_for_all", "rest_for_one" };
	static const char *const autos[] = { "never", "any_significant", "all_significant" };

	*auto_shutdown = autos[roll(2) * (1 + roll(2))];
	line_add(t, "sup %s %s %s %u %s %s now", id, parent, strategies[roll(3)], roll(4), *auto_shutdown,
		 restarts[roll(3)]);
}

static void child_add(struct tree *t, char id, const char *parent, const char *auto_shutdown, bool later)
{
	static const char *const manners[] = { "plain", "plain", "plain", "brutal", "stubborn" };
	const char *restart = restarts[roll(3)], *manner = manners[roll(5)];
	char odd[16] = "ok";

	if (strcmp(auto_shutdown, "never") && strcmp(restart, "permanent") && roll(3))
		manner = "significant";
	if (!roll(5))
		snprintf(odd, sizeof(odd), "%s%u%s", roll(3) ? "fail" : "ignore", 1 + roll(3), roll(3) ? "" : "+");
	line_add(t, "child %c %s %s %s %s %s", id, parent, restart, manner, odd, later ? "later" : "now");
}

static void step_add(struct tree *t, int nr_children, bool below, unsigned int later)
{
	static const char *const ends[] = { "normal", "shutdown", "detail", "error", "error" };
	static const char *const asks[] = { "terminate", "restart", "delete", "add" };
	char id = 'a' + roll(nr_children);

	if (!roll(8))
		line_add(t, "do kill %c", id);
	else if (roll(2))
		line_add(t, "do exit %c %s", id, ends[roll(5)]);
	else if (later && roll(2))
		line_add(t, "do add %c", 'a' + nr_children - 1 - roll(later));
	else if (below && !roll(6))
		line_add(t, "do %s s1", asks[roll(4)]);
	else
		line_add(t, "do %s %c", asks[roll(4)], id);
}

static void tree_make(struct tree *t, uint64_t number)
{
	const char *top, *low = "never";
	bool below;
	unsigned int later, steps;
	int n = 0, at, nr_children;

	dice = args.seed * UINT64_C(0x100000001b3) + number * 1000;
	memset(t, 0, sizeof(*t));
	below = !roll(3);
	later = roll(3);
	nr_children = 1 + roll(4);
	at = roll(nr_children);
	sup_add(t, "s0", "-", &top);
	for (int i = 0; i < nr_children; i++) {
		if (below && i == at)
			sup_add(t, "s1", "s0", &low);
		child_add(t, 'a' + n++, below && i > at ? "s1" : "s0", below && i > at ? low : top, false);
	}
	for (unsigned int i = 0; i < later; i++)
		child_add(t, 'a' + n++, "s0", top, true);
	for (steps = 1 + roll(8); steps; steps--)
		step_add(t, n, below, later);
}

/* --- playing --- */

static void trees_write(const struct tree *trees, unsigned int n)
{
	FILE *f = fopen(scenarios_path, "w");

	if (!f)
		bail_out("%s: %s", scenarios_path, strerror(errno));
	for (unsigned int i = 0; i < n; i++) {
		fprintf(f, "tree %u\n", i);
		for (int k = 0; k < trees[i].nr_lines; k++)
			fprintf(f, "%s\n", trees[i].lines[k]);
		fprintf(f, "end\n");
	}
	fclose(f);
}

static void results_free(struct results *r)
{
	for (unsigned int i = 0; i < r->n; i++)
		free(r->lines[i]);
	r->n = 0;
}

/* False: the player crashed, or hung. */
static bool results_get(enum player player, unsigned int n, struct results *r)
{
	char *line = NULL;
	size_t room = 0;
	FILE *f;

	r->n = 0;
	if (!player_run(player, args.seed))
		return false;
	f = fopen(outcomes_path, "r");
	while (f && r->n < n && getline(&line, &room, f) > 0) {
		const char *rest = strchr(line, ' ');

		r->lines[r->n++] = strdup(rest ? rest : "");
	}
	free(line);
	if (f)
		fclose(f);
	return r->n == n;
}

/* --- making smaller --- */

static void line_remove(struct tree *t, int at)
{
	memmove(t->lines[at], t->lines[at + 1], (t->nr_lines - at - 1) * LINE);
	t->nr_lines--;
}

/* With all that names it. */
static void node_remove(struct tree *t, const char *id)
{
	for (int i = 0; i < t->nr_lines; i++) {
		char kind[8] = "", second[16] = "", third[16] = "", gone[16];

		sscanf(t->lines[i], "%7s %15s %15s", kind, second, third);
		if (!strcmp(kind, "do") ? !strcmp(third, id) : !strcmp(second, id)) {
			line_remove(t, i--);
		} else if (strcmp(kind, "do") && !strcmp(third, id)) {
			strcpy(gone, second);
			node_remove(t, gone);
			i = -1;
		}
	}
}

static bool tree_smaller(const struct tree *t, int at, struct tree *smaller)
{
	char kind[8] = "", id[16] = "";

	*smaller = *t;
	sscanf(t->lines[at], "%7s %15s", kind, id);
	if (!strcmp(id, "s0"))
		return false;
	if (!strcmp(kind, "do"))
		line_remove(smaller, at);
	else
		node_remove(smaller, id);
	return true;
}

static void difference_print(const struct tree *t, enum player player, const char *mote, const char *beam)
{
	printf("# tree\n");
	for (int i = 0; i < t->nr_lines; i++)
		printf("# %s\n", t->lines[i]);
	printf("# end\n# %s:%s# the BEAM:%s", player_names[player], mote, beam);
	fflush(stdout);
}

/* One line less, whichever: true if the players still differ; then it is in *t. */
static bool shrink_once(struct tree *t, enum player player)
{
	struct tree *smaller = calloc(MAX_LINES, sizeof(*smaller));
	struct results mote = { 0 }, beam = { 0 };
	unsigned int n = 0, at;
	bool differ = false;

	for (int i = 0; smaller && i < t->nr_lines; i++)
		n += tree_smaller(t, i, &smaller[n]);
	if (n) {
		trees_write(smaller, n);
		if (results_get(player, n, &mote) && results_get(BEAM, n, &beam)) {
			for (at = 0; at < n && !strcmp(mote.lines[at], beam.lines[at]); at++)
				;
			differ = at < n;
		}
	}
	if (differ) {
		*t = smaller[at];
		difference_print(t, player, mote.lines[at], beam.lines[at]);
	}
	results_free(&mote);
	results_free(&beam);
	free(smaller);
	return differ;
}

/* --- all of them --- */

static unsigned int differ[NR_PLAYERS], shown;

static void batch_compare(struct tree *trees, unsigned int n)
{
	struct results beam, mote;

	trees_write(trees, n);
	if (!results_get(BEAM, n, &beam))
		bail_out("the BEAM does not play");
	for (int player = MOTE; player < BEAM; player++) {
		trees_write(trees, n);
		if (!results_get(player, n, &mote)) {
			printf("# %s plays %u trees of %u\n", player_names[player], mote.n, n);
			differ[player]++;
		}
		for (unsigned int i = 0; i < mote.n; i++) {
			if (!strcmp(mote.lines[i], beam.lines[i]))
				continue;
			differ[player]++;
			if (shown++ >= MAX_SHOWN)
				continue;
			printf("# seed %llu: they differ\n", (unsigned long long)args.seed);
			difference_print(&trees[i], player, mote.lines[i], beam.lines[i]);
			printf("# smaller:\n");
			while (shrink_once(&trees[i], player))
				;
		}
		results_free(&mote);
	}
	results_free(&beam);
}

static bool tree_read(FILE *f, struct tree *t)
{
	char line[LINE];

	t->nr_lines = 0;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "end"))
			return true;
		if (line[0] && line[0] != '#' && strncmp(line, "tree ", 5)) {
			if (t->nr_lines == MAX_LINES)
				bail_out("%s: too long a tree", args.file);
			strcpy(t->lines[t->nr_lines++], line);
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	struct tree *trees = calloc(BATCH, sizeof(*trees));
	unsigned int n = 0, total = 0;
	FILE *f = NULL;

	args.count = 500;
	if (!trees || !args_parse(argc, argv) || !args.beam)
		return 2;
	if (args.file && !(f = fopen(args.file, "r")))
		bail_out("%s: %s", args.file, strerror(errno));
	for (unsigned int number = 0; f || number < args.count; number++) {
		if (!f)
			tree_make(&trees[n], number);
		else if (!tree_read(f, &trees[n]))
			break;
		total++;
		if (++n == BATCH) {
			batch_compare(trees, n);
			n = 0;
		}
	}
	if (n)
		batch_compare(trees, n);
	beam_stop();
	printf("# seed %llu: %u trees of supervisors\n", (unsigned long long)args.seed, total);
	for (int player = MOTE; player < BEAM; player++)
		printf("%s %d - supervisors: %s does what the BEAM does\n", differ[player] ? "not ok" : "ok",
		       1 + player, player_names[player]);
	printf("1..2\n");
	return differ[MOTE] || differ[MOTE_SEEDED];
}
