/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * model.h: what a disk may hold after the power went.
 *
 * A file has two contents: the one that programs see now, and the one that is sure to survive (`safe`), which
 * catches up at fsync only. Between them lies a log of changes. A directory has the same pair for its names:
 * a new file, a rename, a removal is safe only after an fsync of the directory, whatever was synced of the
 * file.
 *
 * At a cut each file's survivor is its safe content plus some of its log, and each directory's is its safe
 * names plus a prefix of its log (file systems keep a journal of names). Of a file's log survives either a
 * prefix with its last write torn (ordered; how journaling file systems treat appends), or any subset, each
 * write perhaps torn (what POSIX allows; holes read as zeros or as what was there before).
 */
#ifndef POWERLOSS_MODEL_H
#define POWERLOSS_MODEL_H

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct content {
	char *bytes;
	size_t size, room;
};

struct change {
	bool truncation;
	size_t offset;		/* of a truncation: the new size */
	size_t size;
	char *bytes;
};

struct name {
	char text[256];
	uint64_t ino;
};

struct names {
	struct name *list;
	size_t count;
};

struct name_change {
	enum { NAME_ADD, NAME_REMOVE, NAME_MOVE } what;
	struct name name;
	char to[256];
};

struct inode {
	bool directory;
	struct content now, safe;
	struct change *log;
	struct names names_now, names_safe;
	struct name_change *name_log;
	size_t logged;		/* entries of log or name_log */
};

#define ROOT_INO 1

/* Never freed before the end: an unlinked file may still be open. Inode numbers index it. */
static struct inode **inodes;
static uint64_t inode_count = ROOT_INO;
static uint64_t random_state;

static uint64_t random_next(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t random_below(uint64_t n)
{
	return random_next() % n;
}

static void *grow(void *old, size_t size)
{
	void *p = realloc(old, size ? size : 1);

	if (!p)
		err(1, "realloc");
	return p;
}

static uint64_t inode_new(bool directory)
{
	struct inode *node = calloc(1, sizeof(*node));

	if (!node)
		err(1, "calloc");
	node->directory = directory;
	inodes = grow(inodes, (inode_count + 1) * sizeof(*inodes));
	inodes[inode_count] = node;
	return inode_count++;
}

static void content_resize(struct content *c, size_t size)
{
	if (size > c->room) {
		c->room = size * 2;
		c->bytes = grow(c->bytes, c->room);
	}
	if (size > c->size)
		memset(c->bytes + c->size, 0, size - c->size);
	c->size = size;
}

static void content_write(struct content *c, size_t offset, const char *bytes, size_t size)
{
	if (!size)
		return;
	if (offset + size > c->size)
		content_resize(c, offset + size);
	memcpy(c->bytes + offset, bytes, size);
}

static struct name *names_find(struct names *names, const char *text)
{
	for (size_t i = 0; i < names->count; i++)
		if (!strcmp(names->list[i].text, text))
			return &names->list[i];
	return NULL;
}

static void names_set(struct names *names, const char *text, uint64_t ino)
{
	struct name *name = names_find(names, text);

	if (!name) {
		names->list = grow(names->list, (names->count + 1) * sizeof(*names->list));
		name = &names->list[names->count++];
		snprintf(name->text, sizeof(name->text), "%s", text);
	}
	name->ino = ino;
}

static void names_remove(struct names *names, const char *text)
{
	struct name *name = names_find(names, text);

	if (name)
		*name = names->list[--names->count];
}

static void names_apply(struct names *names, const struct name_change *change)
{
	if (change->what == NAME_ADD)
		names_set(names, change->name.text, change->name.ino);
	else
		names_remove(names, change->name.text);
	if (change->what == NAME_MOVE)
		names_set(names, change->to, change->name.ino);
}

static void change_apply(struct content *c, const struct change *change)
{
	if (change->truncation)
		content_resize(c, change->offset);
	else
		content_write(c, change->offset, change->bytes, change->size);
}

static void file_change(struct inode *file, struct change change)
{
	change_apply(&file->now, &change);
	if (!change.truncation) {
		char *copy = grow(NULL, change.size);

		change.bytes = memcpy(copy, change.bytes, change.size);
	}
	file->log = grow(file->log, (file->logged + 1) * sizeof(*file->log));
	file->log[file->logged++] = change;
}

static void names_change(struct inode *dir, struct name_change change)
{
	names_apply(&dir->names_now, &change);
	dir->name_log = grow(dir->name_log, (dir->logged + 1) * sizeof(*dir->name_log));
	dir->name_log[dir->logged++] = change;
}

/* What fsync means: everything logged of this inode, and of no other, is safe. */
static void inode_sync(struct inode *node)
{
	for (size_t i = 0; i < node->logged; i++) {
		if (node->directory) {
			names_apply(&node->names_safe, &node->name_log[i]);
		} else {
			change_apply(&node->safe, &node->log[i]);
			free(node->log[i].bytes);
		}
	}
	node->logged = 0;
}

static void file_survive(struct inode *file, bool ordered)
{
	size_t keep = random_below(file->logged + 1);

	for (size_t i = 0; i < file->logged; i++) {
		struct change change = file->log[i];

		if (ordered && i > keep)
			break;
		if (!ordered && random_below(2))
			continue;
		if (!change.truncation && (ordered ? i == keep : !random_below(4)))
			change.size = random_below(change.size + 1);
		else if (ordered && i == keep)
			break;
		change_apply(&file->safe, &change);
	}
}

static void names_survive(struct inode *dir)
{
	size_t keep = random_below(dir->logged + 1);

	for (size_t i = 0; i < keep; i++)
		names_apply(&dir->names_safe, &dir->name_log[i]);
}

static void model_empty(int at)
{
	DIR *dir = fdopendir(openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	if (!dir)
		err(1, "fdopendir");
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (entry->d_type == DT_DIR) {
			int sub = openat(at, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			model_empty(sub);
			close(sub);
		}
		if (unlinkat(at, entry->d_name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0))
			err(1, "unlink %s", entry->d_name);
	}
	closedir(dir);
}

static void model_store(int at, struct inode *dir, bool ordered)
{
	names_survive(dir);
	for (size_t i = 0; i < dir->names_safe.count; i++) {
		const struct name *name = &dir->names_safe.list[i];
		struct inode *node = inodes[name->ino];
		int fd;

		if (node->directory) {
			if (mkdirat(at, name->text, 0755))
				err(1, "mkdir %s", name->text);
			fd = openat(at, name->text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			model_store(fd, node, ordered);
		} else {
			fd = openat(at, name->text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
			file_survive(node, ordered);
			for (size_t done = 0; done < node->safe.size; ) {
				ssize_t n = write(fd, node->safe.bytes + done, node->safe.size - done);

				if (n < 0)
					err(1, "write %s", name->text);
				done += n;
			}
		}
		close(fd);
	}
}

/* Replaces what is in the directory `at` by what survives. The model is of no use afterwards. */
static void model_cut(int at, bool ordered)
{
	model_empty(at);
	model_store(at, inodes[ROOT_INO], ordered);
}

/* Everything in the directory `at` becomes the safe content of `dir`. */
static void model_load(int at, struct inode *dir)
{
	DIR *stream = fdopendir(openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	if (!stream)
		err(1, "fdopendir");
	while ((entry = readdir(stream))) {
		bool directory = entry->d_type == DT_DIR;
		struct inode *node;
		uint64_t ino;
		ssize_t n;
		int fd;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		ino = inode_new(directory);
		node = inodes[ino];
		names_set(&dir->names_now, entry->d_name, ino);
		names_set(&dir->names_safe, entry->d_name, ino);
		fd = openat(at, entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			err(1, "open %s", entry->d_name);
		if (directory) {
			model_load(fd, node);
		} else {
			char part[65536];

			while ((n = read(fd, part, sizeof(part))) > 0) {
				content_write(&node->now, node->now.size, part, n);
				content_write(&node->safe, node->safe.size, part, n);
			}
			if (n < 0)
				err(1, "read %s", entry->d_name);
		}
		close(fd);
	}
	closedir(stream);
}

#endif
