// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What anybody may ask of supervisors. Answers may come from another node: they are looked at before they are believed.
 */
#include "core/process.h"
#include "otp/supervisor.h"

#include <errno.h>
#include <string.h>

int supervisor_ask(mote_pid supervisor, uint32_t type, const void *data, size_t size, mote_pid *pid,
		   struct mote_msg **answer, mote_deadline deadline)
{
	const struct supervisor_answer *head;
	struct mote_msg *m;
	int err = mote_call(supervisor, type, data, size, &m, deadline);

	if (pid)
		*pid = MOTE_NOBODY;
	if (err)
		return err;
	head = m->data;
	if (m->type != SUPERVISOR_ANSWER || m->size < sizeof(*head)) {
		mote_msg_free(m);
		return -EOPNOTSUPP;
	}
	err = head->err;
	if (pid)
		*pid = head->pid;
	if (!err && answer)
		*answer = m;
	else
		mote_msg_free(m);
	return err;
}

static bool elsewhere(mote_pid pid)
{
	return mote_pid_valid(pid) && !port_is_here(pid.node);
}

int supervisor_ask_start(mote_pid supervisor, const struct mote_child_spec *spec, bool dynamic, mote_pid *pid,
			 mote_deadline deadline)
{
	struct spec *copy;
	int err;

	if (pid)
		*pid = MOTE_NOBODY;
	if (elsewhere(supervisor))
		return -EREMOTE;
	err = spec ? spec_check(spec, -1, dynamic) : -EINVAL;
	if (err)
		return err;
	copy = spec_new(spec, NULL, 0);
	if (!copy)
		return -ENOMEM;
	err = supervisor_ask(supervisor, SUPERVISOR_START_CHILD, copy, copy->size, pid, NULL, deadline);
	spec_put(copy);
	return err;
}

int mote_supervisor_start_child(mote_pid supervisor, const struct mote_child_spec *spec, mote_pid *pid,
				mote_deadline deadline)
{
	return supervisor_ask_start(supervisor, spec, false, pid, deadline);
}

static int ask_id(mote_pid supervisor, uint32_t type, const char *id, mote_pid *pid, struct mote_msg **answer,
		  mote_deadline deadline)
{
	if (!id)
		return -EINVAL;
	return supervisor_ask(supervisor, type, id, strlen(id) + 1, pid, answer, deadline);
}

int mote_supervisor_terminate_child(mote_pid supervisor, const char *id, mote_deadline deadline)
{
	return ask_id(supervisor, SUPERVISOR_TERMINATE_CHILD, id, NULL, NULL, deadline);
}

int mote_supervisor_restart_child(mote_pid supervisor, const char *id, mote_pid *pid, mote_deadline deadline)
{
	return ask_id(supervisor, SUPERVISOR_RESTART_CHILD, id, pid, NULL, deadline);
}

int mote_supervisor_delete_child(mote_pid supervisor, const char *id, mote_deadline deadline)
{
	return ask_id(supervisor, SUPERVISOR_DELETE_CHILD, id, NULL, NULL, deadline);
}

/* One entry at `at`; moves on. False: there is none. */
static bool entry_read(const char **at, const char *end, struct mote_child_info *info, const char **id,
		       uint32_t *id_size)
{
	struct supervisor_entry e;

	if ((size_t)(end - *at) < sizeof(e))
		return false;
	memcpy(&e, *at, sizeof(e));
	*at += sizeof(e);
	if ((size_t)(end - *at) < e.id_size || (e.id_size && (*at)[e.id_size - 1]))
		return false;
	*info = (struct mote_child_info){ .pid = e.pid, .type = e.type, .restarting = e.restarting };
	*id = *at;
	*id_size = e.id_size;
	*at += e.id_size;
	return true;
}

int mote_supervisor_which_children(mote_pid supervisor, struct mote_child_info **children, mote_deadline deadline)
{
	const struct supervisor_answer *head;
	struct mote_child_info *all;
	struct mote_msg *m;
	const char *at, *end, *id;
	uint32_t id_size, n;
	char *ids;
	int err;

	if (!children)
		return -EINVAL;
	*children = NULL;
	err = supervisor_ask(supervisor, SUPERVISOR_WHICH_CHILDREN, NULL, 0, NULL, &m, deadline);
	if (err)
		return err;
	head = m->data;
	n = head->count;
	at = (const char *)(head + 1);
	end = (const char *)m->data + m->size;
	/* The ids lie behind the array: they take less than the answer does. */
	all = n > m->size || n > INT32_MAX ? NULL : mote_alloc(n * sizeof(*all) + m->size);
	if (!all) {
		err = n > m->size || n > INT32_MAX ? -EPROTO : -ENOMEM;
		mote_msg_free(m);
		return err;
	}
	ids = (char *)(all + n);
	for (uint32_t i = 0; i < n; i++) {
		if (!entry_read(&at, end, &all[i], &id, &id_size)) {
			mote_free(all);
			mote_msg_free(m);
			return -EPROTO;
		}
		if (id_size)
			all[i].id = memcpy(ids, id, id_size);
		ids += id_size;
	}
	mote_msg_free(m);
	*children = all;
	return (int)n;
}

int mote_supervisor_which_child(mote_pid supervisor, const char *id, struct mote_child_info *info,
				mote_deadline deadline)
{
	const char *at, *end, *its_id;
	struct mote_msg *m;
	uint32_t id_size;
	int err;

	if (!info)
		return -EINVAL;
	err = ask_id(supervisor, SUPERVISOR_WHICH_CHILD, id, NULL, &m, deadline);
	if (err)
		return err;
	at = (const char *)m->data + sizeof(struct supervisor_answer);
	end = (const char *)m->data + m->size;
	if (!entry_read(&at, end, info, &its_id, &id_size))
		err = -EPROTO;
	mote_msg_free(m);
	return err;
}

int mote_supervisor_count_children(mote_pid supervisor, struct mote_child_counts *counts, mote_deadline deadline)
{
	struct mote_child_counts known;
	struct mote_msg *m;
	int err;

	if (!counts || counts->size < sizeof(size_t))
		return -EINVAL;
	err = supervisor_ask(supervisor, SUPERVISOR_COUNT_CHILDREN, NULL, 0, NULL, &m, deadline);
	if (err)
		return err;
	if (m->size == sizeof(struct supervisor_answer) + sizeof(known)) {
		memcpy(&known, (const struct supervisor_answer *)m->data + 1, sizeof(known));
		opts_give(counts, counts->size, &known, sizeof(known));
	} else {
		err = -EPROTO;
	}
	mote_msg_free(m);
	return err;
}

int mote_supervisor_get_childspec(mote_pid supervisor, const char *id, struct mote_child_spec **spec,
				  mote_deadline deadline)
{
	struct spec *copy;
	struct mote_msg *m;
	size_t size;
	int err;

	if (!spec)
		return -EINVAL;
	*spec = NULL;
	if (elsewhere(supervisor))
		return -EREMOTE;
	err = ask_id(supervisor, SUPERVISOR_GET_CHILDSPEC, id, NULL, &m, deadline);
	if (err)
		return err;
	size = m->size - sizeof(struct supervisor_answer);
	copy = mote_alloc(size);
	if (copy) {
		memcpy(copy, (const struct supervisor_answer *)m->data + 1, size);
		spec_settle(copy);
		*spec = &copy->child;
	}
	mote_msg_free(m);
	return copy ? 0 : -ENOMEM;
}

int mote_supervisor_check_childspecs(const struct mote_child_spec *specs, size_t n, int auto_shutdown)
{
	if ((n && !specs) || auto_shutdown < -1 || auto_shutdown > MOTE_AUTO_ALL_SIGNIFICANT)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int err = spec_check(&specs[i], auto_shutdown, false);

		if (err)
			return err;
		for (size_t j = 0; j < i; j++) {
			if (!strcmp(spec_id(&specs[i]), spec_id(&specs[j])))
				return -ENOTUNIQ;
		}
	}
	return 0;
}
