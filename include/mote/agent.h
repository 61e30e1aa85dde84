/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/agent.h: a state that processes share by sending functions to it. They are Elixir's Agent.
 *
 *	static void add(void *state, const void *arg) { *(long *)state += *(const int *)arg; }
 *
 *	err = mote_agent_start_link(sizeof(long), NULL, NULL, NULL, &agent);
 *	err = mote_agent_update(agent, add, &(int){ 5 }, sizeof(int), mote_in_ms(5000));
 *
 * An agent is a server (mote/server.h): stop it with mote_server_stop(), look into it with mote/sys.h; its state is
 * what mote_sys_get_state() shows. A message that is none of those below is logged and dropped.
 *
 * The functions run in the agent, one at a time, as its own code: what they mote_alloc() is the agent's, a crash is the
 * agent's, while one waits the others do, too. They get a copy of arg_size bytes at arg, and fill in a result of
 * result_size bytes (zeroed; aligned to 16), of which the caller gets a copy: nothing of the caller's is used once it
 * waits no more.
 */
#ifndef MOTE_AGENT_H
#define MOTE_AGENT_H

#include <mote/base.h>
#include <mote/server.h>

MOTE_BEGIN_DECLS

/*
 * Start an agent with a state of state_size bytes: zeroes; or, if init is NULL and arg is not, a copy of those at arg;
 * or what init(state, arg), run by the agent, makes of zeroes. init returns 0, MOTE_IGNORE or -errno. All else as
 * mote_server_start(). Follow Agent.start, start_link.
 */
MOTE_API int mote_agent_start(size_t state_size, int (*init)(void *state, void *arg), void *arg,
			      const struct mote_server_opts *opts, mote_pid *pid);
MOTE_API int mote_agent_start_link(size_t state_size, int (*init)(void *state, void *arg), void *arg,
				   const struct mote_server_opts *opts, mote_pid *pid);

/*
 * Have fn look at the state, change it, or both, and wait. 0; as mote_call(): -ETIMEDOUT (what has not been done yet is
 * done later, its result vanishes), -ESRCH, -EPIPE (it ended, perhaps because fn crashed), -EDEADLK, -ENOMEM, -EINVAL;
 * -EREMOTE: it is of another node, where this function is not. Follow Agent.get, update, get_and_update, whose timeout
 * is 5,000 ms: mote_in_ms(5000).
 */
MOTE_API int mote_agent_get(mote_pid agent, void (*fn)(const void *state, const void *arg, void *result),
			    const void *arg, size_t arg_size, void *result, size_t result_size, mote_deadline deadline);
MOTE_API int mote_agent_update(mote_pid agent, void (*fn)(void *state, const void *arg), const void *arg,
			       size_t arg_size, mote_deadline deadline);
MOTE_API int mote_agent_get_and_update(mote_pid agent, void (*fn)(void *state, const void *arg, void *result),
				       const void *arg, size_t arg_size, void *result, size_t result_size,
				       mote_deadline deadline);

/*
 * Has fn change the state, and does not wait. 0, also if there is no such agent; -EREMOTE; as mote_send(). Follows
 * Agent.cast.
 */
MOTE_API int mote_agent_cast(mote_pid agent, void (*fn)(void *state, const void *arg), const void *arg,
			     size_t arg_size);

MOTE_END_DECLS

#endif
