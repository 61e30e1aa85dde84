// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Telemetry: who hears what; handlers that fail; spans.
 */
#include "proc.h"
#include <mote/telemetry.h>

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static struct heard {
	int n, removed;
	char event[64];
	char text[1024];
	const void *config;
	mote_pid pid;
} heard[3];

static void text_of(char *to, size_t size, const struct mote_field *f)
{
	for (; f->key; f++) {
		size_t used = strlen(to);

		if (f->kind == MOTE_FIELD_TEXT)
			snprintf(to + used, size - used, "%s=%s;", f->key, f->value.text);
		else if (f->kind == MOTE_FIELD_POINTER)
			snprintf(to + used, size - used, "%s=%p;", f->key, f->value.pointer);
		else if (strstr(f->key, "time") || !strcmp(f->key, "duration"))
			snprintf(to + used, size - used, "%s;", f->key);
		else
			snprintf(to + used, size - used, "%s=%lld;", f->key, (long long)f->value.integer);
	}
}

static int hear(const char *event, const struct mote_field *measurements, const struct mote_field *metadata,
		void *config)
{
	struct heard *h = config;

	h->n++;
	h->pid = mote_self();
	snprintf(h->event, sizeof(h->event), "%s", event);
	h->text[0] = 0;
	text_of(h->text, sizeof(h->text), measurements);
	strcat(h->text, "|");
	text_of(h->text, sizeof(h->text), metadata);
	return 0;
}

static void count_removed(void *config)
{
	((struct heard *)config)->removed++;
}

static int evaluated;

static int64_t evaluate(void)
{
	return ++evaluated;
}

static void handlers(void)
{
	static const char *const both[] = { "db.query.stop", "db.query.start" };

	memset(heard, 0, sizeof(heard));
	mote_telemetry_execute("db.query.stop", MOTE_FIELDS(mote_field_int("n", evaluate())), NULL);
	EXPECT_EQ(evaluated, 0);
	EXPECT_EQ(mote_telemetry_attach("a", "db.query.stop", hear, &heard[0]), 0);
	EXPECT_EQ(mote_telemetry_attach("a", "other", hear, &heard[0]), -EEXIST);
	EXPECT_EQ(mote_telemetry_attach_many("b", both, 2, hear, &heard[1], count_removed), 0);
	mote_telemetry_execute("db.query.stop", MOTE_FIELDS(mote_field_int("n", evaluate())),
			       MOTE_FIELDS(mote_field_text("table", "t")));
	EXPECT_EQ(evaluated, 1);
	EXPECT_EQ(heard[0].n, 1);
	EXPECT_EQ(heard[1].n, 1);
	EXPECT(!strcmp(heard[0].event, "db.query.stop"));
	EXPECT(!strcmp(heard[0].text, "n=1;|table=t;"));
	EXPECT(mote_pid_equal(heard[0].pid, mote_self()));
	mote_telemetry_execute("db.query.start", NULL, NULL);
	EXPECT_EQ(heard[0].n, 1);
	EXPECT_EQ(heard[1].n, 2);
	EXPECT(!strcmp(heard[1].text, "|"));
	/* Names are compared whole. */
	mote_telemetry_execute("db.query", NULL, NULL);
	mote_telemetry_execute("db.query.stop.x", NULL, NULL);
	EXPECT_EQ(heard[1].n, 2);
	EXPECT_EQ(mote_telemetry_detach("b"), 0);
	EXPECT_EQ(heard[1].removed, 1);
	EXPECT_EQ(mote_telemetry_detach("b"), -ENOENT);
	mote_telemetry_execute("db.query.stop", NULL, NULL);
	EXPECT_EQ(heard[0].n, 2);
	EXPECT_EQ(heard[1].n, 2);
	EXPECT_EQ(mote_telemetry_detach("a"), 0);
	mote_telemetry_execute("db.query.stop", MOTE_FIELDS(mote_field_int("n", evaluate())), NULL);
	EXPECT_EQ(evaluated, 1);
	EXPECT_EQ(mote_telemetry_attach("a", "", hear, NULL), -EINVAL);
	EXPECT_EQ(mote_telemetry_attach("a", "a..b", hear, NULL), -EINVAL);
	EXPECT_EQ(mote_telemetry_attach("a", ".a", hear, NULL), -EINVAL);
	EXPECT_EQ(mote_telemetry_attach("a", "a.", hear, NULL), -EINVAL);
	EXPECT_EQ(mote_telemetry_attach("a", "a", NULL, NULL), -EINVAL);
	EXPECT_EQ(mote_telemetry_attach(NULL, "a", hear, NULL), -EINVAL);
	EXPECT_EQ(mote_telemetry_attach_many("a", both, 0, hear, NULL, NULL), -EINVAL);
}

static char listed[256];

static bool list(const struct mote_telemetry_handler *h, void *arg)
{
	size_t used = strlen(listed);

	EXPECT(h->fn == hear);
	EXPECT(h->config == &heard[0]);
	snprintf(listed + used, sizeof(listed) - used, "%s:%s ", h->id, h->event);
	return !arg || --*(int *)arg;
}

static const char *list_of(const char *prefix, int most)
{
	listed[0] = 0;
	mote_telemetry_handlers(prefix, list, most ? &most : NULL);
	return listed;
}

static void listing(void)
{
	static const char *const several[] = { "db.query.stop", "dbx", "db" };

	EXPECT_EQ(mote_telemetry_attach("one", "db.query.stop", hear, &heard[0]), 0);
	EXPECT_EQ(mote_telemetry_attach_many("many", several, 3, hear, &heard[0], NULL), 0);
	EXPECT(!strcmp(list_of("", 0), "one:db.query.stop many:db.query.stop many:dbx many:db "));
	EXPECT(!strcmp(list_of("db", 0), "one:db.query.stop many:db.query.stop many:db "));
	EXPECT(!strcmp(list_of("db.query", 0), "one:db.query.stop many:db.query.stop "));
	EXPECT(!strcmp(list_of("db.query.stop", 0), "one:db.query.stop many:db.query.stop "));
	EXPECT(!strcmp(list_of("db.q", 0), ""));
	EXPECT(!strcmp(list_of("", 2), "one:db.query.stop many:db.query.stop "));
	EXPECT_EQ(mote_telemetry_detach("one"), 0);
	EXPECT_EQ(mote_telemetry_detach("many"), 0);
	EXPECT(!strcmp(list_of("", 0), ""));
}

/* --- handlers that fail --- */

static int refuse(const char *event, const struct mote_field *measurements, const struct mote_field *metadata,
		  void *config)
{
	(void)event;
	(void)measurements;
	(void)metadata;
	(void)config;
	return -EIO;
}

static int leave(const char *event, const struct mote_field *measurements, const struct mote_field *metadata,
		 void *config)
{
	(void)event;
	(void)measurements;
	(void)metadata;
	(void)config;
	mote_exit(mote_reason_error(EPROTO, "by the handler"));
}

static int crash(const char *event, const struct mote_field *measurements, const struct mote_field *metadata,
		 void *config)
{
	static int *volatile nowhere = (int *)8;

	(void)event;
	(void)measurements;
	(void)metadata;
	(void)config;
	*nowhere = 1;
	return 0;
}

static int wait_for_ever(const char *event, const struct mote_field *measurements, const struct mote_field *metadata,
			 void *config)
{
	(void)event;
	(void)measurements;
	(void)metadata;
	mote_send(*(mote_pid *)config, 1, NULL, 0);
	mote_sleep(MOTE_FOREVER);
	return 0;
}

static int nest(const char *event, const struct mote_field *measurements, const struct mote_field *metadata,
		void *config)
{
	(void)event;
	(void)measurements;
	(void)metadata;
	(void)config;
	mote_telemetry_execute("inner", NULL, NULL);
	return 0;
}

static void execute(void *arg)
{
	(void)arg;
	mote_telemetry_execute("ev", NULL, NULL);
	mote_telemetry_execute("ev", NULL, NULL);
}

static void execute_alone(uint32_t kind)
{
	mote_ref ref;
	mote_pid pid = mote_spawn_monitor(execute, NULL, &ref);

	EXPECT(got_down(ref, pid, kind));
}

static void failing(void)
{
	mote_pid self = mote_self(), pid;
	char want[256];

	memset(heard, 0, sizeof(heard));
	EXPECT_EQ(mote_telemetry_attach("failure", "telemetry.handler.failure", hear, &heard[0]), 0);
	EXPECT_EQ(mote_telemetry_attach("bad", "ev", refuse, &heard[2]), 0);
	EXPECT_EQ(mote_telemetry_attach("good", "ev", hear, &heard[1]), 0);
	execute(NULL);
	EXPECT_EQ(heard[1].n, 2);
	EXPECT_EQ(heard[0].n, 1);
	snprintf(want, sizeof(want), "monotonic_time;system_time;|handler_id=bad;handler_config=%p;event_name=ev;kind=error;"
		 "reason=error 5;", (void *)&heard[2]);
	EXPECT(!strcmp(heard[0].text, want));
	EXPECT_EQ(mote_telemetry_detach("bad"), -ENOENT);

	EXPECT_EQ(mote_telemetry_attach("leaves", "ev", leave, NULL), 0);
	execute_alone(MOTE_ERROR);
	EXPECT_EQ(heard[0].n, 2);
	EXPECT(strstr(heard[0].text, "handler_id=leaves;") && strstr(heard[0].text,
								     "event_name=ev;kind=exit;reason=error 71: "));
	EXPECT_EQ(mote_telemetry_detach("leaves"), -ENOENT);
	execute_alone(MOTE_NORMAL);

	/* To be killed in it is not its fault. */
	EXPECT_EQ(mote_telemetry_attach("waits", "ev", wait_for_ever, &self), 0);
	pid = mote_spawn(execute, NULL);
	EXPECT(got_type(1));
	put_down(pid);
	EXPECT_EQ(heard[0].n, 2);
	EXPECT_EQ(mote_telemetry_detach("waits"), 0);

	/* A failure inside of a handler is of the inner one, and then of the outer, whose process it has ended. */
	EXPECT_EQ(mote_telemetry_attach("outer", "ev", nest, NULL), 0);
	EXPECT_EQ(mote_telemetry_attach("inner", "inner", leave, NULL), 0);
	execute_alone(MOTE_ERROR);
	EXPECT_EQ(heard[0].n, 4);
	EXPECT_EQ(mote_telemetry_detach("inner"), -ENOENT);
	EXPECT_EQ(mote_telemetry_detach("outer"), -ENOENT);

	/* And one that fails at the failure. */
	EXPECT_EQ(mote_telemetry_attach("worse", "telemetry.handler.failure", leave, NULL), 0);
	EXPECT_EQ(mote_telemetry_attach("leaves", "ev", leave, NULL), 0);
	execute_alone(MOTE_ERROR);
	EXPECT_EQ(mote_telemetry_detach("worse"), -ENOENT);
	EXPECT_EQ(heard[0].n, 6);
	EXPECT_EQ(mote_telemetry_detach("good"), 0);
	EXPECT_EQ(mote_telemetry_detach("failure"), 0);
}

static void crashing(void)
{
#if SANITIZED
	selftest_skip("a sanitizer's program ends with a crash");
	return;
#endif
	memset(heard, 0, sizeof(heard));
	EXPECT_EQ(mote_telemetry_attach("failure", "telemetry.handler.failure", hear, &heard[0]), 0);
	EXPECT_EQ(mote_telemetry_attach_many("bad", (const char *const[]){ "other", "ev" }, 2, crash, &heard[2],
					     count_removed),
		  0);
	execute_alone(MOTE_SIGNAL);
	EXPECT_EQ(heard[0].n, 1);
	EXPECT_EQ(heard[2].removed, 1);
	EXPECT(strstr(heard[0].text, "handler_id=bad;") && strstr(heard[0].text, "kind=crash;reason=signal 11 (SIGSEGV)"));
	EXPECT_EQ(mote_telemetry_detach("bad"), -ENOENT);
	execute_alone(MOTE_NORMAL);
	EXPECT_EQ(mote_telemetry_detach("failure"), 0);
}

/* --- spans --- */

static int64_t work(void *arg, const struct mote_field **stop)
{
	if (arg)
		*stop = arg;
	return 42;
}

static int64_t fail_in_span(void *arg, const struct mote_field **stop)
{
	(void)arg;
	(void)stop;
	mote_exit(mote_reason_error(EIO, "in a span"));
}

static int64_t wait_in_span(void *arg, const struct mote_field **stop)
{
	(void)stop;
	mote_send(*(mote_pid *)arg, 1, NULL, 0);
	mote_sleep(MOTE_FOREVER);
	return 0;
}

static void span_fails(void *arg)
{
	const char local[] = "on the stack";

	mote_telemetry_span("w", MOTE_FIELDS(mote_field_text("job", local)), arg ? wait_in_span : fail_in_span, arg);
}

static void spans(void)
{
	mote_pid self = mote_self(), pid;
	struct mote_field stop[] = { mote_field_int("rows", 3), { 0 } };
	long long context;
	mote_ref ref;

	memset(heard, 0, sizeof(heard));
	EXPECT_EQ(mote_telemetry_span("w", NULL, work, NULL), 42);
	EXPECT_EQ(mote_telemetry_attach("start", "w.start", hear, &heard[0]), 0);
	EXPECT_EQ(mote_telemetry_attach("stop", "w.stop", hear, &heard[1]), 0);
	EXPECT_EQ(mote_telemetry_attach("exception", "w.exception", hear, &heard[2]), 0);
	EXPECT_EQ(mote_telemetry_span("w", MOTE_FIELDS(mote_field_text("job", "j")), work, NULL), 42);
	EXPECT_EQ(heard[0].n, 1);
	EXPECT_EQ(heard[1].n, 1);
	EXPECT_EQ(heard[2].n, 0);
	EXPECT_EQ(sscanf(heard[0].text, "monotonic_time;system_time;|telemetry_span_context=%lld;job=j;", &context), 1);
	EXPECT(!strncmp(heard[1].text, "duration;monotonic_time;|telemetry_span_context=", 48));
	EXPECT_EQ(strtoll(heard[1].text + 48, NULL, 10), context);
	EXPECT(strstr(heard[1].text, ";job=j;"));
	/* What it found out replaces what it began with; the context stays. */
	EXPECT_EQ(mote_telemetry_span("w", MOTE_FIELDS(mote_field_text("job", "j")), work, stop), 42);
	EXPECT(strstr(heard[1].text, ";rows=3;") && !strstr(heard[1].text, "job"));
	EXPECT(strtoll(heard[1].text + 48, NULL, 10) != context);
	EXPECT_EQ(mote_telemetry_span("w", MOTE_FIELDS(mote_field_int("telemetry_span_context", 7)), work, NULL), 42);
	EXPECT(!strcmp(heard[1].text, "duration;monotonic_time;|telemetry_span_context=7;"));
	pid = mote_spawn_monitor(span_fails, NULL, &ref);
	EXPECT(got_down(ref, pid, MOTE_ERROR));
	EXPECT_EQ(heard[2].n, 1);
	EXPECT(!strncmp(heard[2].text, "duration;monotonic_time;|telemetry_span_context=", 48));
	EXPECT(strstr(heard[2].text, ";kind=exit;reason=error 5: in a span;job=on the stack;"));
	pid = mote_spawn_monitor(span_fails, &self, &ref);
	EXPECT(got_type(1));
	mote_exit_pid(pid, MOTE_REASON_KILL);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
	EXPECT_EQ(heard[2].n, 2);
	EXPECT(strstr(heard[2].text, ";kind=exit;reason=killed;"));
	EXPECT_EQ(heard[1].n, 3);
	EXPECT_EQ(mote_telemetry_detach("start"), 0);
	EXPECT_EQ(mote_telemetry_detach("stop"), 0);
	EXPECT_EQ(mote_telemetry_detach("exception"), 0);
}

static void without_runtime(void)
{
	int status;
	pid_t pid;

	memset(heard, 0, sizeof(heard));
	EXPECT_EQ(mote_telemetry_attach_many("a", (const char *const[]){ "ev", "w.stop" }, 2, hear, &heard[0],
					     count_removed), 0);
	execute(NULL);
	EXPECT_EQ(heard[0].n, 2);
	EXPECT_EQ(mote_telemetry_span("w", NULL, work, NULL), 42);
	EXPECT_EQ(heard[0].n, 3);
	pid = fork();
	if (!pid) {
		execute(NULL);
		_exit(heard[0].n == 5 && !mote_telemetry_detach("a") ? 0 : 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(mote_telemetry_detach("a"), 0);
	EXPECT_EQ(heard[0].removed, 1);
}

/* --- while everything changes --- */

static _Atomic bool enough;
static _Atomic int wrong, ran, freed;

static int busy(const char *event, const struct mote_field *measurements, const struct mote_field *metadata,
		void *config)
{
	(void)event;
	(void)measurements;
	(void)metadata;
	atomic_fetch_add(&ran, 1);
	if (*(int *)config != 77)
		atomic_fetch_add(&wrong, 1);
	return 0;
}

static void busy_removed(void *config)
{
	*(int *)config = 0;
	free(config);
	atomic_fetch_add(&freed, 1);
}

static void executes_on(void *arg)
{
	(void)arg;
	while (!atomic_load(&enough)) {
		mote_telemetry_execute("busy", NULL, NULL);
		mote_yield();
	}
}

static void *executes_on_thread(void *arg)
{
	(void)arg;
	while (!atomic_load(&enough)) {
		mote_telemetry_execute("busy", NULL, NULL);
		sched_yield();
	}
	return NULL;
}

static void races(void)
{
	unsigned long rounds = test_rounds(3000);
	pthread_t thread;
	mote_ref refs[4];

	if (test_one_thread())
		return;
	atomic_store(&enough, false);
	pthread_create(&thread, NULL, executes_on_thread, NULL);
	for (int i = 0; i < 4; i++)
		mote_spawn_monitor(executes_on, NULL, &refs[i]);
	for (unsigned long i = 0; i < rounds; i++) {
		int *config = malloc(sizeof(*config));

		*config = 77;
		EXPECT_EQ(mote_telemetry_attach_many("busy", (const char *const[]){ "busy" }, 1, busy, config, busy_removed), 0);
		if (i % 3 == 0)
			mote_yield();
		EXPECT_EQ(mote_telemetry_detach("busy"), 0);
	}
	atomic_store(&enough, true);
	for (int i = 0; i < 4; i++)
		mote_msg_free(mote_receive_ref(refs[i], PATIENCE));
	pthread_join(thread, NULL);
	EXPECT_EQ(atomic_load(&freed), rounds);
	EXPECT_EQ(atomic_load(&wrong), 0);
	test_note("%lu handlers came and went, %d calls", rounds, atomic_load(&ran));
}

int main(void)
{
	selftest_process("handlers hear their events", handlers);
	selftest_process("handlers are listed by prefix", listing);
	selftest_process("handlers that fail are detached, and that is told", failing);
	selftest_process("so are those that crash, and end just their process", crashing);
	selftest_process("spans: start, stop, exception", spans);
	selftest_case("without a runtime, and in the child of a fork", without_runtime);
	selftest_process("handlers come and go while events are executed", races);
	return selftest_done();
}
