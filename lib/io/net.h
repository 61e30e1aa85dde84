/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/net.h: for file.c, whose functions also take sockets.
 */
#ifndef IO_NET_H
#define IO_NET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct call;

/* How far a vector is done: iov[0 .. n-1] is left, and of iov[0] all but `offset` bytes. */
struct vector {
	const struct iovec *iov;
	int n;
	size_t offset;
};

void vector_skip(struct vector *v);	/* pieces with nothing left */
void vector_advance(struct vector *v, size_t done);

#endif
