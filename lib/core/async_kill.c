// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Ending a process in its own code.
 *
 * Whoever sends the kill marks the victim; the overseer, at each of its looks, sends SIGURG to the thread on which
 * it finds a marked one in its own code; and the handler decides. It ends the process only if all of this holds:
 *
 *  - The thread is in the own code of a process, not in the runtime: no lock of the library's is held, and nothing
 *    of it is half changed. The signal takes its time, so what the overseer saw may be over.
 *  - That process was sent a kill. Not "is the one that the signal was sent for": another may run on the thread by
 *    now. A mark may also have been meant for a former tenant of the slot; the serial tells.
 *  - It is not in a section between mote_nokill_begin() and _end(), and not dying already.
 *  - The instruction and all return addresses, to the first frame of the process, lie in code for which
 *    mote_async_code() was called. A frame of anything else (malloc, stdio, a lock, qsort that has called back) may
 *    have something half done, which nobody would ever finish: a lock that stays taken stops the whole program.
 *
 * Otherwise it does nothing, and the overseer tries again. SIGURG is ignored by default, so one that comes late or
 * to the wrong thread harms nobody; being no real-time signal, those not yet delivered don't queue up; and hardly
 * any program uses it. What others send with it goes to the handler that was there before.
 */
#include "core/async_kill.h"
#include "core/code.h"
#include "core/process.h"
#include "core/redirect.h"
#include "core/unwind.h"
#include "sched/overseer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_RANGES	64

static struct range {
	uintptr_t begin, end;
} ranges[MAX_RANGES];			/* only ever appended to */
static _Atomic unsigned int nr_ranges;
static struct lock setup_lock;		/* appending; installed, old_action */
static bool installed;
static struct sigaction old_action;
static _Atomic uint64_t nr_kills;
static char cookie;			/* its address tells our signals from others */

static bool killed(struct process *p)
{
	struct extra *extra = atomic_load(&p->extra);

	/* seq_cst: see async_kill_overseen() */
	return extra && atomic_load(&extra->kill_serial) == process_serial(p);
}

/* The library's own code lies among the program's if it is linked statically. */
static bool code_may_be_torn(uintptr_t pc)
{
	/* acquire: pairs with mote_async_code() */
	unsigned int n = atomic_load_explicit(&nr_ranges, memory_order_acquire);

	for (unsigned int i = 0; i < n; i++) {
		if (pc >= ranges[i].begin && pc < ranges[i].end)
			return code_classify(pc) == CODE_PROCESS;
	}
	return false;
}

static bool frames_may_be_torn(const void *context, const struct stack *stack)
{
	struct unwind u;

	unwind_begin(&u, context, stack);
	if (!code_may_be_torn(u.pc))
		return false;
	while (unwind_step(&u)) {
		if (process_entry_code(u.pc))
			return true;
		if (!code_may_be_torn(unwind_at(&u)))
			return false;
	}
	return false;
}

static void land(struct task *t, void *record)
{
	static const struct mote_reason reason = { .kind = MOTE_KILLED };
	struct process *p = process_of(t);
	struct scheduler *s = runtime_enter("the asynchronous kill");

	(void)record;
	/* What was sent before the kill comes first: another exit signal may have won. */
	signals_take(s, p);
	process_exit(p, &reason);
}

/* Reads what only this thread changes, and ranges. */
static bool may_end(struct worker *w, struct task *t, const void *context)
{
	return t && t->stack && atomic_load_explicit(&w->mode, memory_order_relaxed) == SLOT_USER &&
	       !t->nokill && !t->dying && killed(process_of(t)) && frames_may_be_torn(context, t->stack);
}

static void handler(int signo, siginfo_t *info, void *context)
{
	struct worker *w = worker_self();
	struct task *t = atomic_load_explicit(&w->task, memory_order_relaxed);

	if (info->si_code != SI_QUEUE || info->si_value.sival_ptr != &cookie) {
		if (old_action.sa_flags & SA_SIGINFO)
			old_action.sa_sigaction(signo, info, context);
		else if (old_action.sa_handler != SIG_DFL && old_action.sa_handler != SIG_IGN)
			old_action.sa_handler(signo);
		return;
	}
	if (!may_end(w, t, context))
		return;
	atomic_fetch_add_explicit(&nr_kills, 1, memory_order_relaxed);
	redirect_context(context, t, land, "", 0);
}

static int handler_install(void)
{
	/* SA_RESTART: it may hit a thread that waits in a system call of another process's by now. */
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
	int err = 0;

	lock_take(&setup_lock);
	if (!installed) {
		sigaction(ASYNC_KILL_SIGNAL, NULL, &old_action);
		err = sigaction(ASYNC_KILL_SIGNAL, &action, NULL) ? -errno : 0;
		installed = !err;
	}
	lock_drop(&setup_lock);
	return err;
}

int async_kill_allow(struct process *p)
{
	int err = process_extra(p) ? handler_install() : -ENOMEM;

	if (!err)
		atomic_store_explicit(&p->task.interrupt, TASK_INTERRUPT_ALLOWED, memory_order_relaxed);
	return err;
}

void async_kill_want(struct process *p, uint64_t serial)
{
	uint8_t allowed = TASK_INTERRUPT_ALLOWED;
	struct extra *extra;
	uint64_t latest;

	/* relaxed: whoever knows the pid comes after the spawn */
	if (likely(atomic_load_explicit(&p->task.interrupt, memory_order_relaxed) == TASK_INTERRUPT_NEVER))
		return;
	extra = atomic_load(&p->extra);
	latest = atomic_load(&extra->kill_serial);
	/* Serials of a slot only grow: a kill that is too late for its target must not hide one for its successor. */
	while (latest < serial && !atomic_compare_exchange_weak(&extra->kill_serial, &latest, serial))
		;
	atomic_compare_exchange_strong(&p->task.interrupt, &allowed, TASK_INTERRUPT_WANTED);
	overseer_hurry();
}

static void send_signal(pid_t tid)
{
#ifndef MOTE_TSAN
	siginfo_t info = { .si_signo = ASYNC_KILL_SIGNAL, .si_code = SI_QUEUE };

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_ptr = &cookie;
	/* If it fails (too many are queued), the next look tries again. */
	syscall(SYS_rt_tgsigqueueinfo, info.si_pid, tid, ASYNC_KILL_SIGNAL, &info);
#else
	/* TSan calls handlers later, from elsewhere, with a context that nothing will be resumed with. */
	(void)tid;
#endif
}

void async_kill_overseen(struct task *t, pid_t tid)
{
	uint8_t wanted = TASK_INTERRUPT_WANTED, allowed = TASK_INTERRUPT_ALLOWED;
	struct process *p = process_of(t);

	if (!killed(p)) {
		/*
		 * The mark was for a former tenant. seq_cst, against async_kill_want(): either that one sees
		 * ALLOWED, or the second look here sees its serial.
		 */
		atomic_compare_exchange_strong(&t->interrupt, &wanted, TASK_INTERRUPT_ALLOWED);
		if (!killed(p))
			return;
		atomic_compare_exchange_strong(&t->interrupt, &allowed, TASK_INTERRUPT_WANTED);
	}
	send_signal(tid);
}

uint64_t async_kill_count(void)
{
	return atomic_load_explicit(&nr_kills, memory_order_relaxed);
}

void async_kill_stop(void)
{
	struct sigaction now;

	/* If somebody has put his own handler there since, it stays. */
	if (installed && !sigaction(ASYNC_KILL_SIGNAL, NULL, &now) && now.sa_flags & SA_SIGINFO &&
	    now.sa_sigaction == handler)
		sigaction(ASYNC_KILL_SIGNAL, &old_action, NULL);
	installed = false;
}

void async_kill_forget(void)
{
	setup_lock = (struct lock){ 0 };
}

static bool range_known(uintptr_t begin, uintptr_t end)
{
	unsigned int n = atomic_load_explicit(&nr_ranges, memory_order_relaxed);

	for (unsigned int i = 0; i < n; i++) {
		if (begin >= ranges[i].begin && end <= ranges[i].end)
			return true;
	}
	return false;
}

static int range_add(uintptr_t begin, uintptr_t end)
{
	unsigned int n;
	int err = 0;

	lock_take(&setup_lock);
	n = atomic_load_explicit(&nr_ranges, memory_order_relaxed);
	if (!range_known(begin, end)) {
		if (n < MAX_RANGES) {
			ranges[n] = (struct range){ begin, end };
			/* release: a handler that sees the number sees the range */
			atomic_store_explicit(&nr_ranges, n + 1, memory_order_release);
		} else {
			err = -ENOSPC;
		}
	}
	lock_drop(&setup_lock);
	return err;
}

/* What a program must not have torn, found by a function of each: with static linking they may be anywhere. */
static bool holds_what_locks(uintptr_t begin, uintptr_t end)
{
	const uintptr_t of_libc[] = {
		(uintptr_t)malloc, (uintptr_t)fwrite, (uintptr_t)pthread_mutex_lock, (uintptr_t)syscall,
	};

	for (size_t i = 0; i < sizeof(of_libc) / sizeof(of_libc[0]); i++) {
		if (of_libc[i] >= begin && of_libc[i] < end)
			return true;
	}
	return false;
}

int mote_async_code(const void *begin, const void *end)
{
	uintptr_t from = (uintptr_t)begin, to = (uintptr_t)end, object, object_end;

	code_start();
	if (!code_object_text(from, &object, &object_end))
		return -EINVAL;
	if (!end) {
		from = object;
		to = object_end;
	}
	if (to <= from || to > object_end)
		return -EINVAL;
	if (code_classify((uintptr_t)begin) != CODE_PROCESS || holds_what_locks(from, to))
		return -EPERM;
	return range_add(from, to);
}

/* The handler runs between two instructions of the same thread: the compiler's order is all that is needed. */
void mote_nokill_begin(void)
{
	struct task *t = atomic_load_explicit(&worker_self()->task, memory_order_relaxed);

	if (!t)
		return;
	if (unlikely(t->nokill == UINT8_MAX))
		mote_fatal("mote_nokill_begin(): %d sections, one inside the other", UINT8_MAX);
	t->nokill++;
	atomic_signal_fence(memory_order_seq_cst);
}

void mote_nokill_end(void)
{
	struct task *t = atomic_load_explicit(&worker_self()->task, memory_order_relaxed);
	struct scheduler *s;

	if (!t)
		return;
	if (unlikely(!t->nokill))
		mote_fatal("mote_nokill_end() without mote_nokill_begin()");
	atomic_signal_fence(memory_order_seq_cst);
	if (--t->nokill || likely(!signals_pending(process_of(t))))
		return;
	s = runtime_try_enter();
	if (!s)
		return;
	signals_act(s, process_of(t));
	runtime_leave();
}
