/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the twins in C and C++ share: clocks, the payload of 64 bytes, and the line that reports a figure. */
#ifndef PEER_H
#define PEER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct payload {
	uint64_t word[8];
};

static inline struct payload payload_of(uint64_t seed)
{
	struct payload p;

	for (int i = 0; i < 8; i++)
		p.word[i] = seed + i;
	return p;
}

static inline void peer_check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "not so: %s\n", what);
	_exit(1);
}

/* The seed of a payload whose eight words are as written. */
static inline uint64_t seed_of(const struct payload *p)
{
	uint64_t wrong = 0;

	for (int i = 0; i < 8; i++)
		wrong |= p->word[i] ^ (p->word[0] + i);
	peer_check(wrong == 0, "the message is whole");
	return p->word[0];
}

static inline double peer_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static inline double peer_seconds(void)
{
	const char *s = getenv("BENCH_SECONDS");

	return s && atof(s) > 0 ? atof(s) : 0.25;
}

static inline void peer_figure(const char *name, double v, const char *unit, double cpu)
{
	printf("%s %.2f %s min %.2f median %.2f max %.2f cpu %.2f runs 1\n", name, v, unit, v, v, v, cpu);
	fflush(stdout);
}

struct peer_run {
	double wall, cpu, n;
};

static inline struct peer_run peer_begin(void)
{
	struct peer_run r;

	r.n = 0;
	r.cpu = peer_clock(CLOCK_PROCESS_CPUTIME_ID);
	r.wall = peer_clock(CLOCK_MONOTONIC);
	return r;
}

/* Counts n operations; true until a run has lasted long enough. */
static inline int peer_more(struct peer_run *r, double n)
{
	r->n += n;
	return peer_clock(CLOCK_MONOTONIC) - r->wall < peer_seconds() * 1e9;
}

static inline void peer_end(const struct peer_run *r, const char *name)
{
	double wall = peer_clock(CLOCK_MONOTONIC) - r->wall;

	peer_figure(name, wall / r->n, "ns", (peer_clock(CLOCK_PROCESS_CPUTIME_ID) - r->cpu) / r->n);
}

static inline long long peer_rss(void)
{
	long total, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	peer_check(f && fscanf(f, "%ld %ld", &total, &pages) == 2, "/proc/self/statm can be read");
	fclose(f);
	return (long long)pages * sysconf(_SC_PAGESIZE);
}

#endif
