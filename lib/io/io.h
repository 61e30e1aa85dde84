/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/io.h: what the schedulers, and core, need of I/O. Each scheduler has one struct io: an io_uring, or an epoll set.
 */
#ifndef IO_IO_H
#define IO_IO_H

#include <stdbool.h>
#include <stdint.h>

struct scheduler;
struct task;

/* Chooses the backend once: $MOTE_IO, or what the kernel allows. 0 or -errno. */
int io_start(unsigned int schedulers);
void io_stop(void);
void io_forget(void);		/* in a forked child */
const char *io_name(void);			/* "io_uring" or "epoll" */

int io_open(struct scheduler *s);		/* makes s->io; on the thread that starts the runtime */
void io_close(struct scheduler *s);

/*
 * Submits what is queued, in one system call if any is needed, handles completions (waking tasks), and waits for the
 * first until the absolute deadline (0: no wait). Returns how many it handled. Only by s's worker.
 */
int io_poll(struct scheduler *s, int64_t deadline_ns);

/* True if there is something to submit or handle: a few loads. */
bool io_pending(struct scheduler *s);

/* s has got another worker, the caller. */
void io_adopt(struct scheduler *s);

/* As io_pending(), but by the overseer: a racy look, which may cost a system call. */
bool io_waiting(struct scheduler *s);

/* Readable when io_poll() would find something; what was queued has to be submitted by io_poll() before. */
int io_wait_fd(struct scheduler *s);

/* Gets s's worker out of io_poll(). Any thread. */
void io_notify(struct scheduler *s);

/* At a task's end, on its own stack: cancels and closes all its descriptors and waits until they are gone. */
void io_task_end(struct task *t);
uint64_t io_task_fds(struct task *t);		/* how many it owns; racy read */

#endif
