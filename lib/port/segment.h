/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/segment.h: memory that one OS process writes and another one reads, who need not trust each other: a memfd that can
 * neither shrink (the reader would get SIGBUS), nor be mapped writable any more.
 */
#ifndef PORT_SEGMENT_H
#define PORT_SEGMENT_H

#include <stddef.h>

struct segment {
	void *map;			/* NULL: none */
	size_t length;			/* of the mapping */
};

size_t segment_page(void);

/*
 * New memory of size bytes (whole pages), all zero, mapped writable. fold: what lies behind that offset is mapped once more
 * behind the end; size: nothing is. Returns the descriptor to hand out, or -errno. Forked children do not have the mapping.
 */
int segment_make(struct segment *g, size_t size, size_t fold);

/*
 * Maps what another OS process has made so, read-only. -EPROTO: it is something else, of another size, or not sealed. What
 * fd is is found out without asking a file system that could be the peer's own. fd stays open.
 */
int segment_take(struct segment *g, int fd, size_t size, size_t fold);

void segment_drop(struct segment *g);

#endif
