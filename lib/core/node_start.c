// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * OS processes started as nodes. Each has a keeper, a process here that the caller is linked to, which starts it, waits
 * for its end, and ends it when told to. Written over public calls alone, as any program could.
 *
 * The keeper watches its caller until the node is there, and links to it only then: the link's signal precedes the
 * answer, so the caller that has its answer is linked, and one whose node did not start hears of it once, by
 * mote_errno(). From the moment the OS process exists a deferred cleanup kills it, however the keeper ends.
 */
#include "core/keeper.h"
#include "core/process.h"
#include "io/child.h"

#include <mote/fd.h>
#include <mote/info.h>
#include <mote/node.h>
#include <mote/os.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LETTERS		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
#define STOP_MS		5000
#define PACE_MIN_US	500		/* how often it is looked for while it starts: more and more seldom */
#define PACE_MAX_US	20000
#define CONNECT_MS	200		/* a longer handshake goes on by itself; meanwhile we look whether it died */

/* The request: all that it points to lies in the message itself, which the keeper holds until its end. */
struct order {
	const char **argv, **envp;
	const int *fds;
	int fd[3];
	const char *cwd;
	int stop_signal;
	bool kills;			/* who kills its keeper kills the OS process */
	int64_t stop_ms;
	mote_deadline deadline;
	char name[MOTE_NODE_NAME_MAX + 1];	/* "": it is no node */
};

struct answer {
	mote_node node;
	pid_t pid;
	int err;
};

struct keeper {
	const struct order *order;
	struct mote_from from;
	mote_ref caller;		/* a monitor, until there is the link */
	struct mote_child child;
	mote_pid watcher;
	mote_ref ended;			/* its monitor: it ends when the OS process does */
};

size_t strings_count(const char *const *from, const char *but, size_t *bytes)
{
	size_t n = 0;

	for (; *from; from++) {
		if (but && !strncmp(*from, but, strlen(but)))
			continue;
		*bytes += strlen(*from) + 1;
		n++;
	}
	return n;
}

const char **strings_copy(const char **to, char **text, const char *const *from, const char *but)
{
	for (; *from; from++) {
		if (but && !strncmp(*from, but, strlen(but)))
			continue;
		*to++ = *text;
		*text = stpcpy(*text, *from) + 1;
	}
	return to;
}

static struct mote_msg *order_new(const struct keeper_opts *keep, mote_deadline deadline)
{
	const struct mote_node_start_opts *opts = &keep->start;
	const char *const *envp = opts->envp ? opts->envp : (const char *const *)environ;
	/* Our own name is not for others. */
	const char *but = opts->name || !opts->envp ? "MOTE_NODE=" : NULL;
	size_t bytes = sizeof("MOTE_NODE=") + MOTE_NODE_NAME_MAX + (keep->cwd ? strlen(keep->cwd) + 1 : 0), argc, envc;
	struct mote_msg *m;
	struct order *o;
	char *text;

	argc = strings_count(opts->argv, NULL, &bytes);
	envc = strings_count(envp, but, &bytes);
	m = mote_msg_new(0, sizeof(*o) + (argc + envc + 3) * sizeof(char *) + bytes);
	if (!m)
		return NULL;
	o = m->data;
	*o = (struct order){ .stop_ms = opts->stop_ms ? opts->stop_ms : STOP_MS, .deadline = deadline, .kills = keep->kills,
			     .stop_signal = keep->stop_signal ? keep->stop_signal : SIGTERM };
	if (opts->name)
		strcpy(o->name, opts->name);
	if (opts->fds)
		o->fds = memcpy(o->fd, opts->fds, sizeof(o->fd));
	o->argv = (const char **)(o + 1);
	o->envp = o->argv + argc + 1;
	text = (char *)(o->envp + envc + 2);
	*strings_copy(o->argv, &text, opts->argv, NULL) = NULL;
	if (opts->name) {
		o->envp[0] = text;
		text += sprintf(text, "MOTE_NODE=%s", o->name) + 1;
	}
	*strings_copy(o->envp + (opts->name ? 1 : 0), &text, envp, but) = NULL;
	if (keep->cwd) {
		o->cwd = text;
		strcpy(text, keep->cwd);
	}
	return m;
}

static void child_kill(void *arg)
{
	mote_child_kill(arg, SIGKILL);
}

static void watch_child(void *arg)
{
	mote_fd_wait((int)(intptr_t)arg, MOTE_FD_IN, MOTE_FOREVER);
}

static bool other_has_name(mote_node node, const char *name, int state, void *arg)
{
	const char **wanted = arg;

	(void)node;
	(void)state;
	if (strcmp(name, *wanted))
		return true;
	*wanted = NULL;
	return false;
}

static int64_t name_look(void *arg)
{
	const char *wanted = arg;
	int err = mote_node_each(other_has_name, &wanted);

	return err ? err : wanted ? 0 : -EEXIST;
}

/* 0, and *node; or what came of it. A caller that is gone wants no answer. */
static int keeper_connect(struct keeper *k, mote_node *node)
{
	mote_deadline until = k->order->deadline, next;
	int64_t pace = PACE_MIN_US;
	struct mote_msg *m;
	int err;

	for (;;) {
		next = mote_in_ms(CONNECT_MS);
		*node = mote_node_connect(k->order->name, next.ns < until.ns ? next : until);
		err = node->id ? 0 : mote_errno();
		if (err && err != -ESRCH && err != -ETIMEDOUT)
			return err;
		next = err ? mote_in_us(pace) : MOTE_NOW;
		m = mote_receive_ref(k->ended, next.ns < until.ns ? next : until);
		mote_msg_free(m);
		if (m)
			return -ECHILD;
		if (!err)
			return 0;
		m = mote_receive_ref(k->caller, MOTE_NOW);
		mote_msg_free(m);
		if (m)
			return -ECANCELED;
		if (mote_now().ns >= until.ns)
			return -ETIMEDOUT;
		pace = pace < PACE_MAX_US ? pace * 2 : pace;
	}
}

static int keeper_begin(struct keeper *k, mote_node *node)
{
	const struct order *o = k->order;
	int64_t found = 0;
	int err = 0;

	if (o->name[0])
		err = mote_blocking(name_look, (void *)o->name, &found, MOTE_FOREVER);
	if (!err)
		err = (int)found;
	if (!err)
		err = child_start_in(&k->child, o->argv, o->envp, o->fds, o->cwd);
	if (err)
		return err;
	if (mote_defer(child_kill, &k->child)) {
		child_kill(&k->child);
		return -ENOMEM;
	}
	k->watcher = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = watch_child, .arg = (void *)(intptr_t)k->child.pidfd,
		.flags = MOTE_LINK | MOTE_MONITOR, .ref = &k->ended, .label = "node watcher" });
	if (!mote_pid_valid(k->watcher))
		return mote_errno();
	return o->name[0] ? keeper_connect(k, node) : 0;
}

/* The watcher has ended, and so has the OS process: says how. */
static _Noreturn void keeper_reap(struct keeper *k)
{
	char text[64];
	int status;

	if (mote_child_wait(&k->child, &status, MOTE_FOREVER))
		mote_exit(mote_reason_error(EIO, "the end of the OS process could not be seen"));
	mote_undefer(child_kill, &k->child);
	if (WIFEXITED(status)) {
		if (!WEXITSTATUS(status))
			mote_exit(MOTE_REASON_NORMAL);
		snprintf(text, sizeof(text), "exit status %d", WEXITSTATUS(status));
		mote_exit(mote_reason_error(WEXITSTATUS(status), text));
	}
	snprintf(text, sizeof(text), "signal %d (SIG%s)", WTERMSIG(status),
		 sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
	mote_exit(mote_reason_error(128 + WTERMSIG(status), text));
}

static bool is_kill(const struct mote_msg *m)
{
	const struct mote_exit_info *e = mote_msg_exit(m);

	return e && e->reason.kind == MOTE_KILLED;
}

static bool is_end_or_kill(const struct mote_msg *m, void *arg)
{
	return is_kill(m) || (m->type == MOTE_MSG_DOWN && mote_ref_equal(mote_msg_ref(m), *(mote_ref *)arg));
}

/* Whether the OS process has ended by the deadline; gives up when it is to be killed. */
static bool keeper_wait(struct keeper *k, mote_deadline until)
{
	struct mote_msg *m = k->order->kills ? mote_receive_match(is_end_or_kill, &k->ended, until) :
					       mote_receive_ref(k->ended, until);
	bool ended = m && m->type == MOTE_MSG_DOWN;

	mote_msg_free(m);
	return ended;
}

/* Told to exit: the OS process first, and then for that reason. */
static _Noreturn void keeper_stop(struct keeper *k, const struct mote_reason *why)
{
	bool gently = k->order->stop_ms >= 0 && !(k->order->kills && why->kind == MOTE_KILLED);

	if (gently)
		mote_child_kill(&k->child, k->order->stop_signal);
	if (!gently || !keeper_wait(k, mote_in_ms(k->order->stop_ms))) {
		mote_child_kill(&k->child, SIGKILL);
		mote_msg_free(mote_receive_ref(k->ended, MOTE_FOREVER));
	}
	mote_child_wait(&k->child, NULL, MOTE_FOREVER);
	mote_undefer(child_kill, &k->child);
	mote_exit(*why);
}

static _Noreturn void keeper_keep(struct keeper *k)
{
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct mote_exit_info *e = mote_msg_exit(m);

		if (m->type == MOTE_MSG_DOWN && mote_ref_equal(mote_msg_ref(m), k->ended))
			keeper_reap(k);
		/* The watcher's end comes as DOWN, too, and from nobody but it does normal news mean nothing. */
		if (e && !mote_pid_equal(e->pid, k->watcher))
			keeper_stop(k, &e->reason);
		mote_msg_free(m);
	}
}

static void keeper(void *arg)
{
	struct mote_process_info self = { .size = sizeof(self) };
	struct answer answer = { .err = -ENOMEM };
	/* Not on the stack: the cleanup runs when this function has returned. */
	struct keeper *k = mote_zalloc(sizeof(*k));
	struct mote_msg *m;

	(void)arg;
	mote_process_info(mote_self(), &self);
	if (k)
		k->caller = mote_monitor(self.parent);
	if (!k || !k->caller.id)
		mote_exit(mote_reason_error(ENOMEM, NULL));
	m = mote_receive(MOTE_FOREVER);
	k->from = mote_msg_from(m);
	if (!k->from.ref.id)		/* its caller was gone before it could ask */
		return;
	k->order = m->data;
	answer.err = keeper_begin(k, &answer.node);
	answer.pid = k->child.pid;
	if (!answer.err) {
		mote_trap_exit(true);
		answer.err = mote_link(self.parent);
	}
	mote_reply(k->from, 0, &answer, sizeof(answer));
	if (answer.err)
		return;
	mote_demonitor(k->caller, MOTE_FLUSH);
	keeper_keep(k);
}

static int start_check(const struct mote_node_start_opts *opts)
{
	size_t length;

	if (!opts->argv || !opts->argv[0] || !opts->name || opts->stop_ms < 0)
		return -EINVAL;
	length = strspn(opts->name, LETTERS);
	if (!length || length > MOTE_NODE_NAME_MAX || opts->name[length])
		return -EINVAL;
	return mote_node_self().id ? 0 : -ENETDOWN;
}

/* 0, and what the keeper says; or why there was no keeper to say anything. */
static int start_ask(mote_pid pid, struct mote_msg *order, struct answer *answer)
{
	mote_ref ref = mote_request_msg(pid, order);
	struct mote_msg *m = ref.id ? mote_receive_ref(ref, MOTE_FOREVER) : NULL;
	const struct mote_down_info *down;

	if (!m)
		return mote_errno();
	down = mote_msg_down(m);
	if (!down)
		*answer = *(const struct answer *)m->data;
	else
		answer->err = down->reason.kind == MOTE_ERROR ? -down->reason.code : -ECANCELED;
	mote_msg_free(m);
	return answer->err;
}

static mote_pid start_fail(int err)
{
	struct scheduler *s = runtime_enter("mote_node_start");

	process_fail(process_self(s), err);
	process_leave(s);
	return MOTE_NOBODY;
}

mote_pid keeper_start(const struct keeper_opts *opts, mote_node *node, pid_t *os_pid, mote_deadline deadline)
{
	struct answer answer = { 0 };
	struct mote_msg *order = order_new(opts, deadline);
	mote_pid pid;
	int err;

	if (!order)
		return MOTE_NOBODY;
	pid = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = keeper, .label = "node keeper" });
	if (!mote_pid_valid(pid)) {
		err = mote_errno();
		mote_msg_free(order);
		return start_fail(err);
	}
	err = start_ask(pid, order, &answer);
	if (err) {
		mote_exit_pid(pid, MOTE_REASON_KILL);
		return start_fail(err);
	}
	if (node)
		*node = answer.node;
	if (os_pid)
		*os_pid = answer.pid;
	return pid;
}

mote_pid mote_node_start(const struct mote_node_start_opts *opts, mote_node *node, mote_deadline deadline)
{
	struct keeper_opts keep = { 0 };
	int err = opts_copy(&keep.start, sizeof(keep.start), opts);

	runtime_enter("mote_node_start");	/* a foreign thread ends here */
	runtime_leave();
	if (!err)
		err = start_check(&keep.start);
	return err ? start_fail(err) : keeper_start(&keep, node, NULL, deadline);
}
