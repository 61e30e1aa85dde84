// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/bell.h"
#include "port/fence.h"
#include "port/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct segment bells;
static int memory_fd = -1;
static unsigned int nr_slots;
static int *slot_fds;

size_t bells_size(unsigned int slots)
{
	size_t page = segment_page();

	return (slots * sizeof(struct bell) + page - 1) / page * page;
}

int bells_start(unsigned int slots)
{
	int err = 0;

	if (!slots || slots > BELLS_MAX)
		return -EINVAL;
	slot_fds = malloc(slots * sizeof(*slot_fds));
	if (!slot_fds)
		return -ENOMEM;
	for (nr_slots = 0; nr_slots < slots; nr_slots++) {
		slot_fds[nr_slots] = epoll_create1(EPOLL_CLOEXEC);
		if (slot_fds[nr_slots] < 0) {
			err = -errno;
			break;
		}
	}
	if (!err) {
		memory_fd = segment_make(&bells, bells_size(slots), bells_size(slots));
		err = memory_fd < 0 ? memory_fd : 0;
	}
	if (err)
		bells_stop();
	return err;
}

void bells_stop(void)
{
	segment_drop(&bells);
	bells_forget();
	free(slot_fds);
	slot_fds = NULL;
	nr_slots = 0;
}

void bells_forget(void)
{
	/* A child does not have the mapping. */
	bells = (struct segment){ NULL, 0 };
	for (unsigned int i = 0; i < nr_slots; i++)
		close(slot_fds[i]);
	nr_slots = 0;
	if (memory_fd >= 0)
		close(memory_fd);
	memory_fd = -1;
}

int bells_fd(void)
{
	return memory_fd;
}

unsigned int bells_count(void)
{
	return nr_slots;
}

int bell_make(unsigned int slot)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };
	/* Never read, so that it stays readable; each write of nothing then is an edge, and can't fill it up. */
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), err;

	if (fd < 0)
		return -errno;
	if (epoll_ctl(slot_fds[slot], EPOLL_CTL_ADD, fd, &e)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

void bell_unmake(unsigned int slot, int fd)
{
	/* By hand: the peer has that file as well, so closing it does not take it out. */
	epoll_ctl(slot_fds[slot], EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

static struct bell *bell_of(unsigned int slot)
{
	return (struct bell *)bells.map + slot;
}

void bell_park(unsigned int slot)
{
	struct bell *b = bell_of(slot);
	uint64_t word = atomic_load_explicit(&b->word, memory_order_relaxed);

	/* relaxed: only the slot's worker writes it, and the fence orders it before the look at the lanes */
	atomic_store_explicit(&b->word, (word | 1) + (word & 1) * 2, memory_order_relaxed);
	full_fence();
}

void bell_awake(unsigned int slot)
{
	struct bell *b = bell_of(slot);
	uint64_t word = atomic_load_explicit(&b->word, memory_order_relaxed);

	/* relaxed: who still sees the old word rings for nothing */
	if (word & 1)
		atomic_store_explicit(&b->word, word + 1, memory_order_relaxed);
}

int bell_slot_fd(unsigned int slot)
{
	return slot < nr_slots ? slot_fds[slot] : -1;
}

void bell_ring(int fd)
{
	/* Nothing is added: the peer shares the file, and could have filled it up and made it wait for room. */
	eventfd_write(fd, 0);
}
