// SPDX-License-Identifier: MIT OR GPL-2.0
/* What can be mapped by whom, and stays so; that nobody writes what is another's, by whatever way. */
#include "kmod.h"
#include <linux/mman.h>
#include <sys/uio.h>

#define LENGTH writer_length(DATA)

FIXTURE(map)
{
	struct node a, b;
	int lane;
};

FIXTURE_SETUP(map)
{
	NEED_DEVICE();
	ASSERT_EQ(0, node_make(&self->a, "map-a", 2, 0600));
	ASSERT_EQ(0, node_make(&self->b, "map-b", 2, 0600));
	self->lane = lane_open(self->a.fd, self->b.id);
	ASSERT_LT(0, self->lane);
}

FIXTURE_TEARDOWN(map)
{
	node_end(&self->a);
	node_end(&self->b);
}

static char *writer_map(int fd, __u32 lane, int prot)
{
	return area_map(fd, MOTE_AREA_WRITER, lane, LENGTH, prot);
}

static char *reader_map(int fd, __u32 lane, int prot)
{
	return area_map(fd, MOTE_AREA_READER, lane, page_size(), prot);
}

#define RW (PROT_READ | PROT_WRITE)
#define EXPECT_REFUSED(map) \
	({ \
		void *map_ = (map); \
		EXPECT_EQ(MAP_FAILED, map_); \
		if (map_ == MAP_FAILED) \
			EXPECT_TRUE(errno == EACCES || errno == EPERM) \
				TH_LOG("errno %d", errno); \
	})

TEST_F(map, lane_is_shared)
{
	size_t page = page_size();
	char *writer = writer_map(self->a.fd, self->lane, RW);
	char *read = writer_map(self->b.fd, self->lane, PROT_READ);
	char *reader = reader_map(self->b.fd, self->lane, RW);
	char *consumed = reader_map(self->a.fd, self->lane, PROT_READ);

	ASSERT_NE(MAP_FAILED, writer);
	ASSERT_NE(MAP_FAILED, read);
	ASSERT_NE(MAP_FAILED, reader);
	ASSERT_NE(MAP_FAILED, consumed);
	/* New memory is zero. */
	for (size_t i = 0; i < LENGTH; i += 8)
		ASSERT_EQ(0, *(__u64 *)(read + i));
	for (size_t i = 0; i < page; i += 8)
		ASSERT_EQ(0, *(__u64 *)(consumed + i));
	/* The producer page, its first and last word; the data twice in a row, so that a record never wraps. */
	*(__u64 *)writer = 1;
	*(__u64 *)(writer + page - 8) = 2;
	EXPECT_EQ(1, *(__u64 *)read);
	EXPECT_EQ(2, *(__u64 *)(read + page - 8));
	for (size_t i = 0; i < DATA; i += 1024)
		*(__u64 *)(writer + page + i) = i + 10;
	for (size_t i = 0; i < DATA; i += 1024) {
		ASSERT_EQ(i + 10, *(__u64 *)(read + page + i));
		ASSERT_EQ(i + 10, *(__u64 *)(read + page + DATA + i));
		ASSERT_EQ(i + 10, *(__u64 *)(writer + page + DATA + i));
	}
	memset(writer + page + DATA - 64, 0x5a, 128);
	EXPECT_EQ(0x5a, read[page + 63]);
	EXPECT_EQ(0x5a, read[page + 2 * DATA - 1]);
	*(__u64 *)reader = 3;
	EXPECT_EQ(3, *(__u64 *)consumed);
	EXPECT_EQ(1, *(__u64 *)read);
}

TEST_F(map, lengths_and_offsets)
{
	size_t page = page_size();
	int fd = self->a.fd;
	__u32 lane = self->lane;
	static const __u64 offsets[] = { 4096, 1 << 27, 1 << 29, 3ULL << 28 };

	/* In exactly the area's length. */
	EXPECT_EQ(MAP_FAILED, area_map(fd, MOTE_AREA_WRITER, lane, page, RW));
	EXPECT_EQ(MAP_FAILED, area_map(fd, MOTE_AREA_WRITER, lane, page + DATA, RW));
	EXPECT_EQ(MAP_FAILED, area_map(fd, MOTE_AREA_WRITER, lane, LENGTH - page, RW));
	EXPECT_EQ(MAP_FAILED, area_map(fd, MOTE_AREA_WRITER, lane, LENGTH + page, RW));
	EXPECT_EQ(MAP_FAILED, area_map(fd, MOTE_AREA_READER, lane, 2 * page, PROT_READ));
	EXPECT_EQ(MAP_FAILED, area_map(fd, MOTE_AREA_BELLS, self->a.id, bells_length(2) + page, PROT_READ));
	/* And from its beginning, by a number that means something. */
	for (unsigned int i = 0; i < ARRAY_SIZE(offsets); i++) {
		EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH - page, PROT_READ, MAP_SHARED, fd,
					   MOTE_MAP(MOTE_AREA_WRITER, lane) + offsets[i]));
		EXPECT_EQ(MAP_FAILED, mmap(NULL, page, PROT_READ, MAP_SHARED, fd,
					   MOTE_MAP(MOTE_AREA_BELLS, self->a.id) + offsets[i]));
	}
	for (int area = 3; area < 16; area++)
		EXPECT_EQ(MAP_FAILED, area_map(fd, area, lane, page, PROT_READ));
	EXPECT_EQ(MAP_FAILED, writer_map(fd, lane + 1000, RW));
	EXPECT_EQ(MAP_FAILED, writer_map(fd, 0, RW));
	EXPECT_EQ(MAP_FAILED, writer_map(fd, 0x7fffffff, RW));
	EXPECT_EQ(MAP_FAILED, bells_map(fd, 0, 2, PROT_READ));
	EXPECT_EQ(MAP_FAILED, bells_map(fd, self->b.id + 1000, 2, PROT_READ));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH, RW, MAP_PRIVATE, fd, MOTE_MAP(MOTE_AREA_WRITER, lane)));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE, self->b.fd,
				   MOTE_MAP(MOTE_AREA_WRITER, lane)));
}

TEST_F(map, protection)
{
	struct node c;
	char *map;

	EXPECT_REFUSED(writer_map(self->b.fd, self->lane, RW));
	EXPECT_REFUSED(writer_map(self->b.fd, self->lane, PROT_WRITE));
	EXPECT_REFUSED(reader_map(self->a.fd, self->lane, RW));
	EXPECT_REFUSED(bells_map(self->a.fd, self->b.id, 2, RW));
	EXPECT_REFUSED(bells_map(self->b.fd, self->a.id, 2, RW));
	/* Read-only is for ever. */
	map = writer_map(self->b.fd, self->lane, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, mprotect(map, LENGTH, RW));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(map, page_size(), PROT_WRITE));
	EXPECT_EQ(0, mprotect(map, LENGTH, PROT_NONE));
	EXPECT_EQ(-1, mprotect(map, LENGTH, RW));
	EXPECT_EQ(0, mprotect(map, LENGTH, PROT_READ));
	map = reader_map(self->a.fd, self->lane, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, mprotect(map, page_size(), RW));
	EXPECT_EQ(EACCES, errno);
	map = (void *)bells_map(self->a.fd, self->b.id, 2, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, mprotect(map, bells_length(2), RW));
	EXPECT_EQ(EACCES, errno);
	/* A mapping that was made without PROT_WRITE where it was allowed may get it. */
	map = writer_map(self->a.fd, self->lane, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, mprotect(map, LENGTH, RW));
	/* Strangers map nothing, whoever they are. */
	ASSERT_EQ(0, node_make(&c, "", 1, 0600));
	EXPECT_EQ(MAP_FAILED, writer_map(c.fd, self->lane, PROT_READ));
	EXPECT_EQ(MAP_FAILED, reader_map(c.fd, self->lane, PROT_READ));
	EXPECT_EQ(MAP_FAILED, bells_map(c.fd, self->a.id, 2, PROT_READ));
	node_end(&c);
}

/* The kernel writes there on our behalf, in each of the ways that it has. True: somebody managed to. */
static bool written_somehow(struct __test_metadata *_metadata, char *map, char *other_view)
{
	static const char marks[8] = "written";
	struct iovec from = { (void *)marks, sizeof(marks) }, to = { map, sizeof(marks) };
	int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC), zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int pipes[2];

	EXPECT_LE(0, memory);
	EXPECT_EQ(-1, pwrite(memory, marks, sizeof(marks), (uintptr_t)map));
	EXPECT_EQ(-1, process_vm_writev(getpid(), &from, 1, &to, 1, 0));
	EXPECT_EQ(0, pipe2(pipes, O_CLOEXEC));
	EXPECT_EQ(sizeof(marks), write(pipes[1], marks, sizeof(marks)));
	EXPECT_EQ(-1, read(pipes[0], map, sizeof(marks)));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, read(zero, map, sizeof(marks)));
	close(pipes[0]);
	close(pipes[1]);
	close(zero);
	close(memory);
	return memcmp(other_view, marks, sizeof(marks)) == 0;
}

TEST_F(map, no_way_round_it)
{
	char *writer = writer_map(self->a.fd, self->lane, RW);
	char *reader = reader_map(self->b.fd, self->lane, RW);
	char *map;

	ASSERT_NE(MAP_FAILED, writer);
	ASSERT_NE(MAP_FAILED, reader);
	memcpy(writer, "writer's", 8);
	memcpy(writer + page_size(), "writer's", 8);
	memcpy(reader, "reader's", 8);
	map = writer_map(self->b.fd, self->lane, PROT_READ);
	EXPECT_FALSE(written_somehow(_metadata, map, writer));
	EXPECT_FALSE(written_somehow(_metadata, map + page_size(), writer + page_size()));
	map = reader_map(self->a.fd, self->lane, PROT_READ);
	EXPECT_FALSE(written_somehow(_metadata, map, reader));
	map = (void *)bells_map(self->b.fd, self->a.id, 2, PROT_READ);
	EXPECT_FALSE(written_somehow(_metadata, map, (void *)self->a.bells));
	EXPECT_EQ(0, memcmp(writer, "writer's", 8));
	EXPECT_EQ(0, memcmp(writer + page_size(), "writer's", 8));
	EXPECT_EQ(0, memcmp(reader, "reader's", 8));
}

TEST_F(map, bells)
{
	struct node c;
	struct mote_bells *peer;

	EXPECT_EQ(self->a.id, self->a.bells->node);
	EXPECT_EQ(2, self->a.bells->nr_slots);
	EXPECT_EQ(0, self->a.bells->down);
	EXPECT_EQ(1, self->b.bells->events);
	/* With a lane between the two, in either direction. */
	self->a.bells->user[3] = 12345;
	self->b.bells->bell[1].user[13] = 54321;
	peer = bells_map(self->b.fd, self->a.id, 2, PROT_READ);
	ASSERT_NE(MAP_FAILED, peer);
	EXPECT_EQ(12345, peer->user[3]);
	peer = bells_map(self->a.fd, self->b.id, 2, PROT_READ);
	ASSERT_NE(MAP_FAILED, peer);
	EXPECT_EQ(54321, peer->bell[1].user[13]);
	/* Not without. */
	ASSERT_EQ(0, node_make(&c, "", MOTE_SLOTS_MAX, 0600));
	EXPECT_EQ(MAP_FAILED, bells_map(c.fd, self->a.id, 2, PROT_READ));
	EXPECT_EQ(MAP_FAILED, bells_map(self->a.fd, c.id, MOTE_SLOTS_MAX, PROT_READ));
	/* Many slots need many pages. */
	for (__u32 i = 0; i < MOTE_SLOTS_MAX; i++)
		c.bells->bell[i].user[0] = i;
	for (__u32 i = 0; i < MOTE_SLOTS_MAX; i++)
		EXPECT_EQ(0, c.bells->bell[i].seq);
	EXPECT_EQ(0, bell_ring(c.fd, c.id, MOTE_SLOTS_MAX - 1));
	EXPECT_EQ(1, bell_seq(c.bells, MOTE_SLOTS_MAX - 1));
	node_end(&c);
}

TEST_F(map, not_inherited)
{
	char *map = writer_map(self->a.fd, self->lane, RW);
	struct mote_bells *bells = self->a.bells;
	unsigned char there;

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, IN_CHILD(mincore(map, page_size(), &there) == -1 && errno == ENOMEM &&
			      mincore(bells, page_size(), &there) == -1 && errno == ENOMEM ? 0 : 1));
	EXPECT_EQ(-SIGSEGV, IN_CHILD(*(volatile char *)map));
}

TEST_F(map, does_not_grow)
{
	char *map = writer_map(self->a.fd, self->lane, RW), *moved;

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(MAP_FAILED, mremap(map, LENGTH, LENGTH + page_size(), MREMAP_MAYMOVE));
	/* No second one by the old trick. */
	EXPECT_EQ(MAP_FAILED, mremap(map, 0, LENGTH, MREMAP_MAYMOVE));
	map[0] = 17;
	/* Moved, cut, holed: it is its owner's. */
	moved = mmap(NULL, LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, moved);
	moved = mremap(map, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, moved);
	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_EQ(17, moved[0]);
	EXPECT_EQ(0, munmap(moved + page_size(), DATA));
	moved[page_size() + DATA] = 18;
	EXPECT_EQ(17, moved[0]);
	EXPECT_EQ(0, munmap(moved, LENGTH));
}

TEST_F(map, outlives_everything)
{
	/* The memory is there for as long as it is mapped: after LANE_CLOSE at both ends, and after both nodes. */
	char *writer = writer_map(self->a.fd, self->lane, RW), *read = writer_map(self->b.fd, self->lane, PROT_READ);
	char *reader = reader_map(self->b.fd, self->lane, RW), *fresh;
	struct mote_bells *peer = bells_map(self->b.fd, self->a.id, 2, PROT_READ);
	struct mote_bells *own = self->a.bells;
	size_t page = page_size();
	struct node c, d;

	memset(writer, 0xaa, page + DATA);
	memset(reader, 0xbb, page);
	EXPECT_EQ(0, lane_close(self->a.fd, self->lane));
	EXPECT_EQ(MAP_FAILED, writer_map(self->a.fd, self->lane, RW));
	/* The reader may still want to read what was written. */
	fresh = writer_map(self->b.fd, self->lane, PROT_READ);
	ASSERT_NE(MAP_FAILED, fresh);
	EXPECT_EQ((char)0xaa, fresh[0]);
	EXPECT_EQ(0, lane_close(self->b.fd, self->lane));
	EXPECT_EQ(MAP_FAILED, writer_map(self->b.fd, self->lane, PROT_READ));
	EXPECT_EQ(MAP_FAILED, reader_map(self->b.fd, self->lane, RW));
	close(self->a.fd);
	close(self->b.fd);
	self->a.fd = self->b.fd = -1;
	/* Somebody else's memory is zero, and stays as they want it. */
	ASSERT_EQ(0, node_make(&c, "", 2, 0600));
	ASSERT_EQ(0, node_make(&d, "", 2, 0600));
	for (int i = 0; i < 8; i++) {
		int lane = lane_open(c.fd, d.id);

		ASSERT_LT(0, lane);
		fresh = writer_map(c.fd, lane, RW);
		ASSERT_NE(MAP_FAILED, fresh);
		for (size_t at = 0; at < LENGTH; at += 8)
			ASSERT_EQ(0, *(__u64 *)(fresh + at));
		memset(fresh, 0x11, page + DATA);
		fresh = reader_map(d.fd, lane, RW);
		ASSERT_NE(MAP_FAILED, fresh);
		ASSERT_EQ(0, *(__u64 *)fresh);
	}
	for (size_t at = 0; at < page + DATA; at += 512) {
		ASSERT_EQ((char)0xaa, read[at]);
		writer[at] = 0x77;
		ASSERT_EQ(0x77, read[at]);
	}
	EXPECT_EQ((char)0xbb, reader[page - 1]);
	EXPECT_EQ(MOTE_DOWN_CLOSED, own->down);
	EXPECT_EQ(MOTE_DOWN_CLOSED, peer->down);
	node_end(&c);
	node_end(&d);
}

TEST_F(map, lane_survives_its_dead_writer)
{
	char *map = writer_map(self->a.fd, self->lane, RW);
	struct mote_event event;

	strcpy(map + page_size(), "last words");
	munmap(map, LENGTH);
	events_drop(self->b.fd);
	node_end(&self->a);
	ASSERT_EQ(0, event_next(self->b.fd, &event, SOON_MS));
	EXPECT_EQ(MOTE_EVENT_NODE_DOWN, event.type);
	map = writer_map(self->b.fd, self->lane, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_STREQ("last words", map + page_size());
	EXPECT_NE(MAP_FAILED, reader_map(self->b.fd, self->lane, RW));
	EXPECT_EQ(0, lane_close(self->b.fd, self->lane));
	EXPECT_EQ(MAP_FAILED, writer_map(self->b.fd, self->lane, PROT_READ));
}

TEST_HARNESS_MAIN
