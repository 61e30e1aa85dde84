/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What has to be looked after now and then: leases that ran out, schedules that are due. Each server does it for all.
 */
#include "jobs.h"

const struct chore reaper = { "back for want of their server", JOBS_REAP }, cron = { "due by schedule", JOBS_CRON };

struct state {
	const struct chore *chore;
};

static void again(void)
{
	int64_t pause = settings.lease_ms / 4;

	mote_server_timeout(mote_in_ms(pause < 1000 ? pause : 1000), JOBS_TICK);
}

static int chore_init(struct state *s, void *arg)
{
	s->chore = arg;
	again();
	return 0;
}

static void chore_tick(struct state *s, const struct mote_msg *m)
{
	struct mote_msg *reply;

	(void)m;
	if (!store_call(s->chore->op, NULL, 0, &reply, mote_in_ms(2 * BUSY_MS))) {
		int64_t n = *(int64_t *)reply->data;

		if (n)
			jobs_log("%lld %s", (long long)n, s->chore->name);
		mote_msg_free(reply);
	}
	again();
}

MOTE_SERVER(chore, struct state, .init = chore_init, .handle_info = chore_tick);
const struct mote_server_ops *const chore_ops = &chore.ops;
