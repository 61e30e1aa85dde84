// SPDX-License-Identifier: MIT OR GPL-2.0
/* Datagrams keep their borders and tell where they come from. */
#include "io_helpers.h"

static void udp_echo(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct mote_addr from;
	char buf[2048];

	for (;;) {
		ssize_t n = mote_net_recvfrom(fd, buf, sizeof(buf), &from, MOTE_FOREVER);

		if (n < 0 || mote_net_sendto(fd, buf, n, &from, MOTE_FOREVER) != n)
			return;
	}
}

static void echo(void)
{
	struct mote_addr addr, from;
	char buf[2048];
	int server, client;
	mote_ref mon;
	mote_pid p;

	mote_addr_parse(&addr, "127.0.0.1:0");
	server = mote_net_udp(AF_INET, &addr);
	client = mote_net_udp(AF_INET, NULL);
	if (!EXPECT(server >= 0 && client >= 0))
		return;
	EXPECT_EQ(mote_net_local(server, &addr), 0);
	p = mote_spawn_monitor(udp_echo, (void *)(intptr_t)server, &mon);
	for (int i = 0; i < 100; i++) {
		memset(buf, i, sizeof(buf));
		EXPECT_EQ(mote_net_sendto(client, buf, i * 10, &addr, MOTE_FOREVER), i * 10);
		memset(buf, 0xff, sizeof(buf));
		EXPECT_EQ(mote_net_recvfrom(client, buf, sizeof(buf), &from, mote_in_ms(5000)), i * 10);
		EXPECT(!i || (buf[0] == i && buf[i * 10 - 1] == i));
		EXPECT(from.len == addr.len && !memcmp(&from.sa, &addr.sa, addr.len));
	}
	EXPECT_EQ(mote_net_recvfrom(client, buf, 1, NULL, mote_in_ms(10)), -ETIMEDOUT);
	mote_exit_pid(p, MOTE_REASON_KILL);
	io_await_down(mon);
}

int main(void)
{
	io_watchdog(60);
	selftest_process("datagrams go and come", echo);
	return selftest_done();
}
