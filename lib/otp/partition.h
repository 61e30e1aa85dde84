/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/partition.h: where the children of a partition supervisor are: a table that it writes, and anybody reads.
 */
#ifndef OTP_PARTITION_H
#define OTP_PARTITION_H

#include <mote/supervisor.h>

/*
 * By the supervisor, for itself, which is called that: found by mote_partitions_get() until it ends. NULL: -ENOMEM.
 */
struct mote_partitions *partition_open(const char *name, unsigned int count);

/* By the supervisor. */
void partition_show(struct mote_partitions *p, unsigned int number, mote_pid pid);
void partition_set_count(struct mote_partitions *p, unsigned int count);

#endif
