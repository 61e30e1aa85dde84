// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Nothing that one end of a lane writes makes the other read or write where it must not; and the memory cannot be
 * pulled away.
 */
#include "lane_helpers.h"

#include "port/handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SIZE	(UINT64_C(1) << 16)

#ifndef MFD_HUGETLB
#define MFD_HUGETLB	4U
#endif

/* What the writer would do, with no regard to the reader. */
static struct record *scribble_at(struct test_lane *t, uint64_t index)
{
	return (struct record *)((char *)t->w_own.map + segment_page() + (index & (SIZE - 1)));
}

static void scribble_head(struct test_lane *t, uint64_t head)
{
	atomic_store(&t->w.producer->head, head);
}

static enum lane_found look(struct test_lane *t)
{
	struct record head;
	const void *body;

	return lane_next(&t->r, &head, &body);
}

static void heads(void)
{
	static const uint64_t wrong[] = { SIZE + 16, 1, 8, 17, UINT64_MAX, UINT64_MAX - 15, UINT64_C(1) << 63,
					  2 * SIZE, SIZE + 1 };
	struct test_lane t;
	struct record head;
	const void *body;

	if (!lane_open(&t, SIZE))
		return;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		lane_again(&t, SIZE);
		scribble_head(&t, wrong[i]);
		EXPECT(lane_pending(&t.r));
		EXPECT_EQ(look(&t), LANE_BROKEN);
		EXPECT(!lane_close(&t.r));
		EXPECT(!lane_pending(&t.r));
		EXPECT_EQ(look(&t), LANE_EMPTY);
	}
	/* Backwards. */
	lane_again(&t, SIZE);
	for (uint64_t i = 0; i < 2; i++)
		lane_fill(lane_reserve(&t.w, 0), i);
	lane_publish(&t.w);
	while (lane_next(&t.r, &head, &body) == LANE_RECORD)
		lane_take(&t.r, &head);
	scribble_head(&t, 48);
	EXPECT_EQ(look(&t), LANE_BROKEN);
	/* Backwards behind what was taken of it: seen at the end. */
	lane_again(&t, SIZE);
	for (uint64_t i = 0; i < 2; i++)
		lane_fill(lane_reserve(&t.w, 0), i);
	lane_publish(&t.w);
	EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_RECORD);
	lane_take(&t.r, &head);
	scribble_head(&t, 48);
	EXPECT(!lane_close(&t.r));
	lane_shut(&t);
}

static void records(void)
{
	static const uint32_t wrong[] = { 1, 16, 1024, (uint32_t)(SIZE / 4), UINT32_MAX, UINT32_MAX - 15,
					  UINT32_MAX - 48, UINT32_C(1) << 31 };
	struct test_lane t;

	if (!lane_open(&t, SIZE))
		return;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		lane_again(&t, SIZE);
		scribble_at(&t, 0)->size = wrong[i];
		scribble_head(&t, 48);
		EXPECT_EQ(look(&t), LANE_BROKEN);
	}
	/* All of it is there, but it is larger than records get. */
	lane_again(&t, SIZE);
	scribble_at(&t, 0)->size = lane_record_max(SIZE) + 1;
	scribble_head(&t, SIZE);
	EXPECT_EQ(look(&t), LANE_BROKEN);
	scribble_at(&t, 0)->size = lane_record_max(SIZE);
	EXPECT_EQ(look(&t), LANE_RECORD);
	/* Less than a head. */
	lane_again(&t, SIZE);
	scribble_head(&t, 16);
	EXPECT_EQ(look(&t), LANE_BROKEN);
	lane_again(&t, SIZE);
	scribble_at(&t, 0)->zero = 1;
	scribble_head(&t, 48);
	EXPECT_EQ(look(&t), LANE_BROKEN);
	lane_shut(&t);
}

static void tails(void)
{
	static const uint64_t wrong[] = { UINT64_MAX, UINT64_C(1) << 63, SIZE + 16, 2 * SIZE, 0, 16 };
	struct test_lane t;
	struct record head;
	const void *body;

	if (!lane_open(&t, SIZE))
		return;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		lane_again(&t, SIZE);
		while (lane_reserve(&t.w, 1024))
			;
		lane_publish(&t.w);
		/* So that the smallest are backwards. */
		EXPECT_EQ(lane_next(&t.r, &head, &body), LANE_RECORD);
		lane_take(&t.r, &head);
		lane_release(&t.r);
		EXPECT(lane_reserve(&t.w, 1024));
		atomic_store(&t.r.consumer->tail, wrong[i]);
		EXPECT(!lane_reserve(&t.w, 1024));
		EXPECT(t.w.broken);
		EXPECT(!lane_reserve_or_want(&t.w, 1024));
	}
	/* Taken before it was published. */
	lane_again(&t, SIZE);
	for (unsigned int i = 0; lane_reserve(&t.w, 1024); i++) {
		if (i == 2)
			lane_publish(&t.w);
	}
	atomic_store(&t.r.consumer->tail, 8 * 1024);
	EXPECT(!lane_reserve(&t.w, 1024));
	EXPECT(t.w.broken);
	lane_shut(&t);
}

static _Atomic bool stop;

/* Writes at random over all that a writer can write to, while the reader reads. */
static void *scribbler(void *arg)
{
	struct test_lane *t = arg;
	uint64_t seed = test_seed(), head = 0;
	uint32_t *words = t->w_own.map;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint32_t r = test_random(&seed), size;

		switch (r % 64) {
		case 0:
			scribble_head(t, test_random(&seed));
			break;
		case 1:
			words[test_random(&seed) % ((SIZE + segment_page()) / 4)] = test_random(&seed);
			break;
		case 2:
			atomic_store(&t->w.producer->want, test_random(&seed));
			break;
		case 3:
			head = atomic_load(&((struct lane_consumer *)t->r_peer.map)->tail);
			scribble_head(t, head);
			break;
		default:
			/* Something that is right, or nearly. */
			size = test_random(&seed) % 200;
			scribble_at(t, head)->size = r & 0x700 ? size : test_random(&seed) % 40000;
			scribble_at(t, head)->zero = (r & 0xff000) == 0;
			head += lane_space(size);
			scribble_head(t, head);
		}
	}
	return NULL;
}

static void scribbled(void)
{
	unsigned long good = 0, broken = 0, rounds = test_rounds(2000000);
	struct test_lane t;
	pthread_t other;
	unsigned int sum = 0;

	if (!lane_open(&t, SIZE))
		return;
	atomic_store(&stop, false);
	pthread_create(&other, NULL, scribbler, &t);
	/* As long as it takes until there was some of each. */
	for (unsigned long i = 0; i < rounds || !good || !broken; i++) {
		struct record head;
		const void *body;

		switch (lane_next(&t.r, &head, &body)) {
		case LANE_EMPTY:
			break;
		case LANE_BROKEN:
			broken++;
			/* As if a new peer had come, which begins where the last one got to. */
			lane_reader_init(&t.r, t.r.producer, t.r.data, t.r.consumer, SIZE);
			t.r.tail = t.r.head = t.r.released = atomic_load(&t.r.producer->head) & ~UINT64_C(15);
			break;
		case LANE_RECORD:
			good++;
			if (!EXPECT(head.size <= lane_record_max(SIZE)) ||
			    !EXPECT((const char *)body >= (char *)t.w_peer.map + segment_page()) ||
			    !EXPECT((const char *)body + head.size <= (char *)t.w_peer.map + t.w_peer.length))
				goto out;
			for (uint32_t at = 0; at < head.size; at++)
				sum += ((const volatile unsigned char *)body)[at];
			lane_take(&t.r, &head);
			EXPECT(t.r.head - t.r.tail <= SIZE);
			if (good % 16 == 0)
				lane_release(&t.r);
		}
		if (i % 4096 == 0)
			sched_yield();
	}
out:
	atomic_store(&stop, true);
	pthread_join(other, NULL);
	test_note("%lu records and %lu breaks believed (%u)", good, broken, sum & 1);
	EXPECT(good && broken);
	lane_shut(&t);
}

/* Who was handed a segment cannot take it away from, or write into, what the other reads. */
static void sealed(void)
{
	struct test_lane t;
	size_t page = segment_page();

	if (!lane_open(&t, SIZE))
		return;
	EXPECT(ftruncate(t.w_fd, 0) && errno == EPERM);
	EXPECT(ftruncate(t.w_fd, (off_t)(page + 2 * SIZE)) && errno == EPERM);
	EXPECT(fallocate(t.w_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page) && errno == EPERM);
	EXPECT(write(t.w_fd, "x", 1) < 0 && errno == EPERM);
	EXPECT(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, t.w_fd, 0) == MAP_FAILED && errno == EPERM);
	EXPECT(mprotect(t.w_peer.map, page, PROT_READ | PROT_WRITE) && errno == EACCES);
	EXPECT(fcntl(t.w_fd, F_ADD_SEALS, F_SEAL_WRITE) && errno == EPERM);
	/* Its maker still can. */
	scribble_head(&t, 16);
	EXPECT_EQ(atomic_load(&t.r.producer->head), 16);
	lane_shut(&t);
}

static int memfd(unsigned int flags, off_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | flags);

	if (fd >= 0 && (ftruncate(fd, size) || (seals && fcntl(fd, F_ADD_SEALS, seals)))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void refused(int fd, size_t size)
{
	struct segment g = { NULL, 0 };

	if (!EXPECT(fd >= 0))
		return;
	EXPECT_EQ(segment_take(&g, fd, size, size), -EPROTO);
	EXPECT(!g.map);
	close(fd);
}

/* Only what cannot shrink or be written by anybody new is mapped. */
static void unsealed(void)
{
	int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
	off_t page = (off_t)segment_page();
	int pipes[2], fd;
	struct segment g;

	refused(memfd(0, page, 0), (size_t)page);
	refused(memfd(MFD_ALLOW_SEALING, page, 0), (size_t)page);
	refused(memfd(MFD_ALLOW_SEALING, page, all & ~F_SEAL_SHRINK), (size_t)page);
	refused(memfd(MFD_ALLOW_SEALING, page, all & ~F_SEAL_GROW), (size_t)page);
	refused(memfd(MFD_ALLOW_SEALING, page, all & ~F_SEAL_SEAL), (size_t)page);
	refused(memfd(MFD_ALLOW_SEALING, page, all & ~F_SEAL_FUTURE_WRITE), (size_t)page);
	refused(memfd(MFD_ALLOW_SEALING, 2 * page, all), (size_t)page);
	refused(memfd(MFD_ALLOW_SEALING, page - 1, all), (size_t)page);
	refused(memfd(MFD_ALLOW_SEALING, 0, all), (size_t)page);
	refused(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), (size_t)page);
	refused(eventfd(0, EFD_CLOEXEC), (size_t)page);
	if (EXPECT(!pipe(pipes))) {
		refused(pipes[0], (size_t)page);
		close(pipes[1]);
	}
	/* Of huge pages there may be none when it is touched. */
	fd = memfd(MFD_ALLOW_SEALING | MFD_HUGETLB, 2 << 20, all);
	if (fd >= 0)
		refused(fd, 2 << 20);
	fd = memfd(MFD_ALLOW_SEALING, page, all);
	EXPECT_EQ(segment_take(&g, fd, (size_t)page, (size_t)page), 0);
	segment_drop(&g);
	close(fd);
}

static void what_rings(void)
{
	int fd = eventfd(0, EFD_CLOEXEC), pipes[2];

	EXPECT(is_eventfd(fd));
	EXPECT(!is_eventfd(0));
	EXPECT(!is_eventfd(-1));
	if (EXPECT(!pipe(pipes))) {
		EXPECT(!is_eventfd(pipes[1]));
		close(pipes[0]);
		close(pipes[1]);
	}
	close(fd);
}

int main(void)
{
	selftest_case("a head that cannot be", heads);
	selftest_case("records that cannot be", records);
	selftest_case("a tail that cannot be", tails);
	selftest_case("scribbling while it is read", scribbled);
	selftest_case("memory stays", sealed);
	selftest_case("memory that would not stay is refused", unsealed);
	selftest_case("only an eventfd is written to", what_rings);
	return selftest_done();
}
