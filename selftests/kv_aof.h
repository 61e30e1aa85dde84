/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kv_aof.h: the append-only file from outside.
 */
#ifndef KV_AOF_H
#define KV_AOF_H

#include "kv_client.h"
#include <sched.h>
#include <sys/mount.h>

/* The file that is appended to. */
static inline const char *aof_of(const char *dir)
{
	static char path[512];

	snprintf(path, sizeof(path),
		 is_redis(kv_path()) ? "%s/appendonlydir/appendonly.aof.1.incr.aof" : "%s/appendonly.aof",
		 dir);
	return path;
}

static inline void shell(const char *format, ...)
{
	char command[2048];
	va_list values;

	va_start(values, format);
	vsnprintf(command, sizeof(command), format, values);
	va_end(values);
	if (system(command)) {
		selftest_complain(__FILE__, __LINE__, "a command of the shell");
		printf("#   %s\n", command);
	}
}

/* Asks for a rewrite and waits until another file has taken the place of this one. */
static inline bool rewrite(struct client *client, const char *path)
{
	struct stat before, now;
	const char *reply;
	int waits = 0;

	do {
		if (stat(path, &before))
			return false;
		reply = client_call(client, "BGREWRITEAOF");
		/* Another one may be under way. */
	} while (reply && strstr(reply, "already in progress") && waits++ < 12000 && (sleep_ms(5), true));
	if (!reply || reply[0] != '+')
		return false;
	for (int tries = 0; tries < 12000; tries++) {
		if (stat(path, &now) || now.st_ino != before.st_ino)
			return true;
		sleep_ms(5);
	}
	return false;
}

/* A small disk, in a mount namespace of our own. */
static inline bool tmpfs_at(const char *path)
{
	static bool own;

	if (!own && (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)))
		return false;
	own = true;
	return !mount("kvtest", path, "tmpfs", 0, "size=2m");
}

#endif
