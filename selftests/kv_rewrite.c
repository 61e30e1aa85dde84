/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Rewriting kv's append-only file under load keeps everything and makes it small; and a full disk is an error
 * for who writes a key, not the end.
 */
#include "kv_aof.h"
#include "kv_load.h"

static void rewrite_under_load(void)
{
	const char *dir = temp_subdir("rewrite");
	struct load load = { 0 };
	struct server server;
	struct client *client;
	unsigned long changes;

	load_init(&load, 8);
	if (!EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
		return;
	load_start(&load, server.port);
	client = client_open(server.port);
	for (int i = 0; i < 5; i++) {
		sleep_ms(150);
		EXPECT(rewrite(client, aof_of(dir)));
	}
	sleep_ms(100);
	client_close(client);
	server_kill(&server);
	changes = load_stop(&load);
	printf("# %lu changes acknowledged during 5 rewrites\n", changes);
	EXPECT(changes > 1000);
	if (EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
		EXPECT_KEPT(&load, server.port);
	server_kill(&server);
	load_free(&load);
}

static long directory_size(const char *dir)
{
	char command[600];
	long size = -1;
	FILE *pipe;

	snprintf(command, sizeof(command), "du -sb %s", dir);
	pipe = popen(command, "r");
	if (pipe && fscanf(pipe, "%ld", &size) != 1)
		size = -1;
	if (pipe)
		pclose(pipe);
	return size;
}

static void rewrite_shrinks(void)
{
	const char *dir = temp_subdir("shrink");
	struct server server;
	struct client *client;
	long before, after;

	if (!EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
		return;
	client = client_open(server.port);
	for (int i = 0; i < 20000; i++)
		client_say(client, "INCR counter\r\n");
	for (int i = 0; i < 20000; i++)
		client_reply(client);
	REPLY_IS(client_call(client, "GET counter"), "$5\r\n20000\r\n");
	before = directory_size(dir);
	EXPECT(rewrite(client, aof_of(dir)));
	after = directory_size(dir);
	printf("# from %ld to %ld bytes\n", before, after);
	EXPECT(before > 400000);
	EXPECT(after > 0 && after < 20000);
	client_close(client);
	server_kill(&server);
}

static void full_disk(const char *policy)
{
	const char *dir = temp_subdir("full");
	struct server server;
	struct client *client;
	const char *reply = NULL;
	int kept, tries, checked;

	if (!tmpfs_at(dir)) {
		selftest_skip("may not mount a tmpfs (root needed)");
		return;
	}
	shell("head -c 1000000 /dev/zero > %s/filler", dir);
	if (!EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", "--appendfsync",
				 policy, NULL)))
		goto unmount;
	client = client_open(server.port);
	for (kept = 0; kept < 100000; kept++) {
		reply = client_call(client, "SET full:%d %0100d", kept, kept);
		if (!reply || strcmp(reply, "+OK\r\n"))
			break;
	}
	printf("# %s: after %d keys: %s\n", policy, kept,
	       reply ? shown(reply, strlen(reply)) : "the connection ended");
	EXPECT(kept > 100 && kept < 100000);
	EXPECT(reply && !strncmp(reply, "-MISCONF ", 9) && strstr(reply, "No space left on device"));
	/* Reading goes on, writing is refused, the server lives. */
	REPLY_IS(client_call(client, "STRLEN full:0"), ":100\r\n");
	reply = client_call(client, "SET more x");
	EXPECT(reply && !strncmp(reply, "-MISCONF ", 9));

	/* With room again, it recovers by itself. */
	shell("rm %s/filler", dir);
	for (tries = 0; tries < 1000; tries++) {
		reply = client_call(client, "SET more room");
		if (!reply || !strcmp(reply, "+OK\r\n"))
			break;
		sleep_ms(5);
	}
	REPLY_IS(reply, "+OK\r\n");
	client_close(client);
	server_kill(&server);
	if (EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL))) {
		client = client_open(server.port);
		REPLY_IS(client_call(client, "GET more"), "$4\r\nroom\r\n");
		for (checked = 0; checked < kept; checked++) {
			reply = client_call(client, "GET full:%d", checked);
			if (!reply || strncmp(reply, "$100\r\n", 6) || atoi(reply + 6) != checked)
				break;
		}
		EXPECT_EQ(checked, kept);
		client_close(client);
	}
	server_kill(&server);
unmount:
	umount2(dir, MNT_DETACH);
}

static void full_disk_everysec(void)
{
	full_disk("everysec");
}

static void full_disk_always(void)
{
	full_disk("always");
}

int main(void)
{
	program_needed(kv_path());
	alarm(180);
	selftest_case("rewriting under load keeps everything", rewrite_under_load);
	selftest_case("rewriting makes the file small", rewrite_shrinks);
	selftest_case("a full disk with everysec", full_disk_everysec);
	selftest_case("a full disk with always", full_disk_always);
	return selftest_done();
}
