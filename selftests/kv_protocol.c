/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kv's protocol from the side of a client that has no library: requests cut anywhere, inline ones, RESP3,
 * messages to subscribers, and what is no protocol at all; with the exact text of each answer.
 */
#include "kv_client.h"

static struct server server;

/* What the server says to these bytes, and then closes or not. */
struct dialogue {
	const char *says, *hears;
	bool closed;
};

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

/* Reads until `hears` has come, whatever number of replies that is. */
static void hear(struct client *client, const char *hears, const char *says)
{
	char text[4096];
	size_t wanted = strlen(hears), used = 0;
	ssize_t n = 1;

	while (used < wanted && n > 0) {
		n = recv(client->fd, text + used, wanted - used, 0);
		used += n > 0 ? n : 0;
	}
	text[used] = 0;
	if (used != wanted || memcmp(text, hears, wanted)) {
		selftest_complain(__FILE__, __LINE__, "what is heard");
		printf("#   to     %s\n#   wanted %s\n#   got    %s\n", shown(says, strlen(says)),
		       shown(hears, wanted), shown(text, used));
	}
}

static void talk(const struct dialogue *dialogues, size_t count, bool bytewise)
{
	for (size_t i = 0; i < count; i++) {
		const struct dialogue *d = &dialogues[i];
		struct client *client = client_open(server.port);

		if (bytewise) {
			for (const char *c = d->says; *c; c++) {
				if (!client_send(client, c, 1))
					break;
				if (c - d->says < 40)
					sleep_ms(1);
			}
		} else {
			client_say(client, d->says);
		}
		hear(client, d->hears, d->says);
		if (d->closed && !is_closed(client)) {
			selftest_complain(__FILE__, __LINE__, "closed");
			printf("#   after %s\n", shown(d->says, strlen(d->says)));
		}
		if (!d->closed) {
			client_say(client, "PING\r\n");
			hear(client, "+PONG\r\n", d->says);
		}
		client_close(client);
	}
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct dialogue requests[] = {
	{ "*1\r\n$4\r\nPING\r\n", "+PONG\r\n", false },
	{ "*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n", "$2\r\nhi\r\n", false },
	{ "*2\r\n$4\r\nEcHo\r\n$0\r\n\r\n", "$0\r\n\r\n", false },
	{ "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n1\r\n2\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
	  "+OK\r\n$4\r\n1\r\n2\r\n", false },
	{ "*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n", "$-1\r\n", false },
	{ "*0\r\n*-1\r\n", "", false },
	{ "*1\r\n$4\r\nQUIT\r\n", "+OK\r\n", true },
	{ "*1\r\n$3\r\nGET\r\n", "-ERR wrong number of arguments for 'get' command\r\n", false },
	{ "*3\r\n$3\r\nFOO\r\n$1\r\na\r\n$1\r\nb\r\n",
	  "-ERR unknown command 'FOO', with args beginning with: 'a' 'b' \r\n", false },
	{ "*1\r\n$0\r\n\r\n", "-ERR unknown command '', with args beginning with: \r\n", false },
};

static const struct dialogue lines[] = {
	{ "PING\r\n", "+PONG\r\n", false },
	{ "PING\n", "+PONG\r\n", false },
	{ "\r\n\r\n\n", "", false },
	{ "   set   b    two\r\nget b\r\n", "+OK\r\n$3\r\ntwo\r\n", false },
	{ "SET \"a b\" 'its \"own'\r\nGET \"a b\"\r\n", "+OK\r\n$8\r\nits \"own\r\n", false },
	{ "ECHO \"A\\n\\t\\\"'\"\r\n", "$5\r\nA\n\t\"'\r\n", false },
	{ "PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n", "+PONG\r\n+PONG\r\n+PONG\r\n", false },
	{ "GET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n", true },
	{ "GET \"a\"b\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n", true },
	{ "SET a\r\n", "-ERR wrong number of arguments for 'set' command\r\n", false },
};

static const struct dialogue bad[] = {
	{ "*abc\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true },
	{ "*\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true },
	{ "*2147483648\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true },
	{ "*99999999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true },
	{ "*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n", true },
	{ "*1\r\n$x\r\n", "-ERR Protocol error: invalid bulk length\r\n", true },
	{ "*1\r\n$ 4\r\nPING\r\n", "-ERR Protocol error: invalid bulk length\r\n", true },
	{ "*1\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length\r\n", true },
	{ "*1\r\n$18446744073709551616\r\n", "-ERR Protocol error: invalid bulk length\r\n", true },
	{ "*1\r\n:4\r\nPING\r\n", "-ERR Protocol error: expected '$', got ':'\r\n", true },
	{ "*2\r\n$4\r\nPING\r\nxx\r\n", "-ERR Protocol error: expected '$', got 'x'\r\n", true },
	{ "*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n", true },
	{ "*1\r\n*1\r\n$4\r\nPING\r\n", "-ERR Protocol error: expected '$', got '*'\r\n", true },
	/* What came before the bad bytes is answered first. */
	{ "PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n!\r\n",
	  "+PONG\r\n+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n", true },
};

static void whole_requests(void)
{
	talk(requests, COUNT(requests), false);
}

static void requests_byte_by_byte(void)
{
	talk(requests, COUNT(requests), true);
	talk(lines, COUNT(lines), true);
}

static void inline_commands(void)
{
	talk(lines, COUNT(lines), false);
}

static void bad_protocol(void)
{
	talk(bad, COUNT(bad), false);
	EXPECT(alive());
}

static void endless(const char *start, const char *error)
{
	struct client *client = client_open(server.port);
	char part[1024];
	const char *reply;

	memset(part, '1', sizeof(part));
	client_say(client, start);
	/* The server may close after the first 64 KiB: then the rest finds no one. */
	for (int i = 0; i < 80 && client_send(client, part, sizeof(part)); i++)
		;
	reply = client_reply(client);
	/* A reset by the bytes that were not read can overtake the words. */
	if (reply || errno != ECONNRESET)
		REPLY_IS(reply, error);
	client_close(client);
}

static void lines_without_end(void)
{
	endless("x", "-ERR Protocol error: too big inline request\r\n");
	endless("*", "-ERR Protocol error: too big mbulk count string\r\n");
	endless("*1\r\n$", "-ERR Protocol error: too big bulk count string\r\n");
	EXPECT(alive());
}

/* A line that ends in anything but CR LF in the middle of a request, and a CR that is never followed. */
static void missing_line_ends(void)
{
	struct client *client = client_open(server.port);

	client_say(client, "*1\n$4\nPING\n");
	client_say(client, "\r\n");
	EXPECT(!client_reply(client) || client->reply[0] == '-');
	client_close(client);
	client = client_open(server.port);
	client_say(client, "*1\r");
	sleep_ms(5);
	client_say(client, "\n$4\r\nPING\r\n");
	REPLY_IS(client_reply(client), "+PONG\r\n");
	client_close(client);
	EXPECT(alive());
}

static void random_garbage(void)
{
	unsigned long long state = 12345;
	char bytes[512];

	for (int i = 0; i < 200; i++) {
		struct client *client = client_open(server.port);

		for (size_t j = 0; j < sizeof(bytes); j++) {
			state = state * 6364136223846793005ULL + 1442695040888963407ULL;
			/* Often the bytes that mean something, so that some of it gets far. */
			bytes[j] = state >> 62 ? (char)(state >> 40)
					       : "*$\r\n123-GETSPING \"'"[(state >> 40) % 19];
		}
		client_send(client, bytes, sizeof(bytes));
		if (i % 2)
			shutdown(client->fd, SHUT_WR);
		client_close(client);
	}
	EXPECT(alive());
}

static void pipelining(void)
{
	enum { COMMANDS = 20000 };
	struct client *client = client_open(server.port);
	char *text = malloc(COMMANDS * 64), wanted[32];
	size_t used = 0;

	REPLY_IS(client_call(client, "DEL counter"), ":0\r\n");
	for (int i = 0; i < COMMANDS; i++)
		used += sprintf(text + used, i % 3 ? "*2\r\n$4\r\nINCR\r\n$7\r\ncounter\r\n" :
				"*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n");
	EXPECT(client_send(client, text, used));
	for (int i = 0, counter = 0; i < COMMANDS; i++) {
		if (i % 3)
			sprintf(wanted, ":%d\r\n", ++counter);
		else
			strcpy(wanted, "$2\r\nhi\r\n");
		if (!REPLY_IS(client_reply(client), wanted))
			break;
	}
	free(text);
	client_close(client);
}

static void replies_keep_order_over_shards(void)
{
	struct client *client = client_open(server.port);
	char text[200], wanted[240];

	for (int i = 0; i < 500; i++) {
		sprintf(text, "SET order:%d %d\r\nGET order:%d\r\nGET order:%d\r\nPING\r\n", i, i, i, i / 2);
		client_say(client, text);
	}
	for (int i = 0; i < 500; i++) {
		REPLY_IS(client_reply(client), "+OK\r\n");
		sprintf(text, "%d", i);
		sprintf(wanted, "$%zu\r\n%s\r\n", strlen(text), text);
		REPLY_IS(client_reply(client), wanted);
		sprintf(text, "%d", i / 2);
		sprintf(wanted, "$%zu\r\n%s\r\n", strlen(text), text);
		REPLY_IS(client_reply(client), wanted);
		if (!REPLY_IS(client_reply(client), "+PONG\r\n"))
			break;
	}
	client_close(client);
}

static void big_value(void)
{
	enum { SIZE = 32 << 20 };
	struct client *client = client_open(server.port);
	char *value = malloc(SIZE);
	const char *argv[] = { "SET", "big", value }, *reply;
	size_t sizes[] = { 3, 3, SIZE };

	for (size_t i = 0; i < SIZE; i++)
		value[i] = i * 2654435761u >> 13;
	EXPECT(client_args(client, 3, argv, sizes));
	REPLY_IS(client_reply(client), "+OK\r\n");
	client_say(client, "GET big\r\n");
	reply = client_reply(client);
	if (EXPECT(reply) && EXPECT(client->reply_size == strlen("$33554432\r\n\r\n") + SIZE))
		EXPECT(!memcmp(reply + strlen("$33554432\r\n"), value, SIZE));
	REPLY_IS(client_call(client, "DEL big"), ":1\r\n");
	free(value);
	client_close(client);
}

static void resp3(void)
{
	struct client *client = client_open(server.port);
	const char *reply;

	REPLY_IS(client_call(client, "HELLO 4"), "-NOPROTO unsupported protocol version\r\n");
	REPLY_IS(client_call(client, "HELLO x"), "-ERR Protocol version is not an integer or out of range\r\n");
	reply = client_call(client, "HELLO");
	EXPECT(reply && reply[0] == '*' && strstr(reply, "$5\r\nproto\r\n:2\r\n"));
	reply = client_call(client, "HELLO 3");
	EXPECT(reply && reply[0] == '%' && strstr(reply, "$5\r\nproto\r\n:3\r\n") &&
	       strstr(reply, "$7\r\nversion\r\n"));
	REPLY_IS(client_call(client, "GET none"), "_\r\n");
	REPLY_IS(client_call(client, "MGET none none"), "*2\r\n_\r\n_\r\n");
	REPLY_IS(client_call(client, "SUBSCRIBE three"), ">3\r\n$9\r\nsubscribe\r\n$5\r\nthree\r\n:1\r\n");
	/* RESP3 can tell messages from replies, so a subscriber may go on asking. */
	REPLY_IS(client_call(client, "GET none"), "_\r\n");
	REPLY_IS(client_call(client, "UNSUBSCRIBE three"), ">3\r\n$11\r\nunsubscribe\r\n$5\r\nthree\r\n:0\r\n");
	reply = client_call(client, "HELLO 2");
	EXPECT(reply && reply[0] == '*' && strstr(reply, "$5\r\nproto\r\n:2\r\n"));
	REPLY_IS(client_call(client, "GET none"), "$-1\r\n");
	client_close(client);
}

static void publish_and_subscribe(void)
{
	struct client *reader = client_open(server.port), *writer = client_open(server.port);
	char wanted[64];
	int i;

	REPLY_IS(client_call(writer, "PUBLISH news hi"), ":0\r\n");
	REPLY_IS(client_call(reader, "SUBSCRIBE news other"), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
	REPLY_IS(client_reply(reader), "*3\r\n$9\r\nsubscribe\r\n$5\r\nother\r\n:2\r\n");
	REPLY_IS(client_call(writer, "PUBLISH news hi"), ":1\r\n");
	REPLY_IS(client_reply(reader), "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
	REPLY_IS(client_call(reader, "GET a"),
		 "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
		 "are allowed in this context\r\n");
	REPLY_IS(client_call(reader, "PING"), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
	for (i = 0; i < 2000; i++) {
		sprintf(wanted, "PUBLISH %s %d\r\n", i % 2 ? "news" : "other", i);
		client_say(writer, wanted);
	}
	for (i = 0; i < 2000; i++) {
		char number[16];

		if (!REPLY_IS(client_reply(writer), ":1\r\n"))
			break;
		sprintf(number, "%d", i);
		sprintf(wanted, "*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%zu\r\n%s\r\n", i % 2 ? 4 : 5,
			i % 2 ? "news" : "other", strlen(number), number);
		if (!REPLY_IS(client_reply(reader), wanted))
			break;
	}
	REPLY_IS(client_call(reader, "UNSUBSCRIBE news"), "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:1\r\n");
	REPLY_IS(client_call(writer, "PUBLISH news hi"), ":0\r\n");
	REPLY_IS(client_call(reader, "UNSUBSCRIBE"), "*3\r\n$11\r\nunsubscribe\r\n$5\r\nother\r\n:0\r\n");
	REPLY_IS(client_call(reader, "UNSUBSCRIBE"), "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
	REPLY_IS(client_call(reader, "GET none"), "$-1\r\n");

	/* A subscriber that is gone is not counted for long. */
	REPLY_IS(client_call(reader, "SUBSCRIBE news"), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
	client_close(reader);
	for (i = 0; i < 1000; i++) {
		const char *reply = client_call(writer, "PUBLISH news gone");

		if (!reply || !strcmp(reply, ":0\r\n"))
			break;
		sleep_ms(5);
	}
	EXPECT(i < 1000);
	client_close(writer);
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
	selftest_case("requests", whole_requests);
	selftest_case("requests byte by byte", requests_byte_by_byte);
	selftest_case("inline commands", inline_commands);
	selftest_case("bad protocol gets the reason, then the connection ends", bad_protocol);
	selftest_case("lines without end", lines_without_end);
	selftest_case("missing line ends", missing_line_ends);
	selftest_case("random garbage", random_garbage);
	selftest_case("pipelining", pipelining);
	selftest_case("replies keep their order over shards", replies_keep_order_over_shards);
	selftest_case("a value of 32 MiB", big_value);
	selftest_case("RESP3", resp3);
	selftest_case("publish and subscribe", publish_and_subscribe);
	selftest_case("the server is still there", still_there);
	server_kill(&server);
	return selftest_done();
}
