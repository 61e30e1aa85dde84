/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The beginning, and what everybody uses.
 */
#include "jobs.h"

#include <limits.h>
#include <time.h>

struct settings settings = { .lease_ms = 30000, .poll_ms = 1000 };

void jobs_log(const char *format, ...)
{
	char text[NOTE_MAX + 300];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fprintf(stderr, "jobs[%d]: %s\n", getpid(), text);
}

__attribute__((weak)) int64_t jobs_time_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

__attribute__((weak)) void jobs_step(const char *operation, const char *when)
{
	(void)operation, (void)when;
}

bool parse_span(const char *text, int64_t *ms)
{
	static const struct unit {
		const char *name;
		int64_t ms;
	} units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
	char *end;
	long n = strtol(text, &end, 10);

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		*ms = n * units[i].ms;
		if (!strcmp(end, units[i].name))
			return end != text && n >= 0 && n <= 1000000000;
	}
	return false;
}

static bool parse_queue(const char *text)
{
	struct queue *q = &settings.queues[settings.nr_queues];
	size_t length = strcspn(text, ":");
	char *end = "";
	long n = text[length] ? strtol(text + length + 1, &end, 10) : 4;

	if (!length || length >= QUEUE_MAX || *end || n < 1 || n > 1000 || settings.nr_queues == QUEUES_MAX)
		return false;
	snprintf(q->name, sizeof(q->name), "%.*s", (int)length, text);
	q->workers = n;
	for (int i = 0; i < settings.nr_queues; i++)
		if (!strcmp(settings.queues[i].name, q->name))
			return false;
	settings.nr_queues++;
	return true;
}

/* serve DB [--queue NAME[:WORKERS]]... [--lease SPAN] [--poll SPAN] */
static bool parse_serve(int argc, char **argv)
{
	if (argc < 3 || argc % 2 == 0)
		return false;
	settings.path = argv[2];
	for (int i = 3; i < argc; i += 2) {
		if (!strcmp(argv[i], "--queue") && parse_queue(argv[i + 1]))
			continue;
		if (!strcmp(argv[i], "--lease") && parse_span(argv[i + 1], &settings.lease_ms) && settings.lease_ms >= 100)
			continue;
		if (!strcmp(argv[i], "--poll") && parse_span(argv[i + 1], &settings.poll_ms) && settings.poll_ms >= 1)
			continue;
		return false;
	}
	return settings.nr_queues || parse_queue("default");
}

static void report(int level, const char *text, void *arg)
{
	(void)arg;
	if (level <= MOTE_LOG_WARNING)
		jobs_log("%s", text);
}

int main(int argc, char **argv)
{
	struct mote_opts opts = { .size = sizeof(opts), .log = report };
	int status = 2;

	if (argc > 5 && !strcmp(argv[1], "--leash"))
		return leash_main(argv + 2);
	if (argc < 2 || strcmp(argv[1], "serve")) {
		status = command_main(argc, argv, &opts);
	} else if (parse_serve(argc, argv)) {
		char host[40] = "";

		gethostname(host, sizeof(host) - 1);
		snprintf(settings.owner, sizeof(settings.owner), "%s:%d", host, getpid());
		status = mote_run(serve_main, NULL, &opts) ? 1 : settings.status;
	}
	if (status == 2)
		fputs("usage: jobs serve DB [--queue NAME[:WORKERS]]... [--lease SPAN] [--poll SPAN]\n"
		      "       jobs enqueue DB QUEUE [OPTION]... -- COMMAND [ARGUMENT]...\n"
		      "       jobs cron add DB SCHEDULE QUEUE [OPTION]... -- COMMAND [ARGUMENT]...\n"
		      "       jobs cron list DB | cron remove DB ID\n"
		      "       jobs list DB [STATE] | dead DB | stats DB\n"
		      "       jobs show DB ID | retry DB ID | cancel DB ID | prune DB SPAN\n"
		      "options: --attempts N --backoff SPAN --timeout SPAN --delay SPAN --priority N (smaller: sooner)\n"
		      "a SPAN is 250ms, 30s, 5m, 2h or 7d; a STATE waiting, executing, completed, dead or cancelled\n", stderr);
	return status;
}
