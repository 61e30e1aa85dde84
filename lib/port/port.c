// SPDX-License-Identifier: MIT OR GPL-2.0
/* Which port it is. */
#include "port/carrier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint32_t port_node;
const struct port_ops *port_ops;
static char own_name[PORT_NAME_MAX + 1];

bool port_name_good(const char *name)
{
	size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");

	return n && !name[n] && n <= PORT_NAME_MAX;
}

/* -ENODEV: no module, or not for us. */
static int start_with(const struct port_ops *ops, const char *name, unsigned int slots)
{
	int err = ops->start(name, slots);

	if (!err)
		port_ops = ops;
	return err;
}

int port_start(const struct port_opts *opts)
{
	const char *name = opts->name ? opts->name : getenv("MOTE_NODE");
	const char *which = getenv("MOTE_PORT");
	bool any = !which || !*which || !strcmp(which, "auto");
	int err;

	if (!any && strcmp(which, "user") && strcmp(which, "kmod"))
		return -EINVAL;
	if (!name || (!opts->name && !*name))
		return 0;
	if (!port_name_good(name))
		return -EINVAL;
	err = carriers_start(opts->slots, opts->hooks);
	if (err)
		return err;
	err = any || !strcmp(which, "kmod") ? start_with(&port_kmod, name, opts->slots) : -ENODEV;
	if (err == -ENODEV && (any || !strcmp(which, "user")))
		err = start_with(&port_user, name, opts->slots);
	if (err) {
		carriers_stop();
		return err;
	}
	strcpy(own_name, name);
	return 0;
}

int port_open(void)
{
	return port_ops ? port_ops->open() : 0;
}

void port_close(void)
{
	if (!port_ops)
		return;
	carriers_close();
	port_ops->close();
}

void port_stop(void)
{
	if (!port_ops)
		return;
	/* First: news may lie in carriers. */
	carriers_stop();
	port_ops->stop();
	port_ops = NULL;
	port_node = 0;
	own_name[0] = 0;
}

void port_forget(void)
{
	if (!port_ops)
		return;
	port_ops->forget();
	/* What it had is lost: a thread of the parent's may have been at it. */
	port_ops = NULL;
	port_node = 0;
	own_name[0] = 0;
	atomic_store_explicit(&port_busy, 0, memory_order_relaxed);
}

const char *port_name(void)
{
	return port_ops ? port_ops->name : "none";
}

const char *port_node_name(void)
{
	return own_name;
}

int port_connect(uint32_t node, const char *name)
{
	struct request *r;

	if (!port_ops)
		return -ENETDOWN;
	if (node ? node == port_node : !name || !port_name_good(name) || !strcmp(name, own_name))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->errand.kind = ERRAND_CONNECT;
	r->node = node;
	if (!node)
		strcpy(r->name, name);
	port_ops->errand(&r->errand);
	return 0;
}

int port_list(bool (*visit)(uint32_t node, const char *name, void *arg), void *arg)
{
	return port_ops ? port_ops->list(visit, arg) : -ENETDOWN;
}

int port_bell_fd(unsigned int slot)
{
	return port_ops ? port_ops->bell_fd(slot) : -1;
}
