// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Messages of another node that look like those with which the library's own servers work, full of addresses: no server
 * ends by one, and none of them is called.
 */
#include "nodes.h"

#include <mote/agent.h>
#include <mote/event.h>
#include <mote/log.h>
#include <mote/pg.h>
#include <mote/registry.h>
#include <mote/supervisor.h>
#include <pthread.h>

#define FIRST	0x3fff0000u
#define LAST	0x3fff0bffu

/* odd: what follows each address, such as a size and a kind. */
static void forge(mote_pid to, uint64_t odd)
{
	static const size_t sizes[] = { 0, 8, 16, 24, 64, 512 };
	uint64_t wild[64];

	for (int i = 0; i < 64; i++)
		wild[i] = i & 1 ? odd : 0x414141414140;
	for (uint32_t type = FIRST; type <= LAST; type = (type & 0xff) == 0x1f ? (type | 0xff) + 1 : type + 1) {
		if (type == FIRST + 2 || type == FIRST + 6)	/* TERMINATE and SUSPEND are anybody's */
			continue;
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			mote_send(to, type, wild, sizes[i]);
			mote_send(to, type | MOTE_MSG_CAST, wild, sizes[i]);
			if (mote_in_process())
				mote_demonitor(mote_request(to, type, wild, sizes[i]), MOTE_FLUSH);
		}
	}
}

static void *forge_outside(void *to)
{
	forge(*(mote_pid *)to, UINT64_C(1) << 32);
	forge(*(mote_pid *)to, 0x4141414141414141);
	return NULL;
}

/* Does what it is told to a pid, as a process and as a foreign thread, and says when. */
static void forger(const void *args, size_t size)
{
	(void)args;
	(void)size;
	for (;;) {
		struct mote_msg *m = mote_receive_type(1, MOTE_FOREVER);
		pthread_t thread;
		mote_pid to;

		memcpy(&to, m->data, sizeof(to));
		forge(to, UINT64_C(1) << 32);
		forge(to, 0x4141414141414141);
		EXPECT_EQ(pthread_create(&thread, NULL, forge_outside, &to), 0);
		EXPECT_EQ(pthread_join(thread, NULL), 0);
		mote_send(m->from, 2, NULL, 0);
		mote_msg_free(m);
	}
}

/* Survives all of it. */
static void attack(mote_pid by, mote_pid target, const char *what)
{
	mote_ref ref = mote_monitor(target);
	struct mote_msg *m;

	if (!EXPECT(mote_pid_valid(target)))
		return;
	mote_send(by, 1, &target, sizeof(target));
	EXPECT(got_type(2));
	/* It has looked at all of them. */
	EXPECT_EQ(mote_sys_suspend(target, PATIENCE), 0);
	EXPECT_EQ(mote_sys_resume(target, PATIENCE), 0);
	m = mote_receive_ref(ref, MOTE_NOW);
	if (!EXPECT(!m)) {
		test_note("%s", what);
		test_describe(m);
	}
	mote_msg_free(m);
	mote_demonitor(ref, MOTE_FLUSH);
}

static void servers(void)
{
	struct mote_registry_opts registry = { .size = sizeof(registry), .name = "forged" };
	struct mote_supervisor_opts supervisor = { .size = sizeof(supervisor) };
	mote_pid by, pid;
	struct peer b;

	peer_start(&b, "b");
	by = peer_spawn(&b, "forger", 0, NULL);
	EXPECT_EQ(mote_agent_start(16, NULL, NULL, NULL, &pid), 0);
	attack(by, pid, "agent");
	EXPECT_EQ(mote_supervisor_start_link(&supervisor, &pid), 0);
	attack(by, pid, "supervisor");
	EXPECT_EQ(mote_registry_start_link(&registry, &pid), 0);
	attack(by, pid, "registry");
	EXPECT_EQ(mote_pg_start_link("forged groups", &pid), 0);
	attack(by, pid, "pg");
	EXPECT_EQ(mote_event_start(NULL, &pid), 0);
	attack(by, pid, "events");
	peer_stop(&b);
}

static _Atomic int logged;

static int count(const struct mote_log_event *e, void *arg)
{
	(void)e;
	(void)arg;
	atomic_fetch_add(&logged, 1);
	return 0;
}

static void fails(void *arg)
{
	(void)arg;
	mote_exit(mote_reason_error(EIO, NULL));
}

static bool reported(void)
{
	int before = atomic_load(&logged);

	mote_spawn(fails, NULL);
	for (int i = 0; i < 6000 && atomic_load(&logged) == before; i++)
		mote_sleep(mote_in_ms(10));
	return atomic_load(&logged) > before;
}

static mote_pid labelled(const char *label)
{
	for (mote_pid p = mote_process_next(MOTE_NOBODY); mote_pid_valid(p); p = mote_process_next(p)) {
		struct mote_process_info info = test_info(p);

		if (info.size == sizeof(info) && info.label && !strcmp(info.label, label))
			return p;
	}
	return MOTE_NOBODY;
}

/* It is no server: it must go on reporting. */
static void log_proxy(void)
{
	struct mote_log_handler handler = { .size = sizeof(handler), .id = "count", .log = count };
	mote_pid by, proxy;
	struct peer b;

	EXPECT_EQ(mote_log_handler_add(&handler), 0);
	EXPECT(reported());
	proxy = labelled("log proxy");
	EXPECT(mote_pid_valid(proxy));
	peer_start(&b, "b");
	by = peer_spawn(&b, "forger", 0, NULL);
	mote_send(by, 1, &proxy, sizeof(proxy));
	EXPECT(got_type(2));
	for (int i = 0; i < 3; i++)
		EXPECT(reported());
	EXPECT(mote_alive(proxy));
	peer_stop(&b);
}

/* Pids that never were: each asker is told. */
static void prober(const void *args, size_t size)
{
	struct mote_msg *m = mote_receive_type(1, MOTE_FOREVER);
	mote_pid to;

	(void)args;
	(void)size;
	memcpy(&to, m->data, sizeof(to));
	to.serial += 1000;
	for (to.slot = 0; to.slot < 300; to.slot++) {
		EXPECT(got_down(mote_monitor(to), to, MOTE_NOPROC));
		EXPECT_EQ(mote_call(to, 1, NULL, 0, NULL, PATIENCE), -ESRCH);
	}
	mote_send(m->from, 2, NULL, 0);
	mote_msg_free(m);
}

static void never_were(void)
{
	mote_pid self = mote_self(), by;
	struct peer b;

	peer_start(&b, "b");
	by = peer_spawn(&b, "prober", 0, NULL);
	mote_send(by, 1, &self, sizeof(self));
	EXPECT(got_type(2));
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(forger), ENTRY(prober), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("servers of the library", servers);
	nodes_case("the process that hands reports on", log_proxy);
	nodes_case("processes that never were", never_were);
	return nodes_done();
}
