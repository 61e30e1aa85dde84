// SPDX-License-Identifier: MIT OR GPL-2.0
#include "core/crash.h"
#include "core/process.h"
#include "core/symbol.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct mote_reason mote_reason_error(int code, const char *text)
{
	size_t size = text ? strnlen(text, MOTE_REASON_MAX) : 0;

	return (struct mote_reason){ MOTE_ERROR, code, size ? text : NULL, size };
}

__attribute__((format(printf, 4, 5)))
static void append(char *buf, size_t size, size_t *length, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(*length < size ? buf + *length : NULL, *length < size ? size - *length : 0, format, args);
	va_end(args);
	*length += n > 0 ? (size_t)n : 0;
}

#define REMEMBERED 64

/* The names asked for last: what crashes in a loop is logged each time, and finding a name takes a file. */
static void frame_format(uintptr_t pc, char *buf, size_t size)
{
	static struct {
		uintptr_t pc;
		char name[120];
	} names[REMEMBERED];
	static _Atomic bool busy;
	unsigned int i = (unsigned int)(pc ^ pc >> 6 ^ pc >> 12) % REMEMBERED;

	/* acquire, release: the table. Whoever finds it busy does without: nobody waits. */
	if (atomic_exchange_explicit(&busy, true, memory_order_acquire)) {
		symbol_format(pc, buf, size);
		return;
	}
	if (names[i].pc != pc || !names[i].name[0]) {
		symbol_format(pc, names[i].name, sizeof(names[i].name));
		names[i].pc = pc;
	}
	memcpy(buf, names[i].name, size < sizeof(names[i].name) ? size : sizeof(names[i].name));
	atomic_store_explicit(&busy, false, memory_order_release);
}

static int crash_format(const struct crash_record *r, char *buf, size_t size)
{
	size_t length = 0;
	unsigned int same;
	char name[120];

	append(buf, size, &length, "signal %d (%s)", r->signal, crash_signal_name(r->signal));
	if (r->flags & MOTE_CRASH_OVERFLOW)
		append(buf, size, &length, ", stack overflow");
	else if (!(r->flags & MOTE_CRASH_NO_ADDRESS) && (r->signal == SIGSEGV || r->signal == SIGBUS))
		append(buf, size, &length, " at 0x%llx", (unsigned long long)r->address);
	for (unsigned int i = 0; i < r->nr_frames; i += same) {
		for (same = 1; i + same < r->nr_frames && r->frames[i + same] == r->frames[i]; same++)
			;
		/* of a return address the call is meant, which ends before it */
		if (r->flags & MOTE_CRASH_ELSEWHERE)
			snprintf(name, sizeof(name), "0x%llx", (unsigned long long)r->frames[i]);
		else
			frame_format(r->frames[i] - (i > 0), name, sizeof(name));
		append(buf, size, &length, "%s%s", i ? " < " : " in ", name);
		if (same > 1)
			append(buf, size, &length, " (%u times)", same);
	}
	return (int)length;
}

int mote_reason_crash(const struct mote_reason *reason, struct mote_crash *crash)
{
	struct mote_crash full = { .size = crash->size };
	struct crash_record r;

	if (crash->size < sizeof(crash->size))
		return -EINVAL;
	if (!crash_record_get(reason, &r))
		return -ENOENT;
	full.signal = r.signal;
	full.code = r.code;
	full.flags = r.flags;
	full.nr_frames = r.nr_frames;
	full.address = (uintptr_t)r.address;
	for (unsigned int i = 0; i < r.nr_frames; i++)
		full.frames[i] = (uintptr_t)r.frames[i];
	opts_give(crash, full.size, &full, sizeof(full));
	return 0;
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
	struct crash_record crash;
	bool code = reason->kind == MOTE_ERROR || reason->kind == MOTE_SIGNAL || reason->kind == MOTE_CUSTOM;

	if (crash_record_get(reason, &crash))
		return crash_format(&crash, buf, size);
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
