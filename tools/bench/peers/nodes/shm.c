/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The twin that an expert would write for just this: a ring of 1 MiB in shared memory each way, published in batches, and
 * an eventfd for who sleeps. No processes, no names, no order with anything else, no defence against the other side.
 * usage: shm node_pingpong|node_pingpong_one|node_stream_64|node_stream_4k
 */
#include "nodes.h"

#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define BYTES (1u << 20)
#define PUBLISH 32		/* messages */
#define SPINS 20000

struct ring {
	_Atomic uint64_t head __attribute__((aligned(128)));
	_Atomic int reader_sleeps __attribute__((aligned(128)));
	_Atomic uint64_t tail __attribute__((aligned(128)));
	_Atomic int writer_sleeps __attribute__((aligned(128)));
	unsigned char data[BYTES] __attribute__((aligned(4096)));
};

static struct ring *rings;
static int some[2], room[2];
/* Each side's own, per way. */
static struct {
	uint64_t head, tail_seen, tail, head_seen;
	unsigned int held, taken;
} own[2];

void carrier_open(void)
{
	rings = mmap(NULL, 2 * sizeof(*rings), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	peer_check(rings != MAP_FAILED, "memory can be shared");
	for (int i = 0; i < 2; i++) {
		some[i] = eventfd(0, EFD_CLOEXEC);
		room[i] = eventfd(0, EFD_CLOEXEC);
	}
}

static void wake(_Atomic int *sleeps, int fd)
{
	/* seq_cst: after what was published, before this look; the sleeper does the reverse */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(sleeps, memory_order_relaxed))
		eventfd_write(fd, 1);
}

/* Until *index differs from seen. */
static uint64_t wait_for(_Atomic uint64_t *index, uint64_t seen, _Atomic int *sleeps, int fd)
{
	uint64_t now;
	eventfd_t n;

	for (int i = spins ? SPINS : 1; i; i--) {
		now = atomic_load_explicit(index, memory_order_acquire);
		if (now != seen)
			return now;
#ifdef __x86_64__
		__builtin_ia32_pause();
#endif
	}
	for (;;) {
		atomic_store(sleeps, 1);
		atomic_thread_fence(memory_order_seq_cst);
		now = atomic_load_explicit(index, memory_order_acquire);
		if (now != seen)
			break;
		eventfd_read(fd, &n);
	}
	atomic_store_explicit(sleeps, 0, memory_order_relaxed);
	return now;
}

void carrier_flush(int way)
{
	struct ring *r = &rings[way];

	atomic_store_explicit(&r->head, own[way].head, memory_order_release);
	own[way].held = 0;
	wake(&r->reader_sleeps, some[way]);
}

/* Sizes divide the ring's: nothing wraps. */
void carrier_send(int way, const void *data, size_t size)
{
	struct ring *r = &rings[way];

	if (own[way].head - own[way].tail_seen + size > BYTES) {
		carrier_flush(way);
		own[way].tail_seen = wait_for(&r->tail, own[way].tail_seen, &r->writer_sleeps, room[way]);
	}
	memcpy(r->data + own[way].head % BYTES, data, size);
	own[way].head += size;
	if (++own[way].held == PUBLISH)
		carrier_flush(way);
}

void carrier_receive(int way, void *data, size_t size)
{
	struct ring *r = &rings[way];

	if (own[way].tail == own[way].head_seen) {
		if (own[way].taken) {
			atomic_store_explicit(&r->tail, own[way].tail, memory_order_release);
			own[way].taken = 0;
			wake(&r->writer_sleeps, room[way]);
		}
		own[way].head_seen = wait_for(&r->head, own[way].head_seen, &r->reader_sleeps, some[way]);
	}
	memcpy(data, r->data + own[way].tail % BYTES, size);
	own[way].tail += size;
	own[way].taken++;
}

int main(int argc, char **argv)
{
	return nodes_main(argc, argv, __VERSION__);
}
