// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Names of other nodes: the name travels, and is looked up where it arrives.
 */
#include "core/node.h"
#include "core/remote.h"

#include <mote/name.h>

#include <errno.h>
#include <string.h>

static int name_check(mote_node node, const char *name)
{
	return !node.id || !name || !name_valid(name) ? -EINVAL : 0;
}

/* kind, to that node as such, with the name and size bytes of data as payload. */
static struct signal *named_new(struct scheduler *s, enum signal_kind kind, const char *name, const void *data, size_t size)
{
	size_t length = strlen(name) + 1, room = length + size;
	struct signal *sig;

	/* It may have to become the DOWN that says that there is no such node. */
	sig = signal_new(s, kind, room < sizeof(struct mote_down_info) ? sizeof(struct mote_down_info) : room);
	if (!sig)
		return NULL;
	sig->msg.size = (uint32_t)room;
	sig->msg.from = s ? process_pid(process_self(s)) : MOTE_NOBODY;
	sig->msg.type = 0;
	sig->to = 0;
	memcpy(sig->payload, name, length);
	if (size)
		memcpy(sig->payload + length, data, size);
	return sig;
}

int mote_send_name_on(mote_node node, const char *name, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s;
	mote_pid to = { 0, 0, node.id };
	struct signal *sig;
	struct node *n;
	int err = name_check(node, name);

	if (!err && port_is_here(node.id)) {
		err = mote_send_name(name, type, data, size);
		return err == -ESRCH ? 0 : err;
	}
	s = runtime_try_enter();
	if (!err && (type >= MOTE_MSG_RESERVED || (size && !data)))
		err = -EINVAL;
	else if (!err && size > UINT32_MAX - sizeof(struct signal) - 256)
		err = -EMSGSIZE;
	n = err ? NULL : node_get(node.id);
	if (n)
		err = remote_room(s, n, to, INT64_MAX);
	if (s)
		s = scheduler_self();
	if (!err) {
		sig = named_new(s, SIGNAL_NAMED, name, data, size);
		err = sig ? 0 : -ENOMEM;
		if (sig) {
			sig->msg.type = type;
			remote_send(s, sig, to);
		}
	}
	if (s)
		process_leave(s);
	return err;
}

mote_ref mote_monitor_name_on(mote_node node, const char *name)
{
	struct scheduler *s;
	mote_pid to = { 0, 0, node.id };
	struct ref_slot *slot = NULL;
	struct process *self;
	struct signal *sig = NULL;
	mote_ref ref = { 0 };
	int err = name_check(node, name);

	if (!err && port_is_here(node.id))
		return mote_monitor_name(name);
	s = runtime_enter("mote_monitor_name_on");
	self = process_self(s);
	if (!err) {
		err = -ENOMEM;
		sig = named_new(s, SIGNAL_MONITOR_NAMED, name, NULL, 0);
		slot = sig ? ref_new(s, self, REF_MONITOR, &ref) : NULL;
	}
	if (slot && !ref_reserve(s, self, slot, to)) {
		sig->ref = ref.id;
		sig->ref_slot = ref.slot;
		remote_send(s, sig, to);
		err = 0;
	} else {
		if (slot)
			ref_drop(s, self, ref, false);
		if (sig)
			signal_free(s, sig);
		ref = (mote_ref){ 0 };
		process_fail(self, err);
	}
	process_leave(s);
	return ref;
}

int remote_ask(struct scheduler **s, struct signal *sig, mote_node node, unsigned int flags, mote_ref *ref)
{
	struct process *self = process_self(*s);
	mote_pid to = { 0, 0, node.id };
	struct signal *l = flags & REF_LINK ? signal_new(*s, SIGNAL_LINK, sizeof(struct mote_exit_info)) : NULL;
	struct ref_slot *slot = NULL;

	if (l || !(flags & REF_LINK))
		slot = ref_new(*s, self, REF_MONITOR | REF_ALIAS | REF_REPLY, ref);
	if (!slot || ref_reserve(*s, self, slot, to)) {
		if (slot)
			ref_drop(*s, self, *ref, false);
		if (l)
			signal_free(*s, l);
		signal_free(*s, sig);
		return -ENOMEM;
	}
	slot->flags |= flags;
	slot->watch->next = l;
	sig->ref = ref->id;
	sig->ref_slot = ref->slot;
	if (sig->kind == SIGNAL_SPAWN && port_is_here(node.id)) {
		sig->kind = SIGNAL_REQUEST;
		sig->msg.type = MOTE_MSG_SPAWNED;
		spawn_take(*s, sig);
	} else {
		remote_send(*s, sig, to);
	}
	return 0;
}

struct mote_msg *remote_answer(struct scheduler **s, mote_ref ref, int64_t deadline, int *err)
{
	struct process *self = process_self(*s);
	struct mote_msg *m = mailbox_receive_ref(*s, self, ref, deadline);
	const struct mote_down_info *down = m ? mote_msg_down(m) : NULL;

	*s = scheduler_self();
	*err = m ? 0 : self->err;
	if (!m) {
		/* As in mote_call(): what came in the last moment is an answer. */
		signals_take(*s, self);
		if (ref_find(self, ref.id, ref.slot)->message) {
			m = mailbox_receive_ref(*s, self, ref, 0);
			down = mote_msg_down(m);
			*err = 0;
		} else {
			ref_drop(*s, self, ref, true);
		}
	}
	if (!down)
		return m;
	*err = down->reason.kind == MOTE_NOCONNECTION ? -ENETUNREACH : -EPIPE;
	held_remove(self, container_of(m, struct signal, msg));
	signal_free(*s, container_of(m, struct signal, msg));
	return NULL;
}

mote_pid mote_whereis_on(mote_node node, const char *name, mote_deadline deadline)
{
	struct scheduler *s;
	struct record_pid answer = { 0 };
	struct mote_msg *m = NULL;
	mote_pid pid = MOTE_NOBODY;
	struct signal *sig;
	mote_ref ref;
	int err = name_check(node, name);

	s = runtime_enter("mote_whereis_on");
	if (!err && port_is_here(node.id)) {
		pid = name_whereis(name);
		err = mote_pid_valid(pid) ? 0 : -ESRCH;
	} else if (!err) {
		sig = named_new(s, SIGNAL_WHEREIS, name, NULL, 0);
		err = sig ? remote_ask(&s, sig, node, 0, &ref) : -ENOMEM;
		if (!err)
			m = remote_answer(&s, ref, deadline.ns, &err);
	}
	if (m) {
		memcpy(&answer, m->data, m->size < sizeof(answer) ? m->size : sizeof(answer));
		if (answer.serial)
			pid = (mote_pid){ answer.serial, answer.slot, node.id };
		else
			err = -ESRCH;
		held_remove(process_self(s), container_of(m, struct signal, msg));
		signal_free(s, container_of(m, struct signal, msg));
	}
	if (err)
		process_fail(process_self(s), err);
	process_leave(s);
	return pid;
}
