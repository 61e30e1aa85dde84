// SPDX-License-Identifier: MIT OR GPL-2.0
/* Names of hosts: what needs no network. */
#include "io_helpers.h"

static void localhost(void)
{
	struct mote_addr addrs[8];
	char text[100];
	bool loopback = false;
	int n = mote_resolve("localhost", 6379, addrs, 8, mote_in_ms(20000));

	EXPECT(n >= 1 && n <= 8);
	for (int i = 0; i < n; i++) {
		mote_addr_format(&addrs[i], text, sizeof(text));
		loopback |= !strcmp(text, "127.0.0.1:6379") || !strcmp(text, "[::1]:6379");
	}
	EXPECT(loopback);
	EXPECT_EQ(mote_resolve("127.0.0.2", 80, addrs, 1, mote_in_ms(20000)), 1);
	mote_addr_format(&addrs[0], text, sizeof(text));
	EXPECT(!strcmp(text, "127.0.0.2:80"));
	EXPECT_EQ(mote_resolve("localhost", 80, addrs, 0, mote_in_ms(20000)), -EINVAL);
}

static void asker(void *arg)
{
	struct mote_addr addr;

	(void)arg;
	mote_resolve("localhost", 1, &addr, 1, MOTE_FOREVER);
}

/* A deadline that has passed, or an exit signal, leaves nothing behind (under ASan: no leak). */
static void given_up(void)
{
	struct mote_addr addr;

	for (int i = 0; i < 100; i++) {
		mote_ref mon;
		mote_pid p = mote_spawn_monitor(asker, NULL, &mon);
		int n = mote_resolve("localhost", 1, &addr, 1, mote_in_us(i * 5));

		EXPECT(n == 1 || n == -ETIMEDOUT);
		mote_exit_pid(p, MOTE_REASON_KILL);
		io_await_down(mon);
	}
}

int main(void)
{
	io_watchdog(60);
	selftest_process("localhost, and numbers", localhost);
	selftest_process("lookups that are given up", given_up);
	return selftest_done();
}
