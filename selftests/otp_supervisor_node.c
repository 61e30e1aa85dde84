// SPDX-License-Identifier: MIT OR GPL-2.0
/* Supervisors of other nodes, and children on other nodes. */
#include "nodes.h"

#include "otp_kids.h"

enum { BOSSES = 50, ECHO };

struct bosses {
	mote_pid fixed, dynamic;
};

static void says(void *arg)
{
	mote_pid to;

	memcpy(&to, arg, sizeof(to));
	mote_send(to, ECHO, (char *)arg + sizeof(to), 6);
	mote_sleep(MOTE_FOREVER);
}

/* On the other node: two supervisors that stay, told to whom the arguments say. */
static void bosses(const void *args, size_t size)
{
	static const struct mote_child_spec ab[] = { KID("a"), KID("b") }, template = { .id = "t", .fn = says };
	struct mote_supervisor_opts fixed = { .size = sizeof(fixed), CHILDREN(ab) };
	struct mote_dynamic_opts dynamic = { .size = sizeof(dynamic), .child = &template };
	struct bosses b;

	EXPECT_EQ(size, sizeof(mote_pid));
	EXPECT_EQ(mote_supervisor_start(&fixed, &b.fixed), 0);
	EXPECT_EQ(mote_dynamic_start(&dynamic, &b.dynamic), 0);
	mote_send(*(const mote_pid *)args, BOSSES, &b, sizeof(b));
}

static void asked_from_elsewhere(void)
{
	static const struct mote_child_spec c = KID("c");
	struct { mote_pid to; char text[8]; } arg = { .to = mote_self(), .text = "hello" };
	struct mote_child_spec *spec;
	struct mote_child_info *all;
	struct bosses there;
	struct mote_msg *m;
	struct peer b;
	mote_pid pid;

	kids_reset();
	peer_start(&b, "b");
	peer_spawn(&b, "bosses", 0, NULL);
	m = mote_receive_type(BOSSES, PATIENCE);
	if (!EXPECT(m))
		return;
	there = *(struct bosses *)m->data;
	mote_msg_free(m);

	EXPECT_EQ(mote_supervisor_which_children(there.fixed, &all, PATIENCE), 2);
	EXPECT(!strcmp(all[0].id, "a") && !strcmp(all[1].id, "b") && kid_answers(all[1].pid, 'b'));
	mote_free(all);
	EXPECT(counts_are(there.fixed, 2, 2, 0, 2));
	EXPECT_EQ(mote_supervisor_terminate_child(there.fixed, "a", PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_restart_child(there.fixed, "a", &pid, PATIENCE), 0);
	EXPECT(kid_answers(pid, 'a') && mote_pid_equal(pid, kid_pid(there.fixed, "a")));
	EXPECT(kid_end(pid, OOPS));
	EXPECT(kid_answers(kid_wait(there.fixed, "a", pid), 'a'));
	EXPECT_EQ(mote_supervisor_delete_child(there.fixed, "a", PATIENCE), -EBUSY);
	/* What has addresses in it does not travel. */
	EXPECT_EQ(mote_supervisor_start_child(there.fixed, &c, &pid, PATIENCE), -EREMOTE);
	EXPECT_EQ(mote_supervisor_get_childspec(there.fixed, "a", &spec, PATIENCE), -EREMOTE);
	EXPECT_EQ(mote_dynamic_start_child(there.dynamic, &c, &pid, PATIENCE), -EREMOTE);
	/* Nor if it is sent all the same. */
	EXPECT_EQ(mote_call(there.fixed, MOTE_MSG_SYSTEM + 0x200, "?", 1, &m, PATIENCE), 0);
	EXPECT_EQ(*(int32_t *)m->data, -EREMOTE);
	mote_msg_free(m);

	/* Bytes do. */
	EXPECT_EQ(mote_dynamic_start_arg(there.dynamic, &arg, sizeof(arg), &pid, PATIENCE), 0);
	m = mote_receive_type(ECHO, PATIENCE);
	EXPECT(m && mote_pid_equal(m->from, pid) && !strcmp(m->data, "hello"));
	mote_msg_free(m);
	EXPECT_EQ(mote_dynamic_terminate_child(there.dynamic, pid, PATIENCE), 0);
	EXPECT_EQ(mote_dynamic_terminate_child(there.dynamic, pid, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_server_stop(there.fixed, MOTE_REASON_SHUTDOWN, PATIENCE), 0);
	peer_stop(&b);
	EXPECT_EQ(mote_supervisor_delete_child(there.dynamic, "a", PATIENCE), -ECONNRESET);
}

static mote_node away;

static void far(const void *args, size_t size)
{
	(void)args;
	(void)size;
	mote_sleep(MOTE_FOREVER);
}

static int start_far(void *arg, mote_pid *pid)
{
	*pid = mote_spawn_on(away, &(struct mote_spawn_on_opts){
		.size = sizeof(struct mote_spawn_on_opts), .entry = arg, .flags = MOTE_LINK }, PATIENCE);
	return mote_pid_valid(*pid) ? 0 : mote_errno();
}

static void children_elsewhere(void)
{
	static const struct mote_child_spec f[] = { { .id = "far", .start = start_far, .arg = "far" } };
	mote_pid sup, pid;
	struct peer b;

	kids_reset();
	peer_start(&b, "b");
	away = b.node;
	sup = sup_start(SUPERVISOR(CHILDREN(f)));
	pid = kid_pid(sup, "far");
	EXPECT(pid.node != mote_self().node);
	put_down(pid);
	pid = kid_wait(sup, "far", pid);
	EXPECT(mote_pid_valid(pid) && pid.node != mote_self().node);
	EXPECT(counts_are(sup, 1, 1, 0, 1));
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "far", PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_restart_child(sup, "far", &pid, PATIENCE), 0);
	/* Its node goes, and does not come back. */
	peer_stop(&b);
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(bosses), ENTRY(far), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("asked from another node", asked_from_elsewhere);
	nodes_case("children on another node", children_elsewhere);
	return nodes_done();
}
