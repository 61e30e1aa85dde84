// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL		8U	/* Linux 6.3 */
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE	0x10
#endif

#define SIZE_SEALS	(F_SEAL_SHRINK | F_SEAL_GROW)
#define WRITE_SEALS	(F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

size_t segment_page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* Maps it, and its end twice: over a range that is reserved for that. */
static int segment_map(struct segment *g, int fd, size_t size, size_t fold, int prot)
{
	size_t length = size + (size - fold);
	char *map = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int err;

	if (map == MAP_FAILED)
		return -errno;
	if (mmap(map, size, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    (fold < size && mmap(map + size, size - fold, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)fold) == MAP_FAILED) ||
	    madvise(map, length, MADV_DONTFORK)) {
		err = -errno;
		munmap(map, length);
		return err;
	}
	*g = (struct segment){ map, length };
	return 0;
}

int segment_make(struct segment *g, size_t size, size_t fold)
{
	int fd = memfd_create("mote", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	int err;

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("mote", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	/* The order matters: sealed against writing, it could not be mapped writable any more, not even by us. */
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, SIZE_SEALS)) {
		err = -errno;
		close(fd);
		return err;
	}
	err = segment_map(g, fd, size, fold, PROT_READ | PROT_WRITE);
	if (!err && fcntl(fd, F_ADD_SEALS, WRITE_SEALS)) {
		err = -errno;
		segment_drop(g);
	}
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

int segment_take(struct segment *g, int fd, size_t size, size_t fold)
{
	/* First: only a memfd can answer, so that fstat() asks nobody outside the kernel. */
	int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;
	struct stat st;

	if (seals < 0 || (seals & (SIZE_SEALS | WRITE_SEALS)) != (SIZE_SEALS | WRITE_SEALS))
		return -EPROTO;
	/* Not of huge pages: those can be missing when they are touched, which is SIGBUS again. */
	if (fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC || fstat(fd, &st) || st.st_size != (off_t)size)
		return -EPROTO;
	return segment_map(g, fd, size, fold, PROT_READ);
}

void segment_drop(struct segment *g)
{
	if (g->map)
		munmap(g->map, g->length);
	*g = (struct segment){ NULL, 0 };
}
