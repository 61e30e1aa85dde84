// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Signals: how they travel, and what each does when it is taken in. All that processes do to each other goes through
 * these queues, so order per pair holds for everything, and no lock ever spans two processes.
 */
#include "core/cycle.h"
#include "core/edge.h"
#include "core/node.h"
#include "core/remote.h"
#include "io/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct signal *signal_new_large(size_t size)
{
	return malloc(sizeof(struct signal) + size);
}

static void reason_copy(struct mote_reason *to, char *bytes, const struct mote_reason *from, bool room)
{
	*to = *from;
	to->data = NULL;
	if (!room)
		to->size = 0;
	if (to->size) {
		memcpy(bytes, from->data, from->size);
		to->data = bytes;
	}
}

/* A block for `info` bytes and those of the reason, or reuse, without those: told by msg.size. */
static struct signal *end_new(struct scheduler *s, struct signal *reuse, enum signal_kind kind, size_t info,
			      const struct mote_reason *reason)
{
	struct signal *sig = reuse && !reason->size ? NULL : signal_new(s, kind, info + reason->size);

	if (sig) {
		if (reuse)
			signal_free(s, reuse);
		return sig;
	}
	if (reuse) {
		reuse->kind = kind;
		reuse->msg.data = reuse->payload;
		reuse->msg.size = (uint32_t)info;
	}
	return reuse;
}

struct signal *signal_exit_new(struct scheduler *s, struct signal *reuse, mote_pid from,
			       const struct mote_reason *reason)
{
	struct signal *sig = end_new(s, reuse, SIGNAL_EXIT, sizeof(struct mote_exit_info), reason);
	struct mote_exit_info *info;

	if (!sig)
		return NULL;
	info = sig->msg.data;
	info->pid = from;
	reason_copy(&info->reason, (char *)(info + 1), reason, sig->msg.size > sizeof(*info));
	sig->ref = 0;
	sig->msg.from = from;
	sig->msg.type = MOTE_MSG_EXIT;
	return sig;
}

struct signal *signal_down_new(struct scheduler *s, struct signal *reuse, mote_pid from, mote_ref ref,
			       const struct mote_reason *reason)
{
	struct signal *sig = end_new(s, reuse, SIGNAL_DOWN, sizeof(struct mote_down_info), reason);
	struct mote_down_info *info;

	if (!sig)
		return NULL;
	info = sig->msg.data;
	info->ref = ref;
	info->pid = from;
	reason_copy(&info->reason, (char *)(info + 1), reason, sig->msg.size > sizeof(*info));
	sig->ref = ref.id;
	sig->ref_slot = ref.slot;
	sig->msg.from = from;
	sig->msg.type = MOTE_MSG_DOWN;
	return sig;
}

void signals_undeliverable(struct scheduler *s, struct signal *newest, uint32_t slot)
{
	struct signal *sig = newest, *next, *in_order = NULL;

	for (; sig; sig = next) {
		next = sig->next;
		sig->next = in_order;
		in_order = sig;
	}
	for (sig = in_order; sig; sig = next) {
		next = sig->next;
		signal_undeliverable(s, sig, slot);
	}
}

bool signals_push(struct scheduler *s, struct signal *newest, struct signal *oldest, uint32_t n, uint32_t to_slot)
{
	struct process *p = &process_table[to_slot];
	uint64_t old = atomic_load_explicit(&p->task.inbox, memory_order_relaxed), count;

	do {
		if (unlikely(old == TASK_DEAD)) {
			/* acquire: pairs with process_bury(); what the dead did comes before the noproc */
			atomic_load_explicit(&p->task.inbox, memory_order_acquire);
			oldest->next = NULL;
			signals_undeliverable(s, newest, to_slot);
			return false;
		}
		oldest->next = old <= TASK_NUDGED ? NULL : (struct signal *)(uintptr_t)(old & TASK_POINTER);
		count = (old <= TASK_NUDGED ? 0 : old >> 48) + n;
		if (count > 0xffff)
			count = 0xffff;
		/*
		 * release: the taker sees the signals; acquire: if it was PARKED, this sender now owns the
		 * receiver's context and flags, which its parking published.
		 */
	} while (!atomic_compare_exchange_weak_explicit(&p->task.inbox, &old, (uint64_t)(uintptr_t)newest | count << 48,
							memory_order_acq_rel, memory_order_relaxed));
	if (old == TASK_PARKED)
		task_ready(s, &p->task, true);
	return true;
}

void signal_push(struct scheduler *s, struct signal *sig, uint32_t to_slot, bool urgent)
{
	/* release, and after the push: whoever sees the flag finds the signal */
	if (signals_push(s, sig, sig, 1, to_slot) && urgent)
		atomic_store_explicit(&process_table[to_slot].task.pending, 1, memory_order_release);
}

void signal_exit_absent(struct scheduler *s, struct signal *reuse, mote_pid absent, mote_pid to)
{
	struct mote_reason absence = process_absence(absent);
	struct signal *sig = signal_exit_new(s, reuse, absent, &absence);

	sig->kind = SIGNAL_EXIT_LINK;
	signal_send_pid(s, sig, to, true);
}

void signal_undeliverable(struct scheduler *s, struct signal *sig, uint32_t slot)
{
	static const struct mote_reason noproc = { .kind = MOTE_NOPROC };
	mote_pid dead = { sig->to, slot, port_node };

	node_uncharge(sig);
	switch (sig->kind) {
	case SIGNAL_LINK:
		signal_exit_absent(s, sig, dead, sig->msg.from);
		return;
	case SIGNAL_UNLINK: {
		mote_pid from = sig->msg.from;

		sig->kind = SIGNAL_UNLINK_ACK;
		sig->msg.from = dead;
		signal_send_pid(s, sig, from, false);
		return;
	}
	case SIGNAL_MONITOR: {
		mote_pid watcher = sig->msg.from;
		mote_ref ref = { sig->ref, sig->ref_slot, watcher.slot, watcher.node, 0 };

		sig = signal_down_new(s, sig, dead, ref, &noproc);
		signal_send_pid(s, sig, watcher, true);
		return;
	}
	case SIGNAL_REQUEST:
	case SIGNAL_COUNTED_REQUEST:
		request_end(s, sig, dead, &noproc);
		return;
	case SIGNAL_FD:
		fd_drop((int)sig->msg.type);
		break;
	case SIGNAL_WATCHING:
		watching_refuse(s, sig, dead);
		return;
	case SIGNAL_SWEEP:
		edge_sweep_dropped(s, sig);
		return;
	case SIGNAL_REPLY:
		if (sig->msg.type == MOTE_MSG_SPAWNED)
			spawned_unwanted(s, sig);
		break;
	default:
		break;
	}
	signal_free(s, sig);
}

void signal_unreachable(struct scheduler *s, struct signal *sig, mote_pid to)
{
	static const struct mote_reason noconnection = { .kind = MOTE_NOCONNECTION };
	mote_pid from = sig->msg.from;
	mote_ref ref = { sig->ref, sig->ref_slot, from.slot, from.node, 0 };

	switch (sig->kind) {
	case SIGNAL_LINK:
		signal_exit_absent(s, sig, to, from);
		return;
	case SIGNAL_UNLINK:
		sig->kind = SIGNAL_UNLINK_ACK;
		sig->msg.from = to;
		signal_send_pid(s, sig, from, false);
		return;
	case SIGNAL_MONITOR:
	case SIGNAL_MONITOR_NAMED:
	case SIGNAL_REQUEST:
	case SIGNAL_CALL:
	case SIGNAL_WHEREIS:
	case SIGNAL_SPAWN:
		sig = signal_down_new(s, sig, to, ref, &noconnection);
		signal_send_pid(s, sig, from, true);
		return;
	default:
		signal_free(s, sig);
	}
}

static void exit_take(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct mote_exit_info *info = sig->msg.data;

	if ((sig->kind == SIGNAL_EXIT_LINK && !link_broken(s, p, info->pid)) ||
	    (sig->kind == SIGNAL_EXIT && sig->ref && !ref_is_alias(p, sig->ref, sig->ref_slot))) {
		node_uncharge(sig);
		signal_free(s, sig);
	} else {
		sig->ref = 0;
		signal_exit_act(s, p, sig);
	}
}

/* The table of semantics, docs/processes.md. */
void signal_exit_act(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct mote_exit_info *info = sig->msg.data;
	bool link = sig->kind == SIGNAL_EXIT_LINK;
	bool self = mote_pid_equal(info->pid, process_pid(p));

	if (p->task.dying || p->fatal) {
		node_uncharge(sig);
		signal_free(s, sig);
		return;
	}
	if (sig->kind == SIGNAL_OVERFLOW) {
		p->fatal = sig;
	} else if (!link && info->reason.kind == MOTE_KILL) {
		info->reason.kind = MOTE_KILLED;
		p->fatal = sig;
	} else if (p->trap_exit) {
		sig->kind = sig->charged ? SIGNAL_FOREIGN : SIGNAL_MESSAGE;
		mailbox_append(p, sig);
	} else if (info->reason.kind == MOTE_NORMAL && !(self && !link)) {
		node_uncharge(sig);
		signal_free(s, sig);
	} else {
		p->fatal = sig;
	}
}

/* Somebody of another node: it has to be noted. */
static void monitor_take(struct scheduler *s, struct process *p, struct signal *sig)
{
	static const struct mote_reason memory = { .kind = MOTE_ERROR, .code = ENOMEM };
	mote_pid watcher = sig->msg.from;
	mote_ref ref = { sig->ref, sig->ref_slot, watcher.slot, watcher.node, 0 };

	if (likely(port_is_here(watcher.node)) || !edge_note(p)) {
		watcher_add(p, sig);
		return;
	}
	node_uncharge(sig);
	signal_send_pid(s, signal_down_new(s, sig, process_pid(p), ref, &memory), watcher, true);
}

static void answer_take(struct scheduler *s, struct process *p, struct signal *sig)
{
	static const struct mote_reason normal = { .kind = MOTE_NORMAL };
	mote_pid from = sig->msg.from;
	struct signal *l = link_remove(p, from);

	sig->kind = SIGNAL_REPLY;
	if (ref_accept(s, p, sig))
		mailbox_append(p, sig);
	else
		signal_free(s, sig);
	/* An inactive one was on its way out. */
	if (l && p->trap_exit && !l->ref) {
		l = signal_exit_new(s, l, from, &normal);
		l->kind = SIGNAL_MESSAGE;
		mailbox_append(p, l);
	} else if (l) {
		signal_free(s, l);
	}
}

void signal_take(struct scheduler *s, struct process *p, struct signal *sig)
{
	if (unlikely(sig->to != process_serial(p) && sig->to)) {
		signal_undeliverable(s, sig, p->task.slot);
		return;
	}
	/* What is not kept has arrived. */
	if (unlikely(sig->charged) && (sig->kind == SIGNAL_DOWN || sig->kind > SIGNAL_LINK) && sig->kind != SIGNAL_MONITOR)
		node_uncharge(sig);
	switch (sig->kind) {
	case SIGNAL_ANSWER:
		answer_take(s, p, sig);
		break;
	case SIGNAL_MESSAGE:
	case SIGNAL_REQUEST:
	case SIGNAL_COUNTED:
	case SIGNAL_COUNTED_REQUEST:
	case SIGNAL_FOREIGN:
	case SIGNAL_FOREIGN_REQUEST:
		mailbox_append(p, sig);
		break;
	case SIGNAL_REPLY:
	case SIGNAL_DOWN:
		if (ref_accept(s, p, sig)) {
			mailbox_append(p, sig);
		} else {
			if (unlikely(sig->kind == SIGNAL_REPLY && sig->msg.type == MOTE_MSG_SPAWNED))
				spawned_unwanted(s, sig);
			node_uncharge(sig);
			signal_free(s, sig);
		}
		break;
	case SIGNAL_EXIT:
	case SIGNAL_EXIT_LINK:
	case SIGNAL_OVERFLOW:
		exit_take(s, p, sig);
		break;
	case SIGNAL_LINK:
	case SIGNAL_UNLINK:
	case SIGNAL_UNLINK_ACK:
		link_take(s, p, sig);
		break;
	case SIGNAL_MONITOR:
		monitor_take(s, p, sig);
		break;
	case SIGNAL_DEMONITOR:
		watcher_remove(s, p, sig->msg.data);
		signal_free(s, sig);
		break;
	case SIGNAL_DEMONITOR_REF:
		watcher_find_remove(s, p, sig->msg.from, sig->ref);
		signal_free(s, sig);
		break;
	case SIGNAL_WATCHING:
		ref_watched(s, p, sig);
		break;
	case SIGNAL_SWEEP:
		edge_sweep(s, p, sig);
		break;
	case SIGNAL_HOLD:
	case SIGNAL_RESUME:
		hold_take(s, p, sig);
		break;
	case SIGNAL_PROBE:
		cycle_probe(s, p, sig);
		break;
	case SIGNAL_FD:
		fd_attach((int)sig->msg.type, &p->task);
		signal_free(s, sig);
		break;
	default:
		break;
	}
}

void signals_take(struct scheduler *s, struct process *p)
{
	struct signal *sig, *next, *in_order = NULL;
	uint64_t old = atomic_load_explicit(&p->task.inbox, memory_order_relaxed);

	if (!old)
		return;
	/* acquire: pairs with the release in signal_send() */
	old = atomic_exchange_explicit(&p->task.inbox, 0, memory_order_acquire);
	if (old == TASK_NUDGED)
		return;
	for (sig = (struct signal *)(uintptr_t)(old & TASK_POINTER); sig; sig = next) {
		next = sig->next;
		sig->next = in_order;
		in_order = sig;
	}
	for (sig = in_order; sig; sig = next) {
		next = sig->next;
		signal_take(s, p, sig);
	}
}

void signals_act(struct scheduler *s, struct process *p)
{
	/* While a match function runs it stays set, for mote_receive() to look closer. */
	atomic_store_explicit(&p->task.pending, p->matching, memory_order_relaxed);
	signals_take(s, p);
	if (unlikely(p->fatal && !p->task.dying))
		task_die(&p->task);
}
