// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Host names: getaddrinfo on a thread. A lookup can't be taken back, so at the deadline it is left to end by itself,
 * and what it works on is the thread's.
 */
#include "io/request.h"
#include "sched/blocking.h"

#include <arpa/inet.h>
#include <errno.h>
#include <mote/net.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lookup {
	_Atomic int refs;		/* the asker, and the thread once it has begun */
	struct addrinfo *found;
	char service[8];
	char host[];
};

static void lookup_put(struct lookup *l)
{
	/* acq_rel: the last one frees what the other has written */
	if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) > 1)
		return;
	if (l->found)
		freeaddrinfo(l->found);
	free(l);
}

static int64_t lookup_run(void *arg)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct lookup *l = arg;
	int err = getaddrinfo(l->host, l->service, &hints, &l->found);

	lookup_put(l);
	switch (err) {
	case 0:
		return 0;
	case EAI_NONAME:
	case EAI_NODATA:
	case EAI_ADDRFAMILY:
		return -ENOENT;
	case EAI_AGAIN:
		return -EAGAIN;
	case EAI_MEMORY:
		return -ENOMEM;
	}
	return -EIO;
}

static int lookup_results(const struct lookup *l, struct mote_addr *addrs, int max)
{
	int n = 0;

	for (const struct addrinfo *a = l->found; a && n < max; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(addrs[n].sa))
			continue;
		memset(&addrs[n], 0, sizeof(addrs[n]));
		memcpy(&addrs[n].sa, a->ai_addr, a->ai_addrlen);
		addrs[n++].len = a->ai_addrlen;
	}
	return n;
}

int mote_resolve(const char *host, unsigned short port, struct mote_addr *addrs, int max, mote_deadline deadline)
{
	struct lookup *l = NULL;
	int64_t result = 0;
	struct call c;
	int err;

	err = call_begin(&c, "mote_resolve", deadline);
	if (!err && max < 1)
		err = -EINVAL;
	if (!err) {
		l = calloc(1, sizeof(*l) + strlen(host) + 1);
		if (!l)
			err = -ENOMEM;
	}
	if (err)
		return (int)call_end(&c, err);
	atomic_init(&l->refs, 2);
	strcpy(l->host, host);
	snprintf(l->service, sizeof(l->service), "%u", port);
	err = blocking_run(lookup_run, l, &result, c.deadline);
	if (err == -EINTR)
		c.die = true;
	/* Only what never ran has not let go of it; an ended or running job has, or will. */
	if (err == -ETIMEDOUT || err == -EAGAIN || (err == -EINTR && atomic_load(&l->refs) == 2))
		lookup_put(l);
	if (err == -EINPROGRESS)
		err = -ETIMEDOUT;
	if (!err)
		err = (int)result;
	if (!err)
		err = lookup_results(l, addrs, max);
	lookup_put(l);
	return (int)call_end(&c, err);
}
