// SPDX-License-Identifier: MIT OR GPL-2.0
#include "otp/restart.h"

#include <mote/process.h>

#include <errno.h>

void intensity_init(struct intensity *i, unsigned int max_restarts, unsigned int max_seconds)
{
	*i = (struct intensity){
		.max = max_restarts == MOTE_RESTARTS_NONE ? 0 : max_restarts ? max_restarts : 3,
		.period_ns = (max_seconds ? max_seconds : 5) * INT64_C(1000000000),
	};
}

static bool intensity_grow(struct intensity *i)
{
	unsigned int room = i->room ? 2 * i->room : 4;
	int64_t *times = mote_alloc(room * sizeof(*times));

	if (!times)
		return false;
	for (unsigned int n = 0; n < i->used; n++)
		times[n] = i->times[(i->first + n) % i->room];
	mote_free(i->times);
	i->times = times;
	i->room = room;
	i->first = 0;
	return true;
}

bool intensity_add(struct intensity *i, int64_t now_ns)
{
	while (i->used && i->times[i->first] < now_ns - i->period_ns) {
		i->first = (i->first + 1) % i->room;
		i->used--;
	}
	if (i->used >= i->max || (i->used == i->room && !intensity_grow(i)))
		return false;
	i->times[(i->first + i->used++) % i->room] = now_ns;
	return true;
}

int backoff_init(struct mote_backoff *b, const struct mote_backoff *from)
{
	*b = *from;
	if (b->first_ms < 0 || b->max_ms < 0 || b->decay_ms < 0 || !(b->jitter <= 1))
		return -EINVAL;
	if (!b->max_ms)
		b->max_ms = 60000;
	if (!b->decay_ms)
		b->decay_ms = 30000;
	if (b->max_ms > INT64_MAX / 4000000 || b->first_ms > b->max_ms)
		return -EINVAL;
	b->jitter = b->jitter < 0 ? 0 : b->jitter > 0 ? b->jitter : 0.5;
	return 0;
}

/* Halved for each decay_ms that the child ran; linear within one, which is near enough and needs no exp(). */
static void failures_decay(const struct mote_backoff *b, struct failures *f, int64_t now_ns)
{
	double spans = f->since_ns ? (double)(now_ns - f->since_ns) / ((double)b->decay_ms * 1e6) : 0;

	f->since_ns = 0;
	for (; spans >= 1 && f->count > 0.001; spans--)
		f->count /= 2;
	if (spans >= 1)
		f->count = 0;
	else if (spans > 0)
		f->count *= 1 - spans / 2;
}

int64_t backoff_add(const struct mote_backoff *b, unsigned int max_restarts, struct failures *f, int64_t now_ns,
		    double random)
{
	double ms = (double)b->first_ms, over;

	failures_decay(b, f, now_ns);
	f->count++;
	over = f->count - max_restarts;
	if (over <= 0)
		return 0;
	for (; over > 1 && ms < (double)b->max_ms; over--)
		ms *= 2;
	/* What makes no wait longer is not counted either: it would only take longer to be forgotten. */
	if (over > 1)
		f->count -= over - 1;
	if (ms > (double)b->max_ms)
		ms = (double)b->max_ms;
	ms *= 1 + b->jitter * (2 * random - 1);
	return (int64_t)(ms * 1e6);
}
