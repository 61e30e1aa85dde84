// SPDX-License-Identifier: MIT OR GPL-2.0
/* Names and ids of nodes: one living node has a name, an id is never given twice, the dead are in nobody's way. */
#include "port_helpers.h"

#include <sys/stat.h>

static void lives_until_stage(void *arg)
{
	if (!EXPECT(!node_start(arg, 1)))
		return;
	shared->id[0] = port_node;
	test_stage(1);
	UNTIL(shared->stage >= 2);
	node_stop(1);
}

static void taken(void)
{
	pid_t other = node_fork(lives_until_stage, "same");

	AWAIT(shared->stage >= 1);
	EXPECT_EQ(node_start("same", 1), -EEXIST);
	EXPECT(!strcmp(port_name(), "none"));
	EXPECT_EQ(port_node, 0);
	EXPECT_EQ(node_start("other", 1), 0);
	EXPECT(!strcmp(port_name(), "user"));
	EXPECT(!strcmp(port_node_name(), "other"));
	node_stop(1);
	test_stage(2);
	EXPECT_EQ(node_status(other), 0);
	/* Given up in order. */
	EXPECT_EQ(node_start("same", 1), 0);
	EXPECT(port_node > shared->id[0]);
	node_stop(1);
}

/* Killed, with a child that holds everything: the name is free at once, and leads nowhere before. */
static void is_killed(void *arg)
{
	if (!EXPECT(!node_start(arg, 1)))
		return;
	shared->id[0] = port_node;
	if (!fork()) {
		shared->id[1] = (uint32_t)getpid();
		for (;;)
			pause();
	}
	test_stage(1);
	for (;;)
		pause();
}

static void stale(void)
{
	pid_t other = node_fork(is_killed, "stale");

	AWAIT(shared->stage >= 1 && shared->id[1]);
	/* Before: whoever starts sweeps the dead away. */
	if (!EXPECT(!node_start("asker", 1)))
		return;
	kill(other, SIGKILL);
	node_status(other);
	EXPECT_EQ(port_connect(0, "stale"), 0);
	UNTIL(nr_unreachables == 1);
	EXPECT_EQ(last_err, -ENOENT);
	/* Its socket is still there, in the child. Nobody takes calls. */
	EXPECT_EQ(port_connect(shared->id[0], NULL), 0);
	UNTIL(nr_unreachables == 2);
	EXPECT(last_err == -ETIMEDOUT || last_err == -ECONNREFUSED || last_err == -ENOENT);
	EXPECT_EQ(last_node, shared->id[0]);
	node_stop(1);
	EXPECT_EQ(node_start("stale", 1), 0);
	EXPECT(port_node > shared->id[0]);
	node_stop(1);
	kill((pid_t)shared->id[1], SIGKILL);
}

static void unknown(void)
{
	if (!EXPECT(!node_start("asker", 1)))
		return;
	EXPECT_EQ(port_connect(0, "nobody"), 0);
	UNTIL(nr_unreachables == 1);
	EXPECT_EQ(last_err, -ENOENT);
	EXPECT_EQ(port_connect(2000000000, NULL), 0);
	UNTIL(nr_unreachables == 2);
	EXPECT_EQ(last_err, -ENOENT);
	EXPECT_EQ(last_node, 2000000000);
	EXPECT_EQ(port_connect(0, "asker"), -EINVAL);
	EXPECT_EQ(port_connect(port_node, NULL), -EINVAL);
	EXPECT_EQ(port_connect(0, ""), -EINVAL);
	EXPECT_EQ(port_connect(0, NULL), -EINVAL);
	EXPECT_EQ(port_connect(0, "a/b"), -EINVAL);
	node_stop(1);
	EXPECT_EQ(port_connect(0, "nobody"), -ENETDOWN);
}

static void bad_names(void)
{
	char name[80];

	memset(name, 'a', sizeof(name));
	name[63] = 0;
	EXPECT_EQ(node_start(name, 1), 0);
	EXPECT_EQ(strlen(port_node_name()), 63);
	node_stop(1);
	name[63] = 'a';
	name[64] = 0;
	EXPECT_EQ(node_start(name, 1), -EINVAL);
	EXPECT_EQ(node_start("a b", 1), -EINVAL);
	EXPECT_EQ(node_start("../x", 1), -EINVAL);
	EXPECT_EQ(node_start("\xc3\xa4", 1), -EINVAL);
	setenv("MOTE_PORT", "carrier-pigeon", 1);
	EXPECT_EQ(node_start("a", 1), -EINVAL);
	setenv("MOTE_PORT", "user", 1);
	/* No name at all: no node, and that is well. */
	EXPECT_EQ(port_start(&(struct port_opts){ .slots = 1, .hooks = &test_hooks }), 0);
	EXPECT(!strcmp(port_name(), "none"));
	EXPECT_EQ(port_bell_fd(0), -1);
	EXPECT(port_sleep(0));
	port_awake(0);
	EXPECT(!port_poll(NULL, 0, true));
	EXPECT(!port_pending(0));
	setenv("MOTE_NODE", "by.environment", 1);
	EXPECT_EQ(node_start(NULL, 1), 0);
	EXPECT(!strcmp(port_node_name(), "by.environment"));
	node_stop(1);
	unsetenv("MOTE_NODE");
}

static void no_directory(const char *path, int err)
{
	setenv("MOTE_DIR", path, 1);
	EXPECT_EQ(node_start("a", 1), err);
	setenv("MOTE_DIR", test_dir, 1);
}

static void directory(void)
{
	char path[128], link[128], longer[200];

	snprintf(path, sizeof(path), "%s/new", test_dir);
	snprintf(link, sizeof(link), "%s/link", test_dir);
	setenv("MOTE_DIR", path, 1);
	/* It is made if need be. */
	EXPECT_EQ(node_start("a", 1), 0);
	node_stop(1);
	EXPECT(!symlink(path, link));
	no_directory(link, -EACCES);
	EXPECT(!chmod(path, 0750));
	no_directory(path, -EACCES);
	EXPECT(!chmod(path, 0702));
	no_directory(path, -EACCES);
	EXPECT(!chmod(path, 0700));
	if (!geteuid()) {
		EXPECT(!chown(path, 12345, 0));
		no_directory(path, -EACCES);
	}
	no_directory("/proc/version", -EACCES);
	no_directory("/nowhere/at/all", -ENOENT);
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = 0;
	no_directory(longer, -ENAMETOOLONG);
}

struct seen {
	unsigned int nr, wrong;
	uint32_t own, other;
};

static bool see(uint32_t node, const char *name, void *arg)
{
	struct seen *s = arg;

	s->nr++;
	if (!strcmp(name, "lister"))
		s->own = node;
	else if (!strcmp(name, "listed"))
		s->other = node;
	else
		s->wrong++;
	return true;
}

static bool see_one(uint32_t node, const char *name, void *arg)
{
	(void)node;
	(void)name;
	++*(unsigned int *)arg;
	return false;
}

static void list(void)
{
	pid_t other = node_fork(lives_until_stage, "listed");
	struct seen s = { 0 };
	unsigned int n = 0;

	AWAIT(shared->stage >= 1);
	if (!EXPECT(!node_start("lister", 1)))
		return;
	for (int i = 0; i < 3; i++) {
		s = (struct seen){ 0 };
		EXPECT_EQ(port_list(see, &s), 0);
		EXPECT_EQ(s.nr, 2);
		EXPECT_EQ(s.wrong, 0);
		EXPECT_EQ(s.own, port_node);
		EXPECT_EQ(s.other, shared->id[0]);
	}
	EXPECT_EQ(port_list(see_one, &n), 0);
	EXPECT_EQ(n, 1);
	test_stage(2);
	node_status(other);
	s = (struct seen){ 0 };
	EXPECT_EQ(port_list(see, &s), 0);
	EXPECT_EQ(s.nr, 1);
	node_stop(1);
	EXPECT_EQ(port_list(see, &s), -ENETDOWN);
}

/* Many start at once, some with the same name: one of those has it, and no two have an id. */
static void starter(void *arg)
{
	unsigned int i = (unsigned int)(uintptr_t)arg;
	char name[16];
	int err;

	snprintf(name, sizeof(name), "n%u", i % 8);
	AWAIT(shared->stage >= 1);
	err = node_start(name, 1);
	EXPECT(!err || err == -EEXIST);
	shared->id[i] = err ? 0 : port_node;
	shared->number[0]++;
	AWAIT(shared->stage >= 2);
	if (!err)
		node_stop(1);
}

static void at_once(void)
{
	enum { NODES = 24 };
	pid_t pids[NODES];

	for (unsigned int i = 0; i < NODES; i++)
		pids[i] = node_fork(starter, (void *)(uintptr_t)i);
	test_stage(1);
	AWAIT(shared->number[0] == NODES);
	for (unsigned int i = 0; i < 8; i++) {
		unsigned int have = 0;

		for (unsigned int j = i; j < NODES; j += 8)
			have += shared->id[j] != 0;
		EXPECT_EQ(have, 1);
	}
	for (unsigned int i = 0; i < NODES; i++) {
		for (unsigned int j = 0; j < i; j++)
			EXPECT(!shared->id[i] || shared->id[i] != shared->id[j]);
	}
	test_stage(2);
	for (unsigned int i = 0; i < NODES; i++)
		EXPECT_EQ(node_status(pids[i]), 0);
}

/* The dead leave files; the next that starts takes them away. */
static void swept(void)
{
	unsigned int n = 0;
	struct dirent *e;
	DIR *d;

	EXPECT_EQ(node_start("broom", 1), 0);
	d = opendir(test_dir);
	while (d && (e = readdir(d)))
		n += strstr(e->d_name, ".node") || strstr(e->d_name, ".sock");
	closedir(d);
	EXPECT_EQ(n, 2);
	node_stop(1);
}

int main(void)
{
	port_tests_begin();
	port_case("a name that is taken", taken);
	port_case("a name whose node was killed", stale);
	port_case("nodes that are not there", unknown);
	port_case("names that are none", bad_names);
	port_case("the directory is ours alone", directory);
	port_case("the list", list);
	port_case("many start at once", at_once);
	port_case("the dead are swept away", swept);
	return port_tests_done();
}
