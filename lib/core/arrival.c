// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Off the way: records become signals. Whoever wrote them may be hostile: the head is a copy, the body is copied once and
 * then looked at, and what no honest node would send ends the connection. What a record may do is what
 * a process of the sending node may do: `from` is of that node whatever is written there.
 *
 * A record is either taken whole or refused before anything was done; one that is refused for lack of memory, or because
 * too much of that node's is undelivered, stays in the lane, and with it all that follows: that node alone is held up.
 */
#include "core/async_kill.h"
#include "core/crash.h"
#include "core/cycle.h"
#include "core/limit.h"
#include "core/node.h"
#include "core/remote.h"
#include "port/port.h"

#include <errno.h>
#include <string.h>

#define QUEUE_MAX	(UINT64_C(64) << 20)

enum taken { TAKEN, REFUSED, FORBIDDEN };

static bool slot_known(uint32_t slot)
{
	/* acquire: pairs with take_fresh(): the inbox of one that never was is dead */
	return slot < atomic_load_explicit(&process_table_used, memory_order_acquire);
}

/* The bytes of the record's body, wherever they are. */
struct source {
	const void *data;
	size_t size;
};

static struct signal *signal_of(struct scheduler *s, const struct node *n, const struct record *r,
				enum signal_kind kind, size_t room)
{
	struct signal *sig = signal_new(s, kind, room);

	if (!sig)
		return NULL;
	sig->to = r->to_serial;
	sig->ref = r->ref;
	sig->ref_slot = r->ref_slot;
	sig->msg.from = (mote_pid){ r->from_serial, r->from_slot, n->id };
	sig->msg.type = r->type;
	return sig;
}

/* Takes sig. To whoever it was for, if that can be. It is charged: the inbox of who computes may take it for long. */
static void hand_in(struct scheduler *s, struct node *n, struct signal *sig, uint32_t slot, bool urgent)
{
	if (!sig->charged)
		node_charge(n, sig);
	if (likely(slot_known(slot)))
		signal_send(s, sig, slot, urgent);
	else
		signal_undeliverable(s, sig, slot);
}

/* With its payload: a large body is in its block already. */
static struct signal *payload_new(struct scheduler *s, struct node *n, const struct record *r, enum signal_kind kind,
				  struct source body)
{
	size_t room = kind == SIGNAL_FOREIGN_REQUEST && body.size < sizeof(struct mote_down_info) ?
		      sizeof(struct mote_down_info) : body.size;
	struct signal *sig;

	if (unlikely(r->flags & RECORD_FLAG_LARGE)) {
		sig = n->partial;
		n->partial = NULL;
		sig->kind = (uint8_t)kind;
		sig->to = r->to_serial;
		sig->ref = r->ref;
		sig->ref_slot = r->ref_slot;
		sig->msg.from = (mote_pid){ r->from_serial, r->from_slot, n->id };
		sig->msg.type = r->type;
		return sig;
	}
	sig = signal_of(s, n, r, kind, room);
	if (!sig)
		return NULL;
	sig->msg.size = (uint32_t)body.size;
	if (body.size)
		memcpy(sig->payload, body.data, body.size);
	return sig;
}

static void message_in(struct scheduler *s, struct node *n, struct signal *sig, uint32_t slot)
{
	struct process *p = slot_known(slot) ? &process_table[slot] : NULL;

	node_charge(n, sig);
	if (p && limited(p))
		limit_arrive(s, p, sig);
	else
		hand_in(s, n, sig, slot, false);
}

static enum taken take_message(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	struct signal *sig;

	if (r->type >= MOTE_MSG_RESERVED)
		return FORBIDDEN;
	if (!slot_known(r->to_slot))
		return TAKEN;
	sig = payload_new(s, n, r, SIGNAL_FOREIGN, body);
	if (!sig)
		return REFUSED;
	sig->ref = 0;
	message_in(s, n, sig, r->to_slot);
	return TAKEN;
}

static enum taken take_request(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	struct signal *sig;

	if (r->type >= MOTE_MSG_RESERVED || !r->ref || !r->from_serial)
		return FORBIDDEN;
	sig = payload_new(s, n, r, SIGNAL_FOREIGN_REQUEST, body);
	if (!sig)
		return REFUSED;
	message_in(s, n, sig, r->to_slot);
	return TAKEN;
}

/* Of one that waits, to one that may wait, too: a probe finds out for whom. Without memory the deadline holds. */
static enum taken take_call(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	mote_pid to = { r->to_serial, r->to_slot, port_node }, from = { r->from_serial, r->from_slot, n->id };
	enum taken taken = take_request(s, n, r, body);
	struct signal *sig;

	if (taken != TAKEN || !callee_calls(to))
		return taken;
	sig = cycle_ask_far(s, from, r->ref);
	if (sig) {
		sig->to = to.serial;
		hand_in(s, n, sig, to.slot, false);
	}
	return TAKEN;
}

static enum taken take_probe(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	mote_pid to = { r->to_serial, r->to_slot, port_node }, from = { r->from_serial, r->from_slot, n->id };
	enum taken taken;
	struct signal *sig;

	if (!r->from_serial || body.size > probe_size(PROBE_FAR_MAX))
		return FORBIDDEN;
	sig = signal_of(s, n, r, SIGNAL_PROBE, body.size);
	if (!sig)
		return TAKEN;
	/* The copy is looked at: the lane is the other side's, too. */
	memcpy(sig->payload, body.data, body.size);
	taken = cycle_probe_sane(sig->payload, body.size, from) ? TAKEN : FORBIDDEN;
	if (taken == TAKEN && callee_calls(to))
		hand_in(s, n, sig, to.slot, false);
	else
		signal_free(s, sig);
	return taken;
}

static enum taken take_reply(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	struct signal *sig;

	if (!r->ref || (r->type >= MOTE_MSG_RESERVED && r->type != MOTE_MSG_SPAWNED))
		return FORBIDDEN;
	if (!slot_known(r->to_slot))
		return TAKEN;
	sig = payload_new(s, n, r, SIGNAL_REPLY, body);
	if (!sig)
		return REFUSED;
	hand_in(s, n, sig, r->to_slot, false);
	return TAKEN;
}

/* EXIT, EXIT_LINK, DOWN: the body is a reason. */
static enum taken take_end(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	mote_pid from = { r->from_serial, r->from_slot, n->id };
	struct mote_reason reason = { .kind = MOTE_NORMAL };
	char bytes[MOTE_REASON_MAX];
	struct crash_record crash;
	struct record_reason head;
	struct signal *sig;

	if (body.size < sizeof(head) || body.size > sizeof(head) + sizeof(bytes))
		return FORBIDDEN;
	memcpy(&head, body.data, sizeof(head));
	reason.kind = head.kind;
	reason.code = head.code;
	reason.size = body.size - sizeof(head);
	if (reason.kind > MOTE_CUSTOM || (r->kind == RECORD_DOWN && !r->ref) ||
	    (r->kind == RECORD_EXIT_LINK && !r->from_serial))
		return FORBIDDEN;
	memcpy(bytes, (const char *)body.data + sizeof(head), reason.size);
	reason.data = reason.size ? bytes : NULL;
	if (crash_record_get(&reason, &crash)) {
		crash.flags |= MOTE_CRASH_ELSEWHERE;
		memcpy(bytes, &crash, reason.size);
	}
	if (r->kind == RECORD_DOWN) {
		mote_ref ref = { r->ref, r->ref_slot, r->to_slot, port_node, 0 };

		sig = signal_down_new(s, NULL, from, ref, &reason);
	} else {
		sig = signal_exit_new(s, NULL, from, &reason);
	}
	if (!sig)
		return REFUSED;
	if (r->kind == RECORD_EXIT_LINK)
		sig->kind = SIGNAL_EXIT_LINK;
	if (r->kind == RECORD_EXIT) {
		sig->ref = r->ref;
		sig->ref_slot = r->ref_slot;
	}
	sig->to = r->to_serial;
	hand_in(s, n, sig, r->to_slot, true);
	if (r->kind == RECORD_EXIT && reason.kind == MOTE_KILL && !r->ref && slot_known(r->to_slot))
		async_kill_want(&process_table[r->to_slot], r->to_serial);
	return TAKEN;
}

/* Those that are a head only, and signals of the same name here. */
static enum taken take_plain(struct scheduler *s, struct node *n, const struct record *r, enum signal_kind kind,
			     bool urgent)
{
	struct signal *sig;

	if (!r->from_serial)
		return FORBIDDEN;
	sig = signal_of(s, n, r, kind, 0);
	if (!sig)
		return REFUSED;
	hand_in(s, n, sig, r->to_slot, urgent);
	return TAKEN;
}

/* LINK and MONITOR: its block is what is kept. */
static enum taken take_edge(struct scheduler *s, struct node *n, const struct record *r, enum signal_kind kind)
{
	static const struct mote_reason many = { .kind = MOTE_ERROR, .code = ENOBUFS };
	mote_pid to = { r->to_serial, r->to_slot, port_node };
	mote_ref ref = { r->ref, r->ref_slot, r->from_slot, n->id, 0 };
	mote_pid from = { r->from_serial, r->from_slot, n->id };
	struct signal *sig;

	if (!r->from_serial || (kind == SIGNAL_MONITOR && !r->ref))
		return FORBIDDEN;
	sig = signal_of(s, n, r, kind, sizeof(struct mote_down_info));
	if (!sig)
		return REFUSED;
	if (likely(!node_edges_full(n))) {
		hand_in(s, n, sig, r->to_slot, true);
	} else if (kind == SIGNAL_MONITOR) {
		signal_send_pid(s, signal_down_new(s, sig, to, ref, &many), from, true);
	} else {
		sig = signal_exit_new(s, sig, to, &many);
		sig->kind = SIGNAL_EXIT_LINK;
		signal_send_pid(s, sig, from, true);
	}
	return TAKEN;
}

/* The name at the beginning of the body, copied; NULL: there is none. */
static const char *name_in(struct source *body, char name[256])
{
	size_t size = body->size < 256 ? body->size : 256;

	memcpy(name, body->data, size);
	if (!memchr(name, 0, size) || !name_valid(name))
		return NULL;
	body->data = (const char *)body->data + strlen(name) + 1;
	body->size -= strlen(name) + 1;
	return name;
}

static enum taken take_named(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	struct record to = *r;
	char text[256];
	mote_pid pid;

	if (r->flags & RECORD_FLAG_LARGE) {
		/* The name is in front of the payload in its block: moved away. */
		struct signal *sig = n->partial;
		const char *name;
		size_t skip;

		body = (struct source){ sig->payload, sig->msg.size };
		name = name_in(&body, text);
		if (!name)
			return FORBIDDEN;
		skip = sig->msg.size - body.size;
		memmove(sig->payload, sig->payload + skip, body.size);
		sig->msg.size = (uint32_t)body.size;
	} else if (!name_in(&body, text)) {
		return FORBIDDEN;
	}
	if (r->type >= MOTE_MSG_RESERVED)
		return FORBIDDEN;
	pid = name_whereis(text);
	if (!mote_pid_valid(pid))
		return TAKEN;
	to.to_serial = pid.serial;
	to.to_slot = pid.slot;
	to.ref = 0;
	return take_message(s, n, &to, body);
}

/* The watcher learns whom it watches by a WATCHING. */
static enum taken take_monitor_named(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	static const struct mote_reason noproc = { .kind = MOTE_NOPROC };
	mote_pid watcher = { r->from_serial, r->from_slot, n->id }, pid;
	mote_ref ref = { r->ref, r->ref_slot, r->from_slot, n->id, 0 };
	mote_pid nobody = { UINT64_MAX, 0, port_node };
	struct signal *sig, *tell;
	char text[256];

	if (!r->from_serial || !r->ref || !name_in(&body, text))
		return FORBIDDEN;
	pid = name_whereis(text);
	sig = signal_of(s, n, r, SIGNAL_MONITOR, sizeof(struct mote_down_info));
	tell = signal_of(s, n, r, SIGNAL_WATCHING, 0);
	if (!sig || !tell) {
		if (sig)
			signal_free(s, sig);
		if (tell)
			signal_free(s, tell);
		return REFUSED;
	}
	if (!mote_pid_valid(pid)) {
		signal_free(s, tell);
		signal_send_pid(s, signal_down_new(s, sig, nobody, ref, &noproc), watcher, true);
		return TAKEN;
	}
	node_charge(n, sig);
	tell->msg.from = pid;
	signal_send_pid(s, tell, watcher, false);
	sig->to = pid.serial;
	signal_send(s, sig, pid.slot, true);
	return TAKEN;
}

static enum taken take_whereis(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	mote_pid asker = { r->from_serial, r->from_slot, n->id }, pid;
	struct record_pid answer = { 0 };
	struct signal *sig;
	char text[256];

	if (!r->from_serial || !r->ref || !name_in(&body, text))
		return FORBIDDEN;
	sig = signal_of(s, n, r, SIGNAL_REPLY, sizeof(answer));
	if (!sig)
		return REFUSED;
	pid = name_whereis(text);
	answer.serial = pid.serial;
	answer.slot = pid.slot;
	memcpy(sig->payload, &answer, sizeof(answer));
	sig->msg.from = pid;
	sig->msg.type = 0;
	signal_send_pid(s, sig, asker, false);
	return TAKEN;
}

static enum taken take_spawn(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	struct signal *sig;

	if (!r->from_serial || !r->ref)
		return FORBIDDEN;
	if (body.size < sizeof(struct record_spawn) && !(r->flags & RECORD_FLAG_LARGE))
		return FORBIDDEN;
	sig = payload_new(s, n, r, SIGNAL_FOREIGN_REQUEST, body);
	if (!sig)
		return REFUSED;
	node_charge(n, sig);
	sig->msg.type = MOTE_MSG_SPAWNED;
	return spawn_take(s, sig) ? TAKEN : FORBIDDEN;
}

static enum taken take_large(struct scheduler *s, struct node *n, const struct record *r)
{
	if (n->partial || r->ref > UINT32_MAX - sizeof(struct signal) || !r->ref)
		return FORBIDDEN;
	n->partial = signal_of(s, n, r, SIGNAL_FOREIGN, r->ref);
	n->partial_size = 0;
	return n->partial ? TAKEN : REFUSED;
}

static enum taken take_part(struct node *n, struct source body)
{
	if (!n->partial || body.size > n->partial->msg.size - n->partial_size)
		return FORBIDDEN;
	memcpy(n->partial->payload + n->partial_size, body.data, body.size);
	n->partial_size += (uint32_t)body.size;
	return TAKEN;
}

/*
 * While half of it is free, a message of any size is taken. What is no message may use as much again, so that a mailbox
 * that is full does not hold up what comes before the next message.
 */
static bool over_budget(struct node *n, const struct record *r)
{
	uint64_t undelivered = atomic_load_explicit(&n->undelivered, memory_order_relaxed);
	bool message = r->kind == RECORD_MESSAGE || r->kind == RECORD_REQUEST || r->kind == RECORD_CALL ||
		       r->kind == RECORD_NAMED || r->kind == RECORD_SPAWN || r->kind == RECORD_LARGE;

	/* What is in parts was looked at when it was announced. */
	return unlikely(undelivered > (message ? node_budget / 2 : node_budget)) && !n->partial &&
	       undelivered + (r->kind == RECORD_LARGE ? r->ref : r->size) > (message ? node_budget : 2 * node_budget);
}

static enum taken record_take(struct scheduler *s, struct node *n, const struct record *r, struct source body)
{
	if (unlikely(over_budget(n, r)))
		return REFUSED;
	switch (r->kind) {
	case RECORD_MESSAGE:
		return take_message(s, n, r, body);
	case RECORD_REQUEST:
		return take_request(s, n, r, body);
	case RECORD_CALL:
		return take_call(s, n, r, body);
	case RECORD_PROBE:
		return take_probe(s, n, r, body);
	case RECORD_NAMED:
		return take_named(s, n, r, body);
	case RECORD_SPAWN:
		return take_spawn(s, n, r, body);
	case RECORD_LARGE:
		return take_large(s, n, r);
	case RECORD_PART:
		return take_part(n, body);
	case RECORD_REPLY:
		return take_reply(s, n, r, body);
	case RECORD_EXIT:
	case RECORD_EXIT_LINK:
	case RECORD_DOWN:
		return take_end(s, n, r, body);
	case RECORD_LINK:
		return take_edge(s, n, r, SIGNAL_LINK);
	case RECORD_UNLINK:
		return take_plain(s, n, r, SIGNAL_UNLINK, false);
	case RECORD_UNLINK_ACK:
		return take_plain(s, n, r, SIGNAL_UNLINK_ACK, false);
	case RECORD_MONITOR:
		return take_edge(s, n, r, SIGNAL_MONITOR);
	case RECORD_DEMONITOR:
		return take_plain(s, n, r, SIGNAL_DEMONITOR_REF, false);
	case RECORD_WATCHING:
		return r->ref ? take_plain(s, n, r, SIGNAL_WATCHING, true) : FORBIDDEN;
	case RECORD_HOLD:
		return take_plain(s, n, r, SIGNAL_HOLD, true);
	case RECORD_RESUME:
		return take_plain(s, n, r, SIGNAL_RESUME, true);
	case RECORD_MONITOR_NAMED:
		return take_monitor_named(s, n, r, body);
	case RECORD_WHEREIS:
		return take_whereis(s, n, r, body);
	}
	return FORBIDDEN;
}

/* Parts end with the record that they are of, which is of a kind that can be large. */
static bool parts_fit(const struct node *n, const struct record *r)
{
	bool whole = n->partial && n->partial_size == n->partial->msg.size;

	if (r->flags & RECORD_FLAG_LARGE)
		return whole && !r->size &&
		       (r->kind == RECORD_MESSAGE || r->kind == RECORD_REQUEST || r->kind == RECORD_CALL ||
			r->kind == RECORD_REPLY || r->kind == RECORD_NAMED || r->kind == RECORD_SPAWN);
	return !n->partial || r->kind == RECORD_PART;
}

bool remote_record(struct scheduler *s, struct carrier *c, const struct record *r, const void *data)
{
	struct node *n = carrier_core(c);
	enum taken taken = FORBIDDEN;
	struct signal *partial;

	/* serial 0 is nobody's, but that of an alias whose owner is not known; UINT64_MAX is never anybody's */
	if (n && r->kind && r->kind < RECORD_KINDS && !(r->flags & ~RECORD_FLAG_LARGE) && !r->zero && parts_fit(n, r) &&
	    (r->to_serial || r->kind == RECORD_REPLY || (r->kind == RECORD_EXIT && r->ref) || r->kind >= RECORD_NAMED))
		taken = record_take(s, n, r, (struct source){ data, r->size });
	if (taken == REFUSED)
		return false;
	/* Our answers, and what we send unasked, pile up for a peer that does not read. An honest one does, but for its budget. */
	if (n && unlikely(atomic_load_explicit(&n->queued, memory_order_relaxed) > QUEUE_MAX &&
			  atomic_load_explicit(&n->queued, memory_order_relaxed) > 4 * node_budget)) {
		carrier_cut(c, PORT_CUT, "it does not read what it asks for");
		return true;
	}
	partial = n ? n->partial : NULL;
	if (taken == FORBIDDEN) {
		carrier_cut(c, PORT_CUT, "a record that no node of mote would send");
	} else if (partial && r->flags & RECORD_FLAG_LARGE) {
		/* It was for nobody. */
		signal_free(s, partial);
		n->partial = NULL;
	}
	return true;
}
