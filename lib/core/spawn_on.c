// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Spawning on other nodes. The request itself becomes the first message of the new process, which answers it before it
 * does anything else: so the answer comes before all that the process sends, its death too, and an unanswered
 * request is refused when it dies before. The asker's end of the link is made as the answer is taken in, from a block
 * that was set aside; an answer that nobody waits for any more ends the process.
 */
#include "core/edge.h"
#include "core/node.h"
#include "core/remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_MAX	255

struct entry {
	struct entry *next;
	mote_entry_fn fn;
	char name[];
};

static struct lock lock;
static struct entry *entries;

/* What the new process says of itself. */
struct answer {
	int32_t err;		/* 0, or why there is none */
	uint32_t zero;
};

static mote_entry_fn entry_find(const char *name)
{
	mote_entry_fn fn = NULL;

	lock_take(&lock);
	for (struct entry *e = entries; e && !fn; e = e->next)
		if (!strcmp(e->name, name))
			fn = e->fn;
	lock_drop(&lock);
	return fn;
}

int mote_entry_register(const char *name, mote_entry_fn fn)
{
	size_t size = name ? strnlen(name, ENTRY_MAX + 1) + 1 : 0;
	struct scheduler *s;
	struct entry *new, **at, *old = NULL;
	bool added = false;

	if (size < 2 || size > ENTRY_MAX + 1)
		return -EINVAL;
	new = malloc(sizeof(*new) + size);
	if (!new)
		return -ENOMEM;
	new->fn = fn;
	memcpy(new->name, name, size);
	s = runtime_try_enter();
	lock_take(&lock);
	for (at = &entries; *at && strcmp((*at)->name, name); at = &(*at)->next)
		;
	old = *at;
	if (old)
		*at = old->next;
	if (fn) {
		new->next = entries;
		entries = new;
		added = true;
	}
	lock_drop(&lock);
	if (s)
		runtime_leave_on(s);
	free(old);
	if (!added)
		free(new);
	return 0;
}

/* What the request says, checked: it may come from anybody. */
struct wish {
	struct record_spawn head;
	const char *entry, *name;
	const char *args;
};

static size_t args_offset(const struct record_spawn *head)
{
	return (sizeof(*head) + head->entry_size + head->name_size + 15) & ~(size_t)15;
}

static bool wish_read(struct wish *w, const char *body, size_t size)
{
	size_t at;

	if (size < sizeof(w->head))
		return false;
	memcpy(&w->head, body, sizeof(w->head));
	if (w->head.entry_size < 2 || w->head.entry_size > ENTRY_MAX + 1 || !w->head.name_size || w->head.name_size > 256 ||
	    w->head.flags & ~(uint32_t)(MOTE_LINK | MOTE_MONITOR | MOTE_TRAP_EXIT) || w->head.zero)
		return false;
	at = args_offset(&w->head);
	if (at > size || size - at != w->head.args_size)
		return false;
	w->entry = body + sizeof(w->head);
	w->name = w->entry + w->head.entry_size;
	w->args = body + at;
	return !w->entry[w->head.entry_size - 1] && !w->name[w->head.name_size - 1] &&
	       strlen(w->entry) == w->head.entry_size - 1 && strlen(w->name) == w->head.name_size - 1 &&
	       (!w->name[0] || name_valid(w->name));
}

/* Links the caller to who asked, and has him watch, as he wished, before he knows it. 0 or -ENOMEM. */
static int relate(struct scheduler *s, struct process *self, const struct wish *w, const struct signal *request)
{
	mote_pid asker = request->msg.from;
	struct signal *watch = NULL;

	if (!port_is_here(asker.node) && edge_note(self))
		return -ENOMEM;
	if (w->head.flags & MOTE_MONITOR) {
		watch = signal_new(s, SIGNAL_MONITOR, sizeof(struct mote_down_info));
		if (!watch)
			return -ENOMEM;
		watch->ref = request->ref;
		watch->ref_slot = request->ref_slot;
		watch->msg.from = asker;
	}
	if (w->head.flags & MOTE_LINK && link_add(s, self, asker) < 0) {
		if (watch)
			signal_free(s, watch);
		return -ENOMEM;
	}
	if (watch)
		watcher_add(self, watch);
	return 0;
}

/* The first that a process does which was spawned from elsewhere. */
PROCESS_ENTRY static void spawned(void *arg)
{
	struct mote_msg *m = mote_receive_type(MOTE_MSG_SPAWNED, MOTE_FOREVER);
	struct signal *request = container_of(m, struct signal, msg);
	struct scheduler *s = runtime_enter("spawn");
	struct process *self = process_self(s);
	struct answer answer = { 0 };
	struct signal *sig;
	struct wish w;
	int err;

	(void)wish_read(&w, request->payload, m->size);
	sig = signal_new(s, SIGNAL_REPLY, sizeof(answer));
	err = sig ? relate(s, self, &w, request) : -ENOMEM;
	if (err) {
		struct mote_reason reason = { .kind = MOTE_ERROR, .code = -err };

		/* The request is refused with it. */
		if (sig)
			signal_free(s, sig);
		process_exit(self, &reason);
	}
	memcpy(sig->payload, &answer, sizeof(answer));
	sig->ref = request->ref;
	sig->ref_slot = request->ref_slot;
	sig->msg.from = process_pid(self);
	sig->msg.type = MOTE_MSG_SPAWNED;
	request->ref = 0;
	signal_send_pid(s, sig, m->from, true);
	process_leave(s);
	((mote_entry_fn)arg)(w.args, w.head.args_size);
}

static void refuse(struct scheduler *s, struct signal *request, int err)
{
	struct answer answer = { .err = err };
	mote_pid asker = request->msg.from;

	/* The block has room: a request's always has. */
	node_uncharge(request);
	request->kind = SIGNAL_REPLY;
	request->msg.type = MOTE_MSG_SPAWNED;
	request->msg.from = (mote_pid){ 0, 0, port_node };
	request->msg.size = sizeof(answer);
	request->msg.data = request->payload;
	memcpy(request->payload, &answer, sizeof(answer));
	signal_send_pid(s, request, asker, false);
}

bool spawn_take(struct scheduler *s, struct signal *sig)
{
	struct mote_spawn_opts opts = { .size = sizeof(opts), .fn = spawned };
	mote_pid pid = MOTE_NOBODY;
	mote_entry_fn fn;
	struct wish w;

	if (!wish_read(&w, sig->payload, sig->msg.size)) {
		node_uncharge(sig);
		signal_free(s, sig);
		return false;
	}
	fn = entry_find(w.entry);
	if (!fn) {
		refuse(s, sig, -ENOENT);
		return true;
	}
	opts.arg = (void *)fn;
	opts.flags = w.head.flags & MOTE_TRAP_EXIT;
	opts.name = w.name[0] ? w.name : NULL;
	pid = process_spawn(NULL, &opts, (void *)fn);
	if (!mote_pid_valid(pid)) {
		refuse(s, sig, foreign_error());
		return true;
	}
	sig->to = pid.serial;
	signal_send(s, sig, pid.slot, false);
	return true;
}

void spawned_unwanted(struct scheduler *s, const struct signal *sig)
{
	static const struct mote_reason kill = { .kind = MOTE_KILL };
	struct signal *end = sig->msg.from.serial ? signal_exit_new(s, NULL, MOTE_NOBODY, &kill) : NULL;

	if (end)
		signal_send_pid(s, end, sig->msg.from, true);
}

static int opts_check(const struct mote_spawn_on_opts *opts)
{
	size_t entry = opts->entry ? strnlen(opts->entry, ENTRY_MAX + 1) : 0;

	if (!entry || entry > ENTRY_MAX || (opts->args_size && !opts->args) || opts->reserved ||
	    opts->flags & ~(unsigned int)(MOTE_LINK | MOTE_MONITOR | MOTE_TRAP_EXIT) ||
	    (opts->flags & MOTE_MONITOR && !opts->ref) || (opts->name && !name_valid(opts->name)))
		return -EINVAL;
	return opts->args_size > UINT32_MAX - 4096 ? -EMSGSIZE : 0;
}

static struct signal *wish_new(struct scheduler *s, const struct mote_spawn_on_opts *opts)
{
	struct record_spawn head = {
		.flags = opts->flags,
		.entry_size = (uint32_t)strlen(opts->entry) + 1,
		.name_size = opts->name ? (uint32_t)strlen(opts->name) + 1 : 1,
		.args_size = opts->args_size,
	};
	size_t at = args_offset(&head), room = at + opts->args_size;
	struct signal *sig;

	sig = signal_new(s, SIGNAL_SPAWN, room < sizeof(struct mote_down_info) ? sizeof(struct mote_down_info) : room);
	if (!sig)
		return NULL;
	memset(sig->payload, 0, at);
	memcpy(sig->payload, &head, sizeof(head));
	memcpy(sig->payload + sizeof(head), opts->entry, head.entry_size);
	if (opts->name)
		memcpy(sig->payload + sizeof(head) + head.entry_size, opts->name, head.name_size);
	if (opts->args_size)
		memcpy(sig->payload + at, opts->args, opts->args_size);
	sig->msg.size = (uint32_t)room;
	sig->msg.from = process_pid(process_self(s));
	sig->msg.type = 0;
	sig->to = 0;
	return sig;
}

static mote_pid spawn_afar(struct scheduler **s, mote_node node, const struct mote_spawn_on_opts *opts, int64_t deadline,
			   int *err)
{
	unsigned int flags = (opts->flags & MOTE_LINK ? REF_LINK : 0) | (opts->flags & MOTE_MONITOR ? REF_KEEP : 0);
	struct answer answer = { 0 };
	mote_pid pid = MOTE_NOBODY;
	struct signal *sig;
	struct mote_msg *m;
	mote_ref ref;

	sig = wish_new(*s, opts);
	*err = sig ? remote_ask(s, sig, node, flags, &ref) : -ENOMEM;
	m = *err ? NULL : remote_answer(s, ref, deadline, err);
	if (!m)
		return pid;
	if (m->size >= sizeof(answer))
		memcpy(&answer, m->data, sizeof(answer));
	*err = answer.err;
	if (!*err)
		pid = m->from;
	held_remove(process_self(*s), container_of(m, struct signal, msg));
	signal_free(*s, container_of(m, struct signal, msg));
	if (!*err && opts->flags & MOTE_MONITOR)
		*opts->ref = ref;
	return pid;
}

mote_pid mote_spawn_on(mote_node node, const struct mote_spawn_on_opts *opts, mote_deadline deadline)
{
	struct scheduler *s = runtime_enter("mote_spawn_on");
	struct mote_spawn_on_opts known;
	mote_pid pid = MOTE_NOBODY;
	int err = opts_copy(&known, sizeof(known), opts);

	if (!err)
		err = node.id && opts ? opts_check(&known) : -EINVAL;
	if (!err)
		pid = spawn_afar(&s, node, &known, deadline.ns, &err);
	s = scheduler_self();
	if (err)
		process_fail(process_self(s), err);
	process_leave(s);
	return pid;
}
