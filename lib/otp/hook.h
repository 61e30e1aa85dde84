/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/hook.h: sets of functions that the program has attached, and that run in whichever process something happens:
 * handlers of the log, of telemetry.
 *
 * A set is an immutable list. Who reads it takes a reference, who changes it puts another list in its place; the last
 * one out frees. Readers never wait, for each other or for writers, and may be processes that wait, migrate, are
 * killed or crash while they hold it: what a process holds is noted in a record of its own, and its end releases it.
 */
#ifndef OTP_HOOK_H
#define OTP_HOOK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first member of what is attached. */
struct hook {
	_Atomic uint32_t refs;
};

struct hook_list {
	_Atomic int64_t refs;
	struct hook_set *set;
	size_t n;
	struct hook *hooks[];
};

struct hook_set {
	/* The list's address << 16, and how many are about to take a reference: OS threads at most, never 65,536. */
	_Atomic uint64_t word;
	struct hook_list *list;			/* the same, for leak checkers, which do not find it shifted; with the mutex */
	pthread_mutex_t mutex;			/* of those who change it */
	void (*free)(struct hook *hook);	/* nobody has it any more; any context, but the mutex is not held */
	/* By the process that it has ended, in a cleanup: removes the hook, and says so. `at` is hooks_running()'s. */
	void (*failed)(struct hook *hook, const void *at);
};

/* Hooks have one reference, the caller's, when they are made. */
static inline void hook_init(struct hook *hook)
{
	atomic_init(&hook->refs, 1);
}

void hook_put(struct hook_set *set, struct hook *hook);

/* A list, with a reference; NULL: nothing was ever attached. */
struct hook_list *hooks_get(struct hook_set *set);
void hooks_put(struct hook_list *list);

/* Between these two nobody else changes the set; hooks_now() stays valid. No user's code may run there. */
void hooks_lock(struct hook_set *set);
void hooks_unlock(struct hook_set *set);
const struct hook_list *hooks_now(struct hook_set *set);

/*
 * With the mutex held: all hooks but those that `drop` (may be NULL) wants gone, and then `add` (may be NULL). 0 or
 * -ENOMEM. *old gets what has to be put when the mutex is not held any more.
 */
int hooks_change(struct hook_set *set, bool (*drop)(const struct hook *hook, const void *arg), const void *arg,
		 struct hook *add, struct hook_list **old);

/* In the child of a fork: nobody else has the mutex. drop: nothing is attached any more; what was is not freed. */
void hooks_forget(struct hook_set *set, bool drop);

/* A walk over a list, in whose course the hooks' functions run. */
struct hook_frame;
struct hook_walk {
	struct hook_list *list;
	struct hook_frame *frame;	/* of the process's record; NULL: a foreign thread, or no memory */
};

/* false: there is nothing to walk over. May not return, as any runtime call. */
bool hooks_begin(struct hook_set *set, struct hook_walk *walk);
/* Whose function runs now; NULL: none. at: more about it, of the hook's own memory. */
void hooks_running(struct hook_walk *walk, struct hook *hook, const void *at);
void hooks_end(struct hook_walk *walk);

/* Whether the calling process is in a function of that set. */
bool hooks_inside(const struct hook_set *set);

#endif
