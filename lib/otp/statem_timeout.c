// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The timeouts of a state machine. What a callback asks for is kept as a wish until it is through: only then is it
 * known whether the state is another one, and so which timeouts end.
 */
#include "otp/statem.h"

#include <mote/timer.h>

#include <errno.h>
#include <string.h>

static struct statem_timeout *timeout_find(struct statem_timeouts *t, int which)
{
	for (unsigned int i = 0; i < t->nr_running; i++) {
		if (t->running[i].which == which)
			return &t->running[i];
	}
	return NULL;
}

/* Out of the list before anything else: nothing is left half done if an exit signal acts in one of the calls. */
static struct mote_msg *timeout_take(struct statem_timeouts *t, struct statem_timeout *at)
{
	struct mote_msg *m = at->m;
	size_t behind = (size_t)(t->running + t->nr_running - (at + 1));

	memmove(at, at + 1, behind * sizeof(*at));
	t->nr_running--;
	return m;
}

static void timeout_end(struct statem_timeouts *t, int which)
{
	struct statem_timeout *at = timeout_find(t, which), was;

	if (!at)
		return;
	was = *at;
	timeout_take(t, at);
	if (!was.due)
		mote_timer_cancel(was.timer, NULL);
	mote_msg_free(was.m);
}

static void timeout_begin(struct statem_timeouts *t, const struct statem_wish *w)
{
	struct statem_timeout new = { .which = w->which, .m = w->m, .turn = ++t->turn };
	struct statem_timeout *room = statem_grow(t->running, t->nr_running, &t->max_running, sizeof(*room));

	if (!room)
		mote_exit(mote_reason_error(ENOMEM, "timeouts"));
	t->running = room;
	new.due = w->update || w->deadline.ns <= mote_now().ns;
	if (!new.due) {
		new.timer = mote_send_after(w->deadline, mote_self(), STATEM_TIMEOUT, &new.turn, sizeof(new.turn));
		if (!new.timer.id)
			mote_exit(mote_reason_error(-mote_errno(), "timeouts"));
	}
	t->running[t->nr_running++] = new;
}

void statem_timeouts_settle(struct statem *st, bool changed)
{
	struct statem_timeouts *t = &st->timeouts;

	if (likely(!t->nr_running && !t->nr_wishes))
		return;
	timeout_end(t, MOTE_STATEM_EVENT_TIMEOUT);
	if (changed)
		timeout_end(t, MOTE_STATEM_STATE_TIMEOUT);
	for (unsigned int i = 0; i < t->nr_wishes; i++) {
		struct statem_wish *w = &t->wishes[i];
		struct statem_timeout *runs = timeout_find(t, w->which);

		if (w->update && runs) {
			mote_msg_free(runs->m);
			runs->m = w->m;
			continue;
		}
		timeout_end(t, w->which);
		if (w->m)
			timeout_begin(t, w);
	}
	t->nr_wishes = 0;
}

struct mote_msg *statem_timeout_fired(struct statem *st, const struct mote_msg *m, int *which)
{
	struct statem_timeouts *t = &st->timeouts;
	uint64_t turn;

	if (m->size != sizeof(turn) || !mote_pid_equal(m->from, mote_self()))
		return NULL;
	memcpy(&turn, m->data, sizeof(turn));
	for (unsigned int i = 0; i < t->nr_running; i++) {
		if (t->running[i].turn == turn) {
			*which = t->running[i].which;
			return timeout_take(t, &t->running[i]);
		}
	}
	return NULL;
}

struct mote_msg *statem_timeout_due(struct statem *st, int *which)
{
	struct statem_timeouts *t = &st->timeouts;

	for (unsigned int i = 0; i < t->nr_running; i++) {
		if (t->running[i].due) {
			*which = t->running[i].which;
			return timeout_take(t, &t->running[i]);
		}
	}
	return NULL;
}

/* Takes w->m. The last wish for a timeout counts, and stands where it was made. */
static int wish(struct statem *st, struct statem_wish w)
{
	struct statem_timeouts *t = &st->timeouts;
	struct statem_wish *room = statem_grow(t->wishes, t->nr_wishes, &t->max_wishes, sizeof(*room));
	struct mote_msg *before = NULL;

	if (!room) {
		mote_msg_free(w.m);
		return -ENOMEM;
	}
	t->wishes = room;
	for (unsigned int i = 0; i < t->nr_wishes; i++) {
		if (room[i].which == w.which) {
			before = room[i].m;
			memmove(&room[i], &room[i + 1], (t->nr_wishes - i - 1) * sizeof(*room));
			t->nr_wishes--;
			break;
		}
	}
	room[t->nr_wishes++] = w;
	mote_msg_free(before);
	return 0;
}

static int wish_message(struct statem *st, struct statem_wish w, uint32_t type, const void *data, size_t size)
{
	int err;

	if (w.which < MOTE_STATEM_STATE_TIMEOUT)
		return -EINVAL;
	w.m = statem_message(type, data, size, &err);
	return w.m ? wish(st, w) : err;
}

int mote_statem_timeout(int which, mote_deadline deadline, uint32_t type, const void *data, size_t size)
{
	struct statem *st = statem_self("mote_statem_timeout");

	if (deadline.ns == INT64_MAX)
		return mote_statem_timeout_cancel(which);
	return wish_message(st, (struct statem_wish){ .which = which, .deadline = deadline }, type, data, size);
}

int mote_statem_timeout_update(int which, uint32_t type, const void *data, size_t size)
{
	struct statem *st = statem_self("mote_statem_timeout_update");

	return wish_message(st, (struct statem_wish){ .which = which, .update = true }, type, data, size);
}

int mote_statem_timeout_cancel(int which)
{
	struct statem *st = statem_self("mote_statem_timeout_cancel");

	if (which < MOTE_STATEM_STATE_TIMEOUT)
		return -EINVAL;
	return wish(st, (struct statem_wish){ .which = which });
}
