// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Programs under supervision. Three processes serve one: the caller's child, the keeper of this file; below it core's
 * keeper, which starts the OS process and waits for it (core/keeper.h); and a reader, which turns what is printed
 * into events of the log. A reader that crashes, for a handler of the log did, is replaced: the pipes are the
 * keeper's, readers have copies.
 */
#include "core/keeper.h"
#include "core/process.h"
#include "otp/log.h"

#include <mote/fd.h>
#include <mote/info.h>
#include <mote/os.h>
#include <mote/program.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LINE_MAX_	65536
#define LINE_DEFAULT	4096
#define START_MS	10000
#define STREAMS		2
#define LETTERS		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

enum program_message {
	PROGRAM_ORDER = 0x3fff0b00,	/* request to the keeper: struct order; answered with an int32_t */
	PROGRAM_READ,			/* to a reader: struct reading */
	PROGRAM_PID,			/* to a reader: the OS pid, if that was not known */
};

/* All that it points to lies in the message itself, which the keeper holds until its end. */
struct order {
	const char **argv, **envp;
	const char *cwd, *node, *label;
	int stop_signal;
	int levels[STREAMS];		/* MOTE_LOG_NONE: that stream goes to /dev/null */
	size_t line_max;
	int64_t stop_ms, start_ms;
};

struct reading {
	int fds[STREAMS];		/* -1: none; given to the reader, as is `finish` */
	int finish;			/* readable: the program has ended; read what is there, and end */
	int levels[STREAMS];
	size_t line_max;
	pid_t os_pid;
	char label[];
};

struct keeper {
	const struct order *order;
	mote_ref caller;
	int read[STREAMS], write[STREAMS], finish;
	int raw;			/* a descriptor that nobody owns yet */
	mote_pid inner, reader;
	pid_t os_pid;
};

/* --- the reader --- */

struct stream {
	int fd;
	int level;
	bool open;
	size_t used;
	char *line;
};

struct reader {
	struct stream streams[STREAMS];
	const struct reading *reading;
	pid_t os_pid;
	int epoll;
};

static void line_log(const struct reader *r, const struct stream *s, const char *text, size_t size)
{
	const struct mote_field fields[] = {
		mote_field_text("program", r->reading->label), mote_field_text("stream", s == r->streams ? "stdout" : "stderr"),
		mote_field_int("os_pid", r->os_pid), { 0 }
	};

	log_event(s->level, MOTE_LOG_PROGRAM, NULL, fields, text, size);
}

/* Logs the lines that are complete, and keeps the rest; one that fills the whole buffer is complete. */
static void lines_log(struct reader *r, struct stream *s, size_t fresh)
{
	size_t begin = 0, seen = s->used - fresh;
	const char *end;

	while ((end = memchr(s->line + seen, '\n', s->used - seen))) {
		size_t next = (size_t)(end - s->line) + 1;

		line_log(r, s, s->line + begin, next - 1 - begin);
		begin = seen = next;
	}
	if (!begin && s->used == r->reading->line_max) {
		line_log(r, s, s->line, s->used);
		begin = s->used;
	}
	memmove(s->line, s->line + begin, s->used - begin);
	s->used -= begin;
}

/*
 * Until it would block, or `most` bytes. No runtime call, where an exit signal might act, between a read and its
 * count.
 */
static void stream_read(struct reader *r, struct stream *s, size_t most)
{
	while (s->open && most) {
		ssize_t n = read(s->fd, s->line + s->used, r->reading->line_max - s->used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			s->open = false;
			epoll_ctl(r->epoll, EPOLL_CTL_DEL, s->fd, NULL);
			return;
		}
		s->used += (size_t)n;
		most -= (size_t)n < most ? (size_t)n : most;
		lines_log(r, s, (size_t)n);
		mote_check();
	}
}

static void stream_end(const struct reader *r, struct stream *s)
{
	if (s->used)
		line_log(r, s, s->line, s->used);
	s->used = 0;
}

static void pid_learn(struct reader *r)
{
	struct mote_msg *m = r->os_pid ? NULL : mote_receive_type(PROGRAM_PID, MOTE_NOW);

	if (m)
		memcpy(&r->os_pid, m->data, sizeof(r->os_pid));
	mote_msg_free(m);
}

static bool epoll_add(int epoll, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
}

static bool reader_open(struct reader *r)
{
	const struct reading *o = r->reading;

	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (r->epoll < 0 || mote_fd_adopt(r->epoll) || !epoll_add(r->epoll, o->finish))
		return false;
	for (int i = 0; i < STREAMS; i++) {
		struct stream *s = &r->streams[i];

		s->fd = o->fds[i];
		s->level = o->levels[i];
		s->open = s->fd >= 0;
		s->line = s->open ? mote_alloc(o->line_max) : NULL;
		if (s->open && (!s->line || !epoll_add(r->epoll, s->fd)))
			return false;
	}
	return true;
}

static bool is_readable(int fd)
{
	return mote_fd_wait(fd, MOTE_FD_IN, MOTE_NOW) > 0;
}

static bool is_reading(const struct mote_msg *m, void *unused)
{
	(void)unused;
	return m->type == PROGRAM_READ && port_is_here(m->from.node);
}

/*
 * When the program has ended, what it has printed is in the pipes, and no more than they hold: what comes later is of
 * others that have them still.
 */
static void reader(void *arg)
{
	struct mote_msg *m = mote_receive_match(is_reading, NULL, MOTE_FOREVER);
	struct reader r = { .reading = m->data };
	bool finish = false;

	(void)arg;
	r.os_pid = r.reading->os_pid;
	if (!reader_open(&r))
		mote_exit(mote_reason_error(ENOMEM, "no reader"));
	while (!finish && (r.streams[0].open || r.streams[1].open)) {
		mote_fd_wait(r.epoll, MOTE_FD_IN, MOTE_FOREVER);
		pid_learn(&r);
		finish = is_readable(r.reading->finish);
		for (int i = 0; i < STREAMS; i++) {
			struct stream *s = &r.streams[i];
			int room = finish && s->open ? fcntl(s->fd, F_GETPIPE_SZ) : LINE_MAX_;

			stream_read(&r, s, room > 0 ? (size_t)room : LINE_MAX_);
			if (finish || !s->open)
				stream_end(&r, s);
		}
	}
}

/* --- the keeper --- */

static void raw_close(void *arg)
{
	struct keeper *k = arg;

	if (k->raw >= 0)
		close(k->raw);
}

/* A descriptor that is in k->raw becomes the keeper's: whatever happens, it is closed. */
static int raw_adopt(struct keeper *k)
{
	int fd = k->raw, err;

	k->raw = -1;
	err = mote_fd_adopt(fd);
	if (err)
		close(fd);
	return err ? err : fd;
}

static int pipe_open(struct keeper *k, int i)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	/* Ours only: the program sees the other end, which is another open file. */
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	k->raw = ends[1];
	k->read[i] = mote_fd_adopt(ends[0]) ? -1 : ends[0];
	if (k->read[i] < 0)
		close(ends[0]);
	k->write[i] = raw_adopt(k);
	return k->read[i] < 0 || k->write[i] < 0 ? -ENOMEM : 0;
}

static int pipes_open(struct keeper *k)
{
	int err = 0;

	for (int i = 0; i < STREAMS && !err; i++) {
		if (k->order->levels[i] != MOTE_LOG_NONE)
			err = pipe_open(k, i);
	}
	k->raw = err ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!err && k->raw < 0)
		err = -errno;
	if (!err)
		k->finish = raw_adopt(k);
	return err ? err : k->finish < 0 ? k->finish : 0;
}

static int copy_for(struct keeper *k, int fd, mote_pid to)
{
	int copy;

	if (fd < 0)
		return -1;
	k->raw = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	copy = k->raw < 0 ? -1 : raw_adopt(k);
	if (copy >= 0 && mote_fd_give(copy, to)) {
		mote_fd_close(copy);
		copy = -1;
	}
	return copy;
}

static int reader_start(struct keeper *k)
{
	const struct order *o = k->order;
	struct reading *r;
	struct mote_msg *m;

	k->reader = MOTE_NOBODY;
	if (k->read[0] < 0 && k->read[1] < 0)
		return 0;
	m = mote_msg_new(PROGRAM_READ, sizeof(*r) + strlen(o->label) + 1);
	if (!m)
		return -ENOMEM;
	k->reader = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = reader, .flags = MOTE_LINK, .label = "program reader" });
	if (!mote_pid_valid(k->reader)) {
		mote_msg_free(m);
		return mote_errno();
	}
	r = m->data;
	*r = (struct reading){ .levels = { o->levels[0], o->levels[1] }, .line_max = o->line_max, .os_pid = k->os_pid };
	strcpy(r->label, o->label);
	for (int i = 0; i < STREAMS; i++)
		r->fds[i] = copy_for(k, k->read[i], k->reader);
	r->finish = copy_for(k, k->finish, k->reader);
	return mote_send_msg(k->reader, m);
}

static void close_ours(int *fd)
{
	if (*fd >= 0)
		mote_fd_close(*fd);
	*fd = -1;
}

static int keeper_begin(struct keeper *k)
{
	const struct order *o = k->order;
	/* Its input is empty. */
	int fds[3] = { -1, -1, -1 };
	struct keeper_opts opts = { .start = { .argv = o->argv, .envp = o->envp, .name = o->node, .stop_ms = o->stop_ms,
					       .fds = fds },
				    .cwd = o->cwd, .stop_signal = o->stop_signal, .kills = true };
	int err = pipes_open(k);

	if (err)
		return err;
	fds[1] = k->write[0];
	fds[2] = k->write[1];
	/* A node may print more than a pipe holds before it connects. */
	if (o->node)
		err = reader_start(k);
	if (err)
		return err;
	k->inner = keeper_start(&opts, NULL, &k->os_pid, o->node ? mote_in_ms(o->start_ms) : MOTE_FOREVER);
	if (!mote_pid_valid(k->inner))
		return mote_errno();
	for (int i = 0; i < STREAMS; i++)
		close_ours(&k->write[i]);
	if (!o->node)
		return reader_start(k);
	if (mote_pid_valid(k->reader))
		mote_send(k->reader, PROGRAM_PID, &k->os_pid, sizeof(k->os_pid));
	return 0;
}

static bool is_reader_exit(const struct mote_msg *m, void *arg)
{
	const struct mote_exit_info *e = mote_msg_exit(m);

	return e && mote_pid_equal(e->pid, *(mote_pid *)arg);
}

/* One that ended itself has read to the end. */
static void reader_ended(struct keeper *k, const struct mote_reason *why)
{
	k->reader = MOTE_NOBODY;
	if (why->kind != MOTE_NORMAL && reader_start(k))
		mote_log(MOTE_LOG_WARNING, "program %s: what it prints is lost: no memory for a reader", k->order->label);
}

/* The program has ended: so does the keeper, when all is logged. */
static _Noreturn void keeper_end(struct keeper *k, const struct mote_reason *why)
{
	uint64_t one = 1;

	while (write(k->finish, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	while (mote_pid_valid(k->reader)) {
		struct mote_msg *m = mote_receive_match(is_reader_exit, &k->reader, MOTE_FOREVER);

		reader_ended(k, &mote_msg_exit(m)->reason);
		mote_msg_free(m);
	}
	mote_exit(*why);
}

static _Noreturn void keeper_keep(struct keeper *k)
{
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct mote_exit_info *e = mote_msg_exit(m);

		if (e && mote_pid_equal(e->pid, k->inner))
			keeper_end(k, &e->reason);
		else if (e && mote_pid_equal(e->pid, k->reader))
			reader_ended(k, &e->reason);
		else if (e)
			mote_exit_pid(k->inner, e->reason);	/* which then ends for that reason */
		mote_msg_free(m);
	}
}

/* Orders hold addresses: those of another node are none. */
static bool is_order_or_end(const struct mote_msg *m, void *arg)
{
	if (mote_msg_down(m))
		return mote_ref_equal(mote_msg_ref(m), *(mote_ref *)arg);
	return m->type == PROGRAM_ORDER && port_is_here(m->from.node) && mote_msg_from(m).ref.id;
}

static void program_keeper(void *arg)
{
	struct mote_process_info self = { .size = sizeof(self) };
	/* Not on the stack: the cleanup runs when this function has returned. */
	struct keeper *k = mote_alloc(sizeof(*k));
	struct mote_from from;
	struct mote_msg *m;
	int32_t err = -ENOMEM;

	(void)arg;
	mote_process_info(mote_self(), &self);
	if (k) {
		*k = (struct keeper){ .read = { -1, -1 }, .write = { -1, -1 }, .finish = -1, .raw = -1 };
		k->caller = mote_monitor(self.parent);
	}
	if (!k || !k->caller.id || mote_defer(raw_close, k))
		mote_exit(mote_reason_error(ENOMEM, NULL));
	m = mote_receive_match(is_order_or_end, &k->caller, MOTE_FOREVER);
	from = mote_msg_from(m);
	if (!from.ref.id)		/* its caller was gone before it could ask */
		return;
	k->order = m->data;
	mote_trap_exit(true);
	err = keeper_begin(k);
	/* The link's signal precedes the answer. Nobody there: an EXIT of it ends the program. */
	if (!err)
		err = mote_link(self.parent);
	mote_reply(from, PROGRAM_ORDER, &err, sizeof(err));
	if (err)
		return;
	mote_demonitor(k->caller, MOTE_FLUSH);
	keeper_keep(k);
}

/* --- the caller --- */

static bool level_valid(int level)
{
	return level == MOTE_LOG_NONE || (level >= 0 && level <= MOTE_LOG_DEBUG);
}

static int program_check(const struct mote_program *p)
{
	size_t length;

	if (!p->argv || !p->argv[0] || p->stop_signal < 0 || p->stop_signal > 64 || !level_valid(p->stdout_level) ||
	    !level_valid(p->stderr_level) || p->line_max > LINE_MAX_ || p->start_ms < 0)
		return -EINVAL;
	if (!p->node)
		return 0;
	length = strspn(p->node, LETTERS);
	if (!length || length > MOTE_NODE_NAME_MAX || p->node[length])
		return -EINVAL;
	return mote_node_self().id ? 0 : -ENETDOWN;
}

static const char *text_copy(char **text, const char *from)
{
	const char *copy = *text;

	if (!from)
		return NULL;
	*text = stpcpy(*text, from) + 1;
	return copy;
}

static struct mote_msg *order_new(const struct mote_program *p)
{
	const char *const label[] = { p->label ? p->label : p->argv[0], p->cwd ? p->cwd : "", p->node ? p->node : "", NULL };
	size_t bytes = 0, argc = strings_count(p->argv, NULL, &bytes), envc = 0;
	struct mote_msg *m;
	struct order *o;
	char *text;

	if (p->envp)
		envc = strings_count(p->envp, NULL, &bytes);
	strings_count(label, NULL, &bytes);
	m = mote_msg_new(PROGRAM_ORDER, sizeof(*o) + (argc + envc + 2) * sizeof(char *) + bytes);
	if (!m)
		return NULL;
	o = m->data;
	*o = (struct order){
		.stop_signal = p->stop_signal, .stop_ms = p->stop_ms,
		.levels = { p->stdout_level ? p->stdout_level : MOTE_LOG_INFO,
			    p->stderr_level ? p->stderr_level : MOTE_LOG_NOTICE },
		.line_max = p->line_max ? p->line_max : LINE_DEFAULT, .start_ms = p->start_ms ? p->start_ms : START_MS };
	o->argv = (const char **)(o + 1);
	text = (char *)(o->argv + argc + envc + 2);
	*strings_copy(o->argv, &text, p->argv, NULL) = NULL;
	if (p->envp) {
		o->envp = o->argv + argc + 1;
		*strings_copy(o->envp, &text, p->envp, NULL) = NULL;
	}
	o->label = text_copy(&text, label[0]);
	o->cwd = text_copy(&text, p->cwd);
	o->node = text_copy(&text, p->node);
	return m;
}

int mote_program_start_link(const struct mote_program *program, mote_pid *keeper)
{
	struct mote_program known;
	int err = opts_copy(&known, sizeof(known), program);
	const struct mote_down_info *down;
	struct mote_msg *m;
	mote_pid pid;
	mote_ref ref;
	int32_t answer;

	runtime_enter("mote_program_start_link");	/* a foreign thread ends here */
	runtime_leave();
	*keeper = MOTE_NOBODY;
	if (!err)
		err = program_check(&known);
	if (err)
		return err;
	m = order_new(&known);
	if (!m)
		return -ENOMEM;
	pid = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = program_keeper, .label = "program keeper" });
	if (!mote_pid_valid(pid)) {
		err = mote_errno();
		mote_msg_free(m);
		return err;
	}
	ref = mote_request_msg(pid, m);
	m = ref.id ? mote_receive_ref(ref, MOTE_FOREVER) : NULL;
	if (!m) {
		err = mote_errno();
		mote_exit_pid(pid, MOTE_REASON_KILL);
		return err;
	}
	down = mote_msg_down(m);
	if (down)
		err = down->reason.kind == MOTE_ERROR ? -down->reason.code : -ECANCELED;
	else
		err = memcpy(&answer, m->data, sizeof(answer)) ? answer : 0;
	mote_msg_free(m);
	if (!err)
		*keeper = pid;
	return err;
}
