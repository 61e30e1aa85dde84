/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What clients can cost kv is bounded: half requests, announced sizes, clients that don't read, clients that
 * are too many, and clients that are gone.
 */
#include "kv_client.h"
#include <sys/resource.h>

/*
 * A sanitizer keeps what was freed, and books beside it: what memory is worth measuring is not that. Under
 * one, less is moved (it is slow) and the bound not looked at.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif
#define BOUND_KIB (96 * 1024)

static struct server server;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool alive(void)
{
	struct client *client = client_open(server.port);
	bool good = REPLY_IS(client_call(client, "PING"), "+PONG\r\n");

	client_close(client);
	return good;
}

static bool is_closed(struct client *client)
{
	return !client_reply(client) && client->end == client->start;
}

static void half_requests(void)
{
	static const char *const halves[] = {
		"*",
		"*3",
		"*3\r\n$3\r\nSET\r\n$1\r\n",
		"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$100\r\nnot all of it",
		"GET half",
	};
	struct client *client;

	for (int i = 0; i < 200; i++) {
		client = client_open(server.port);
		client_say(client, halves[i % COUNT(halves)]);
		if (i % 2)
			sleep_ms(1);
		client_close(client);
	}
	client = client_open(server.port);
	REPLY_IS(client_call(client, "EXISTS half"), ":0\r\n");
	client_close(client);
}

/* A client that announces half a gigabyte costs what it has sent. */
static void announced_is_not_allocated(void)
{
	struct client *clients[20];
	long before = server_status(&server, "VmRSS"), after;

	for (size_t i = 0; i < COUNT(clients); i++) {
		clients[i] = client_open(server.port);
		client_say(clients[i], "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\nand here it ends");
	}
	EXPECT(alive());
	sleep_ms(100);
	after = server_status(&server, "VmRSS");
	printf("# %zu times 512 MiB announced: %ld MiB more\n", COUNT(clients), (after - before) / 1024);
	EXPECT(before > 0);
	if (!SANITIZED)
		EXPECT(after - before < BOUND_KIB);
	for (size_t i = 0; i < COUNT(clients); i++)
		client_close(clients[i]);
}

/* Sends as much as is taken within the time. Returns the requests sent whole. */
static long stuff(int fd, const char *request, long count, int ms)
{
	size_t size = strlen(request), at = 0;
	double limit = seconds_now() + ms * 1e-3;
	long sent = 0;

	while (sent < count && seconds_now() < limit) {
		ssize_t n = send(fd, request + at, size - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			break;
		if (n < 0) {
			sleep_ms(1);
			continue;
		}
		at += n;
		if (at == size) {
			at = 0;
			sent++;
		}
	}
	return sent;
}

static void slow_reader(void)
{
	enum { VALUE = 100000, REQUESTS = SANITIZED ? 1000 : 5000 };
	struct client *slow = client_open(server.port), *other = client_open(server.port);
	char *value = malloc(VALUE + 1);
	const char *argv[] = { "SET", "slow", value };
	size_t sizes[] = { 3, 4, VALUE };
	long before, after, asked, got;

	memset(value, 'v', VALUE);
	EXPECT(client_args(other, 3, argv, sizes));
	REPLY_IS(client_reply(other), "+OK\r\n");
	before = server_status(&server, "VmRSS");
	asked = stuff(slow->fd, "GET slow\r\n", REQUESTS, 2000);
	REPLY_IS(client_call(other, "PING"), "+PONG\r\n");
	REPLY_IS(client_call(other, "STRLEN slow"), ":100000\r\n");
	after = server_status(&server, "VmRSS");
	printf("# %ld MB asked for and not read: %ld MiB more\n", asked / 10, (after - before) / 1024);
	EXPECT(asked == REQUESTS);
	if (!SANITIZED)
		EXPECT(after - before < BOUND_KIB);
	/* It was slow, not lost: it reads on, and every reply is right. */
	for (got = 0; got < asked; got++)
		if (!client_reply(slow) || slow->reply_size != VALUE + 11 ||
		    memcmp(slow->reply + 9, value, VALUE))
			break;
	EXPECT_EQ(got, asked);
	REPLY_IS(client_call(slow, "PING"), "+PONG\r\n");
	REPLY_IS(client_call(other, "DEL slow"), ":1\r\n");
	free(value);
	client_close(slow);
	client_close(other);
}

/* A subscriber that does not read must not hold the publisher up, nor cost more than a bounded amount. */
static void slow_subscriber(void)
{
	enum { SIZE = 100000, MESSAGES = SANITIZED ? 1000 : 3000 };
	struct client *slow = client_open(server.port), *writer = client_open(server.port);
	char *value = malloc(SIZE);
	const char *argv[] = { "PUBLISH", "flood", value };
	size_t sizes[] = { 7, 5, SIZE };
	long before, after;
	int i;

	memset(value, 'v', SIZE);
	EXPECT(client_call(slow, "SUBSCRIBE flood"));
	server_peak_reset(&server);
	before = server_status(&server, "VmHWM");
	for (i = 0; i < MESSAGES; i++)
		if (!client_args(writer, 3, argv, sizes) || !client_reply(writer) || writer->reply[0] != ':')
			break;
	EXPECT_EQ(i, MESSAGES);
	after = server_status(&server, "VmHWM");
	printf("# %d MB published to one who does not read: at most %ld MiB more\n",
	       SIZE / 1000 * MESSAGES / 1000, (after - before) / 1024);
	if (!SANITIZED)
		EXPECT(after - before < BOUND_KIB);
	/* It was cut off, after whole messages only. */
	errno = 0;
	while (client_reply(slow) && slow->reply[0] == '*')
		;
	if (!EXPECT(errno != EAGAIN))
		printf("#   its connection stays open\n");
	REPLY_IS(client_call(writer, "PUBLISH flood last"), ":0\r\n");
	free(value);
	client_close(slow);
	client_close(writer);
}

static bool served(struct client *client)
{
	const char *reply = client_call(client, "PING");

	return reply && reply[0] == '+';
}

static void too_many_clients(void)
{
	enum { MAX = 10 };
	struct client *clients[MAX], *one_more;
	struct server small;
	int i;

	if (!EXPECT(server_start(&small, kv_path(), "--dir", temp_subdir("small"), "--maxclients", "10", NULL)))
		return;
	/* The connection that found the server ready may still be on its way out. */
	for (i = 0; i < MAX; i++) {
		for (int tries = 0; tries < 200; tries++) {
			clients[i] = client_open(small.port);
			if (served(clients[i]))
				break;
			client_close(clients[i]);
			clients[i] = NULL;
			sleep_ms(5);
		}
		if (!EXPECT(clients[i]))
			return server_kill(&small);
	}
	for (i = 0; i < 3; i++) {
		one_more = client_open(small.port);
		REPLY_IS(client_reply(one_more), "-ERR max number of clients reached\r\n");
		EXPECT(is_closed(one_more));
		client_close(one_more);
	}
	EXPECT(served(clients[0]));
	client_close(clients[MAX - 1]);
	for (i = 0; i < 200; i++) {
		bool good;

		one_more = client_open(small.port);
		good = served(one_more);
		client_close(one_more);
		if (good)
			break;
		sleep_ms(5);
	}
	EXPECT(i < 200);
	for (i = 0; i < MAX - 1; i++)
		client_close(clients[i]);
	server_kill(&small);
}

static void descriptors_come_back(void)
{
	int before = server_descriptors(&server), tries = 0;

	EXPECT(before > 0);
	for (int i = 0; i < 500; i++) {
		struct client *client = client_open(server.port);

		if (i % 3)
			client_say(client, i % 2 ? "SUBSCRIBE a\r\n" : "PING\r\nGET ");
		client_close(client);
	}
	while (server_descriptors(&server) > before && tries++ < 1000)
		sleep_ms(5);
	EXPECT(server_descriptors(&server) <= before);
}

/* In clock ticks. */
static long cpu_time(const struct server *of)
{
	char path[64], text[1024] = "", *after;
	unsigned long user = 0, system = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", of->pid);
	file = fopen(path, "r");
	if (file && fgets(text, sizeof(text), file) && (after = strrchr(text, ')')))
		sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
	if (file)
		fclose(file);
	return user + system;
}

static int answered(struct client **clients, int count)
{
	int n = 0;

	for (int i = 0; i < count; i++)
		n += poll(&(struct pollfd){ .fd = clients[i]->fd, .events = POLLIN }, 1, 0) > 0;
	return n;
}

/* Those who are there are served; those who are too many wait, and are when descriptors come back. */
static void out_of_descriptors(void)
{
	enum { CLIENTS = 40, ROOM = 12 };
	struct client *clients[CLIENTS];
	struct server small;
	struct rlimit limit;
	long ticks;
	int served;

	if (!EXPECT(server_start(&small, kv_path(), "--dir", temp_subdir("descriptors"), "--appendonly", "yes", NULL)))
		return;
	clients[0] = client_open(small.port);
	REPLY_IS(client_call(clients[0], "SET kept x"), "+OK\r\n");
	limit.rlim_cur = limit.rlim_max = server_descriptors(&small) + ROOM;
	EXPECT(!prlimit(small.pid, RLIMIT_NOFILE, &limit, NULL));
	for (int i = 1; i < CLIENTS; i++) {
		clients[i] = client_open(small.port);
		client_say(clients[i], "PING\r\n");
	}
	for (int tries = 0; tries < 1000 && answered(clients + 1, CLIENTS - 1) < ROOM / 2; tries++)
		sleep_ms(5);
	ticks = cpu_time(&small);
	sleep_ms(1000);
	ticks = cpu_time(&small) - ticks;
	served = answered(clients + 1, CLIENTS - 1);
	printf("# %d of %d clients served, %ld of %ld ticks of CPU time while the others waited\n", served, CLIENTS - 1,
	       ticks, sysconf(_SC_CLK_TCK));
	EXPECT(served >= ROOM / 2 && served < CLIENTS - 1);
	if (!SANITIZED)
		EXPECT(ticks < sysconf(_SC_CLK_TCK) / 4);
	REPLY_IS(client_call(clients[0], "GET kept"), "$1\r\nx\r\n");
	REPLY_IS(client_call(clients[0], "SET kept y"), "+OK\r\n");
	/* Whoever was answered makes room for one who was not. */
	for (int i = 1; i < CLIENTS; i++) {
		REPLY_IS(client_reply(clients[i]), "+PONG\r\n");
		client_close(clients[i]);
	}
	REPLY_IS(client_call(clients[0], "GET kept"), "$1\r\ny\r\n");
	client_close(clients[0]);
	server_kill(&small);
}

static void still_there(void)
{
	if (!EXPECT(server_ready(&server) > 0))
		file_show(server.log);
}

int main(void)
{
	program_needed(kv_path());
	alarm(180);
	if (!server_start(&server, kv_path(), "--dir", temp_subdir("data"), NULL))
		return 1;
	selftest_case("half requests", half_requests);
	selftest_case("what is announced is not allocated", announced_is_not_allocated);
	selftest_case("a slow reader is bounded and loses nothing", slow_reader);
	selftest_case("a slow subscriber is bounded", slow_subscriber);
	selftest_case("too many clients", too_many_clients);
	selftest_case("descriptors of clients come back", descriptors_come_back);
	selftest_case("out of descriptors", out_of_descriptors);
	selftest_case("the server is still there", still_there);
	server_kill(&server);
	return selftest_done();
}
