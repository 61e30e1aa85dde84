/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote: lightweight processes for C. The whole library; each room has a header of its own.
 */
#ifndef MOTE_H
#define MOTE_H

#include <mote/base.h>		/* pid, ref, deadline, exit reason */
#include <mote/runtime.h>	/* run, start, stop, blocking calls of other libraries */
#include <mote/process.h>	/* spawn, exit, link, monitor, defer, memory */
#include <mote/message.h>	/* send, receive, call, reply */
#include <mote/timer.h>		/* send later, sleep */
#include <mote/name.h>		/* register, whereis */
#include <mote/info.h>		/* look at processes from outside */
#include <mote/fd.h>		/* who owns a descriptor */
#include <mote/net.h>		/* TCP, UDP, Unix sockets, host names */
#include <mote/file.h>		/* files */
#include <mote/os.h>		/* OS processes and POSIX signals */
#include <mote/field.h>		/* pairs of key and value */
#include <mote/log.h>		/* the log */
#include <mote/telemetry.h>	/* events for whoever measures */
#include <mote/program.h>	/* programs as children of supervisors */
#include <mote/node.h>		/* processes of other OS processes */
#include <mote/server.h>	/* servers: gen_server */
#include <mote/sys.h>		/* looking into servers */
#include <mote/statem.h>	/* state machines: gen_statem */
#include <mote/event.h>		/* event managers: gen_event */
#include <mote/agent.h>		/* agents */
#include <mote/supervisor.h>	/* supervisors */
#include <mote/task.h>		/* tasks: async, await, streams */
#include <mote/registry.h>	/* processes under keys of any bytes */
#include <mote/pg.h>		/* groups of processes, across nodes */
#include <mote/pubsub.h>	/* messages to all who subscribe to a topic */

#endif
