// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/rendezvous.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG		128
#define SUFFIX		".node"
#define PATIENCE_MS	5000			/* for others that are just starting */

/* --- the directory --- */

static int path_choose(char *path, size_t size)
{
	const char *own = getenv("MOTE_DIR"), *run = getenv("XDG_RUNTIME_DIR");
	int n;

	if (own && *own)
		n = snprintf(path, size, "%s", own);
	else if (run && *run)
		n = snprintf(path, size, "%s/mote", run);
	else
		n = snprintf(path, size, "/tmp/mote-%u", (unsigned int)geteuid());
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

static int dir_open(const char *path)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == ENOTDIR ? -EACCES : -errno;
	if (fstat(fd, &st) || st.st_uid != geteuid() || st.st_mode & 077) {
		close(fd);
		return -EACCES;
	}
	return fd;
}

/* --- locks --- */

static int lock_try(int fd, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET };

	if (!fcntl(fd, F_SETLK, &l))
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static bool lock_is_held(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return !fcntl(fd, F_GETLK, &l) && l.l_type != F_UNLCK;
}

static uint32_t number_read(int fd)
{
	char s[16];
	ssize_t n = pread(fd, s, sizeof(s) - 1, 0);
	unsigned long number;

	if (n <= 0)
		return 0;
	s[n] = 0;
	number = strtoul(s, NULL, 10);
	return number < UINT32_MAX ? (uint32_t)number : 0;
}

static int number_write(int fd, uint32_t number)
{
	char s[16];
	int n = snprintf(s, sizeof(s), "%" PRIu32 "\n", number);

	if (pwrite(fd, s, (size_t)n, 0) != n || ftruncate(fd, n))
		return errno ? -errno : -EIO;
	return 0;
}

static int name_open(int dir, const char *name, int flags)
{
	char file[PORT_NAME_MAX + sizeof(SUFFIX)];

	snprintf(file, sizeof(file), "%s" SUFFIX, name);
	return openat(dir, file, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static void name_unlink(int dir, const char *name)
{
	char file[PORT_NAME_MAX + sizeof(SUFFIX)];

	snprintf(file, sizeof(file), "%s" SUFFIX, name);
	unlinkat(dir, file, 0);
}

static void socket_unlink(int dir, uint32_t id)
{
	char file[32];

	snprintf(file, sizeof(file), "%" PRIu32 ".sock", id);
	unlinkat(dir, file, 0);
}

/* Calls fn for the name of each node that is or was, until it says false. */
static int names_each(int dir, bool (*fn)(int dir, const char *name, void *arg), void *arg)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		int err = -errno;

		if (fd >= 0)
			close(fd);
		return err;
	}
	while ((e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n <= strlen(SUFFIX) || n > PORT_NAME_MAX + strlen(SUFFIX) ||
		    strcmp(e->d_name + n - strlen(SUFFIX), SUFFIX))
			continue;
		e->d_name[n - strlen(SUFFIX)] = 0;
		if (!fn(dir, e->d_name, arg))
			break;
	}
	closedir(d);
	return 0;
}

/* --- coming and going --- */

/* What was left by those that were killed. With the counter's lock: nobody is about to take this name. */
static bool name_sweep(int dir, const char *name, void *unused)
{
	int fd = name_open(dir, name, O_RDWR);

	(void)unused;
	if (fd < 0)
		return true;
	if (!lock_try(fd, F_WRLCK)) {
		uint32_t id = number_read(fd);

		if (id)
			socket_unlink(dir, id);
		name_unlink(dir, name);
	}
	close(fd);
	return true;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* Held for a few system calls by each. Who is stopped in between holds the others up, for a while. */
static int counter_lock(int fd)
{
	int64_t until = now_ms() + PATIENCE_MS;
	int err;

	while ((err = lock_try(fd, F_WRLCK)) == -EAGAIN && now_ms() < until)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	return err == -EAGAIN ? -ETIMEDOUT : err;
}

/* The name's file, locked. */
static int name_lock(int dir, const char *name)
{
	struct stat st;
	int fd, err;

	for (;;) {
		fd = name_open(dir, name, O_RDWR | O_CREAT);
		if (fd < 0)
			return -errno;
		err = lock_try(fd, F_WRLCK);
		if (!err && fstat(fd, &st))
			err = -errno;
		if (!err && st.st_nlink)
			return fd;
		close(fd);
		/* No links: who had the name has left it just now, and taken the file away. */
		if (err)
			return err == -EAGAIN ? -EEXIST : err;
	}
}

static int name_take(struct rendezvous *z, int counter, const char *name)
{
	uint32_t id;
	int err;

	names_each(z->dir, name_sweep, NULL);
	z->lock = name_lock(z->dir, name);
	if (z->lock < 0)
		return z->lock;
	id = number_read(counter) + 1;
	/* 31 bits, like the module's */
	err = id > INT32_MAX ? -ENOSPC : number_write(counter, id);
	if (!err)
		z->id = id;
	else
		name_unlink(z->dir, name);
	return err;
}

int rendezvous_take(struct rendezvous *z, const char *name)
{
	int counter, err;

	*z = (struct rendezvous)RENDEZVOUS_NONE;
	err = path_choose(z->path, sizeof(z->path));
	if (err)
		return err;
	z->dir = dir_open(z->path);
	if (z->dir < 0)
		return z->dir;
	counter = openat(z->dir, "counter", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	err = counter < 0 ? -errno : counter_lock(counter);
	if (!err)
		err = name_take(z, counter, name);
	if (counter >= 0)
		close(counter);
	if (err) {
		if (z->lock >= 0)
			close(z->lock);
		close(z->dir);
		*z = (struct rendezvous)RENDEZVOUS_NONE;
		return err;
	}
	strcpy(z->name, name);
	return 0;
}

static int socket_address(const struct rendezvous *z, uint32_t id, struct sockaddr_un *a)
{
	a->sun_family = AF_UNIX;
	return snprintf(a->sun_path, sizeof(a->sun_path), "%s/%" PRIu32 ".sock", z->path, id) <
	       (int)sizeof(a->sun_path) ? 0 : -ENAMETOOLONG;
}

int rendezvous_listen(struct rendezvous *z)
{
	struct sockaddr_un a;
	int err = socket_address(z, z->id, &a);
	int fd;

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* An id is ours alone: what is in the way was there before the counter was lost. */
	socket_unlink(z->dir, z->id);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, BACKLOG))
		err = -errno;
	else
		err = number_write(z->lock, z->id);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

void rendezvous_leave(struct rendezvous *z)
{
	if (z->dir < 0)
		return;
	socket_unlink(z->dir, z->id);
	/* While it is locked: afterwards it may be somebody else's. */
	name_unlink(z->dir, z->name);
	rendezvous_forget(z);
}

void rendezvous_forget(struct rendezvous *z)
{
	if (z->dir < 0)
		return;
	close(z->lock);
	close(z->dir);
	*z = (struct rendezvous)RENDEZVOUS_NONE;
}

/* --- finding others --- */

uint32_t rendezvous_find(const struct rendezvous *z, const char *name)
{
	int fd = name_open(z->dir, name, O_RDWR);
	uint32_t id = 0;

	if (fd < 0)
		return 0;
	if (lock_is_held(fd))
		id = number_read(fd);
	close(fd);
	return id;
}

int rendezvous_call(const struct rendezvous *z, uint32_t node)
{
	struct sockaddr_un a;
	int err = socket_address(z, node, &a);
	int fd;

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

struct listing {
	const struct rendezvous *z;
	bool (*visit)(uint32_t node, const char *name, void *arg);
	void *arg;
};

static bool name_list(int dir, const char *name, void *arg)
{
	struct listing *l = arg;
	/* Never open our own: closing it would be the end of our lock. */
	uint32_t id = strcmp(name, l->z->name) ? rendezvous_find(l->z, name) : l->z->id;

	(void)dir;
	return !id || l->visit(id, name, l->arg);
}

int rendezvous_list(const struct rendezvous *z, bool (*visit)(uint32_t node, const char *name, void *arg), void *arg)
{
	struct listing l = { z, visit, arg };

	return names_each(z->dir, name_list, &l);
}
