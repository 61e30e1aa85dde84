/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A worker has one job. It starts the job's program, renews the lease while that runs, and says in the end what came
 * of it. When the lease cannot be renewed it stops the program before somebody else may take the job. Told to stop,
 * it asks the program to, and gives the job back.
 */
#include "jobs.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define GRACE_MS 3000			/* between SIGTERM and SIGKILL */

struct worker {
	const struct job *job;
	int64_t lease_until;
	struct mote_child child;
	int output;			/* of the program */
	bool running, settled;
	mote_deadline renew_at, ends_at, kill_at;
	const char *why;		/* it is being stopped */
	struct finish finish;		/* with the program's last words */
	size_t words;
};

static void say(struct worker *w, int how)
{
	w->finish.id = w->job->id;
	w->finish.token = w->job->token;
	w->finish.how = how;
}

/* Runs at every end but that of a job that is settled. All waits together have five seconds. */
static void give_back(void *arg)
{
	struct worker *w = arg;

	if (w->running) {
		mote_child_kill(&w->child, SIGTERM);
		if (mote_child_wait(&w->child, NULL, mote_in_ms(GRACE_MS))) {
			mote_child_kill(&w->child, SIGQUIT);
			mote_child_wait(&w->child, NULL, mote_in_ms(500));
		}
	}
	if (!w->settled) {
		say(w, JOB_RETURNED);
		snprintf(w->finish.note, sizeof(w->finish.note), "its server was stopped");
		store_call(JOBS_FINISH, &w->finish, sizeof(w->finish), NULL, mote_in_ms(1000));
	}
}

static int start_program(struct worker *w)
{
	char self[24], id[24], attempt[24];
	const char *end = w->job->command + w->job->size, **argv;
	int n = 0, ends[2], err;

	for (const char *p = w->job->command; p < end; p += strlen(p) + 1)
		n++;
	argv = mote_alloc((n + 6) * sizeof(*argv));
	if (!argv)
		return -ENOMEM;
	n = 0;
	snprintf(self, sizeof(self), "%d", getpid());
	snprintf(id, sizeof(id), "%lld", (long long)w->job->id);
	snprintf(attempt, sizeof(attempt), "%lld", (long long)w->job->attempt);
	argv[n++] = "/proc/self/exe";
	argv[n++] = "--leash";
	argv[n++] = self;
	argv[n++] = id;
	argv[n++] = attempt;
	for (const char *p = w->job->command; p < end; p += strlen(p) + 1)
		argv[n++] = p;
	argv[n] = NULL;
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	mote_fd_adopt(ends[0]);
	mote_fd_adopt(ends[1]);
	w->output = ends[0];
	err = mote_child_start(&w->child, argv, NULL, (int[]){ -1, ends[1], ends[1] });
	w->running = !err;
	mote_fd_close(ends[1]);
	return err;
}

static void stop_program(struct worker *w, const char *why)
{
	if (w->why)
		return;
	w->why = why;
	w->kill_at = mote_in_ms(GRACE_MS);
	mote_child_kill(&w->child, SIGTERM);
}

static void kill_program(struct worker *w, const char *why)
{
	w->why = w->why ? w->why : why;
	w->kill_at = MOTE_FOREVER;
	mote_child_kill(&w->child, SIGQUIT);
}

static void renew(struct worker *w)
{
	struct renew renew = { w->job->id, w->job->token, settings.lease_ms };
	int64_t left = w->lease_until - jobs_time_ms();
	struct mote_msg *reply;
	int err = store_call(JOBS_RENEW, &renew, sizeof(renew), &reply, mote_in_ms(left));

	w->renew_at = mote_in_ms(settings.lease_ms / 4);
	if (!err) {
		w->lease_until = *(int64_t *)reply->data;
		mote_msg_free(reply);
	} else if (err == -ENOENT) {
		w->settled = true;
		kill_program(w, "it is not ours any more");
	} else if (w->lease_until - jobs_time_ms() < settings.lease_ms / 4) {
		w->settled = true;
		kill_program(w, "its lease could not be renewed");
	}
}

/* Keeps the end of what it prints. */
static void keep_words(struct worker *w, const char *text, size_t size)
{
	size_t keep = size < NOTE_MAX ? NOTE_MAX - size : 0, drop = w->words > keep ? w->words - keep : 0;
	char *note = w->finish.note;

	memmove(note, note + drop, w->words - drop);
	w->words -= drop;
	if (size > NOTE_MAX) {
		text += size - NOTE_MAX;
		size = NOTE_MAX;
	}
	memcpy(note + w->words, text, size);
	w->words += size;
}

static mote_deadline earliest(const struct worker *w)
{
	mote_deadline d = mote_in_ms(1000);

	d.ns = w->renew_at.ns < d.ns ? w->renew_at.ns : d.ns;
	d.ns = w->ends_at.ns < d.ns ? w->ends_at.ns : d.ns;
	d.ns = w->kill_at.ns < d.ns ? w->kill_at.ns : d.ns;
	return d;
}

/* Until the program has ended; its status. The end of its output tells at once, but others may hold that open. */
static int attend(struct worker *w)
{
	char text[512];
	int status;

	for (;;) {
		ssize_t n = mote_file_read(w->output, text, sizeof(text), -1, earliest(w));

		if (n > 0)
			keep_words(w, text, n);
		else if (!mote_child_wait(&w->child, &status, n == -ETIMEDOUT ? MOTE_NOW : earliest(w)))
			break;
		if (mote_now().ns >= w->renew_at.ns && !w->settled)
			renew(w);
		if (mote_now().ns >= w->ends_at.ns)
			stop_program(w, "it ran longer than its timeout");
		if (mote_now().ns >= w->kill_at.ns)
			kill_program(w, NULL);
	}
	w->running = false;
	return status;
}

/* "exit status 1: the last words" */
static void describe(struct worker *w, int status)
{
	char what[80], *note = w->finish.note;
	int n;

	if (w->why)
		n = snprintf(what, sizeof(what), "%s", w->why);
	else if (WIFSIGNALED(status))
		n = snprintf(what, sizeof(what), "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		n = snprintf(what, sizeof(what), "exit status %d", WEXITSTATUS(status));
	while (w->words && note[w->words - 1] == '\n')
		w->words--;
	if (w->words)
		n += snprintf(what + n, sizeof(what) - n, ": ");
	memmove(note + n, note, w->words);
	memcpy(note, what, n);
	note[n + w->words] = 0;
}

void worker_main(void *arg)
{
	struct worker *w = mote_zalloc(sizeof(*w));
	struct mote_msg *stopped;
	int status, err;
	bool done;

	if (!w)
		mote_exit(mote_reason_error(ENOMEM, "no memory"));
	w->job = arg;
	w->lease_until = w->job->lease_until;
	w->renew_at = mote_in_ms(settings.lease_ms / 4);
	w->ends_at = w->job->timeout_ms ? mote_in_ms(w->job->timeout_ms) : MOTE_FOREVER;
	w->kill_at = MOTE_FOREVER;
	mote_defer(give_back, w);
	/* It was born trapping exits: one that came before this must not end it with the job in its hands. */
	mote_trap_exit(false);
	stopped = mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW);
	if (stopped)
		mote_exit(mote_msg_exit(stopped)->reason);
	jobs_step("run", "begin");
	err = start_program(w);
	jobs_step("run", "started");
	if (err) {
		snprintf(w->finish.note, sizeof(w->finish.note), "can't start: %s", strerror(-err));
		done = false;
	} else {
		status = attend(w);
		done = !w->why && !status;
		describe(w, status);
	}
	jobs_step("run", "ended");
	say(w, done ? JOB_DONE : JOB_FAILED);
	/* What cannot be said before the lease is over need not be said: the job is run again. */
	while (!w->settled) {
		err = store_call(JOBS_FINISH, &w->finish, sizeof(w->finish), NULL, mote_in_ms(w->lease_until - jobs_time_ms()));
		w->settled = !err || err == -ENOENT || jobs_time_ms() >= w->lease_until;
		if (!w->settled)
			mote_sleep(mote_in_ms(100));
	}
	jobs_log("job %lld, attempt %lld of %lld: %s", (long long)w->job->id, (long long)w->job->attempt,
		 (long long)w->job->max_attempts, w->finish.note);
}
