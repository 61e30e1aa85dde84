// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A handler decides and redirects, no more: it looks at nothing but the worker's own words, the stack of its task, and
 * tables that do not change; it takes no lock and touches no scheduler. If the crash is the process's own, the thread
 * continues in crash_land(), on the process's stack, and that enters the runtime like any call and ends the process.
 *
 * Contained is what happens in code that cannot have left anything half done that others need: the process's own, and
 * functions of libc that touch their arguments only (core/code.h). The callers count, too: whoever was called back from
 * inside stdio holds a FILE's lock. So the stack is walked, and one frame of libc that is not known to be harmless makes the
 * crash the end of the OS process. What the walk cannot see, for lack of tables, is given the benefit of the doubt.
 */
#include "core/crash.h"
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

#define MAX_DEPTH	8192		/* frames; beyond, only the process's own recursion is expected */
#define KNOWN_CLASSES	16
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

/* abort() and raise() send the signal to the calling thread. */
static bool is_abort(int sig, const siginfo_t *info)
{
	return sig == SIGABRT && info->si_code == SI_TKILL && info->si_pid == getpid();
}

/* A recursion comes by the same few places again and again. */
struct classes {
	uintptr_t at[KNOWN_CLASSES];
	enum code_class class[KNOWN_CLASSES];
};

static enum code_class classify(struct classes *known, uintptr_t at)
{
	unsigned int i = (unsigned int)(at ^ at >> 4 ^ at >> 8) % KNOWN_CLASSES;

	if (known->at[i] != at) {
		known->at[i] = at;
		known->class[i] = code_classify(at);
	}
	return known->class[i];
}

/*
 * Frames of libc that follow one another are judged by the outermost, which is what the process has called. first: the
 * crash is inside of them.
 */
static bool libc_is_harmless(enum code_entry entry, bool first, bool aborted, bool alone)
{
	if (entry == CODE_ENTRY_LEAF)
		return true;
	if (!first)
		return entry == CODE_ENTRY_CALLBACK;
	/* alone: it is the function that has sent the signal, entered by a jump from one of those */
	return aborted && (entry == CODE_ENTRY_ABORT || alone);
}

/* Why it can't be contained, or NULL. Fills in the record's frames. */
static const char *judge_stack(struct unwind *u, bool aborted, struct crash_record *record)
{
	static const char in_libc[] = "inside of libc, where locks may be held and lists half changed";
	enum code_entry entry = CODE_ENTRY_NONE;
	struct classes known = { .at = { 0 } };
	unsigned int in_run = 0, depth = 0;
	bool own = false;		/* the process's code has been seen */
	bool began = false;		/* and where it begins */
	bool first = true;

	do {
		uintptr_t at = unwind_at(u);
		enum code_class class = classify(&known, at);

		/* Where processes begin counts as theirs: what their function calls last may take its place on the stack. */
		bool entry_frame = process_entry_code(at);

		if (entry_frame)
			began = true;
		if (!began && record->nr_frames < MOTE_CRASH_FRAMES)
			record->frames[record->nr_frames++] = u->pc;
		if (class == CODE_LIBC || class == CODE_LEAF) {
			entry = class == CODE_LEAF ? CODE_ENTRY_LEAF : code_entry(at);
			in_run++;
			continue;
		}
		if (class == CODE_LOADER)
			return "inside of the loader";
		if (in_run && !libc_is_harmless(entry, first, aborted, in_run == 1))
			return in_libc;
		own |= class == CODE_PROCESS || entry_frame;
		if (class == CODE_RUNTIME && !own)
			return "inside of the runtime";
		in_run = 0;
		first = false;
	} while (++depth < MAX_DEPTH && unwind_step(u));
	if (u->in_signal)
		return "inside of a signal handler";
	if (in_run && !libc_is_harmless(entry, first, aborted, in_run == 1))
		return in_libc;
	return NULL;
}

static bool is_overflow(const struct stack *st, uintptr_t sp, uintptr_t address)
{
	uintptr_t base = (uintptr_t)st->base;

	/* A frame larger than the guard: the access is anywhere between the stack pointer and the stack. */
	return stack_guard_contains(st, address) ||
	       (sp < base && base - sp < (UINT64_C(1) << STACK_CLASS_MAX) && address < base && address + PAGE >= sp);
}

static const char *judge(int sig, const siginfo_t *info, void *ucontext, struct worker *w, struct task *t,
			 struct crash_record *record)
{
	bool aborted = is_abort(sig, info);
	struct stack *st;
	struct unwind u;

	if (!t)
		return "on a thread that runs no process";
	st = t->stack;
	unwind_begin(&u, ucontext, st);
	*record = (struct crash_record){ .magic = CRASH_MAGIC, .signal = sig, .code = info->si_code };
	if (!aborted) {
		record->address = (uintptr_t)info->si_addr;
#ifdef __x86_64__
		/* A general protection fault has no address: that is how one beyond the 47 bits is reported. */
		if (sig == SIGSEGV && info->si_code == SI_KERNEL)
			record->flags |= MOTE_CRASH_NO_ADDRESS;
#endif
		if (sig == SIGSEGV && is_overflow(st, unwind_sp(&u), record->address))
			record->flags |= MOTE_CRASH_OVERFLOW;
	} else {
		record->flags |= MOTE_CRASH_NO_ADDRESS;
	}
	/* relaxed: written by this thread only */
	if (atomic_load_explicit(&w->mode, memory_order_relaxed) != SLOT_USER)
		return "inside of the runtime";
	return judge_stack(&u, aborted, record);
}

static void crash_land(struct task *t, void *record)
{
	struct crash_record *r = record;
	struct mote_reason reason = {
		.kind = MOTE_SIGNAL, .code = r->signal, .data = r, .size = record_size(r)
	};

	runtime_enter("crash");
	atomic_fetch_add_explicit(&contained, 1, memory_order_relaxed);
	process_exit(process_of(t), &reason);
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

static void crash_handler(int sig, siginfo_t *info, void *ucontext)
{
	struct worker *w = worker_self();
	/* relaxed: written by this thread only */
	struct task *t = atomic_load_explicit(&w->task, memory_order_relaxed);
	int saved = errno;
	struct crash_record record;
	const char *why;

	if (info->si_code <= 0 && !is_abort(sig, info)) {
		uncontained(sig, info, ucontext, t, "which somebody has sent");
	} else {
		why = judge(sig, info, ucontext, w, t, &record);
		if (why)
			uncontained(sig, info, ucontext, t, why);
		else
			redirect_context(ucontext, t, crash_land, &record, record_size(&record));
	}
	errno = saved;
}

int crash_start(void)
{
	struct sigaction action = { .sa_sigaction = crash_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	code_start();
	atomic_store_explicit(&contained, 0, memory_order_relaxed);
	/* All blocked: a fault in the handler is then fatal at once, and nobody sees a context that is being changed. */
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
		if (!sigaction(signals[i], NULL, &now) && now.sa_flags & SA_SIGINFO && now.sa_sigaction == crash_handler)
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
	stack_t stack = { .ss_sp = p + PAGE, .ss_size = size };
	sigset_t set;

	if (p == MAP_FAILED)
		return -ENOMEM;
	mprotect(p, PAGE, PROT_NONE);
	if (sigaltstack(&stack, &handler_stack.before)) {
		munmap(p, size + PAGE);
		return -ENOMEM;
	}
	handler_stack.stack = p;
	handler_stack.size = size + PAGE;
	/* A fault whose signal is blocked ends the program without a word, and the program may have blocked them all. */
	sigemptyset(&set);
	for (size_t i = 0; i < NR_SIGNALS; i++)
		sigaddset(&set, signals[i]);
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
