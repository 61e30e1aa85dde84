/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the benchmarks share. Each run of each benchmark is a child process of its own, with a fresh runtime on
 * CPUs of its own; it hands its figures to the parent through a pipe.
 */
#ifndef MOTE_BENCH_H
#define MOTE_BENCH_H

#include <mote.h>

struct bench {
	const char *name;
	mote_fn run;		/* the first process of the child's runtime */
	void (*host)(void);	/* or: runs in the child itself, which starts and pins OS processes as it likes */
	unsigned int schedulers;	/* 0: one, on one CPU */
	bool pair;		/* run it with one scheduler, then with two, and report the speed-up */
	unsigned int runs;	/* 0: as many as asked for */
};

extern const struct bench bench_messages[], bench_receive[], bench_spawn[], bench_memory[], bench_timers[],
	bench_skynet[], bench_echo[], bench_kv[], bench_two[], bench_supervise[], bench_neighbour[], bench_node[],
	bench_overseer[], bench_activation[], bench_task[], bench_registry[], bench_supervisor[];

/* Those that two.c runs with two schedulers as well. */
void bench_fanin_run(void *arg);
void bench_spawn_run(void *arg);
void bench_skynet_run(void *arg);

/* Bad neighbours: one computes for ever, the other blocks outside the library for 10 ms at a time. */
void bench_hog(void *arg);
void bench_blocker(void *arg);

/* 64 bytes that are written by each sender and read by each receiver. */
struct bench_payload {
	uint64_t word[8];
};

static inline struct bench_payload bench_payload(uint64_t seed)
{
	struct bench_payload p;

	for (int i = 0; i < 8; i++)
		p.word[i] = seed + i;
	return p;
}

/* The seed of a payload whose eight words are as written. */
static inline bool bench_payload_is(const struct bench_payload *p, uint64_t seed)
{
	uint64_t wrong = 0;

	for (int i = 0; i < 8; i++)
		wrong |= p->word[i] ^ (seed + i);
	return wrong == 0;
}

/* Wall clock and CPU time (of all threads of this OS process) of the measured part. */
struct bench_clock {
	int64_t wall, cpu;
	uint64_t operations, rounds;
};

void bench_begin(struct bench_clock *clock);
/* Counts n operations, a round, done; true until the time that a run should last is over. */
bool bench_more(struct bench_clock *clock, uint64_t n);
/* Reports nanoseconds per operation. */
void bench_end(struct bench_clock *clock, const char *name);
/* Reports a figure of its own making; cpu 0: not meaningful. */
void bench_figure(const char *name, double value, const char *unit, double cpu);

int64_t bench_now(void);
int64_t bench_cpu(void);
/* Resident bytes of this OS process. */
int64_t bench_rss(void);
/* How many processes the runtime has. */
uint64_t bench_alive(void);
/* Ends the run with a message: what a benchmark claims to do did not happen. */
void bench_check(bool ok, const char *what);
/* Ends the run well, at once: nothing is to be gained from taking down a million processes in order. */
_Noreturn void bench_done(void);

/* Waits until `count` reaches n; the last to add to it wakes the process that waits. */
struct bench_gate {
	_Atomic uint64_t count;
	uint64_t n;
	mote_pid waiter;
};

void bench_gate_open(struct bench_gate *gate, uint64_t n);
void bench_gate_pass(struct bench_gate *gate);
void bench_gate_wait(struct bench_gate *gate);

/* Starts an echo server: answers each call with what it got, after looking at it; counts casts, and looks at them, too. */
mote_pid bench_echo_start(void);
/* One call of 64 bytes to it; the answer is checked. */
void bench_call(mote_pid server, uint64_t seed, mote_deadline deadline);

/* Where things run: the CPUs that this OS process may use. */
void bench_pin(int first, int last);
int bench_server_cpu(void);
int bench_load_cpu(void);
double bench_seconds(void);

/* load.c: measures a server in another OS process, which listens on the port of the loopback address. */
void bench_load_echo(pid_t server, unsigned short port, int depth);
void bench_load_kv(pid_t server, unsigned short port, int depth);
unsigned short bench_free_port(void);

#endif
