/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/chance.h: the one place where choices are left to chance. Each scheduler has a source of its own; with
 * MOTE_SEED=n all of them follow from n, otherwise from a constant.
 */
#ifndef SCHED_CHANCE_H
#define SCHED_CHANCE_H

#include <stdbool.h>
#include <stdint.h>

struct chance {
	uint64_t state;
};

/* Reads $MOTE_SEED. 0, or -EINVAL: it is no number from 0 to 2^64 - 1. */
int chance_start(void);
bool chance_seeded(uint64_t *seed);		/* false, and 0: there is no MOTE_SEED */

/* A source of its own for each stream. */
void chance_init(struct chance *c, unsigned int stream);

/* splitmix64 (Steele, Lea, Flood 2014): any state is as good as another. */
static inline uint64_t chance_next(struct chance *c)
{
	uint64_t x = c->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* 0 to n - 1 */
static inline uint32_t chance_below(struct chance *c, uint32_t n)
{
	return (uint32_t)((chance_next(c) >> 32) * n >> 32);
}

static inline bool chance_one_in(struct chance *c, uint32_t n)
{
	return !chance_below(c, n);
}

#endif
