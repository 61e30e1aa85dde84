// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Whether a crash is the process's own.
 *
 * Contained is what happens in code that cannot have left anything half done that others need: the process's
 * own, and functions of libc that touch their arguments only (core/code.h). The callers count, too: whoever was
 * called back from inside stdio holds a FILE's lock. So the stack is walked, and one frame of libc that is not
 * known to be harmless makes the crash the end of the OS process. What the walk cannot see, for lack of tables,
 * is given the benefit of the doubt.
 */
#include "core/code.h"
#include "core/crash.h"
#include "core/process.h"
#include "core/unwind.h"

#define MAX_DEPTH	8192		/* frames; beyond, only the process's own recursion is expected */
#define KNOWN_CLASSES	16
#define PAGE		4096

/* abort() and raise() send the signal to the calling thread. */
bool crash_is_abort(int sig, const siginfo_t *info)
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
 * Frames of libc that follow one another are judged by the outermost, which is what the process has called.
 * first: the crash is inside of them.
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

struct walk {
	struct unwind u;
	struct classes known;
	bool aborted, in_runtime;
	unsigned int in_run;		/* frames of libc just seen */
	enum code_entry entry;		/* what the last of them is */
	bool first;			/* they are the innermost of all */
	bool own;			/* the process's code has been seen */
	bool began;			/* and where it begins */
	const char *pending;		/* what is wrong with the frames just seen */
	const char *why;		/* with any */
	uintptr_t exit;			/* the word by which the outermost of those return into the process; or 0 */
};

static void look_at(struct walk *w, uintptr_t at)
{
	enum code_class class = classify(&w->known, at);

	if (class == CODE_LIBC || class == CODE_LEAF) {
		w->entry = class == CODE_LEAF ? CODE_ENTRY_LEAF : code_entry(at);
		w->in_run++;
		return;
	}
	if (w->in_run && !libc_is_harmless(w->entry, w->first, w->aborted, w->in_run == 1))
		w->pending = "inside of libc, where locks may be held and lists half changed";
	w->in_run = 0;
	w->first = false;
	if (class == CODE_LOADER)
		w->pending = "inside of the loader";
	/*
	 * Where processes begin counts as theirs: what their function calls last may take its place on the
	 * stack.
	 */
	else if (class != CODE_RUNTIME || process_entry_code(at))
		w->own = true;
	/* What the runtime calls in between is the process's own, if it has left the runtime for that. */
	else if (!w->pending && (!w->own || w->in_runtime))
		w->pending = "inside of the runtime";
	if (w->pending) {
		w->why = w->pending;
		w->exit = 0;
		if (class != CODE_LOADER && (class != CODE_RUNTIME || process_entry_code(at))) {
			w->exit = w->u.slot;
			w->pending = NULL;
		}
	}
}

static const char *walk_stack(struct walk *w, struct crash_record *record)
{
	unsigned int depth = 0;

	w->first = true;
	do {
		uintptr_t at = unwind_at(&w->u);

		w->began |= process_entry_code(at);
		if (!w->began && record->nr_frames < MOTE_CRASH_FRAMES)
			record->frames[record->nr_frames++] = w->u.pc;
		look_at(w, at);
		/*
		 * Further out there may be more, which has ended: cleanups run on top of what the process was
		 * doing.
		 */
	} while (!w->began && ++depth < MAX_DEPTH && unwind_step(&w->u));
	if (!w->began)
		w->exit = 0;
	if (w->u.in_signal)
		return "inside of a signal handler";
	if (w->in_run && !libc_is_harmless(w->entry, w->first, w->aborted, w->in_run == 1))
		return "inside of libc, where locks may be held and lists half changed";
	return w->why ? w->why : w->in_runtime ? "inside of the runtime" : NULL;
}

static bool is_overflow(const struct stack *st, uintptr_t sp, uintptr_t address)
{
	uintptr_t base = (uintptr_t)st->base;

	/* A frame larger than the guard: the access is anywhere between the stack pointer and the stack. */
	return stack_guard_contains(st, address) ||
	       (sp < base && base - sp < (UINT64_C(1) << STACK_CLASS_MAX) && address < base &&
		address + PAGE >= sp);
}

static void describe(struct crash_record *record, int sig, const siginfo_t *info, const struct stack *st,
		     uintptr_t sp)
{
	*record = (struct crash_record){ .magic = CRASH_MAGIC, .signal = sig, .code = info->si_code };
	if (crash_is_abort(sig, info)) {
		record->flags = MOTE_CRASH_NO_ADDRESS;
		return;
	}
	record->address = (uintptr_t)info->si_addr;
#ifdef __x86_64__
	/* A general protection fault has no address: that is how one beyond the 47 bits is reported. */
	if (sig == SIGSEGV && info->si_code == SI_KERNEL)
		record->flags |= MOTE_CRASH_NO_ADDRESS;
#endif
	if (sig == SIGSEGV && is_overflow(st, sp, record->address))
		record->flags |= MOTE_CRASH_OVERFLOW;
}

const char *crash_judge(int sig, const siginfo_t *info, const void *ucontext, struct task *t, bool in_runtime,
			struct crash_record *record, uintptr_t *exit)
{
	struct walk w = { .aborted = crash_is_abort(sig, info), .in_runtime = in_runtime };
	const char *why;

	unwind_begin(&w.u, ucontext, t->stack);
	describe(record, sig, info, t->stack, unwind_sp(&w.u));
	why = walk_stack(&w, record);
	*exit = w.exit;
	return why;
}
