// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Streams of tasks. All their requests share one reference, so that one wait hears of them all; the tasks that run
 * are kept in the order of their start, which is that of their deadlines, and more or less that of their answers.
 *
 * The tasks are not linked: what a link would do is done here. Their failures are told by their requests, and when
 * the owner ends, a deferred cleanup sends them its reason. So a stream that is left early leaves no EXIT messages
 * behind.
 */
#include "otp/task.h"

#include <errno.h>
#include <string.h>

#define NONE UINT32_MAX
#define COARSE_NS 10000000		/* the clock is no further behind; so no timeout comes early */

struct running {
	mote_pid pid;
	uint64_t position;
	int64_t deadline;
	void *item;
	bool killed;			/* for its timeout */
	uint32_t next, prev;		/* by start, or among the free */
};

struct mote_task_stream {
	struct mote_task_stream_opts o;
	struct mote_task_opts task;
	mote_pid owner;
	mote_ref ref;
	bool drained;			/* no more items */
	bool over;			/* a timeout has ended it */
	uint32_t oldest, newest, free, nr_running;
	uint64_t started, delivered;
	struct mote_task_result *done;	/* ordered ones: a ring of those from `delivered` on, by position */
	uint64_t done_max;		/* a power of two */
	struct running running[];
};

/* Of a result that is not there yet. */
#define PENDING 1

PROCESS_ENTRY static bool enter_next(bool (*next)(void *it, void **item), void *it, void **item)
{
	bool more = next(it, item);

	PROCESS_ENTRY_END();
	return more;
}

/* Whoever ends takes them along, as links would; a normal end, too. */
static void stream_orphan(void *arg)
{
	struct mote_reason why = *process_reason(process_caller());
	struct mote_task_stream *stream = arg;

	if (why.kind == MOTE_NORMAL)
		why = MOTE_REASON_SHUTDOWN;
	for (uint32_t i = stream->oldest; i != NONE; i = stream->running[i].next)
		mote_exit_pid(stream->running[i].pid, why);
}

static int opts_check(const struct mote_task_stream_opts *o)
{
	if (!o->fn || !o->next || o->on_timeout < MOTE_TASK_NOTHING || o->on_timeout > MOTE_TASK_KILL ||
	    o->max_concurrency >= NONE || !stack_class(o->stack_size) || o->item_size > UINT32_MAX - 4096 ||
	    o->shutdown_ms < MOTE_SHUTDOWN_INFINITY)
		return -EINVAL;
	return 0;
}

static int alias_open(mote_ref *ref)
{
	struct scheduler *s = runtime_enter("mote_task_stream");
	int err = ref_new(s, process_self(s), REF_ALIAS | REF_MANY, ref) ? 0 : -ENOMEM;

	process_leave(s);
	return err;
}

struct mote_task_stream *mote_task_stream(const struct mote_task_stream_opts *opts)
{
	struct mote_task_stream_opts o;
	struct mote_task_stream *stream;
	int err = opts ? opts_copy(&o, sizeof(o), opts) : -EINVAL;

	if (!err)
		err = opts_check(&o);
	if (err) {
		process_fail(process_caller(), err);
		return NULL;
	}
	if (!o.max_concurrency)
		o.max_concurrency = schedulers_count();
	if (!o.timeout_ms)
		o.timeout_ms = 5000;
	stream = mote_alloc(sizeof(*stream) + o.max_concurrency * sizeof(stream->running[0]));
	if (!stream)
		return NULL;
	*stream = (struct mote_task_stream){ .o = o, .owner = mote_self(), .oldest = NONE, .newest = NONE };
	stream->task = (struct mote_task_opts){ .fn = o.fn, .arg_size = o.item_size, .stack_size = o.stack_size,
						.shutdown_ms = o.shutdown_ms };
	for (uint32_t i = 0; i < o.max_concurrency; i++) {
		stream->running[i].pid = MOTE_NOBODY;
		stream->running[i].next = i + 1 < o.max_concurrency ? i + 1 : NONE;
	}
	err = alias_open(&stream->ref);
	if (!err && mote_defer(stream_orphan, stream)) {
		mote_unalias(stream->ref);
		err = -ENOMEM;
	}
	if (!err)
		return stream;
	mote_free(stream);
	process_fail(process_caller(), err);
	return NULL;
}

static struct mote_task_result *done_at(struct mote_task_stream *stream, uint64_t position)
{
	return &stream->done[position & (stream->done_max - 1)];
}

/* Room for one more that is not delivered. */
static int done_grow(struct mote_task_stream *stream)
{
	uint64_t max = stream->done_max ? 2 * stream->done_max : 16;
	struct mote_task_result *old = stream->done, *done;

	if (stream->o.unordered || stream->started - stream->delivered < stream->done_max)
		return 0;
	done = mote_alloc(max * sizeof(*done));
	if (!done)
		return -ENOMEM;
	for (uint64_t i = stream->delivered; i < stream->started; i++)
		done[i & (max - 1)] = old[i & (stream->done_max - 1)];
	stream->done = done;
	stream->done_max = max;
	mote_free(old);
	return 0;
}

static struct running *running_add(struct mote_task_stream *stream)
{
	uint32_t i = stream->free;
	struct running *r = &stream->running[i];

	stream->free = r->next;
	r->next = NONE;
	r->prev = stream->newest;
	if (stream->newest != NONE)
		stream->running[stream->newest].next = i;
	else
		stream->oldest = i;
	stream->newest = i;
	stream->nr_running++;
	return r;
}

static void running_remove(struct mote_task_stream *stream, struct running *r)
{
	uint32_t i = (uint32_t)(r - stream->running);

	if (r->prev != NONE)
		stream->running[r->prev].next = r->next;
	else
		stream->oldest = r->next;
	if (r->next != NONE)
		stream->running[r->next].prev = r->prev;
	else
		stream->newest = r->prev;
	r->pid = MOTE_NOBODY;
	r->next = stream->free;
	stream->free = i;
	stream->nr_running--;
}

/* Whom m is of: told by the tag, if it has come back, and else looked for. */
static struct running *running_find(struct mote_task_stream *stream, const struct mote_msg *m)
{
	uint32_t i = stream->oldest, tag;

	if (likely(m->type == MOTE_MSG_TASK_VALUE)) {
		memcpy(&tag, (const char *)m->data + offsetof(struct task_value, tag), sizeof(tag));
		if (tag < stream->o.max_concurrency && mote_pid_equal(stream->running[tag].pid, m->from))
			return &stream->running[tag];
	}
	while (i != NONE && !mote_pid_equal(stream->running[i].pid, m->from))
		i = stream->running[i].next;
	return i == NONE ? NULL : &stream->running[i];
}

/* The caller may end in process_leave(): by then r has the task, for stream_orphan(). */
static int spawn_one(struct mote_task_stream *stream, struct running *r)
{
	struct scheduler *s;
	struct signal *request;
	int err = -ENOMEM;

	if (mote_pid_valid(stream->o.supervisor))
		return task_supervised(stream->o.supervisor, &stream->task, stream->ref, false, &r->pid, MOTE_FOREVER);
	s = runtime_enter("mote_task_stream_next");
	request = task_ask(s, &stream->task);
	if (likely(request)) {
		((struct ask *)request->payload)->tag = (uint32_t)(r - stream->running);
		request->ref = stream->ref.id;
		request->ref_slot = stream->ref.slot;
		err = task_spawn(s, &stream->task, request, 0, false, (void *)stream->o.fn, &r->pid);
	}
	process_leave(s);
	return err;
}

/* Starts a task for one more item. 0; 1: there is none; an error: this one's task could not be had. */
static int start_one(struct mote_task_stream *stream, struct mote_task_result *result)
{
	struct running *r;
	void *item = NULL;
	int err;

	if (done_grow(stream))
		return -ENOMEM;
	if (!enter_next(stream->o.next, stream->o.it, &item)) {
		stream->drained = true;
		return 1;
	}
	stream->task.arg = item;
	r = running_add(stream);
	err = spawn_one(stream, r);
	if (err) {
		running_remove(stream, r);
		*result = (struct mote_task_result){ .item = item, .err = err };
		return err;
	}
	r->item = item;
	r->position = stream->started++;
	r->deadline = INT64_MAX;
	if (stream->o.timeout_ms > 0 && stream->o.timeout_ms < INT64_MAX / 2000000)
		r->deadline = clock_coarse() + COARSE_NS + stream->o.timeout_ms * 1000000;
	r->killed = false;
	if (!stream->o.unordered)
		done_at(stream, r->position)->err = PENDING;
	return 0;
}

static void kill_all(struct mote_task_stream *stream)
{
	for (uint32_t i = stream->oldest; i != NONE; i = stream->running[i].next)
		mote_exit_pid(stream->running[i].pid, MOTE_REASON_KILL);
}

/* Waits until all that run are gone. */
static int bury_all(struct mote_task_stream *stream, mote_deadline deadline)
{
	int err = 0;

	kill_all(stream);
	while (stream->nr_running) {
		struct mote_msg *m = mote_receive_ref(stream->ref, deadline);
		struct running *r = m ? running_find(stream, m) : NULL;

		if (!m)
			err = mote_errno();
		if (r)
			running_remove(stream, r);
		mote_msg_free(m);
		if (!m)
			break;
	}
	return err;
}

/* Those that have run for too long. -ETIMEDOUT: that ends the stream; *result says of which. */
static int expire(struct mote_task_stream *stream, int64_t now, struct mote_task_result *result, mote_deadline deadline)
{
	for (uint32_t i = stream->oldest; i != NONE; i = stream->running[i].next) {
		struct running *r = &stream->running[i];

		if (r->deadline > now)
			break;
		if (stream->o.on_timeout == MOTE_TASK_NOTHING) {
			*result = (struct mote_task_result){ .item = r->item, .err = -ETIMEDOUT };
			stream->over = true;
			bury_all(stream, deadline);
			return -ETIMEDOUT;
		}
		if (!r->killed)
			mote_exit_pid(r->pid, MOTE_REASON_KILL);
		r->killed = true;
	}
	return 0;
}

/* When the next one will have. */
static int64_t next_expiry(const struct mote_task_stream *stream)
{
	uint32_t i = stream->oldest;

	while (i != NONE && stream->running[i].killed)
		i = stream->running[i].next;
	return i == NONE ? INT64_MAX : stream->running[i].deadline;
}

/* What a task has failed of is the owner's to fail of, if they are linked. */
static void fail_with(struct mote_task_stream *stream, const struct mote_task_result *result)
{
	const struct mote_down_info *down = result->m ? mote_msg_down(result->m) : NULL;

	if (down && !stream->o.nolink && !process_caller()->trap_exit && down->reason.kind != MOTE_NORMAL)
		mote_exit(down->reason);
}

static struct mote_msg *receive(mote_ref ref, int64_t deadline)
{
	struct scheduler *s = runtime_enter("mote_task_stream_next");
	struct process *self = process_self(s);
	struct mote_msg *m;

	task_give_way(s, self, ref, deadline);
	m = mailbox_receive_ref(scheduler_self(), self, ref, deadline);
	task_spend_and_leave(scheduler_self());
	return m;
}

/* Takes in what was told of a task. True: *result is for the caller now. */
static bool told(struct mote_task_stream *stream, struct mote_msg *m, struct mote_task_result *result)
{
	struct running *r = running_find(stream, m);
	struct scheduler *s = runtime_enter("mote_task_stream_next");

	*result = (struct mote_task_result){ .err = -EAGAIN };
	task_settle(s, process_self(s), result, m);
	process_leave(s);
	if (!r) {
		mote_msg_free(result->m);
		return false;
	}
	result->item = r->item;
	if (unlikely(r->killed && result->err)) {
		mote_msg_free(result->m);
		result->m = NULL;
		result->err = -ETIMEDOUT;
	}
	running_remove(stream, r);
	fail_with(stream, result);
	if (!stream->o.unordered && r->position != stream->delivered) {
		*done_at(stream, r->position) = *result;
		return false;
	}
	stream->delivered++;
	return true;
}

/* One that waits for its turn, which has come. */
static bool deliver(struct mote_task_stream *stream, struct mote_task_result *result)
{
	if (stream->o.unordered || stream->delivered == stream->started ||
	    done_at(stream, stream->delivered)->err == PENDING)
		return false;
	*result = *done_at(stream, stream->delivered++);
	return true;
}

static int next(struct mote_task_stream *stream, struct mote_task_result *result, mote_deadline deadline)
{
	int64_t now, until;
	struct mote_msg *m;
	int err;

	for (;;) {
		if (deliver(stream, result))
			return 0;
		while (!stream->drained && stream->nr_running < stream->o.max_concurrency) {
			err = start_one(stream, result);
			if (err < 0)
				return err;
		}
		if (!stream->nr_running)
			return -ENOENT;
		until = next_expiry(stream);
		m = receive(stream->ref, until < deadline.ns ? until : deadline.ns);
		if (likely(m)) {
			if (told(stream, m, result))
				return 0;
			continue;
		}
		if (mote_errno() != -ETIMEDOUT)
			return mote_errno();
		now = mote_now().ns;
		err = expire(stream, now, result, deadline);
		if (err)
			return err;
		if (now >= deadline.ns)
			return -EAGAIN;
	}
}

int mote_task_stream_next(struct mote_task_stream *stream, struct mote_task_result *result, mote_deadline deadline)
{
	*result = (struct mote_task_result){ .err = -EAGAIN };
	if (!mote_pid_equal(stream->owner, mote_self()))
		return -EPERM;
	if (stream->over)
		return -ENOENT;
	return next(stream, result, deadline);
}

int mote_task_stream_stop(struct mote_task_stream *stream, mote_deadline deadline)
{
	struct mote_task_result result;
	int err;

	if (!stream)
		return 0;
	if (!mote_pid_equal(stream->owner, mote_self()))
		return -EPERM;
	err = bury_all(stream, deadline);
	mote_demonitor(stream->ref, MOTE_FLUSH);
	while (deliver(stream, &result))
		mote_msg_free(result.m);
	for (uint64_t i = stream->delivered; !stream->o.unordered && i < stream->started; i++)
		if (done_at(stream, i)->err != PENDING)
			mote_msg_free(done_at(stream, i)->m);
	mote_undefer(stream_orphan, stream);
	mote_free(stream->done);
	mote_free(stream);
	return err;
}
