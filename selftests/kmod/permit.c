// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Who may reach whom: users, groups, user namespaces, and who comes by a descriptor that is not his. The fixture's
 * nodes are root's, in a group; the others are children's, each of another identity.
 */
#include "kmod.h"
#include <grp.h>
#include <sys/mount.h>
#include <sys/socket.h>

#define NOBODY	65534
#define STAFF	50123
#define OTHERS	50124

FIXTURE(permit)
{
	struct node closed, group, others;
	char directory[64];
	int at;
};

FIXTURE_SETUP(permit)
{
	struct stat stat_;

	NEED_DEVICE();
	if (geteuid())
		SKIP(return, "only root can be somebody else");
	/* The device as others may open it, whatever the machine's own allows them; and what it lies in. */
	strcpy(self->directory, "/tmp/mote-permit-XXXXXX");
	ASSERT_EQ(0, stat(DEVICE, &stat_));
	ASSERT_NE(NULL, mkdtemp(self->directory));
	ASSERT_EQ(0, chmod(self->directory, 0755));
	self->at = open(self->directory, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, self->at);
	ASSERT_EQ(0, mknodat(self->at, "mote", S_IFCHR | 0666, stat_.st_rdev));
	ASSERT_EQ(0, fchmodat(self->at, "mote", 0666, 0));
	/* Of a group that is not everybody's. */
	ASSERT_EQ(0, setegid(STAFF));
	ASSERT_EQ(0, node_make(&self->closed, "permit-closed", 1, 0600));
	ASSERT_EQ(0, node_make(&self->group, "permit-group", 1, 0660));
	ASSERT_EQ(0, node_make(&self->others, "permit-others", 1, 0606));
	ASSERT_EQ(0, setegid(0));
}

FIXTURE_TEARDOWN(permit)
{
	node_end(&self->closed);
	node_end(&self->group);
	node_end(&self->others);
	unlinkat(self->at, "mote", 0);
	rmdir(self->directory);
}

/* As another user, in another group: no way back. */
static void become(uid_t uid, gid_t gid, gid_t extra)
{
	if (setgroups(extra ? 1 : 0, &extra) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		_exit(98);
}

static int device_at(int at)
{
	return openat(at, "mote", O_RDWR | O_CLOEXEC);
}

static int node_of(int at)
{
	struct mote_setup setup;
	int fd = device_at(at);

	if (fd < 0)
		return -errno;
	setup_init(&setup, "permit-child", 1);
	return call(fd, MOTE_IOC_SETUP, &setup) ? -EBADFD : fd;
}

/* May it be reached by each call that names it? 1: by all, 0: by none, 2: mixed up. */
static int reaches(int fd, const struct node *node, const char *name)
{
	struct mote_node_desc desc = { .size = sizeof(desc) }, nodes[64];
	struct mote_node_list list = { .size = sizeof(list), .nr = 64, .nodes = (uintptr_t)nodes };
	int yes = 0, no = 0, ret;
	bool listed = false;

	ret = lane_open(fd, node->id);
	yes += ret > 0;
	no += ret == -EACCES;
	ret = object_call(fd, MOTE_IOC_NODE_WATCH, node->id, 0);
	yes += !ret;
	no += ret == -EACCES;
	ret = node_find(fd, node->id, &desc);
	yes += !ret && !strcmp(desc.name, name);
	no += ret == -EACCES || ret == -ESRCH;
	if (!call(fd, MOTE_IOC_NODE_LIST, &list))
		for (__u32 i = 0; i < list.nr; i++)
			listed |= nodes[i].node == node->id;
	yes += listed;
	no += !listed;
	return yes == 4 ? 1 : no == 4 ? 0 : 2;
}

/* A digit for each of the three nodes, in what a child exits with: closed, group, others. */
static int reaches_which(int fd, struct node *closed, struct node *group, struct node *others)
{
	if (fd < 0)
		return 97;
	return reaches(fd, closed, "permit-closed") + 3 * reaches(fd, group, "permit-group") +
	       9 * reaches(fd, others, "permit-others");
}

#define AS(uid, gid, extra) \
	IN_CHILD(({ \
		become(uid, gid, extra); \
		reaches_which(node_of(self->at), &self->closed, &self->group, &self->others); \
	}))

TEST_F(permit, users_and_groups)
{
	/* Its own user reaches all. */
	EXPECT_EQ(1 + 3 + 9, AS(0, 0, 0));
	EXPECT_EQ(1 + 3 + 9, AS(0, OTHERS, 0));
	/* Another one what is open to others. */
	EXPECT_EQ(9, AS(NOBODY, OTHERS, 0));
	/* One of the group what is open to that, and, as with files, not what is open to the others. */
	EXPECT_EQ(3, AS(NOBODY, STAFF, 0));
	EXPECT_EQ(3, AS(NOBODY, OTHERS, STAFF));
}

TEST_F(permit, another_user_namespace)
{
	/* The same user by number, but of another namespace: he counts as one of the others. */
	int ret = IN_CHILD(({
		if (unshare(CLONE_NEWUSER))
			_exit(96);
		reaches_which(node_of(self->at), &self->closed, &self->group, &self->others);
	}));

	if (ret == 96)
		SKIP(return, "no user namespaces");
	EXPECT_EQ(0, ret % 3);
	EXPECT_EQ(1, ret / 9);
}

TEST_F(permit, names_of_another_namespace)
{
	/* A namespace's nodes do not take names from the users outside. */
	int ret = IN_CHILD(({
		struct mote_setup setup;
		int fd;

		if (unshare(CLONE_NEWUSER))
			_exit(96);
		fd = device_at(self->at);
		setup_init(&setup, "permit-closed", 1);
		call(fd, MOTE_IOC_SETUP, &setup) ? 1 : 0;
	}));

	if (ret == 96)
		SKIP(return, "no user namespaces");
	EXPECT_EQ(0, ret);
}

TEST_F(permit, names_are_per_user)
{
	EXPECT_EQ(0, IN_CHILD(({
		struct mote_node_desc desc;
		struct mote_setup setup;
		int fd, err;

		become(NOBODY, OTHERS, 0);
		fd = device_at(self->at);
		setup_init(&setup, "permit-others", 1);
		err = call(fd, MOTE_IOC_SETUP, &setup);
		/* Mine, and root's. */
		if (err || name_find(fd, "permit-others", &desc) || desc.node != setup.node || desc.uid != NOBODY)
			_exit(1);
		memset(&desc, 0, sizeof(desc));
		desc.size = sizeof(desc);
		strcpy(desc.name, "permit-others");
		call(fd, MOTE_IOC_NODE_FIND, &desc) || desc.node != self->others.id || desc.uid ? 2 : 0;
	})));
}

TEST_F(permit, a_lane_invites_its_answer)
{
	int to_child[2], to_parent[2], ret, lane;
	__u32 id = 0;
	pid_t pid;
	char go = 0;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	pid = child_start();
	if (!pid) {
		struct mote_node_desc desc;
		struct mote_setup setup;
		struct mote_event event;
		int fd;

		become(NOBODY, OTHERS, 0);
		fd = device_at(self->at);
		setup_init(&setup, "", 1);
		setup.mode = 0606;
		if (call(fd, MOTE_IOC_SETUP, &setup) || lane_open(fd, self->closed.id) != -EACCES)
			_exit(1);
		write(to_parent[1], &setup.node, sizeof(setup.node));
		read(to_child[0], &go, 1);
		if (event_next(fd, &event, SOON_MS) || event.type != MOTE_EVENT_LANE_OPENED ||
		    event.node != self->closed.id)
			_exit(2);
		/* Now it may answer, look, and ring; still not the others of that user. */
		if (lane_open(fd, self->closed.id) <= 0)
			_exit(3);
		if (node_find(fd, self->closed.id, &desc))
			_exit(4);
		if (bell_ring(fd, self->closed.id, 0))
			_exit(5);
		if (lane_open(fd, self->group.id) != -EACCES)
			_exit(6);
		write(to_parent[1], &go, 1);
		read(to_child[0], &go, 1);
		/* The invitation goes with the lane. */
		if (lane_open(fd, self->closed.id) != -EACCES)
			_exit(7);
		_exit(0);
	}
	close(to_parent[1]);
	ASSERT_EQ(sizeof(id), read(to_parent[0], &id, sizeof(id)));
	lane = lane_open(self->closed.fd, id);
	EXPECT_LT(0, lane);
	write(to_child[1], &go, 1);
	if (read(to_parent[0], &go, 1) == 1) {
		EXPECT_EQ(1, bell_seq(self->closed.bells, 0));
		EXPECT_EQ(0, lane_close(self->closed.fd, lane));
		write(to_child[1], &go, 1);
	}
	ret = child_wait(pid);
	EXPECT_EQ(0, ret);
}

TEST_F(permit, set_up_by_who_calls)
{
	/* A file that root opened, and gave away: its node is that of who set it up. */
	EXPECT_EQ(0, IN_CHILD(({
		struct mote_node_desc desc;
		struct mote_setup setup;
		int fd = device_open(), err;

		become(NOBODY, OTHERS, 0);
		setup_init(&setup, "permit-given", 1);
		err = call(fd, MOTE_IOC_SETUP, &setup) || node_find(fd, setup.node, &desc);
		err ? 1 : desc.uid != NOBODY ? 2 : lane_open(fd, self->closed.id) != -EACCES ? 3 : 0;
	})));
}

/* What a process gets that uses another's node, by whatever way it came to the descriptor. */
static int stranger_tries(struct node *node, __u32 peer)
{
	struct mote_node_desc desc = { .size = sizeof(desc) };
	struct mote_worker worker = { .size = sizeof(worker), .flags = MOTE_WORKER_STOP };
	struct mote_activate_wait activate = { .size = sizeof(activate), .deadline = 1 };
	struct mote_query query = { .size = sizeof(query) };
	struct mote_event event;
	struct mote_setup setup;

	if (call(node->fd, MOTE_IOC_QUERY, &query))
		return 1;
	setup_init(&setup, "", 1);
	if (!call(node->fd, MOTE_IOC_SETUP, &setup))
		return 2;
	if (node_find(node->fd, peer, &desc) != -EPERM)
		return 3;
	if (lane_open(node->fd, peer) != -EPERM)
		return 4;
	if (object_call(node->fd, MOTE_IOC_NODE_WATCH, peer, 0) != -EPERM)
		return 5;
	if (object_call(node->fd, MOTE_IOC_BELL_FD, 0, 0) != -EPERM)
		return 6;
	if (bell_ring(node->fd, node->id, 0) != -EPERM)
		return 7;
	if (bell_wait(node->fd, 0, 0, 0) != -EPERM)
		return 8;
	if (query.features & MOTE_FEATURE_ACTIVATE && (call(node->fd, MOTE_IOC_WORKER, &worker) != -EPERM ||
						       call(node->fd, MOTE_IOC_ACTIVATE_WAIT, &activate) != -EPERM))
		return 9;
	if (bells_map(node->fd, node->id, 1, PROT_READ) != MAP_FAILED || errno != EPERM)
		return 10;
	if (read(node->fd, &event, sizeof(event)) != -1 || errno != EPERM)
		return 11;
	return 0;
}

TEST_F(permit, forked_child)
{
	EXPECT_EQ(0, IN_CHILD(stranger_tries(&self->others, self->group.id)));
	/* It has done no harm: neither by trying, nor by closing what it inherited. */
	EXPECT_EQ(0, IN_CHILD(close(self->others.fd) ? 1 : 0));
	EXPECT_EQ(0, bell_ring(self->others.fd, self->others.id, 0));
	EXPECT_EQ(0, self->others.bells->down);
}

TEST_F(permit, bell_fd_of_the_parent)
{
	int bell = object_call(self->closed.fd, MOTE_IOC_BELL_FD, 0, 0);

	ASSERT_LE(0, bell);
	ASSERT_EQ(0, bell_ring(self->closed.fd, self->closed.id, 0));
	EXPECT_EQ(0, IN_CHILD(({
		__u64 count;

		read(bell, &count, sizeof(count)) == -1 && errno == EPERM ? 0 : 1;
	})));
	close(bell);
}

TEST_F(permit, passed_descriptor)
{
	char buffer[CMSG_SPACE(sizeof(int))] = "";
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = buffer, .msg_controllen = sizeof(buffer),
	};
	struct cmsghdr *control = CMSG_FIRSTHDR(&message);
	int pair[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid = child_start();
	if (!pid) {
		struct node node = self->others;

		if (recvmsg(pair[1], &message, 0) != 1)
			_exit(90);
		memcpy(&node.fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(node.fd));
		_exit(stranger_tries(&node, self->group.id));
	}
	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(control), &self->others.fd, sizeof(int));
	ASSERT_EQ(1, sendmsg(pair[0], &message, 0));
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, bell_ring(self->others.fd, self->others.id, 0));
}

TEST_F(permit, descriptor_in_flight_is_no_life)
{
	/* Death is the owner's close, though somebody else holds the file: in a socket, here. */
	char buffer[CMSG_SPACE(sizeof(int))] = "";
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = buffer, .msg_controllen = sizeof(buffer),
	};
	struct cmsghdr *control = CMSG_FIRSTHDR(&message);
	struct mote_event event;
	int pair[2];

	ASSERT_EQ(0, object_call(self->closed.fd, MOTE_IOC_NODE_WATCH, self->others.id, 0));
	events_drop(self->closed.fd);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(control), &self->others.fd, sizeof(int));
	ASSERT_EQ(1, sendmsg(pair[0], &message, 0));
	close(self->others.fd);
	self->others.fd = -1;
	EXPECT_EQ(0, event_next(self->closed.fd, &event, SOON_MS));
	EXPECT_EQ(MOTE_EVENT_NODE_DOWN, event.type);
	EXPECT_EQ(self->others.id, event.node);
	ASSERT_EQ(1, recvmsg(pair[1], &message, 0));
	memcpy(&self->others.fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	EXPECT_EQ(-ESHUTDOWN, bell_ring(self->others.fd, self->others.id, 0));
}

TEST_F(permit, pid_and_uid_as_the_caller_sees_them)
{
	/* In a pid namespace of its own the child is 1, and the parent's node has none. */
	int ret = IN_CHILD(({
		struct mote_node_desc desc, own;
		struct node node;
		pid_t pid;
		int status = 0;

		if (unshare(CLONE_NEWPID))
			_exit(96);
		pid = fork();
		if (!pid)
			_exit(node_make(&node, "", 1, 0600) || node_find(node.fd, self->closed.id, &desc) ? 1 :
			      desc.pid ? 2 : node_find(node.fd, node.id, &own) || own.pid != 1 ? 3 : 0);
		waitpid(pid, &status, 0);
		WEXITSTATUS(status);
	}));

	if (ret == 96)
		SKIP(return, "no pid namespaces");
	EXPECT_EQ(0, ret);
}

TEST_HARNESS_MAIN
