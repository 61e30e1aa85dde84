// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * References: monitors, aliases, calls. Each live one has a slot in its owner; what arrives for it is checked there,
 * when it is taken in, by its owner alone. So an alias that was withdrawn, or a monitor that was ended, can deliver
 * nothing any more, whatever is still on its way.
 *
 * A monitor's other end is the MONITOR signal itself, kept by the target. Its maker remembers the block's address, and
 * names it when it ends the monitor: order per pair says that the target has had the MONITOR before, and if it is
 * still alive to take the DEMONITOR in, it still has it. A target on another node finds it by the reference; there the
 * maker keeps a block of its own, which becomes the DOWN if that node goes, or else the DEMONITOR.
 */
#include "core/edge.h"
#include "core/node.h"

#include <mote/name.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ACTIVE (REF_MONITOR | REF_ALIAS)

static void count_monitors(struct process *p, int n)
{
	atomic_store_explicit(&p->nr_monitors, atomic_load_explicit(&p->nr_monitors, memory_order_relaxed) + (uint32_t)n,
			      memory_order_relaxed);
}

static bool table_grow(struct process *p)
{
	uint32_t old = p->refs ? p->refs->max : 0, max = old ? 2 * old : 4;
	struct ref_table *table = realloc(p->refs, sizeof(*table) + max * sizeof(table->slots[0]));

	if (!table)
		return false;
	memset(table->slots + old, 0, (max - old) * sizeof(table->slots[0]));
	for (uint32_t i = old; i < max; i++)
		table->slots[i].flags = i + 1 < max ? i + 2 : 0;
	if (!old)
		table->call = table->asked = 0;
	table->max = max;
	table->free = old + 1;
	p->refs = table;
	return true;
}

struct ref_slot *ref_new(struct scheduler *s, struct process *p, unsigned int flags, mote_ref *ref)
{
	struct ref_slot *slot;

	if (unlikely((!p->refs || !p->refs->free) && !table_grow(p)))
		return NULL;
	*ref = (mote_ref){ scheduler_unique_id(s), p->refs->free - 1, p->task.slot, port_node, 0 };
	slot = &p->refs->slots[ref->slot];
	p->refs->free = slot->flags;
	*slot = (struct ref_slot){ .id = ref->id, .flags = flags };
	if (flags & REF_MONITOR)
		count_monitors(p, 1);
	return slot;
}

struct ref_slot *ref_find(struct process *p, uint64_t id, uint32_t slot)
{
	if (unlikely(!p->refs || slot >= p->refs->max || !id || p->refs->slots[slot].id != id))
		return NULL;
	return &p->refs->slots[slot];
}

bool ref_is_alias(struct process *p, uint64_t id, uint32_t slot)
{
	struct ref_slot *r = ref_find(p, id, slot);

	return r && r->flags & REF_ALIAS;
}

void ref_release(struct process *p, struct ref_slot *slot)
{
	if ((slot->flags & ACTIVE) || slot->queued)
		return;
	slot->id = 0;
	slot->flags = p->refs->free;
	p->refs->free = (uint32_t)(slot - p->refs->slots) + 1;
}

static void demonitor_send(struct scheduler *s, mote_pid target, struct signal *watch)
{
	struct signal *sig;

	/* A request that is still in its receiver's hands has no watcher: it needs none. */
	if (!watch || !process_lookup(target))
		return;
	sig = signal_new(s, SIGNAL_DEMONITOR, 0);
	if (!sig)
		return;		/* the target keeps a watcher that nobody waits for, until it ends */
	sig->to = target.serial;
	sig->msg.data = watch;
	signal_send(s, sig, target.slot, false);
}

/* Takes sig, of ref and ref_slot: has a process of another node forget watcher's monitor. */
static void demonitor_far(struct scheduler *s, struct signal *sig, mote_pid watcher, mote_pid target)
{
	sig->kind = SIGNAL_DEMONITOR_REF;
	sig->msg.from = watcher;
	sig->msg.size = 0;
	signal_send_pid(s, sig, target, false);
}

/* REF_LINK ends: the block becomes this end of a link to peer, which has its end already; or peer is nobody. */
static void link_settle(struct scheduler *s, struct process *p, struct ref_slot *slot, mote_pid peer)
{
	struct signal *l;

	if (likely(!(slot->flags & REF_LINK)))
		return;
	slot->flags &= ~(uint32_t)REF_LINK;
	l = slot->watch->next;
	if (mote_pid_valid(peer)) {
		l->msg.from = peer;
		link_insert(p, l);
	} else {
		signal_free(s, l);
	}
}

/* The slot's monitor, which has not fired, is not wanted any more. */
static void monitor_end(struct scheduler *s, struct process *p, struct ref_slot *slot)
{
	struct signal *watch;

	link_settle(s, p, slot, MOTE_NOBODY);
	watch = slot->watch;
	slot->watch = NULL;
	count_monitors(p, -1);
	if (likely(!(slot->flags & REF_RESERVE))) {
		demonitor_send(s, slot->target, watch);
	} else if (watch && slot->flags & REF_WATCHED) {
		watch->ref = slot->id;
		watch->ref_slot = (uint32_t)(slot - p->refs->slots);
		demonitor_far(s, watch, process_pid(p), slot->target);
	} else if (watch) {
		signal_free(s, watch);
	}
}

void watching_refuse(struct scheduler *s, struct signal *sig, mote_pid asker)
{
	mote_pid target = sig->msg.from;

	if (port_is_here(target.node)) {
		demonitor_send(s, target, sig->msg.data);
		signal_free(s, sig);
	} else {
		demonitor_far(s, sig, asker, target);
	}
}

void ref_watched(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct ref_slot *slot = ref_find(p, sig->ref, sig->ref_slot);

	if (!slot || !(slot->flags & REF_MONITOR)) {
		watching_refuse(s, sig, process_pid(p));
		return;
	}
	if (!(slot->flags & REF_RESERVE))
		slot->watch = sig->msg.data;
	slot->flags |= REF_WATCHED;
	slot->target = sig->msg.from;
	signal_free(s, sig);
}

bool ref_accept(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct ref_slot *slot = ref_find(p, sig->ref, sig->ref_slot);

	if (!slot)
		return false;
	if (unlikely(slot->flags & REF_MANY)) {
		/* Its owner withdraws it. */
		if (!(slot->flags & REF_ALIAS))
			return false;
	} else if (sig->kind == SIGNAL_DOWN) {
		if (!(slot->flags & REF_MONITOR))
			return false;
		link_settle(s, p, slot, MOTE_NOBODY);
		if (slot->flags & REF_RESERVE && slot->watch)
			signal_free(s, slot->watch);
		slot->watch = NULL;
		count_monitors(p, -1);
		slot->flags &= ~(uint32_t)REF_MONITOR;
		if (slot->flags & REF_REPLY)
			slot->flags &= ~(uint32_t)REF_ALIAS;
	} else {
		if (!(slot->flags & REF_ALIAS))
			return false;
		if (slot->flags & REF_REPLY) {
			link_settle(s, p, slot, sig->msg.type == MOTE_MSG_SPAWNED ? sig->msg.from : MOTE_NOBODY);
			if (unlikely(slot->flags & REF_KEEP && sig->msg.type == MOTE_MSG_SPAWNED &&
				     mote_pid_valid(sig->msg.from))) {
				slot->target = sig->msg.from;
				slot->flags = (slot->flags & ~(uint32_t)REF_ALIAS) | REF_WATCHED;
			} else {
				if (slot->flags & REF_MONITOR)
					monitor_end(s, p, slot);
				slot->flags &= ~(uint32_t)ACTIVE;
			}
		}
	}
	slot->queued++;
	if (!slot->message)
		slot->message = sig;
	return true;
}

void ref_consumed(struct process *p, struct signal *sig)
{
	struct ref_slot *slot = ref_find(p, sig->ref, sig->ref_slot);
	struct signal *next = sig->next;

	if (!slot)
		return;
	slot->queued--;
	if (slot->message == sig) {
		/* Of a spawn it is the answer, and then DOWN. */
		while (slot->queued && next &&
		       !(next->ref == sig->ref && (next->kind == SIGNAL_REPLY || next->kind == SIGNAL_DOWN)))
			next = next->next;
		slot->message = slot->queued ? next : NULL;
	}
	ref_release(p, slot);
}

int ref_reserve(struct scheduler *s, struct process *p, struct ref_slot *slot, mote_pid target)
{
	struct signal *reserve;

	if (edge_note(p))
		return -ENOMEM;
	reserve = signal_new(s, SIGNAL_MONITOR, sizeof(struct mote_down_info));
	if (!reserve)
		return -ENOMEM;
	slot->watch = reserve;
	slot->target = target;
	slot->flags |= REF_RESERVE;
	return 0;
}

int ref_monitor(struct scheduler *s, struct process *p, struct ref_slot *slot, mote_ref ref, mote_pid target)
{
	struct mote_reason absence = process_absence(target);
	struct signal *sig = signal_new(s, SIGNAL_MONITOR, sizeof(struct mote_down_info));

	if (!sig)
		return -ENOMEM;
	sig->ref = ref.id;
	sig->ref_slot = ref.slot;
	sig->to = target.serial;
	sig->msg.from = process_pid(p);
	if (unlikely(!port_is_here(target.node))) {
		if (ref_reserve(s, p, slot, target)) {
			signal_free(s, sig);
			return -ENOMEM;
		}
		slot->flags |= REF_WATCHED;
		remote_send(s, sig, target);
		return 0;
	}
	slot->watch = sig;
	slot->target = target;
	if (process_lookup(target)) {
		signal_send(s, sig, target.slot, true);
		return 0;
	}
	sig = signal_down_new(s, sig, target, ref, &absence);
	sig->to = process_serial(p);
	signal_send(s, sig, p->task.slot, true);
	return 0;
}

/* Forgets what is queued for the slot. */
static void ref_flush(struct scheduler *s, struct process *p, mote_ref ref)
{
	struct ref_slot *slot;
	struct signal *sig;

	while ((slot = ref_find(p, ref.id, ref.slot)) && (sig = slot->message)) {
		mailbox_remove(p, sig);
		signal_free(s, sig);
	}
}

int ref_drop(struct scheduler *s, struct process *p, mote_ref ref, bool flush)
{
	struct ref_slot *slot = ref_find(p, ref.id, ref.slot);
	int active;

	if (!slot)
		return 0;
	active = (slot->flags & ACTIVE) != 0;
	if (slot->flags & REF_MONITOR)
		monitor_end(s, p, slot);
	slot->flags &= ~(uint32_t)ACTIVE;
	if (flush)
		ref_flush(s, p, ref);
	slot = ref_find(p, ref.id, ref.slot);
	if (slot)
		ref_release(p, slot);
	return active;
}

void refs_end(struct scheduler *s, struct process *p)
{
	for (uint32_t i = 0; p->refs && i < p->refs->max; i++) {
		struct ref_slot *slot = &p->refs->slots[i];

		if (slot->id && (slot->flags & REF_MONITOR))
			monitor_end(s, p, slot);
	}
	free(p->refs);
	p->refs = NULL;
}

void refs_cut(struct scheduler *s, struct process *p, uint64_t seq)
{
	static const struct mote_reason noconnection = { .kind = MOTE_NOCONNECTION };

	for (uint32_t i = 0; p->refs && i < p->refs->max; i++) {
		struct ref_slot *slot = &p->refs->slots[i];
		mote_ref ref = { slot->id, i, p->task.slot, port_node, 0 };
		struct signal *sig = slot->watch;

		if (!slot->id || !(slot->flags & REF_MONITOR) || !(slot->flags & REF_RESERVE) || !sig ||
		    !node_down_by(slot->target.node, seq))
			continue;
		link_settle(s, p, slot, MOTE_NOBODY);
		slot->watch = NULL;
		sig = signal_down_new(s, sig, slot->target, ref, &noconnection);
		if (ref_accept(s, p, sig))
			mailbox_append(p, sig);
		else
			signal_free(s, sig);
	}
}

static void count_watchers(struct process *p, int n)
{
	atomic_store_explicit(&p->nr_watchers, atomic_load_explicit(&p->nr_watchers, memory_order_relaxed) + (uint32_t)n,
			      memory_order_relaxed);
}

void watcher_add(struct process *p, struct signal *sig)
{
	struct signal *first = p->watchers;

	if (first) {
		sig->next = first;
		sig->prev = first->prev;
		first->prev->next = sig;
		first->prev = sig;
	} else {
		p->watchers = sig->next = sig->prev = sig;
	}
	count_watchers(p, 1);
}

static void watcher_unlink(struct process *p, struct signal *sig)
{
	node_uncharge(sig);
	if (sig->next == sig) {
		p->watchers = NULL;
	} else {
		sig->next->prev = sig->prev;
		sig->prev->next = sig->next;
		if (p->watchers == sig)
			p->watchers = sig->next;
	}
	count_watchers(p, -1);
}

void watcher_remove(struct scheduler *s, struct process *p, struct signal *sig)
{
	watcher_unlink(p, sig);
	signal_free(s, sig);
}

/* The latest first: those are ended most. */
void watcher_find_remove(struct scheduler *s, struct process *p, mote_pid watcher, uint64_t ref)
{
	struct signal *sig = p->watchers ? p->watchers->prev : NULL;

	while (sig && !(sig->ref == ref && mote_pid_equal(sig->msg.from, watcher)))
		sig = sig == p->watchers ? NULL : sig->prev;
	if (sig)
		watcher_remove(s, p, sig);
}

void watchers_cut(struct scheduler *s, struct process *p, uint64_t seq)
{
	uint32_t n = atomic_load_explicit(&p->nr_watchers, memory_order_relaxed);
	struct signal *sig = p->watchers, *next;

	for (; n > 0; n--, sig = next) {
		next = sig->next;
		if (!port_is_here(sig->msg.from.node) && node_down_by(sig->msg.from.node, seq))
			watcher_remove(s, p, sig);
	}
}

void watchers_tell(struct scheduler *s, struct process *p, const struct mote_reason *reason)
{
	struct signal *sig;

	while ((sig = p->watchers)) {
		mote_pid watcher = sig->msg.from;
		mote_ref ref = { sig->ref, sig->ref_slot, watcher.slot, watcher.node, 0 };

		watcher_unlink(p, sig);
		sig = signal_down_new(s, sig, process_pid(p), ref, reason);
		signal_send_pid(s, sig, watcher, true);
	}
}

static mote_ref monitor(struct scheduler *s, mote_pid pid)
{
	struct process *p = process_self(s);
	mote_ref ref = { 0 };
	struct ref_slot *slot;

	slot = ref_new(s, p, REF_MONITOR, &ref);
	if (!slot || ref_monitor(s, p, slot, ref, pid)) {
		if (slot) {
			slot->flags = 0;
			count_monitors(p, -1);
			ref_release(p, slot);
		}
		ref = (mote_ref){ 0 };
		process_fail(p, -ENOMEM);
	}
	process_leave(s);
	return ref;
}

mote_ref mote_monitor(mote_pid pid)
{
	struct scheduler *s = runtime_enter("mote_monitor");

	if (mote_pid_valid(pid))
		return monitor(s, pid);
	process_fail(process_self(s), -EINVAL);
	runtime_leave();
	return (mote_ref){ 0 };
}

mote_ref mote_monitor_name(const char *name)
{
	struct scheduler *s = runtime_enter("mote_monitor_name");
	mote_pid pid = name_whereis(name);
	mote_pid nobody = { UINT64_MAX, 0, port_node };		/* no process ever: gives DOWN noproc */

	return monitor(s, mote_pid_valid(pid) ? pid : nobody);
}

int mote_demonitor(mote_ref ref, int flags)
{
	struct scheduler *s = runtime_enter("mote_demonitor");
	struct process *p = process_self(s);
	struct ref_slot *slot;
	int active = 0;

	/* A DOWN that is here already counts as fired. */
	signals_act(s, p);
	slot = ref_find(p, ref.id, ref.slot);
	if (slot) {
		active = (slot->flags & REF_MONITOR) != 0;
		ref_drop(s, p, ref, flags & MOTE_FLUSH);
	}
	process_leave(s);
	return active;
}

mote_ref mote_alias(int flags)
{
	struct scheduler *s = runtime_enter("mote_alias");
	struct process *p = process_self(s);
	mote_ref ref = { 0 };

	if (!ref_new(s, p, REF_ALIAS | (flags & MOTE_ALIAS_REPLY ? REF_REPLY : 0), &ref)) {
		ref = (mote_ref){ 0 };
		process_fail(p, -ENOMEM);
	}
	process_leave(s);
	return ref;
}

int mote_unalias(mote_ref ref)
{
	struct scheduler *s = runtime_enter("mote_unalias");
	struct process *p = process_self(s);
	struct ref_slot *slot;
	int active = 0;

	signals_act(s, p);
	slot = ref_find(p, ref.id, ref.slot);
	if (slot && (slot->flags & REF_ALIAS)) {
		active = 1;
		ref_drop(s, p, ref, false);
	}
	process_leave(s);
	return active;
}
