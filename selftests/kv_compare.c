/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The same commands to a real redis-server and to kv: every reply must be the same, byte by byte. The lines
 * below hold each command's errors and corner cases; a seeded generator ($SEED, default 1) adds combinations.
 *
 * Allowed to differ, and how:
 *   KEYS, SCAN		order; cursors (a whole iteration is compared, as a sorted list)
 *   TTL, EXPIRETIME	1, and PTTL, PEXPIRETIME 1,000: the two are not asked at the same moment
 *   inline commands	\xNN and, in single quotes, \' are Redis's alone; not compared here
 *   CONFIG, CLIENT	the texts of errors
 *   HELLO, INFO, CLIENT, CONFIG GET *, COMMAND: who the server is; not compared here
 */
#include "kv_client.h"

#define RANDOM_COMMANDS 6000

static struct server ours, theirs;
static struct client *our_client, *their_client;
static unsigned long long state;
static int compared, different;

static const char *const lines[] = {
	"PING", "PING hello", "PING a b", "ECHO x", "ECHO", "ECHO a b", "NOSUCH", "NOSUCH a b c", "get",
	"GeT a b", "\"\"", "SET \"\" empty", "GET \"\"", "STRLEN \"\"", "DEL \"\"",
	/* SET and its options */
	"SET k v", "GET k", "SET k", "SET", "SET k v NX", "SET n v NX", "GET n", "SET k v2 XX",
	"SET nokey v XX", "GET nokey", "SET k v NX XX", "SET k v GET", "SET none v GET", "SET none2 v NX GET",
	"SET k w NX GET", "SET k w XX GET", "SET none3 v XX GET", "GET none3", "SET k v EX 100", "TTL k",
	"SET k v KEEPTTL", "TTL k", "SET k v", "TTL k", "SET k v PX 100000", "PTTL k", "SET k v EX",
	"SET k v EX 0", "SET k v EX -1", "SET k v EX abc", "SET k v PX 0", "SET k v PX 1.5",
	"SET k v EX 10 PX 10", "SET k v EX 10 KEEPTTL", "SET k v KEEPTTL EX 10", "SET k v EXAT 9999999999",
	"EXPIRETIME k", "SET k v PXAT 9999999999999", "PEXPIRETIME k", "SET k v EXAT 0", "SET k v EXAT 1",
	"GET k", "EXISTS k", "SET k v PXAT 1", "GET k", "SET k v FOO", "SET k v NX FOO", "SET k v nx",
	"SET k v xx ex 100 get", "TTL k", "SET k v EX 9223372036854775807", "SET k v PX 9223372036854775807",
	"SET k v EX 9223372036854775", "SET k v GET GET", "SET k v XX XX", "SET k \"a b\\r\\nc\\td\"",
	"GET k", "STRLEN k", "SET \"a b\" 1", "GET \"a b\"", "TTL k", "PTTL k", "TTL k", "GETDEL k",
	"GETDEL k", "GETDEL", "GETDEL a b", "SET k v", "TTL k", "TTL k", "EXISTS k",
	/* many keys */
	"MSET a 1 b 2 c 3", "MGET a b c d", "MSET a", "MSET a 1 b", "MSET", "MGET", "MSET a 1 a 2", "GET a",
	"MGET y z", "EXISTS a b c d", "EXISTS a a a", "EXISTS", "DEL a b c d", "DEL a", "DEL", "UNLINK y z",
	"UNLINK", "TOUCH fresh none", "MGET a a a",
	/* numbers */
	"SET i 10", "INCR i", "DECR i", "INCRBY i 5", "DECRBY i 7", "INCR new", "DECR new2", "INCRBY new3 -4",
	"DECRBY new4 -4", "INCR", "INCRBY i", "INCRBY i x", "INCRBY i 1.5", "INCRBY i \"\"",
	"INCRBY i \" 1\"", "INCRBY i +1", "INCRBY i 01", "INCRBY i -0", "INCRBY i 9223372036854775807",
	"SET i 9223372036854775807", "INCR i", "SET i -9223372036854775808", "DECR i",
	"DECRBY i -9223372036854775808", "INCRBY i 9223372036854775808", "SET i abc", "INCR i",
	"SET i \" 1\"", "INCR i", "SET i \"1 \"", "INCR i", "SET i 1.0", "INCR i", "SET i 007", "INCR i",
	"SET i -0", "INCR i", "SET i \"\"", "INCR i", "SET i 9223372036854775808", "INCR i", "SET i 5 EX 100",
	"INCR i", "TTL i", "SET f 10.5", "INCRBYFLOAT f 0.1", "INCRBYFLOAT f -5", "INCRBYFLOAT f x",
	"INCRBYFLOAT f", "SET f 5.0e3", "INCRBYFLOAT f 2.0e2", "INCRBYFLOAT f inf", "INCRBYFLOAT f nan",
	"SET f abc", "INCRBYFLOAT f 1", "INCRBYFLOAT newf 3", "INCRBYFLOAT newf 1e-5", "SET f 3.0",
	"INCRBYFLOAT f 1.000000000000000005", "SET f 1e300", "INCRBYFLOAT f 1e300", "INCRBYFLOAT f \" 1\"",
	"SET f \"1 \"", "INCRBYFLOAT f 1", "SET f 0.1", "INCRBYFLOAT f 0.2",
	/* strings */
	"DEL s", "APPEND s Hello", "APPEND s \" World\"", "GET s", "APPEND s", "APPEND s \"\"", "STRLEN s",
	"STRLEN none9", "STRLEN", "GETRANGE s 0 4", "GETRANGE s -5 -1", "GETRANGE s 0 -1", "GETRANGE s 5 2",
	"GETRANGE s 100 200", "GETRANGE s 0 1000", "GETRANGE s -1000 2", "GETRANGE s -2 -5",
	"GETRANGE none9 0 -1", "GETRANGE s a b", "GETRANGE s 0", "GETRANGE s -1000 -900",
	"GETRANGE s 0 9223372036854775807", "GETRANGE s -9223372036854775808 -1", "SETRANGE s 6 Redis",
	"GET s", "SETRANGE s 20 far", "GET s", "SETRANGE none8 5 x", "GET none8", "SETRANGE s -1 x",
	"SETRANGE s x y", "SETRANGE s 0 \"\"", "SETRANGE none7 3 \"\"", "EXISTS none7",
	"SETRANGE s 536870912 x", "SETRANGE s 9223372036854775807 x", "SETRANGE s 1", "SET s v EX 100",
	"APPEND s w", "TTL s", "SETRANGE s 0 z", "TTL s",
	/* times */
	"SET e v", "TTL e", "PTTL e", "EXPIRE e 100", "TTL e", "PERSIST e", "TTL e", "PERSIST e",
	"PERSIST nokey", "TTL nokey", "PTTL nokey", "EXPIRETIME nokey", "EXPIRETIME e", "PEXPIRETIME e",
	"EXPIRE nokey 100", "EXPIRE e x", "EXPIRE e", "EXPIRE e 1.5", "EXPIRE e 100 NX", "EXPIRE e 200 NX",
	"EXPIRE e 200 XX", "EXPIRE e 100 GT", "EXPIRE e 300 GT", "EXPIRE e 400 LT", "EXPIRE e 50 LT", "TTL e",
	"EXPIRE e 100 NX XX", "EXPIRE e 100 GT LT", "EXPIRE e 100 NX GT", "EXPIRE e 100 FOO",
	"EXPIRE e 10 XX GT", "TTL e", "PERSIST e", "EXPIRE e 100 XX", "EXPIRE e 100 GT", "EXPIRE e 100 LT",
	"TTL e", "PEXPIRE e 100000", "PTTL e", "EXPIREAT e 9999999999", "EXPIRETIME e", "TTL e",
	"PEXPIREAT e 9999999999999", "PEXPIRETIME e", "EXPIRE e 9223372036854775807",
	"EXPIRE e -9223372036854775808", "PEXPIRE e 9223372036854775807", "EXPIREAT e 9223372036854775807",
	"EXPIRE e 9223372036854775", "TTL e", "SET e v", "EXPIRE e -1", "EXISTS e", "SET e v", "EXPIRE e 0",
	"EXISTS e", "SET e v", "EXPIREAT e 1", "EXISTS e", "SET e v", "PEXPIREAT e 0", "GET e", "PEXPIRE e",
	"TTL", "TTL a b", "EXPIRETIME", "PERSIST",
	/* keys */
	"TYPE fresh", "TYPE nokey", "TYPE", "TYPE a b", "DBSIZE", "DBSIZE x", "FLUSHALL", "DBSIZE", "KEYS *",
	"KEYS", "KEYS a b", "MSET hello 1 hallo 2 hxllo 3 hllo 4 heeello 5 h[llo 6 h*llo 7",
	"MSET h?llo 8 \"h\\\\llo\" 9 \"\" 10 a 11 ab 12 abc 13 \"a]c\" 14 a-c 15 a^c 16", "KEYS h?llo",
	"KEYS h*llo", "KEYS h[ae]llo", "KEYS h[^e]llo", "KEYS h[a-b]llo", "KEYS h[b-a]llo",
	"KEYS \"h\\\\?llo\"", "KEYS \"h\\\\*llo\"", "KEYS \"h\\\\[llo\"", "KEYS \"h\\\\\\\\llo\"",
	"KEYS h[[]llo", "KEYS h[*]llo", "KEYS \"\"", "KEYS ?", "KEYS ??", "KEYS h**", "KEYS *l*o", "KEYS a*c",
	"KEYS a[]", "KEYS a[", "KEYS a[b", "KEYS a[b-", "KEYS a[-z]c", "KEYS a[]]c", "KEYS \"a[\\\\]]c\"",
	"KEYS a[^b]c", "KEYS a[^]c", "KEYS a[\\^]c", "KEYS *[", "KEYS *a*b*c*", "KEYS h**?llo", "KEYS HELLO",
	"KEYS \"*\\\\\"", "SCAN x", "SCAN", "SCAN 0 COUNT 0", "SCAN 0 COUNT x", "SCAN 0 COUNT -5",
	"SCAN 0 FOO", "SCAN 0 MATCH", "SCAN 0 FOO bar", "SCAN 0 COUNT", "SCAN 1.5",
	"SCAN 18446744073709551616", "FLUSHALL ASYNC", "SET x 1", "FLUSHALL SYNC", "EXISTS x", "FLUSHALL FOO",
	"FLUSHALL SYNC ASYNC", "FLUSHDB",
	/* connection and server */
	"SELECT 0", "SELECT 1", "SELECT -1", "SELECT x", "TIME x", "SELECT", "SUBSCRIBE", "PUBLISH a",
	"PUBLISH a b", "PUBLISH", "UNSUBSCRIBE nothing", "CONFIG GET appendfsync", "CONFIG GET appendonly",
	"CONFIG GET nosuch", "CONFIG", "CONFIG FOO", "CONFIG SET nosuch 1",
	"CONFIG SET appendfsync sometimes", "CONFIG SET appendfsync everysec", "CONFIG GET append*sync",
	"CONFIG GET", "CLIENT SETNAME me", "CLIENT GETNAME", "CLIENT SETNAME \"a b\"", "CLIENT FOO", "CLIENT",
	"CLIENT SETNAME \"\"", "CLIENT GETNAME", "HELLO 1", "HELLO x", "HELLO 2 FOO", "HELLO 3 SETNAME",
	"RESET",
};

static unsigned int below(unsigned int n)
{
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (state >> 33) % n;
}

static bool near(const char *a, const char *b, long long distance)
{
	long long x, y;

	if (a[0] != ':' || b[0] != ':')
		return false;
	x = atoll(a + 1);
	y = atoll(b + 1);
	return (x < 0) == (y < 0) && llabs(x - y) <= distance;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A flat array's elements, each with its head, in order. */
static char *sorted(const char *reply, size_t size)
{
	char *parts[512], *out = calloc(1, size + 1);
	size_t used = strchr(reply, '\n') + 1 - reply;
	int count = 0;

	while (used < size && count < 512) {
		long part = reply_size(reply + used, size - used);

		parts[count++] = strndup(reply + used, part);
		used += part;
	}
	qsort(parts, count, sizeof(parts[0]), by_text);
	for (int i = 0; i < count; i++) {
		strcat(out, parts[i]);
		free(parts[i]);
	}
	return out;
}

static bool same(const char *name)
{
	const char *a = their_client->reply, *b = our_client->reply;
	bool equal;

	if (their_client->reply_size == our_client->reply_size && !memcmp(a, b, our_client->reply_size))
		return true;
	if (!strcmp(name, "TTL") || !strcmp(name, "EXPIRETIME"))
		return near(a, b, 1);
	if (!strcmp(name, "PTTL") || !strcmp(name, "PEXPIRETIME"))
		return near(a, b, 1000);
	if (!strcmp(name, "CONFIG") || !strcmp(name, "CLIENT"))
		return a[0] == '-' && b[0] == '-';
	if (!strcmp(name, "KEYS") && a[0] == '*' && b[0] == '*') {
		char *x = sorted(a, their_client->reply_size), *y = sorted(b, our_client->reply_size);

		equal = !strcmp(x, y);
		free(x);
		free(y);
		return equal;
	}
	return false;
}

/* False when one of the two is gone. */
static bool compare(const char *name, const char *request, size_t size)
{
	if (!EXPECT(client_send(their_client, request, size)) ||
	    !EXPECT(client_send(our_client, request, size)) || !EXPECT(client_reply(their_client)))
		return false;
	if (!EXPECT(client_reply(our_client))) {
		printf("#   to    %s\n", shown(request, size));
		return false;
	}
	compared++;
	if (same(name))
		return true;
	selftest_complain(__FILE__, __LINE__, "the same reply");
	if (different++ < 60)
		printf("#   to    %s\n#   redis %s\n#   kv    %s\n", shown(request, size),
		       shown(their_client->reply, their_client->reply_size),
		       shown(our_client->reply, our_client->reply_size));
	return true;
}

static bool compare_line(const char *line)
{
	char text[1024], name[32];
	int size = snprintf(text, sizeof(text), "%s\r\n", line);

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(line, " "), line);
	return compare(name, text, size);
}

static void begin(void)
{
	const char *seed = getenv("SEED");

	state = seed ? strtoull(seed, NULL, 0) : 1;
	compared = different = 0;
	our_client = client_open(ours.port);
	their_client = client_open(theirs.port);
	compare_line("FLUSHALL");
}

static void end(void)
{
	printf("# %d replies compared\n", compared);
	client_close(our_client);
	client_close(their_client);
}

static void corner_cases(void)
{
	begin();
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (!compare_line(lines[i]))
			break;
	end();
}

static void corner_cases_resp3(void)
{
	begin();
	EXPECT(client_call(our_client, "HELLO 3") && client_call(their_client, "HELLO 3"));
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (strcmp(lines[i], "RESET") && !compare_line(lines[i]))
			break;
	end();
}

static const char *random_word(void)
{
	static const char *const values[] = {
		"0", "1", "-1", "10", "100", "9223372036854775807", "-9223372036854775808",
		"9223372036854775808", "3.25", "1e3", "abc", "", " 7", "7 ", "+7", "007", "-0", "a b",
		"line\r\nend", "NX", "XX", "GET", "EX", "PX", "KEEPTTL", "GT", "LT", "100000", "0x10", "NaN",
		"\xff\xfe", "*", "a long value that is longer than what is kept in place by anyone",
	};

	return values[below(sizeof(values) / sizeof(values[0]))];
}

/* Mostly right: the kinds of argument that a command wants, at times one more, less, or of another kind. */
static bool compare_random(void)
{
	/* k key, v word, n number, i index, t time, a absolute time, p pattern; o options of SET, x of EXPIRE
	 */
	static const char *const shapes[] = {
		"SET kv", "SET kv", "SET kvo", "SET kvo", "SET kvoo", "GET k", "GET k", "GETDEL k",
		"MSET kvkv", "MSET kvkvkv", "MGET kkk", "DEL kk", "EXISTS kkk", "INCR k", "DECR k",
		"INCRBY kn", "DECRBY kn", "INCRBYFLOAT kn", "APPEND kv", "STRLEN k", "GETRANGE knn",
		"SETRANGE kiv", "EXPIRE kt", "EXPIRE ktx", "PEXPIRE kt", "TTL k", "PTTL k", "PERSIST k",
		"EXPIRETIME k", "PEXPIRETIME k", "TYPE k", "DBSIZE ", "EXPIREAT ka", "KEYS p",
	};
	static const char *const set_options[][2] = {
		{ "NX", NULL }, { "XX", NULL }, { "GET", NULL }, { "KEEPTTL", NULL }, { "EX", "1000" },
		{ "PX", "1000000" }, { "EXAT", "9999999999" }, { "ex", "2000" }, { "PERSIST", NULL },
		{ "EX", NULL },
	};
	static const char *const expire_options[] = { "NX", "XX", "GT", "LT", "nx", "bad" };
	static const char *const numbers[] = {
		"1", "-1", "0", "5", "-7", "1000", "2.5", "x", "9223372036854775807", "-3",
	};
	static const char *const indexes[] = { "0", "1", "3", "10", "-1", "x" };
	static const char *const times[] = { "100000", "200000", "500000", "1000000", "-1", "x", "0" };
	static const char *const patterns[] = { "*", "k*", "?1", "k[0-4]", "k[^1]", "none" };
	static char keys[10][3];
	const char *shape = shapes[below(sizeof(shapes) / sizeof(shapes[0]))], *argv[24],
		   *letter = strchr(shape, ' ');
	char name[24], text[4096];
	size_t used = 0;
	int argc = 0;

	snprintf(name, sizeof(name), "%.*s", (int)(letter - shape), shape);
	argv[argc++] = name;
	for (letter++; *letter && argc < 20; letter++) {
		char kind = *letter == 't' || below(60) ? *letter : 'v';
		int option;

		switch (kind) {
		case 'k':
			option = below(10);
			sprintf(keys[option], "k%d", option);
			argv[argc++] = keys[option];
			break;
		case 'o':
			option = below(10);
			argv[argc++] = set_options[option][0];
			if (set_options[option][1])
				argv[argc++] = set_options[option][1];
			break;
		case 'x':
			argv[argc++] = expire_options[below(6)];
			break;
		case 'n':
			argv[argc++] = numbers[below(10)];
			break;
		case 'i':
			argv[argc++] = indexes[below(6)];
			break;
		case 't':
			argv[argc++] = times[below(7)];
			break;
		case 'a':
			argv[argc++] = below(4) ? "9999999999" : "1";
			break;
		case 'p':
			argv[argc++] = patterns[below(6)];
			break;
		default:
			argv[argc++] = random_word();
		}
	}
	if (!below(40))
		argc--;
	if (!below(40))
		argv[argc++] = random_word();
	if (argc < 1)
		return true;
	used = sprintf(text, "*%d\r\n", argc);
	for (int i = 0; i < argc; i++)
		used += sprintf(text + used, "$%zu\r\n%s\r\n", strlen(argv[i]), argv[i]);
	return compare(name, text, used);
}

static void random_commands(void)
{
	begin();
	for (int i = 0; i < RANDOM_COMMANDS && different < 60; i++)
		if (!compare_random())
			break;
	/* Whatever the replies were, the contents must be the same in the end. */
	compare_line("DBSIZE");
	compare_line("KEYS *");
	for (int i = 0; i < 10; i++) {
		char line[32];

		snprintf(line, sizeof(line), "GET k%d", i);
		compare_line(line);
		snprintf(line, sizeof(line), "TTL k%d", i);
		compare_line(line);
	}
	end();
}

/* A whole iteration, as a sorted list of what it returned; NULL when it does not come to an end. */
static char *scan_all(struct client *client, const char *options)
{
	char *all = strdup(""), cursor[32] = "0", *list;
	size_t size = 0;

	for (int step = 0; step < 2000; step++) {
		const char *reply = client_call(client, "SCAN %s%s", cursor, options), *keys, *text;
		long head;

		if (!reply || strncmp(reply, "*2\r\n$", 5)) {
			free(all);
			return NULL;
		}
		text = strchr(reply + 5, '\n') + 1;
		snprintf(cursor, sizeof(cursor), "%.*s", (int)strcspn(text, "\r"), text);
		head = 4 + reply_size(reply + 4, client->reply_size - 4);
		keys = strchr(reply + head, '\n') + 1;
		all = realloc(all, size + client->reply_size + 1);
		strcpy(all + size, keys);
		size += strlen(keys);
		if (!strcmp(cursor, "0")) {
			list = malloc(size + 8);
			sprintf(list, "*0\r\n%s", all);
			free(all);
			all = sorted(list, strlen(list));
			free(list);
			return all;
		}
	}
	free(all);
	return NULL;
}

static void scanning(void)
{
	static const char *const options[] = {
		"", " COUNT 1", " COUNT 1000", " MATCH key:1*", " MATCH key:1* COUNT 7", " TYPE string",
		" TYPE list", " MATCH none*", " COUNT 3 MATCH *2 TYPE string",
	};

	begin();
	for (int i = 0; i < 300; i++) {
		char line[64];

		snprintf(line, sizeof(line), "SET key:%d value", i);
		compare_line(line);
	}
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		char *ours_all = scan_all(our_client, options[i]),
		     *theirs_all = scan_all(their_client, options[i]);

		if (!EXPECT(ours_all && theirs_all && !strcmp(ours_all, theirs_all)))
			printf("#   SCAN 0%s\n#   redis %.200s\n#   kv    %.200s\n", options[i],
			       theirs_all ? theirs_all : "no end", ours_all ? ours_all : "no end");
		free(ours_all);
		free(theirs_all);
	}
	end();
}

/* Keys leave by themselves, whichever way they are asked for. */
static void expiry(void)
{
	begin();
	compare_line("MSET stay 1 goes 2 goes2 3 goes3 4");
	compare_line("PEXPIRE goes 40");
	compare_line("SET goes2 x PX 40");
	compare_line("PEXPIRE goes3 40");
	compare_line("EXISTS goes goes2 goes3");
	sleep_ms(100);
	compare_line("EXISTS goes");
	compare_line("INCR goes2");
	compare_line("TTL goes2");
	compare_line("KEYS *");
	compare_line("SET goes3 x KEEPTTL");
	compare_line("TTL goes3");
	compare_line("PEXPIRE goes3 30");
	sleep_ms(100);
	/* redis-server counts an expired key until someone asks for it. */
	compare_line("GET goes3");
	compare_line("DBSIZE");
	end();
}

int main(void)
{
	program_needed(kv_path());
	program_needed(REDIS_SERVER);
	alarm(120);
	if (!server_start(&theirs, REDIS_SERVER, "--dir", temp_subdir("theirs"), "--appendonly", "yes",
			  "--databases", "1", NULL) ||
	    !server_start(&ours, kv_path(), "--dir", temp_subdir("ours"), "--appendonly", "yes", NULL))
		return 1;
	selftest_case("corner cases", corner_cases);
	selftest_case("corner cases in RESP3", corner_cases_resp3);
	selftest_case("random commands", random_commands);
	selftest_case("SCAN", scanning);
	selftest_case("expiry", expiry);
	server_kill(&ours);
	server_kill(&theirs);
	return selftest_done();
}
