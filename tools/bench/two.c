/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Two schedulers on two CPUs against one on one: spawn, skynet, fanin, and calls of 1,000 independent pairs. two_cpus says
 * how far apart the CPUs are: on a virtual machine that can change from minute to minute, and with it all the others.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>

#define TRIPS 200000
#define PAIRS 1000
#define CALLS 1000

static _Atomic uint64_t line __attribute__((aligned(128)));

static void *far_end(void *arg)
{
	(void)arg;
	bench_pin(bench_load_cpu(), bench_load_cpu());
	for (uint64_t i = 0; i < TRIPS; i++) {
		while (atomic_load_explicit(&line, memory_order_acquire) != 2 * i + 1)
			;
		atomic_store_explicit(&line, 2 * i + 2, memory_order_release);
	}
	return NULL;
}

/* A cache line, there and back. */
static void cpus(void)
{
	int64_t start;
	pthread_t t;

	if (bench_server_cpu() == bench_load_cpu())
		return;
	bench_check(pthread_create(&t, NULL, far_end, NULL) == 0, "a thread starts");
	bench_pin(bench_server_cpu(), bench_server_cpu());
	start = bench_now();
	for (uint64_t i = 0; i < TRIPS; i++) {
		atomic_store_explicit(&line, 2 * i + 1, memory_order_release);
		while (atomic_load_explicit(&line, memory_order_acquire) != 2 * i + 2)
			;
	}
	bench_figure("cpus_apart", (double)(bench_now() - start) / TRIPS, "ns", 0);
	pthread_join(t, NULL);
}

static struct bench_gate gate;

static void caller(void *arg)
{
	mote_pid server = bench_echo_start();

	(void)arg;
	for (uint64_t i = 0; i < CALLS; i++)
		bench_call(server, i, MOTE_FOREVER);
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
	{ .name = "two_cpus", .host = cpus },
	{ .name = "two_spawn", .run = bench_spawn_run, .pair = true },
	{ .name = "two_skynet", .run = bench_skynet_run, .pair = true },
	{ .name = "two_calls", .run = calls, .pair = true },
	{ .name = "two_fanin", .run = bench_fanin_run, .pair = true },
	{ 0 },
};
