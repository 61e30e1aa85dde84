// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A handler decides and redirects, no more: it looks at nothing but the worker's own words, the stack of its
 * task, and tables that do not change; it takes no lock and touches no scheduler. If the crash is the process's
 * own, the thread continues in crash_land(), on the process's stack, and that enters the runtime like any call
 * and ends the process.
 *
 * A stack may also overflow inside of what must not be torn: malloc(), a call of mote. That gets a part of the
 * guard to go on with, and when it returns into the process, it is by a return address that has been replaced:
 * into a trap.
 */
#include "core/crash.h"
#include "core/async_kill.h"
#include "core/code.h"
#include "core/process.h"
#include "core/redirect.h"
#include "core/unwind.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define HANDLER_STACK	(96 * 1024)	/* for the handler, apart from the kernel's frame */
#define PAGE		4096

static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };

#define NR_SIGNALS (sizeof(signals) / sizeof(signals[0]))

static struct sigaction before[NR_SIGNALS];
static bool installed;
static _Atomic uint64_t contained;

static __thread struct {
	char *stack;
	size_t size;
	stack_t before;
} handler_stack;

uint64_t crash_count(void)
{
	return atomic_load_explicit(&contained, memory_order_relaxed);
}

static size_t record_size(const struct crash_record *record)
{
	return offsetof(struct crash_record, frames) + record->nr_frames * sizeof(record->frames[0]);
}

bool crash_record_get(const struct mote_reason *reason, struct crash_record *record)
{
	/* The data may be anybody's: a reason of this kind can be made up. */
	if (reason->kind != MOTE_SIGNAL || !reason->data || reason->size < offsetof(struct crash_record, frames) ||
	    reason->size > sizeof(*record))
		return false;
	memset(record, 0, sizeof(*record));
	memcpy(record, reason->data, reason->size);
	return record->magic == CRASH_MAGIC && record->nr_frames <= MOTE_CRASH_FRAMES &&
	       reason->size == record_size(record);
}

const char *crash_signal_name(int signal)
{
	switch (signal) {
	case SIGSEGV:
		return "SIGSEGV";
	case SIGBUS:
		return "SIGBUS";
	case SIGFPE:
		return "SIGFPE";
	case SIGILL:
		return "SIGILL";
	case SIGABRT:
		return "SIGABRT";
	case SIGTRAP:
		return "SIGTRAP";
	}
	return "?";
}

static void crash_land(struct task *t, void *record)
{
	struct crash_record *r = record;
	struct mote_reason reason = {
		.kind = MOTE_SIGNAL, .code = r->signal, .data = r, .size = record_size(r)
	};

	/* A crash takes as long as some hundred switches: the ring and timers are looked at after each. */
	runtime_enter("crash")->ticks = 1;
	atomic_fetch_add_explicit(&contained, 1, memory_order_relaxed);
	process_exit(process_of(t), &reason);
}

/* The trap. */
void crash_return(void);

#if defined(__x86_64__)
#define TRAP "ud2"
#else
#define TRAP "brk #1"
#endif
__asm__(".text\n\t.p2align 4\n\t.hidden crash_return\n\t.globl crash_return\n\t.type crash_return, %function\n"
	"crash_return:\n\t" TRAP "\n\t.size crash_return, .-crash_return\n");

static uintptr_t context_pc(const ucontext_t *uc)
{
#if defined(__x86_64__)
	return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
#else
	return uc->uc_mcontext.pc;
#endif
}

static void context_set_return(ucontext_t *uc, uintptr_t slot, uintptr_t pc)
{
#if defined(__aarch64__)
	if (slot == UNWIND_IN_REGISTER) {
		uc->uc_mcontext.regs[30] = pc;
		return;
	}
#endif
	(void)uc;
	*(uintptr_t *)slot = pc;
}

/* While the stack is open, at the far end of the opening. */
static struct crash_record *record_kept(const struct stack *st)
{
	return (struct crash_record *)(st->base - STACK_OPENING);
}

/*
 * Lets what has overflown the stack finish. exit: the word by which it returns into the process. False: this is
 * no overflow, or one for which the opening is not large enough.
 */
static bool carry_on(struct task *t, const struct crash_record *record, ucontext_t *uc, uintptr_t exit)
{
	struct stack *st = t->stack;
	uintptr_t low = (uintptr_t)record_kept(st) + 2 * PAGE;

	if (!(record->flags & MOTE_CRASH_OVERFLOW) || st->opened || record->address < low ||
	    !(stack_contains(st, exit) || exit == UNWIND_IN_REGISTER))
		return false;
	stack_open(st);
	*record_kept(st) = *record;
	context_set_return(uc, exit, (uintptr_t)crash_return);
	return true;
}

/* True: this is the trap; the record is that of the overflow. */
static bool carried_on(const struct task *t, const void *ucontext, struct crash_record *record)
{
	if (context_pc(ucontext) != (uintptr_t)crash_return || !t->stack->opened)
		return false;
	*record = *record_kept(t->stack);
	return record->magic == CRASH_MAGIC && record->nr_frames <= MOTE_CRASH_FRAMES;
}

static const struct sigaction *action_before(int sig)
{
	for (size_t i = 0; i < NR_SIGNALS; i++) {
		if (signals[i] == sig)
			return &before[i];
	}
	return NULL;
}

/* Whoever handled this signal before mote did. False: nobody. */
static bool chain(int sig, siginfo_t *info, void *ucontext)
{
	const struct sigaction *old = action_before(sig);

	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(sig, info, ucontext);
		return true;
	}
	/* To ignore a fault is to die of it: only what was sent can be ignored. */
	if (old->sa_handler == SIG_IGN && info->si_code <= 0)
		return true;
	if (old->sa_handler == SIG_IGN || old->sa_handler == SIG_DFL)
		return false;
	old->sa_handler(sig);
	return true;
}

static void uncontained(int sig, siginfo_t *info, void *ucontext, struct task *t, const char *why)
{
	struct crash_scene scene = { sig, info, ucontext, t, why };

	/* Who looked after this signal before is asked first. If he returns, he has seen to it. */
	if (chain(sig, info, ucontext))
		return;
	crash_report(&scene);
	crash_die(sig);
}

/* Whose stack the thread is on. While a task is being left, the worker counts as the next one's already. */
static struct task *task_on(const struct worker *w, bool in_runtime, const siginfo_t *info)
{
	/* relaxed: written by this thread only */
	struct task *t = atomic_load_explicit(&w->task, memory_order_relaxed);
	struct task *leaving = in_runtime && w->scheduler ? w->scheduler->leaving : NULL;

	return leaving && leaving->stack && stack_guard_contains(leaving->stack, (uintptr_t)info->si_addr) ?
	       leaving : t;
}

static void crash_handler(int sig, siginfo_t *info, void *ucontext)
{
	struct worker *w = worker_self();
	/* relaxed: written by this thread only */
	bool in_runtime = atomic_load_explicit(&w->mode, memory_order_relaxed) != SLOT_USER;
	struct task *t = task_on(w, in_runtime, info);
	struct crash_record record;
	const char *why = NULL;
	int saved = errno;
	uintptr_t exit = 0;

	/* The child of a vfork() has its parent's memory, and must not go on as its process. */
	if (t && w->tid != gettid())
		crash_die(sig);
	if (info->si_code <= 0 && !crash_is_abort(sig, info))
		why = "which somebody has sent";
	else if (!t)
		why = "on a thread that runs no process";
	else if (in_runtime || !carried_on(t, ucontext, &record))
		why = crash_judge(sig, info, ucontext, t, in_runtime, &record, &exit);
	if (!why)
		redirect_context(ucontext, t, crash_land, &record, record_size(&record));
	else if (!exit || !carry_on(t, &record, ucontext, exit))
		uncontained(sig, info, ucontext, t, why);
	errno = saved;
}

int crash_start(void)
{
	struct sigaction action = { .sa_sigaction = crash_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	code_start();
	atomic_store_explicit(&contained, 0, memory_order_relaxed);
	/*
	 * All blocked: a fault in the handler is then fatal at once, and nobody sees a context that is being
	 * changed.
	 */
	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < NR_SIGNALS; i++) {
		if (sigaction(signals[i], &action, &before[i]))
			return -errno;
	}
	installed = true;
	return 0;
}

void crash_stop(void)
{
	struct sigaction now;

	if (!installed)
		return;
	installed = false;
	for (size_t i = 0; i < NR_SIGNALS; i++) {
		/* Somebody may have put his own there since; he stays. */
		if (!sigaction(signals[i], NULL, &now) && now.sa_flags & SA_SIGINFO &&
		    now.sa_sigaction == crash_handler)
			sigaction(signals[i], &before[i], NULL);
	}
}

void crash_forget(void)
{
	crash_stop();
}

int crash_thread_begin(void)
{
	size_t size = (HANDLER_STACK + getauxval(AT_MINSIGSTKSZ) + PAGE - 1) & ~(size_t)(PAGE - 1);
	char *p = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	stack_t stack = { .ss_size = size };
	sigset_t set;

	if (p == MAP_FAILED)
		return -ENOMEM;
	stack.ss_sp = p + PAGE;
	mprotect(p, PAGE, PROT_NONE);
	if (sigaltstack(&stack, &handler_stack.before)) {
		munmap(p, size + PAGE);
		return -ENOMEM;
	}
	handler_stack.stack = p;
	handler_stack.size = size + PAGE;
	/*
	 * A fault whose signal is blocked ends the program without a word, and the program may have blocked
	 * them all.
	 */
	sigemptyset(&set);
	for (size_t i = 0; i < NR_SIGNALS; i++)
		sigaddset(&set, signals[i]);
	sigaddset(&set, ASYNC_KILL_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	redirect_thread_begin();
	return 0;
}

void crash_thread_end(void)
{
	if (!handler_stack.stack)
		return;
	sigaltstack(&handler_stack.before, NULL);
	munmap(handler_stack.stack, handler_stack.size);
	handler_stack.stack = NULL;
}
