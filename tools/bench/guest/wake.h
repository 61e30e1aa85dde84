/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* wake.h: ways in which two OS processes can wake each other, to be measured beside one another. */
#ifndef WAKE_H
#define WAKE_H

#include <stdatomic.h>
#include <stdint.h>

/* What the two share: a page of its own for each way. */
struct wake_shared {
	_Atomic uint32_t word[2];	/* the ways', for their own use: one for each side */
	_Atomic uint32_t node[2];
	_Atomic uint32_t ready[2];
	double each;			/* out: per round trip, or per turn */
	int error;			/* out: of the way that failed here */
};

extern struct wake_shared *wake_shared;

/* Side 0 rings first. What fails returns a negated errno, and the way is left out. */
struct wake_way {
	const char *name;
	int (*open)(void);		/* before the two part, or NULL */
	int (*join)(int side);		/* in each, or NULL */
	int (*ring)(int side);		/* the other side's bell */
	int (*wait)(int side);		/* until one's own was rung */
	int (*turn)(int side);		/* both, in one system call; or NULL: ring, then wait */
};

extern const struct wake_way wake_kernel[], wake_module[];

/* Instructions from a worker's blocking call to the first one of its spare; a negated errno if there is no such thing. */
double wake_activation(unsigned int rounds);

int64_t wake_now(void);

#endif
