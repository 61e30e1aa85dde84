// SPDX-License-Identifier: MIT OR GPL-2.0
#include "core/redirect.h"
#include "sched/stack.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#ifdef MOTE_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define RED_ZONE	128		/* below its stack pointer a function may use that much without saying so */
#define RESERVE_MIN	8192

static __thread struct {
	sigset_t mask;
	uint32_t mxcsr, fpcr;
	uint16_t x87;
} usual __attribute__((tls_model("initial-exec")));

void redirect_thread_begin(void)
{
	pthread_sigmask(SIG_SETMASK, NULL, &usual.mask);
#if defined(__x86_64__)
	__asm__("stmxcsr %0" : "=m"(usual.mxcsr));
	__asm__("fnstcw %0" : "=m"(usual.x87));
	usual.mxcsr &= ~0x3fu;		/* without the exceptions that have been */
#elif defined(__aarch64__)
	uint64_t fpcr;

	__asm__("mrs %0, fpcr" : "=r"(fpcr));
	usual.fpcr = (uint32_t)fpcr;
#endif
}

/*
 * Below what was in use, if the stack pointer says where that is, and leaves room. After an overflow the
 * innermost frames are given up: they are the recursion's.
 */
static uintptr_t landing(const struct stack *st, uintptr_t sp)
{
	uintptr_t base = (uintptr_t)st->base, top = (uintptr_t)st->top;
	uintptr_t reserve = stack_size(st) / 4 > RESERVE_MIN ? stack_size(st) / 4 : RESERVE_MIN;

	return sp <= top && sp >= base + reserve ? sp - RED_ZONE : base + reserve;
}

static void *land(struct task *t, uintptr_t sp, const void *record, size_t size)
{
	void *copy = (void *)((landing(t->stack, sp) - size) & ~(uintptr_t)15);

#ifdef MOTE_ASAN
	__asan_unpoison_memory_region(t->stack->base, stack_size(t->stack));
#endif
	memcpy(copy, record, size);
	return copy;
}

#if defined(__x86_64__)
void redirect_context(void *ucontext, struct task *t, void (*fn)(struct task *t, void *record), const void *record,
		      size_t size)
{
	ucontext_t *uc = ucontext;
	greg_t *regs = uc->uc_mcontext.gregs;
	uintptr_t *sp = land(t, (uintptr_t)regs[REG_RSP], record, size);

	regs[REG_RDI] = (greg_t)(uintptr_t)t;
	regs[REG_RSI] = (greg_t)(uintptr_t)sp;
	*--sp = 0;			/* where a call would have left its return address: none */
	regs[REG_RSP] = (greg_t)(uintptr_t)sp;
	regs[REG_RBP] = 0;
	regs[REG_RIP] = (greg_t)(uintptr_t)fn;
	regs[REG_EFL] &= ~(greg_t)(0x100 | 0x400 | 0x40000);	/* trap, direction, alignment check */
	if (uc->uc_mcontext.fpregs) {
		uc->uc_mcontext.fpregs->cwd = usual.x87;
		uc->uc_mcontext.fpregs->swd = 0;
		uc->uc_mcontext.fpregs->ftw = 0;
		uc->uc_mcontext.fpregs->mxcsr = usual.mxcsr;
	}
	memcpy(&uc->uc_sigmask, &usual.mask, sizeof(usual.mask));
}
#elif defined(__aarch64__)
static void reset_modes(mcontext_t *m)
{
	struct _aarch64_ctx *head = (struct _aarch64_ctx *)m->__reserved;

	while (head->magic && head->magic != FPSIMD_MAGIC)
		head = (struct _aarch64_ctx *)((char *)head + head->size);
	if (head->magic) {
		((struct fpsimd_context *)head)->fpsr = 0;
		((struct fpsimd_context *)head)->fpcr = usual.fpcr;
	}
}

void redirect_context(void *ucontext, struct task *t, void (*fn)(struct task *t, void *record), const void *record,
		      size_t size)
{
	ucontext_t *uc = ucontext;
	mcontext_t *m = &uc->uc_mcontext;
	void *sp = land(t, m->sp, record, size);

	m->regs[0] = (uintptr_t)t;
	m->regs[1] = (uintptr_t)sp;
	m->regs[29] = m->regs[30] = 0;
	m->sp = (uintptr_t)sp;
	m->pc = (uintptr_t)fn;
	m->pstate &= ~UINT64_C(0xc00);	/* BTYPE: fn is not come to by a branch */
	reset_modes(m);
	memcpy(&uc->uc_sigmask, &usual.mask, sizeof(usual.mask));
}
#endif
