/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/outbox.h: a stream of messages from a process to one on another scheduler, held back for a moment to be pushed
 * as one. Each push of its own would take the receiver's cache line from the core that is receiving.
 */
#ifndef CORE_OUTBOX_H
#define CORE_OUTBOX_H

#include "core/process.h"

/* Takes sig if it belongs to a stream; false: send it the usual way. */
bool outbox_hold(struct scheduler *s, struct signal *sig, uint32_t to_slot);

/* Pushes what `from` holds back; s: the caller's own. */
void outbox_flush(struct scheduler *s, struct scheduler *from);

void outbox_forget(void);	/* in a forked child */

#endif
