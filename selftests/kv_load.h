/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kv_load.h: a load that knows what the server promised, and can tell later whether it was kept.
 *
 * Each connection owns its keys. Every change of a key has a number; the value (its length, its bytes, or that
 * the key is removed) follows from connection, key and number alone. So after any crash a key must hold
 * exactly the value of some number between the last one acknowledged and the last one sent: a lost change, a
 * torn value and one from somewhere else all show. Each connection has a counter (INCR) and a list (APPEND)
 * besides, which also show a change that was applied twice.
 *
 * Plain sockets and threads: it stands outside the server and shares no code with it.
 */
#ifndef KV_LOAD_H
#define KV_LOAD_H

#include "kv_client.h"
#include <pthread.h>

#define LOAD_KEYS 64		/* of them: key 0 is the counter, key 1 the list */
#define LOAD_PIPELINE 16

struct load_key {
	unsigned int acked, sent;
};

struct load_connection {
	struct load *load;
	int number;
	struct load_key keys[LOAD_KEYS];
	unsigned long changes;	/* acknowledged in all */
	double worst;		/* seconds until the replies to one batch had come */
	bool cut;		/* it ended before load_stop */
	char trouble[200];	/* a reply that was neither right nor an end of the connection */
};

struct load {
	int port, count;
	int others;		/* keys that are not ours */
	_Atomic bool stop;
	bool unsure;		/* a change that may be made or not is no error: it is looked up */
	_Atomic int looked_up;
	bool aloud;		/* each acknowledgement is printed, at once */
	pthread_t *threads;
	struct load_connection *connections;
};

static inline unsigned long long load_mix(unsigned long long x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

/* The value of change `number`: its size, or -1 when the change removes the key. `text` holds 20,000. */
static inline int load_value(int connection, int key, unsigned int number, char *text)
{
	unsigned long long state =
		load_mix(connection * 1000003ULL + key * 10007ULL + number * 0x9e3779b97f4a7c15ULL);
	int size, used;

	if (!number || state % 16 == 0)
		return -1;
	size = state / 16 % 64 == 0 ? 20000 - 1 : state / 1024 % 400;
	used = sprintf(text, "%d.%d.%u:", connection, key, number);
	/* Any bytes, line ends and zeros included. */
	for (; used < size; used++)
		text[used] = (char)(state = load_mix(state + used));
	return used;
}

static inline int load_key_name(int connection, int key, char *text)
{
	return sprintf(text, "load:%d:%d", connection, key);
}

/* Writes the next change of a key as a command; returns its size. */
static inline size_t load_command(struct load_connection *self, int key, char *text)
{
	unsigned int number = ++self->keys[key].sent;
	char name[40], value[20000];
	int name_size = load_key_name(self->number, key, name), size;

	if (key == 0)
		return sprintf(text, "*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n", name_size, name);
	if (key == 1) {
		size = sprintf(value, "%u,", number);
		return sprintf(text, "*3\r\n$6\r\nAPPEND\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", name_size, name, size,
			       value);
	}
	size = load_value(self->number, key, number, value);
	if (size < 0)
		return sprintf(text, "*2\r\n$3\r\nDEL\r\n$%d\r\n%s\r\n", name_size, name);
	name_size = sprintf(text, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n", name_size, name, size);
	memcpy(text + name_size, value, size);
	memcpy(text + name_size + size, "\r\n", 2);
	return name_size + size + 2;
}

/* One write: lines of several connections don't mix. */
static inline void load_say(const struct load_connection *self, int key)
{
	char line[48];
	int size = sprintf(line, "acked %d %d %u\n", self->number, key, self->keys[key].acked);

	if (write(STDOUT_FILENO, line, size) != size)
		exit(1);
}

static inline long load_found(const struct load_connection *self, int key, const char *reply, size_t size);

/* What becomes of a change that nobody answered for: nothing is gone that was acknowledged, and what is there was sent. */
static inline bool load_look_up(struct load_connection *self, struct client *client, int key)
{
	struct load_key *state = &self->keys[key];
	char name[40];
	const char *reply;
	long found;

	load_key_name(self->number, key, name);
	reply = client_call(client, "GET %s", name);
	found = reply ? load_found(self, key, reply, client->reply_size) : -1;
	if (found < 0) {
		snprintf(self->trouble, sizeof(self->trouble), "%s: acknowledged %u, sent %u, found %.100s", name,
			 state->acked, state->sent, reply ? shown(reply, client->reply_size) : "no reply");
		return false;
	}
	state->acked = state->sent = found;
	self->load->looked_up++;
	return true;
}

static inline bool load_batch(struct load_connection *self, struct client *client, unsigned long long *state,
			      char *text)
{
	int keys[LOAD_PIPELINE], count = (*state = load_mix(*state + 1)) % LOAD_PIPELINE + 1;
	unsigned int numbers[LOAD_PIPELINE];
	bool unsure[LOAD_KEYS] = { false };
	size_t size = 0;

	for (int i = 0; i < count; i++) {
		*state = load_mix(*state + i + 2);
		keys[i] = *state % 8 ? *state / 8 % LOAD_KEYS : *state / 8 % 2;
		/* Of two additions to the list the first may come to nothing, and the second not: then it had a gap. */
		for (int k = 0; k < i && self->load->unsure && keys[i] == 1; k++)
			keys[i] = keys[k] == 1 ? 2 : 1;
		size += load_command(self, keys[i], text + size);
		numbers[i] = self->keys[keys[i]].sent;
	}
	if (!client_send(client, text, size))
		return false;
	for (int i = 0; i < count; i++) {
		const char *reply = client_reply(client);

		if (!reply)
			return false;
		unsure[keys[i]] |= self->load->unsure && !strncmp(reply, "-TRYAGAIN ", 10);
		if (unsure[keys[i]])
			continue;
		if (reply[0] == '-') {
			snprintf(self->trouble, sizeof(self->trouble), "%s", shown(reply, strlen(reply)));
			return false;
		}
		self->keys[keys[i]].acked = numbers[i];
		self->changes++;
		if (self->load->aloud)
			load_say(self, keys[i]);
	}
	for (int key = 0; key < LOAD_KEYS; key++)
		if (unsure[key] && !load_look_up(self, client, key))
			return false;
	return true;
}

static inline void *load_thread(void *arg)
{
	struct load_connection *self = arg;
	struct client *client = client_try(self->load->port);
	unsigned long long state = load_mix(self->number + 7919ULL * (self->changes + self->keys[0].sent));
	char *text = malloc(LOAD_PIPELINE * 21000);

	while (client && !atomic_load(&self->load->stop)) {
		double begun = seconds_now(), took;

		self->cut = !load_batch(self, client, &state, text);
		if (self->cut)
			break;
		took = seconds_now() - begun;
		self->worst = took > self->worst ? took : self->worst;
	}
	if (client)
		client_close(client);
	free(text);
	return NULL;
}

static inline void load_init(struct load *load, int count)
{
	load->count = count;
	load->threads = calloc(count, sizeof(*load->threads));
	load->connections = calloc(count, sizeof(*load->connections));
	for (int i = 0; i < count; i++) {
		load->connections[i].number = i;
		load->connections[i].load = load;
	}
}

static inline void load_free(struct load *load)
{
	free(load->threads);
	free(load->connections);
}

/* All connections work until the server goes away or load_stop. */
static inline void load_start(struct load *load, int port)
{
	load->port = port;
	atomic_store(&load->stop, false);
	for (int i = 0; i < load->count; i++)
		if (pthread_create(&load->threads[i], NULL, load_thread, &load->connections[i])) {
			perror("pthread_create");
			exit(1);
		}
}

/* Waits for the server's end. Returns the changes acknowledged so far, over all starts. */
static inline unsigned long load_wait(struct load *load)
{
	unsigned long changes = 0;

	for (int i = 0; i < load->count; i++) {
		pthread_join(load->threads[i], NULL);
		changes += load->connections[i].changes;
		if (load->connections[i].trouble[0]) {
			selftest_complain(__FILE__, __LINE__, "an error for a change");
			printf("#   %s\n", load->connections[i].trouble);
			load->connections[i].trouble[0] = 0;
		}
	}
	return changes;
}

static inline int load_cuts(const struct load *load)
{
	int cuts = 0;

	for (int i = 0; i < load->count; i++)
		cuts += load->connections[i].cut;
	return cuts;
}

static inline double load_worst_ms(const struct load *load)
{
	double worst = 0;

	for (int i = 0; i < load->count; i++)
		worst = load->connections[i].worst > worst ? load->connections[i].worst : worst;
	return worst * 1e3;
}

static inline unsigned long load_stop(struct load *load)
{
	atomic_store(&load->stop, true);
	return load_wait(load);
}

/* True when the list holds "1,2,...,n," for its n; *number gets n. */
static inline bool load_list_right(const char *text, size_t size, unsigned int *number)
{
	char part[16];
	size_t used = 0;

	for (*number = 0; used < size; ++*number) {
		int length = sprintf(part, "%u,", *number + 1);

		if (size - used < (size_t)length || memcmp(text + used, part, length))
			return false;
		used += length;
	}
	return true;
}

/*
 * Finds which change the reply to GET shows: one of acked..sent, or -1. A key that is not there may be so by
 * any of the removals between; the earliest is taken.
 */
static inline long load_found(const struct load_connection *self, int key, const char *reply, size_t size)
{
	const struct load_key *state = &self->keys[key];
	const char *text = strchr(reply, '\n') + 1;
	bool none = !strcmp(reply, "$-1\r\n") || !strcmp(reply, "_\r\n");
	char value[20000];
	unsigned int number;

	if (reply[0] != '$' && !none)
		return -1;
	size -= none ? 0 : text - reply + 2;
	if (key < 2) {
		if (none)
			number = 0;
		else if (key == 0)
			number = strtoul(text, NULL, 10);
		else if (!load_list_right(text, size, &number))
			return -1;
		return number >= state->acked && number <= state->sent ? (long)number : -1;
	}
	for (number = state->acked; number <= state->sent; number++) {
		int wanted = load_value(self->number, key, number, value);

		if (none ? wanted < 0 : (wanted >= 0 && size == (size_t)wanted && !memcmp(text, value, size)))
			return number;
	}
	return -1;
}

/*
 * Compares every key with what was promised, and counts the keys, so that none is there that should not be.
 * What is found is what the next round starts from. Returns the number of keys that are wrong.
 */
static inline int load_check(struct load *load, int port)
{
	struct client *client = client_open(port);
	int wrong = 0, present = 0;
	char name[40], size[40];
	const char *reply;

	for (int i = 0; i < load->count; i++) {
		struct load_connection *self = &load->connections[i];

		for (int key = 0; key < LOAD_KEYS; key++) {
			struct load_key *state = &self->keys[key];
			long found;

			load_key_name(i, key, name);
			reply = client_call(client, "GET %s", name);
			found = reply ? load_found(self, key, reply, client->reply_size) : -1;
			if (found < 0) {
				if (wrong++ < 5)
					printf("# %s: acknowledged %u, sent %u, found %s\n", name,
					       state->acked, state->sent,
					       reply ? shown(reply, client->reply_size) : "no reply");
				continue;
			}
			present += reply[0] == '$' && reply[1] != '-';
			state->acked = state->sent = found;
		}
	}
	snprintf(size, sizeof(size), ":%d\r\n", present + load->others);
	reply = client_call(client, "DBSIZE");
	if (!wrong && (!reply || strcmp(reply, size))) {
		printf("# DBSIZE: %s, but %d keys are there\n",
		       reply ? shown(reply, strlen(reply)) : "no reply", present);
		wrong++;
	}
	client_close(client);
	return wrong;
}

#define EXPECT_KEPT(load, port) EXPECT(load_check(load, port) == 0)

#endif
