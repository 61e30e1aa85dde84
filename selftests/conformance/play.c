// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Plays scenarios on mote: all of a file at once, in one runtime.
 *	play SEED < scenarios > outcomes
 * SEED decides how long the processes dawdle between their steps; with MOTE_SEED the whole schedule is decided.
 *
 * The first process looks after all of them. It watches each before that takes its first step: one that was spawned
 * reports to it, and both it and its spawner wait until that is done. When nothing moves any more it gives a tick to
 * the first process of each scenario that waits in recv.
 */
#include "outcome.h"
#include "reason.h"

#include <errno.h>
#include <stdatomic.h>

enum type {
	T_MESSAGE = 1,		/* struct message */
	T_GO, T_TICK, T_BORN, T_ACK,
};

struct play;

struct actor {
	struct play *play;
	uint8_t self;
	bool born, over;		/* these and end: the first process's */
	uint8_t end;
	mote_pid pid;			/* written before any process of the scenario may name it */
	mote_ref watch;
	unsigned int ticks;		/* given */
	_Atomic unsigned int ticked;	/* and taken */
	uint64_t dice;
	mote_ref refs[MAX_SLOTS];
	_Atomic bool busy;		/* waits for a time, or the first process: not for a tick */
	_Atomic int nr_timers;
	mote_timer timers[MAX_SLOTS], slots[MAX_SLOTS];
	mote_task tasks[MAX_SLOTS];	/* ref.id 0: none, or settled */
	bool has_tasks;
	uint16_t seen[MAX_STEPS];
};

struct play {
	struct scenario sc;
	struct actor actors[MAX_PROCS];
	int left;			/* processes that are not over */
};

struct message {
	uint8_t from, step;
	mote_ref alias;
};

static struct play *plays;
static unsigned int nr_plays;
static mote_pid first;
static uint64_t seed;
static unsigned int stuck;		/* processes given up */

static int proc_of(const struct play *play, mote_pid pid)
{
	for (int i = 0; i < play->sc.nr_procs; i++) {
		if (mote_pid_valid(pid) && mote_pid_equal(play->actors[i].pid, pid))
			return i;
	}
	return NOBODY;
}

/* Names are the runtime's, and scenarios run side by side. */
static const char *name_of(const struct play *play, int name, char buf[32])
{
	snprintf(buf, 32, "%s%zu", names[name], (size_t)(play - plays));
	return buf;
}

static uint16_t message_seen(struct actor *a, const struct mote_msg *m)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);
	const struct mote_down_info *down = mote_msg_down(m);

	if (exit)
		return SEEN(SEEN_EXIT, proc_of(a->play, exit->pid), reason_seen(&exit->reason));
	for (int slot = 0; down && slot < MAX_SLOTS; slot++) {
		if (a->refs[slot].id && mote_ref_equal(a->refs[slot], down->ref))
			return SEEN(SEEN_DOWN, slot, reason_seen(&down->reason));
	}
	if (m->type == T_TICK)
		return SEEN(SEEN_TICK, 0, 0);
	if (m->type == T_MESSAGE && m->size == sizeof(struct message)) {
		const struct message *message = m->data;

		return SEEN(SEEN_MESSAGE, message->from, message->step);
	}
	return SEEN(SEEN_ODD, 0, 0);
}

/* What only those want who ask for the task. */
static bool of_task(const struct actor *a, const struct mote_msg *m)
{
	for (int slot = 0; a->has_tasks && slot < MAX_SLOTS; slot++) {
		if (a->tasks[slot].ref.id && mote_ref_equal(a->tasks[slot].ref, mote_msg_ref(m)))
			return true;
	}
	return false;
}

struct wish {
	struct actor *actor;
	const struct step *step;
};

static bool wanted(const struct mote_msg *m, void *arg)
{
	const struct wish *wish = arg;

	if (of_task(wish->actor, m))
		return false;
	switch (wish->step->pattern) {
	case Q_MSG:
		return m->type == T_MESSAGE || m->type == T_TICK;
	case Q_FROM:
		return m->type == T_TICK ||
		       (m->type == T_MESSAGE && ((struct message *)m->data)->from == wish->step->who);
	case Q_EXIT:
		return m->type == MOTE_MSG_EXIT || m->type == T_TICK;
	case Q_DOWN:
		return m->type == MOTE_MSG_DOWN || m->type == T_TICK;
	}
	return m->type != T_GO && m->type != T_ACK;
}

static struct mote_msg *take(struct actor *a, const struct step *s, mote_deadline deadline)
{
	struct wish wish = { a, s };

	switch (a->has_tasks && s->pattern != Q_REF ? NR_PATTERNS : s->pattern) {
	case Q_ANY:
		return mote_receive(deadline);
	case Q_EXIT:
		return mote_receive_type(MOTE_MSG_EXIT, deadline);
	case Q_DOWN:
		return mote_receive_type(MOTE_MSG_DOWN, deadline);
	case Q_REF:
		return mote_receive_ref(a->refs[s->slot], deadline);
	}
	return mote_receive_match(wanted, &wish, deadline);
}

static void busy(struct actor *a, bool is)
{
	atomic_store_explicit(&a->busy, is, memory_order_relaxed);
}

static struct mote_msg *receive(struct actor *a, const struct step *s)
{
	struct mote_msg *m;

	switch (s->op) {
	case OP_POLL:
		return take(a, s, MOTE_NOW);
	case OP_WAIT:
		busy(a, true);
		m = take(a, s, mote_in_us(chance(&a->dice) % 1000));
		busy(a, false);
		return m;
	}
	if (s->pattern == Q_ANY || s->pattern == Q_MSG || s->pattern == Q_FROM || (a->has_tasks && s->pattern != Q_REF))
		return take(a, s, MOTE_FOREVER);
	/* These can't take two kinds at once. */
	for (;;) {
		m = take(a, s, mote_in_us(1000));
		if (!m && mote_errno() == -EINVAL)
			mote_sleep(mote_in_us(1000));
		if (!m)
			m = mote_receive_type(T_TICK, MOTE_NOW);
		if (m)
			return m;
	}
}

/* What the next answer goes to. */
struct asked {
	struct mote_from from;
	mote_ref alias;
};

static void receive_step(struct actor *a, int k, struct asked *asked)
{
	struct mote_msg *m = receive(a, &a->play->sc.steps[a->self][k]);

	if (!m) {
		a->seen[k] = SEEN(SEEN_NONE, 0, 0);
		return;
	}
	if (m->type == T_MESSAGE) {
		const struct message *message = m->data;
		struct mote_from from = mote_msg_from(m);

		if (from.ref.id)
			*asked = (struct asked){ .from = from };
		else if (message->alias.id)
			*asked = (struct asked){ .alias = message->alias };
	}
	a->seen[k] = message_seen(a, m);
	if (m->type == T_TICK)
		atomic_store_explicit(&a->ticked, a->ticks, memory_order_relaxed);
	mote_msg_free(m);
}

static void play_actor(void *arg);
static int64_t play_task(void *arg);

static void spawn_step(struct actor *a, const struct step *s)
{
	struct mote_spawn_opts opts = {
		.size = sizeof(opts), .fn = play_actor, .arg = &a->play->actors[s->who],
		.ref = &a->refs[s->slot],
		.flags = s->op == OP_SPAWN_LINK ? MOTE_LINK : s->op == OP_SPAWN_MONITOR ? MOTE_MONITOR : 0,
	};

	busy(a, true);
	if (s->op == OP_TASK) {
		a->has_tasks = true;
		a->tasks[s->slot] = mote_task_async(play_task, opts.arg);
		if (!a->tasks[s->slot].ref.id)
			abort();
	} else if (!mote_pid_valid(mote_spawn_opts(&opts))) {
		abort();
	}
	mote_msg_free(mote_receive_type(T_ACK, MOTE_FOREVER));
	busy(a, false);
}

static enum seen call_seen(int err)
{
	switch (err) {
	case -ETIMEDOUT:
		return SEEN_LATE;
	case -ESRCH:
		return SEEN_NOPROC;
	case -EPIPE:
		return SEEN_GONE;
	case -EDEADLK:
		return SEEN_CYCLE;
	}
	return SEEN_ODD;
}

static void call_step(struct actor *a, int k, mote_pid to, const struct message *message)
{
	struct mote_msg *reply = NULL;
	int err;

	busy(a, true);
	err = mote_call(to, T_MESSAGE, message, sizeof(*message), &reply, mote_in_us(chance(&a->dice) % 2000));
	busy(a, false);
	a->seen[k] = err ? SEEN(call_seen(err), 0, 0) : message_seen(a, reply);
	mote_msg_free(reply);
}

static enum seen task_seen(int err)
{
	switch (err) {
	case 0:
		return SEEN_YES;
	case -EPIPE:
		return SEEN_GONE;
	case -ETIMEDOUT: case -EAGAIN:
		return SEEN_LATE;
	}
	return SEEN_ODD;
}

static void task_step(struct actor *a, int k, const struct step *s)
{
	mote_task *task = &a->tasks[s->slot];
	struct mote_task_result result = { 0 };
	mote_deadline deadline;
	enum seen seen;
	int err;

	if (!task->ref.id) {
		a->seen[k] = SEEN(SEEN_NONE, 0, 0);
		return;
	}
	busy(a, true);
	deadline = mote_in_us(chance(&a->dice) % 1500);
	if (s->op == OP_AWAIT) {
		err = mote_task_await(*task, NULL, deadline);
		seen = task_seen(err);
	} else if (s->op == OP_YIELD) {
		err = mote_task_yield(*task, &result, deadline);
		seen = task_seen(err);
	} else {
		err = mote_task_shutdown(*task, &result, deadline);
		seen = !err ? SEEN_YES : err == -ESHUTDOWN || err == -EPIPE || err == -ESRCH ? SEEN_NO : SEEN_ODD;
	}
	busy(a, false);
	mote_msg_free(result.m);
	if (s->op != OP_YIELD || err != -EAGAIN)
		task->ref.id = 0;
	a->seen[k] = SEEN(seen, 0, 0);
}

static void timer_step(struct actor *a, int slot, mote_pid to, const struct message *message)
{
	int n = atomic_load_explicit(&a->nr_timers, memory_order_relaxed);

	a->slots[slot] = mote_send_after(mote_in_us(chance(&a->dice) % 2000), to, T_MESSAGE, message, sizeof(*message));
	a->timers[n] = a->slots[slot];
	/* release: pairs with settled() */
	atomic_store_explicit(&a->nr_timers, n + 1, memory_order_release);
}

static void note(struct actor *a, int k, bool yes)
{
	a->seen[k] = SEEN(yes ? SEEN_YES : SEEN_NO, 0, 0);
}

static void crash(void)
{
	static volatile int *volatile nowhere;

	*nowhere = 1;
}

static void step_take(struct actor *a, int k, struct asked *asked)
{
	const struct step *s = &a->play->sc.steps[a->self][k];
	mote_pid to = a->play->actors[s->who].pid, found;
	struct message message = { .from = a->self, .step = k };
	const char *name;
	char buf[32];

	name = name_of(a->play, s->name, buf);
	switch (s->op) {
	case OP_SPAWN: case OP_SPAWN_LINK: case OP_SPAWN_MONITOR: case OP_TASK:
		spawn_step(a, s);
		break;
	case OP_AWAIT: case OP_YIELD: case OP_SHUTDOWN:
		task_step(a, k, s);
		break;
	case OP_ASK:
		message.alias = a->refs[s->slot];
		/* fall through */
	case OP_SEND:
		mote_send(to, T_MESSAGE, &message, sizeof(message));
		break;
	case OP_SEND_NAME:
		note(a, k, !mote_send_name(name, T_MESSAGE, &message, sizeof(message)));
		break;
	case OP_ANSWER:
		if (asked->from.ref.id)
			mote_reply(asked->from, T_MESSAGE, &message, sizeof(message));
		else if (asked->alias.id)
			mote_send_alias(asked->alias, T_MESSAGE, &message, sizeof(message));
		asked->from.ref.id = 0;
		break;
	case OP_CALL:
		call_step(a, k, to, &message);
		break;
	case OP_RECV: case OP_POLL: case OP_WAIT:
		receive_step(a, k, asked);
		break;
	case OP_LINK:
		mote_link(to);
		break;
	case OP_UNLINK:
		mote_unlink(to);
		break;
	case OP_MONITOR:
		a->refs[s->slot] = mote_monitor(to);
		break;
	case OP_MONITOR_NAME:
		a->refs[s->slot] = mote_monitor_name(name);
		break;
	case OP_DEMONITOR: case OP_FLUSH:
		note(a, k, mote_demonitor(a->refs[s->slot], s->op == OP_FLUSH ? MOTE_FLUSH : 0));
		break;
	case OP_ALIAS: case OP_ALIAS_ONCE:
		a->refs[s->slot] = mote_alias(s->op == OP_ALIAS_ONCE ? MOTE_ALIAS_REPLY : 0);
		break;
	case OP_UNALIAS:
		note(a, k, mote_unalias(a->refs[s->slot]));
		break;
	case OP_TRAP: case OP_UNTRAP:
		mote_trap_exit(s->op == OP_TRAP);
		break;
	case OP_EXIT:
		mote_exit(reason_of(s->reason));
	case OP_CRASH:
		crash();
		break;
	case OP_SIGNAL:
		mote_exit_pid(to, reason_of(s->reason));
		break;
	case OP_REGISTER:
		note(a, k, !mote_register(name, to));
		break;
	case OP_UNREGISTER:
		note(a, k, !mote_unregister(name));
		break;
	case OP_WHEREIS:
		found = mote_whereis(name);
		a->seen[k] = !mote_pid_valid(found) ? SEEN(SEEN_NONE, 0, 0) :
			     SEEN(SEEN_PROCESS, proc_of(a->play, found), 0);
		break;
	case OP_TIMER:
		timer_step(a, s->slot, to, &message);
		break;
	case OP_CANCEL:
		note(a, k, !mote_timer_cancel(a->slots[s->slot], NULL));
		break;
	}
}

static void dawdle(struct actor *a)
{
	uint32_t r = chance(&a->dice);

	switch (r % 8) {
	case 0: case 1:
		mote_yield();
		break;
	case 2: case 3:
		for (uint32_t n = (r >> 8) % 3000; n; n--)
			__asm__ volatile("" ::: "memory");
		break;
	case 4:
		if (r >> 8 & 7)
			break;
		busy(a, true);
		mote_sleep(mote_in_us((r >> 11) % 200));
		busy(a, false);
		break;
	}
}

static void play_actor(void *arg)
{
	struct actor *a = arg;
	struct asked asked = { 0 };
	int at, parent = spawner_of(&a->play->sc, a->self, &at);

	if (parent != NOBODY) {
		uint32_t who = (uint32_t)((a->play - plays) * MAX_PROCS + a->self);

		mote_send(first, T_BORN, &who, sizeof(who));
	}
	mote_msg_free(mote_receive_type(T_GO, MOTE_FOREVER));
	for (int k = 0; k < a->play->sc.len[a->self]; k++) {
		dawdle(a);
		step_take(a, k, &asked);
	}
}

static int64_t play_task(void *arg)
{
	play_actor(arg);
	return 0;
}

/* --- the first process --- */

static void play_begin(struct play *play)
{
	int at;

	for (int i = 0; i < play->sc.nr_procs; i++) {
		struct actor *a = &play->actors[i];

		a->play = play;
		a->self = i;
		a->end = END_UNKNOWN;
		a->dice = seed * 1000003 + play->sc.id * 16 + i;
		if (spawner_of(&play->sc, i, &at) != NOBODY)
			continue;
		a->pid = mote_spawn_monitor(play_actor, a, &a->watch);
		if (!mote_pid_valid(a->pid))
			abort();
		a->born = true;
		play->left++;
	}
}

static void play_go(struct play *play)
{
	int at;

	for (int i = 0; i < play->sc.nr_procs; i++) {
		if (spawner_of(&play->sc, i, &at) == NOBODY)
			mote_send(play->actors[i].pid, T_GO, NULL, 0);
	}
}

static void actor_born(struct actor *a, mote_pid pid)
{
	int at, parent = spawner_of(&a->play->sc, a->self, &at);

	a->pid = pid;
	a->watch = mote_monitor(pid);
	a->born = true;
	a->play->left++;
	mote_send(pid, T_GO, NULL, 0);
	mote_send(a->play->actors[parent].pid, T_ACK, NULL, 0);
}

static void actor_over(const struct mote_down_info *down)
{
	for (unsigned int n = 0; n < nr_plays; n++) {
		for (int i = 0; i < plays[n].sc.nr_procs; i++) {
			struct actor *a = &plays[n].actors[i];

			if (!a->born || a->over || !mote_ref_equal(a->watch, down->ref))
				continue;
			a->over = true;
			a->end = reason_seen(&down->reason);
			/* It had ended before: why is not known. */
			if (a->end == R_NOPROC && spawner_of(&plays[n].sc, i, &(int){ 0 }) != NOBODY)
				a->end = END_UNKNOWN;
			plays[n].left--;
			return;
		}
	}
}

/* Or is over; not one whose DOWN is still on its way, or that has not noticed its tick yet. */
static bool actor_waits(struct actor *a)
{
	struct mote_process_info info = { .size = sizeof(info) };

	return a->over || (!mote_process_info(a->pid, &info) && info.state == MOTE_WAITING &&
			   !atomic_load_explicit(&a->busy, memory_order_relaxed) &&
			   atomic_load_explicit(&a->ticked, memory_order_relaxed) == a->ticks);
}

static bool timers_done(struct actor *a)
{
	/* acquire: pairs with timer_step() */
	int n = atomic_load_explicit(&a->nr_timers, memory_order_acquire);

	for (int i = 0; i < n; i++) {
		if (a->timers[i].id && mote_timer_left(a->timers[i]) >= 0)
			return false;
	}
	return true;
}

/* Calls f with each process that was watched; false as soon as f says so. */
static bool every_actor(bool (*f)(struct actor *a))
{
	for (unsigned int n = 0; n < nr_plays; n++) {
		for (int i = 0; plays[n].left && i < plays[n].sc.nr_procs; i++) {
			if (plays[n].actors[i].born && !f(&plays[n].actors[i]))
				return false;
		}
	}
	return true;
}

/* How often one process went on; 0: there are some that have not reported yet. */
static uint64_t switches(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };
	unsigned int known = 1 + stuck;

	for (unsigned int n = 0; n < nr_plays; n++)
		known += plays[n].left;
	mote_runtime_info(&info);
	return info.processes == known ? info.switches : 0;
}

/*
 * Whether nothing moves. All waited during the first look, at one time or another; whoever sent something before it
 * waited did so before the second look, and then its receiver either is no longer seen waiting, or was switched to.
 */
static bool settled(void)
{
	uint64_t before = switches();

	return before && every_actor(timers_done) && every_actor(actor_waits) && every_actor(actor_waits) &&
	       switches() == before;
}

static void play_tick(struct play *play)
{
	for (int i = 0; i < play->sc.nr_procs; i++) {
		struct actor *a = &play->actors[i];

		if (a->born && !a->over) {
			a->ticks++;
			mote_send(a->pid, T_TICK, NULL, 0);
			return;
		}
	}
}

static void play_stuck(struct play *play)
{
	for (int i = 0; i < play->sc.nr_procs; i++) {
		struct actor *a = &play->actors[i];

		if (a->born && !a->over) {
			a->over = true;
			a->end = END_STUCK;
		}
	}
	stuck += play->left;
	play->left = 0;
}

static void play_all(void *arg)
{
	unsigned int ticks = 0, left;

	(void)arg;
	first = mote_self();
	for (unsigned int n = 0; n < nr_plays; n++)
		play_begin(&plays[n]);
	for (unsigned int n = 0; n < nr_plays; n++)
		play_go(&plays[n]);
	do {
		struct mote_msg *m = mote_receive(mote_in_us(200));

		if (m && m->type == T_BORN) {
			uint32_t who = *(uint32_t *)m->data;

			actor_born(&plays[who / MAX_PROCS].actors[who % MAX_PROCS], m->from);
		} else if (m && mote_msg_down(m)) {
			actor_over(mote_msg_down(m));
		}
		left = 0;
		for (unsigned int n = 0; n < nr_plays; n++)
			left += plays[n].left;
		if (m) {
			mote_msg_free(m);
			continue;
		}
		if (!left || !settled())
			continue;
		/* No scenario has as many steps. */
		ticks++;
		for (unsigned int n = 0; n < nr_plays; n++) {
			if (!plays[n].left)
				continue;
			if (ticks > 2 * MAX_PROCS * MAX_STEPS)
				play_stuck(&plays[n]);
			else
				play_tick(&plays[n]);
		}
	} while (left);
}

int main(int argc, char **argv)
{
	struct scenario sc;
	int more;

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	while ((more = scenario_read(stdin, &sc)) > 0) {
		if (!(nr_plays & (nr_plays + 1)) || !plays) {
			plays = realloc(plays, 2 * (nr_plays + 1) * sizeof(*plays));
			if (!plays)
				return 2;
		}
		memset(&plays[nr_plays], 0, sizeof(*plays));
		plays[nr_plays++].sc = sc;
	}
	if (more < 0 || !nr_plays || mote_run(play_all, NULL, NULL))
		return 2;
	for (unsigned int n = 0; n < nr_plays; n++) {
		struct outcome o = { 0 };

		for (int i = 0; i < plays[n].sc.nr_procs; i++) {
			o.end[i] = plays[n].actors[i].end;
			memcpy(o.seen[i], plays[n].actors[i].seen, sizeof(o.seen[i]));
		}
		outcome_print(stdout, &plays[n].sc, &o);
	}
	return 0;
}
