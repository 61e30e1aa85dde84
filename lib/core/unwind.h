/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/unwind.h: who called whom, from a context that a signal has interrupted.
 *
 * By the call frame information in .eh_frame, which gcc and clang write for every function, with or without
 * frame pointers; by the frame pointer where there is none. Async-signal-safe: no locks, no memory, and nothing
 * is read but the given stack and the tables of loaded objects. What can't be proved ends the walk.
 */
#ifndef CORE_UNWIND_H
#define CORE_UNWIND_H

#include "sched/stack.h"

#if defined(__x86_64__)
#define UNWIND_REGS	17		/* by their DWARF numbers; 16: the return address */
#elif defined(__aarch64__)
#define UNWIND_REGS	32
#endif

#define UNWIND_ROWS	8

struct unwind_row {			/* where the caller's registers are, for one address */
	uintptr_t at;
	int64_t cfa_offset;
	uint8_t cfa_register;
	bool cfa_expression;
	uint8_t kinds[UNWIND_REGS];
	int32_t offsets[UNWIND_REGS];	/* or registers */
};

struct unwind {
	uintptr_t pc;
	uintptr_t slot;			/* where on the stack pc was found; 0: not there */
#define UNWIND_IN_REGISTER	1	/* but in the register for return addresses, still */
	bool exact;			/* pc is where the frame stands, not where a call returns to */
	bool in_signal;			/* it is what signal handlers return to: the walk ends here */
	uint64_t known;			/* registers whose values are those of this frame */
	uintptr_t regs[UNWIND_REGS];
	uintptr_t low, high;		/* the stack; both 0: unknown, every word is asked of the kernel */
	struct unwind_row rows[UNWIND_ROWS];	/* worked out already: for recursions */
};

/* stack: the one that is in use there; NULL: unknown. */
void unwind_begin(struct unwind *u, const void *ucontext, const struct stack *stack);

/* To the caller's frame. False: there is none, or it can't be told. */
bool unwind_step(struct unwind *u);

uintptr_t unwind_sp(const struct unwind *u);

/* An address inside the instruction that the frame stands at: to look functions up by. */
static inline uintptr_t unwind_at(const struct unwind *u)
{
	return u->exact ? u->pc : u->pc - 1;
}

/* The function around pc, as the call frame information has it. */
bool unwind_function(uintptr_t pc, uintptr_t *begin, uintptr_t *end);

#endif
