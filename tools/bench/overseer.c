/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * overseer: how often the thread that watches the schedulers wakes up, and how much of a CPU it takes; while nothing runs,
 * while two processes play ping-pong, beside a hog, and beside a blocker as well. By the kernel's own counts, read by a
 * thread outside the runtime.
 */
#include "bench.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define OVERSEER "mote/overseer"

enum { DATA = 16 };

static char thread_of[300];	/* its directory in /proc */

static bool read_line(const char *directory, const char *file, const char *format, void *value)
{
	char path[400], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, format, value) == 1;
	if (f)
		fclose(f);
	return found;
}

static void find_overseer(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	char name[32];

	bench_check(d, "/proc/self/task can be read");
	while (!thread_of[0] && (e = readdir(d))) {
		char path[300];

		snprintf(path, sizeof(path), "/proc/self/task/%s", e->d_name);
		if (read_line(path, "comm", "%31s", name) && !strcmp(name, OVERSEER))
			memcpy(thread_of, path, sizeof(path));
	}
	closedir(d);
	bench_check(thread_of[0], "there is an overseer");
}

static void pause_for(double seconds)
{
	struct timespec t = { seconds, (seconds - (time_t)seconds) * 1e9 };

	nanosleep(&t, NULL);
}

/* How often it went to sleep, and its CPU time. */
struct counts {
	long long sleeps, cpu;
};

static struct counts counts(void)
{
	struct counts c = { 0, 0 };

	bench_check(read_line(thread_of, "status", "voluntary_ctxt_switches: %lld", &c.sleeps) &&
		    read_line(thread_of, "schedstat", "%lld", &c.cpu), "the overseer can be watched");
	return c;
}

static void watch(const char *name)
{
	struct counts before, after;
	char text[48];
	int64_t wall;

	pause_for(0.3);
	before = counts();
	wall = bench_now();
	pause_for(4 * bench_seconds());
	after = counts();
	wall = bench_now() - wall;
	snprintf(text, sizeof(text), "overseer_%s", name);
	bench_figure(text, (after.sleeps - before.sleeps) * 1e9 / wall, "/s", 0);
	snprintf(text, sizeof(text), "overseer_%s_cpu", name);
	bench_figure(text, (after.cpu - before.cpu) * 100.0 / wall, "%", 0);
}

static void pong(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		mote_send_msg(m->from, m);
	}
}

static void ping(void *arg)
{
	mote_pid peer = mote_spawn(pong, NULL);

	(void)arg;
	mote_send_msg(peer, mote_msg_new(DATA, sizeof(struct bench_payload)));
	pong(NULL);
}

static void sleeper(void *arg)
{
	(void)arg;
	mote_receive(MOTE_FOREVER);
}

static void overseer(void)
{
	bench_pin(bench_server_cpu(), bench_server_cpu());
	bench_check(mote_start(NULL) == 0, "the runtime starts");
	/* So that it does not compete with what it watches. */
	bench_pin(bench_load_cpu(), bench_load_cpu());
	mote_spawn(sleeper, NULL);
	find_overseer();
	watch("idle");
	mote_spawn(ping, NULL);
	watch("busy");
	mote_spawn(bench_hog, NULL);
	watch("hog");
	mote_spawn(bench_blocker, NULL);
	watch("blocker");
	bench_done();
}

const struct bench bench_overseer[] = {
	{ .name = "overseer", .host = overseer },
	{ 0 },
};
