/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* spawn, spawn_all, spawn_parked, spawn_monitor: the lives of processes. */
#include "bench.h"

#define WAVE 1000
#define MILLION 1000000

static struct bench_gate gate;

static void passer_by(void *arg)
{
	bench_gate_pass(arg);
}

/* The last ones of a wave may still be on their way out when the gate opens. */
static void check_alive(uint64_t expected)
{
	for (int i = 0; i < MILLION && bench_alive() != expected; i++)
		mote_yield();
	bench_check(bench_alive() == expected, "as many processes are alive as there should be");
}

static void wave(uint64_t n)
{
	bench_gate_open(&gate, n);
	for (uint64_t i = 0; i < n; i++)
		mote_spawn(passer_by, &gate);
	bench_gate_wait(&gate);
}

void bench_spawn_run(void *arg)
{
	uint64_t alive = bench_alive();
	struct bench_clock clock;

	(void)arg;
	for (int i = 0; i < 10; i++)
		wave(WAVE);
	bench_begin(&clock);
	do
		wave(WAVE);
	while (bench_more(&clock, WAVE));
	check_alive(alive);
	bench_end(&clock, "spawn");
	bench_done();
}

/* High priority: at most a few of the million run before the last is there. */
static void spawn_all_first(void *arg)
{
	uint64_t alive = bench_alive();
	struct bench_clock clock;

	bench_begin(&clock);
	bench_gate_open(&gate, MILLION);
	for (int i = 0; i < MILLION; i++)
		mote_spawn(passer_by, &gate);
	bench_check(bench_alive() >= alive + MILLION * 99 / 100, "they are there at once");
	bench_gate_wait(&gate);
	bench_more(&clock, MILLION);
	bench_end(&clock, "spawn_all");
	mote_send(*(mote_pid *)arg, 1, NULL, 0);
}

static void spawn_all(void *arg)
{
	mote_pid self = mote_self();
	uint64_t alive = bench_alive();

	(void)arg;
	mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), .fn = spawn_all_first,
						   .arg = &self, .priority = MOTE_PRIORITY_HIGH });
	mote_msg_free(mote_receive(MOTE_FOREVER));
	check_alive(alive);
	bench_done();
}

static void parker(void *arg)
{
	bench_gate_pass(arg);
	mote_receive(MOTE_FOREVER);
	bench_check(false, "nobody wakes a parked process");
}

static void spawn_parked(void *arg)
{
	uint64_t alive = bench_alive();
	struct bench_clock clock;

	(void)arg;
	bench_begin(&clock);
	bench_gate_open(&gate, MILLION);
	for (int i = 0; i < MILLION; i++)
		mote_spawn(parker, &gate);
	bench_gate_wait(&gate);
	mote_yield();
	bench_more(&clock, MILLION);
	check_alive(alive + MILLION);
	bench_end(&clock, "spawn_parked");
	bench_done();
}

static void nothing(void *arg)
{
	(void)arg;
}

static void spawn_and_hear(void)
{
	mote_ref ref;
	mote_pid pid = mote_spawn_monitor(nothing, NULL, &ref);
	struct mote_msg *m = mote_receive_ref(ref, MOTE_FOREVER);
	const struct mote_down_info *down = mote_msg_down(m);

	bench_check(down && down->reason.kind == MOTE_NORMAL && mote_pid_equal(down->pid, pid),
		    "DOWN says that the process ended normally");
	mote_msg_free(m);
}

static void spawn_monitor(void *arg)
{
	struct bench_clock clock;

	(void)arg;
	for (int i = 0; i < 10 * WAVE; i++)
		spawn_and_hear();
	bench_begin(&clock);
	do {
		for (int i = 0; i < WAVE; i++)
			spawn_and_hear();
	} while (bench_more(&clock, WAVE));
	bench_end(&clock, "spawn_monitor");
	bench_done();
}

const struct bench bench_spawn[] = {
	{ .name = "spawn", .run = bench_spawn_run },
	{ .name = "spawn_all", .run = spawn_all },
	{ .name = "spawn_parked", .run = spawn_parked },
	{ .name = "spawn_monitor", .run = spawn_monitor },
	{ 0 },
};
