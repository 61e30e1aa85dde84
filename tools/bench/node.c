/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Two OS processes, each with one scheduler: node_pingpong on two CPUs, where both keep looking; node_pingpong_one on
 * one, where each has to be woken. node_stream: one way, with an acknowledgement for each batch, a few batches ahead.
 * node_idle: what a round trip between two processes of one node costs while so many others are connected and silent.
 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BATCH 1000
#define STREAM 2000		/* messages of a batch */
#define AHEAD 4			/* batches */
#define LARGE 4096

enum { DATA = 16, BATCH_TAKEN };

static char dir[] = "/tmp/mote-bench-XXXXXX";

/* --- the far node --- */

static void far_pong(const void *args, size_t size)
{
	(void)args;
	(void)size;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		uint64_t seed = ((struct bench_payload *)m->data)->word[0];
		struct bench_payload p = bench_payload(seed + 1);

		bench_check(m->size == sizeof(p) && bench_payload_is(m->data, seed), "the ping is whole");
		mote_send(m->from, DATA, &p, sizeof(p));
		mote_msg_free(m);
	}
}

/* The words of a large message are looked at, too: every 64th byte lies in a cache line of its own. */
static bool large_is(const uint64_t *word, uint64_t seed)
{
	uint64_t wrong = 0;

	for (size_t i = 0; i < LARGE / sizeof(*word); i++)
		wrong |= word[i] ^ (seed + i);
	return wrong == 0;
}

static void far_taker(const void *args, size_t size)
{
	(void)args;
	(void)size;
	for (uint64_t n = 0;; n++) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		bench_check(m->size == LARGE ? large_is(m->data, n) : bench_payload_is(m->data, n),
			    "the message is whole, and its turn");
		if (n % STREAM == STREAM - 1)
			mote_send(m->from, BATCH_TAKEN, NULL, 0);
		mote_msg_free(m);
	}
}

static void far_main(void *arg)
{
	(void)arg;
	mote_sleep(MOTE_FOREVER);
}

static void start_node(const char *name, int cpu)
{
	pid_t pid = fork();

	bench_check(pid >= 0, "an OS process can be had");
	if (pid)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bench_pin(cpu, cpu);
	setenv("MOTE_NODE", name, 1);
	bench_check(mote_entry_register("pong", far_pong) == 0 && mote_entry_register("taker", far_taker) == 0,
		    "entry points can be registered");
	mote_run(far_main, NULL, NULL);
	_exit(1);
}

static mote_node connect_to(const char *name)
{
	mote_deadline until = mote_in_ms(20000);
	mote_node node;

	while (!(node = mote_node_connect(name, until)).id) {
		bench_check(mote_errno() == -ESRCH && mote_now().ns < until.ns, "the nodes connect");
		mote_sleep(mote_in_ms(2));
	}
	return node;
}

static mote_pid spawn_there(const char *entry)
{
	mote_pid pid = mote_spawn_on(connect_to("far"), &(struct mote_spawn_on_opts){
		.size = sizeof(struct mote_spawn_on_opts), .entry = entry }, mote_in_ms(20000));

	bench_check(mote_pid_valid(pid), "a process starts there");
	return pid;
}

/* --- the near one --- */

static void tidy(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

static void meet(void)
{
	bench_check(mkdtemp(dir) && !setenv("MOTE_DIR", dir, 1), "there is a place to meet");
}

static void start_near(mote_fn run)
{
	setenv("MOTE_NODE", "near", 1);
	bench_pin(bench_server_cpu(), bench_server_cpu());
	bench_check(mote_run(run, NULL, NULL) == 0, "the runtime starts, and its first process ends well");
	tidy();
}

static void host(mote_fn run, int far_cpu)
{
	meet();
	start_node("far", far_cpu);
	start_near(run);
}

static void trip(mote_pid peer, uint64_t seed)
{
	struct bench_payload p = bench_payload(seed);
	struct mote_msg *m;

	mote_send(peer, DATA, &p, sizeof(p));
	m = mote_receive(MOTE_FOREVER);
	bench_check(bench_payload_is(m->data, seed + 1), "the pong is right");
	mote_msg_free(m);
}

static void trips(mote_pid peer, const char *name)
{
	struct bench_clock clock;
	uint64_t seed = 0;

	for (int i = 0; i < BATCH; i++)
		trip(peer, seed++);
	bench_begin(&clock);
	do {
		for (int i = 0; i < BATCH / 10; i++)
			trip(peer, seed++);
	} while (bench_more(&clock, BATCH / 10));
	bench_end(&clock, name);
}

static void run_pingpong(void *arg)
{
	(void)arg;
	trips(spawn_there("pong"), "node_pingpong");
}

static void run_pingpong_one(void *arg)
{
	(void)arg;
	trips(spawn_there("pong"), "node_pingpong_one");
}

static void stream(const char *name, size_t size)
{
	mote_pid taker = spawn_there("taker");
	struct bench_clock clock;
	uint64_t word[LARGE / sizeof(uint64_t)], n = 0;
	unsigned int under_way = 0;

	bench_begin(&clock);
	do {
		if (under_way == AHEAD) {
			struct mote_msg *m = mote_receive(MOTE_FOREVER);

			bench_check(m->type == BATCH_TAKEN, "a batch was taken");
			mote_msg_free(m);
			under_way--;
		}
		for (int i = 0; i < STREAM; i++, n++) {
			for (size_t j = 0; j < size / sizeof(*word); j++)
				word[j] = n + j;
			mote_send(taker, DATA, word, size);
		}
		under_way++;
	} while (bench_more(&clock, STREAM));
	bench_end(&clock, name);
}

static void run_stream_64(void *arg)
{
	(void)arg;
	stream("node_stream_64", sizeof(struct bench_payload));
}

static void run_stream_4k(void *arg)
{
	(void)arg;
	stream("node_stream_4k", LARGE);
}

static void local_pong(void *arg)
{
	(void)arg;
	far_pong(NULL, 0);
}

static void run_idle(void *arg)
{
	static const int steps[] = { 0, 1, 8, 64 };
	mote_pid peer = mote_spawn(local_pong, NULL);
	char name[32];
	int n = 0;

	(void)arg;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		for (; n < steps[i]; n++) {
			snprintf(name, sizeof(name), "idle.%d", n);
			connect_to(name);
		}
		mote_sleep(mote_in_ms(20));
		snprintf(name, sizeof(name), "node_idle_%d", n);
		trips(peer, name);
	}
}

static void pingpong(void)
{
	host(run_pingpong, bench_load_cpu());
}

static void pingpong_one(void)
{
	host(run_pingpong_one, bench_server_cpu());
}

static void stream_64(void)
{
	host(run_stream_64, bench_load_cpu());
}

static void stream_4k(void)
{
	host(run_stream_4k, bench_load_cpu());
}

static void idle(void)
{
	char name[32];

	meet();
	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "idle.%d", i);
		start_node(name, bench_load_cpu());
	}
	start_near(run_idle);
}

const struct bench bench_node[] = {
	{ .name = "node_pingpong", .host = pingpong },
	{ .name = "node_pingpong_one", .host = pingpong_one },
	{ .name = "node_stream_64", .host = stream_64 },
	{ .name = "node_stream_4k", .host = stream_4k },
	{ .name = "node_idle", .host = idle, .runs = 3 },
	{ 0 },
};
