// SPDX-License-Identifier: MIT OR GPL-2.0
#include "core/process.h"
#include "otp/report.h"

#include <stdio.h>

static void reason_text(const struct mote_reason *why, char *buf, size_t size)
{
	buf[0] = 0;
	if (why)
		mote_reason_format(why, buf, size);
}

void report_supervisor(enum report_context context, const char *name, const char *id, mote_pid child,
		       const struct mote_reason *why)
{
	static const char *const contexts[] = {
		[REPORT_PROGRESS] = "progress", [REPORT_START_ERROR] = "start_error",
		[REPORT_CHILD_TERMINATED] = "child_terminated", [REPORT_SHUTDOWN_ERROR] = "shutdown_error",
		[REPORT_SHUTDOWN] = "shutdown",
	};
	char text[512];

	reason_text(why, text, sizeof(text));
	runtime_log(context == REPORT_PROGRESS ? MOTE_LOG_INFO : MOTE_LOG_ERROR,
		    "supervisor %s: %s: child %s " MOTE_PID_FMT "%s%s", name ? name : "", contexts[context],
		    id ? id : "", MOTE_PID_ARG(child), why ? ": " : "", text);
}

void report_behaviour(const char *kind, const struct mote_reason *why, const struct mote_msg *at, const char *state,
		      mote_pid caller)
{
	char text[512];

	reason_text(why, text, sizeof(text));
	runtime_log(MOTE_LOG_ERROR, "%s " MOTE_PID_FMT " terminates: %s%s%s, last message %#x, for " MOTE_PID_FMT, kind,
		    MOTE_PID_ARG(mote_self()), text, state ? ", state " : "", state ? state : "", at ? at->type : 0,
		    MOTE_PID_ARG(caller));
}
