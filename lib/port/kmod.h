/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/kmod.h: /dev/mote. The only descriptor of it that a runtime has stands for its node: whoever needs one
 * shares it.
 */
#ifndef PORT_KMOD_H
#define PORT_KMOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The module's descriptor, if this is a node by port_kmod; else -1. */
int kmod_device(void);

/*
 * A node of the module's: its descriptor, or -errno; -ENODEV: no module, or not for us. name may be empty.
 * *node is its id.
 */
int device_open(const char *name, unsigned int slots, uint32_t *node);

/* Memory that the module lends. */
struct area {
	void *map;			/* NULL: none */
	size_t length;
};

/* 0 or -errno. Forked children do not have it. */
int area_map(struct area *a, int device, unsigned int kind, uint32_t id, size_t length, bool writable);
void area_drop(struct area *a);

#endif
