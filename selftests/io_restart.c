// SPDX-License-Identifier: MIT OR GPL-2.0
/* A server that was killed with everything under way can be started again at once, at the same address. */
#include "io_helpers.h"

#include <sys/wait.h>

static struct mote_addr addr;
static int to_parent;

static void holder(void *arg)
{
	char c;

	mote_net_recv((int)(intptr_t)arg, &c, 1, MOTE_FOREVER);
}

/* Listens, accepts itself, has both ends waited for, and says so. */
static void server(void *arg)
{
	int listener = mote_net_listen(&addr, 0), fd;

	(void)arg;
	if (listener < 0 || (fd = mote_net_connect(&addr, mote_in_ms(40000))) < 0)
		_exit(1);
	mote_spawn(holder, (void *)(intptr_t)fd);
	mote_spawn(holder, (void *)(intptr_t)mote_net_accept(listener, NULL, mote_in_ms(40000)));
	if (write(to_parent, "", 1) != 1)
		_exit(2);
	mote_net_accept(listener, NULL, MOTE_FOREVER);
}

static void find_address(void)
{
	mote_fd_close(io_listen(&addr));
}

static void restart(void)
{
	for (int i = 0; i < 20; i++) {
		int ends[2], status = 0;
		char c;
		pid_t pid;

		if (!EXPECT(!pipe(ends)))
			return;
		fflush(stdout);
		pid = fork();
		if (!pid) {
			to_parent = ends[1];
			_exit(mote_run(server, NULL, NULL));
		}
		close(ends[1]);
		if (!EXPECT(read(ends[0], &c, 1) == 1))
			i = 20;		/* it could not listen */
		close(ends[0]);
		usleep(i % 4 * 300);
		kill(pid, SIGKILL);
		EXPECT_EQ(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status))
			EXPECT_EQ(WEXITSTATUS(status), 0);
	}
}

int main(void)
{
	io_watchdog(60);
	selftest_process("an address is found", find_address);
	selftest_case("killed and started again, twenty times", restart);
	return selftest_done();
}
