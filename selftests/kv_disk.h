/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kv_disk.h: puts a directory on the disk that loses what was not synced (powerloss/disk.c).
 */
#ifndef KV_DISK_H
#define KV_DISK_H

#include "kv_client.h"
#include <sched.h>
#include <sys/mount.h>

struct disk {
	pid_t pid;
	int said;
};

/* Mounts in a mount namespace of its own, so that nothing stays mounted whatever becomes of the test. */
static inline void disk_needed(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	const char *why = NULL;

	program_needed(build_path("selftests/powerloss/disk"));
	if (fd < 0)
		why = "/dev/fuse can't be opened";
	else if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		why = "may not mount (root needed)";
	close(fd);
	if (why) {
		printf("TAP version 13\n1..0 # SKIP %s\n", why);
		exit(4);
	}
}

static inline bool disk_hears(struct disk *disk, const char *word, int ms)
{
	struct pollfd wait = { .fd = disk->said, .events = POLLIN };
	char text[16] = "";
	size_t used = 0;

	while (used < strlen(word)) {
		ssize_t n;

		if (poll(&wait, 1, ms) <= 0)
			return false;
		n = read(disk->said, text + used, strlen(word) - used);
		if (n <= 0)
			return false;
		used += n;
	}
	return !strcmp(text, word);
}

/* Over the directory `store`, at temp_path("disk"). */
static inline bool disk_start(struct disk *disk, const char *store, unsigned int seed, unsigned int cut,
			      bool ordered)
{
	const char *program = build_path("selftests/powerloss/disk"), *at = temp_subdir("disk");
	char seed_text[16], cut_text[16];
	int ends[2];

	snprintf(seed_text, sizeof(seed_text), "%u", seed);
	snprintf(cut_text, sizeof(cut_text), "%u", cut);
	if (pipe2(ends, O_CLOEXEC))
		return false;
	fflush(stdout);
	disk->pid = fork();
	if (!disk->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], STDOUT_FILENO);
		execl(program, program, store, at, seed_text, cut_text, ordered ? "ordered" : "any", NULL);
		_exit(127);
	}
	close(ends[1]);
	disk->said = ends[0];
	return disk_hears(disk, "ready\n", 5000);
}

static inline bool disk_is_cut(struct disk *disk)
{
	struct pollfd look = { .fd = disk->said, .events = POLLIN };

	return poll(&look, 1, 0) > 0;
}

static inline bool disk_wait_cut(struct disk *disk, int ms)
{
	return disk_hears(disk, "cut\n", ms);
}

/*
 * Kill the disk's users before, wait for their ends after: they can't end while the disk owes them an answer,
 * and they must not see what its end makes of their requests.
 */
static inline void disk_stop(struct disk *disk)
{
	kill(disk->pid, SIGKILL);
	waitpid(disk->pid, NULL, 0);
	close(disk->said);
	umount2(temp_path("disk"), MNT_DETACH);
}

static inline void disk_empty(const char *store)
{
	char command[600];

	snprintf(command, sizeof(command), "rm -rf %s/*", store);
	if (system(command))
		printf("# could not empty %s\n", store);
}

#endif
