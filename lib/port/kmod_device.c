// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/kmod.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <uapi/linux/mote.h>

int device_open(const char *name, unsigned int slots, uint32_t *node)
{
	struct mote_setup setup = {
		.size = sizeof(setup), .nr_slots = slots, .mode = 0600, .event_slot = MOTE_NO_SLOT,
	};
	int fd = open("/dev/mote", O_RDWR | O_CLOEXEC | O_NONBLOCK), err;

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -ENODEV;
	strncpy(setup.name, name, sizeof(setup.name) - 1);
	if (ioctl(fd, MOTE_IOC_SETUP, &setup)) {
		err = -errno;
		close(fd);
		return err;
	}
	*node = setup.node;
	return fd;
}

int area_map(struct area *a, int device, unsigned int kind, uint32_t id, size_t length, bool writable)
{
	void *map = mmap(NULL, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, device,
			 (off_t)MOTE_MAP(kind, id));

	if (map == MAP_FAILED)
		return -errno;
	*a = (struct area){ map, length };
	return 0;
}

void area_drop(struct area *a)
{
	if (a->map)
		munmap(a->map, a->length);
	*a = (struct area){ NULL, 0 };
}
