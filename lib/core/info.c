// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Processes seen from outside: relaxed loads of what others write, checked by a second look at the serial.
 */
#include "core/limit.h"
#include "core/process.h"
#include "io/io.h"

#include <mote/info.h>
#include <mote/name.h>

#include <errno.h>
#include <string.h>

static uint64_t inbox_length(const struct process *p)
{
	uint64_t inbox = atomic_load_explicit(&p->task.inbox, memory_order_relaxed);

	return inbox > TASK_NUDGED ? inbox >> 48 : 0;
}

struct name_wanted {
	mote_pid pid;
	char *to;
};

static bool name_of(const char *name, mote_pid pid, void *arg)
{
	struct name_wanted *wanted = arg;

	if (!mote_pid_equal(pid, wanted->pid))
		return true;
	strcpy(wanted->to, name);
	return false;
}

/* Plain fields that only their process writes: a racy look, of whole words. */
#define PEEK(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* Racy by intent, and checked afterwards by the serial: ThreadSanitizer need not look. */
__attribute__((no_sanitize("thread")))
static void process_describe(struct process *p, mote_pid pid, struct mote_process_info *info)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_acquire);
	uint64_t parent = PEEK(p->parent_serial);
	struct stack *stack = PEEK(p->task.stack);
	uint8_t flags = PEEK(p->task.flags);

	info->pid = pid;
	info->parent = parent ? (mote_pid){ parent, PEEK(p->parent_slot), port_node } : MOTE_NOBODY;
	info->state = atomic_load_explicit(&p->exiting, memory_order_relaxed) || PEEK(p->fatal) ? MOTE_EXITING :
		      atomic_load_explicit(&p->task.state, memory_order_relaxed);
	info->wait = atomic_load_explicit(&p->task.wait, memory_order_relaxed);
	info->trap_exit = PEEK(p->trap_exit);
	info->server = flags & TASK_STACKLESS;
	info->pinned = flags & TASK_PINNED;
	info->priority = PEEK(p->task.priority);
	info->scheduler = atomic_load_explicit(&p->task.home, memory_order_relaxed);
	info->mailbox = atomic_load_explicit(&p->nr_messages, memory_order_relaxed) + inbox_length(p);
	info->links = atomic_load_explicit(&p->nr_links, memory_order_relaxed);
	info->monitors = atomic_load_explicit(&p->nr_monitors, memory_order_relaxed);
	info->monitored_by = atomic_load_explicit(&p->nr_watchers, memory_order_relaxed);
	info->fds = io_task_fds(&p->task);
	info->memory = sizeof(*p) + atomic_load_explicit(&p->memory, memory_order_relaxed) +
		       (extra ? sizeof(*extra) : 0);
	info->stack = stack ? (uint64_t)1 << PEEK(p->task.stack_class) : 0;
	info->stack_high = stack ? stack_high(stack) : 0;
	info->spawned_at = PEEK(p->spawned_at);
	info->label = extra ? atomic_load_explicit(&extra->label, memory_order_relaxed) : NULL;
	limit_describe(p, info);
}

int mote_process_info(mote_pid pid, struct mote_process_info *info)
{
	struct process *p = process_lookup(pid);
	struct mote_process_info full = { .size = 0 };
	size_t size = info->size;

	if (size < sizeof(size))
		return -EINVAL;
	if (!port_is_here(pid.node) && mote_pid_valid(pid))
		return -EREMOTE;
	if (!p || process_dead(p))
		return -ESRCH;
	full.size = size;
	process_describe(p, pid, &full);
	if (atomic_load(&p->named)) {
		runtime_try_enter();
		names_each(name_of, &(struct name_wanted){ pid, full.name });
		runtime_try_leave();
	}
	/* acquire: the fields were read before the second look */
	atomic_thread_fence(memory_order_acquire);
	if (process_serial(p) != pid.serial)
		return -ESRCH;
	opts_give(info, size, &full, sizeof(full));
	return 0;
}

mote_pid mote_process_next(mote_pid previous)
{
	uint32_t used = atomic_load_explicit(&process_table_used, memory_order_relaxed);
	uint32_t slot = mote_pid_valid(previous) ? previous.slot + 1 : 0;

	for (; slot < used; slot++) {
		struct process *p = &process_table[slot];
		mote_pid pid = { process_serial(p), slot, port_node };

		if (pid.serial && !process_dead(p))
			return pid;
	}
	return MOTE_NOBODY;
}

bool mote_alive(mote_pid pid)
{
	struct process *p = process_lookup(pid);

	return p && !process_dead(p) && process_serial(p) == pid.serial;
}
