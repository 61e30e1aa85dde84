/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A shard, a connection, or a hog costs kv's other clients nothing but time: shards die of real faults under load, and
 * every acknowledged change is there afterwards, in the running server and in its file; nobody else sees an error.
 */
#include "kv_aof.h"
#include "kv_load.h"
#include <sys/resource.h>

#define CONNECTIONS 8
#define SHARDS 3

static const char *policy;

static double rounds_scale(void)
{
	const char *rounds = getenv("MOTE_TEST_ROUNDS");
	double scale = rounds ? atof(rounds) : 1;

#if defined(__SANITIZE_THREAD__)
	scale /= 8;
#endif
	return scale > 0 ? scale : 1;
}

static int rounds(int n)
{
	return n * rounds_scale() < 4 ? 4 : (int)(n * rounds_scale());
}

static bool start(struct server *server, const char *dir, const char *appendonly)
{
	char shards[8];

	sprintf(shards, "%d", SHARDS);
	return EXPECT(server_start(server, kv_path(), "--dir", dir, "--appendonly", appendonly, "--appendfsync",
				   policy, "--shards", shards, NULL));
}

/* It answers who crashed it, when it is dead. */
static bool crash_shard(struct client *client, int shard)
{
	const char *reply = client_call(client, "DEBUG SEGFAULT-SHARD %d", shard);

	return EXPECT(reply && !strncmp(reply, "-ERR the shard died", 19));
}

static void crash_connection(int port, bool subscribed)
{
	struct client *client = client_open(port);

	/* With RESP2 a subscriber may not say DEBUG. */
	if (subscribed) {
		EXPECT(client_call(client, "HELLO 3"));
		EXPECT(client_call(client, "SUBSCRIBE channel"));
	}
	client_say(client, "DEBUG SEGFAULT-CONNECTION\r\n");
	EXPECT(!client_reply(client) && client->start == client->end);
	client_close(client);
}

static void expect_going_on(struct server *server)
{
	if (!EXPECT(server_ready(server) > 0))
		file_show(server->log);
}

/* True when the log has that text. */
static bool says(const struct server *server, const char *text)
{
	FILE *file = fopen(server->log, "r");
	char line[1024];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = strstr(line, text) != NULL;
	if (file)
		fclose(file);
	return found;
}

static void shards_under_load(void)
{
	const char *dir = temp_subdir(policy);
	int crashes = rounds(60), rewrites = 0;
	struct load load = { 0 };
	struct server server;
	struct client *client;
	unsigned long changes;

	if (!start(&server, dir, "yes"))
		return;
	load_init(&load, CONNECTIONS);
	load_start(&load, server.port);
	client = client_open(server.port);
	for (int i = 0; i < crashes && atomic_load(&selftest_failed) == 0; i++) {
		const char *reply;

		sleep_ms(i % 7 * 3);
		if (i % 8 == 4) {
			reply = client_call(client, "BGREWRITEAOF");
			rewrites += reply && reply[0] == '+';
		}
		crash_shard(client, i % SHARDS);
		if (i % 10 == 5)
			crash_connection(server.port, i % 20 == 5);
	}
	sleep_ms(20);
	changes = load_stop(&load);
	/* The one that is under way comes to its end. */
	EXPECT(rewrite(client, aof_of(dir)));
	client_close(client);
	EXPECT_EQ(load_cuts(&load), 0);
	EXPECT_KEPT(&load, server.port);
	expect_going_on(&server);
	printf("# %s: %d shards crashed, %d rewrites, %lu changes acknowledged meanwhile, the slowest batch %.0f ms\n",
	       policy, crashes, rewrites, changes, load_worst_ms(&load));
	EXPECT(changes > (unsigned long)crashes);
	server_kill(&server);
	if (start(&server, dir, "yes"))
		EXPECT_KEPT(&load, server.port);
	server_kill(&server);
	load_free(&load);
}

/* Not only SET: all kinds of changes are what they were, to the millisecond. */
static void same_after(void)
{
	struct server server;
	struct client *client, *subscriber;
	char times[40][32], text[64];

	if (!start(&server, temp_subdir("same"), "yes"))
		return;
	client = client_open(server.port);
	subscriber = client_open(server.port);
	EXPECT(client_call(subscriber, "SUBSCRIBE channel"));
	for (int i = 0; i < 40; i++) {
		client_call(client, "MSET a:%d x b:%d y c:%d z", i, i, i);
		client_call(client, "EXPIRE a:%d %d", i, 1000 + i);
		snprintf(times[i], sizeof(times[i]), "%s", client_call(client, "PEXPIRETIME a:%d", i));
		client_call(client, "INCRBYFLOAT f:%d 0.1", i);
		client_call(client, "PEXPIRE c:%d 30", i);
		client_call(client, "DEL b:%d f:%d", i, i + 20);
		client_call(client, "SET gone:%d x PX 1", i);
	}
	sleep_ms(40);
	for (int shard = 0; shard < SHARDS; shard++)
		crash_shard(client, shard);
	for (int i = 0; i < 40; i++) {
		snprintf(text, sizeof(text), "*4\r\n$1\r\nx\r\n$-1\r\n$-1\r\n%s", "$3\r\n0.1\r\n");
		REPLY_IS(client_call(client, "MGET a:%d b:%d c:%d f:%d", i, i, i, i), text);
		REPLY_IS(client_call(client, "PEXPIRETIME a:%d", i), times[i]);
	}
	REPLY_IS(client_call(client, "DBSIZE"), ":80\r\n");
	REPLY_IS(client_call(client, "PUBLISH channel still-there"), ":1\r\n");
	REPLY_IS(client_reply(subscriber), "*3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n$11\r\nstill-there\r\n");
	REPLY_IS(client_call(client, "SET soon x PX 200"), "+OK\r\n");
	for (int shard = 0; shard < SHARDS; shard++)
		crash_shard(client, shard);
	/* The new shard's timers run as well: not only who asks for it finds it gone. */
	for (int tries = 0; tries < 2000 && strcmp(client_call(client, "DBSIZE"), ":80\r\n"); tries++)
		sleep_ms(5);
	REPLY_IS(client_call(client, "DBSIZE"), ":80\r\n");
	REPLY_IS(client_call(client, "FLUSHALL"), "+OK\r\n");
	for (int shard = 0; shard < SHARDS; shard++)
		crash_shard(client, shard);
	REPLY_IS(client_call(client, "DBSIZE"), ":0\r\n");
	client_close(client);
	client_close(subscriber);
	server_kill(&server);
}

/* Crashes right behind the order, when shards have sent a part of their contents or none. */
static void rewrite_meanwhile(void)
{
	const char *dir = temp_subdir("rewriting");
	struct server server;
	struct client *client;
	char *value = malloc(2000), digits[16];
	int checked;

	if (!start(&server, dir, "yes"))
		return;
	client = client_open(server.port);
	memset(value, 'v', 1999);
	value[1999] = 0;
	for (int i = 0; i < 2000; i++)
		client_call(client, "SET key:%d %s%d", i, value, i);
	for (int i = 0; i < rounds(12); i++) {
		struct stat before, now;
		int tries = 0;

		EXPECT(!stat(aof_of(dir), &before));
		EXPECT(client_call(client, "BGREWRITEAOF") && client->reply[0] == '+');
		for (int k = 0; k < i % 4; k++)
			crash_shard(client, (i + k) % SHARDS);
		client_call(client, "SET key:%d %s%d", i, value, i);
		client_call(client, "DEL key:%d", 1999 - i);
		while (!stat(aof_of(dir), &now) && now.st_ino == before.st_ino && tries++ < 12000)
			sleep_ms(5);
		if (!EXPECT(now.st_ino != before.st_ino))
			break;
	}
	for (int turn = 0; turn < 2; turn++) {
		snprintf(digits, sizeof(digits), ":%d\r\n", 2000 - rounds(12));
		REPLY_IS(client_call(client, "DBSIZE"), digits);
		for (checked = 0; checked < 2000 - rounds(12); checked++) {
			client_call(client, "GET key:%d", checked);
			if (client->reply_size < 2000 || atoi(strrchr(client->reply, 'v') + 1) != checked)
				break;
		}
		EXPECT_EQ(checked, 2000 - rounds(12));
		client_close(client);
		server_kill(&server);
		if (turn || !start(&server, dir, "yes"))
			break;
		client = client_open(server.port);
	}
	server_kill(&server);
	free(value);
}

/* What could not be written has been refused, but read: it must not be gone after a crash either. */
static void full_disk(void)
{
	const char *dir = temp_subdir("full"), *reply = NULL;
	struct server server;
	struct client *client;
	int kept, checked;

	if (!tmpfs_at(dir)) {
		selftest_skip("may not mount a tmpfs (root needed)");
		return;
	}
	shell("head -c 1500000 /dev/zero > %s/filler", dir);
	if (!start(&server, dir, "yes"))
		goto unmount;
	client = client_open(server.port);
	for (kept = 0; kept < 100000; kept++) {
		reply = client_call(client, "SET full:%d %0500d", kept, kept);
		if (!reply || strcmp(reply, "+OK\r\n"))
			break;
	}
	EXPECT(reply && !strncmp(reply, "-MISCONF ", 9));
	EXPECT(kept > 100);
	for (int shard = 0; shard < SHARDS; shard++)
		crash_shard(client, shard);
	for (checked = 0; checked <= kept; checked++) {
		reply = client_call(client, "GET full:%d", checked);
		if (!reply || strncmp(reply, "$500\r\n", 6) || atoi(reply + 6) != checked)
			break;
	}
	EXPECT_EQ(checked, kept + 1);
	reply = client_call(client, "SET more x");
	EXPECT(reply && !strncmp(reply, "-MISCONF ", 9));
	shell("rm %s/filler", dir);
	for (int tries = 0; tries < 1000; tries++) {
		reply = client_call(client, "SET more room");
		if (!reply || !strcmp(reply, "+OK\r\n"))
			break;
		sleep_ms(5);
	}
	REPLY_IS(reply, "+OK\r\n");
	client_close(client);
	server_kill(&server);
	if (start(&server, dir, "yes")) {
		client = client_open(server.port);
		REPLY_IS(client_call(client, "GET more"), "$4\r\nroom\r\n");
		for (checked = 0; checked <= kept; checked++) {
			reply = client_call(client, "GET full:%d", checked);
			if (!reply || strncmp(reply, "$500\r\n", 6) || atoi(reply + 6) != checked)
				break;
		}
		EXPECT_EQ(checked, kept + 1);
		client_close(client);
	}
	server_kill(&server);
unmount:
	umount2(dir, MNT_DETACH);
}

/* A shard holds some megabytes: if a crash did not give them back, it would show. */
static void nothing_leaks(void)
{
	enum { KEYS = 9000, SIZE = 1000 };
	int crashes = rounds(100), before_fds, after_fds;
	struct server server;
	struct client *client;
	static char zeros[SIZE];
	long before, after;

	if (!start(&server, temp_subdir("leak"), "yes"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < KEYS; i += 10) {
		char text[16];

		for (int k = i; k < i + 10; k++)
			client_args(client, 3, (const char *[]){ "SET", text, zeros },
				    (size_t[]){ 3, sprintf(text, "key:%d", k), SIZE });
		for (int k = i; k < i + 10; k++)
			REPLY_IS(client_reply(client), "+OK\r\n");
	}
	for (int i = 0; i < 3 * SHARDS; i++)
		crash_shard(client, i % SHARDS);
	REPLY_IS(client_call(client, "DBSIZE"), ":9000\r\n");
	before = server_status(&server, "VmRSS");
	before_fds = server_descriptors(&server);
	for (int i = 0; i < crashes; i++) {
		crash_shard(client, i % SHARDS);
		crash_connection(server.port, i % 2);
	}
	REPLY_IS(client_call(client, "DBSIZE"), ":9000\r\n");
	after = server_status(&server, "VmRSS");
	for (int tries = 0; tries < 1000 && server_descriptors(&server) > before_fds; tries++)
		sleep_ms(5);
	after_fds = server_descriptors(&server);
	printf("# %d crashes of shards with %d KiB each: %ld KiB before, %ld KiB after\n", crashes,
	       KEYS / SHARDS * SIZE / 1024, before, after);
	EXPECT(before > 0);
#if !defined(__SANITIZE_THREAD__)
	EXPECT(after - before < 16 * 1024 + crashes * 200);
#endif
	EXPECT(after_fds <= before_fds);
	REPLY_IS(client_call(client, "PUBLISH channel x"), ":0\r\n");
	client_close(client);
	server_kill(&server);
}

static void without_file(void)
{
	struct server server;
	struct client *client;

	if (!start(&server, temp_subdir("none"), "no"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < 100; i++)
		REPLY_IS(client_call(client, "SET key:%d x", i), "+OK\r\n");
	for (int shard = 0; shard < SHARDS; shard++)
		crash_shard(client, shard);
	REPLY_IS(client_call(client, "DBSIZE"), ":0\r\n");
	REPLY_IS(client_call(client, "SET key x"), "+OK\r\n");
	REPLY_IS(client_call(client, "GET key"), "$1\r\nx\r\n");
	EXPECT(says(&server, "without its keys"));
	client_close(client);
	server_kill(&server);
}

/* A shard that can't start again must not leave its clients waiting for ever. */
static void gives_up(void)
{
	const char *dir = temp_subdir("damage");
	struct server server;
	struct client *client;
	int status = 0, fd;

	if (!start(&server, dir, "yes"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < 100; i++)
		REPLY_IS(client_call(client, "SET key:%d x", i), "+OK\r\n");
	fd = open(aof_of(dir), O_WRONLY | O_CLOEXEC);
	EXPECT(pwrite(fd, "damage", 6, 700) == 6);
	close(fd);
	crash_shard(client, 1);
	EXPECT(child_ended(server.pid, &status, 20000));
	server.pid = 0;
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) != 0);
	EXPECT(says(&server, "damaged while the server ran"));
	EXPECT(says(&server, "giving up"));
	client_close(client);
	server_log_done(&server);
}

static bool has_answered(struct client *client)
{
	return poll(&(struct pollfd){ .fd = client->fd, .events = POLLIN }, 1, 0) > 0;
}

/* A shard that can't open the file now is not one that can't start: it waits, and so do its clients. */
static void out_of_descriptors(void)
{
	struct rlimit limit, none;
	struct server server;
	struct client *client;

	if (!start(&server, temp_subdir("descriptors"), "yes"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < 30; i++)
		REPLY_IS(client_call(client, "SET key:%d x", i), "+OK\r\n");
	EXPECT(!prlimit(server.pid, RLIMIT_NOFILE, NULL, &limit));
	none = (struct rlimit){ 3, limit.rlim_max };
	EXPECT(!prlimit(server.pid, RLIMIT_NOFILE, &none, NULL));
	for (int shard = 0; shard < SHARDS; shard++)
		crash_shard(client, shard);
	EXPECT(client_say(client, "DBSIZE\r\n"));
	sleep_ms(1000);
	EXPECT(!has_answered(client));
	EXPECT(!prlimit(server.pid, RLIMIT_NOFILE, &limit, NULL));
	REPLY_IS(client_reply(client), ":30\r\n");
	client_close(client);
	server_kill(&server);
}

/* More of them than schedulers: the others are served before the first of them is done. */
static void hogs(void)
{
	enum { HOGS = 4, MS = 3000 };
	struct client *client, *hog[HOGS];
	struct server server;
	int served = 0;

	if (!start(&server, temp_subdir("hogs"), "yes"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < HOGS; i++) {
		hog[i] = client_open(server.port);
		REPLY_IS(client_call(hog[i], "PING"), "+PONG\r\n");
	}
	for (int i = 0; i < HOGS; i++)
		client_call(client, "SET before x");
	for (int i = 0; i < HOGS; i++)
		EXPECT(client_args(hog[i], 3, (const char *[]){ "DEBUG", "HOG", "3000" }, (size_t[]){ 5, 3, 4 }));
	while (served < 100 && !has_answered(hog[0])) {
		REPLY_IS(client_call(client, "SET key:%d x", served), "+OK\r\n");
		served += !has_answered(hog[0]);
	}
	EXPECT_EQ(served, 100);
	for (int i = 0; i < HOGS; i++) {
		REPLY_IS(client_reply(hog[i]), "+OK\r\n");
		client_close(hog[i]);
	}
	client_close(client);
	server_kill(&server);
}

int main(void)
{
	program_needed(kv_path());
#if defined(__SANITIZE_ADDRESS__)
	printf("TAP version 13\n1..0 # SKIP AddressSanitizer takes the faults for itself\n");
	return 4;
#endif
	alarm(180);
	policy = "always";
	selftest_case("shards crash under load with always", shards_under_load);
	policy = "no";
	selftest_case("shards crash under load with no", shards_under_load);
	policy = "everysec";
	selftest_case("shards crash under load with everysec", shards_under_load);
	selftest_case("after a crash all is as it was", same_after);
	selftest_case("crashes while the file is rewritten", rewrite_meanwhile);
	selftest_case("crashes while the disk is full", full_disk);
	selftest_case("crashes leave nothing behind", nothing_leaks);
	selftest_case("without a file a shard begins empty", without_file);
	selftest_case("a shard that can't start again ends the server", gives_up);
	selftest_case("a shard that needs a descriptor waits for it", out_of_descriptors);
	selftest_case("hogs", hogs);
	return selftest_done();
}
