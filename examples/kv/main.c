/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Settings, and the beginning.
 */
#include "kv.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct kv kv = {
	.port = 6379, .bind = "127.0.0.1", .dir = ".", .file = "appendonly.aof",
	.fsync = FSYNC_EVERYSEC, .max_clients = 10000,
};

static const char *const yes_no[] = { "no", "yes", NULL };
static const char *const fsyncs[] = { "no", "everysec", "always", NULL };

static const struct setting {
	const char *name;
	char *text;			/* either a text, */
	_Atomic int *number;		/* or a number, */
	const char *const *words;	/* that may have names */
	int min, max;			/* max 0: cannot be set */
	bool runtime;			/* can be, at any time */
} settings[] = {
	{ "port", NULL, &kv.port, NULL, 0, 65535, false },
	{ "bind", kv.bind, NULL, NULL, 0, sizeof(kv.bind), false },
	{ "dir", kv.dir, NULL, NULL, 0, sizeof(kv.dir), false },
	{ "appendonly", NULL, &kv.append_only, yes_no, 0, 1, false },
	{ "appendfilename", kv.file, NULL, NULL, 0, FILE_NAME_MAX, false },
	{ "appendfsync", NULL, &kv.fsync, fsyncs, 0, 2, true },
	{ "maxclients", NULL, &kv.max_clients, NULL, 1, 1000000, true },
	{ "shards", NULL, &kv.shards, NULL, 1, SHARDS_MAX, false },
	{ "nodes", NULL, &kv.nodes, NULL, 0, SHARDS_MAX, false },
	{ "save", "", NULL, NULL, 0, 0, false },
	{ "databases", "1", NULL, NULL, 0, 0, false },
	{ "maxmemory", "0", NULL, NULL, 0, 0, false },
	{ "proto-max-bulk-len", "536870912", NULL, NULL, 0, 0, false },
	{ 0 },
};

const char *config_set(const struct arg *name, const struct arg *value, bool at_start)
{
	const struct setting *s = settings;
	int64_t n = -1;

	while (s->name && !arg_is(name, s->name))
		s++;
	if (!s->name)
		return "there is no such setting";
	if (!s->max || (!at_start && !s->runtime))
		return "can't set immutable config";
	for (int i = 0; s->words && s->words[i]; i++)
		n = arg_is(value, s->words[i]) ? i : n;
	if (!s->words)
		parse_int(value->p, value->len, &n);
	if (s->text ? value->len >= (uint32_t)s->max : n < s->min || n > s->max)
		return "not a value that it can have";
	if (s->text)
		snprintf(s->text, s->max, "%s", value->p);
	else
		*s->number = n;
	return NULL;
}

int config_get(struct out *o, const struct arg *pattern)
{
	int n = 0;

	for (const struct setting *s = settings; s->name; s++) {
		char number[24];
		const char *value = s->text ? s->text : s->words ? s->words[*s->number] : number;

		if (!glob_match(pattern->p, pattern->len, s->name, strlen(s->name)))
			continue;
		if (value == number)
			number[print_int(number, *s->number)] = 0;
		out_bulk(o, s->name, strlen(s->name));
		out_bulk(o, value, strlen(value));
		n++;
	}
	return n;
}

void kv_log(const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fprintf(stderr, "kv[%d]: %s\n", getpid(), text);
}

void *kv_realloc(void *p, size_t size)
{
	p = mote_realloc(p, size);
	if (!p)
		mote_exit(mote_reason_error(ENOMEM, "no memory"));
	return p;
}

int64_t kv_time_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* Two at once are no data race. */
__attribute__((no_sanitize("thread")))
void kv_crash(void)
{
	volatile int *volatile nowhere = NULL;

	*nowhere = 1;
}

static void report(int level, const char *text, void *arg)
{
	(void)arg;
	if (level <= MOTE_LOG_WARNING)
		kv_log("%s", text);
}

int main(int argc, char **argv)
{
	struct mote_opts opts = { .size = sizeof(opts), .log = report };
	struct rlimit files;

	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	command_init();
	if (argc == 2 && !strcmp(argv[1], NODE_ARGUMENT))
		return node_host(&opts);
	for (int i = 1; i < argc; i += 2) {
		const char *error = "give settings as --NAME VALUE: port bind dir appendonly appendfilename appendfsync "
				    "maxclients shards nodes";

		if (!strncmp(argv[i], "--", 2) && i + 1 < argc)
			error = config_set(&(struct arg){ argv[i] + 2, strlen(argv[i] + 2) },
					   &(struct arg){ argv[i + 1], strlen(argv[i + 1]) }, true);
		if (error) {
			fprintf(stderr, "kv: %s: %s\n", argv[i], error);
			return 2;
		}
	}
	if (chdir(kv.dir)) {
		perror(kv.dir);
		return 1;
	}
	key_hash_init();
	if (kv.nodes)
		node_name();
	return mote_run(supervisor_main, NULL, &opts) != 0;
}
