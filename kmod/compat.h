/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels from 6.1 to 7.3. Nothing else in here asks for versions.
 */
#ifndef _MOTE_COMPAT_H
#define _MOTE_COMPAT_H

#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/version.h>
#include <linux/wait.h>

#if KERNEL_VERSION(6, 8, 0) <= LINUX_VERSION_CODE
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#endif

/*
 * Flags of default_wake_function(): private to the scheduler, which takes them from modules all
 * the same. Where waking on the waker's CPU does not exist, the flag would be one unknown to it.
 */
#define MOTE_WAKE_SYNC		0x10
#if KERNEL_VERSION(6, 6, 0) <= LINUX_VERSION_CODE
#define MOTE_WAKE_CURRENT_CPU	0x40
#else
#define MOTE_WAKE_CURRENT_CPU	0
#endif

/* In a preempt notifier's sched_out: t sleeps, rather than having lost its CPU. */
static inline bool mote_task_blocked(struct task_struct *t)
{
#if KERNEL_VERSION(6, 12, 0) <= LINUX_VERSION_CODE
	return !t->on_rq || t->se.sched_delayed;
#else
	return !t->on_rq;
#endif
}

static inline void mote_vma_flags(struct vm_area_struct *vma, unsigned long set,
				  unsigned long clear)
{
#if KERNEL_VERSION(6, 3, 0) <= LINUX_VERSION_CODE
	vm_flags_mod(vma, set, clear);
#else
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#endif
}

static inline void mote_hrtimer_setup(struct hrtimer *timer,
				      enum hrtimer_restart (*function)(struct hrtimer *))
{
#if KERNEL_VERSION(6, 13, 0) <= LINUX_VERSION_CODE
	hrtimer_setup(timer, function, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
#else
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	timer->function = function;
#endif
}

/* Before 6.7 io_uring could not cancel commands. */
#ifdef IORING_URING_CMD_CANCELABLE
#define MOTE_URING_CANCELABLE	1
#else
#define MOTE_URING_CANCELABLE	0
#define IO_URING_F_CANCEL	0
static inline void io_uring_cmd_mark_cancelable(struct io_uring_cmd *cmd, unsigned int flags)
{
}
#endif

static inline const void *mote_uring_payload(struct io_uring_cmd *cmd)
{
#if KERNEL_VERSION(6, 5, 0) <= LINUX_VERSION_CODE
	return cmd->sqe->cmd;
#else
	return cmd->cmd;
#endif
}

/* The callback of io_uring_cmd_complete_in_task(): its parameters, and what they stand for. */
#ifdef IO_URING_CMD_TASK_WORK_ISSUE_FLAGS
#define MOTE_URING_WORK_ARGS	struct io_tw_req req, io_tw_token_t token
#define MOTE_URING_WORK_CMD	io_uring_cmd_from_tw(req)
#define MOTE_URING_WORK_FLAGS	IO_URING_CMD_TASK_WORK_ISSUE_FLAGS
#define mote_uring_done(cmd, result, flags)	io_uring_cmd_done(cmd, result, flags)
#else
#define MOTE_URING_WORK_ARGS	struct io_uring_cmd *work_cmd, unsigned int work_flags
#define MOTE_URING_WORK_CMD	work_cmd
#define MOTE_URING_WORK_FLAGS	work_flags
#define mote_uring_done(cmd, result, flags)	io_uring_cmd_done(cmd, result, 0, flags)
#endif

#endif
