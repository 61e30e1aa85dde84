/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kill -9 under load, with each policy, while the file is rewritten as well: what was acknowledged is there
 * after a restart. A killed program loses nothing that it had written, synced or not.
 */
#include "kv_load.h"

#define ROUNDS 4
#define CONNECTIONS 8

static const char *policy;

static void killed_under_load(void)
{
	const char *dir = temp_subdir(policy);
	struct load load = { 0 };
	struct server server;
	unsigned long changes = 0;

	load_init(&load, CONNECTIONS);
	for (int round = 0; round < ROUNDS; round++) {
		struct client *client;

		if (!EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes",
					 "--appendfsync", policy, NULL)))
			break;
		if (!EXPECT_KEPT(&load, server.port)) {
			server_kill(&server);
			break;
		}
		load_start(&load, server.port);
		sleep_ms(100 + round * 50);
		client = client_open(server.port);
		if (round % 2)
			EXPECT(client_call(client, "BGREWRITEAOF") && client->reply[0] == '+');
		sleep_ms(round * 17);
		server_kill(&server);
		client_close(client);
		changes = load_stop(&load);
	}
	if (EXPECT(server_start(&server, kv_path(), "--dir", dir, "--appendonly", "yes", NULL)))
		EXPECT_KEPT(&load, server.port);
	server_kill(&server);
	printf("# %s: %lu changes acknowledged, %d kills\n", policy, changes, ROUNDS);
	EXPECT(changes > 1000);
	load_free(&load);
}

int main(void)
{
	program_needed(kv_path());
	alarm(120);
	policy = "always";
	selftest_case("kill -9 with always loses nothing", killed_under_load);
	policy = "everysec";
	selftest_case("kill -9 with everysec loses nothing", killed_under_load);
	policy = "no";
	selftest_case("kill -9 with no loses nothing", killed_under_load);
	return selftest_done();
}
