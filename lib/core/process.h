/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/process.h: the control block of a process, and the signals that processes send each other.
 *
 * Control blocks lie in one table for the life of the runtime; a pid is an index into it and the serial of the
 * tenancy. Nobody takes a reference to a process: a signal carries the serial of the process that it is for, whoever
 * takes it out of an inbox compares, and what was for an earlier tenant is answered like a signal to the dead.
 *
 * Unless marked otherwise a field belongs to the process itself: only code running as it (or ending it) touches it.
 */
#ifndef CORE_PROCESS_H
#define CORE_PROCESS_H

#include "core/signal.h"
#include "port/port.h"
#include "sched/scheduler.h"

#include <mote/message.h>
#include <mote/process.h>
#include <mote/timer.h>

struct edges;
struct extra;
struct limit;
struct local;
struct ref_table;
struct heap_block;

struct process {
	struct task task;

	struct signal *first, *last;		/* the mailbox: messages taken out of the inbox, in order */
	struct ref_table *refs;			/* monitors, aliases, calls */
	union {
		mote_fn fn;
		const struct mote_handler_ops *ops;	/* TASK_STACKLESS */
	};
	union {
		void *arg;
		void *state;			/* of a handler, once it has begun */
	};
	_Atomic(struct extra *) extra;		/* what few processes have; stays with the slot once made */
	_Atomic uint32_t nr_messages;		/* in the mailbox; read by mote_process_info() */
	_Atomic uint32_t nr_monitors;		/* likewise */
	int16_t err;				/* mote_errno() */
	bool trap_exit;
	bool begun : 1;				/* fn or init was entered */
	bool ready : 1;				/* a server whose init has succeeded */
	bool root : 1;				/* mote_run() waits for it */
	bool lent : 1;				/* a server's callback was lent a message and has not kept it */
	bool matching : 1;			/* inside the function of a mote_receive_match() */
	bool told : 1;				/* dying of an exit signal, not of itself */
	bool asked : 1;				/* born with a request: process_spawn_asked() */
	bool vague : 1;				/* may hold requests that were answered and are not marked so */
	uint8_t state_class;			/* slab class of a handler's state */
	_Atomic bool exiting;			/* no more names for it */
	_Atomic bool named;			/* has or had a name; set by whoever registers it */

	struct signal *links __attribute__((aligned(CACHE_LINE)));	/* of link.c */
	struct signal *watchers;		/* MONITOR signals of those who monitor it; circular, oldest first */
	struct signal *held;			/* messages that its code has: received or made, not yet freed or sent */
	struct signal *fatal;			/* the exit signal that won, or NULL */
	const void *spawned_at;
	uint64_t parent_serial;
	uint32_t parent_slot;
	_Atomic uint32_t nr_links;
	_Atomic uint32_t nr_watchers;
	_Atomic uint32_t memory;		/* heap bytes, saturating; of a handler that has not begun, its state's size */
};

_Static_assert(sizeof(struct process) == 192, "three cache lines: an idle handler costs these and its state");

/* task.marks: what others look at before they send. Written by the process itself, or before anybody knows of it. */
enum process_marks {
	PROCESS_LIMITED	= 1 << 0,	/* its mailbox has a limit */
	PROCESS_CALLING	= 1 << 1,	/* in mote_call(): see cycle.h */
};

/* A mailbox of another node that has no room for what this process has sent: so many messages wait there. */
struct hold {
	mote_pid pid;
	int32_t count;		/* below 0: a RESUME that came before its HOLD */
};

struct extra {
	struct defer *defers;
	_Atomic(const char *) label;
	mote_timer *timers;			/* armed for itself; stale ones are weeded out when it is full */
	uint32_t nr_timers, max_timers;
	struct heap_block *heap;
	struct local *locals;
	struct signal *cycle;			/* see cycle.c: of the last call that was part of one */
	struct belonging *belongings;		/* see belonging_add() */
	struct mote_reason reason;		/* once dying: why, if there is no exit signal that says it */
	int64_t cleanup_until;			/* once dying: when waits in cleanups end */
	bool os_signals;			/* asks for POSIX signals */
	_Atomic uint64_t kill_serial;		/* the latest tenant that a kill was sent to: see async_kill.c */
	_Atomic(struct limit *) limit;		/* see limit.c; both stay with the slot */
	struct edges *edges;			/* see edge.c; likewise */
	struct hold *holds;			/* see remote.c; the memory likewise */
	uint32_t nr_holds;
	bool watches_nodes;			/* see node.c */
};

static inline struct process *process_of(struct task *t)
{
	return container_of(t, struct process, task);
}

static inline struct process *process_self(struct scheduler *s)
{
	return process_of(s->current);
}

static inline uint64_t process_serial(const struct process *p)
{
	return atomic_load_explicit(&p->task.serial, memory_order_relaxed);
}

static inline mote_pid process_pid(const struct process *p)
{
	return (mote_pid){ process_serial(p), p->task.slot, port_node };
}

/* table.c */
extern struct process *process_table __attribute__((visibility("hidden")));
extern _Atomic uint32_t process_table_used __attribute__((visibility("hidden")));

int process_table_start(uint32_t max, unsigned int schedulers);
bool process_table_full(void);
void process_table_stop(void);
void process_table_forget(void);
struct process *process_slot_new(struct scheduler *s);		/* NULL: full */
void process_slot_free(struct scheduler *s, struct process *p);

/* True: the tenant of the pid's slot is (or was, a moment ago) that process. False: certainly not. */
static inline bool process_known(mote_pid pid)
{
	/* relaxed: a pid that was learnt in any proper way comes after its slot */
	if (unlikely(pid.slot >= atomic_load_explicit(&process_table_used, memory_order_relaxed) ||
		     !port_is_here(pid.node)))
		return false;
	/* acquire: pairs with process_init(); a noproc happens after the death */
	return likely(atomic_load_explicit(&process_table[pid.slot].task.serial, memory_order_acquire) == pid.serial &&
		      pid.serial);
}

/* That tenant, or NULL. */
static inline struct process *process_lookup(mote_pid pid)
{
	return process_known(pid) ? &process_table[pid.slot] : NULL;
}

/* One of this node that is not there. Of others' processes nothing is known here. */
static inline bool process_absent(mote_pid pid)
{
	return port_is_here(pid.node) && !process_known(pid);
}

/* Why there is no such process. */
static inline struct mote_reason process_absence(mote_pid pid)
{
	return (struct mote_reason){ .kind = port_is_here(pid.node) ? MOTE_NOPROC : MOTE_NOCONNECTION };
}

static inline bool process_dead(const struct process *p)
{
	return atomic_load_explicit(&p->task.inbox, memory_order_acquire) == TASK_DEAD;
}

/* There may be somebody who owns that: on this node, whoever has the slot. A reference is never used again. */
static inline bool ref_owned(mote_ref ref)
{
	/* relaxed: a reference that was learnt in any proper way comes after its owner's slot */
	return !port_is_here(ref.node) ||
	       (ref.owner < atomic_load_explicit(&process_table_used, memory_order_relaxed) &&
		process_serial(&process_table[ref.owner]));
}

/* process.c */
extern const struct task_hooks process_hooks __attribute__((visibility("hidden")));

mote_pid process_spawn(struct scheduler *s, const struct mote_spawn_opts *opts, const void *caller);
mote_pid process_spawn_root(mote_fn fn, void *arg, const void *caller);

/*
 * Spawns a process that has received the request already, its arg: its end answers it if nothing has before. With ref 0 nobody waits.
 * Takes the request, but not when it fails. link_asker: it is linked to who asks, if that is not the caller. If the process
 * fails of itself, process_asked_failed() is called as its code, before its cleanups.
 */
mote_pid process_spawn_asked(struct scheduler *s, const struct mote_spawn_opts *opts, struct signal *request,
			     bool link_asker, const void *caller);
extern void (*_Atomic process_asked_failed)(const struct mote_reason *reason) __attribute__((visibility("hidden")));
/* The reason, and its data, may lie where cleanups overwrite them. From inside a cleanup, too: then the next one runs. */
_Noreturn void process_exit(struct process *p, const struct mote_reason *reason);
struct extra *process_extra(struct process *p);			/* made if need be; NULL: no memory */
int64_t process_count(void);					/* alive; never too few */
uint64_t process_count_spawned(void);			/* since the start */
void processes_forget(void);

/*
 * What calls the code of a process for the first time lies in a section of its own: a return address in there is the end
 * of that code's frames. Any other address of the library between frames of a process means that the library is at work.
 */
#define PROCESS_ENTRY __attribute__((noinline, section("mote_entry")))
/* Follows the call: a tail call would leave no return address. */
#define PROCESS_ENTRY_END() __asm__ volatile("" ::: "memory")
extern const char __start_mote_entry[] __attribute__((visibility("hidden")));
extern const char __stop_mote_entry[] __attribute__((visibility("hidden")));

/* Async-signal-safe. */
static inline bool process_entry_code(uintptr_t pc)
{
	return pc >= (uintptr_t)__start_mote_entry && pc <= (uintptr_t)__stop_mote_entry;
}

static inline void process_fail(struct process *p, int err)
{
	p->err = (int16_t)err;
}

/* Whose code this thread runs, also outside of the runtime; NULL: a foreign thread. */
struct process *process_caller(void);

/* What p, which is in its cleanups, dies of. */
const struct mote_reason *process_reason(const struct process *p);

void foreign_fail(int err);
int foreign_error(void);

/* Sets what mote_errno() will say, for a process or a foreign thread. */
static inline void caller_fail(struct scheduler *s, int err)
{
	if (s)
		process_fail(process_self(s), err);
	else
		foreign_fail(err);
}

/* signal.c */

/* Takes an exit signal that is p's to act on: a link's, too, if that was found active. */
void signal_exit_act(struct scheduler *s, struct process *p, struct signal *sig);

/* Takes sig, which was for a process of another node that can not be reached any more, or not at all. */
void signal_unreachable(struct scheduler *s, struct signal *sig, mote_pid to);

/* Takes sig, which was for a process that is gone: answers it as the dead do. */
void signal_undeliverable(struct scheduler *s, struct signal *sig, uint32_t slot);

/* Likewise a list, linked from the newest; in the order in which they were sent. */
void signals_undeliverable(struct scheduler *s, struct signal *newest, uint32_t slot);

static inline void mailbox_append(struct process *p, struct signal *sig)
{
	sig->next = NULL;
	sig->prev = p->last;
	if (p->last)
		p->last->next = sig;
	else
		p->first = sig;
	p->last = sig;
	atomic_store_explicit(&p->nr_messages, atomic_load_explicit(&p->nr_messages, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* The first message, if it is a plain one (or foreign, still charged): the case that has to be quick. NULL: look closer. */
static inline struct signal *mailbox_take_plain(struct process *p)
{
	struct signal *sig = p->first;

	if (!sig || unlikely(sig->kind > SIGNAL_FOREIGN_REQUEST))
		return NULL;
	p->first = sig->next;
	if (sig->next)
		sig->next->prev = NULL;
	else
		p->last = NULL;
	atomic_store_explicit(&p->nr_messages, atomic_load_explicit(&p->nr_messages, memory_order_relaxed) - 1,
			      memory_order_relaxed);
	return sig;
}

/* Takes in one signal that was in p's inbox. */
void signal_take(struct scheduler *s, struct process *p, struct signal *sig);

/*
 * To a receiver that nobody else can be running, and to which nothing is on its way: what is sent goes straight into its
 * mailbox, which saves the receiver an exchange, and the list its reversal. That is so
 *  - if it is parked: who takes PARKED away owns it until it is queued;
 *  - if this is the only scheduler, and the sender a process: then the receiver is not running.
 * What others send meanwhile goes to the inbox, behind it; while the inbox holds something, so does everything.
 */
static inline bool signal_deliver(struct scheduler *s, struct process *p, struct signal *sig)
{
	uint64_t inbox = atomic_load_explicit(&p->task.inbox, memory_order_relaxed);

	if (inbox == TASK_PARKED) {
		/* acquire: pairs with the parking; release: for whoever pushes next and reads nothing but the word */
		if (!atomic_compare_exchange_strong_explicit(&p->task.inbox, &inbox, 0, memory_order_acq_rel,
							     memory_order_relaxed))
			return false;
	} else if (inbox || !s || !s->alone) {
		return false;
	}
	if (likely(sig->to == process_serial(p) && sig->kind <= SIGNAL_FOREIGN_REQUEST))
		mailbox_append(p, sig);
	else
		signal_take(s, p, sig);
	if (inbox == TASK_PARKED)
		task_ready(s, &p->task, true);
	return true;
}

/* By way of the inbox: a chain for one receiver, linked from the newest. False: the receiver is dead. */
bool signals_push(struct scheduler *s, struct signal *newest, struct signal *oldest, uint32_t n, uint32_t to_slot);
void signal_push(struct scheduler *s, struct signal *sig, uint32_t to_slot, bool urgent);

/* Takes sig. to_slot: where; sig->to: whom. urgent: it has to act at the receiver's next runtime call. */
static inline void signal_send(struct scheduler *s, struct signal *sig, uint32_t to_slot, bool urgent)
{
	/* Nothing may overtake what the sender's stream has left behind. */
	if (unlikely(s && atomic_load_explicit(&s->holds_back, memory_order_relaxed)))
		task_hooks->flush(s, s);
	if (sig->kind > SIGNAL_COUNTED_REQUEST || !signal_deliver(s, &process_table[to_slot], sig))
		signal_push(s, sig, to_slot, urgent);
}

/*
 * The usual case of a receive, made short: the mailbox is empty, and one message is all that has arrived. NULL:
 * anything else, to be looked at by signals_take().
 */
static inline struct signal *signal_take_lone(struct scheduler *s, struct process *p)
{
	uint64_t inbox = atomic_load_explicit(&p->task.inbox, memory_order_relaxed);
	struct signal *sig = (struct signal *)(uintptr_t)(inbox & TASK_POINTER);

	/* acquire: pairs with the release in signal_send() */
	if (p->first || inbox >> 48 != 1 ||
	    !atomic_compare_exchange_strong_explicit(&p->task.inbox, &inbox, 0, memory_order_acquire,
						     memory_order_relaxed))
		return NULL;
	if (likely(sig->to == process_serial(p) && sig->kind <= SIGNAL_FOREIGN_REQUEST))
		return sig;
	signal_take(s, p, sig);
	return NULL;
}

/* Takes sig, which is for a process of another node; sig->to is set. */
void remote_send(struct scheduler *s, struct signal *sig, mote_pid to);

/* Takes sig. To whichever node. */
static inline void signal_send_pid(struct scheduler *s, struct signal *sig, mote_pid to, bool urgent)
{
	sig->to = to.serial;
	if (likely(port_is_here(to.node)))
		signal_send(s, sig, to.slot, urgent);
	else
		remote_send(s, sig, to);
}

/* Takes all that has arrived; messages go to the mailbox, the rest acts. p->fatal is set when p has to end. */
void signals_take(struct scheduler *s, struct process *p);

/*
 * The payload is struct mote_exit_info or mote_down_info, then the reason's bytes. An end must be told also when there
 * is no memory: whoever will have to be told has a block (reuse, taken) set aside, with room for all but those bytes,
 * which are left out then. NULL only if reuse is NULL.
 */
struct signal *signal_exit_new(struct scheduler *s, struct signal *reuse, mote_pid from,
			       const struct mote_reason *reason);

/* The exit signal that a link to nobody is answered with; takes the LINK signal. */
void signal_exit_absent(struct scheduler *s, struct signal *reuse, mote_pid absent, mote_pid to);
struct signal *signal_down_new(struct scheduler *s, struct signal *reuse, mote_pid from, mote_ref ref,
			       const struct mote_reason *reason);

static inline bool signals_pending(struct process *p)
{
	return unlikely(atomic_load_explicit(&p->task.pending, memory_order_relaxed));
}

/* At runtime calls that do not receive: lets signals act that must not wait; may not return. */
void signals_act(struct scheduler *s, struct process *p);

/* The end of most calls for processes: an exit signal acts at any of them, and each counts for the slice. */
static inline void process_leave(struct scheduler *s)
{
	struct process *p = process_self(s);

	if (unlikely(atomic_load_explicit(&s->holds_back, memory_order_relaxed)))
		task_hooks->flush(s, s);
	if (signals_pending(p))
		signals_act(s, p);
	task_spend_and_leave(s);
}

/* mailbox.c */
void mailbox_remove(struct process *p, struct signal *sig);
void mailbox_end(struct scheduler *s, struct process *p, const struct mote_reason *reason);
struct signal *mailbox_receive_first(struct scheduler *s, struct process *p);	/* held; NULL: none */
struct mote_msg *mailbox_receive_ref(struct scheduler *s, struct process *p, mote_ref ref, int64_t deadline);

/* message.c: m leaves its holder's hands, and is the caller's to free with signal_free(). NULL: -ENOMEM, m is gone. */
struct signal *message_take_over(struct scheduler *s, struct mote_msg *m);

/* What became of a request: takes m, its reply or DOWN; 0, with *reply (may be NULL) given, or what mote_call() says. */
int call_result(struct mote_msg *m, struct mote_msg **reply);

/* mote_receive_ref() of a request's answer, by one that can be part of a circle meanwhile: then NULL, and -EDEADLK. */
struct mote_msg *call_receive(mote_ref ref, mote_deadline deadline);

/* held.c: messages in the hands of a process's code, freed at its exit at the latest */
static inline void held_add(struct process *p, struct signal *sig)
{
	sig->held = HELD;
	sig->next = p->held;
	sig->prev = NULL;
	if (p->held)
		p->held->prev = sig;
	p->held = sig;
}

static inline void held_remove(struct process *p, struct signal *sig)
{
	sig->held = 0;
	if (sig->prev)
		sig->prev->next = sig->next;
	else
		p->held = sig->next;
	if (sig->next)
		sig->next->prev = sig->prev;
}

void held_end(struct scheduler *s, struct process *p, const struct mote_reason *reason);

/*
 * The request that p was born with has become its answer, of type and payload: it leaves when all else of p is gone, and a
 * link to the asker ends with it.
 */
void request_answer_last(struct signal *request);

/*
 * Before an unanswered request leaves its receiver's hands: a watcher takes its place, so that the asker still
 * learns of the receiver's death. 0; -ENOMEM: sig is taken, and has become the watcher.
 */
int request_outlived(struct scheduler *s, struct process *p, struct signal *sig);

/* The asker of a request that will not be answered any more learns why. Takes the request, and makes the DOWN of it. */
void request_end(struct scheduler *s, struct signal *request, mote_pid from, const struct mote_reason *reason);

/* ref.c */
enum ref_flags {
	REF_MONITOR	= 1 << 0,	/* DOWN has not come */
	REF_ALIAS	= 1 << 1,	/* messages may come */
	REF_REPLY	= 1 << 2,	/* the first message ends alias and monitor */
	REF_WATCHED	= 1 << 3,	/* of another node's process: it knows of the monitor, and has to be told of its end */
	REF_RESERVE	= 1 << 4,	/* watch is ref_reserve()'s */
	/* Of a question for a new process (spawn_on.c): what its answer does. */
	REF_LINK	= 1 << 5,	/* links to it: watch->next is the block for that */
	REF_KEEP	= 1 << 6,	/* lets the monitor stand, as one of it */
	REF_MANY	= 1 << 7,	/* an alias of many requests: each of them brings a reply, or DOWN */
};

struct ref_slot {
	uint64_t id;			/* 0: free */
	struct signal *message;		/* first in the mailbox that carries this ref */
	/* The MONITOR signal, kept by the target; or, if that is of another node, a block to become the DOWN (RESERVE). */
	struct signal *watch;
	mote_pid target;
	uint32_t queued;		/* messages in the mailbox that carry it */
	uint32_t flags;			/* free: index of the next free slot + 1 */
};

struct ref_table {
	uint32_t max;
	uint32_t free;			/* index + 1; 0: none */
	uint32_t call;			/* index + 1 of the one whose answer mote_call() waits for; 0: it does not */
	uint64_t asked, token;		/* see cycle.c: the call that a probe goes round a second time for */
	struct ref_slot slots[];
};

struct ref_slot *ref_new(struct scheduler *s, struct process *p, unsigned int flags, mote_ref *ref);
struct ref_slot *ref_find(struct process *p, uint64_t id, uint32_t slot);
bool ref_is_alias(struct process *p, uint64_t id, uint32_t slot);	/* an active one */
bool ref_accept(struct scheduler *s, struct process *p, struct signal *sig);	/* false: not wanted */
void ref_consumed(struct process *p, struct signal *sig);
void ref_release(struct process *p, struct ref_slot *slot);	/* frees it, unless messages still carry it */
/* For a monitor or request that goes to another node: the block for its DOWN, and a note that p has an edge. */
int ref_reserve(struct scheduler *s, struct process *p, struct ref_slot *slot, mote_pid target);
int ref_monitor(struct scheduler *s, struct process *p, struct ref_slot *slot, mote_ref ref, mote_pid target);
int ref_drop(struct scheduler *s, struct process *p, mote_ref ref, bool flush);	/* 1: was active */
void refs_end(struct scheduler *s, struct process *p);
void watchers_tell(struct scheduler *s, struct process *p, const struct mote_reason *reason);
void watcher_add(struct process *p, struct signal *sig);
void watcher_remove(struct scheduler *s, struct process *p, struct signal *sig);
void watcher_find_remove(struct scheduler *s, struct process *p, mote_pid watcher, uint64_t ref);
void ref_watched(struct scheduler *s, struct process *p, struct signal *sig);	/* takes sig */
/* A WATCHING that nobody waits for any more: takes it. */
void watching_refuse(struct scheduler *s, struct signal *sig, mote_pid asker);

/* For edge.c: fires, or forgets, what belongs to nodes that are down by that number. */
void refs_cut(struct scheduler *s, struct process *p, uint64_t seq);
void watchers_cut(struct scheduler *s, struct process *p, uint64_t seq);
void links_cut(struct scheduler *s, struct process *p, uint64_t seq);

/* link.c */
int link_add(struct scheduler *s, struct process *p, mote_pid peer);	/* 1: it was there and active */
/* mote_unlink(), and an exit signal by the caller, who cannot end between the two: nobody is left behind alone. */
void link_dismiss(mote_pid pid, const struct mote_reason *reason);
void link_take(struct scheduler *s, struct process *p, struct signal *sig);
bool link_broken(struct scheduler *s, struct process *p, mote_pid peer);	/* removes; true: it was active */
void link_insert(struct process *p, struct signal *l);				/* takes l; l->msg.from: the peer */
struct signal *link_remove(struct process *p, mote_pid peer);			/* gives the entry; its ref is 0 if it was active */
int link_pair(struct scheduler *s, struct process *parent, struct process *child);	/* child has no links yet */
int link_to(struct scheduler *s, struct process *p, mote_pid peer);	/* as p does, or who makes p; 1: it was there */
void links_tell(struct scheduler *s, struct process *p, const struct mote_reason *reason);

/* spawn_on.c: the answer of a process that was spawned from another node; its data says what it is like. */
#define MOTE_MSG_SPAWNED 0x80000100u
void spawned_unwanted(struct scheduler *s, const struct signal *sig);

/* heap.c */
void heap_release(struct scheduler *s, struct process *p);
void defers_run(struct process *p);

/*
 * What other rooms keep for a process and have to take away before anybody learns of its death: end() is called then, the
 * latest first, after its cleanups and its memory, and before its names go. It takes b; it may wait for nobody, and runs inside of the
 * runtime. Only the process itself adds and removes.
 */
struct belonging {
	struct belonging *next, *prev;
	void (*end)(struct process *p, struct belonging *b);
};

int belonging_add(struct process *p, struct belonging *b);	/* 0, -ENOMEM */
void belonging_remove(struct process *p, struct belonging *b);
void belongings_end(struct process *p);

/* local.c */
void locals_end(struct scheduler *s, struct extra *extra);

/* timer.c */
int timers_start(void);
void timers_stop(void);
void timers_forget(void);
void timers_end(struct scheduler *s, struct process *p);

/* name.c */
int name_add(const char *name, mote_pid pid);
mote_pid name_whereis(const char *name);
void names_each(bool (*visit)(const char *name, mote_pid pid, void *arg), void *arg);
void names_end(struct process *p);
void names_stop(void);
void names_forget(void);
bool name_valid(const char *name);

/* os_signal.c */
void os_signals_end(struct process *p);
void os_signals_stop(void);
void os_signals_forget(void);

/* A wait with a deadline: on the waiter's stack. */
struct sleeper {
	struct wheel_timer timer;
	struct task *task;
	_Atomic bool fired;
};

void sleeper_arm(struct scheduler *s, struct sleeper *sl, struct task *t, int64_t deadline_ns);
static inline void sleeper_disarm(struct sleeper *sl)
{
	if (sl->timer.wheel)
		wheel_disarm(&sl->timer);
}

/*
 * One step of a wait, after its signals were taken in and its condition was looked at. 0: look again; -ETIMEDOUT,
 * -ECANCELED: give up. sl: of this wait, with no task at first, and disarmed at its end.
 */
int process_wait(struct scheduler *s, struct process *p, struct sleeper *sl, int64_t deadline, int why);

/* Refuses option structs of unknown shape: 0, -EINVAL (no size), -E2BIG (unknown bytes that are not zero). */
int opts_copy(void *to, size_t known, const void *from);

/* Fills a struct of the caller's, of a size that he knows; what we do not know is zero. */
void opts_give(void *to, size_t size, const void *from, size_t known);

/* runtime.c */

/* What the library says of itself goes to mote_opts.log and to the log above. From inside of the runtime, or other threads. */
void runtime_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Only to mote_opts.log; whether there is one. */
void runtime_say(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool runtime_logs(void);

/* To mote_opts.log, from outside of the runtime. */
void runtime_tell(int level, const char *text);

/* The log above, once it wants to hear. Called veiled; must not wait. */
struct runtime_reports {
	void (*text)(int level, const char *text);
	void (*ended)(struct process *p, const struct mote_reason *reason);
};
void runtime_reports_set(const struct runtime_reports *reports);
const struct runtime_reports *runtime_reports_get(void);
bool runtime_stopping(void);
void runtime_root_ended(const struct mote_reason *reason);

#endif
