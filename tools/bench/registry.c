/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * registry_lookup: who has a unique key, of a thousand that are taken, by turns. registry_enter: a process registers,
 * is found, and ends; the registry has forgotten it when that is known.
 */
#include "bench.h"

#define KEYS 1000

static struct mote_registry *registry(void)
{
	struct mote_registry_opts opts = { .size = sizeof(opts), .name = "bench" };

	bench_check(mote_registry_start_link(&opts, NULL) == 0, "the registry starts");
	return mote_registry_named("bench");
}

static void lookup(void *arg)
{
	struct mote_registry *r = registry();
	mote_pid self = mote_self();
	struct bench_clock clock;
	uint64_t key, found;

	(void)arg;
	for (key = 0; key < KEYS; key++)
		bench_check(mote_registry_register(r, &key, sizeof(key), NULL, 0, NULL) == 0, "the key is free");
	bench_begin(&clock);
	do {
		for (key = found = 0; key < KEYS; key++)
			found += mote_pid_equal(mote_registry_whereis(r, &key, sizeof(key)), self);
		bench_check(found == KEYS, "each key is found");
	} while (bench_more(&clock, KEYS));
	bench_end(&clock, "registry_lookup");
	bench_done();
}

static void guest(void *arg)
{
	struct mote_registry *r = arg;

	bench_check(mote_registry_register(r, "guest", 5, NULL, 0, NULL) == 0, "the key is free");
	bench_check(mote_pid_equal(mote_registry_whereis(r, "guest", 5), mote_self()), "the guest is found");
}

static void enter(void *arg)
{
	struct mote_registry *r = registry();
	struct bench_clock clock;

	(void)arg;
	bench_begin(&clock);
	do {
		for (int i = 0; i < 100; i++) {
			mote_ref ref;
			mote_pid pid = mote_spawn_monitor(guest, r, &ref);

			bench_check(mote_pid_valid(pid), "a process starts");
			mote_msg_free(mote_receive_ref(ref, MOTE_FOREVER));
			bench_check(!mote_pid_valid(mote_registry_whereis(r, "guest", 5)), "the guest is forgotten");
		}
	} while (bench_more(&clock, 100));
	bench_end(&clock, "registry_enter");
	bench_done();
}

const struct bench bench_registry[] = {
	{ .name = "registry_lookup", .run = lookup },
	{ .name = "registry_enter", .run = enter },
	{ 0 }
};
