// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The module goes when nobody uses it, and not before. Nobody else must use it meanwhile: for a guest. $MOTE_KO is
 * where it can be loaded from again.
 */
#include "uring.h"
#include <dirent.h>

FIXTURE(unload)
{
	char parameters[1024];
	int ko;
};

static int module_remove(void)
{
	return syscall(SYS_delete_module, "mote", O_NONBLOCK) ? -errno : 0;
}

static int module_load(int ko, const char *parameters)
{
	if (syscall(SYS_finit_module, ko, parameters, 0))
		return -errno;
	return WITHIN(SOON_MS, !access(DEVICE, R_OK | W_OK)) ? 0 : -ENODEV;
}

/* As it was loaded, so that it can be so again. */
static void parameters_read(char *parameters, size_t size)
{
	DIR *directory = opendir("/sys/module/mote/parameters");
	struct dirent *entry;
	size_t length = 0;

	while (directory && (entry = readdir(directory))) {
		char path[512], value[64] = "";
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/module/mote/parameters/%s", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, value, sizeof(value) - 1) > 0) {
			value[strcspn(value, "\n")] = 0;
			length += snprintf(parameters + length, size - length, "%s=%s ", entry->d_name, value);
		}
		close(fd);
	}
	if (directory)
		closedir(directory);
}

FIXTURE_SETUP(unload)
{
	const char *path = getenv("MOTE_KO");

	NEED_DEVICE();
	if (!path)
		SKIP(return, "no MOTE_KO to load the module from again");
	self->ko = open(path, O_RDONLY | O_CLOEXEC);
	if (self->ko < 0)
		SKIP(return, "%s: %s", path, strerror(errno));
	if (geteuid())
		SKIP(return, "not root");
	if (!WITHIN(SOON_MS, !module_refs()))
		SKIP(return, "somebody uses the module");
	parameters_read(self->parameters, sizeof(self->parameters));
}

FIXTURE_TEARDOWN(unload)
{
	if (access("/sys/module/mote", F_OK))
		EXPECT_EQ(0, module_load(self->ko, self->parameters));
}

#define EXPECT_GOES() \
	({ \
		int err_ = -1; \
		EXPECT_TRUE(WITHIN(SOON_MS, !(err_ = module_remove()))) \
			TH_LOG("%d, %ld references", err_, module_refs()); \
		ASSERT_EQ(0, module_load(self->ko, self->parameters)); \
	})

TEST_F(unload, not_while_it_is_used)
{
	struct node node;
	int bell, fd = device_open();

	/* A file, a node, a mapping, a bell: each alone keeps it. */
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	close(fd);
	EXPECT_GOES();
	ASSERT_EQ(0, node_make(&node, "", 1, 0600));
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	bell = object_call(node.fd, MOTE_IOC_BELL_FD, 0, 0);
	close(node.fd);
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	close(bell);
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	munmap(node.bells, bells_length(1));
	EXPECT_GOES();
}

static void *sleeper(void *arg)
{
	usleep(*(int *)arg);
	return NULL;
}

/* A child that uses all there is, and ends as `how` says. */
static void user_run(int how)
{
	struct mote_worker worker = { .size = sizeof(worker), .mode_user = 1 };
	struct mote_activate_wait wait = { .size = sizeof(wait) };
	static __u32 one = 1;
	struct node a, b;
	struct uring ring;
	pthread_t thread;
	int ms = 1000;

	if (node_make(&a, "unload-a", 4, 0600) || node_make(&b, "unload-b", 4, 0600) ||
	    lane_open(a.fd, b.id) <= 0 || lane_open(b.fd, a.id) <= 0)
		_exit(1);
	object_call(a.fd, MOTE_IOC_BELL_FD, 0, 0);
	object_call(a.fd, MOTE_IOC_NODE_WATCH, 0, 0);
	if (!uring_open(&ring, 8, 0)) {
		uring_wait(&ring, 1, a.fd, 0, 0);
		uring_wait(&ring, 1, b.fd, 1, 0);
		uring_enter(&ring, 0, 0);
	}
	worker.mode = worker.want = (uintptr_t)&one;
	call(a.fd, MOTE_IOC_WORKER, &worker);
	pthread_create(&thread, NULL, sleeper, &ms);
	usleep(500);
	call(a.fd, MOTE_IOC_ACTIVATE_WAIT, &wait);
	if (how == 1)
		_exit(0);
	if (how == 2) {
		node_end(&a);
		node_end(&b);
		pthread_join(thread, NULL);
		_exit(0);
	}
	for (;;)
		pause();
}

TEST_F(unload, after_everything)
{
	for (int i = 0; i < 15; i++) {
		pid_t pid = child_start();

		if (!pid)
			user_run(i % 3);
		if (i % 3 == 0) {
			EXPECT_TRUE(WITHIN(SOON_MS, thread_state(pid) == 'S' && module_refs() > 2));
			EXPECT_EQ(-EWOULDBLOCK, module_remove());
			kill(pid, SIGKILL);
		}
		EXPECT_EQ(i % 3 ? 0 : -SIGKILL, child_wait(pid));
		EXPECT_GOES();
	}
}

TEST_F(unload, ids_begin_again)
{
	/* Documented: only while the module is loaded are they never used again. Nothing else comes back with it. */
	struct mote_node_desc desc;
	struct node node;

	ASSERT_EQ(0, node_make(&node, "unload", 1, 0600));
	node_end(&node);
	EXPECT_GOES();
	ASSERT_EQ(0, node_make(&node, "", 1, 0600));
	EXPECT_EQ(-ESRCH, name_find(node.fd, "unload", &desc));
	EXPECT_EQ(0, bell_seq(node.bells, 0));
	node_end(&node);
}

TEST_HARNESS_MAIN
