/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/bell.h: the bells of the user port. Of each slot: a word that says whether its worker sleeps, in memory that all
 * peers read; and an epoll of eventfds, one for each peer, made for that peer alone: what one of them does with its
 * own is nobody else's business. How that makes no ring get lost: port/carrier.h.
 */
#ifndef PORT_BELL_H
#define PORT_BELL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define BELLS_MAX	256

/* Odd: its worker sleeps. Grows, so that a peer rings once for each time. */
struct bell {
	_Atomic uint64_t word;
} __attribute__((aligned(64)));

int bells_start(unsigned int slots);
void bells_stop(void);
void bells_forget(void);			/* in a forked child */

/* How much memory so many bells are, and the descriptor of ours. */
size_t bells_size(unsigned int slots);
int bells_fd(void);
unsigned int bells_count(void);

/* A descriptor for a peer: writing to it rings that slot. Or -errno. */
int bell_make(unsigned int slot);
void bell_unmake(unsigned int slot, int fd);	/* the peer still has it, and can't ring any more */

/* port_ops.park, .awake and .bell_fd */
void bell_park(unsigned int slot);
void bell_awake(unsigned int slot);
int bell_slot_fd(unsigned int slot);

/* Rings, by what bell_make() has made elsewhere. */
void bell_ring(int fd);

#endif
