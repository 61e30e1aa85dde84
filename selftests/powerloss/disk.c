/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * disk STORE MOUNT SEED CUT ordered|any
 *
 * A file system over the files of the directory STORE, mounted at the directory MOUNT, whose power goes at the
 * CUT-th write, sync or change of names (0: never), or at SIGUSR1. Prints "ready" once mounted. At the cut it
 * stops answering for good, leaves in STORE what survives (model.h) and prints "cut"; kill the programs that
 * use it, then it. One thread; the same requests with the same seed leave the same files.
 *
 * Speaks the FUSE protocol itself: as it is all in one loop, no reply can overtake the model, and writers that
 * use io_uring are seen like all others. A write made durable by RWF_DSYNC alone is not told apart here and
 * counts as unsynced; O_DSYNC and O_SYNC do count.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include "model.h"

#define MAX_WRITE (128 * 1024)

static int device, store;
static bool ordered;
static uint64_t changes, cut_at;

static void cut(void)
{
	model_cut(store, ordered);
	printf("cut\n");
	fflush(stdout);
	for (;;)
		pause();
}

/* A sync counts before it is done, as one that was under way may have done nothing; all else after it. */
static void count_change(void)
{
	if (++changes == cut_at)
		cut();
}

static void reply(uint64_t unique, int error, const void *body, size_t size)
{
	struct fuse_out_header head = {
		.len = sizeof(head) + (error ? 0 : size), .error = -error, .unique = unique,
	};
	struct iovec parts[2] = { { &head, sizeof(head) }, { (void *)body, error ? 0 : size } };

	/* ENOENT: the request was interrupted meanwhile. */
	if (writev(device, parts, 2) < 0 && errno != ENOENT)
		err(1, "reply");
}

static struct fuse_attr attr_of(uint64_t ino)
{
	const struct inode *node = inodes[ino];

	return (struct fuse_attr) {
		.ino = ino, .size = node->now.size, .blocks = (node->now.size + 511) / 512, .blksize = 4096,
		.mode = node->directory ? S_IFDIR | 0755 : S_IFREG | 0644, .nlink = node->directory ? 2 : 1,
	};
}

/*
 * Zero timeouts: the kernel asks again each time. Of a file's bytes it keeps a copy for reading, but passes each
 * write on before it answers. (It need not keep one; but then, in Linux 6.18, what io_uring reads at the end of
 * the file has the size that was asked for and not the one that was there.)
 */
static void reply_entry(uint64_t unique, uint64_t ino, bool opened)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {
		.entry = { .nodeid = ino, .attr = attr_of(ino) },
	};

	reply(unique, 0, &out, opened ? sizeof(out) : sizeof(out.entry));
}

static void do_init(uint64_t unique, const struct fuse_init_in *in)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.flags = FUSE_BIG_WRITES & in->flags,
		.max_background = 16,
		.congestion_threshold = 12,
		.max_write = MAX_WRITE,
		.time_gran = 1,
	};

	reply(unique, 0, &out, sizeof(out));
}

static void do_lookup(uint64_t unique, struct inode *dir, const char *text)
{
	struct name *name = names_find(&dir->names_now, text);

	if (name)
		reply_entry(unique, name->ino, false);
	else
		reply(unique, ENOENT, NULL, 0);
}

static void do_make(uint64_t unique, struct inode *dir, const char *text, bool directory)
{
	struct name_change change = { .what = NAME_ADD };

	if (names_find(&dir->names_now, text)) {
		reply(unique, EEXIST, NULL, 0);
		return;
	}
	snprintf(change.name.text, sizeof(change.name.text), "%s", text);
	change.name.ino = inode_new(directory);
	names_change(dir, change);
	count_change();
	reply_entry(unique, change.name.ino, !directory);
}

static void do_remove(uint64_t unique, struct inode *dir, const char *text)
{
	struct name_change change = { .what = NAME_REMOVE };
	struct name *name = names_find(&dir->names_now, text);

	if (!name) {
		reply(unique, ENOENT, NULL, 0);
		return;
	}
	if (inodes[name->ino]->names_now.count) {
		reply(unique, ENOTEMPTY, NULL, 0);
		return;
	}
	change.name = *name;
	names_change(dir, change);
	count_change();
	reply(unique, 0, NULL, 0);
}

static void do_rename(uint64_t unique, struct inode *dir, uint64_t newdir, unsigned int flags, const char *from)
{
	struct name_change change = { .what = NAME_MOVE };
	struct name *name = names_find(&dir->names_now, from);

	if (flags) {
		reply(unique, EINVAL, NULL, 0);
		return;
	}
	if (!name) {
		reply(unique, ENOENT, NULL, 0);
		return;
	}
	change.name = *name;
	snprintf(change.to, sizeof(change.to), "%s", from + strlen(from) + 1);
	if (inodes[newdir] == dir) {
		names_change(dir, change);
	} else {
		/* Nothing keeps the halves together: either may be lost without the other. */
		change.what = NAME_REMOVE;
		names_change(dir, change);
		change.what = NAME_ADD;
		memcpy(change.name.text, change.to, sizeof(change.name.text));
		names_change(inodes[newdir], change);
	}
	count_change();
	reply(unique, 0, NULL, 0);
}

static void do_setattr(uint64_t unique, uint64_t ino, const struct fuse_setattr_in *in)
{
	struct fuse_attr_out out = { 0 };

	if (in->valid & FATTR_SIZE) {
		file_change(inodes[ino], (struct change) { .truncation = true, .offset = in->size });
		count_change();
	}
	out.attr = attr_of(ino);
	reply(unique, 0, &out, sizeof(out));
}

static void do_write(uint64_t unique, struct inode *file, const struct fuse_write_in *in)
{
	struct fuse_write_out out = { .size = in->size };
	struct change change = { .offset = in->offset, .size = in->size, .bytes = (char *)(in + 1) };

	file_change(file, change);
	count_change();
	if (in->flags & O_DSYNC)
		inode_sync(file);
	reply(unique, 0, &out, sizeof(out));
}

static void do_read(uint64_t unique, const struct inode *file, const struct fuse_read_in *in)
{
	size_t size = in->offset < file->now.size ? file->now.size - in->offset : 0;

	reply(unique, 0, file->now.bytes + (size ? in->offset : 0), size < in->size ? size : in->size);
}

static void do_readdir(uint64_t unique, const struct inode *dir, const struct fuse_read_in *in)
{
	char out[8192];
	size_t used = 0;

	for (size_t i = in->offset; i < dir->names_now.count; i++) {
		const struct name *name = &dir->names_now.list[i];
		struct fuse_dirent *entry = (struct fuse_dirent *)(out + used);
		size_t length = strlen(name->text), size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);

		if (used + size > sizeof(out) || used + size > in->size)
			break;
		memset(entry, 0, size);
		entry->ino = name->ino;
		entry->off = i + 1;
		entry->namelen = length;
		entry->type = inodes[name->ino]->directory ? DT_DIR : DT_REG;
		memcpy(entry->name, name->text, length);
		used += size;
	}
	reply(unique, 0, out, used);
}

static void serve(const struct fuse_in_header *in)
{
	const void *body = in + 1;
	struct inode *node = in->nodeid ? inodes[in->nodeid] : NULL;
	struct fuse_open_out opened = { 0 };
	struct fuse_attr_out attr = { 0 };
	struct fuse_statfs_out statfs = {
		.st = { .blocks = 1 << 20, .bfree = 1 << 20, .bavail = 1 << 20,
			.bsize = 4096, .frsize = 4096, .namelen = 255 },
	};

	switch (in->opcode) {
	case FUSE_INIT:
		return do_init(in->unique, body);
	case FUSE_LOOKUP:
		return do_lookup(in->unique, node, body);
	case FUSE_CREATE:
		return do_make(in->unique, node, (const char *)body + sizeof(struct fuse_create_in), false);
	case FUSE_MKDIR:
		return do_make(in->unique, node, (const char *)body + sizeof(struct fuse_mkdir_in), true);
	case FUSE_UNLINK:
	case FUSE_RMDIR:
		return do_remove(in->unique, node, body);
	case FUSE_RENAME:
		return do_rename(in->unique, node, ((const struct fuse_rename_in *)body)->newdir, 0,
				 (const char *)body + sizeof(struct fuse_rename_in));
	case FUSE_RENAME2:
		return do_rename(in->unique, node, ((const struct fuse_rename2_in *)body)->newdir,
				 ((const struct fuse_rename2_in *)body)->flags,
				 (const char *)body + sizeof(struct fuse_rename2_in));
	case FUSE_GETATTR:
		attr.attr = attr_of(in->nodeid);
		return reply(in->unique, 0, &attr, sizeof(attr));
	case FUSE_SETATTR:
		return do_setattr(in->unique, in->nodeid, body);
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		return reply(in->unique, 0, &opened, sizeof(opened));
	case FUSE_READ:
		return do_read(in->unique, node, body);
	case FUSE_READDIR:
		return do_readdir(in->unique, node, body);
	case FUSE_WRITE:
		return do_write(in->unique, node, body);
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
		count_change();
		inode_sync(node);
		return reply(in->unique, 0, NULL, 0);
	case FUSE_STATFS:
		return reply(in->unique, 0, &statfs, sizeof(statfs));
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		return reply(in->unique, 0, NULL, 0);
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return;
	default:
		return reply(in->unique, ENOSYS, NULL, 0);
	}
}

static void on_signal(int number)
{
	(void)number;
}

int main(int argc, char **argv)
{
	static char request[MAX_WRITE + 4096];
	struct sigaction action = { .sa_handler = on_signal };
	struct pollfd poll_device;
	sigset_t held, open_set;
	char options[100];

	if (argc != 6)
		errx(2, "usage: disk STORE MOUNT SEED CUT ordered|any");
	random_state = strtoull(argv[3], NULL, 0);
	cut_at = strtoull(argv[4], NULL, 0);
	ordered = !strcmp(argv[5], "ordered");
	store = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store < 0)
		err(1, "%s", argv[1]);
	inode_new(true);
	model_load(store, inodes[ROOT_INO]);

	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (device < 0)
		err(1, "/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
	if (mount("powerloss", argv[2], "fuse.powerloss", MS_NOSUID | MS_NODEV, options))
		err(1, "mount %s", argv[2]);

	/* The signal is let in during ppoll only, so that it always finds the loop between two requests. */
	sigemptyset(&held);
	sigaddset(&held, SIGUSR1);
	sigprocmask(SIG_BLOCK, &held, &open_set);
	sigaction(SIGUSR1, &action, NULL);
	printf("ready\n");
	fflush(stdout);
	poll_device = (struct pollfd) { .fd = device, .events = POLLIN };
	for (;;) {
		if (ppoll(&poll_device, 1, NULL, &open_set) < 0) {
			if (errno == EINTR)
				cut();
			err(1, "ppoll");
		}
		if (read(device, request, sizeof(request)) < 0) {
			if (errno == ENODEV)
				return 0;
			if (errno != ENOENT && errno != EINTR && errno != EAGAIN)
				err(1, "/dev/fuse");
			continue;
		}
		serve((struct fuse_in_header *)request);
	}
}
