/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/port.h: how other OS processes are reached. Today: not at all; a pid of another node is one whose connection is
 * gone. This is where the ports will stand, with the module and without it; signals are made to travel: one block,
 * addressed by slot and serial, holding no pointers but those into itself.
 */
#ifndef PORT_PORT_H
#define PORT_PORT_H

#include <stdbool.h>
#include <stdint.h>

const char *port_name(void);

/* Whether node is this OS process. */
static inline bool port_is_here(uint32_t node)
{
	return node == 0;
}

#endif
