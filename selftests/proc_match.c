// SPDX-License-Identifier: MIT OR GPL-2.0
/* The match function of mote_receive_match() is the process's own code, in the middle of a walk over its mailbox. */
#include "proc.h"

#include <signal.h>
#include <sys/wait.h>

enum { DATA = 1, MORE, WANTED, GO };

#define OPTS(...) (&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), __VA_ARGS__ })

struct asked {
	mote_pid helper;
	unsigned int calls, sent;
	uint32_t types[64];
};

/* It sends, yields, lets messages come, and looks at what it is shown. */
static bool calls_mote(const struct mote_msg *m, void *arg)
{
	struct asked *a = arg;

	if (a->calls < 64)
		a->types[a->calls] = m->type;
	a->calls++;
	if (a->sent < 5) {
		a->sent++;
		mote_send(mote_self(), MORE, NULL, 0);
		mote_send(a->helper, MORE, NULL, 0);
		mote_yield();
		mote_check();
	}
	EXPECT(!mote_msg_from(m).ref.id);
	EXPECT(!mote_msg_ref(m).id);
	if (a->calls == 7)
		mote_send(mote_self(), WANTED, NULL, 0);
	return m->type == WANTED;
}

static void grows_meanwhile(void)
{
	struct asked a = { .helper = mote_spawn(mirror, NULL) };
	unsigned int more = 0;
	struct mote_msg *m;

	mote_send(mote_self(), DATA, NULL, 0);
	m = mote_receive_match(calls_mote, &a, PATIENCE);
	EXPECT(m && m->type == WANTED);
	mote_msg_free(m);
	EXPECT_EQ(a.types[0], DATA);
	/* What came behind is there, in order: each message was shown once. */
	EXPECT(got_type(DATA));
	while ((m = mote_receive_type(MORE, more < 10 ? PATIENCE : MOTE_NOW))) {
		more++;
		mote_msg_free(m);
	}
	EXPECT_EQ(more, 10);
	EXPECT(mailbox_is_empty());
	EXPECT(a.calls <= 12);
	put_down(a.helper);
}

static bool is_request(const struct mote_msg *m, void *arg)
{
	(void)arg;
	return mote_msg_from(m).ref.id != 0;
}

static void answers_one(void *arg)
{
	struct mote_msg *m = mote_receive_match(is_request, arg, PATIENCE);

	EXPECT(m && m->type == GO);
	if (m)
		mote_reply(mote_msg_from(m), GO, NULL, 0);
	mote_msg_free(m);
	EXPECT(got_type(DATA));
}

/* Requests are known as such before they are received, whether they count for a limit or not. */
static void requests(void)
{
	mote_ref ref;

	for (unsigned int limit = 0; limit < 3; limit += 2) {
		mote_pid p = mote_spawn_opts(OPTS(.fn = answers_one, .mailbox_limit = limit, .flags = MOTE_MONITOR,
						  .ref = &ref));

		mote_send(p, DATA, NULL, 0);
		EXPECT_EQ(mote_call(p, GO, NULL, 0, NULL, PATIENCE), 0);
		EXPECT(got_down(ref, p, MOTE_NORMAL));
	}
}

static bool ends_here(const struct mote_msg *m, void *arg)
{
	/* Not at once: so that the wait has armed its timer. */
	if (m->type == GO)
		mote_exit(mote_reason_error(7, "in match"));
	return arg == m;
}

static void last_look(void *arg)
{
	struct mote_msg *m;

	/* The mailbox is whole, and may be received from: the match is over. */
	while ((m = mote_receive(mote_in_us(100)))) {
		atomic_fetch_add((_Atomic unsigned int *)arg, 1);
		mote_msg_free(m);
	}
}

static void waits_and_ends(void *arg)
{
	mote_defer(last_look, arg);
	mote_receive_match(ends_here, NULL, mote_in_ms(20));
}

static void never_returns(void)
{
	unsigned long rounds = test_rounds(2000);
	_Atomic unsigned int seen;
	mote_ref ref;
	mote_pid p;

	for (unsigned long i = 0; i < rounds; i++) {
		atomic_store(&seen, 0);
		p = mote_spawn_monitor(waits_and_ends, (void *)&seen, &ref);
		mote_send(p, DATA, NULL, 0);
		mote_yield();
		mote_send(p, DATA, NULL, 0);
		mote_send(p, GO, NULL, 0);
		EXPECT(got_down(ref, p, MOTE_ERROR));
		EXPECT_EQ(atomic_load(&seen), 3);
	}
	/* Longer than their deadlines: no timer is left that would wake whoever has their stacks now. */
	mote_sleep(mote_in_ms(30));
}

static _Atomic bool enough;

static bool computes(const struct mote_msg *m, void *arg)
{
	(void)arg;
	while (!atomic_load(&enough))
		test_spin(1000);
	return m->type == WANTED;
}

static void hog(void *arg)
{
	struct mote_msg *m = mote_receive_match(computes, arg, PATIENCE);

	EXPECT(m && m->type == WANTED);
	mote_msg_free(m);
	for (unsigned int i = 0; i < 1000; i++)
		EXPECT(got_type(DATA));
	EXPECT(mailbox_is_empty());
}

/* One scheduler: it is handed over, and neighbours go on and send to the one that computes in its match. */
static void hog_in_match(void)
{
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(hog, NULL, &ref);

	if (test_one_thread())
		return;
	atomic_store(&enough, false);
	mote_send(p, DATA, NULL, 0);
	for (unsigned int i = 1; i < 1000; i++) {
		mote_yield();
		mote_send(p, DATA, NULL, 0);
	}
	mote_send(p, WANTED, NULL, 0);
	atomic_store(&enough, true);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
}

static bool receives(const struct mote_msg *m, void *arg)
{
	(void)m;
	mote_send(mote_self(), DATA, NULL, 0);
	switch (*(int *)arg) {
	case 0:
		mote_msg_free(mote_receive(MOTE_FOREVER));
		break;
	case 1:
		mote_msg_free(mote_receive_type(DATA, MOTE_FOREVER));
		break;
	case 2:
		mote_receive(MOTE_NOW);
		break;
	case 3:
		mote_receive_match(receives, arg, MOTE_NOW);
		break;
	case 4:
		mote_call(mote_spawn(mirror, NULL), DATA, NULL, 0, NULL, mote_in_ms(1));
		break;
	case 5: {
		/* The DOWN is there: to flush it is to take it out. */
		static _Atomic unsigned int seen;
		mote_ref ref;

		mote_spawn_monitor(last_look, (void *)&seen, &ref);
		mote_sleep(mote_in_ms(50));
		mote_demonitor(ref, MOTE_FLUSH);
		break;
	}
	}
	return true;
}

static void receives_in_match(void *arg)
{
	mote_send(mote_self(), DATA, NULL, 0);
	mote_receive_match(receives, arg, MOTE_FOREVER);
}

/* The end of a child that does it, and what it said. */
static int child_ends(int how, char *said, size_t size)
{
	int fds[2], status;
	ssize_t n;
	size_t len = 0;
	pid_t pid;

	if (pipe(fds))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(fds[1], 2);
		close(fds[0]);
		alarm(60);
		mote_run(receives_in_match, &how, SCHEDULERS(1));
		_exit(0);
	}
	close(fds[1]);
	while (len < size - 1 && (n = read(fds[0], said + len, size - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = 0;
	close(fds[0]);
	waitpid(pid, &status, 0);
	return status;
}

static void refused(void)
{
	static const char expected[] = "match function";
	char said[4096];

	for (int how = 0; how < 6; how++) {
		int status = child_ends(how, said, sizeof(said));

		/* A call that is not answered takes nothing out of the mailbox: it may be made. */
		if (how == 4)
			EXPECT(WIFEXITED(status) && !WEXITSTATUS(status));
		else if (!EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) || !EXPECT(strstr(said, expected)))
			test_note("way %d: status %#x, said \"%s\"", how, status, said);
	}
}

int main(void)
{
	selftest_process("it may call mote, and the mailbox may grow", grows_meanwhile);
	selftest_process("it knows requests", requests);
	selftest_process("it may never return, with a deadline armed", never_returns);
	selftest_process_opts("it may compute for long, and only its process waits", hog_in_match, SCHEDULERS(1));
	selftest_case("it may not receive: the program ends with a message", refused);
	return selftest_done();
}
