// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Sending, and messages as blocks that change hands.
 */
#include "core/cycle.h"
#include "core/limit.h"
#include "core/node.h"
#include "core/outbox.h"
#include "core/process.h"
#include "core/remote.h"

#include <mote/name.h>

#include <errno.h>
#include <malloc.h>
#include <string.h>

static inline struct signal *signal_of(const struct mote_msg *m)
{
	return container_of((struct mote_msg *)m, struct signal, msg);
}

static inline mote_pid caller_pid(struct scheduler *s)
{
	return s ? process_pid(process_self(s)) : MOTE_NOBODY;
}

static inline int check(struct scheduler *s, uint32_t type, const void *data, size_t size)
{
	/* A foreign thread without a runtime has nobody to send to. */
	if (unlikely(!s && !process_table))
		return -ESRCH;
	if (unlikely(type >= MOTE_MSG_RESERVED || (size && !data)))
		return -EINVAL;
	return unlikely(size > UINT32_MAX - sizeof(struct signal)) ? -EMSGSIZE : 0;
}

/* Most messages are small, and a call costs as much as copying them: two moves that may overlap. */
static inline void payload_copy(struct signal *sig, const void *data, size_t size)
{
	const char *from = data;
	char *to = sig->payload;

	if (size > 64) {
		memcpy(to, from, size);
	} else if (size >= 32) {
		memcpy(to, from, 32);
		memcpy(to + size - 32, from + size - 32, 32);
	} else if (size >= 16) {
		memcpy(to, from, 16);
		memcpy(to + size - 16, from + size - 16, 16);
	} else if (size >= 8) {
		memcpy(to, from, 8);
		memcpy(to + size - 8, from + size - 8, 8);
	} else {
		for (size_t i = 0; i < size; i++)
			to[i] = from[i];
	}
}

/* After a send: like process_leave(), but a stream may go on. */
static inline void send_leave(struct scheduler *s)
{
	struct process *self;

	if (unlikely(!s))
		return;
	self = process_self(s);
	if (signals_pending(self))
		signals_act(s, self);
	task_spend_and_leave(s);
}

/*
 * Waits for room for sig, which stays in the caller's hands meanwhile, to go with the caller if that is ended. What
 * limit_enter() says; the caller's scheduler may be another.
 */
static int room_for(struct scheduler *s, struct process *p, uint64_t serial, struct signal *sig, int64_t deadline)
{
	struct process *self = s && s->current ? process_self(s) : NULL;
	bool hold = self && !sig->held;
	int answer;

	if (hold)
		held_add(self, sig);
	answer = limit_enter(s, p, serial, deadline);
	if (hold)
		held_remove(self, sig);
	return answer;
}

/* Likewise, for a process of another node: waits while its mailbox is known to be full, or too much is on the way there. */
static int room_afar(struct scheduler *s, mote_pid to, struct signal *sig, int64_t deadline)
{
	struct process *self = s && s->current ? process_self(s) : NULL;
	struct node *n = node_get(to.node);
	bool hold = self && !sig->held;
	int err;

	if (!n)
		return 0;
	if (hold)
		held_add(self, sig);
	err = remote_room(s, n, to, deadline);
	if (hold)
		held_remove(self, sig);
	return err;
}

/* The rest of a send, to another node. */
static __attribute__((noinline)) int send_afar(struct scheduler *s, mote_pid to, uint32_t type, const void *data,
					       size_t size, int64_t deadline)
{
	struct node *n = mote_pid_valid(to) ? node_get(to.node) : NULL;
	int err = 0;

	if (likely(n)) {
		err = remote_room(s, n, to, deadline);
		if (s)
			s = scheduler_self();
		if (likely(!err))
			err = remote_message(s, n, to, type, data, size);
	}
	send_leave(s);
	return err;
}

/* The rest of a send, to a receiver with a limit. */
static __attribute__((noinline)) int send_limited(struct scheduler *s, uint32_t slot, uint64_t serial,
						  struct signal *sig, int64_t deadline)
{
	int answer = room_for(s, &process_table[slot], serial, sig, deadline);

	if (s)
		s = scheduler_self();
	if (answer == LIMIT_COUNTED) {
		sig->kind = SIGNAL_COUNTED;
		sig->to = serial;
		signal_send(s, sig, slot, false);
	} else {
		signal_free(s, sig);
	}
	send_leave(s);
	return answer < 0 ? answer : 0;
}

static inline __attribute__((always_inline)) int send_to(struct scheduler *s, mote_pid to, uint32_t type, const void *data,
							 size_t size, int64_t deadline)
{
	int err = check(s, type, data, size);
	struct signal *sig;
	struct process *p;

	if (unlikely(err))
		goto leave;
	if (unlikely(!process_known(to))) {
		if (port_is_here(to.node))
			goto leave;
		return send_afar(s, to, type, data, size, deadline);
	}
	p = &process_table[to.slot];
	sig = signal_new(s, SIGNAL_MESSAGE, size);
	if (unlikely(!sig)) {
		err = -ENOMEM;
		goto leave;
	}
	sig->to = to.serial;
	sig->msg.from = caller_pid(s);
	sig->msg.type = type;
	payload_copy(sig, data, size);
	if (limited(p))
		return send_limited(s, to.slot, to.serial, sig, deadline);
	if (s && s->alone) {
		/* signal_send(), where nothing can be held back */
		if (!signal_deliver(s, p, sig))
			signal_push(s, sig, to.slot, false);
	} else if (!s || likely(atomic_load_explicit(&p->task.home, memory_order_relaxed) == s->index) ||
		   !outbox_hold(s, sig, to.slot)) {
		signal_send(s, sig, to.slot, false);
	}
leave:
	send_leave(s);
	return err;
}

int mote_send(mote_pid to, uint32_t type, const void *data, size_t size)
{
	return send_to(runtime_try_enter(), to, type, data, size, INT64_MAX);
}

int mote_send_until(mote_pid to, uint32_t type, const void *data, size_t size, mote_deadline deadline)
{
	return send_to(runtime_try_enter(), to, type, data, size, deadline.ns);
}

int mote_send_name(const char *name, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_try_enter();
	mote_pid to = name_whereis(name);

	if (mote_pid_valid(to))
		return send_to(s, to, type, data, size, INT64_MAX);
	if (likely(s))
		process_leave(s);
	return -ESRCH;
}

/* To the owner of a reference. serial 0: whoever has it; a reference is never reused, so that is safe. */
static int send_ref(struct scheduler *s, struct signal *sig, mote_ref ref, uint64_t serial)
{
	mote_pid owner = { serial, ref.owner, ref.node };

	if (!ref.id || !ref_owned(ref)) {
		signal_free(s, sig);
		return 0;
	}
	sig->kind = SIGNAL_REPLY;
	sig->ref = ref.id;
	sig->ref_slot = ref.slot;
	sig->msg.from = caller_pid(s);
	signal_send_pid(s, sig, owner, false);
	return 0;
}

/* room: for how much the block has to have room at least. */
static struct signal *copy_new(struct scheduler *s, uint32_t type, const void *data, size_t size, size_t room, int *err)
{
	struct signal *sig;

	*err = check(s, type, data, size);
	if (unlikely(*err))
		return NULL;
	sig = signal_new(s, SIGNAL_MESSAGE, size < room ? room : size);
	if (unlikely(!sig)) {
		*err = -ENOMEM;
		return NULL;
	}
	sig->msg.size = (uint32_t)size;
	sig->msg.type = type;
	payload_copy(sig, data, size);
	return sig;
}

int mote_send_alias(mote_ref alias, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_try_enter();
	struct signal *sig;
	int err;

	sig = copy_new(s, type, data, size, 0, &err);
	if (sig)
		err = send_ref(s, sig, alias, 0);
	if (likely(s))
		process_leave(s);
	return err;
}

struct mote_msg *mote_msg_new(uint32_t type, size_t size)
{
	struct scheduler *s = runtime_try_enter();
	struct signal *sig = NULL;
	int err = check(s, type, "", size);

	if (!err) {
		sig = signal_new(s, SIGNAL_MESSAGE, size);
		if (!sig)
			err = -ENOMEM;
	}
	if (sig) {
		sig->msg.from = caller_pid(s);
		sig->msg.type = type;
		if (s)
			held_add(process_self(s), sig);
	} else {
		caller_fail(s, err);
	}
	if (s)
		process_leave(s);
	return sig ? &sig->msg : NULL;
}

/* 0; -ENOMEM: sig is gone, see request_outlived(). */
static inline int release(struct scheduler *s, struct signal *sig)
{
	struct process *self;

	if (!sig->held)
		return 0;
	if (unlikely(!s))
		mote_fatal("a foreign thread has a message that belongs to a process");
	self = process_self(s);
	if (unlikely(!sig->prev && self->held != sig))
		mote_fatal("a process has a message that belongs to another");
	held_remove(self, sig);
	if (unlikely(sig->kind == SIGNAL_REQUEST && sig->ref))
		return request_outlived(s, self, sig);
	return 0;
}

/* May m be sent, as its owner left it? */
static int message_check(const struct mote_msg *m)
{
	struct signal *sig = signal_of(m);
	size_t room = sig->class != SLAB_NONE ? slab_sizes[sig->class] : malloc_usable_size(sig);

	return m->type >= MOTE_MSG_RESERVED ? -EINVAL : m->size > room - sizeof(*sig) ? -EMSGSIZE : 0;
}

/* Takes m out of its owner's hands to be sent. NULL: out of memory. */
static struct signal *take_over(struct scheduler *s, struct mote_msg *m)
{
	struct signal *sig = signal_of(m);

	if (unlikely(release(s, sig)))
		return NULL;
	sig->kind = SIGNAL_MESSAGE;
	sig->ref = 0;
	sig->msg.data = sig->payload;
	sig->msg.from = caller_pid(s);
	return sig;
}

struct signal *message_take_over(struct scheduler *s, struct mote_msg *m)
{
	return release(s, signal_of(m)) ? NULL : signal_of(m);
}

/* keep: on failure m is the caller's as before. */
static int send_msg(struct scheduler *s, mote_pid to, struct mote_msg *m, int64_t deadline, bool keep)
{
	enum signal_kind kind = SIGNAL_MESSAGE;
	struct process *p = process_lookup(to);
	int err = message_check(m);
	bool far = mote_pid_valid(to) && !port_is_here(to.node);
	struct signal *sig;

	if (unlikely(far) && !err) {
		err = room_afar(s, to, signal_of(m), deadline);
		if (s)
			s = scheduler_self();
	} else if (!err && p && limited(p)) {
		err = room_for(s, p, to.serial, signal_of(m), deadline);
		if (s)
			s = scheduler_self();
		if (err == LIMIT_COUNTED)
			kind = SIGNAL_COUNTED;
		else
			p = NULL;
	}
	if (err >= 0 || !keep) {
		sig = take_over(s, m);
		if (likely(sig && !err && (p || far))) {
			sig->kind = (uint8_t)kind;
			signal_send_pid(s, sig, to, false);
		} else if (sig) {
			signal_free(s, sig);
		} else if (err >= 0) {
			if (kind == SIGNAL_COUNTED)
				limit_undo(s, p, to.serial);
			err = -ENOMEM;
		}
	}
	if (likely(s))
		process_leave(s);
	return err < 0 ? err : 0;
}

int mote_send_msg(mote_pid to, struct mote_msg *m)
{
	return send_msg(runtime_try_enter(), to, m, INT64_MAX, false);
}

int mote_send_msg_until(mote_pid to, struct mote_msg *m, mote_deadline deadline)
{
	return send_msg(runtime_try_enter(), to, m, deadline.ns, true);
}

void mote_msg_free(struct mote_msg *m)
{
	struct scheduler *s;

	if (!m)
		return;
	s = runtime_try_enter();
	if (likely(!release(s, signal_of(m))))
		signal_free(s, signal_of(m));
	if (s)
		runtime_leave_on(s);
}

struct mote_msg *mote_msg_keep(const struct mote_msg *m)
{
	struct scheduler *s = runtime_enter("mote_msg_keep");
	struct process *self = process_self(s);
	bool lent = self->lent;

	self->lent = false;
	runtime_leave();
	return lent ? (struct mote_msg *)m : NULL;
}

const struct mote_exit_info *mote_msg_exit(const struct mote_msg *m)
{
	return m->type == MOTE_MSG_EXIT ? m->data : NULL;
}

const struct mote_down_info *mote_msg_down(const struct mote_msg *m)
{
	return m->type == MOTE_MSG_DOWN ? m->data : NULL;
}

mote_ref mote_msg_ref(const struct mote_msg *m)
{
	const struct signal *sig = signal_of(m);
	mote_pid self = mote_self();

	if (sig->kind != SIGNAL_REPLY && sig->kind != SIGNAL_DOWN)
		return (mote_ref){ 0 };
	return (mote_ref){ sig->ref, sig->ref_slot, self.slot, self.node, 0 };
}

struct mote_from mote_msg_from(const struct mote_msg *m)
{
	const struct signal *sig = signal_of(m);

	/* A match function may ask about one that is still in the mailbox. */
	if (!sig->ref || (sig->kind != SIGNAL_REQUEST && sig->kind != SIGNAL_COUNTED_REQUEST &&
			  sig->kind != SIGNAL_FOREIGN_REQUEST))
		return (struct mote_from){ 0 };
	return (struct mote_from){ m->from, { sig->ref, sig->ref_slot, m->from.slot, m->from.node, 0 } };
}

/* If the answer comes from who holds the request, no watcher will be needed. */
static void request_answered(struct scheduler *s, mote_ref ref)
{
	struct signal *sig = s ? process_self(s)->held : NULL;

	/* Most callees answer what they received last; the others pay for a watcher. */
	for (int i = 0; sig && i < 8; i++, sig = sig->next) {
		if (sig->kind == SIGNAL_REQUEST && sig->ref == ref.id)
			sig->ref = 0;
	}
	if (unlikely(sig))
		process_self(s)->vague = true;
}

int mote_reply(struct mote_from from, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_try_enter();
	struct signal *sig;
	int err;

	sig = copy_new(s, type, data, size, 0, &err);
	if (sig) {
		request_answered(s, from.ref);
		err = send_ref(s, sig, from.ref, from.pid.serial);
	}
	if (likely(s))
		process_leave(s);
	return err;
}

int mote_reply_msg(struct mote_from from, struct mote_msg *m)
{
	struct scheduler *s = runtime_try_enter();
	int err = message_check(m);
	struct signal *sig;

	request_answered(s, from.ref);
	sig = take_over(s, m);
	if (!sig)
		err = -ENOMEM;
	else if (err)
		signal_free(s, sig);
	else
		err = send_ref(s, sig, from.ref, from.pid.serial);
	if (likely(s))
		process_leave(s);
	return err;
}

/* The other node looks whether whom a process waits for waits, too: see cycle.h. */
static void request_far(struct scheduler *s, struct signal *sig, mote_pid to)
{
	if (atomic_load_explicit(&process_self(s)->task.marks, memory_order_relaxed) & PROCESS_CALLING)
		sig->kind = SIGNAL_CALL;
	remote_send(s, sig, to);
}

/* A request becomes the DOWN that refuses it. */
#define REQUEST_ROOM sizeof(struct mote_down_info)

/* Takes sig, also on failure; may wait for room. */
static inline __attribute__((always_inline)) int request_send(struct scheduler **s, mote_pid to, struct signal *sig,
							      int64_t deadline, mote_ref *ref)
{
	struct mote_reason absence = process_absence(to);
	struct process *p = process_lookup(to);
	enum signal_kind kind = SIGNAL_REQUEST;
	struct ref_slot *slot;
	int err = -EINVAL;

	if (unlikely(!mote_pid_valid(to)))
		goto fail;
	if (unlikely(!port_is_here(to.node))) {
		err = room_afar(*s, to, sig, deadline);
		*s = scheduler_self();
		if (err)
			goto fail;
	} else if (likely(p) && limited(p)) {
		err = room_for(*s, p, to.serial, sig, deadline);
		*s = scheduler_self();
		if (err < 0)
			goto fail;
		if (err == LIMIT_COUNTED)
			kind = SIGNAL_COUNTED_REQUEST;
		else
			p = NULL;
		if (err == LIMIT_DOOMED)
			absence = limit_reason;
	}
	slot = ref_new(*s, process_self(*s), REF_MONITOR | REF_ALIAS | REF_REPLY, ref);
	if (unlikely(!slot)) {
		if (kind == SIGNAL_COUNTED_REQUEST)
			limit_undo(*s, p, to.serial);
		err = -ENOMEM;
		goto fail;
	}
	slot->target = to;
	if (unlikely(!port_is_here(to.node)) && ref_reserve(*s, process_self(*s), slot, to)) {
		ref_drop(*s, process_self(*s), *ref, false);
		err = -ENOMEM;
		goto fail;
	}
	sig->kind = (uint8_t)kind;
	sig->to = to.serial;
	sig->ref = ref->id;
	sig->ref_slot = ref->slot;
	sig->msg.from = process_pid(process_self(*s));
	if (likely(p))
		signal_send(*s, sig, to.slot, false);
	else if (!port_is_here(to.node))
		request_far(*s, sig, to);
	else
		request_end(*s, sig, to, &absence);
	return 0;
fail:
	signal_free(*s, sig);
	return err;
}

static mote_ref request(struct scheduler *s, mote_pid to, struct signal *sig, int err)
{
	mote_ref ref = { 0 };

	if (!err)
		err = request_send(&s, to, sig, INT64_MAX, &ref);
	if (err) {
		process_fail(process_self(s), err);
		ref = (mote_ref){ 0 };
	}
	if (likely(s))
		process_leave(s);
	return ref;
}

mote_ref mote_request(mote_pid to, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_enter("mote_request");
	int err;
	struct signal *sig = copy_new(s, type, data, size, REQUEST_ROOM, &err);

	return request(s, to, sig, err);
}

/* What is too small to become a refusal has no payload: takes sig, gives a larger one. NULL: out of memory. */
static struct signal *request_block(struct scheduler *s, struct signal *sig)
{
	struct signal *larger;

	if (!sig || sig->class == SLAB_NONE || slab_sizes[sig->class] >= sizeof(*sig) + REQUEST_ROOM)
		return sig;
	larger = signal_new(s, SIGNAL_MESSAGE, REQUEST_ROOM);
	if (larger) {
		larger->msg.type = sig->msg.type;
		larger->msg.size = 0;
	}
	signal_free(s, sig);
	return larger;
}

mote_ref mote_request_msg(mote_pid to, struct mote_msg *m)
{
	struct scheduler *s = runtime_enter("mote_request_msg");
	int err = message_check(m);
	struct signal *sig = request_block(s, take_over(s, m));

	if (!sig)
		err = -ENOMEM;
	else if (err)
		signal_free(s, sig);
	return request(s, to, sig, err);
}

/* Why there is no answer. Takes m. */
static __attribute__((noinline)) int call_refused(struct mote_msg *m)
{
	const struct mote_down_info *down = mote_msg_down(m);
	struct scheduler *s;
	int err;

	if (!down) {
		s = runtime_enter("mote_call");
		cycle_report(s, process_self(s), m);
		runtime_leave();
		return -EDEADLK;
	}
	err = down->reason.kind == MOTE_NOPROC ? -ESRCH :
	      down->reason.kind == MOTE_NOCONNECTION ? -ECONNRESET : -EPIPE;
	mote_msg_free(m);
	return err;
}

int call_result(struct mote_msg *m, struct mote_msg **reply)
{
	if (unlikely(m->type >= MOTE_MSG_RESERVED))
		return call_refused(m);
	if (reply)
		*reply = m;
	else
		mote_msg_free(m);
	return 0;
}

struct mote_msg *call_receive(mote_ref ref, mote_deadline deadline)
{
	struct scheduler *s = runtime_enter("mote_receive_ref");
	struct process *self = process_self(s);
	struct ref_slot *slot = ref_find(self, ref.id, ref.slot);
	struct mote_msg *m;

	if (slot) {
		calling_begin(self);
		self->refs->call = ref.slot + 1;
		if (callee_calls(slot->target))
			cycle_ask(s, self, slot);
	}
	m = mailbox_receive_ref(s, self, ref, deadline.ns);
	s = scheduler_self();
	if (slot) {
		self->refs->call = 0;
		calling_end(self);
	}
	if (m && m->type == MOTE_MSG_CYCLE) {
		cycle_report(s, self, m);
		process_fail(self, -EDEADLK);
		m = NULL;
	}
	task_spend(s);
	runtime_leave();
	return m;
}

int mote_call(mote_pid to, uint32_t type, const void *data, size_t size, struct mote_msg **reply,
	      mote_deadline deadline)
{
	struct scheduler *s = runtime_enter("mote_call");
	struct process *self = process_self(s);
	struct signal *sig;
	struct mote_msg *m;
	mote_ref ref;
	int err;

	if (mote_pid_equal(to, process_pid(self))) {
		cycle_own(s, self);
		runtime_leave();
		return -EDEADLK;
	}
	calling_begin(self);
	sig = copy_new(s, type, data, size, REQUEST_ROOM, &err);
	if (sig)
		err = request_send(&s, to, sig, deadline.ns, &ref);
	if (err) {
		calling_end(self);
		runtime_leave();
		return err;
	}
	self->refs->call = ref.slot + 1;
	if (callee_calls(to))
		cycle_ask(s, self, &self->refs->slots[ref.slot]);
	m = mailbox_receive_ref(s, self, ref, deadline.ns);
	s = scheduler_self();
	if (!m) {
		err = self->err;
		/* The alias ends here; what came in the last moment is still an answer. */
		signals_take(s, self);
		if (ref_find(self, ref.id, ref.slot)->message)
			m = mailbox_receive_ref(s, self, ref, 0);
		else
			ref_drop(s, self, ref, true);
	}
	self->refs->call = 0;
	calling_end(self);
	task_spend(s);
	runtime_leave();
	return m ? call_result(m, reply) : err;
}
