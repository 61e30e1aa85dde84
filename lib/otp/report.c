// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The texts are those that OTP's formatters make of such reports, on one line.
 */
#include "core/process.h"
#include "otp/log.h"
#include "otp/report.h"

#include <stdio.h>

#define TEXT	1024
#define REASON	512

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
	int level = context == REPORT_PROGRESS ? MOTE_LOG_INFO : MOTE_LOG_ERROR, n;
	char text[TEXT], reason[REASON], self[64];
	struct mote_field fields[6];
	size_t f = 0;

	if (!mote_log_enabled(level))
		return;
	reason_text(why, reason, sizeof(reason));
	snprintf(self, sizeof(self), MOTE_PID_FMT, MOTE_PID_ARG(mote_self()));
	name = name ? name : self;
	if (context == REPORT_PROGRESS)
		n = snprintf(text, sizeof(text), "Supervisor: %s. Started: id=%s, pid=" MOTE_PID_FMT ".", name, id ? id : "",
			     MOTE_PID_ARG(child));
	else
		n = snprintf(text, sizeof(text), "Supervisor: %s. Context: %s. Reason: %s. Offender: id=%s, pid=" MOTE_PID_FMT ".",
			     name, contexts[context], reason, id ? id : "", MOTE_PID_ARG(child));
	fields[f++] = mote_field_text("supervisor", name);
	fields[f++] = mote_field_text("context", contexts[context]);
	fields[f++] = mote_field_text("child", id);
	fields[f++] = mote_field_pid("child_pid", child);
	if (why)
		fields[f++] = mote_field_text("reason", reason);
	fields[f] = (struct mote_field){ 0 };
	log_report(level, context == REPORT_PROGRESS ? MOTE_LOG_PROGRESS : MOTE_LOG_SUPERVISOR, fields, text,
		   (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void report_behaviour(const char *kind, const struct mote_reason *why, const struct mote_msg *at, const char *state,
		      mote_pid caller)
{
	char text[TEXT], reason[REASON], message[96] = "";
	struct mote_field fields[8];
	size_t f = 0;
	int n;

	if (!mote_log_enabled(MOTE_LOG_ERROR))
		return;
	reason_text(why, reason, sizeof(reason));
	if (at)
		snprintf(message, sizeof(message), "type %#x, %u bytes, from " MOTE_PID_FMT, at->type, at->size,
			 MOTE_PID_ARG(at->from));
	n = snprintf(text, sizeof(text), "%s " MOTE_PID_FMT " terminating. Reason: %s.%s%s%s%s%s%s", kind,
		     MOTE_PID_ARG(mote_self()), reason, at ? " Last message: " : "", message, at ? "." : "",
		     state ? " State: " : "", state ? state : "", state ? "." : "");
	fields[f++] = mote_field_text("behaviour", kind);
	fields[f++] = mote_field_text("reason", reason);
	if (at)
		fields[f++] = mote_field_text("last_message", message);
	if (state)
		fields[f++] = mote_field_text("state", state);
	if (mote_pid_valid(caller))
		fields[f++] = mote_field_pid("caller", caller);
	fields[f] = (struct mote_field){ 0 };
	log_report(MOTE_LOG_ERROR, MOTE_LOG_SERVER, fields, text,
		   (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}
