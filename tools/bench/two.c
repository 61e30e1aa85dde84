/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Two schedulers on two CPUs against one on one: spawn, skynet, fanin, and calls of 1,000 independent pairs. */
#include "bench.h"

#define PAIRS 1000
#define CALLS 1000

static struct bench_gate gate;

static void caller(void *arg)
{
	mote_pid server = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .server = &bench_echo_server });

	(void)arg;
	for (uint64_t i = 0; i < CALLS; i++)
		bench_call(server, i);
	mote_exit_pid(server, MOTE_REASON_SHUTDOWN);
	bench_gate_pass(&gate);
}

static void calls(void *arg)
{
	struct bench_clock clock;

	(void)arg;
	bench_begin(&clock);
	do {
		bench_gate_open(&gate, PAIRS);
		for (int i = 0; i < PAIRS; i++)
			mote_spawn(caller, NULL);
		bench_gate_wait(&gate);
	} while (bench_more(&clock, PAIRS * CALLS));
	bench_end(&clock, "calls");
	bench_done();
}

const struct bench bench_two[] = {
	{ .name = "two_spawn", .run = bench_spawn_run, .pair = true },
	{ .name = "two_skynet", .run = bench_skynet_run, .pair = true },
	{ .name = "two_calls", .run = calls, .pair = true },
	{ .name = "two_fanin", .run = bench_fanin_run, .pair = true },
	{ 0 },
};
