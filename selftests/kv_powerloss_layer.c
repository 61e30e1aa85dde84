/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The layer that loses what was not synced, itself tested: a right writer never loses what it promised, and
 * each of four writers that leave out one sync is caught.
 */
#include "kv_disk.h"

#define RECORDS "100"
#define CUTS 40

/* The last record of which nothing before is missing in the file, or -1. */
static int records_kept(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[128], wanted[64];
	int count = 0;

	while (file && fgets(line, sizeof(line), file)) {
		snprintf(wanted, sizeof(wanted), "record %d of the log\n", count);
		if (strcmp(line, wanted))
			break;
		count++;
	}
	if (file)
		fclose(file);
	return count - 1;
}

static int last_promise(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[64];
	int last = -1;

	while (file && fgets(line, sizeof(line), file))
		last = atoi(line);
	if (file)
		fclose(file);
	return last;
}

/* How many cuts lost something promised. */
static int losses(const char *mode, bool ordered)
{
	int lost = 0;

	for (int cut = 1; cut <= CUTS; cut++) {
		const char *store = temp_subdir("store"), *said = temp_path("promises");
		char *argv[] = { (char *)build_path("selftests/powerloss/writer"), (char *)temp_path("disk"),
				 RECORDS, (char *)mode, NULL };
		struct disk disk;
		pid_t writer;

		unlink(said);
		disk_empty(store);
		if (!EXPECT(disk_start(&disk, store, cut, cut * 3, ordered)))
			return -1;
		writer = child_start(argv, said);
		if (!EXPECT(disk_wait_cut(&disk, 10000)))
			printf("# %s, cut %d\n", mode, cut);
		kill(writer, SIGKILL);
		disk_stop(&disk);
		waitpid(writer, NULL, 0);
		if (last_promise(said) > records_kept(temp_path("store/log")))
			lost++;
	}
	printf("# %s: %d of %d cuts lost something promised\n", mode, lost, CUTS);
	return lost;
}

static void right_writer_passes(void)
{
	EXPECT_EQ(losses("right", true), 0);
}

static void right_writer_passes_unordered(void)
{
	EXPECT_EQ(losses("right", false), 0);
}

static void early_ack_is_caught(void)
{
	EXPECT(losses("ack-early", true) > 0);
}

static void new_name_without_sync_is_caught(void)
{
	EXPECT(losses("no-dirsync", true) > 0);
}

static void rename_before_sync_is_caught(void)
{
	EXPECT(losses("rename-unsynced", true) > 0);
}

static void rename_without_sync_is_caught(void)
{
	EXPECT(losses("rename-no-dirsync", true) > 0);
}

int main(void)
{
	disk_needed();
	program_needed(build_path("selftests/powerloss/writer"));
	selftest_case("a right writer loses nothing", right_writer_passes);
	selftest_case("a right writer loses nothing when writes survive in any order",
		      right_writer_passes_unordered);
	selftest_case("promising before fdatasync is caught", early_ack_is_caught);
	selftest_case("a new file without fsync of its directory is caught", new_name_without_sync_is_caught);
	selftest_case("renaming before fdatasync is caught", rename_before_sync_is_caught);
	selftest_case("renaming without fsync of the directory is caught", rename_without_sync_is_caught);
	return selftest_done();
}
