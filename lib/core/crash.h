/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/crash.h: a fault in a process's own code ends that process; any other ends the OS process, with a
 * report.
 */
#ifndef CORE_CRASH_H
#define CORE_CRASH_H

#include "sched/task.h"

#include <mote/base.h>

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#define CRASH_MAGIC 0x48535243u

/* What a contained crash leaves: the data of a reason of kind MOTE_SIGNAL, cut off behind the last frame. */
struct crash_record {
	uint32_t magic;
	int32_t signal, code;
	uint32_t flags;			/* enum mote_crash_flags */
	uint32_t nr_frames;
	uint32_t reserved;
	uint64_t address;
	uint64_t frames[MOTE_CRASH_FRAMES];
};

/* Handlers are in place for as long as the runtime runs, then what was there before is put back. */
int crash_start(void);
void crash_stop(void);
void crash_forget(void);		/* in a forked child */

/* On each worker's thread: a stack for handlers. */
int crash_thread_begin(void);
void crash_thread_end(void);

uint64_t crash_count(void);		/* contained, since the start */

/* The record in a reason, copied out; false: there is none. */
bool crash_record_get(const struct mote_reason *reason, struct crash_record *record);

/* "SIGSEGV", or "?". */
const char *crash_signal_name(int signal);

/* Of abort() or raise(), which send the signal to the calling thread. */
bool crash_is_abort(int sig, const siginfo_t *info);

/*
 * crash_judge.c: why a crash of t's thread can't be contained, or NULL. Fills in the record. *exit: if t was
 * only inside of what must not be torn, the word (unwind.slot) by which that returns into t's own code; or 0.
 */
const char *crash_judge(int sig, const siginfo_t *info, const void *ucontext, struct task *t, bool in_runtime,
			struct crash_record *record, uintptr_t *exit);

/* crash_report.c: writes to stderr who has crashed how, and why that is the end. One thread does it, once. */
struct crash_scene {
	int signal;
	const siginfo_t *info;
	const void *ucontext;
	const struct task *task;	/* or NULL */
	const char *why;
};

void crash_report(const struct crash_scene *scene);

/* Ends the OS process by that signal, in whatever state it is. */
_Noreturn void crash_die(int signal);

#endif
