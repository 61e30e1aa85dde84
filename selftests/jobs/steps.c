/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * jobs, to be killed: linked with all of examples/jobs, and with these in the place of its weak functions.
 *   JOBS_DIE="OPERATION.WHEN[.N]"  kill -9 of itself when it comes there (for the Nth time)
 *   JOBS_STEPS=FILE                notes each place that it comes to
 *   JOBS_CLOCK=FILE                what is added to the time, in milliseconds, is in there
 */
#include "../../examples/jobs/jobs.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

int64_t jobs_time_ms(void)
{
	const char *path = getenv("JOBS_CLOCK");
	FILE *file = path ? fopen(path, "re") : NULL;
	struct timespec now;
	long long more = 0;

	if (file) {
		if (fscanf(file, "%lld", &more) != 1)
			more = 0;
		fclose(file);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000 + more;
}

void jobs_step(const char *operation, const char *when)
{
	const char *die = getenv("JOBS_DIE"), *notes = getenv("JOBS_STEPS");
	static _Atomic int seen;
	char step[64];
	size_t length = snprintf(step, sizeof(step), "%s.%s", operation, when);

	if (notes) {
		int fd = open(notes, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

		step[length] = '\n';
		if (fd < 0 || write(fd, step, length + 1) != (ssize_t)length + 1)
			abort();
		close(fd);
		step[length] = 0;
	}
	if (!die || strncmp(die, step, length) || (die[length] && die[length] != '.'))
		return;
	if (++seen >= (die[length] ? atoi(die + length + 1) : 1))
		kill(getpid(), SIGKILL);
}
