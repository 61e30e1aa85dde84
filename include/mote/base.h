/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/base.h: the small values that everything shares.
 *
 * Conventions of all headers:
 *  - Functions return 0, a count, or -errno; none touches errno. A function whose natural result is a
 *    pointer or a pid returns NULL or MOTE_NOBODY, and mote_errno() has the reason.
 *  - borrows: the argument need only be valid during the call. takes: it is the callee's, also when the
 *    call fails. gives: it is yours to free.
 *  - Context, unless a function says otherwise: a mote process. "any thread" means foreign threads, too.
 *    Calling a process-only function from a foreign thread ends the program with a message that names it.
 *  - Every call that waits takes an absolute deadline as its last argument. While it waits an exit signal
 *    may end the process: then the call never returns, and the process's cleanups run.
 *  - Structs whose first member is `size` grow in later releases: set it to sizeof. Bytes beyond those
 *    that the library knows must be zero, or the call fails with -E2BIG.
 *  - The library uses `__thread` variables of its own. A process may continue on another OS thread after
 *    any call that waits: addresses of `__thread` variables, errno's too, must not be kept across one
 *    (spawn with MOTE_PINNED where that can't be helped).
 */
#ifndef MOTE_BASE_H
#define MOTE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define MOTE_BEGIN_DECLS extern "C" {
#define MOTE_END_DECLS }
#define MOTE_LITERAL(type) type
#define MOTE_NORETURN [[noreturn]]
#else
#define MOTE_BEGIN_DECLS
#define MOTE_END_DECLS
#define MOTE_LITERAL(type) (type)
#define MOTE_NORETURN _Noreturn
#endif

#define MOTE_API __attribute__((visibility("default")))

MOTE_BEGIN_DECLS

/*
 * A process. Compare with mote_pid_equal(), hash any of the fields. Never reused: the pid of a dead
 * process stays dead. It means the same in every node (mote/node.h); `node` is 0 where the runtime is no node.
 */
typedef struct mote_pid {
	uint64_t serial;
	uint32_t slot;
	uint32_t node;
} mote_pid;

#define MOTE_NOBODY MOTE_LITERAL(mote_pid){ 0, 0, 0 }

/* printf("%s is " MOTE_PID_FMT "\n", name, MOTE_PID_ARG(pid)); */
#define MOTE_PID_FMT "<%u.%u.%llu>"
#define MOTE_PID_ARG(p) (p).node, (p).slot, (unsigned long long)(p).serial

static inline bool mote_pid_equal(mote_pid a, mote_pid b)
{
	return a.serial == b.serial && a.slot == b.slot && a.node == b.node;
}

static inline bool mote_pid_valid(mote_pid p)
{
	return p.serial != 0;
}

/* A reference: a monitor, an alias, a pending call. Never reused. id 0: none. */
typedef struct mote_ref {
	uint64_t id;
	uint32_t slot;
	uint32_t owner;
	uint32_t node;		/* the owner's */
	uint32_t reserved;	/* 0 */
} mote_ref;

static inline bool mote_ref_equal(mote_ref a, mote_ref b)
{
	return a.id == b.id && a.node == b.node;
}

/* An absolute time on CLOCK_MONOTONIC, in nanoseconds. */
typedef struct mote_deadline {
	int64_t ns;
} mote_deadline;

#define MOTE_FOREVER MOTE_LITERAL(mote_deadline){ INT64_MAX }
#define MOTE_NOW MOTE_LITERAL(mote_deadline){ 0 }	/* poll: do not wait at all */

/* Now, and now plus a span (negative spans give MOTE_NOW; sums saturate at MOTE_FOREVER). Any thread. */
MOTE_API mote_deadline mote_now(void);
MOTE_API mote_deadline mote_in_ns(int64_t ns);
MOTE_API mote_deadline mote_in_us(int64_t us);
MOTE_API mote_deadline mote_in_ms(int64_t ms);

/* Why a process ended. Erlang's exit reasons, spelled out. */
enum mote_reason_kind {
	MOTE_NORMAL,		/* returned, or said so */
	MOTE_SHUTDOWN,		/* asked to stop; `data` may hold a detail */
	MOTE_KILL,		/* only as a request: mote_exit_pid(pid, MOTE_REASON_KILL) */
	MOTE_KILLED,		/* what a kill looks like from outside */
	MOTE_NOPROC,		/* there is no such process */
	MOTE_NOCONNECTION,	/* its node is gone */
	MOTE_TIMEOUT,		/* a call was not answered in time */
	MOTE_ERROR,		/* `code` is an error number (positive), `data` a text */
	MOTE_SIGNAL,		/* a crash: `code` is the signal's number; mote_reason_crash() has the rest */
	MOTE_CUSTOM,		/* `code` and `data` are yours */
};

#define MOTE_REASON_MAX 4096	/* bytes of `data` */

/* `data` is borrowed by calls that take a reason, and belongs to the message that delivers one. */
typedef struct mote_reason {
	uint32_t kind;
	int32_t code;
	const void *data;
	size_t size;
} mote_reason;

#define MOTE_REASON_(kind) MOTE_LITERAL(mote_reason){ (kind), 0, NULL, 0 }
#define MOTE_REASON_NORMAL MOTE_REASON_(MOTE_NORMAL)
#define MOTE_REASON_SHUTDOWN MOTE_REASON_(MOTE_SHUTDOWN)
#define MOTE_REASON_KILL MOTE_REASON_(MOTE_KILL)

/* An error reason; `text` may be NULL and is borrowed by whoever gets the result. Any thread. */
MOTE_API struct mote_reason mote_reason_error(int code, const char *text);

/*
 * Writes the reason as text ("normal", "error 32: broken pipe", "signal 11 (SIGSEGV) at 0x0 in f+0x4 < main+0x20") into
 * buf, always NUL-terminated if size > 0. Returns the length that a large enough buffer would have held, as snprintf
 * does. For the names of a crash it reads files. Any thread.
 */
MOTE_API int mote_reason_format(const struct mote_reason *reason, char *buf, size_t size);

#define MOTE_CRASH_FRAMES 32

enum mote_crash_flags {
	MOTE_CRASH_OVERFLOW	= 1 << 0,	/* of the process's stack */
	MOTE_CRASH_NO_ADDRESS	= 1 << 1,	/* an abort, or the machine does not tell */
	MOTE_CRASH_ELSEWHERE	= 1 << 2,	/* on another node: the addresses are of that program */
};

struct mote_crash {
	size_t size;
	int signal;			/* SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT or SIGTRAP */
	int code;			/* si_code of sigaction(2) */
	unsigned int flags;		/* enum mote_crash_flags */
	unsigned int nr_frames;
	uintptr_t address;		/* what was accessed; of SIGFPE and SIGILL the instruction */
	/* The innermost first: the instruction itself, then where the calls that led there return to. */
	uintptr_t frames[MOTE_CRASH_FRAMES];
};

/*
 * Details of a crash, into *crash, whose size the caller set. 0; -ENOENT: the reason is not of a crash; -EINVAL: size.
 * docs/crashes.md has which crashes end their process only, and which the program. Any thread.
 */
MOTE_API int mote_reason_crash(const struct mote_reason *reason, struct mote_crash *crash);

/*
 * The reason, as -errno, of the last call by this process (or foreign thread) that returned NULL or
 * MOTE_NOBODY. Any thread.
 */
MOTE_API int mote_errno(void);

/* The library's version: major * 10000 + minor * 100 + patch. Any thread. */
#define MOTE_VERSION 100
MOTE_API unsigned int mote_version(void);

MOTE_END_DECLS

#endif
