// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What the program asks of writers.
 */
#include "core/process.h"
#include "otp/log.h"

#include <errno.h>
#include <string.h>

static int opts_complete(struct mote_log_writer *o)
{
	if (!o->id || (!o->path && o->fd < 0) || (o->level && o->level != MOTE_LOG_NONE && o->level < MOTE_LOG_EMERGENCY) ||
	    o->level > MOTE_LOG_ALL || o->burst_ms < 0 || o->kill_qlen < 0 || o->kill_memory < 0)
		return -EINVAL;
	o->level = o->level ? o->level : MOTE_LOG_ALL;
	o->format = o->format ? o->format : mote_log_format_line;
	o->sync_qlen = o->sync_qlen < 0 ? 0 : o->sync_qlen ? o->sync_qlen : 10;
	o->drop_qlen = o->drop_qlen ? o->drop_qlen : 200;
	o->flush_qlen = o->flush_qlen ? o->flush_qlen : 1000;
	o->burst_max = o->burst_max ? o->burst_max : 500;
	o->burst_ms = o->burst_ms ? o->burst_ms : 1000;
	o->kill_qlen = o->kill_qlen ? o->kill_qlen : 20000;
	o->kill_memory = o->kill_memory ? o->kill_memory : 3000000;
	o->restart_ms = o->restart_ms ? o->restart_ms : 5000;
	/* Otherwise it could be left in drop mode with nothing to handle, and so for ever. */
	return o->drop_qlen > 1 && o->sync_qlen <= o->drop_qlen && o->drop_qlen <= o->flush_qlen ? 0 : -EINVAL;
}

/* An int32_t is the answer. */
static int ask(mote_pid pid, struct mote_msg *m, mote_deadline deadline)
{
	mote_ref ref = mote_request_msg(pid, m);
	int32_t err;

	m = ref.id ? mote_receive_ref(ref, deadline) : NULL;
	if (!m) {
		err = mote_errno();
		if (ref.id)
			mote_demonitor(ref, MOTE_FLUSH);
		return err;
	}
	if (mote_msg_down(m))
		err = -EPIPE;
	else
		memcpy(&err, m->data, sizeof(err));
	mote_msg_free(m);
	return err;
}

int mote_log_writer_add(const struct mote_log_writer *writer)
{
	struct mote_log_writer known;
	int err = opts_copy(&known, sizeof(known), writer);
	struct mote_msg *m;
	mote_pid pid;

	runtime_enter("mote_log_writer_add");	/* a foreign thread ends here */
	runtime_leave();
	if (!err)
		err = opts_complete(&known);
	if (err)
		return err;
	m = log_writer_setup(&known, 0);
	pid = m ? log_writer_spawn() : MOTE_NOBODY;
	if (!mote_pid_valid(pid)) {
		err = mote_errno();
		mote_msg_free(m);
		return err;
	}
	return ask(pid, m, MOTE_FOREVER);
}

void log_writer_stop(mote_pid pid)
{
	struct mote_msg *m = mote_msg_new(LOG_STOP, 0);
	mote_ref ended = mote_monitor(pid);

	if (m)
		ask(pid, m, MOTE_FOREVER);
	if (ended.id)
		mote_msg_free(mote_receive_ref(ended, MOTE_FOREVER));
}

int mote_log_writer_sync(const char *id, mote_deadline deadline)
{
	mote_pid pid = MOTE_NOBODY;
	struct log_hook *h;
	struct mote_msg *m;

	runtime_enter("mote_log_writer_sync");	/* a foreign thread ends here */
	runtime_leave();
	h = log_handler_find(id);
	if (!h)
		return -ENOENT;
	if (h->writer)
		pid = log_writer_pid(h->writer);
	/* Before anything waits. */
	hook_put(&log_hooks, &h->hook);
	if (!mote_pid_valid(pid))
		return -EINVAL;
	m = mote_msg_new(LOG_SYNC, 0);
	return m ? ask(pid, m, deadline) : -ENOMEM;
}
