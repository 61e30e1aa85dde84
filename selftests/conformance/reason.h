/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* reason.h: the reasons of scenarios, as mote has them. */
#ifndef CONFORMANCE_REASON_H
#define CONFORMANCE_REASON_H

#include "scenario.h"

#include <mote.h>

static inline struct mote_reason reason_of(int reason)
{
	static const enum mote_reason_kind kinds[] = {
		[R_NORMAL] = MOTE_NORMAL, [R_SHUTDOWN] = MOTE_SHUTDOWN, [R_DETAIL] = MOTE_SHUTDOWN,
		[R_KILL] = MOTE_KILL, [R_KILLED] = MOTE_KILLED, [R_NOPROC] = MOTE_NOPROC, [R_ERROR] = MOTE_ERROR,
		[R_CUSTOM] = MOTE_CUSTOM, [R_TIMEOUT] = MOTE_TIMEOUT,
	};
	struct mote_reason r = { .kind = kinds[reason] };

	if (reason == R_DETAIL) {
		r.data = "1";
		r.size = 1;
	}
	if (reason == R_ERROR)
		r.code = 5;
	if (reason == R_CUSTOM)
		r.code = 7;
	return r;
}

/* 15: none that a scenario can have. */
static inline int reason_seen(const struct mote_reason *r)
{
	switch (r->kind) {
	case MOTE_NORMAL:
		return R_NORMAL;
	case MOTE_SHUTDOWN:
		return !r->size ? R_SHUTDOWN : r->size == 1 && !memcmp(r->data, "1", 1) ? R_DETAIL : 15;
	case MOTE_KILL:
		return R_KILL;
	case MOTE_KILLED:
		return R_KILLED;
	case MOTE_NOPROC:
		return R_NOPROC;
	case MOTE_ERROR:
		return r->code == 5 ? R_ERROR : 15;
	case MOTE_CUSTOM:
		return r->code == 7 ? R_CUSTOM : 15;
	case MOTE_SIGNAL:
		return R_CRASH;
	case MOTE_TIMEOUT:
		return R_TIMEOUT;
	}
	return 15;
}

#endif
