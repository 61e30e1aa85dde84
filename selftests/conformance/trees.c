// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Plays trees of supervisors on mote:
 *	trees SEED < trees > outcomes
 * docs/conformance.md has the language. Each tree has a driver, the parent of its top supervisor, which takes one
 * step of the scenario whenever nothing moves any more. What happens is noted by those who do it: the functions that
 * start children, and the children that are told to stop.
 */
#include "reason.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>

#define MAX_NODES	12
#define MAX_DO		16
#define ID		8
#define TEXT		16384

enum type { T_NEXT = 1, T_EXIT };

struct tree;

/* A supervisor, or a child. */
struct node {
	struct tree *tree;
	char id[ID], restart[16], manner[16], odd[16];
	int parent;			/* -1: the top one */
	bool sup, later;
	int strategy, intensity, auto_shutdown;
	_Atomic int starts;
	mote_pid pid;			/* what the start function started last */
};

struct tree {
	char number[16];
	struct node nodes[MAX_NODES];
	int nr_nodes, nr_steps;
	char steps[MAX_DO][3][16];
	mote_pid driver;
	_Atomic bool ready;		/* the driver waits for its next */
	/* Written by one process after the other, but for children that are killed together. */
	_Atomic bool lock;
	_Atomic size_t length;		/* the driver looks whether it grows */
	char text[TEXT];
};

static struct tree *trees;
static unsigned int nr_trees;

static void event(struct tree *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void event(struct tree *t, const char *format, ...)
{
	va_list list;

	/* acquire and release: the text is its holder's */
	while (atomic_exchange_explicit(&t->lock, true, memory_order_acquire))
		;
	va_start(list, format);
	if (t->length < TEXT - 64)
		t->length += vsnprintf(t->text + t->length, 64, format, list);
	va_end(list);
	atomic_store_explicit(&t->lock, false, memory_order_release);
}

/* --- supervisors and children --- */

static const char *reason_word(const struct mote_reason *r)
{
	int reason = reason_seen(r);

	return reason < NR_REASONS ? reasons[reason] : "odd";
}

static void child_main(void *arg)
{
	struct node *n = arg;

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct mote_exit_info *exit = mote_msg_exit(m);

		if (m->type == T_EXIT)
			mote_exit(reason_of(*(int *)m->data));
		/* A stubborn one does not even say so: it may be killed before it can. */
		if (exit && strcmp(n->manner, "stubborn")) {
			event(n->tree, " -%s.%s", n->id, reason_word(&exit->reason));
			mote_exit(exit->reason);
		}
		mote_msg_free(m);
	}
}

/* Whether its n-th start is to go wrong: "fail2" the second one, "fail2+" from then on. */
static bool odd(const struct node *n, const char *word, int start)
{
	size_t len = strlen(word);
	const char *which = n->odd + len;

	return !strncmp(n->odd, word, len) && (start == *which - '0' || (which[1] == '+' && start > *which - '0'));
}

static int child_start(void *arg, mote_pid *pid)
{
	struct node *n = arg;
	struct mote_spawn_opts opts = {
		.size = sizeof(opts), .fn = child_main, .arg = n, .flags = MOTE_LINK | MOTE_TRAP_EXIT,
	};
	int start = atomic_fetch_add(&n->starts, 1) + 1;

	event(n->tree, " +%s", n->id);
	if (odd(n, "fail", start))
		return -EIO;
	if (odd(n, "ignore", start))
		return MOTE_IGNORE;
	n->pid = *pid = mote_spawn_opts(&opts);
	return mote_pid_valid(*pid) ? 0 : mote_errno();
}

static int sup_start(void *arg, mote_pid *pid);

static void node_spec(struct node *n, struct mote_child_spec *spec)
{
	*spec = (struct mote_child_spec){
		.id = n->id, .start = n->sup ? sup_start : child_start, .arg = n,
		.type = n->sup ? MOTE_SUPERVISOR : MOTE_WORKER,
		.restart = !strcmp(n->restart, "permanent") ? MOTE_PERMANENT :
			   !strcmp(n->restart, "transient") ? MOTE_TRANSIENT : MOTE_TEMPORARY,
		.significant = !strcmp(n->manner, "significant"),
		.shutdown_ms = !strcmp(n->manner, "brutal") ? MOTE_SHUTDOWN_BRUTAL :
			       !strcmp(n->manner, "stubborn") ? 5 : MOTE_SHUTDOWN_INFINITY,
	};
}

static int sup_start(void *arg, mote_pid *pid)
{
	struct node *n = arg;
	struct mote_child_spec specs[MAX_NODES];
	struct mote_supervisor_opts opts = {
		.size = sizeof(opts), .strategy = n->strategy, .max_seconds = 3600, .auto_shutdown = n->auto_shutdown,
		.max_restarts = n->intensity ? (unsigned int)n->intensity : MOTE_RESTARTS_NONE, .children = specs,
	};
	int err;

	event(n->tree, " +%s", n->id);
	atomic_fetch_add(&n->starts, 1);
	for (int i = 0; i < n->tree->nr_nodes; i++) {
		struct node *child = &n->tree->nodes[i];

		if (child->parent == n - n->tree->nodes && !child->later)
			node_spec(child, &specs[opts.nr_children++]);
	}
	err = mote_supervisor_start_link(&opts, pid);
	if (!err)
		n->pid = *pid;
	return err;
}

/* --- the driver --- */

static int node_find(const struct tree *t, const char *id)
{
	for (int i = 0; i < t->nr_nodes; i++) {
		if (!strcmp(t->nodes[i].id, id))
			return i;
	}
	return -1;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct mote_child_info *)a)->id, ((const struct mote_child_info *)b)->id);
}

static void sup_show(struct node *n)
{
	struct mote_child_counts counts = { .size = sizeof(counts) };
	struct mote_child_info *children;
	int nr = mote_supervisor_which_children(n->pid, &children, MOTE_FOREVER);

	if (nr < 0 || mote_supervisor_count_children(n->pid, &counts, MOTE_FOREVER))
		return;
	event(n->tree, " %s[", n->id);
	qsort(children, nr, sizeof(*children), by_id);
	for (int i = 0; i < nr; i++) {
		int at = node_find(n->tree, children[i].id);

		if (children[i].restarting)
			event(n->tree, " %s:restarting", children[i].id);
		else if (!mote_pid_valid(children[i].pid))
			event(n->tree, " %s:-", children[i].id);
		else
			event(n->tree, " %s:%d", children[i].id, at < 0 ? -1 : atomic_load(&n->tree->nodes[at].starts));
	}
	event(n->tree, " ]/%d/%d/%d/%d", (int)counts.specs, (int)counts.active, (int)counts.supervisors,
	      (int)counts.workers);
	mote_free(children);
}

static void next(struct tree *t)
{
	atomic_store_explicit(&t->ready, true, memory_order_relaxed);
	mote_msg_free(mote_receive_type(T_NEXT, MOTE_FOREVER));
}

/*
 * While a child is given time to stop, nothing moves either. By the time its supervisor answers that is over, though
 * another one may be next: until nothing has happened since the last answers.
 */
static void snapshot(struct tree *t)
{
	size_t before;

	do {
		before = t->length;
		next(t);
		for (int i = 0; i < t->nr_nodes; i++) {
			struct mote_child_info *children;

			if (t->nodes[i].sup &&
			    mote_supervisor_which_children(t->nodes[i].pid, &children, MOTE_FOREVER) >= 0)
				mote_free(children);
		}
		next(t);
	} while (t->length != before);
	for (int i = 0; i < t->nr_nodes; i++) {
		if (t->nodes[i].sup)
			sup_show(&t->nodes[i]);
	}
}

static const char *result(int err, mote_pid pid)
{
	switch (err) {
	case 0:
		return "ok";
	case MOTE_IGNORE:
		return "ignored";
	case -ENOENT:
		return "unknown";
	case -EBUSY:
		return "running";
	case -EINPROGRESS:
		return "restarting";
	case -EEXIST:
		return mote_pid_valid(pid) ? "started" : "present";
	case -ESRCH: case -EPIPE:
		return "gone";
	}
	return "failed";
}

static void step_take(struct tree *t, char words[3][16])
{
	int at = node_find(t, words[1]), err, reason;
	struct node *n = &t->nodes[at < 0 ? 0 : at];
	mote_pid sup = t->nodes[n->parent < 0 ? 0 : n->parent].pid, pid = MOTE_NOBODY;
	struct mote_child_spec spec;

	if (!strcmp(words[0], "exit")) {
		reason = word_find(words[2], reasons, NR_REASONS);
		mote_send(n->pid, T_EXIT, &reason, sizeof(reason));
		return;
	}
	if (!strcmp(words[0], "kill")) {
		mote_exit_pid(n->pid, MOTE_REASON_KILL);
		return;
	}
	if (!strcmp(words[0], "terminate")) {
		err = mote_supervisor_terminate_child(sup, n->id, MOTE_FOREVER);
	} else if (!strcmp(words[0], "delete")) {
		err = mote_supervisor_delete_child(sup, n->id, MOTE_FOREVER);
	} else if (!strcmp(words[0], "restart")) {
		err = mote_supervisor_restart_child(sup, n->id, &pid, MOTE_FOREVER);
	} else {
		node_spec(n, &spec);
		err = mote_supervisor_start_child(sup, &spec, &pid, MOTE_FOREVER);
	}
	event(t, " =%s", result(err, pid));
}

/* True: the top supervisor has ended. */
static bool ended(struct tree *t)
{
	struct mote_msg *m = mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW);

	if (!m)
		return false;
	event(t, " end.%s", reason_word(&mote_msg_exit(m)->reason));
	mote_msg_free(m);
	return true;
}

static void drive(void *arg)
{
	struct tree *t = arg;
	mote_pid pid;

	mote_trap_exit(true);
	if (sup_start(&t->nodes[0], &pid)) {
		event(t, " failed");
		snapshot(t);
		return;
	}
	snapshot(t);
	for (int k = 0; k < t->nr_steps; k++) {
		if (ended(t))
			return;
		event(t, " |%s.%s%s%s", t->steps[k][0], t->steps[k][1], t->steps[k][2][0] ? "." : "", t->steps[k][2]);
		step_take(t, t->steps[k]);
		snapshot(t);
	}
	if (ended(t))
		return;
	mote_exit_pid(t->nodes[0].pid, MOTE_REASON_SHUTDOWN);
	snapshot(t);
	if (!ended(t))
		event(t, " endless");
}

/* --- the first process --- */

static bool all_wait(void)
{
	struct mote_process_info info = { .size = sizeof(info) };

	for (mote_pid pid = mote_process_next(MOTE_NOBODY); mote_pid_valid(pid); pid = mote_process_next(pid)) {
		if (mote_pid_equal(pid, mote_self()))
			continue;
		if (mote_process_info(pid, &info) || info.state != MOTE_WAITING)
			return false;
	}
	return true;
}

static uint64_t switches(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info.switches;
}

/* As play.c's. */
static bool settled(void)
{
	uint64_t before = switches();

	return all_wait() && all_wait() && switches() == before;
}

static void play_all(void *arg)
{
	unsigned int left = nr_trees;

	(void)arg;
	for (unsigned int i = 0; i < nr_trees; i++)
		trees[i].driver = mote_spawn_monitor(drive, &trees[i], &(mote_ref){ 0 });
	while (left) {
		struct mote_msg *m = mote_receive(mote_in_us(200));

		if (!m && settled()) {
			for (unsigned int i = 0; i < nr_trees; i++) {
				/* Not one that waits for a supervisor, which waits until a child's time is over. */
				if (atomic_exchange_explicit(&trees[i].ready, false, memory_order_relaxed))
					mote_send(trees[i].driver, T_NEXT, NULL, 0);
			}
		}
		left -= m && mote_msg_down(m);
		mote_msg_free(m);
	}
}

/* --- reading --- */

static bool node_read(struct tree *t, char **word, int n)
{
	static const char *const strategies[] = { "one_for_one", "one_for_all", "rest_for_one" };
	static const char *const autos[] = { "never", "any_significant", "all_significant" };
	struct node *node = &t->nodes[t->nr_nodes];

	if (n < 7 || t->nr_nodes == MAX_NODES)
		return false;
	*node = (struct node){ .tree = t, .parent = node_find(t, word[2]), .sup = !strcmp(word[0], "sup"),
			       .later = !strcmp(word[n - 1], "later") };
	snprintf(node->id, ID, "%s", word[1]);
	snprintf(node->restart, 16, "%s", word[node->sup ? 6 : 3]);
	if (node->sup) {
		node->strategy = word_find(word[3], strategies, 3);
		node->intensity = atoi(word[4]);
		node->auto_shutdown = word_find(word[5], autos, 3);
	} else {
		snprintf(node->manner, 16, "%s", word[4]);
		snprintf(node->odd, 16, "%s", word[5]);
	}
	if ((t->nr_nodes && node->parent < 0) || node->strategy < 0 || node->auto_shutdown < 0)
		return false;
	t->nr_nodes++;
	return true;
}

static bool line_read(struct tree *t, char *line)
{
	char *word[10], *save;
	int n = 0;

	for (char *w = strtok_r(line, " \n", &save); w && n < 10; w = strtok_r(NULL, " \n", &save))
		word[n++] = w;
	if (n && (!strcmp(word[0], "sup") || !strcmp(word[0], "child")))
		return node_read(t, word, n);
	if (n < 3 || strcmp(word[0], "do") || t->nr_steps == MAX_DO || node_find(t, word[2]) < 0)
		return false;
	for (int i = 1; i < n && i < 4; i++)
		snprintf(t->steps[t->nr_steps][i - 1], 16, "%s", word[i]);
	t->nr_steps++;
	return true;
}

/* The whole file; false: something in it is no tree. */
static bool trees_read(FILE *f)
{
	struct tree *t = NULL;
	char line[256];

	/* Its address stays: nodes point back. */
	trees = calloc(1000, sizeof(*trees));
	while (trees && fgets(line, sizeof(line), f)) {
		char number[16];

		if (sscanf(line, "tree %15s", number) == 1 && !t && nr_trees < 1000) {
			t = &trees[nr_trees++];
			strcpy(t->number, number);
		} else if (!strcmp(line, "end\n")) {
			t = NULL;
		} else if (!t || !line_read(t, line)) {
			return false;
		}
	}
	return trees && !t && nr_trees;
}

int main(void)
{
	if (!trees_read(stdin) || mote_run(play_all, NULL, NULL))
		return 2;
	for (unsigned int i = 0; i < nr_trees; i++)
		printf("%s%s\n", trees[i].number, trees[i].text);
	return 0;
}
