/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * hello: two processes. One greets whoever says hello; the other does, ends it, and sees it go.
 */
#include <mote.h>
#include <stdio.h>

enum { HELLO = 1, HELLO_BACK };

static void greeter(void *arg)
{
	const char *greeting = arg;

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		char text[64];
		int n;

		if (m->type == HELLO) {
			n = snprintf(text, sizeof(text), "%s, %.*s", greeting, (int)m->size, (char *)m->data);
			mote_send(m->from, HELLO_BACK, text, n + 1);
		}
		mote_msg_free(m);
	}
}

static void boss(void *arg)
{
	struct mote_msg *m;
	char why[64];
	mote_ref mon;
	mote_pid p;

	(void)arg;
	p = mote_spawn_monitor(greeter, "hello", &mon);
	mote_send(p, HELLO, "world", 5);
	m = mote_receive_type(HELLO_BACK, mote_in_ms(1000));
	if (!m)
		mote_exit(mote_reason_error(-mote_errno(), "no answer"));
	printf(MOTE_PID_FMT " says: %s\n", MOTE_PID_ARG(p), (char *)m->data);
	mote_msg_free(m);

	mote_exit_pid(p, MOTE_REASON_KILL);
	m = mote_receive_ref(mon, MOTE_FOREVER);
	mote_reason_format(&mote_msg_down(m)->reason, why, sizeof(why));
	printf(MOTE_PID_FMT " is gone: %s\n", MOTE_PID_ARG(p), why);
	mote_msg_free(m);
}

int main(void)
{
	return mote_run(boss, NULL, NULL);
}
