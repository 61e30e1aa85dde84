/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Two OS processes that send each other messages: what the twins of mote's nodes share. */
#ifndef NODES_H
#define NODES_H

#include "../peer.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LARGE 4096
#define BATCH 1000

/* One way of carrying messages, there (way 0) and back (1). */
void carrier_open(void);
void carrier_send(int way, const void *data, size_t size);	/* may hold it back until the next flush */
void carrier_flush(int way);
void carrier_receive(int way, void *data, size_t size);

static int spins;		/* the other has a CPU of its own */

static inline void nodes_pin(int last)
{
	cpu_set_t all, one;
	int cpu = -1;

	peer_check(sched_getaffinity(0, sizeof(all), &all) == 0, "CPUs are known");
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &all) && (cpu < 0 || last))
			cpu = i;
	}
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static inline void pong(void)
{
	for (;;) {
		struct payload p;

		carrier_receive(0, &p, sizeof(p));
		p = payload_of(seed_of(&p) + 1);
		carrier_send(1, &p, sizeof(p));
		carrier_flush(1);
	}
}

static inline void taker(size_t size)
{
	uint64_t word[LARGE / 8];

	for (uint64_t n = 0;; n++) {
		uint64_t wrong = 0;

		carrier_receive(0, word, size);
		for (size_t i = 0; i < size / 8; i++)
			wrong |= word[i] ^ (n + i);
		peer_check(!wrong, "the message is whole, and its turn");
	}
}

static inline void ping(const char *name)
{
	struct peer_run r;
	uint64_t seed = 0;

	for (int warm = 1; warm >= 0; warm--) {
		r = peer_begin();
		do {
			for (int i = 0; i < BATCH / 10; i++) {
				struct payload p = payload_of(seed);

				carrier_send(0, &p, sizeof(p));
				carrier_flush(0);
				carrier_receive(1, &p, sizeof(p));
				peer_check(seed_of(&p) == seed + 1, "the pong is right");
				seed++;
			}
		} while (warm ? r.n++ < 10 : peer_more(&r, BATCH / 10));
	}
	peer_end(&r, name);
}

static inline void stream(const char *name, size_t size)
{
	struct peer_run r = peer_begin();
	uint64_t word[LARGE / 8], n = 0;

	do {
		for (int i = 0; i < BATCH; i++, n++) {
			for (size_t j = 0; j < size / 8; j++)
				word[j] = n + j;
			carrier_send(0, word, size);
		}
		carrier_flush(0);
	} while (peer_more(&r, BATCH));
	peer_end(&r, name);
}

static inline int nodes_main(int argc, char **argv, const char *version)
{
	const char *name = argc > 1 ? argv[1] : "";
	size_t size = !strcmp(name, "node_stream_64") ? 64 : !strcmp(name, "node_stream_4k") ? LARGE : 0;
	cpu_set_t set;
	pid_t pid;

	if (!strcmp(name, "version"))
		return puts(version) < 0;
	sched_getaffinity(0, sizeof(set), &set);
	spins = CPU_COUNT(&set) > 1;
	carrier_open();
	pid = fork();
	peer_check(pid >= 0, "an OS process can be had");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		nodes_pin(0);
		if (size)
			taker(size);
		pong();
	}
	nodes_pin(1);
	if (size)
		stream(name, size);
	else
		ping(name);
	kill(pid, SIGKILL);
	return 0;
}

#endif
