// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * wake [ROUNDS [CPU CPU]]: what it costs that two OS processes wake each other in turn, for each way there is: one line
 * "name<TAB>figure", per round trip, in nanoseconds of the clock: which are instructions in a guest that counts them
 * (tools/lab/run --icount). "-" for what this kernel cannot do.
 */
#include "wake.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct wake_shared *wake_shared;
/* Enough for the scheduler to come to rest: the first thousands are cheaper. */
static unsigned int rounds = 10000;
static int cpus[2];

int64_t wake_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		perror("sched_setaffinity");
}

static int turn(const struct wake_way *way, int side)
{
	int err;

	if (way->turn)
		return way->turn(side);
	err = way->ring(side);
	return err ? err : way->wait(side);
}

/* Side 1 waits, then takes turns, and rings last; so that side 0 has taken as many turns as it has rung. */
static int play(const struct wake_way *way, int side, unsigned int turns)
{
	int err = 0;

	if (side)
		err = way->wait(side);
	for (unsigned int i = side; i < turns && !err; i++)
		err = turn(way, side);
	if (side && !err)
		err = way->ring(side);
	return err;
}

static void side_run(const struct wake_way *way, int side)
{
	unsigned int warm = rounds / 10 + 1;
	int err;

	pin(cpus[side]);
	err = way->join ? way->join(side) : 0;
	if (!err) {
		/* Release, acquire: what either has set up is there before it is used. */
		atomic_store_explicit(&wake_shared->ready[side], 1, memory_order_release);
		while (!atomic_load_explicit(&wake_shared->ready[!side], memory_order_acquire))
			sched_yield();
		/* By now the other one sleeps: side 0 never rings in vain. */
		if (!side)
			usleep(20000);
		if (side) {
			err = play(way, side, warm + rounds);
		} else {
			err = play(way, side, warm);
			int64_t began = wake_now();

			if (!err)
				err = play(way, side, rounds);
			wake_shared->each = (double)(wake_now() - began) / rounds;
		}
	}
	if (err)
		wake_shared->error = err;
	_exit(err != 0);
}

static void report(const char *name, double each, int err)
{
	if (err)
		printf("%s\t-\n", name);
	else
		printf("%s\t%.1f\n", name, each);
	fflush(stdout);
	if (err)
		fprintf(stderr, "# %s: %s\n", name, strerror(-err));
}

static void way_run(const struct wake_way *way)
{
	pid_t child[2] = { 0 };
	int err;

	memset(wake_shared, 0, sizeof(*wake_shared));
	err = way->open ? way->open() : 0;
	for (int side = 0; side < 2 && !err; side++) {
		child[side] = fork();
		if (child[side] < 0)
			err = -errno;
		else if (!child[side])
			side_run(way, side);
	}
	for (int i = 0; i < 2 && child[i] > 0; i++) {
		int status, other;
		pid_t first = wait(&status);

		/* Whoever fails would be waited for by the other for ever. */
		other = first == child[0] ? 1 : 0;
		if (status && i == 0 && child[other] > 0)
			kill(child[other], SIGKILL);
		if (status && !wake_shared->error)
			wake_shared->error = -ECHILD;
	}
	report(way->name, wake_shared->each, err ? err : wake_shared->error);
}

/* What any of them pays at least once. */
static void call_run(void)
{
	int64_t began = wake_now();

	for (unsigned int i = 0; i < rounds; i++)
		syscall(SYS_getppid);
	report("bare system call", (double)(wake_now() - began) / rounds, 0);
}

int main(int argc, char **argv)
{
	double each;

	if (argc > 1)
		rounds = strtoul(argv[1], NULL, 0);
	if (argc > 3) {
		cpus[0] = atoi(argv[2]);
		cpus[1] = atoi(argv[3]);
	}
	if (!rounds) {
		fprintf(stderr, "usage: wake [ROUNDS [CPU CPU]]\n");
		return 2;
	}
	pin(cpus[0]);
	wake_shared = mmap(NULL, sizeof(*wake_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (wake_shared == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	call_run();
	for (const struct wake_way *way = wake_kernel; way->name; way++)
		way_run(way);
	for (const struct wake_way *way = wake_module; way->name; way++)
		way_run(way);
	each = wake_activation(rounds / 10 + 1);
	report("activation: a worker blocks, its spare runs", each, each < 0 ? each : 0);
	return 0;
}
