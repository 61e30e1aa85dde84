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
#include <mote/node.h>		/* processes of other OS processes */

#endif
