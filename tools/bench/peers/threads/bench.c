/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the same things cost with plain OS threads: a reference, not a rival. usage: bench NAME */
#include "../peer.h"

#include <gnu/libc-version.h>
#include <pthread.h>
#include <string.h>

#define BATCH 1000
#define BACKLOG 1024
#define BURST 100000
#define WAVE 1000

/* A bounded queue of payloads. */
struct queue {
	pthread_mutex_t lock;
	pthread_cond_t some, room;
	unsigned int head, n;
	struct payload item[BACKLOG];
};

#define QUEUE { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, { { { 0 } } } }

static struct queue to = QUEUE, fro = QUEUE;

static void put(struct queue *q, struct payload p)
{
	pthread_mutex_lock(&q->lock);
	while (q->n == BACKLOG)
		pthread_cond_wait(&q->room, &q->lock);
	q->item[(q->head + q->n++) % BACKLOG] = p;
	pthread_cond_signal(&q->some);
	pthread_mutex_unlock(&q->lock);
}

static struct payload get(struct queue *q)
{
	struct payload p;

	pthread_mutex_lock(&q->lock);
	while (q->n == 0)
		pthread_cond_wait(&q->some, &q->lock);
	p = q->item[q->head++ % BACKLOG];
	q->n--;
	pthread_cond_signal(&q->room);
	pthread_mutex_unlock(&q->lock);
	return p;
}

static void *pong(void *arg)
{
	(void)arg;
	for (;;) {
		struct payload p = get(&to);

		put(&fro, payload_of(seed_of(&p) + 1));
	}
	return NULL;
}

static void pingpong(void)
{
	struct peer_run run;
	uint64_t seed = 0;
	pthread_t t;

	pthread_create(&t, NULL, pong, NULL);
	run = peer_begin();
	do {
		for (int i = 0; i < BATCH; i++) {
			struct payload p;

			put(&to, payload_of(seed));
			p = get(&fro);
			peer_check(seed_of(&p) == ++seed, "the pong is right");
		}
	} while (peer_more(&run, BATCH));
	peer_end(&run, "pingpong");
}

static void *flooder(void *arg)
{
	(void)arg;
	for (;;) {
		for (int i = 0; i < BURST; i++)
			put(&to, payload_of(i));
	}
	return NULL;
}

static void flood(void)
{
	struct peer_run run;
	pthread_t t;

	pthread_create(&t, NULL, flooder, NULL);
	run = peer_begin();
	do {
		for (uint64_t i = 0; i < BURST; i++) {
			struct payload p = get(&to);

			peer_check(seed_of(&p) == i, "the messages come whole and in order");
		}
	} while (peer_more(&run, BURST));
	peer_end(&run, "flood");
}

static void *count(void *arg)
{
	__atomic_add_fetch((long *)arg, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void spawn(void)
{
	static pthread_t threads[WAVE];
	struct peer_run run = peer_begin();

	do {
		long ran = 0;

		for (int i = 0; i < WAVE; i++)
			peer_check(!pthread_create(&threads[i], NULL, count, &ran), "a thread can be had");
		for (int i = 0; i < WAVE; i++)
			pthread_join(threads[i], NULL);
		peer_check(ran == WAVE, "all have run");
	} while (peer_more(&run, WAVE));
	peer_end(&run, "spawn");
}

static void spawn_monitor(void)
{
	struct peer_run run = peer_begin();

	do {
		long ran = 0;
		pthread_t t;

		peer_check(!pthread_create(&t, NULL, count, &ran), "a thread can be had");
		pthread_join(t, NULL);
		peer_check(ran == 1, "it has run");
	} while (peer_more(&run, 1));
	peer_end(&run, "spawn_monitor");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {
		{ "pingpong", pingpong }, { "flood", flood }, { "spawn", spawn }, { "spawn_monitor", spawn_monitor },
	};

	if (argc == 2 && !strcmp(argv[1], "version")) {
		printf("glibc %s\n", gnu_get_libc_version());
		return 0;
	}
	for (size_t i = 0; argc == 2 && i < sizeof(all) / sizeof(all[0]); i++) {
		if (!strcmp(all[i].name, argv[1])) {
			all[i].run();
			fflush(stdout);
			_exit(0);
		}
	}
	return 2;
}
