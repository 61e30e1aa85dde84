// SPDX-License-Identifier: MIT OR GPL-2.0
#include "sched/chance.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

static uint64_t seed;
static bool seeded;

int chance_start(void)
{
	const char *env = getenv("MOTE_SEED");
	char *end;

	seeded = env && *env;
	seed = 0;
	if (!seeded)
		return 0;
	errno = 0;
	seed = strtoull(env, &end, 0);
	if (!isdigit((unsigned char)*env) || *end || errno)
		return -EINVAL;
	return 0;
}

bool chance_seeded(uint64_t *to)
{
	if (to)
		*to = seed;
	return seeded;
}

void chance_init(struct chance *c, unsigned int stream)
{
	struct chance mix = { .state = seed };

	c->state = chance_next(&mix) ^ (stream + 1) * UINT64_C(0xd1342543de82ef95);
}
