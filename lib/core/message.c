// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Sending, and messages as blocks that change hands.
 */
#include "core/outbox.h"
#include "core/process.h"

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

static inline __attribute__((always_inline)) int send_to(struct scheduler *s, mote_pid to, uint32_t type, const void *data, size_t size)
{
	int err = check(s, type, data, size);
	struct signal *sig;
	struct process *p;

	if (unlikely(err))
		return err;
	p = process_lookup(to);
	if (unlikely(!p))
		return 0;
	sig = signal_new(s, SIGNAL_MESSAGE, size);
	if (unlikely(!sig))
		return -ENOMEM;
	sig->to = to.serial;
	sig->msg.from = caller_pid(s);
	sig->msg.type = type;
	payload_copy(sig, data, size);
	if (s && s->alone) {
		/* signal_send(), where nothing can be held back */
		if (!signal_deliver(s, p, sig))
			signal_push(s, sig, to.slot, false);
		return 0;
	}
	if (!s || likely(atomic_load_explicit(&p->task.home, memory_order_relaxed) == s->index) ||
	    !outbox_hold(s, sig, to.slot))
		signal_send(s, sig, to.slot, false);
	return 0;
}

int mote_send(mote_pid to, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_try_enter();
	int err = send_to(s, to, type, data, size);

	send_leave(s);
	return err;
}

int mote_send_name(const char *name, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_try_enter();
	mote_pid to = mote_whereis(name);
	int err = mote_pid_valid(to) ? send_to(s, to, type, data, size) : -ESRCH;

	if (likely(s))
		process_leave(s);
	return err;
}

/* To the owner of a reference. serial 0: whoever has it; a reference is never reused, so that is safe. */
static int send_ref(struct scheduler *s, struct signal *sig, mote_ref ref, uint64_t serial)
{
	if (!ref.id || ref.owner >= atomic_load_explicit(&process_table_used, memory_order_relaxed) ||
	    !process_serial(&process_table[ref.owner])) {
		signal_free(s, sig);
		return 0;
	}
	sig->kind = SIGNAL_REPLY;
	sig->to = serial;
	sig->ref = ref.id;
	sig->ref_slot = ref.slot;
	sig->msg.from = caller_pid(s);
	signal_send(s, sig, ref.owner, false);
	return 0;
}

static struct signal *copy_new(struct scheduler *s, uint32_t type, const void *data, size_t size, int *err)
{
	struct signal *sig;

	*err = check(s, type, data, size);
	if (unlikely(*err))
		return NULL;
	sig = signal_new(s, SIGNAL_MESSAGE, size);
	if (unlikely(!sig)) {
		*err = -ENOMEM;
		return NULL;
	}
	sig->msg.type = type;
	payload_copy(sig, data, size);
	return sig;
}

int mote_send_alias(mote_ref alias, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_try_enter();
	struct signal *sig;
	int err;

	sig = copy_new(s, type, data, size, &err);
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

static inline void release(struct scheduler *s, struct signal *sig)
{
	struct process *self;

	if (!sig->held)
		return;
	if (unlikely(!s))
		mote_fatal("a foreign thread has a message that belongs to a process");
	self = process_self(s);
	if (unlikely(!sig->prev && self->held != sig))
		mote_fatal("a process has a message that belongs to another");
	held_remove(self, sig);
	if (unlikely(sig->kind == SIGNAL_REQUEST && sig->ref))
		request_outlived(s, self, sig);
}

/* Takes m out of its owner's hands to be sent. NULL with *err: it was freed. */
static struct signal *take_over(struct scheduler *s, struct mote_msg *m, int *err)
{
	struct signal *sig = signal_of(m);
	size_t room = sig->class != SLAB_NONE ? slab_sizes[sig->class] : malloc_usable_size(sig);

	release(s, sig);
	*err = m->type >= MOTE_MSG_RESERVED ? -EINVAL : m->size > room - sizeof(*sig) ? -EMSGSIZE : 0;
	if (*err) {
		signal_free(s, sig);
		return NULL;
	}
	sig->kind = SIGNAL_MESSAGE;
	sig->ref = 0;
	sig->msg.data = sig->payload;
	sig->msg.from = caller_pid(s);
	return sig;
}

struct signal *message_take_over(struct scheduler *s, struct mote_msg *m)
{
	release(s, signal_of(m));
	return signal_of(m);
}

int mote_send_msg(mote_pid to, struct mote_msg *m)
{
	struct scheduler *s = runtime_try_enter();
	struct signal *sig;
	int err;

	sig = take_over(s, m, &err);
	if (sig && process_lookup(to)) {
		sig->to = to.serial;
		signal_send(s, sig, to.slot, false);
	} else if (sig) {
		signal_free(s, sig);
	}
	if (likely(s))
		process_leave(s);
	return err;
}

void mote_msg_free(struct mote_msg *m)
{
	struct scheduler *s;

	if (!m)
		return;
	s = runtime_try_enter();
	release(s, signal_of(m));
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
	return (mote_ref){ sig->ref, sig->ref_slot, self.slot };
}

struct mote_from mote_msg_from(const struct mote_msg *m)
{
	const struct signal *sig = signal_of(m);

	if (sig->kind != SIGNAL_REQUEST || !sig->ref)
		return (struct mote_from){ 0 };
	return (struct mote_from){ m->from, { sig->ref, sig->ref_slot, m->from.slot } };
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
}

int mote_reply(struct mote_from from, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_try_enter();
	struct signal *sig;
	int err;

	sig = copy_new(s, type, data, size, &err);
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
	struct signal *sig;
	int err;

	request_answered(s, from.ref);
	sig = take_over(s, m, &err);
	if (sig)
		err = send_ref(s, sig, from.ref, from.pid.serial);
	if (likely(s))
		process_leave(s);
	return err;
}

static struct signal *request_send(struct scheduler *s, mote_pid to, struct signal *sig, mote_ref *ref, int *err)
{
	struct mote_reason absence = process_absence(to);
	struct process *self = process_self(s);
	struct ref_slot *slot;

	*err = !mote_pid_valid(to) ? -EINVAL : 0;
	slot = *err ? NULL : ref_new(s, self, REF_MONITOR | REF_ALIAS | REF_REPLY, ref);
	if (!slot) {
		if (!*err)
			*err = -ENOMEM;
		signal_free(s, sig);
		return NULL;
	}
	slot->target = to;
	sig->kind = SIGNAL_REQUEST;
	sig->to = to.serial;
	sig->ref = ref->id;
	sig->ref_slot = ref->slot;
	sig->msg.from = process_pid(self);
	if (process_lookup(to)) {
		signal_send(s, sig, to.slot, false);
	} else {
		request_refuse(s, sig, to, &absence);
		signal_free(s, sig);
	}
	return sig;
}

static mote_ref request(struct scheduler *s, mote_pid to, struct signal *sig, int err)
{
	mote_ref ref = { 0 };

	if (sig)
		request_send(s, to, sig, &ref, &err);
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
	struct signal *sig = copy_new(s, type, data, size, &err);

	return request(s, to, sig, err);
}

mote_ref mote_request_msg(mote_pid to, struct mote_msg *m)
{
	struct scheduler *s = runtime_enter("mote_request_msg");
	int err;
	struct signal *sig = take_over(s, m, &err);

	return request(s, to, sig, err);
}

/* What became of a call: its answer, or why there is none. */
static int call_result(struct mote_msg *m, struct mote_msg **reply)
{
	const struct mote_down_info *down = mote_msg_down(m);
	int err = 0;

	if (down)
		err = down->reason.kind == MOTE_NOPROC || down->reason.kind == MOTE_NOCONNECTION ? -ESRCH : -EPIPE;
	if (!err && reply)
		*reply = m;
	else
		mote_msg_free(m);
	return err;
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
		runtime_leave();
		return -EDEADLK;
	}
	sig = copy_new(s, type, data, size, &err);
	if (sig)
		request_send(s, to, sig, &ref, &err);
	if (err) {
		runtime_leave();
		return err;
	}
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
	task_spend(s);
	runtime_leave();
	return m ? call_result(m, reply) : err;
}
