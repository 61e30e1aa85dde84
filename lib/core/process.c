// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The life of a process: spawn, entry, exit.
 *
 * Order at the end, which is the law: cleanups; then names, timers, descriptors and memory go; then the inbox is closed;
 * then links and monitors are told. Who hears of a death finds nothing left of the dead.
 */
#include "core/async_kill.h"
#include "core/crash.h"
#include "core/edge.h"
#include "core/limit.h"
#include "core/node.h"
#include "core/outbox.h"
#include "core/process.h"
#include "io/io.h"

#include <mote/info.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPAWN_ROOT	(1u << 31)	/* beside enum mote_spawn_flags: of mote_run() */
#define CLEANUP_NS INT64_C(5000000000)


/* By scheduler, the last place for foreign threads: no line that several write. */
static struct counts {
	_Atomic uint64_t made, ended;
} __attribute__((aligned(2 * CACHE_LINE))) counts[257];

static _Atomic unsigned int next_home;
static __thread int foreign_err;

int foreign_error(void)
{
	return foreign_err;
}

void foreign_fail(int err)
{
	foreign_err = err;
}

static void count_made(struct scheduler *s)
{
	if (s)
		counter_add(&counts[s->index].made, 1);
	else
		atomic_fetch_add_explicit(&counts[256].made, 1, memory_order_relaxed);
}

int64_t process_count(void)
{
	int64_t n = 0;

	/* acquire, and all ends first: never less than there are */
	for (int i = 0; i < 257; i++)
		n -= (int64_t)atomic_load_explicit(&counts[i].ended, memory_order_acquire);
	return n + (int64_t)process_count_spawned();
}

uint64_t process_count_spawned(void)
{
	uint64_t n = 0;

	for (int i = 0; i < 257; i++)
		n += atomic_load_explicit(&counts[i].made, memory_order_relaxed);
	return n;
}

void processes_forget(void)
{
	for (int i = 0; i < 257; i++) {
		atomic_store(&counts[i].made, 0);
		atomic_store(&counts[i].ended, 0);
	}
	limits_forget();
}

struct extra *process_extra(struct process *p)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);

	if (extra)
		return extra;
	extra = calloc(1, sizeof(*extra));
	/* release: mote_process_info() may read the label from another thread */
	if (extra)
		atomic_store_explicit(&p->extra, extra, memory_order_release);
	return extra;
}

static void process_init(struct scheduler *s, struct process *p, const struct mote_spawn_opts *opts,
			 const void *caller)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);
	struct process *parent = s ? process_self(s) : NULL;
	struct task *t = &p->task;

	memset(&p->first, 0, offsetof(struct process, extra) - offsetof(struct process, first));
	memset(&p->nr_messages, 0, offsetof(struct process, links) - offsetof(struct process, nr_messages));
	memset(&p->links, 0, sizeof(*p) - offsetof(struct process, links));
	if (extra)
		memset(extra, 0, offsetof(struct extra, kill_serial));
	atomic_store_explicit(&t->pending, 0, memory_order_relaxed);
	atomic_store_explicit(&t->marks, 0, memory_order_relaxed);
	atomic_store_explicit(&t->interrupt, TASK_INTERRUPT_NEVER, memory_order_relaxed);
	t->nokill = 0;
	t->next = NULL;
	__atomic_store_n(&t->sp, NULL, __ATOMIC_RELAXED);	/* run_queue_take() peeks at it */
	t->stack = NULL;
	t->stack_class = stack_class(opts->stack_size);
	t->flags = (opts->flags & MOTE_PINNED ? TASK_PINNED : 0) | (opts->handler ? TASK_STACKLESS : 0);
	t->priority = (uint8_t)opts->priority;
	t->dying = 0;
	t->fds = 0;
	atomic_store_explicit(&t->nr_fds, 0, memory_order_relaxed);
	if (opts->flags & MOTE_PINNED)
		atomic_store_explicit(&t->home, (uint16_t)(opts->scheduler % schedulers_count()), memory_order_relaxed);
	else if (s)
		atomic_store_explicit(&t->home, (uint16_t)s->index, memory_order_relaxed);
	else
		atomic_store_explicit(&t->home, (uint16_t)(atomic_fetch_add(&next_home, 1) % schedulers_count()),
				      memory_order_relaxed);
	if (opts->handler)
		p->ops = opts->handler;
	else
		p->fn = opts->fn;
	p->arg = opts->arg;
	p->trap_exit = opts->flags & MOTE_TRAP_EXIT;
	p->root = opts->flags & SPAWN_ROOT;
	p->spawned_at = caller;
	if (opts->handler)
		atomic_store_explicit(&p->memory, (uint32_t)(opts->state_size ? opts->state_size : opts->handler->state_size),
				      memory_order_relaxed);
	if (parent) {
		p->parent_serial = process_serial(parent);
		p->parent_slot = parent->task.slot;
	}
	/* release: who finds the former tenant gone by this sees what that one did before */
	atomic_store_explicit(&t->serial, process_serial(p) + 1, memory_order_release);
	/* release: whoever pushes to the open inbox, or takes the serial for alive, finds the rest in order */
	atomic_store_explicit(&t->inbox, 0, memory_order_release);
}

/* The new process has not run: it goes as if it had never been. */
static void spawn_undo(struct scheduler *s, struct process *p)
{
	mote_pid pid = process_pid(p);

	if (s) {
		link_broken(s, process_self(s), pid);
		link_broken(s, p, process_pid(process_self(s)));
		while (p->watchers) {
			mote_ref ref = { p->watchers->ref, p->watchers->ref_slot, 0, port_node, 0 };

			watcher_remove(s, p, p->watchers);
			ref_find(process_self(s), ref.id, ref.slot)->watch = NULL;
			ref_drop(s, process_self(s), ref, true);
		}
	}
	atomic_exchange(&p->exiting, true);
	if (atomic_load(&p->named))
		names_end(p);
	atomic_store_explicit(&p->task.inbox, TASK_DEAD, memory_order_release);
	if (limited(p))
		limit_close(s, p);
	process_slot_free(s, p);
}

static int spawn_relate(struct scheduler *s, struct process *p, const struct mote_spawn_opts *opts)
{
	struct process *self = s ? process_self(s) : NULL;
	mote_pid pid = process_pid(p);
	struct extra *extra;
	int err;

	if (opts->flags & MOTE_ASYNC_KILL) {
		err = async_kill_allow(p);
		if (err)
			return err;
	}
	if (opts->label) {
		extra = process_extra(p);
		if (!extra)
			return -ENOMEM;
		atomic_store_explicit(&extra->label, opts->label, memory_order_relaxed);
	}
	if (opts->mailbox_limit) {
		err = limit_open(s, p, opts->mailbox_limit, (int)opts->mailbox_policy);
		if (err)
			return err;
	}
	if (opts->flags & MOTE_LINK) {
		if (link_add(s, self, pid) < 0 || link_add(s, p, process_pid(self)) < 0)
			return -ENOMEM;
	}
	if (opts->flags & MOTE_MONITOR) {
		struct signal *sig = signal_new(s, SIGNAL_MONITOR, sizeof(struct mote_down_info));
		struct ref_slot *slot = sig ? ref_new(s, self, REF_MONITOR, opts->ref) : NULL;

		if (!slot) {
			if (sig)
				signal_free(s, sig);
			return -ENOMEM;
		}
		sig->ref = opts->ref->id;
		sig->ref_slot = opts->ref->slot;
		sig->msg.from = process_pid(self);
		slot->watch = sig;
		slot->target = pid;
		watcher_add(p, sig);
	}
	if (opts->name) {
		err = name_add(opts->name, pid);
		if (err)
			return err;
	}
	return 0;
}

mote_pid process_spawn(struct scheduler *s, const struct mote_spawn_opts *opts, const void *caller)
{
	struct process *p = process_table_full() ? NULL : process_slot_new(s);
	mote_pid pid;
	int err;

	if (unlikely(!p)) {
		caller_fail(s, -EAGAIN);
		return MOTE_NOBODY;
	}
	process_init(s, p, opts, caller);
	if (opts->flags || opts->name || opts->label || opts->mailbox_limit) {
		err = spawn_relate(s, p, opts);
		if (err) {
			spawn_undo(s, p);
			caller_fail(s, err);
			return MOTE_NOBODY;
		}
	}
	pid = process_pid(p);
	count_made(s);
	task_spawned(s, &p->task);
	return pid;
}

mote_pid process_spawn_asked(struct scheduler *s, const struct mote_spawn_opts *opts, struct signal *request,
			     bool link_asker, const void *caller)
{
	struct process *p = process_table_full() ? NULL : process_slot_new(s);
	mote_pid pid;
	int err;

	if (unlikely(!p)) {
		caller_fail(s, -EAGAIN);
		return MOTE_NOBODY;
	}
	process_init(s, p, opts, caller);
	p->arg = request;
	if (opts->label && !process_extra(p))
		err = -ENOMEM;
	else
		err = opts->flags & MOTE_LINK ? link_pair(s, process_self(s), p) : 0;
	/* Last: it can't be undone. */
	if (unlikely(link_asker) && !err)
		err = link_to(s, p, request->msg.from) < 0 ? -ENOMEM : 0;
	if (unlikely(err)) {
		spawn_undo(s, p);
		caller_fail(s, err);
		return MOTE_NOBODY;
	}
	if (opts->label)
		atomic_store_explicit(&process_extra(p)->label, opts->label, memory_order_relaxed);
	p->asked = true;
	held_add(p, request);
	pid = process_pid(p);
	count_made(s);
	task_spawned(s, &p->task);
	return pid;
}

mote_pid process_spawn_root(mote_fn fn, void *arg, const void *caller)
{
	struct mote_spawn_opts opts = { .fn = fn, .arg = arg, .label = "main", .flags = SPAWN_ROOT };

	return process_spawn(NULL, &opts, caller);
}

static int spawn_check(const struct mote_spawn_opts *opts)
{
	unsigned int known = MOTE_LINK | MOTE_MONITOR | MOTE_PINNED | MOTE_TRAP_EXIT | MOTE_ASYNC_KILL;

	if (!process_table)
		return -ESRCH;
	if (!opts->fn == !opts->handler || opts->flags & ~known || opts->priority < 0 ||
	    opts->priority > MOTE_PRIORITY_HIGH || !stack_class(opts->stack_size))
		return -EINVAL;
	if (opts->handler && (opts->handler->size != sizeof(struct mote_handler_ops) || opts->handler->state_size > UINT32_MAX))
		return -EINVAL;
	if (opts->state_size > (opts->handler ? UINT32_MAX : 0))
		return -EINVAL;
	if (opts->mailbox_policy > MOTE_MAILBOX_KILL || (opts->mailbox_policy && !opts->mailbox_limit))
		return -EINVAL;
	if (opts->flags & MOTE_MONITOR && !opts->ref)
		return -EINVAL;
	if (opts->name && !name_valid(opts->name))
		return -EINVAL;
	return 0;
}

static mote_pid spawn_checked(const char *name, const struct mote_spawn_opts *opts, const void *caller)
{
	struct scheduler *s = runtime_try_enter();
	mote_pid pid = MOTE_NOBODY;
	int err;

	if (unlikely(!s && opts->flags & (MOTE_LINK | MOTE_MONITOR)))
		runtime_misuse(name);
	err = spawn_check(opts);
	if (likely(!err))
		pid = process_spawn(s, opts, caller);
	else
		caller_fail(s, err);
	if (s)
		process_leave(s);
	return pid;
}

mote_pid mote_spawn(mote_fn fn, void *arg)
{
	return spawn_checked("mote_spawn", &(struct mote_spawn_opts){ .fn = fn, .arg = arg }, __builtin_return_address(0));
}

mote_pid mote_spawn_link(mote_fn fn, void *arg)
{
	return spawn_checked("mote_spawn_link", &(struct mote_spawn_opts){
			.fn = fn, .arg = arg, .flags = MOTE_LINK }, __builtin_return_address(0));
}

mote_pid mote_spawn_monitor(mote_fn fn, void *arg, mote_ref *ref)
{
	return spawn_checked("mote_spawn_monitor", &(struct mote_spawn_opts){
			.fn = fn, .arg = arg, .flags = MOTE_MONITOR, .ref = ref }, __builtin_return_address(0));
}

mote_pid mote_spawn_opts(const struct mote_spawn_opts *opts)
{
	struct mote_spawn_opts known;
	int err = opts_copy(&known, sizeof(known), opts);

	if (err) {
		caller_fail(runtime_try_enter(), err);
		runtime_try_leave();
		return MOTE_NOBODY;
	}
	return spawn_checked("mote_spawn_opts", &known, __builtin_return_address(0));
}

/* What does not touch the scheduler need not enter the runtime: the worker knows whom it runs. */
struct process *process_caller(void)
{
	/* relaxed: written by this thread */
	struct task *t = atomic_load_explicit(&worker_self()->task, memory_order_relaxed);

	return t ? process_of(t) : NULL;
}

mote_pid mote_self(void)
{
	struct process *p = process_caller();

	return p ? process_pid(p) : MOTE_NOBODY;
}

bool mote_in_process(void)
{
	return process_caller() != NULL;
}

int mote_errno(void)
{
	struct process *p = process_caller();

	return p ? p->err : foreign_err;
}

bool mote_trap_exit(bool trap)
{
	struct scheduler *s = runtime_enter("mote_trap_exit");
	struct process *self = process_self(s);
	bool old;

	/* What has arrived came under the old setting. */
	signals_act(s, self);
	old = self->trap_exit;
	self->trap_exit = trap;
	process_leave(s);
	return old;
}

int mote_label_set(const char *label)
{
	struct scheduler *s = runtime_enter("mote_label_set");
	struct extra *extra = process_extra(process_self(s));

	/* release: who reads it elsewhere finds the text */
	if (extra)
		atomic_store_explicit(&extra->label, label, memory_order_release);
	process_leave(s);
	return extra ? 0 : -ENOMEM;
}

void mote_yield(void)
{
	struct scheduler *s = runtime_enter("mote_yield");

	signals_act(s, process_self(s));
	task_yield(s);
	s = scheduler_self();
	if (signals_pending(process_self(s)))
		signals_act(s, process_self(s));
	runtime_leave();
}

void mote_check(void)
{
	struct scheduler *s = runtime_enter("mote_check");

	if (likely(!signals_pending(process_self(s)) && --s->budget > 0 &&
		   !atomic_load_explicit(&s->holds_back, memory_order_relaxed))) {
		runtime_leave_on(s);
		return;
	}
	if (atomic_load_explicit(&s->holds_back, memory_order_relaxed))
		outbox_flush(s, s);
	signals_act(s, process_self(s));
	if (s->budget <= 0)
		task_yield(s);
	runtime_leave();
}

static int reason_check(const struct mote_reason *reason)
{
	if (reason->kind > MOTE_CUSTOM || (reason->size && !reason->data))
		return -EINVAL;
	return reason->size > MOTE_REASON_MAX ? -EMSGSIZE : 0;
}

int mote_exit_pid(mote_pid pid, struct mote_reason reason)
{
	struct scheduler *s = runtime_try_enter();
	mote_pid self = s ? process_pid(process_self(s)) : MOTE_NOBODY;
	int err = mote_pid_valid(pid) ? reason_check(&reason) : -EINVAL;
	struct signal *sig;

	if (!err && !process_absent(pid)) {
		sig = signal_exit_new(s, NULL, self, &reason);
		if (sig) {
			signal_send_pid(s, sig, pid, true);
			if (reason.kind == MOTE_KILL && port_is_here(pid.node))
				async_kill_want(&process_table[pid.slot], pid.serial);
		} else {
			err = -ENOMEM;
		}
	}
	if (s)
		process_leave(s);
	return err;
}

/* p is whole but for what its cleanups have released. */
static void report_abnormal(struct process *p, const struct mote_reason *reason)
{
	const struct runtime_reports *reports = runtime_reports_get();
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);
	const char *label = extra ? atomic_load_explicit(&extra->label, memory_order_relaxed) : NULL;
	struct scheduler *veiled;
	char text[768];

	if (reports) {
		veiled = runtime_veil();
		reports->ended(p, reason);
		runtime_unveil(veiled);
	}
	if (!runtime_logs())
		return;
	mote_reason_format(reason, text, sizeof(text));
	runtime_say(MOTE_LOG_ERROR, "process " MOTE_PID_FMT " %s%sended: %s", MOTE_PID_ARG(process_pid(p)),
		    label ? label : "", label ? " " : "", text);
}

/* From here on p is dead: nothing is taken in, all who care are told. */
static void process_bury(struct scheduler *s, struct process *p, const struct mote_reason *reason)
{
	struct signal *sig;
	uint64_t old;

	/* Before it is counted among the dead: whoever waits for all to be gone finds all reports sent. */
	if (unlikely(reason->kind > MOTE_SHUTDOWN && reason->kind != MOTE_KILLED))
		report_abnormal(p, reason);
	heap_release(s, p);
	if (p->task.flags & TASK_STACKLESS && p->begun && p->state)
		p->state_class != SLAB_NONE ? slab_free(&s->slabs, p->state, p->state_class) : free(p->state);
	belongings_end(p);
	if (atomic_load(&p->named))
		names_end(p);
	/* acq_rel: what was pushed is seen; who finds the inbox DEAD sees the process's names gone */
	old = atomic_exchange_explicit(&p->task.inbox, TASK_DEAD, memory_order_acq_rel);
	sig = old <= TASK_NUDGED ? NULL : (struct signal *)(uintptr_t)(old & TASK_POINTER);
	signals_undeliverable(s, sig, p->task.slot);
	if (limited(p))
		limit_close(s, p);
	if (p->first)
		mailbox_end(s, p, reason);
	if (p->held)
		held_end(s, p, reason);
	if (p->refs)
		refs_end(s, p);
	node_watch_end(p);
	counter_add(&counts[s->index].ended, 1);
	if (p->links)
		links_tell(s, p, reason);
	if (p->watchers)
		watchers_tell(s, p, reason);
	edges_end(p);
	if (unlikely(p->root))
		runtime_root_ended(reason);
	if (p->fatal) {
		node_uncharge(p->fatal);
		signal_free(s, p->fatal);
	}
}

void (*_Atomic process_asked_failed)(const struct mote_reason *reason);

/* One that was born with a request fails of itself: whoever made it so says what it was at. */
static void asked_last_words(struct process *p, const struct mote_reason *reason)
{
	/* relaxed: set before the first such process was spawned, and never changed */
	void (*failed)(const struct mote_reason *) = atomic_load_explicit(&process_asked_failed, memory_order_relaxed);

	if (!failed || p->told || reason->kind <= MOTE_SHUTDOWN)
		return;
	runtime_leave();
	failed(reason);
	runtime_enter("last words");
}

PROCESS_ENTRY static void handler_last_words(struct process *p, const struct mote_reason *reason)
{
	if (!(p->task.flags & TASK_STACKLESS) || !p->ops->terminate || !p->ready || reason->kind == MOTE_KILLED)
		return;
	runtime_leave();
	p->ops->terminate(p->state, reason);
	runtime_enter("terminate");
}

int mote_exit_alias(mote_ref alias, struct mote_reason reason)
{
	struct scheduler *s = runtime_try_enter();
	mote_pid self = s ? process_pid(process_self(s)) : MOTE_NOBODY;
	mote_pid owner = { 0, alias.owner, alias.node };
	int err = alias.id ? reason_check(&reason) : -EINVAL;
	struct signal *sig;

	if (!err && ref_owned(alias)) {
		sig = signal_exit_new(s, NULL, self, &reason);
		if (sig) {
			sig->ref = alias.id;
			sig->ref_slot = alias.slot;
			signal_send_pid(s, sig, owner, true);
		} else {
			err = -ENOMEM;
		}
	}
	if (s)
		process_leave(s);
	return err;
}

static const struct mote_reason *fatal_reason(const struct process *p)
{
	return &((struct mote_exit_info *)p->fatal->msg.data)->reason;
}

const struct mote_reason *process_reason(const struct process *p)
{
	return p->fatal ? fatal_reason(p) : &atomic_load_explicit(&p->extra, memory_order_relaxed)->reason;
}

/*
 * What p dies of, where it stays until all have been told. The caller's may be on the stack, which the next cleanup uses
 * after a crash in this one; its data may be of the process's heap, which goes before links and monitors learn it.
 */
static const struct mote_reason *reason_keep(struct process *p, struct extra *extra, const struct mote_reason *reason)
{
	struct mote_exit_info *info;

	if (p->fatal)
		return fatal_reason(p);
	if (!extra)
		return reason;
	extra->reason = *reason;
	if (!reason->size)
		return &extra->reason;
	p->fatal = signal_new(scheduler_self(), SIGNAL_EXIT, sizeof(*info) + reason->size);
	if (!p->fatal) {
		extra->reason.data = NULL;
		extra->reason.size = 0;
		return &extra->reason;
	}
	info = p->fatal->msg.data;
	info->pid = process_pid(p);
	info->reason = *reason;
	info->reason.data = memcpy(info + 1, reason->data, reason->size);
	return &info->reason;
}

/*
 * Also reached from inside a cleanup, which calls mote_exit() itself, or crashes: it ends there, the others go on, and the
 * first reason stands.
 */
void process_exit(struct process *p, const struct mote_reason *reason)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);

	p->matching = false;
	if (!p->task.dying) {
		p->task.dying = 1;
		p->task.nokill = 0;
		/* relaxed: the signal handler that looks runs on this thread; others need not know at once */
		atomic_store_explicit(&p->task.interrupt, TASK_INTERRUPT_NEVER, memory_order_relaxed);
		/* seq_cst: with name_add(): either it sees this, or names_end() below sees the name */
		atomic_exchange(&p->exiting, true);
		if ((p->task.flags & TASK_STACKLESS && p->ops->terminate) ||
		    unlikely(p->asked && reason->kind > MOTE_SHUTDOWN))
			extra = process_extra(p);
		p->told = p->fatal;
		reason = reason_keep(p, extra, reason);
		if (extra)
			extra->cleanup_until = clock_now() + CLEANUP_NS;
		handler_last_words(p, reason);
		if (unlikely(p->asked))
			asked_last_words(p, reason);
	} else if (p->fatal) {
		reason = fatal_reason(p);
	} else if (extra) {
		reason = &extra->reason;
	}
	if (extra) {
		defers_run(p);
		timers_end(scheduler_self(), p);
		if (extra->os_signals)
			os_signals_end(p);
	}
	/* acquire: another process may have closed the last one just now; what it did comes before the end */
	if (atomic_load_explicit(&p->task.nr_fds, memory_order_acquire))
		io_task_end(&p->task);
	process_bury(scheduler_self(), p, reason);
	task_exit(scheduler_self());
}

void mote_exit(struct mote_reason reason)
{
	struct scheduler *s = runtime_enter("mote_exit");

	if (reason.kind > MOTE_CUSTOM)
		reason = (struct mote_reason){ .kind = MOTE_ERROR, .code = EINVAL };
	if (reason.size > MOTE_REASON_MAX)
		reason.size = MOTE_REASON_MAX;
	if (!reason.data)
		reason.size = 0;
	process_exit(process_self(s), &reason);
}

/* Hooks of sched. */

static bool hook_signals(struct task *t)
{
	struct process *p = process_of(t);

	atomic_store_explicit(&t->pending, p->matching, memory_order_relaxed);
	signals_take(scheduler_self(), p);
	return p->fatal && !t->dying;
}

static void hook_die(struct task *t)
{
	struct process *p = process_of(t);

	process_exit(p, fatal_reason(p));
}

static void hook_gone(struct scheduler *s, struct task *t)
{
	process_slot_free(s, process_of(t));
}

static int hook_clamp(struct task *t, int64_t *deadline)
{
	struct extra *extra = atomic_load_explicit(&process_of(t)->extra, memory_order_relaxed);

	if (*deadline == INT64_MAX)
		return -ECANCELED;
	if (extra && *deadline > extra->cleanup_until)
		*deadline = extra->cleanup_until;
	return 0;
}

static void hook_no_stack(struct scheduler *s, struct task *t, int err)
{
	struct process *p = process_of(t);
	struct mote_reason reason;

	if (p->begun) {
		/* A handler at rest has descriptors and cleanups, which need a stack: it waits until one is free. */
		scheduler_requeue(s, t);
		return;
	}
	reason = mote_reason_error(ENOMEM, stack_error(err));
	t->dying = 1;
	atomic_exchange(&p->exiting, true);
	process_bury(s, p, &reason);
	process_slot_free(s, p);
}

static _Noreturn void handler_main(struct process *p);

PROCESS_ENTRY static void hook_enter(struct task *t)
{
	static const struct mote_reason normal = { .kind = MOTE_NORMAL };
	struct process *p = process_of(t);

	if (t->flags & TASK_STACKLESS)
		handler_main(p);
	signals_take(scheduler_self(), p);
	if (unlikely(p->fatal))
		hook_die(t);
	p->begun = true;
	runtime_leave();
	p->fn(p->arg);
	runtime_enter("exit");
	process_exit(p, &normal);
}

const struct task_hooks process_hooks = {
	.enter = hook_enter,
	.signals = hook_signals,
	.die = hook_die,
	.gone = hook_gone,
	.no_stack = hook_no_stack,
	.clamp = hook_clamp,
	.flush = outbox_flush,
	.thread_begin = crash_thread_begin,
	.thread_end = crash_thread_end,
	.overseen = async_kill_overseen,
};

PROCESS_ENTRY static void handler_begin(struct process *p)
{
	size_t size = atomic_load_explicit(&p->memory, memory_order_relaxed);
	uint8_t class = slab_class_small(size);
	void *arg = p->arg, *state = NULL;
	struct mote_reason reason;
	int err = 0;

	if (size)
		state = class != SLAB_NONE ? slab_alloc(&scheduler_self()->slabs, class) : malloc(size);
	p->begun = true;
	p->state = state;
	p->state_class = class;
	if (size && !state) {
		err = -ENOMEM;
	} else {
		if (size)
			memset(state, 0, size);
		if (p->ops->init) {
			runtime_leave();
			err = p->ops->init(state, arg);
			runtime_enter("init");
		}
	}
	if (err) {
		reason = mote_reason_error(-err, "init failed");
		process_exit(p, &reason);
	}
	p->ready = true;
}

PROCESS_ENTRY static void handler_handle(struct process *p, struct signal *sig)
{
	struct mote_from from = mote_msg_from(&sig->msg);

	p->lent = true;
	runtime_leave();
	if (from.ref.id && p->ops->call)
		p->ops->call(p->state, from, &sig->msg);
	else if (p->ops->info)
		p->ops->info(p->state, &sig->msg);
	if (p->lent)
		mote_msg_free(&sig->msg);
	p->lent = false;
	runtime_enter("handler");
}

/* Runs from the top each time it has rested: there is no stack that could remember anything. */
static void handler_main(struct process *p)
{
	struct signal *sig;

	for (;;) {
		struct scheduler *s = scheduler_self();

		if (unlikely(!p->begun)) {
			signals_act(s, p);
			handler_begin(p);
			continue;
		}
		sig = mailbox_receive_first(s, p);
		if (!sig)
			task_rest(s);
		handler_handle(p, sig);
		task_spend_receive(scheduler_self());
	}
}
