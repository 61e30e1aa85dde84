// SPDX-License-Identifier: MIT OR GPL-2.0
#include "core/process.h"

#include <stdio.h>
#include <string.h>

struct mote_reason mote_reason_error(int code, const char *text)
{
	size_t size = text ? strnlen(text, MOTE_REASON_MAX) : 0;

	return (struct mote_reason){ MOTE_ERROR, code, size ? text : NULL, size };
}

int mote_reason_format(const struct mote_reason *reason, char *buf, size_t size)
{
	static const char *const names[] = {
		[MOTE_NORMAL] = "normal", [MOTE_SHUTDOWN] = "shutdown", [MOTE_KILL] = "kill",
		[MOTE_KILLED] = "killed", [MOTE_NOPROC] = "noproc", [MOTE_NOCONNECTION] = "noconnection",
		[MOTE_TIMEOUT] = "timeout", [MOTE_ERROR] = "error", [MOTE_SIGNAL] = "signal",
		[MOTE_CUSTOM] = "custom",
	};
	const char *name = reason->kind <= MOTE_CUSTOM ? names[reason->kind] : "unknown";
	int len = reason->data && reason->size ? (int)reason->size : 0;
	bool code = reason->kind == MOTE_ERROR || reason->kind == MOTE_SIGNAL || reason->kind == MOTE_CUSTOM;

	if (code && len)
		return snprintf(buf, size, "%s %d: %.*s", name, reason->code, len, (const char *)reason->data);
	if (code)
		return snprintf(buf, size, "%s %d", name, reason->code);
	if (len)
		return snprintf(buf, size, "%s: %.*s", name, len, (const char *)reason->data);
	return snprintf(buf, size, "%s", name);
}

unsigned int mote_version(void)
{
	return MOTE_VERSION;
}

static int64_t add(int64_t now, int64_t span)
{
	if (span < 0)
		return 0;
	return span > INT64_MAX - now ? INT64_MAX : now + span;
}

static int64_t scale(int64_t n, int64_t unit)
{
	return n > INT64_MAX / unit ? INT64_MAX : n * unit;
}

mote_deadline mote_now(void)
{
	return (mote_deadline){ clock_now() };
}

mote_deadline mote_in_ns(int64_t ns)
{
	return (mote_deadline){ add(clock_now(), ns) };
}

mote_deadline mote_in_us(int64_t us)
{
	return mote_in_ns(us < 0 ? -1 : scale(us, 1000));
}

mote_deadline mote_in_ms(int64_t ms)
{
	return mote_in_ns(ms < 0 ? -1 : scale(ms, 1000000));
}
