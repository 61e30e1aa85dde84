/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Power loss under load with --appendfsync always: $CUTS cuts (default 8, sown with $SEED), each at another
 * write or sync, some while the file is rewritten, on a disk that then loses what was not synced. After each a
 * server on the surviving files must have everything that was acknowledged, nothing torn and nothing twice.
 *
 * Of what was not synced a prefix survives, as on every file system that makes an append visible only with the
 * bytes before it. Redis's format has no checksums: a hole in the middle of a value could not be told from it.
 */
#include "kv_disk.h"
#include "kv_load.h"

#define CONNECTIONS 8

static struct load load;
static unsigned int seed;

/*
 * One cut, at the start of the server or under load. The surviving files in `store` are what the next one
 * starts from. False: there is no point in going on.
 */
static bool cut_once(const char *store, unsigned int round)
{
	unsigned long long random = load_mix(seed + round * 0x9e3779b97f4a7c15ULL);
	unsigned int at = 1 + random % 300;
	struct server server;
	struct disk disk;
	bool cut = false;
	int ready = 0;

	if (!EXPECT(disk_start(&disk, store, random >> 32, at, true)))
		return false;
	server_begin(&server, kv_path(), "--dir", temp_path("disk"), "--appendonly", "yes", "--appendfsync",
		     "always", NULL);
	while (!ready && !disk_is_cut(&disk))
		ready = server_ready(&server);
	if (ready > 0) {
		load_start(&load, server.port);
		if (random & 1 << 20) {
			struct client *client = client_try(server.port);

			sleep_ms(random / 2 % 16);
			if (client) {
				client_say(client, "BGREWRITEAOF\r\n");
				client_close(client);
			}
		}
	}
	if (ready >= 0)
		cut = disk_wait_cut(&disk, 10000);
	if (!cut) {
		selftest_complain(__FILE__, __LINE__, "no cut");
		printf("#   at change %u of round %u\n", at, round);
		file_show(server.log);
	}
	if (server.pid)
		kill(server.pid, SIGKILL);
	disk_stop(&disk);
	server_kill(&server);
	if (ready > 0)
		load_stop(&load);
	return cut;
}

static void cuts(void)
{
	const char *store = temp_subdir("store"), *count_text = getenv("CUTS"), *seed_text = getenv("SEED");
	unsigned int count = count_text ? atoi(count_text) : 8, round;
	unsigned long changes = 0;

	seed = seed_text ? strtoul(seed_text, NULL, 0) : (unsigned int)time(NULL);
	/* A redis-server in kv's place never syncs the name of the directory that it makes. */
	if (is_redis(kv_path()))
		mkdir(temp_path("store/appendonlydir"), 0755);
	load_init(&load, CONNECTIONS);
	for (round = 0; round < count; round++) {
		struct server server;
		bool kept;

		if (!cut_once(store, round) ||
		    !EXPECT(server_start(&server, kv_path(), "--dir", store, "--appendonly", "yes",
					 "--appendfsync", "always", NULL)))
			break;
		kept = EXPECT_KEPT(&load, server.port);
		server_kill(&server);
		if (!kept)
			break;
	}
	for (int i = 0; i < load.count; i++)
		changes += load.connections[i].changes;
	printf("# %u of %u cuts, %lu changes acknowledged, SEED=%u\n", round, count, changes, seed);
	EXPECT_EQ(round, count);
	EXPECT(changes > count);
	load_free(&load);
}

int main(void)
{
	disk_needed();
	program_needed(kv_path());
	selftest_case("power loss with always loses nothing acknowledged", cuts);
	return selftest_done();
}
