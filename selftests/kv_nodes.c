/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kv --nodes N: shards in OS processes of their own. Whichever of them is killed, and however often, everything
 * acknowledged is there; a client learns that nobody knows of a change (TRYAGAIN), and reads what became of it; nobody's
 * connection is cut. Commands on many keys are done key by key, wholly or not at all.
 */
#include "kv_aof.h"
#include "kv_load.h"

#define CONNECTIONS 6
#define NODES 2
#define GROUP 24		/* keys of one MSET */

static const char *policy;

static int rounds(int n)
{
	const char *text = getenv("MOTE_TEST_ROUNDS");
	double scale = text && atof(text) > 0 ? atof(text) : 1;

	return n * scale < 3 ? 3 : (int)(n * scale);
}

static bool start(struct server *server, const char *dir, const char *appendonly, const char *nodes)
{
	return EXPECT(server_start(server, kv_path(), "--dir", dir, "--appendonly", appendonly, "--appendfsync", policy,
				   "--shards", "2", "--nodes", nodes, NULL));
}

/* From INFO; how often it was started, if wanted. */
static pid_t node_pid(struct client *client, int node, int *starts)
{
	const char *reply = client_call(client, "INFO"), *line;
	int pid = -1, count = -1;
	char head[24];

	sprintf(head, "node%d:", node);
	line = reply ? strstr(reply, head) : NULL;
	if (!line || sscanf(line + strlen(head), "pid=%d,starts=%d", &pid, &count) != 2)
		selftest_complain(__FILE__, __LINE__, "INFO does not know the node");
	if (starts)
		*starts = count;
	return pid;
}

static bool gone_within(pid_t pid, int ms)
{
	double limit = seconds_now() + ms / 1000.0;

	while (!kill(pid, 0) && seconds_now() < limit)
		sleep_ms(2);
	return kill(pid, 0) && errno == ESRCH;
}

/* One owner of keys that are all changed at once: numbers rise; 0: not there. */
struct group {
	pthread_t thread;
	int port;
	_Atomic bool stop;
	unsigned int least[GROUP], most[GROUP];
	unsigned int sent, acked, unsure;
	char trouble[200];
};

static bool group_look(struct group *g, struct client *client)
{
	char text[1024] = "MGET";
	const char *reply, *at;

	for (int i = 0; i < GROUP; i++)
		sprintf(text + strlen(text), " group:%d", i);
	reply = client_call(client, "%s", text);
	at = reply ? strchr(reply, '\n') + 1 : NULL;
	for (int i = 0; i < GROUP && at; i++) {
		unsigned int number = at[1] == '-' ? 0 : strtoul(strchr(at, '\n') + 1, NULL, 10);

		/* A removal is a change, too: to 0. */
		if (number != g->least[i] && number != g->most[i]) {
			snprintf(g->trouble, sizeof(g->trouble), "group:%d is %u, not %u or %u", i, number, g->least[i],
				 g->most[i]);
			return false;
		}
		g->least[i] = g->most[i] = number;
		at = strchr(at, '\n') + 1;
		if (number)
			at = strchr(at, '\n') + 1;
	}
	if (!at)
		snprintf(g->trouble, sizeof(g->trouble), "MGET: %.100s", reply ? shown(reply, strlen(reply)) : "no reply");
	return at;
}

static void *group_thread(void *arg)
{
	struct group *g = arg;
	struct client *client = client_open(g->port);

	while (!atomic_load(&g->stop)) {
		bool set = ++g->sent % 4;
		char text[1024], wanted[16];
		int present = 0;
		const char *reply;

		strcpy(text, set ? "MSET" : "DEL");
		for (int i = 0; i < GROUP; i++) {
			sprintf(text + strlen(text), set ? " group:%d %u" : " group:%d", i, g->sent);
			present += g->least[i] != 0;
			g->most[i] = set ? g->sent : 0;
		}
		snprintf(wanted, sizeof(wanted), set ? "+OK\r\n" : ":%d\r\n", present);
		reply = client_call(client, "%s", text);
		if (reply && !strcmp(reply, wanted)) {
			memcpy(g->least, g->most, sizeof(g->least));
			g->acked++;
		} else if (reply && !strncmp(reply, "-TRYAGAIN ", 10)) {
			g->unsure++;
		} else {
			snprintf(g->trouble, sizeof(g->trouble), "wanted %s, got %.100s", wanted,
				 reply ? shown(reply, strlen(reply)) : "nothing");
			break;
		}
		if (!group_look(g, client))
			break;
	}
	client_close(client);
	return NULL;
}

static void killed_under_load(void)
{
	const char *dir = temp_subdir(policy);
	struct load load = { .unsure = true };
	int kills = rounds(12), starts, before;
	struct client *client, *subscriber;
	struct group group = { 0 };
	struct server server;
	unsigned long changes;

	if (!start(&server, dir, "yes", "2"))
		return;
	client = client_open(server.port);
	subscriber = client_open(server.port);
	EXPECT(client_call(subscriber, "SUBSCRIBE channel"));
	load_init(&load, CONNECTIONS);
	load_start(&load, server.port);
	group.port = server.port;
	if (pthread_create(&group.thread, NULL, group_thread, &group))
		exit(1);
	for (int i = 0; i < kills && atomic_load(&selftest_failed) == 0; i++) {
		int node = load_mix(i) % NODES;
		pid_t pid;

		sleep_ms(40 + i % 5 * 20);
		if (i % 4 == 3)
			EXPECT(client_call(client, "BGREWRITEAOF"));
		pid = node_pid(client, node, &before);
		EXPECT(!kill(pid, SIGKILL));
		/* Every third time the next one is killed while that one is starting. */
		for (int tries = 0; i % 3 && tries < 4000; tries++) {
			if (node_pid(client, node, &starts) != pid)
				break;
			sleep_ms(5);
		}
	}
	atomic_store(&group.stop, true);
	pthread_join(group.thread, NULL);
	changes = load_stop(&load);
	EXPECT_EQ(load_cuts(&load), 0);
	for (int i = 0; i < GROUP; i++)
		load.others += group.least[i] != 0;
	EXPECT_KEPT(&load, server.port);
	if (group.trouble[0]) {
		selftest_complain(__FILE__, __LINE__, "commands on many keys");
		printf("#   %s\n", group.trouble);
	}
	REPLY_IS(client_call(client, "PUBLISH channel still-there"), ":1\r\n");
	REPLY_IS(client_reply(subscriber), "*3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n$11\r\nstill-there\r\n");
	printf("# %s: %d kills; %lu changes and %u of many keys acknowledged, %d and %u that nobody answered for; "
	       "the slowest batch %.0f ms\n", policy, kills, changes, group.acked, load.looked_up, group.unsure,
	       load_worst_ms(&load));
	EXPECT(changes > (unsigned long)kills && group.acked);
	client_close(subscriber);
	/* All of it at once, and what the files have. */
	server_kill(&server);
	if (start(&server, dir, "yes", "2")) {
		EXPECT_KEPT(&load, server.port);
		client_close(client);
		client = client_open(server.port);
		EXPECT(group_look(&group, client));
	}
	client_close(client);
	server_kill(&server);
	load_free(&load);
}

/* A stop takes effect thread by thread. */
static void stop(pid_t pid)
{
	char command[128];

	EXPECT(!kill(pid, SIGSTOP));
	snprintf(command, sizeof(command), "! cat /proc/%d/task/*/status | grep '^State:' | grep -qv T", pid);
	for (int tries = 0; tries < 2000 && system(command); tries++)
		sleep_ms(5);
}

/* Reads are asked again, wherever the node died; those of other nodes don't notice. */
static void one_stands_still(void)
{
	struct client *client, *other, *waiting;
	struct server server;
	const char *dir = temp_subdir("still");
	char text[1100];
	int mine[NODES] = { -1, -1 };
	pid_t pid;

	if (!start(&server, dir, "yes", "2"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < 64; i++)
		client_call(client, "SET key:%d value", i);
	for (int node = 0; node < NODES; node++) {
		for (int i = 0; i < 64 && mine[node] < 0; i++) {
			snprintf(text, sizeof(text), "grep -q '^key:%d.$' %s/appendonly.aof.%d-of-2", i, dir, node + 1);
			if (!system(text))
				mine[node] = i;
		}
		EXPECT(mine[node] >= 0);
	}
	pid = node_pid(client, 0, NULL);
	stop(pid);
	waiting = client_open(server.port);
	snprintf(text, sizeof(text), "GET key:%d\r\n", mine[0]);
	client_say(waiting, text);
	other = client_open(server.port);
	for (int i = 0; i < 200; i++) {
		REPLY_IS(client_call(other, "SET key:%d value", mine[1]), "+OK\r\n");
		REPLY_IS(client_call(other, "GET key:%d", mine[1]), "$5\r\nvalue\r\n");
	}
	EXPECT(recv(waiting->fd, text, 1, MSG_DONTWAIT | MSG_PEEK) < 0);
	/* Killed where it stands: the next one answers. */
	EXPECT(!kill(pid, SIGKILL));
	REPLY_IS(client_reply(waiting), "$5\r\nvalue\r\n");
	/* Who had asked for nothing meanwhile has no doubts. */
	REPLY_IS(client_call(client, "SET key:%d other", mine[0]), "+OK\r\n");
	client_close(waiting);
	client_close(other);
	client_close(client);
	server_kill(&server);
}

static void crashes_and_settings(void)
{
	struct server server;
	struct client *client;
	int status = 0;
	pid_t pids[NODES];

	if (!start(&server, temp_subdir("settings"), "yes", "2"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < 100; i++)
		client_call(client, "SET key:%d x", i);
#if !defined(__SANITIZE_ADDRESS__)	/* which takes the faults for itself */
	for (int shard = 0; shard < 4; shard++)
		EXPECT(client_call(client, "DEBUG SEGFAULT-SHARD %d", shard) && client->reply[0] == '-');
#endif
	REPLY_IS(client_call(client, "DBSIZE"), ":100\r\n");
	REPLY_IS(client_call(client, "CONFIG SET appendfsync always"), "+OK\r\n");
	REPLY_IS(client_call(client, "MSET a 1 b 2 c 3"), "+OK\r\n");
	REPLY_IS(client_call(client, "MGET a none c"), "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n3\r\n");
	REPLY_IS(client_call(client, "DEL a b c none"), ":3\r\n");
	REPLY_IS(client_call(client, "FLUSHALL"), "+OK\r\n");
	REPLY_IS(client_call(client, "DBSIZE"), ":0\r\n");
	for (int node = 0; node < NODES; node++) {
		pids[node] = node_pid(client, node, &status);
		EXPECT_EQ(status, 1);
	}
	/* An end in order: nodes go before the server does. */
	client_say(client, "SHUTDOWN\r\n");
	EXPECT(child_ended(server.pid, &status, 15000) && WIFEXITED(status) && !WEXITSTATUS(status));
	server.pid = 0;
	for (int node = 0; node < NODES; node++)
		EXPECT(gone_within(pids[node], 0));
	client_close(client);
	server_kill(&server);
}

/* A server that is killed takes its nodes along, and the next one does not mind if they are slow to go. */
static void server_killed(void)
{
	const char *dir = temp_subdir("front");
	struct server server;
	struct client *client;
	pid_t pids[2 * NODES];

	for (int round = 0; round < 2; round++) {
		if (!start(&server, dir, "yes", "2"))
			return;
		client = client_open(server.port);
		if (round)
			REPLY_IS(client_call(client, "DBSIZE"), ":50\r\n");
		for (int i = 0; i < 50; i++)
			client_call(client, "SET key:%d x", i);
		for (int node = 0; node < NODES; node++)
			pids[round * NODES + node] = node_pid(client, node, NULL);
		client_close(client);
		/* One of them can't go yet, and still has the file. */
		if (!round)
			stop(pids[0]);
		server_kill(&server);
		if (round)
			break;
		server_begin(&server, kv_path(), "--dir", dir, "--appendonly", "yes", "--nodes", "2", NULL);
		sleep_ms(100);
		EXPECT(!server_ready(&server));
		kill(pids[0], SIGCONT);
		EXPECT(server_wait(&server));
		server_kill(&server);
	}
	for (int i = 0; i < 2 * NODES; i++)
		EXPECT(gone_within(pids[i], 15000));
}

/* Which keys are in which file depends on N. */
static void other_numbers(void)
{
	const char *dir = temp_subdir("two"), *one = temp_subdir("one"), *three = temp_subdir("three");
	struct server server;
	struct client *client;

	if (!start(&server, dir, "yes", "2"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < 90; i++)
		client_call(client, "SET key:%d %d", i, i);
	client_call(client, "DEL key:0 key:1 key:2");
	client_close(client);
	server_kill(&server);
	EXPECT(server_refuses(kv_path(), "--dir", dir, "--appendonly", "yes", "--nodes", "3", NULL));
	EXPECT(server_refuses(kv_path(), "--dir", dir, "--appendonly", "yes", NULL));
	shell("cat %s/appendonly.aof.* >%s/appendonly.aof", dir, one);
	for (int i = 1; i <= 3; i++)
		shell("cp %s/appendonly.aof %s/appendonly.aof.%d-of-3", one, three, i);
	EXPECT(server_refuses(kv_path(), "--dir", one, "--appendonly", "yes", "--nodes", "2", NULL));
	for (int nodes = 0; nodes <= 3; nodes += 3) {
		if (!start(&server, nodes ? three : one, "yes", nodes ? "3" : "0"))
			return;
		client = client_open(server.port);
		REPLY_IS(client_call(client, "DBSIZE"), ":87\r\n");
		REPLY_IS(client_call(client, "MGET key:1 key:3 key:89"), "*3\r\n$-1\r\n$1\r\n3\r\n$2\r\n89\r\n");
		client_close(client);
		server_kill(&server);
	}
}

static void damaged(void)
{
	const char *dir = temp_subdir("damaged");
	struct server server;
	struct client *client;
	int status = 0;

	if (!start(&server, dir, "yes", "2"))
		return;
	client = client_open(server.port);
	client_call(client, "SET key x");
	shell("printf '*1\\r\\n$7\\r\\nnothing\\r\\n' >>%s/appendonly.aof.1-of-2", dir);
	EXPECT(!kill(node_pid(client, 0, NULL), SIGKILL));
	EXPECT(child_ended(server.pid, &status, 20000) && WIFEXITED(status) && WEXITSTATUS(status));
	server.pid = 0;
	client_close(client);
	server_kill(&server);
}

static void without_a_file(void)
{
	struct server server;
	struct client *client;

	if (!start(&server, temp_subdir("none"), "no", "2"))
		return;
	client = client_open(server.port);
	for (int i = 0; i < 100; i++)
		client_call(client, "SET key:%d x", i);
	for (int node = 0; node < NODES; node++)
		EXPECT(!kill(node_pid(client, node, NULL), SIGKILL));
	/* Its keys went with it; it serves all the same. */
	for (int i = 0; i < 100; i++)
		REPLY_IS(client_call(client, "SET key:%d y", i), "+OK\r\n");
	REPLY_IS(client_call(client, "DBSIZE"), ":100\r\n");
	client_close(client);
	server_kill(&server);
}

int main(void)
{
	program_needed(kv_path());
	alarm(240);
	policy = "always";
	selftest_case("nodes killed under load lose nothing with always", killed_under_load);
	policy = "no";
	selftest_case("nodes killed under load lose nothing with no", killed_under_load);
	policy = "everysec";
	selftest_case("nodes killed under load lose nothing with everysec", killed_under_load);
	selftest_case("a node that stands still holds up its own keys only", one_stands_still);
	selftest_case("shards, settings and the end in order are the same over nodes", crashes_and_settings);
	selftest_case("a server that is killed takes its nodes along", server_killed);
	selftest_case("files are for one number of nodes, and can be made for another", other_numbers);
	selftest_case("a node that can't start ends the server", damaged);
	selftest_case("without a file a node starts empty", without_a_file);
	return selftest_done();
}
