// SPDX-License-Identifier: MIT OR GPL-2.0
/* Registries while everybody enters, leaves, dies and looks, on all threads; and one that ends in the midst of it. */
#include "proc.h"

#include <mote/registry.h>
#include <sys/wait.h>

#define KEYS	24
#define ACTORS	8

static _Atomic bool over;
static struct mote_registry *r;

/* A value that tells of its key and its owner, and of bytes that are not its own. */
struct value {
	uint32_t key;
	mote_pid owner;
	uint32_t fill[12];
};

static struct value value_of(uint32_t key)
{
	struct value v = { .key = key, .owner = mote_self() };

	for (int i = 0; i < 12; i++)
		v.fill[i] = key * 31 + (uint32_t)i;
	return v;
}

static bool value_whole(const void *data, size_t size, uint32_t key, mote_pid owner)
{
	struct value v;

	if (size != sizeof(v))
		return false;
	memcpy(&v, data, size);
	for (uint32_t i = 0; i < 12; i++) {
		if (v.fill[i] != key * 31 + i)
			return false;
	}
	return v.key == key && mote_pid_equal(v.owner, owner);
}

static bool whole(const struct mote_registry_entry *e, void *arg)
{
	uint32_t key;

	(void)arg;
	memcpy(&key, e->key, sizeof(key));
	return EXPECT(e->key_size == sizeof(key) && value_whole(e->value, e->value_size, key, e->pid));
}

/* Enters some, changes some, leaves some, and ends with others. */
static void actor(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 0x9e3779b97f4a7c15u + test_seed();

	for (int i = 0; i < 20; i++) {
		uint32_t key = test_random(&seed) % KEYS;
		struct value v = value_of(key);

		switch (test_random(&seed) % 4) {
		case 0: case 1:
			mote_registry_register(r, &key, sizeof(key), &v, sizeof(v), NULL);
			break;
		case 2:
			mote_registry_update_value(r, &key, sizeof(key), &v, sizeof(v));
			break;
		case 3:
			mote_registry_unregister(r, &key, sizeof(key));
			break;
		}
		test_jitter(&seed);
	}
}

static void look(uint32_t key, uint64_t *seed)
{
	mote_pid pids[ACTORS];
	struct value v;
	size_t size = sizeof(v);
	mote_pid pid;
	int64_t n;

	if (mote_registry_value(r, &key, sizeof(key), &pid, &v, &size) == 0)
		EXPECT(value_whole(&v, size, key, pid));
	n = mote_registry_lookup(r, &key, sizeof(key), pids, ACTORS);
	EXPECT(n >= 0 || n == -ESRCH);
	for (int64_t i = 0; i < n && i < ACTORS; i++)
		EXPECT(mote_pid_valid(pids[i]));
	if (test_random(seed) % 8 == 0)
		mote_registry_match(r, &key, sizeof(key), whole, NULL);
	if (test_random(seed) % 32 == 0)
		mote_registry_select(r, whole, NULL);
	if (n > 0 && test_random(seed) % 8 == 0)
		mote_registry_keys(r, pids[0], whole, NULL);
}

static void looker(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 77 + test_seed();

	while (!atomic_load(&over)) {
		look(test_random(&seed) % KEYS, &seed);
		mote_yield();
	}
}

static int64_t foreign_looker(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 99 + test_seed();

	while (!atomic_load(&over)) {
		look(test_random(&seed) % KEYS, &seed);
		sched_yield();
	}
	return 0;
}

static void foreign_host(void *arg)
{
	mote_blocking(foreign_looker, arg, NULL, MOTE_FOREVER);
}

static bool start_registry(int keys)
{
	struct mote_registry_opts opts = { .size = sizeof(opts), .name = "registry", .keys = keys, .partitions = 2 };

	return EXPECT(mote_registry_start_link(&opts, NULL) == 0);
}

static void lookers_begin(mote_ref *refs, int n)
{
	atomic_store(&over, false);
	for (int i = 0; i < n; i++)
		mote_spawn_monitor(i & 1 ? looker : foreign_host, (void *)(uintptr_t)i, &refs[i]);
}

static void lookers_end(mote_ref *refs, int n)
{
	atomic_store(&over, true);
	for (int i = 0; i < n; i++)
		mote_msg_free(mote_receive_ref(refs[i], MOTE_FOREVER));
}

/* Waves of actors, some of them killed at it; after each wave nothing of them is left. */
static void waves(int keys)
{
	unsigned long rounds = test_rounds(1500);
	uint64_t seed = test_seed();
	mote_ref lookers[4];

	r = mote_registry_named("registry");
	if (!start_registry(keys))
		return;
	lookers_begin(lookers, 4);
	for (unsigned long i = 0; i < rounds; i++) {
		mote_ref refs[ACTORS];
		mote_pid pids[ACTORS];

		for (int a = 0; a < ACTORS; a++)
			pids[a] = mote_spawn_monitor(actor, (void *)(i * ACTORS + (unsigned long)a), &refs[a]);
		test_jitter(&seed);
		mote_exit_pid(pids[test_random(&seed) % ACTORS], MOTE_REASON_KILL);
		for (int a = 0; a < ACTORS; a++)
			mote_msg_free(mote_receive_ref(refs[a], MOTE_FOREVER));
		if (!EXPECT(mote_registry_count(r) == 0))
			break;
		for (uint32_t key = 0; key < KEYS; key++)
			EXPECT_EQ(mote_registry_lookup(r, &key, sizeof(key), NULL, 0), 0);
	}
	lookers_end(lookers, 4);
}

static void unique(void)
{
	waves(MOTE_REGISTRY_UNIQUE);
}

static void duplicate(void)
{
	waves(MOTE_REGISTRY_DUPLICATE);
}

static void stubborn(void *arg)
{
	mote_trap_exit(true);
	while (!atomic_load(&over)) {
		actor(arg);
		mote_msg_free(mote_receive(MOTE_NOW));
		mote_yield();
	}
}

/* It ends and is started again, while others use it. */
static void restarts(void)
{
	unsigned long rounds = test_rounds(300);
	mote_ref lookers[4], actors[4];
	uint64_t seed = test_seed();

	r = mote_registry_named("registry");
	mote_trap_exit(true);
	lookers_begin(lookers, 4);
	for (int i = 0; i < 4; i++)
		mote_spawn_monitor(stubborn, (void *)(uintptr_t)i, &actors[i]);
	for (unsigned long i = 0; i < rounds; i++) {
		mote_pid server;

		if (!start_registry(i & 1))
			break;
		server = mote_whereis("registry");
		for (int y = 0; y < 20; y++)
			test_jitter(&seed);
		mote_yield();
		put_down(server);
		EXPECT(got_exit(server, MOTE_KILLED));
		EXPECT_EQ(mote_registry_count(r), -ESRCH);
	}
	lookers_end(lookers, 4);
	lookers_end(actors, 4);
}

/* Two want one key: one gets it, and the other hears who. */
static void rival(void *arg)
{
	mote_pid holder = MOTE_NOBODY, boss = *(mote_pid *)arg;
	struct mote_msg *m;
	int err = mote_registry_register(r, "key", 3, NULL, 0, &holder);

	mote_send(boss, err == 0 ? 1 : 2, &holder, sizeof(holder));
	m = mote_receive_type(3, MOTE_FOREVER);
	mote_msg_free(m);
}

static void rivals(void)
{
	unsigned long rounds = test_rounds(3000);
	mote_pid self = mote_self();

	r = mote_registry_named("registry");
	if (!start_registry(MOTE_REGISTRY_UNIQUE))
		return;
	for (unsigned long i = 0; i < rounds; i++) {
		mote_pid pids[4], winner = MOTE_NOBODY, told[4];
		mote_ref refs[4];
		int won = 0, lost = 0;

		for (int a = 0; a < 4; a++)
			pids[a] = mote_spawn_monitor(rival, &self, &refs[a]);
		for (int a = 0; a < 4; a++) {
			struct mote_msg *m = mote_receive(PATIENCE);

			if (m && m->type == 1) {
				winner = m->from;
				won++;
			} else if (m && m->type == 2) {
				memcpy(&told[lost++], m->data, sizeof(told[0]));
			}
			mote_msg_free(m);
		}
		EXPECT_EQ(won, 1);
		EXPECT_EQ(lost, 3);
		for (int a = 0; a < lost; a++)
			EXPECT(mote_pid_equal(told[a], winner));
		for (int a = 0; a < 4; a++) {
			mote_send(pids[a], 3, NULL, 0);
			EXPECT(got_down(refs[a], pids[a], MOTE_NORMAL));
		}
		if (!EXPECT(mote_registry_count(r) == 0))
			break;
	}
}

static void in_child(void *arg)
{
	char buf[8];
	size_t size = sizeof(buf);

	(void)arg;
	EXPECT_EQ(mote_registry_count(r), -ESRCH);
	start_registry(MOTE_REGISTRY_UNIQUE);
	EXPECT_EQ(mote_registry_register(r, "a", 1, "child", 5, NULL), 0);
	EXPECT_EQ(mote_registry_value(r, "a", 1, NULL, buf, &size), 0);
	EXPECT(size == 5 && !memcmp(buf, "child", 5));
}

static int64_t do_fork(void *arg)
{
	pid_t child = fork();
	int status;

	(void)arg;
	if (!child) {
		int err = mote_run(in_child, NULL, NULL);

		_exit(err || atomic_load(&selftest_failed) ? 1 : 0);
	}
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A fork leaves no registry in the child, and the child may start its own. */
static void forks(void)
{
	int64_t status = -1;

	r = mote_registry_named("registry");
	if (!start_registry(MOTE_REGISTRY_UNIQUE))
		return;
	EXPECT_EQ(mote_registry_register(r, "a", 1, "parent", 6, NULL), 0);
	if (SANITIZED == 5) {
		selftest_skip("ThreadSanitizer: a child of many threads cannot start any");
		return;
	}
	EXPECT_EQ(mote_blocking(do_fork, NULL, &status, PATIENCE), 0);
	EXPECT_EQ(status, 0);
	EXPECT(mote_pid_valid(mote_registry_whereis(r, "a", 1)));
}

int main(void)
{
	selftest_process("unique keys, and who looks", unique);
	selftest_process("duplicate keys, and who looks", duplicate);
	selftest_process("one key, many rivals", rivals);
	selftest_process("the registry ends and comes back", restarts);
	selftest_process("fork", forks);
	return selftest_done();
}
