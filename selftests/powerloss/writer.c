/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * writer DIR COUNT right|ack-early|no-dirsync|rename-unsynced|rename-no-dirsync
 *
 * Appends COUNT numbered records to DIR/log and prints a record's number once it promises to keep it. Every
 * eighth record it replaces the file by a copy, as a log that is rewritten does. `right` keeps its promises;
 * the others each leave out or misplace one sync: a layer that loses what was not synced must catch them all.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *mode;

static bool is(const char *what)
{
	return !strcmp(mode, what);
}

static void append(int fd, int number)
{
	char record[64];
	int size = snprintf(record, sizeof(record), "record %d of the log\n", number);

	if (write(fd, record, size) != size)
		err(1, "write");
}

static void promise(int number)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%d\n", number);

	if (write(STDOUT_FILENO, text, size) != size)
		err(1, "stdout");
}

static int file_new(int dir, const char *name)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

static int rewrite(int dir, int old, int count)
{
	int fd = file_new(dir, "log.new");

	for (int i = 0; i < count; i++)
		append(fd, i);
	if (!is("rename-unsynced") && fdatasync(fd))
		err(1, "fdatasync");
	if (renameat(dir, "log.new", dir, "log"))
		err(1, "rename");
	if (!is("rename-no-dirsync") && fsync(dir))
		err(1, "fsync");
	close(old);
	return fd;
}

int main(int argc, char **argv)
{
	int dir, fd, count;

	if (argc != 4)
		errx(2, "usage: writer DIR COUNT MODE");
	mode = argv[3];
	count = atoi(argv[2]);
	dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		err(1, "%s", argv[1]);
	fd = file_new(dir, "log");
	if (!is("no-dirsync") && fsync(dir))
		err(1, "fsync");
	for (int i = 0; i < count; i++) {
		if (i && i % 8 == 0 && !is("no-dirsync"))
			fd = rewrite(dir, fd, i);
		append(fd, i);
		if (is("ack-early"))
			promise(i);
		if (fdatasync(fd))
			err(1, "fdatasync");
		if (!is("ack-early"))
			promise(i);
	}
	return 0;
}
