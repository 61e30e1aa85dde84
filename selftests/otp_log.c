// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The log: levels, filters, handlers, metadata, formatters; handlers that fail; reports of crashes.
 */
#include "otp/report.h"
#include "proc.h"
#include <mote/log.h>
#include <mote/server.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

/* A handler that remembers. */
static struct heard {
	pthread_mutex_t mutex;
	int n;
	_Atomic int removed;
	int level, report;
	char text[1024], metadata[1024];
	mote_pid pid;
	int line;
	int64_t time_us;
} heard = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static int hear(const struct mote_log_event *e, void *config)
{
	struct heard *h = config;

	pthread_mutex_lock(&h->mutex);
	h->n++;
	h->level = e->level;
	h->report = e->report;
	h->pid = e->pid;
	h->line = e->site ? e->site->line : 0;
	h->time_us = e->time_us;
	snprintf(h->text, sizeof(h->text), "%s", e->text);
	h->metadata[0] = 0;
	for (const struct mote_field *f = e->fields; f->key; f++) {
		size_t used = strlen(h->metadata);

		if (f->kind == MOTE_FIELD_TEXT)
			snprintf(h->metadata + used, sizeof(h->metadata) - used, "%s=%s;", f->key, f->value.text);
		else
			snprintf(h->metadata + used, sizeof(h->metadata) - used, "%s=%lld;", f->key,
				 (long long)f->value.integer);
	}
	pthread_mutex_unlock(&h->mutex);
	return 0;
}

static void count_removed(void *config)
{
	struct heard *h = config;

	h->removed++;
}

static int handler_add(const char *id, int level, int filter_default)
{
	memset((char *)&heard + offsetof(struct heard, n), 0, sizeof(heard) - offsetof(struct heard, n));
	return mote_log_handler_add(&(struct mote_log_handler){
		.size = sizeof(struct mote_log_handler), .id = id, .level = level, .filter_default = filter_default,
		.log = hear, .removed = count_removed, .config = &heard });
}

static int evaluated;

static int evaluate(void)
{
	return ++evaluated;
}

static void levels(void)
{
	static const char *const names[] = { "?", "emergency", "alert", "critical", "error", "warning", "notice", "info",
					     "debug", "?" };

	EXPECT_EQ(mote_log_level(), MOTE_LOG_NOTICE);
	for (int level = 0; level < 10; level++)
		EXPECT(!strcmp(mote_log_level_name(level), names[level]));
	EXPECT_EQ(handler_add("h", 0, 0), 0);
	mote_log(MOTE_LOG_INFO, "%d", evaluate());
	EXPECT_EQ(heard.n, 0);
	EXPECT_EQ(evaluated, 0);
	mote_log(MOTE_LOG_NOTICE, "%d", evaluate());
	EXPECT_EQ(heard.n, 1);
	EXPECT_EQ(evaluated, 1);
	EXPECT_EQ(heard.level, MOTE_LOG_NOTICE);
	for (int limit = MOTE_LOG_EMERGENCY; limit <= MOTE_LOG_ALL; limit++) {
		EXPECT_EQ(mote_log_set_level(limit), 0);
		for (int level = MOTE_LOG_EMERGENCY; level <= MOTE_LOG_DEBUG; level++) {
			heard.n = 0;
			mote_log(level, "x");
			EXPECT_EQ(heard.n, level <= limit);
			EXPECT_EQ(mote_log_enabled(level), level <= limit);
		}
	}
	heard.n = 0;
	EXPECT_EQ(mote_log_set_level(MOTE_LOG_NONE), 0);
	mote_log(MOTE_LOG_EMERGENCY, "x");
	EXPECT_EQ(heard.n, 0);
	EXPECT_EQ(mote_log_set_level(0), -EINVAL);
	EXPECT_EQ(mote_log_set_level(MOTE_LOG_ALL + 1), -EINVAL);
	EXPECT_EQ(mote_log_set_level(MOTE_LOG_NOTICE), 0);
	EXPECT_EQ(mote_log_handler_remove("h"), 0);
}

static void handlers(void)
{
	static struct heard other = { .mutex = PTHREAD_MUTEX_INITIALIZER };
	struct mote_log_handler h = { .size = sizeof(h), .id = "b", .log = hear, .config = &other, .removed = count_removed };

	EXPECT_EQ(handler_add("a", MOTE_LOG_ERROR, 0), 0);
	EXPECT_EQ(handler_add("a", 0, 0), -EEXIST);
	EXPECT_EQ(heard.removed, 0);
	EXPECT_EQ(mote_log_handler_add(&h), 0);
	mote_log(MOTE_LOG_WARNING, "one");
	EXPECT_EQ(heard.n, 0);
	EXPECT_EQ(other.n, 1);
	EXPECT_EQ(mote_log_handler_set_level("a", MOTE_LOG_WARNING), 0);
	mote_log(MOTE_LOG_WARNING, "two");
	EXPECT_EQ(heard.n, 1);
	EXPECT_EQ(other.n, 2);
	EXPECT_EQ(mote_log_handler_set_level("b", MOTE_LOG_NONE), 0);
	mote_log(MOTE_LOG_EMERGENCY, "three");
	EXPECT_EQ(other.n, 2);
	EXPECT_EQ(mote_log_handler_set_level("c", MOTE_LOG_INFO), -ENOENT);
	EXPECT_EQ(mote_log_handler_set_level("b", 77), -EINVAL);
	EXPECT_EQ(mote_log_handler_remove("c"), -ENOENT);
	EXPECT_EQ(mote_log_handler_remove("b"), 0);
	EXPECT_EQ(other.removed, 1);
	EXPECT_EQ(mote_log_handler_remove("a"), 0);
	EXPECT_EQ(heard.removed, 1);
	mote_log(MOTE_LOG_ERROR, "nobody");
	EXPECT_EQ(heard.n, 2);
	h.log = NULL;
	EXPECT_EQ(mote_log_handler_add(&h), -EINVAL);
	h.log = hear;
	h.level = -7;
	EXPECT_EQ(mote_log_handler_add(&h), -EINVAL);
	h.level = 0;
	h.size = 3;
	EXPECT_EQ(mote_log_handler_add(&h), -EINVAL);
}

static int verdict_of(struct mote_log_event *e, void *arg)
{
	(void)e;
	return *(int *)arg;
}

static int shorten(struct mote_log_event *e, void *arg)
{
	(void)arg;
	e->text = "changed";
	e->text_size = 7;
	return MOTE_LOG_PASS;
}

static void filters(void)
{
	int first = MOTE_LOG_IGNORE, second = MOTE_LOG_IGNORE, third = MOTE_LOG_IGNORE;
	struct mote_log_filter one = { "one", verdict_of, &first }, two = { "two", verdict_of, &second };
	struct mote_log_filter primary = { "one", verdict_of, &third }, change = { "change", shorten, NULL };
	int n = 0;

	EXPECT_EQ(handler_add("a", 0, MOTE_LOG_STOP), 0);
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT_EQ(heard.n, n);			/* filter_default: stop */
	EXPECT_EQ(mote_log_filter_add("a", &one), 0);
	EXPECT_EQ(mote_log_filter_add("a", &one), -EEXIST);
	EXPECT_EQ(mote_log_filter_add("a", &two), 0);
	EXPECT_EQ(mote_log_filter_add("b", &one), -ENOENT);
	EXPECT_EQ(mote_log_filter_add(NULL, &primary), 0);
	EXPECT_EQ(mote_log_filter_add(NULL, &(struct mote_log_filter){ "none", NULL, NULL }), -EINVAL);
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT_EQ(heard.n, n);			/* all ignore it */
	second = MOTE_LOG_PASS;
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT_EQ(heard.n, ++n);
	first = MOTE_LOG_STOP;
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT_EQ(heard.n, n);			/* stop ends it, whatever passes */
	first = MOTE_LOG_PASS;
	third = MOTE_LOG_STOP;
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT_EQ(heard.n, n);
	EXPECT_EQ(mote_log_filter_remove(NULL, "one"), 0);
	EXPECT_EQ(mote_log_filter_remove(NULL, "one"), -ENOENT);
	EXPECT_EQ(mote_log_filter_add("a", &change), 0);
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT_EQ(heard.n, ++n);
	EXPECT(!strcmp(heard.text, "changed"));
	EXPECT_EQ(mote_log_filter_remove("a", "one"), 0);
	EXPECT_EQ(mote_log_filter_remove("a", "two"), 0);
	EXPECT_EQ(mote_log_filter_remove("c", "two"), -ENOENT);
	EXPECT_EQ(mote_log_handler_remove("a"), 0);
	/* Its filters went with it. */
	EXPECT_EQ(handler_add("a", 0, 0), 0);
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT(!strcmp(heard.text, "x"));
	EXPECT_EQ(mote_log_filter_add("a", &change), 0);
	EXPECT_EQ(mote_log_handler_remove("a"), 0);
}

static void log_one(void *arg)
{
	(void)arg;
	mote_log(MOTE_LOG_ERROR, "from a child");
}

static void metadata(void)
{
	mote_ref ref;
	mote_pid pid;

	EXPECT_EQ(handler_add("a", 0, 0), 0);
	EXPECT(!mote_log_metadata_get());
	{
		char gone[] = "first";

		EXPECT_EQ(mote_log_metadata_set(MOTE_FIELDS(mote_field_text("request", gone), mote_field_int("n", 1))), 0);
		memset(gone, 'x', 5);
	}
	mote_log(MOTE_LOG_ERROR, "x"); int line = __LINE__;
	EXPECT(!strcmp(heard.metadata, "request=first;n=1;"));
	EXPECT_EQ(heard.line, line);
	EXPECT(mote_pid_equal(heard.pid, mote_self()));
	EXPECT(heard.time_us > INT64_C(1700000000000000));
	/* The event's own come first, and win. */
	mote_log_with(MOTE_LOG_ERROR, MOTE_FIELDS(mote_field_int("n", 2), mote_field_text("who", "me")), "x");
	EXPECT(!strcmp(heard.metadata, "n=2;who=me;request=first;"));
	EXPECT_EQ(mote_log_metadata_update(MOTE_FIELDS(mote_field_int("n", 3), mote_field_int("m", 4))), 0);
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT(!strcmp(heard.metadata, "n=3;m=4;request=first;"));
	EXPECT_EQ(mote_field_find(mote_log_metadata_get(), "m")->value.integer, 4);
	EXPECT(!mote_field_find(mote_log_metadata_get(), "o"));
	EXPECT(!mote_field_find(NULL, "o"));
	pid = mote_spawn_monitor(log_one, NULL, &ref);
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	EXPECT(!strcmp(heard.text, "from a child"));
	EXPECT(!strcmp(heard.metadata, ""));
	EXPECT(mote_pid_equal(heard.pid, pid));
	EXPECT_EQ(mote_log_metadata_set(NULL), 0);
	EXPECT(!mote_log_metadata_get());
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT(!strcmp(heard.metadata, ""));
	{
		struct mote_field many[41] = { 0 };
		char keys[40][8];

		for (int i = 0; i < 40; i++) {
			snprintf(keys[i], sizeof(keys[i]), "k%d", i);
			many[i] = mote_field_int(keys[i], i);
		}
		mote_log_with(MOTE_LOG_ERROR, many, "x");
		EXPECT(strstr(heard.metadata, "k0=0;k1=1;"));
		EXPECT(strstr(heard.metadata, ";k39=39;"));
	}
	EXPECT_EQ(mote_log_handler_remove("a"), 0);
}

static void long_texts(void)
{
	static char big[MOTE_LOG_TEXT_MAX + 1000];
	static char line[20000];
	struct mote_log_event e = { .level = MOTE_LOG_ERROR, .fields = &(struct mote_field){ 0 } };
	size_t seen = 0;

	memset(big, 'a', sizeof(big) - 1);
	EXPECT_EQ(handler_add("a", 0, 0), 0);
	mote_log(MOTE_LOG_ERROR, "%s", big);
	EXPECT_EQ(strlen(heard.text), sizeof(heard.text) - 1);
	e.text = big;
	e.text_size = sizeof(big) - 1;
	seen = (size_t)mote_log_format_line(&e, line, sizeof(line), NULL);
	EXPECT_EQ(seen, strlen(line));
	EXPECT_EQ(mote_log_format_line(&e, line, 10, NULL), seen);
	EXPECT_EQ(strlen(line), 9);
	EXPECT_EQ(mote_log_format_line(&e, NULL, 0, NULL), seen);
	EXPECT_EQ(mote_log_handler_remove("a"), 0);
}

static void formatters(void)
{
	static const struct mote_log_site site = { "dir/\"f.c", "fn", 12 };
	static const char text[] = "one\n\t two \"q\"\033[31m \xff \xc3\xa9 \xc2\x9b nul\0end\n";
	struct mote_log_event e = { .level = MOTE_LOG_WARNING, .time_us = INT64_C(1700000000000042), .text = text,
				    .text_size = sizeof(text) - 1, .pid = { 5, 6, 7 }, .site = &site,
				    .fields = MOTE_FIELDS(mote_field_text("a b", "x y\\\"\n"), mote_field_text("w", "word"),
							  mote_field_int("i", -3), mote_field_real("r", 0.5),
							  mote_field_bool("t", true), mote_field_text("z", NULL)) };
	char got[1024], want[1024];
	int n;

	n = mote_log_format_line(&e, got, sizeof(got), NULL);
	snprintf(want, sizeof(want),
		 "2023-11-14T22:13:20.000042+00:00 warning: one, two \"q\"\\x1b[31m \\xff \xc3\xa9 \\xc2\\x9b "
		 "nul\\x00end pid=<7.6.5> a b=\"x y\\\\\\\"\" w=word i=-3 r=0.5 t=true z=\n");
	if (!EXPECT(!strcmp(got, want)))
		test_note("%s# %s", got, want);
	EXPECT_EQ(n, strlen(want));
	n = mote_log_format_json(&e, got, sizeof(got), NULL);
	snprintf(want, sizeof(want), "{\"time\":\"2023-11-14T22:13:20.000042+00:00\",\"level\":\"warning\",\"text\":"
		 "\"one\\n\\u0009 two \\\"q\\\"\\u001b[31m \xef\xbf\xbd \xc3\xa9 \xc2\x9b nul\\u0000end\\n\","
		 "\"pid\":\"<7.6.5>\",\"file\":\"dir/\\\"f.c\",\"line\":12,\"function\":\"fn\",\"metadata\":{"
		 "\"a b\":\"x y\\\\\\\"\\n\",\"w\":\"word\",\"i\":-3,\"r\":0.5,\"t\":true,\"z\":null}}\n");
	if (!EXPECT(!strcmp(got, want)))
		test_note("%s# %s", got, want);
	EXPECT_EQ(n, strlen(want));
	e.fields = MOTE_FIELDS(mote_field_real("r", 1e308 * 10), mote_field_pid("p", ((mote_pid){ 1, 2, 3 })));
	mote_log_format_json(&e, got, sizeof(got), NULL);
	EXPECT(strstr(got, "{\"r\":null,\"p\":\"<3.2.1>\"}"));
	e.time_us = -1;
	mote_log_format_line(&e, got, sizeof(got), NULL);
	EXPECT(!strncmp(got, "1969-12-31T23:59:59.999999+00:00 ", 33));
}

/* --- handlers that fail --- */

static struct mote_log_filter bad_filter(int (*fn)(struct mote_log_event *, void *))
{
	return (struct mote_log_filter){ "bad", fn, NULL };
}

/* Not what the library reports of the crashes themselves. */
static bool is_child(const struct mote_log_event *e)
{
	return !strcmp(e->text, "from a child");
}

__attribute__((noinline)) static void crash_here(void)
{
	static int *volatile nowhere = (int *)8;

	*nowhere = 1;
}

static int crash_log(const struct mote_log_event *e, void *config)
{
	(void)config;
	if (is_child(e))
		crash_here();
	return 0;
}

static int crash_report_log(const struct mote_log_event *e, void *config)
{
	(void)config;
	if (e->report == MOTE_LOG_CRASH && strstr(e->text, "a bad day"))
		crash_here();
	return 0;
}

static int exit_log(const struct mote_log_event *e, void *config)
{
	(void)config;
	if (!is_child(e))
		return 0;
	mote_exit(mote_reason_error(EIO, "by the handler"));
}

static int refuse_log(const struct mote_log_event *e, void *config)
{
	(void)e;
	(void)config;
	return -EIO;
}

static int wait_log(const struct mote_log_event *e, void *config)
{
	if (!is_child(e))
		return 0;
	mote_send(*(mote_pid *)config, 1, NULL, 0);
	mote_sleep(MOTE_FOREVER);
	return 0;
}

static int nested_log(const struct mote_log_event *e, void *config)
{
	*(int *)config += !strcmp(e->text, "x");
	mote_log(MOTE_LOG_ERROR, "x");
	return 0;
}

static int crash_filter(struct mote_log_event *e, void *arg)
{
	(void)arg;
	if (is_child(e))
		crash_here();
	return MOTE_LOG_IGNORE;
}

static int add(const char *id, int (*log)(const struct mote_log_event *, void *), void *config)
{
	return mote_log_handler_add(&(struct mote_log_handler){
		.size = sizeof(struct mote_log_handler), .id = id, .log = log, .config = config });
}

static struct mote_reason_copy { uint32_t kind; int32_t code; } log_in_child(void)
{
	struct mote_reason_copy copy = { 99, 0 };
	struct mote_msg *m;
	mote_ref ref;

	mote_spawn_monitor(log_one, NULL, &ref);
	m = mote_receive_ref(ref, PATIENCE);
	if (m)
		copy = (struct mote_reason_copy){ mote_msg_down(m)->reason.kind, mote_msg_down(m)->reason.code };
	mote_msg_free(m);
	return copy;
}

/* Until the proxy has logged it. */
static bool heard_of(const char *text, int report)
{
	for (int i = 0; i < 60000; i++) {
		bool found;

		pthread_mutex_lock(&heard.mutex);
		found = strstr(heard.text, text) && heard.report == report;
		pthread_mutex_unlock(&heard.mutex);
		if (found)
			return true;
		mote_sleep(mote_in_ms(1));
	}
	test_note("heard last: %s", heard.text);
	return false;
}

/* The proxy may be at work in it still, with the report of a process that has failed. */
static bool is_removed(void)
{
	for (int i = 0; i < 60000 && !heard.removed; i++)
		mote_sleep(mote_in_ms(1));
	return heard.removed == 1;
}

static void failing(void)
{
	int nested = 0;
	struct mote_reason_copy r;
	mote_pid self = mote_self(), pid;

	EXPECT_EQ(handler_add("good", 0, 0), 0);
	EXPECT_EQ(add("refuse", refuse_log, NULL), 0);
	mote_log(MOTE_LOG_ERROR, "y");
	EXPECT_EQ(heard.n, 2);
	EXPECT(!strcmp(heard.text, "log handler refuse has failed and was removed"));
	EXPECT_EQ(mote_log_handler_remove("refuse"), -ENOENT);

	EXPECT_EQ(add("exits", exit_log, NULL), 0);
	r = log_in_child();
	EXPECT_EQ(r.kind, MOTE_ERROR);
	EXPECT_EQ(r.code, EIO);
	EXPECT_EQ(mote_log_handler_remove("exits"), -ENOENT);

	EXPECT_EQ(add("nested", nested_log, &nested), 0);
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT_EQ(nested, 1);
	EXPECT_EQ(mote_log_handler_remove("nested"), 0);

	/* To be killed while a handler waits is not the handler's fault. */
	EXPECT_EQ(add("waits", wait_log, &self), 0);
	pid = mote_spawn(log_one, NULL);
	EXPECT(got_type(1));
	put_down(pid);
	EXPECT_EQ(mote_log_handler_remove("waits"), 0);
	EXPECT_EQ(mote_log_handler_remove("good"), 0);
	EXPECT(is_removed());
}

static void crashing(void)
{
	struct mote_log_filter bad = bad_filter(crash_filter);
	struct mote_reason_copy r;

#if SANITIZED
	selftest_skip("a sanitizer's program ends with a crash");
	return;
#endif
	EXPECT_EQ(handler_add("good", 0, 0), 0);
	EXPECT_EQ(add("crashes", crash_log, NULL), 0);
	r = log_in_child();
	EXPECT_EQ(r.kind, MOTE_SIGNAL);
	EXPECT_EQ(r.code, SIGSEGV);
	EXPECT_EQ(mote_log_handler_remove("crashes"), -ENOENT);
	EXPECT_EQ(mote_log_filter_add("good", &bad), 0);
	r = log_in_child();
	EXPECT_EQ(r.kind, MOTE_SIGNAL);
	EXPECT_EQ(mote_log_filter_remove("good", "bad"), -ENOENT);
	EXPECT_EQ(mote_log_filter_add(NULL, &bad), 0);
	r = log_in_child();
	EXPECT_EQ(r.kind, MOTE_SIGNAL);
	EXPECT_EQ(mote_log_filter_remove(NULL, "bad"), -ENOENT);
	/* And the log still works. */
	EXPECT_EQ(log_in_child().kind, MOTE_NORMAL);
	EXPECT_EQ(mote_log_handler_remove("good"), 0);
	EXPECT(is_removed());
}

/* --- reports --- */

static void quiet_death(void *arg)
{
	(void)arg;
	mote_exit(MOTE_REASON_SHUTDOWN);
}

static void sick(void *arg)
{
	(void)arg;
	mote_log_metadata_set(MOTE_FIELDS(mote_field_text("request", "r1")));
	mote_send(mote_self(), 1, NULL, 0);
	mote_send(mote_self(), 1, NULL, 0);
	mote_trap_exit(true);
	mote_exit(mote_reason_error(EIO, "a bad day"));
}

static void parent_of_sick(void *arg)
{
	mote_register("family", mote_self());
	*(mote_pid *)arg = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = sick, .label = "sick one", .flags = MOTE_LINK });
	mote_receive(MOTE_FOREVER);
}

static void crash_reports(void)
{
	static mote_pid child;
	mote_pid parent, self = mote_self();
	mote_ref ref;
	char want[64];

	EXPECT_EQ(handler_add("good", 0, 0), 0);
	parent = mote_spawn_monitor(parent_of_sick, &child, &ref);
	EXPECT(got_down(ref, parent, MOTE_ERROR));
	/* The report of the parent, which dies by the link, comes second. */
	EXPECT(heard_of("family ended: error 5: a bad day", MOTE_LOG_CRASH));
	EXPECT_EQ(heard.n, 2);
	EXPECT_EQ(heard.level, MOTE_LOG_ERROR);
	EXPECT(mote_pid_equal(heard.pid, parent));
	EXPECT(strstr(heard.metadata, "registered_name=family;"));
	parent = mote_spawn_monitor(quiet_death, NULL, &ref);
	EXPECT(got_down(ref, parent, MOTE_SHUTDOWN));
	heard.text[0] = 0;
	mote_spawn_monitor(sick, NULL, &ref);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
	EXPECT(heard_of("ended: error 5", MOTE_LOG_CRASH));
	EXPECT_EQ(heard.n, 3);
	if (!EXPECT(strstr(heard.metadata, "initial_call=sick") || strstr(heard.metadata, "initial_call=otp_log+0x")))
		test_note("%s", heard.metadata);
	EXPECT(strstr(heard.metadata, "message_queue_len=2;"));
	EXPECT(strstr(heard.metadata, "trap_exit=1;"));
	snprintf(want, sizeof(want), "ancestors=" MOTE_PID_FMT ";", MOTE_PID_ARG(self));
	EXPECT(strstr(heard.metadata, want));
	EXPECT(strstr(heard.metadata, "reason=error 5: a bad day;"));
	EXPECT(strstr(heard.metadata, "request=r1;"));
	EXPECT_EQ(mote_log_handler_remove("good"), 0);
}

static void crash_report_frames(void)
{
#if SANITIZED
	selftest_skip("a sanitizer's program ends with a crash");
	return;
#endif
	EXPECT_EQ(handler_add("good", 0, 0), 0);
	EXPECT_EQ(add("crashes", crash_log, NULL), 0);
	EXPECT_EQ(log_in_child().kind, MOTE_SIGNAL);
	/* By the child's end it is gone; the report is of the child. */
	EXPECT(heard_of("signal 11 (SIGSEGV) at 0x8", MOTE_LOG_CRASH));
	/* One that crashes where the library logs ends the proxy only: the second report comes by another. */
	EXPECT_EQ(add("crashes", crash_report_log, NULL), 0);
	mote_spawn(sick, NULL);
	EXPECT(heard_of("log proxy ended: signal 11", MOTE_LOG_CRASH));
	EXPECT_EQ(mote_log_handler_remove("crashes"), -ENOENT);
	EXPECT_EQ(mote_log_handler_remove("good"), 0);
}

static void supervisor_reports(void)
{
	static const char *const contexts[] = { "progress", "start_error", "child_terminated", "shutdown_error", "shutdown" };
	struct mote_reason why = mote_reason_error(5, "bad");
	mote_pid child = { 3, 2, 0 };
	char want[256];

	EXPECT_EQ(handler_add("good", 0, 0), 0);
	report_supervisor(REPORT_PROGRESS, "top", "a", child, NULL);
	for (int context = REPORT_START_ERROR; context <= REPORT_SHUTDOWN; context++) {
		report_supervisor(context, "top", "a", child, &why);
		snprintf(want, sizeof(want), "Supervisor: top. Context: %s. Reason: error 5: bad. Offender: id=a, pid=<0.2.3>.",
			 contexts[context]);
		EXPECT(heard_of(want, MOTE_LOG_SUPERVISOR));
		EXPECT_EQ(heard.level, MOTE_LOG_ERROR);
		snprintf(want, sizeof(want), "supervisor=top;context=%s;child=a;child_pid=3;reason=error 5: bad;",
			 contexts[context]);
		EXPECT(!strcmp(heard.metadata, want));
		EXPECT(mote_pid_equal(heard.pid, mote_self()));
	}
	/* Progress is of level info, and so not heard of by default. */
	EXPECT_EQ(heard.n, 4);
	mote_log_set_level(MOTE_LOG_INFO);
	report_supervisor(REPORT_PROGRESS, NULL, "a", child, NULL);
	snprintf(want, sizeof(want), "Supervisor: " MOTE_PID_FMT ". Started: id=a, pid=<0.2.3>.", MOTE_PID_ARG(mote_self()));
	EXPECT(heard_of(want, MOTE_LOG_PROGRESS));
	EXPECT_EQ(heard.level, MOTE_LOG_INFO);
	mote_log_set_level(MOTE_LOG_NOTICE);
	EXPECT_EQ(mote_log_handler_remove("good"), 0);
}

struct counter { int n; };

static int counter_init(struct counter *c, void *arg)
{
	(void)arg;
	c->n = 7;
	return 0;
}

static void counter_cast(struct counter *c, const struct mote_msg *m)
{
	(void)c;
	(void)m;
	mote_exit(mote_reason_error(EIO, "cast"));
}

static int counter_status(const struct counter *c, char *buf, size_t size)
{
	return snprintf(buf, size, "n is %d", c->n);
}

MOTE_SERVER(counter, struct counter, .init = counter_init, .handle_cast = counter_cast,
	    .format_status = counter_status);

static int first_two(const struct mote_log_event *e, void *config)
{
	struct heard *two = config;

	if (two->n < 2)
		snprintf(two->n ? two->metadata : two->text, sizeof(two->text), "%d %s", e->report, e->text);
	two->n++;
	return 0;
}

static void behaviour_reports(void)
{
	static struct heard two;
	char want[256];
	mote_ref ref;
	mote_pid pid;

	EXPECT_EQ(add("two", first_two, &two), 0);
	EXPECT_EQ(handler_add("good", 0, 0), 0);
	EXPECT_EQ(mote_server_start_monitor(&counter.ops, NULL, NULL, &pid, &ref), 0);
	EXPECT_EQ(mote_cast(pid, 9, "abc", 3), 0);
	EXPECT(got_down(ref, pid, MOTE_ERROR));
	/* Its last words, and then what became of it. */
	snprintf(want, sizeof(want), "process " MOTE_PID_FMT " ended: error 5: cast", MOTE_PID_ARG(pid));
	EXPECT(heard_of(want, MOTE_LOG_CRASH));
	snprintf(want, sizeof(want), "%d server " MOTE_PID_FMT " terminating. Reason: error 5: cast. Last message: type 0x9, "
		 "3 bytes, from " MOTE_PID_FMT ". State: n is 7.", MOTE_LOG_SERVER, MOTE_PID_ARG(pid), MOTE_PID_ARG(mote_self()));
	if (!EXPECT(!strcmp(two.text, want)))
		test_note("%s", two.text);
	EXPECT_EQ(two.n, 2);
	EXPECT_EQ(mote_log_handler_remove("two"), 0);
	EXPECT_EQ(mote_log_handler_remove("good"), 0);
}

/* --- without handlers --- */

static struct {
	int n, level;
	char text[256];
} raw;

static void hear_raw(int level, const char *text, void *arg)
{
	(void)arg;
	raw.n++;
	raw.level = level;
	snprintf(raw.text, sizeof(raw.text), "%s", text);
}

static void last_resort(void)
{
	mote_log(MOTE_LOG_INFO, "no");
	EXPECT_EQ(raw.n, 0);
	mote_log(MOTE_LOG_WARNING, "%s", "yes");
	EXPECT_EQ(raw.n, 1);
	EXPECT_EQ(raw.level, MOTE_LOG_WARNING);
	EXPECT(!strcmp(raw.text, "yes"));
	EXPECT_EQ(handler_add("h", 0, 0), 0);
	mote_log(MOTE_LOG_WARNING, "to the handler");
	EXPECT_EQ(raw.n, 1);
	EXPECT_EQ(heard.n, 1);
	EXPECT_EQ(mote_log_handler_remove("h"), 0);
	mote_log(MOTE_LOG_WARNING, "again");
	EXPECT_EQ(raw.n, 2);
}

static void without_runtime(void)
{
	EXPECT_EQ(handler_add("h", 0, 0), 0);
	mote_log(MOTE_LOG_ERROR, "from main");
	EXPECT_EQ(heard.n, 1);
	EXPECT(!mote_pid_valid(heard.pid));
	EXPECT_EQ(mote_log_handler_remove("h"), 0);
	EXPECT_EQ(heard.removed, 1);
}

/* --- while everything changes --- */

static _Atomic bool enough;
static _Atomic int removed_count, in_removed;

static int busy_log(const struct mote_log_event *e, void *config)
{
	(void)e;
	/* Reading freed memory shows with a sanitizer. */
	if (((struct heard *)config)->n != 77)
		atomic_fetch_add(&in_removed, 1);
	return 0;
}

static void busy_removed(void *config)
{
	((struct heard *)config)->n = 0;
	free(config);
	atomic_fetch_add(&removed_count, 1);
}

static void logs_on(void *arg)
{
	(void)arg;
	while (!atomic_load(&enough)) {
		mote_log(MOTE_LOG_ERROR, "x");
		mote_yield();
	}
}

static void races(void)
{
	unsigned long rounds = test_rounds(2000), added = 0;
	mote_ref refs[4];

	atomic_store(&enough, false);
	for (int i = 0; i < 4; i++)
		mote_spawn_monitor(logs_on, NULL, &refs[i]);
	for (unsigned long i = 0; i < rounds; i++) {
		struct heard *h = calloc(1, sizeof(*h));

		h->n = 77;
		EXPECT_EQ(mote_log_handler_add(&(struct mote_log_handler){
			.size = sizeof(struct mote_log_handler), .id = "busy", .log = busy_log, .removed = busy_removed,
			.config = h }), 0);
		added++;
		if (i % 3 == 0)
			mote_yield();
		EXPECT_EQ(mote_log_handler_remove("busy"), 0);
	}
	atomic_store(&enough, true);
	for (int i = 0; i < 4; i++)
		mote_msg_free(mote_receive_ref(refs[i], PATIENCE));
	EXPECT_EQ(atomic_load(&removed_count), added);
	EXPECT_EQ(atomic_load(&in_removed), 0);
}

int main(void)
{
	struct mote_opts with_log = { .size = sizeof(with_log), .log = hear_raw };

	selftest_process("events below the level go nowhere, and cost no evaluation", levels);
	selftest_process("handlers come and go, each with its level", handlers);
	selftest_process("filters: ignore, pass, stop, and change", filters);
	selftest_process("metadata of events and of processes", metadata);
	selftest_process("long texts are cut", long_texts);
	selftest_process("the formatters", formatters);
	selftest_process("handlers that fail are removed", failing);
	selftest_process("so are those that crash, and end just their process", crashing);
	selftest_process("abnormal ends are reported with proc_lib's fields", crash_reports);
	selftest_process("crashes are, and one in the process that reports is survived", crash_report_frames);
	selftest_process("supervisors' reports are OTP's", supervisor_reports);
	selftest_process("a server that fails says what it was at", behaviour_reports);
	selftest_process_opts("without a handler mote_opts.log hears", last_resort, &with_log);
	selftest_case("handlers work without a runtime", without_runtime);
	selftest_process("handlers come and go while others log", races);
	return selftest_done();
}
