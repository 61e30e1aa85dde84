/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kv's append-only file: a real redis-server loads it and kv loads redis-server's, with equal contents; a tail
 * cut short is repaired, anything else that is wrong is refused and left alone.
 */
#include "kv_aof.h"

static unsigned long long state;

static unsigned int below(unsigned int n)
{
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (state >> 33) % n;
}

static char *file_read(const char *path, size_t *size)
{
	FILE *file = fopen(path, "r");
	struct stat info;
	char *bytes;

	*size = 0;
	if (!file || fstat(fileno(file), &info)) {
		printf("# %s: %s\n", path, strerror(errno));
		exit(1);
	}
	bytes = calloc(1, info.st_size + 1);
	*size = fread(bytes, 1, info.st_size, file);
	fclose(file);
	return bytes;
}

static void file_write(const char *path, const char *bytes, size_t size)
{
	FILE *file = fopen(path, "w");

	if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) {
		printf("# %s: %s\n", path, strerror(errno));
		exit(1);
	}
}

/* Changes of every kind, with any bytes, and times that have passed or are far away. */
static void fill(int port)
{
	struct client *client = client_open(port);
	char key[32], value[3000];

	state = 99;
	for (int i = 0; i < 2000; i++) {
		const char *argv[8] = { "SET", key, value };
		size_t sizes[8] = { 3, 0, 0 };
		int argc = 3;

		sprintf(key, i % 50 ? "key:%u" : "any\r\n \xff%u", below(300));
		sizes[1] = strlen(key);
		sizes[2] = below(100) ? below(60) : below(3000);
		for (size_t j = 0; j < sizes[2]; j++)
			value[j] = below(256);
		if (!below(8)) {
			argv[3] = below(2) ? "EX" : "PX";
			argv[4] = "10000000";
			sizes[3] = 2;
			sizes[4] = 8;
			argc = 5;
		}
		EXPECT(client_args(client, argc, argv, sizes));
		REPLY_IS(client_reply(client), "+OK\r\n");
		client_call(client, "INCRBY number:%u %u", below(20), below(1000));
		client_call(client, "APPEND list:%u part%d,", below(20), i);
		switch (below(12)) {
		case 0:
			client_call(client, "DEL key:%u key:%u", below(300), below(300));
			break;
		case 1:
			client_call(client, "EXPIRE key:%u %u", below(300), 1000 + below(100000));
			break;
		case 2:
			client_call(client, "PEXPIREAT key:%u 99999999%05u", below(300), below(100000));
			break;
		case 3:
			client_call(client, "PERSIST key:%u", below(300));
			break;
		case 4:
			client_call(client, "SETRANGE list:%u %u xyz", below(20), below(200));
			break;
		case 5:
			client_call(client, "INCRBYFLOAT float:%u 0.%u", below(20), 1 + below(100));
			break;
		case 6:
			client_call(client, "MSET key:%u one key:%u two", below(300), below(300));
			break;
		case 7:
			client_call(client, "GETDEL key:%u", below(300));
			break;
		case 8:
			client_call(client, "PEXPIRE key:%u 1", below(300));
			break;
		case 9:
			client_call(client, "SET key:%u new XX KEEPTTL", below(300));
			break;
		case 10:
			client_call(client, "SET key:%u new NX GET", below(300));
			break;
		case 11:
			client_call(client, "EXPIRE number:%u -1", below(20));
			break;
		}
	}
	sleep_ms(50);
	client_close(client);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All keys with their bytes and their exact times, as one text that two servers can be compared by. */
static char *contents(int port, int *count)
{
	struct client *client = client_open(port), *asking = client_open(port);
	const char *keys = client_call(client, "KEYS *"), *at;
	char **parts, *all;
	size_t size = 1;

	*count = keys ? atoi(keys + 1) : 0;
	parts = calloc(*count + 1, sizeof(*parts));
	at = keys ? strchr(keys, '\n') + 1 : NULL;
	for (int i = 0; i < *count; i++) {
		const char *argv[2] = { "GET", strchr(at, '\n') + 1 };
		size_t sizes[2] = { 3, atol(at + 1) }, used;
		char *part = malloc(100000);

		used = sprintf(part, "%s ", shown(argv[1], sizes[1]));
		client_args(asking, 2, argv, sizes);
		if (client_reply(asking))
			for (size_t j = 0; j < asking->reply_size && used < 90000; j++)
				used += sprintf(part + used, "%02x", (unsigned char)asking->reply[j]);
		argv[0] = "PEXPIRETIME";
		sizes[0] = 11;
		client_args(asking, 2, argv, sizes);
		used += sprintf(part + used, " %s", client_reply(asking) ? asking->reply : "?");
		parts[i] = realloc(part, used + 1);
		size += used;
		at = argv[1] + sizes[1] + 2;
	}
	qsort(parts, *count, sizeof(*parts), by_text);
	all = calloc(1, size);
	for (int i = 0; i < *count; i++) {
		strcat(all, parts[i]);
		free(parts[i]);
	}
	free(parts);
	client_close(client);
	client_close(asking);
	return all;
}

static void expect_contents(int port, const char *wanted, int wanted_count)
{
	int count;
	char *found = contents(port, &count);

	EXPECT_EQ(count, wanted_count);
	if (!EXPECT(!strcmp(found, wanted))) {
		size_t at = 0;

		while (found[at] == wanted[at])
			at++;
		while (at && wanted[at - 1] != '\n')
			at--;
		printf("#   wanted %.100s\n#   found  %.100s\n", wanted + at, found + at);
	}
	free(found);
}

static void redis_loads_kv(bool rewritten)
{
	const char *dir = temp_subdir(rewritten ? "from-kv-rewritten" : "from-kv"),
		   *copy = temp_subdir(rewritten ? "to-redis-2" : "to-redis");
	struct server server;
	int count;
	char *wanted;

	if (!EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
		return;
	fill(server.port);
	if (rewritten) {
		struct client *client = client_open(server.port);

		EXPECT(rewrite(client, aof_of(dir)));
		client_close(client);
	}
	wanted = contents(server.port, &count);
	server_kill(&server);
	EXPECT(count > 100);
	if (is_redis(kv_path()))
		shell("cp -r %s/appendonlydir %s/", dir, copy);
	else
		shell("cp %s %s/appendonly.aof", aof_of(dir), copy);
	if (EXPECT(server_start(&server, REDIS_SERVER, "--dir", copy, "--appendonly", "yes", NULL)))
		expect_contents(server.port, wanted, count);
	server_kill(&server);
	/* And kv itself. */
	if (EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
		expect_contents(server.port, wanted, count);
	server_kill(&server);
	free(wanted);
}

static void redis_loads(void)
{
	redis_loads_kv(false);
}

static void redis_loads_rewritten(void)
{
	redis_loads_kv(true);
}

static void kv_loads(void)
{
	const char *dir = temp_subdir("from-redis"), *copy = temp_subdir("to-kv");
	struct server server;
	struct client *client;
	char path[512], *wanted;
	int count;

	if (!EXPECT(server_start(&server, REDIS_SERVER, "--dir", dir, "--appendonly", "yes",
				 "--aof-use-rdb-preamble", "no", NULL)))
		return;
	/* The first half as redis-server rewrites it, the second as it logs. */
	fill(server.port);
	client = client_open(server.port);
	snprintf(path, sizeof(path), "%s/appendonlydir/appendonly.aof.1.incr.aof", dir);
	EXPECT(rewrite(client, path));
	client_close(client);
	fill(server.port);
	wanted = contents(server.port, &count);
	server_kill(&server);
	shell("cat %s/appendonlydir/*.base.aof %s/appendonlydir/*.incr.aof > %s/appendonly.aof", dir, dir,
	      copy);
	if (EXPECT(server_start(&server, kv_path(), "--dir", copy, "--appendonly", "yes", NULL)))
		expect_contents(server.port, wanted, count);
	server_kill(&server);
	free(wanted);
}

/* A file with `count` keys; the last command is SET last <30 bytes>. */
static char *small_file(const char *dir, int count, size_t *size)
{
	struct server server;
	struct client *client;

	if (!EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
		return NULL;
	client = client_open(server.port);
	for (int i = 0; i < count; i++)
		REPLY_IS(client_call(client, "SET key:%d value:%d", i, i), "+OK\r\n");
	REPLY_IS(client_call(client, "SET last 0123456789012345678901234567890"), "+OK\r\n");
	client_close(client);
	server_kill(&server);
	return file_read(aof_of(dir), size);
}

static void tail_repaired(void)
{
	const char *dir = temp_subdir("tail");
	struct server server;
	size_t size, last;
	char *bytes = small_file(dir, 20, &size);

	if (!bytes)
		return;
	for (last = size - 3; memcmp(bytes + last, "\r\n*", 3); last--)
		;
	last = size - last - 2;
	for (size_t less = 1; less <= last; less += 7) {
		struct client *client;

		file_write(aof_of(dir), bytes, size - less);
		if (!EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL))) {
			printf("# cut short by %zu\n", less);
			break;
		}
		client = client_open(server.port);
		REPLY_IS(client_call(client, "DBSIZE"), ":20\r\n");
		REPLY_IS(client_call(client, "GET last"), "$-1\r\n");
		REPLY_IS(client_call(client, "GET key:19"), "$8\r\nvalue:19\r\n");
		/* What is appended next must not be glued to the rest of the broken one. */
		REPLY_IS(client_call(client, "SET after repair"), "+OK\r\n");
		client_close(client);
		server_kill(&server);
		if (!EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
			break;
		client = client_open(server.port);
		REPLY_IS(client_call(client, "GET after"), "$6\r\nrepair\r\n");
		REPLY_IS(client_call(client, "DBSIZE"), ":21\r\n");
		client_close(client);
		server_kill(&server);
	}
	free(bytes);
}

static void garbage_refused(void)
{
	static const char *const wrong[] = {
		"garbage\r\n", "*x\r\n", "*3\r\n:3\r\n", "*1\r\n$x\r\n", "*1\r\n$-5\r\n",
		"*2\r\n$6\r\nNOSUCH\r\n$1\r\na\r\n", "*2\r\n$3\r\nSET\r\n$1\r\na\r\n", "*1\r\n$4\r\nPINGxx",
		"*1000000000000\r\n", "*1\r\n$99999999999999\r\n", "\r\n",
	};
	const char *dir = temp_subdir("garbage");
	size_t size, middle;
	char *bytes = small_file(dir, 20, &size);

	if (!bytes)
		return;
	for (middle = size / 2; memcmp(bytes + middle, "\r\n*", 3); middle++)
		;
	middle += 2;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		size_t length = strlen(wrong[i]), left;
		char *broken = malloc(size + length), *found;

		memcpy(broken, bytes, middle);
		memcpy(broken + middle, wrong[i], length);
		memcpy(broken + middle + length, bytes + middle, size - middle);
		file_write(aof_of(dir), broken, size + length);
		if (!EXPECT(server_refuses(kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
			printf("# with %s in the middle\n", shown(wrong[i], length));
		found = file_read(aof_of(dir), &left);
		EXPECT(left == size + length && !memcmp(found, broken, left));
		free(found);
		free(broken);
	}
	free(bytes);
}

int main(void)
{
	program_needed(kv_path());
	program_needed(REDIS_SERVER);
	alarm(180);
	selftest_case("redis-server loads what kv wrote", redis_loads);
	selftest_case("redis-server loads what kv rewrote", redis_loads_rewritten);
	selftest_case("kv loads what redis-server wrote", kv_loads);
	selftest_case("a tail cut short is repaired", tail_repaired);
	selftest_case("garbage is refused and left alone", garbage_refused);
	return selftest_done();
}
