/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/redirect.h: from a signal handler back into a process, elsewhere than where it was.
 */
#ifndef CORE_REDIRECT_H
#define CORE_REDIRECT_H

#include "sched/task.h"

/* On each worker's thread: notes what signal mask and rounding modes are usual there. */
void redirect_thread_begin(void);

/*
 * In a handler on an alternate stack that has interrupted t on its own worker: when the handler returns, the
 * thread goes on with fn(t, copy), on t's stack, where it is clear of all that has been in use, as far as that
 * can be: a cleanup's argument may lie in some outer function's frame. copy is of record, size bytes of it, on
 * that stack too. fn never returns. Of what the thread was doing nothing but the contents of the stack remains:
 * neither registers, nor rounding modes, nor the signal mask.
 */
void redirect_context(void *ucontext, struct task *t, void (*fn)(struct task *t, void *record), const void *record,
		      size_t size);

#endif
