// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * POSIX signals as messages. A handler writes what it is told into a pipe; a process of the runtime's own reads the pipe
 * and sends to all who asked. The pipe lives as long as the runtime, so the handler never writes to a stranger.
 */
#include "core/process.h"

#include <mote/fd.h>
#include <mote/info.h>
#include <mote/os.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIGNALS 65
#define RETRY_MS 1

struct asker {
	struct asker *next;
	mote_pid pid;
	uint64_t told;			/* the last of the dispatcher's rounds that it was told in */
};

static struct lock askers_lock;			/* askers, dispatcher, old_actions */
static struct asker *askers[SIGNALS];
static struct sigaction old_actions[SIGNALS];
static mote_pid dispatcher;
static _Atomic int pipe_in = -1;
static int pipe_out = -1;

/* Async-signal-safe. A full pipe loses the signal, as a pending one swallows its like. */
static void handler(int signo, siginfo_t *info, void *context)
{
	struct mote_os_signal sig = { signo, info->si_pid, info->si_uid, info->si_value.sival_int };
	int saved = errno, fd = atomic_load_explicit(&pipe_in, memory_order_relaxed);

	(void)context;
	if (fd >= 0 && write(fd, &sig, sizeof(sig)) < 0)
		errno = saved;
	errno = saved;
}

/* Tells those who have not been told in this round. False: there was no memory for some. */
static bool dispatch(const struct mote_os_signal *os, uint64_t round)
{
	struct scheduler *s = runtime_enter("os_signal");
	bool all = true;
	struct asker *a;

	lock_take(&askers_lock);
	for (a = os->signo > 0 && os->signo < SIGNALS ? askers[os->signo] : NULL; a; a = a->next) {
		struct signal *sig;

		if (a->told == round || !process_lookup(a->pid))
			continue;
		sig = signal_new(s, SIGNAL_MESSAGE, sizeof(*os));
		if (!sig) {
			all = false;
			continue;
		}
		a->told = round;
		memcpy(sig->payload, os, sizeof(*os));
		sig->to = a->pid.serial;
		sig->msg.from = MOTE_NOBODY;
		sig->msg.type = MOTE_MSG_OS_SIGNAL;
		signal_send(s, sig, a->pid.slot, false);
	}
	lock_drop(&askers_lock);
	runtime_leave();
	return all;
}

static void dispatcher_main(void *arg)
{
	struct mote_os_signal batch[16];
	static uint64_t round;		/* never again the same, whoever dispatches */

	(void)arg;
	while (mote_fd_wait(pipe_out, MOTE_FD_IN, MOTE_FOREVER) >= 0) {
		ssize_t n = read(pipe_out, batch, sizeof(batch));

		for (size_t i = 0; n > 0 && i < (size_t)n / sizeof(batch[0]); i++)
			for (round++; !dispatch(&batch[i], round);)
				mote_sleep(mote_in_ms(RETRY_MS));
	}
}

static int pipe_open(void)
{
	int fds[2];

	if (pipe_out >= 0)
		return 0;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	pipe_out = fds[0];
	/* release: a handler that sees the number may use it */
	atomic_store_explicit(&pipe_in, fds[1], memory_order_release);
	return 0;
}

static bool forbidden(int signo)
{
	switch (signo) {
	case SIGKILL: case SIGSTOP: case SIGSEGV: case SIGBUS: case SIGFPE: case SIGILL: case SIGABRT:
	case SIGURG:		/* async_kill.c's */
		return true;
	}
	/* 32 and 33 are the C library's own. */
	return signo <= 0 || signo >= SIGNALS || (signo > 31 && signo < SIGRTMIN);
}

static struct asker **asker_find(int signo, mote_pid pid)
{
	struct asker **at = &askers[signo];

	while (*at && !mote_pid_equal((*at)->pid, pid))
		at = &(*at)->next;
	return at;
}

static int asker_add(int signo, mote_pid pid)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
	struct asker **at = asker_find(signo, pid), *a;
	bool first = !askers[signo];

	if (*at)
		return 0;
	a = malloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = (struct asker){ .pid = pid };
	*at = a;
	if (first && sigaction(signo, &action, &old_actions[signo])) {
		*at = NULL;
		free(a);
		return -errno;
	}
	return 0;
}

static void asker_remove(int signo, mote_pid pid)
{
	struct asker **at = asker_find(signo, pid), *a = *at;

	if (!a)
		return;
	*at = a->next;
	free(a);
	if (!askers[signo])
		sigaction(signo, &old_actions[signo], NULL);
}

int mote_os_signal(int signo, bool deliver)
{
	struct scheduler *s = runtime_enter("mote_os_signal");
	struct process *self = process_self(s);
	struct mote_spawn_opts opts = { .size = sizeof(opts), .fn = dispatcher_main, .label = "mote.signals" };
	struct extra *extra = process_extra(self);
	int err = forbidden(signo) ? -EINVAL : extra ? 0 : -ENOMEM;

	lock_take(&askers_lock);
	if (!err && deliver)
		err = pipe_open();
	if (!err && deliver) {
		extra->os_signals = true;
		err = asker_add(signo, process_pid(self));
	} else if (!err) {
		asker_remove(signo, process_pid(self));
	}
	if (!err && deliver && !mote_alive(dispatcher)) {
		dispatcher = process_spawn(s, &opts, __builtin_return_address(0));
		if (!mote_pid_valid(dispatcher)) {
			err = self->err;
			asker_remove(signo, process_pid(self));
		}
	}
	lock_drop(&askers_lock);
	process_leave(s);
	return err;
}

void os_signals_end(struct process *p)
{
	lock_take(&askers_lock);
	for (int signo = 1; signo < SIGNALS; signo++)
		asker_remove(signo, process_pid(p));
	lock_drop(&askers_lock);
}

void os_signals_forget(void)
{
	for (int signo = 1; signo < SIGNALS; signo++) {
		if (askers[signo])
			sigaction(signo, &old_actions[signo], NULL);
	}
	if (pipe_out >= 0) {
		close(atomic_load_explicit(&pipe_in, memory_order_relaxed));
		close(pipe_out);
	}
	askers_lock = (struct lock){ 0 };
	memset(askers, 0, sizeof(askers));
	dispatcher = MOTE_NOBODY;
	pipe_out = -1;
	atomic_store(&pipe_in, -1);
}

void os_signals_stop(void)
{
	int in = atomic_exchange(&pipe_in, -1);

	if (in >= 0) {
		close(in);
		close(pipe_out);
	}
	pipe_out = -1;
	dispatcher = MOTE_NOBODY;
}
