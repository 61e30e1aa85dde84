/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/report.h: what supervisors and servers report of their own, by way of the log (mote/log.h): the supervisor and
 * progress reports of OTP, and the last words of behaviours. Crash reports need no help: each abnormal end of a
 * process makes one. By processes, in their own context. Nothing of the program's runs: a process apart hands them to
 * the handlers.
 */
#ifndef OTP_REPORT_H
#define OTP_REPORT_H

#include <mote/base.h>
#include <mote/message.h>

enum report_context {
	REPORT_PROGRESS,		/* a child was started; level info, which the log leaves out by default */
	REPORT_START_ERROR,		/* it could not be; level error, as all below */
	REPORT_CHILD_TERMINATED,
	REPORT_SHUTDOWN_ERROR,		/* it ended otherwise than told */
	REPORT_SHUTDOWN,		/* too many restarts: the supervisor ends */
};

/* By the supervisor. name, id, why may be NULL. */
void report_supervisor(enum report_context context, const char *name, const char *id, mote_pid child,
		       const struct mote_reason *why);

/*
 * A server, task or other behaviour ends abnormally; by itself, before terminate is lost: kind ("server", "task"), the
 * message it was at (or NULL), its state as text (or NULL), for whom it works (MOTE_NOBODY: nobody in particular).
 */
void report_behaviour(const char *kind, const struct mote_reason *why, const struct mote_msg *at, const char *state,
		      mote_pid caller);

#endif
