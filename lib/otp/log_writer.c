// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Writers: handlers with a process that writes. Who logs formats, and sends the line; what protects the writer from
 * too much is OTP's logger_olp: at each line it looks how many wait behind it, and so chooses how the next ones are
 * sent.
 */
#include "core/process.h"
#include "otp/log.h"

#include <mote/fd.h>
#include <mote/file.h>
#include <mote/info.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_SIZE	65536
#define BATCH_CALLS	64
#define SHORT_LINE	512
#define CALL_MS		5000		/* as the following three, logger_olp's own */
#define IDLE_MS		100
#define FLUSH_MAX	5000
#define STOP_POLL_MS	1

/* What those who log look at. Held by its hook and by its process. */
struct log_writer {
	_Atomic int refs;
	_Atomic int mode;			/* enum mote_log_mode */
	_Atomic int64_t queued, queued_bytes;
	_Atomic uint64_t written, failed, dropped, flushed, burst_dropped;
	mote_pid pid;
	struct mote_log_writer opts;		/* id and path are of the setup message */
};

/* The process's own, of its heap. */
struct writer {
	struct log_writer *shared;
	struct log_hook *hook;			/* with a reference */
	int fd;
	bool regular;
	bool counted;
	bool idle;
	bool stopping;
	int last_error;
	int64_t burst_start;
	int burst_count;
	uint64_t burst_told, drop_told;		/* what was reported of the counters */
	int told;				/* and of the mode */
	size_t used;				/* of batch */
	unsigned int lines, calls;
	struct mote_from asking[BATCH_CALLS];	/* who waits until the batch is written */
	char batch[BATCH_SIZE];
};

struct setup {
	struct mote_log_writer opts;
	int64_t delay_ms;
	char strings[];				/* id, path */
};

static void shared_put(void *arg)
{
	struct log_writer *w = arg;

	/* release: the last use; acquire: it is freed after that */
	if (atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) == 1)
		free(w);
}

/* The counters and the mode are looked at one by one: relaxed all of them. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t count(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void log_writer_describe(const struct log_writer *w, struct mote_log_info *info)
{
	int64_t queued = atomic_load_explicit(&w->queued, memory_order_relaxed);

	info->mode = atomic_load_explicit(&w->mode, memory_order_relaxed);
	info->queued = queued > 0 ? (uint64_t)queued : 0;
	info->written = count(&w->written);
	info->failed = count(&w->failed);
	info->dropped = count(&w->dropped);
	info->flushed = count(&w->flushed);
	info->burst_dropped = count(&w->burst_dropped);
	info->pid = w->pid;
}

mote_pid log_writer_pid(const struct log_writer *w)
{
	return w->pid;
}

/* --- by those who log --- */

PROCESS_ENTRY static int call_format(const struct mote_log_writer *opts, const struct mote_log_event *e,
				     char *buf, size_t size)
{
	int n = opts->format(e, buf, size, opts->format_arg);

	PROCESS_ENTRY_END();
	return n;
}

static int format(const struct mote_log_writer *opts, const struct mote_log_event *e, char *buf, size_t size)
{
	int n = call_format(opts, e, buf, size);

	return n >= 0 ? n : mote_log_format_line(e, buf, size, NULL);
}

static struct mote_msg *line_new(const struct mote_log_writer *opts, const struct mote_log_event *e)
{
	char few[SHORT_LINE];
	int n = format(opts, e, few, sizeof(few)), again = n;
	struct mote_msg *m = mote_msg_new(LOG_LINE, n < SHORT_LINE ? (size_t)n : (size_t)n + 1);

	if (!m)
		return NULL;
	if (n < SHORT_LINE) {
		memcpy(m->data, few, (size_t)n);
		return m;
	}
	again = format(opts, e, m->data, (size_t)n + 1);
	m->size = (uint32_t)(again < n ? again : n);
	return m;
}

/* Waits until it is written; whoever has waited long enough goes on, and it is written later. */
static void line_ask(struct log_writer *w, struct mote_msg *m)
{
	mote_ref ref = mote_request_msg(w->pid, m);

	m = ref.id ? mote_receive_ref(ref, mote_in_ms(CALL_MS)) : NULL;
	if (!m && ref.id)
		mote_demonitor(ref, MOTE_FLUSH);
	mote_msg_free(m);
}

/*
 * The mode that the writer has chosen, or a higher one if more wait by now than it has seen: it may not get to run,
 * since its file blocks, or since those who log have the CPU. The writer counts what is behind the one that it has
 * taken.
 */
static int mode_for(struct log_writer *w)
{
	int64_t queued = atomic_load_explicit(&w->queued, memory_order_relaxed);
	int mode = atomic_load_explicit(&w->mode, memory_order_relaxed);
	int least = queued > w->opts.drop_qlen ? MOTE_LOG_DROP : queued > w->opts.sync_qlen ? MOTE_LOG_SYNC : MOTE_LOG_ASYNC;

	if (mode >= least)
		return mode;
	/* Should the writer lower it at the same time, the next one raises it again. */
	atomic_store_explicit(&w->mode, least, memory_order_relaxed);
	return least;
}

static int writer_log(const struct mote_log_event *e, void *arg)
{
	struct log_writer *w = arg;
	int mode = mode_for(w);
	struct mote_msg *m = mode == MOTE_LOG_DROP ? NULL : line_new(&w->opts, e);

	if (!m) {
		add(&w->dropped, 1);
		return 0;
	}
	atomic_fetch_add_explicit(&w->queued, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->queued_bytes, m->size, memory_order_relaxed);
	if (mode == MOTE_LOG_SYNC && mote_in_process())
		line_ask(w, m);
	else
		mote_send_msg(w->pid, m);
	return 0;
}

/* --- by the writer --- */

static void batch_write(struct writer *w)
{
	ssize_t n;

	if (w->used) {
		n = mote_file_write(w->fd, w->batch, w->used, -1, MOTE_FOREVER);
		if (n < 0)
			w->last_error = (int)n;
		add(n < 0 ? &w->shared->failed : &w->shared->written, w->lines);
	}
	w->used = 0;
	w->lines = 0;
	for (unsigned int i = 0; i < w->calls; i++)
		mote_reply(w->asking[i], LOG_LINE, NULL, 0);
	w->calls = 0;
}

static void batch_add(struct writer *w, const char *line, size_t size)
{
	if (w->used + size > BATCH_SIZE)
		batch_write(w);
	if (size > BATCH_SIZE)
		size = BATCH_SIZE;
	memcpy(w->batch + w->used, line, size);
	w->used += size;
	w->lines++;
}

static void asking_add(struct writer *w, struct mote_from from)
{
	if (!from.ref.id)
		return;
	if (w->calls == BATCH_CALLS)
		batch_write(w);
	w->asking[w->calls++] = from;
}

/* What the writer has to say of itself, in its own file, past all filters: logger_h_common's log_handler_info(). */
__attribute__((format(printf, 2, 3)))
static void note(struct writer *w, const char *format_, ...)
{
	char text[256], line[SHORT_LINE];
	struct mote_log_event e = { .level = MOTE_LOG_NOTICE, .time_us = log_time(), .text = text, .pid = w->shared->pid,
				    .fields = &(struct mote_field){ 0 } };
	va_list args;
	int n;

	va_start(args, format_);
	vsnprintf(text, sizeof(text), format_, args);
	va_end(args);
	e.text_size = strlen(text);
	n = format(&w->shared->opts, &e, line, sizeof(line));
	batch_add(w, line, n < SHORT_LINE ? (size_t)n : SHORT_LINE - 1);
}

static void mode_set(struct writer *w, int mode)
{
	static const char *const names[] = { [MOTE_LOG_ASYNC] = "async", [MOTE_LOG_SYNC] = "sync", [MOTE_LOG_DROP] = "drop" };
	struct log_writer *s = w->shared;
	int old = atomic_exchange_explicit(&s->mode, mode, memory_order_relaxed);
	bool dropped = old == MOTE_LOG_DROP || w->told == MOTE_LOG_DROP;
	uint64_t n = count(&s->dropped);

	/* Those who log may have dropped without the writer's having been there. */
	if ((dropped || mode == MOTE_LOG_DROP) && w->told != MOTE_LOG_DROP)
		note(w, "Handler %s switched from %s to drop mode", s->opts.id, names[w->told]);
	if (dropped && mode != MOTE_LOG_DROP) {
		note(w, "Handler %s switched from drop to %s mode, %llu log events dropped", s->opts.id, names[mode],
		     (unsigned long long)(n - w->drop_told));
		w->drop_told = n;
	}
	w->told = mode;
}

static void burst_tell(struct writer *w)
{
	uint64_t dropped = count(&w->shared->burst_dropped);

	if (dropped != w->burst_told)
		note(w, "Handler %s dropped %llu log events of a burst", w->shared->opts.id,
		     (unsigned long long)(dropped - w->burst_told));
	w->burst_told = dropped;
}

static bool burst_allows(struct writer *w)
{
	const struct mote_log_writer *opts = &w->shared->opts;
	int64_t now;

	if (opts->burst_max < 0 || w->burst_count < opts->burst_max) {
		w->burst_count++;
		return true;
	}
	now = mote_now().ns;
	if (now - w->burst_start < opts->burst_ms * INT64_C(1000000))
		return false;
	burst_tell(w);
	w->burst_start = now;
	w->burst_count = 1;
	return true;
}

static void line_taken(struct log_writer *s, const struct mote_msg *m)
{
	atomic_fetch_sub_explicit(&s->queued, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&s->queued_bytes, m->size, memory_order_relaxed);
}

/* The lines only: who asks for something is answered under load, too. */
static void flush(struct writer *w)
{
	uint64_t n = 1;		/* the one at hand */
	struct mote_msg *m;

	while (n <= FLUSH_MAX && (m = mote_receive_type(LOG_LINE, MOTE_NOW))) {
		line_taken(w->shared, m);
		asking_add(w, mote_msg_from(m));
		mote_msg_free(m);
		n++;
	}
	add(&w->shared->flushed, n);
	note(w, "Handler %s flushed %llu log events", w->shared->opts.id, (unsigned long long)n);
	mode_set(w, MOTE_LOG_ASYNC);
}

struct mote_msg *log_writer_setup(const struct mote_log_writer *opts, int64_t delay_ms)
{
	size_t id = strlen(opts->id) + 1, path = opts->path ? strlen(opts->path) + 1 : 0;
	struct mote_msg *m = mote_msg_new(LOG_SETUP, sizeof(struct setup) + id + path);
	struct setup *s;

	if (!m)
		return NULL;
	s = m->data;
	*s = (struct setup){ .opts = *opts, .delay_ms = delay_ms };
	s->opts.id = memcpy(s->strings, opts->id, id);
	if (path)
		s->opts.path = memcpy(s->strings + id, opts->path, path);
	return m;
}

static void log_writer(void *arg);

mote_pid log_writer_spawn(void)
{
	return mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = log_writer, .label = "log writer" });
}

/* Its successor waits before it does anything; nobody logs here meanwhile. */
static _Noreturn void overload_exit(struct writer *w, int64_t queued)
{
	const struct mote_log_writer *opts = &w->shared->opts;
	struct mote_msg *m;
	mote_pid next;
	char why[64];
	int n;

	log_hook_drop(w->hook);
	m = opts->restart_ms < 0 ? NULL : log_writer_setup(opts, opts->restart_ms);
	next = m ? log_writer_spawn() : MOTE_NOBODY;
	if (mote_pid_valid(next))
		mote_send_msg(next, m);
	else
		mote_msg_free(m);
	n = snprintf(why, sizeof(why), "overloaded: %lld queued", (long long)queued);
	mote_exit((struct mote_reason){ .kind = MOTE_SHUTDOWN, .data = why, .size = (size_t)n });
}

/* One line, the rest of the queue behind it: logger_olp's do_load(). */
static void load(struct writer *w, const struct mote_msg *m)
{
	struct log_writer *s = w->shared;
	const struct mote_log_writer *opts = &s->opts;
	int64_t queued;

	w->idle = false;
	line_taken(s, m);
	queued = atomic_load_explicit(&s->queued, memory_order_relaxed);
	if (opts->overload_kill && (queued > opts->kill_qlen ||
				    atomic_load_explicit(&s->queued_bytes, memory_order_relaxed) > opts->kill_memory))
		overload_exit(w, queued);
	asking_add(w, mote_msg_from(m));
	if (queued >= opts->flush_qlen) {
		flush(w);
		return;
	}
	mode_set(w, queued >= opts->drop_qlen ? MOTE_LOG_DROP : queued >= opts->sync_qlen ? MOTE_LOG_SYNC : MOTE_LOG_ASYNC);
	if (burst_allows(w))
		batch_add(w, m->data, m->size);
	else
		add(&s->burst_dropped, 1);
}

static void answer(struct writer *w, struct mote_from from)
{
	int32_t err;

	burst_tell(w);
	batch_write(w);
	if (w->regular) {
		err = mote_file_sync(w->fd, true);
		if (err)
			w->last_error = err;
	}
	err = w->last_error;
	w->last_error = 0;
	mote_reply(from, LOG_SYNC, &err, sizeof(err));
}

/* logger_olp would forget here that everybody shall wait always. */
static int mode_at_rest(const struct mote_log_writer *opts)
{
	return opts->sync_qlen ? MOTE_LOG_ASYNC : MOTE_LOG_SYNC;
}

static void idle(struct writer *w)
{
	w->idle = true;
	mode_set(w, mode_at_rest(&w->shared->opts));
	burst_tell(w);
	w->burst_count = 0;
	batch_write(w);
}

static struct mote_msg *next_message(struct writer *w)
{
	struct mote_msg *m = w->used || w->calls ? mote_receive(MOTE_NOW) : NULL;

	if (m)
		return m;
	batch_write(w);
	return mote_receive(w->stopping ? mote_in_ms(STOP_POLL_MS) : w->idle ? MOTE_FOREVER : mote_in_ms(IDLE_MS));
}

static void writer_run(struct writer *w)
{
	for (;;) {
		struct mote_msg *m = next_message(w);
		struct mote_from from;

		if (!m) {
			idle(w);
			/* seq_cst, both: whoever was counted before has sent what it had to */
			if (w->stopping && process_count() <= atomic_load(&log_writers))
				return;
			continue;
		}
		from = mote_msg_from(m);
		if (m->type == LOG_LINE)
			load(w, m);
		if (m->type == LOG_SYNC || m->type == LOG_STOP)
			answer(w, from);
		if (mote_msg_exit(m))
			w->stopping = runtime_stopping();
		if (m->type == LOG_STOP || (mote_msg_exit(m) && !w->stopping)) {
			idle(w);
			mote_msg_free(m);
			return;
		}
		mote_msg_free(m);
	}
}

static void writer_gone(void *arg)
{
	struct writer *w = arg;

	if (w->hook) {
		log_hook_drop(w->hook);
		hook_put(&log_hooks, &w->hook->hook);
	}
	if (w->shared)
		shared_put(w->shared);
	if (w->counted)
		atomic_fetch_sub(&log_writers, 1);
}

/* No runtime call, which may not return, between what is allocated and its place in w, where writer_gone() finds it. */
static int writer_shared(struct writer *w, const struct setup *setup)
{
	struct log_writer *s = calloc(1, sizeof(*s));
	struct log_hook *h = log_hook_new(setup->opts.id);

	if (s)
		atomic_init(&s->refs, 1);
	w->shared = s;
	w->hook = h;
	if (!s || !h)
		return -ENOMEM;
	s->pid = mote_self();
	s->opts = setup->opts;
	s->opts.id = h->id;
	atomic_init(&s->mode, mode_at_rest(&s->opts));
	atomic_init(&h->level, s->opts.level);
	h->filter_default = s->opts.filter_default;
	h->log = writer_log;
	h->arg = h->writer = s;
	h->removed = shared_put;
	/* relaxed: nobody else has them yet. h's first reference is log_handler_put()'s to take. */
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->hook.refs, 1, memory_order_relaxed);
	return 0;
}

static int writer_open(struct writer *w, const struct setup *setup)
{
	struct stat st;

	w->fd = setup->opts.fd;
	if (setup->opts.path)
		w->fd = mote_file_open(setup->opts.path, O_WRONLY | O_CREAT | O_APPEND, 0666);
	if (w->fd < 0)
		return setup->opts.path ? w->fd : -EBADF;
	if (fstat(w->fd, &st))
		return -errno;
	w->regular = S_ISREG(st.st_mode);
	return 0;
}

static int writer_begin(struct writer *w, const struct setup *setup)
{
	int err = writer_open(w, setup);

	if (!err)
		err = writer_shared(w, setup);
	if (err)
		return err;
	w->burst_start = mote_now().ns;
	w->idle = true;
	w->told = mode_at_rest(&w->shared->opts);
	atomic_fetch_add(&log_writers, 1);
	w->counted = true;
	err = log_handler_put(w->hook);
	/* It was never there, and so nobody will call h->removed. */
	if (err)
		shared_put(w->shared);
	return err;
}

static void log_writer(void *arg)
{
	struct mote_msg *m = mote_receive_type(LOG_SETUP, MOTE_FOREVER);
	const struct setup *setup = m->data;
	struct writer *w = mote_zalloc(sizeof(*w));
	mote_deadline start = mote_in_ms(setup->delay_ms);
	int32_t err = w ? mote_defer(writer_gone, w) : -ENOMEM;

	(void)arg;
	if (setup->delay_ms)
		mote_sleep(start);
	if (!err) {
		mote_trap_exit(true);
		err = writer_begin(w, setup);
	}
	mote_reply(mote_msg_from(m), LOG_SETUP, &err, sizeof(err));
	if (err)
		return;
	if (setup->delay_ms)
		note(w, "Handler %s restarted", w->shared->opts.id);
	writer_run(w);
}
