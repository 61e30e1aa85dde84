// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Activations belong to a node of the module's. Where the runtime is none, or one that needs no module, it
 * becomes one without a name or a lane here, for that alone.
 */
#include "port/activate.h"
#include "port/kmod.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <uapi/linux/mote.h>

static int device = -1;
static bool shared;			/* with the port */

bool activate_open(void)
{
	struct mote_query query = { .size = sizeof(query) };
	const char *port = getenv("MOTE_PORT");
	uint32_t node;

	if (port && !strcmp(port, "user"))
		return false;
	device = kmod_device();
	shared = device >= 0;
	if (!shared)
		device = device_open("", 1, &node);
	if (device < 0)
		return false;
	if (!ioctl(device, MOTE_IOC_QUERY, &query) && query.features & MOTE_FEATURE_ACTIVATE)
		return true;
	activate_close();
	return false;
}

void activate_close(void)
{
	if (device >= 0 && !shared)
		close(device);
	device = -1;
}

/* Also when another thread was in the middle of closing it: there is nothing to keep. */
void activate_forget(void)
{
	activate_close();
}

int activate_register(uint32_t id, const _Atomic uint32_t *mode, uint32_t mode_user, const _Atomic uint32_t *want)
{
	struct mote_worker worker = {
		.size = sizeof(worker), .mode = (uintptr_t)mode, .want = (uintptr_t)want, .mode_user = mode_user,
		.worker = id,
	};

	return ioctl(device, MOTE_IOC_WORKER, &worker) ? -errno : 0;
}

void activate_unregister(void)
{
	struct mote_worker worker = { .size = sizeof(worker), .flags = MOTE_WORKER_STOP };

	ioctl(device, MOTE_IOC_WORKER, &worker);
}

int activate_wait(int64_t deadline_ns, uint32_t *id)
{
	struct mote_activate_wait wait = { .size = sizeof(wait), .deadline = deadline_ns };

	while (ioctl(device, MOTE_IOC_ACTIVATE_WAIT, &wait)) {
		if (errno != EINTR)
			return -errno;
	}
	*id = wait.worker;
	return 0;
}

void activate_wake(void)
{
	struct mote_activate_wait wake = {
		.size = sizeof(wake), .flags = MOTE_ACTIVATE_POST, .worker = ACTIVATE_NOBODY,
	};

	ioctl(device, MOTE_IOC_ACTIVATE_WAIT, &wake);
}
