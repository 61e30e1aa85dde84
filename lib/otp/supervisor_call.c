// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What a supervisor is asked, and what it answers. Requests may come from another node.
 */
#include "core/process.h"
#include "otp/supervisor.h"

#include <mote/info.h>

#include <errno.h>
#include <string.h>

int supervisor_start_added(struct supervisor *sup, struct child *c, mote_pid *pid)
{
	struct mote_msg *why;
	int err = child_start(&sup->children, c, pid, &why);

	mote_msg_free(why);
	if (!err)
		*pid = c->key;
	else if (err < 0 || sup->dynamic || child_is_temporary(c))
		children_remove(&sup->children, c);
	return err;
}

static int start_child(struct supervisor *sup, const struct mote_msg *m, mote_pid *pid)
{
	struct spec *spec = m->data;
	struct child *c;
	int err;

	if (!port_is_here(m->from.node))
		return -EREMOTE;
	if (!spec_whole(spec, m->size))
		return -EINVAL;
	spec_settle(spec);
	err = spec_check(&spec->child, sup->auto_shutdown, sup->dynamic);
	if (err)
		return err;
	if (sup->dynamic)
		return dynamic_start_child(sup, &spec->child, pid);
	if (sup->children.partitions)
		return -EOPNOTSUPP;
	c = children_find_id(&sup->children, spec->child.id);
	if (c) {
		*pid = c->state == CHILD_RUNNING ? c->key : MOTE_NOBODY;
		return -EEXIST;
	}
	spec = spec_new(&spec->child, NULL, 0);
	c = spec ? children_add(&sup->children, spec) : NULL;
	return c ? supervisor_start_added(sup, c, pid) : -ENOMEM;
}

static int terminate_child(struct supervisor *sup, struct child *c)
{
	child_stop(&sup->children, c);
	supervisor_forget(sup, c);
	return 0;
}

int supervisor_start_again(struct supervisor *sup, struct child *c, mote_pid *pid)
{
	struct mote_msg *why;
	int err;

	if (c->state != CHILD_STOPPED)
		return c->state == CHILD_RESTARTING ? -EINPROGRESS : -EBUSY;
	err = child_start(&sup->children, c, pid, &why);
	mote_msg_free(why);
	if (!err)
		*pid = c->key;
	return err;
}

static int delete_child(struct supervisor *sup, struct child *c)
{
	if (c->state != CHILD_STOPPED)
		return c->state == CHILD_RESTARTING ? -EINPROGRESS : -EBUSY;
	if (sup->children.partitions)
		return -EOPNOTSUPP;
	children_remove(&sup->children, c);
	return 0;
}

static const char *id_in(const struct mote_msg *m)
{
	const char *id = m->data;

	return m->size && !id[m->size - 1] ? id : NULL;
}

static int with_child(struct supervisor *sup, const struct mote_msg *m, mote_pid *pid)
{
	const char *id = id_in(m);
	struct child *c;

	if (sup->dynamic)
		return -EOPNOTSUPP;
	if (!id)
		return -EINVAL;
	c = children_find_id(&sup->children, id);
	if (!c)
		return -ENOENT;
	if (m->type == SUPERVISOR_TERMINATE_CHILD)
		return terminate_child(sup, c);
	if (m->type == SUPERVISOR_DELETE_CHILD)
		return delete_child(sup, c);
	/* Of a partition that was taken out of use there is nothing to be started. */
	return c->off ? -ENOENT : supervisor_start_again(sup, c, pid);
}

static size_t entry_size(const struct child *c)
{
	return sizeof(struct supervisor_entry) + (c->spec->child.id ? strlen(c->spec->child.id) + 1 : 0);
}

static char *entry_write(char *to, const struct child *c)
{
	struct supervisor_entry e = {
		.pid = c->state == CHILD_RUNNING ? c->key : MOTE_NOBODY, .type = (uint8_t)c->spec->child.type,
		.restarting = c->state == CHILD_RESTARTING, .id_size = (uint32_t)(entry_size(c) - sizeof(e)),
	};

	memcpy(to, &e, sizeof(e));
	if (e.id_size)
		memcpy(to + sizeof(e), c->spec->child.id, e.id_size);
	return to + sizeof(e) + e.id_size;
}

/* Those that are asked for: one, or all. */
static struct mote_msg *which(const struct supervisor *sup, const struct child *one)
{
	size_t size = sizeof(struct supervisor_answer);
	struct supervisor_answer *answer;
	struct mote_msg *m;
	char *to;

	for (const struct child *c = one ? one : sup->children.first; c; c = one ? NULL : c->next)
		size += entry_size(c);
	m = mote_msg_new(SUPERVISOR_ANSWER, size);
	if (!m)
		return NULL;
	answer = m->data;
	*answer = (struct supervisor_answer){ .count = one ? 1 : (uint32_t)sup->children.count };
	to = (char *)(answer + 1);
	for (const struct child *c = one ? one : sup->children.first; c; c = one ? NULL : c->next)
		to = entry_write(to, c);
	return m;
}

static struct mote_msg *answer_with(const void *data, size_t size)
{
	struct mote_msg *m = mote_msg_new(SUPERVISOR_ANSWER, sizeof(struct supervisor_answer) + size);

	if (!m)
		return NULL;
	memset(m->data, 0, sizeof(struct supervisor_answer));
	memcpy((struct supervisor_answer *)m->data + 1, data, size);
	return m;
}

static struct mote_msg *count_children(const struct supervisor *sup)
{
	const struct children *all = &sup->children;
	struct mote_child_counts counts = {
		.size = sizeof(counts), .specs = sup->template ? 1 : all->count, .active = all->running,
		.supervisors = all->supervisors, .workers = all->count - all->supervisors,
	};

	/* One that unlinked itself may have ended unnoticed. */
	for (const struct child *c = sup->dynamic ? NULL : all->first; c; c = c->next) {
		if (c->state == CHILD_RUNNING && port_is_here(c->key.node) && !mote_alive(c->key))
			counts.active--;
	}
	return answer_with(&counts, sizeof(counts));
}

static int get_childspec(const struct supervisor *sup, const struct mote_msg *m, struct mote_msg **answer)
{
	const char *id = id_in(m);
	const struct spec *spec = NULL;
	struct child *c;

	if (!port_is_here(m->from.node))
		return -EREMOTE;
	if (sup->dynamic && !sup->template)
		return -EOPNOTSUPP;
	if (!id)
		return -EINVAL;
	if (sup->template) {
		spec = sup->template->child.id && !strcmp(sup->template->child.id, id) ? sup->template : NULL;
	} else {
		c = children_find_id(&sup->children, id);
		spec = c ? c->spec : NULL;
	}
	if (!spec)
		return -ENOENT;
	*answer = answer_with(spec, spec->size);
	return *answer ? 0 : -ENOMEM;
}

static int which_child(const struct supervisor *sup, const struct mote_msg *m, struct mote_msg **answer)
{
	const char *id = id_in(m);
	const struct child *c;

	if (sup->dynamic)
		return -EOPNOTSUPP;
	if (!id)
		return -EINVAL;
	c = children_find_id(&sup->children, id);
	if (!c)
		return -ENOENT;
	*answer = which(sup, c);
	return *answer ? 0 : -ENOMEM;
}

static int handle(struct supervisor *sup, const struct mote_msg *m, mote_pid *pid, struct mote_msg **answer)
{
	mote_pid child;
	uint32_t count;

	switch (m->type) {
	case SUPERVISOR_START_CHILD:
		return start_child(sup, m, pid);
	case SUPERVISOR_START_ARG:
		return sup->template ? dynamic_start_arg(sup, m->data, m->size, pid) : -EOPNOTSUPP;
	case SUPERVISOR_TERMINATE_PID:
		if (!sup->dynamic || m->size != sizeof(child))
			return -EOPNOTSUPP;
		memcpy(&child, m->data, sizeof(child));
		return dynamic_terminate(sup, child);
	case SUPERVISOR_TERMINATE_CHILD:
	case SUPERVISOR_RESTART_CHILD:
	case SUPERVISOR_DELETE_CHILD:
		return with_child(sup, m, pid);
	case SUPERVISOR_WHICH_CHILDREN:
		*answer = which(sup, NULL);
		return *answer ? 0 : -ENOMEM;
	case SUPERVISOR_WHICH_CHILD:
		return which_child(sup, m, answer);
	case SUPERVISOR_COUNT_CHILDREN:
		*answer = count_children(sup);
		return *answer ? 0 : -ENOMEM;
	case SUPERVISOR_GET_CHILDSPEC:
		return get_childspec(sup, m, answer);
	case SUPERVISOR_RESIZE:
		if (!sup->children.partitions || m->size != sizeof(count))
			return -EOPNOTSUPP;
		memcpy(&count, m->data, sizeof(count));
		return partition_resize(sup, count);
	}
	return -EOPNOTSUPP;
}

void supervisor_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct supervisor_answer answer = { .pid = MOTE_NOBODY };
	struct mote_msg *long_answer = NULL;

	answer.err = handle(state, m, &answer.pid, &long_answer);
	if (long_answer)
		mote_reply_msg(from, long_answer);
	else
		mote_reply(from, SUPERVISOR_ANSWER, &answer, sizeof(answer));
}
