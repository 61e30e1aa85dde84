/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * proxy: a TCP proxy. Two processes per connection, one for each direction, linked: whatever ends one (an error, a
 * closed socket, a kill) ends the other, and all descriptors go with their owners.
 *
 *	proxy 127.0.0.1:8000 127.0.0.1:6379
 */
#include <mote.h>
#include <stdio.h>
#include <string.h>

enum { CLIENT = 1, PIPE };

struct proxy {
	struct mote_addr listen, target;
};

struct pipe {
	int from, to;
};

static void pump(int from, int to)
{
	char buf[16384];
	ssize_t n;

	while ((n = mote_net_recv(from, buf, sizeof(buf), MOTE_FOREVER)) > 0)
		if (mote_net_send(to, buf, n, MOTE_FOREVER) < 0)
			mote_exit(MOTE_REASON_SHUTDOWN);
	if (n < 0)
		mote_exit(MOTE_REASON_SHUTDOWN);
	mote_net_shutdown(to, SHUT_WR);		/* the other direction may go on */
}

static void back(void *arg)
{
	struct mote_msg *m = mote_receive_type(PIPE, MOTE_FOREVER);
	struct pipe p = *(struct pipe *)m->data;

	(void)arg;
	mote_msg_free(m);
	pump(p.from, p.to);
}

static void connection(void *arg)
{
	const struct proxy *proxy = arg;
	struct mote_msg *m = mote_receive_type(CLIENT, MOTE_FOREVER);
	int client = *(int *)m->data, server;
	struct mote_spawn_opts opts = { .size = sizeof(opts), .fn = back, .flags = MOTE_LINK | MOTE_MONITOR };
	mote_ref done;
	mote_pid pid;

	opts.ref = &done;
	mote_msg_free(m);
	server = mote_net_connect(&proxy->target, mote_in_ms(5000));
	if (server < 0) {
		fprintf(stderr, "proxy: connect: %s\n", strerror(-server));
		return;
	}
	pid = mote_spawn_opts(&opts);
	if (!mote_pid_valid(pid))
		return;
	mote_send(pid, PIPE, &(struct pipe){ server, client }, sizeof(struct pipe));
	pump(client, server);
	mote_msg_free(mote_receive_ref(done, MOTE_FOREVER));
}

static void listener(void *arg)
{
	struct proxy *proxy = arg;
	int lfd = mote_net_listen(&proxy->listen, 0);

	if (lfd < 0)
		mote_exit(mote_reason_error(-lfd, "listen"));
	for (;;) {
		int fd = mote_net_accept(lfd, NULL, MOTE_FOREVER);
		mote_pid pid;

		if (fd < 0) {
			mote_sleep(mote_in_ms(100));	/* out of descriptors: some will come back */
			continue;
		}
		pid = mote_spawn(connection, proxy);
		if (!mote_pid_valid(pid) || mote_fd_give(fd, pid))
			mote_fd_close(fd);
		else
			mote_send(pid, CLIENT, &fd, sizeof(fd));
	}
}

static void report(int level, const char *text, void *arg)
{
	(void)level;
	(void)arg;
	fprintf(stderr, "proxy: %s\n", text);
}

int main(int argc, char **argv)
{
	struct mote_opts opts = { .size = sizeof(opts), .log = report };
	struct proxy proxy;

	if (argc != 3 || mote_addr_parse(&proxy.listen, argv[1]) || mote_addr_parse(&proxy.target, argv[2])) {
		fprintf(stderr, "usage: proxy LISTEN TARGET     (addresses like 127.0.0.1:8000 or unix:/path)\n");
		return 2;
	}
	return mote_run(listener, &proxy, &opts) != 0;
}
