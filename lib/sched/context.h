/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/context.h: what switch_*.S offers.
 */
#ifndef SCHED_CONTEXT_H
#define SCHED_CONTEXT_H

#include <stdint.h>

void mote_switch(void **save, void *to);
void mote_switch_entry(void);

/* Lays out a fresh context below top (aligned to 16) that will run fn(arg); returns its stack pointer. */
static inline void *context_prepare(void *top, void (*fn)(void *), void *arg)
{
	uint64_t *sp = top;

#if defined(__x86_64__)
	sp -= 9;			/* r15 r14 r13 r12 rbx rbp rip; then sp is aligned, as before a call */
	sp[0] = sp[1] = sp[4] = sp[5] = sp[7] = sp[8] = 0;
	sp[2] = (uintptr_t)fn;
	sp[3] = (uintptr_t)arg;
	sp[6] = (uintptr_t)mote_switch_entry;
#elif defined(__aarch64__)
	sp -= 20;
	for (int i = 0; i < 20; i++)
		sp[i] = 0;
	sp[0] = (uintptr_t)arg;
	sp[1] = (uintptr_t)fn;
	sp[11] = (uintptr_t)mote_switch_entry;
#else
#error "no context switch for this machine"
#endif
	return sp;
}

#endif
