// SPDX-License-Identifier: MIT OR GPL-2.0
/* Servers of another node: asked, told, looked into and stopped as one's own; addresses are not taken from there. */
#include "nodes.h"

#include <mote/server.h>
#include <mote/sys.h>

enum { ADD = 1, GET, HERE };

struct sum {
	int64_t total;
	uint64_t casts;
};

static void sum_call(struct sum *s, struct mote_from from, const struct mote_msg *m)
{
	int64_t n;

	if (m->type == ADD && m->size == sizeof(n)) {
		memcpy(&n, m->data, sizeof(n));
		s->total += n;
	}
	mote_reply(from, m->type, &s->total, sizeof(s->total));
}

static void sum_cast(struct sum *s, const struct mote_msg *m)
{
	EXPECT_EQ(m->type, ADD);
	s->casts++;
}

static int sum_change(struct sum *s, const void *old, unsigned int version, void *arg)
{
	(void)s;
	(void)old;
	(void)version;
	(void)arg;
	return 0;
}

static int sum_format(const struct sum *s, char *buf, size_t size)
{
	return snprintf(buf, size, "total %lld", (long long)s->total);
}

MOTE_SERVER(sum, struct sum,
	.handle_call = sum_call,
	.handle_cast = sum_cast,
	.code_change = sum_change,
	.format_status = sum_format);

/* args: the boss's pid. Its server ends with it. */
static void host(const void *args, size_t size)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .name = "sum" };
	mote_pid boss, pid;

	if (!EXPECT(size == sizeof(boss)))
		return;
	memcpy(&boss, args, sizeof(boss));
	EXPECT_EQ(mote_server_start_link(&sum.ops, NULL, &opts, &pid), 0);
	mote_send(boss, HERE, &pid, sizeof(pid));
	mote_receive_type(HERE, MOTE_FOREVER);
}

static mote_pid start(struct peer *b, mote_pid *keeper)
{
	struct mote_msg *m;
	mote_pid pid = MOTE_NOBODY;

	peer_start(b, "b");
	*keeper = peer_spawn(b, "host", 0, NULL);
	m = mote_receive_type(HERE, PATIENCE);
	if (EXPECT(m && m->size == sizeof(pid)))
		memcpy(&pid, m->data, sizeof(pid));
	mote_msg_free(m);
	return pid;
}

static int64_t ask(mote_pid pid, uint32_t type, int64_t n)
{
	struct mote_msg *m = NULL;
	int64_t total = -1;

	EXPECT_EQ(mote_call(pid, type, &n, sizeof(n), &m, PATIENCE), 0);
	if (m && m->size == sizeof(total))
		memcpy(&total, m->data, sizeof(total));
	mote_msg_free(m);
	return total;
}

static void asked(void)
{
	struct mote_sys_statistics stats = { .size = sizeof(stats) };
	struct mote_msg *m = NULL;
	struct sum s = { 0 };
	size_t size = sizeof(s);
	mote_pid pid, keeper;
	struct peer b;

	pid = start(&b, &keeper);
	EXPECT(mote_pid_equal(mote_whereis_on(b.node, "sum", PATIENCE), pid));
	EXPECT_EQ(ask(pid, ADD, 30), 30);
	EXPECT_EQ(mote_sys_statistics(pid, true, PATIENCE), 0);
	EXPECT_EQ(mote_cast(pid, ADD, NULL, 0), 0);
	EXPECT_EQ(ask(pid, ADD, 12), 42);
	EXPECT_EQ(mote_sys_get_statistics(pid, &stats, PATIENCE), 0);
	EXPECT_EQ(stats.messages_in, 2);
	EXPECT_EQ(stats.casts, 1);
	EXPECT_EQ(mote_sys_get_state(pid, &s, &size, PATIENCE), 0);
	EXPECT_EQ(size, sizeof(s));
	EXPECT_EQ(s.total, 42);
	EXPECT_EQ(s.casts, 1);
	s.total = 5;
	EXPECT_EQ(mote_sys_replace_state(pid, &s, sizeof(s), PATIENCE), 0);
	EXPECT_EQ(mote_sys_get_status(pid, &m, PATIENCE), 0);
	EXPECT(m && strstr(m->data, "total 5"));
	mote_msg_free(m);
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	EXPECT_EQ(mote_call(pid, GET, NULL, 0, NULL, mote_in_ms(20)), -ETIMEDOUT);
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	EXPECT_EQ(ask(pid, GET, 0), 5);
	mote_send(keeper, HERE, NULL, 0);
	peer_stop(&b);
	EXPECT(mailbox_is_empty());
}

/* What would have the server call an address of ours. */
static void addresses(void)
{
	char wild[256];
	mote_pid pid, keeper;
	struct peer b;

	memset(wild, 0x5a, sizeof(wild));
	pid = start(&b, &keeper);
	EXPECT_EQ(mote_sys_trace(pid, NULL, NULL, PATIENCE), -EREMOTE);
	EXPECT_EQ(mote_sys_change_code(pid, &sum.ops, NULL, PATIENCE), -EREMOTE);
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	for (uint32_t what = 0; what < 0x20; what++) {
		struct mote_msg *m;

		if (what == 2 || what == 6 || what == 7)	/* TERMINATE, SUSPEND, RESUME */
			continue;
		for (size_t size = 0; size <= sizeof(wild); size += 8) {
			mote_ref ref = mote_request(pid, MOTE_MSG_SYSTEM + what, wild, size);

			mote_demonitor(ref, MOTE_FLUSH);
		}
		m = NULL;
		EXPECT_EQ(mote_call(pid, MOTE_MSG_SYSTEM + 5, NULL, 0, &m, PATIENCE), 0);
		mote_msg_free(m);
	}
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	EXPECT(ask(pid, GET, 0) != -1);
	mote_send(keeper, HERE, NULL, 0);
	peer_stop(&b);
	EXPECT(mailbox_is_empty());
}

static void stopped(void)
{
	mote_pid pid, keeper;
	mote_ref ref;
	struct peer b;

	pid = start(&b, &keeper);
	ref = mote_monitor(pid);
	EXPECT_EQ(mote_server_stop(pid, mote_reason_error(EIO, "enough"), PATIENCE), 0);
	EXPECT(got_down(ref, pid, MOTE_ERROR));
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), -ESRCH);
	peer_stop(&b);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), -ECONNRESET);
}

static void many(void)
{
	struct mote_multi_result r[3];
	mote_pid keeper;
	int64_t n = 3;
	struct peer b;

	r[0].pid = start(&b, &keeper);
	EXPECT_EQ(mote_server_start(&sum.ops, NULL, NULL, &r[1].pid), 0);
	EXPECT_EQ(mote_server_start(&sum.ops, NULL, NULL, &r[2].pid), 0);
	put_down(r[2].pid);
	EXPECT_EQ(mote_multi_call(r, 3, ADD, &n, sizeof(n), PATIENCE), 2);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(r[i].err, 0);
		EXPECT(r[i].reply && !memcmp(r[i].reply->data, &n, sizeof(n)));
		mote_msg_free(r[i].reply);
	}
	EXPECT_EQ(r[2].err, -ESRCH);
	put_down(r[1].pid);
	mote_send(keeper, HERE, NULL, 0);
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(host), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("calls, casts and mote_sys_*()", asked);
	nodes_case("addresses from another node are refused", addresses);
	nodes_case("stop", stopped);
	nodes_case("a call to many, here and there", many);
	return nodes_done();
}
