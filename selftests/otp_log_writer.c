// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Writers: what they write, and how they keep up, by logger_olp's rules: with a file that blocks (a full pipe), so
 * that what waits behind what is for the test to say.
 */
#include "proc.h"
#include <mote/log.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char dir[] = "/tmp/otp_log_writer.XXXXXX";
static char path[64];

/* "text\n" */
static int plain(const struct mote_log_event *e, char *buf, size_t size, void *arg)
{
	(void)arg;
	return snprintf(buf, size, "%s\n", e->text);
}

static struct mote_log_info info;

static bool take_info(const struct mote_log_info *i, void *arg)
{
	(void)arg;
	info = *i;
	return false;
}

static struct mote_log_info *info_now(void)
{
	memset(&info, 0, sizeof(info));
	mote_log_handlers(take_info, NULL);
	return &info;
}

/* The whole file; free it. */
static char *file_read(const char *name)
{
	FILE *f = fopen(name, "re");
	char *text = calloc(1, 1 << 20);

	if (f) {
		text[fread(text, 1, (1 << 20) - 1, f)] = 0;
		fclose(f);
	}
	return text;
}

static int lines_of(const char *text, const char *like)
{
	int n = 0;

	for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		const char *end = strchr(line, '\n');
		const char *found = strstr(line, like);

		n += end && found && found < end;
	}
	return n;
}

static void to_a_file(void)
{
	struct mote_log_writer w = { .size = sizeof(w), .id = "file", .path = path, .format = plain };
	char big[4000], *text;

	unlink(path);
	memset(big, 'b', sizeof(big));
	big[sizeof(big) - 1] = 0;
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	EXPECT_EQ(mote_log_writer_add(&w), -EEXIST);
	EXPECT_EQ(info_now()->mode, MOTE_LOG_ASYNC);
	EXPECT(info.writer && mote_pid_valid(info.pid));
	for (int i = 0; i < 5; i++)
		mote_log(MOTE_LOG_ERROR, "line %d", i);
	mote_log(MOTE_LOG_ERROR, "%s", big);
	EXPECT_EQ(mote_log_writer_sync("file", PATIENCE), 0);
	EXPECT_EQ(info_now()->written, 6);
	text = file_read(path);
	EXPECT(!strncmp(text, "line 0\nline 1\nline 2\nline 3\nline 4\nbbb", 38));
	EXPECT_EQ(strlen(text), 5 * 7 + sizeof(big));
	free(text);
	mote_log(MOTE_LOG_ERROR, "last");
	EXPECT_EQ(mote_log_handler_remove("file"), 0);
	text = file_read(path);
	EXPECT_EQ(lines_of(text, "last"), 1);
	free(text);
	EXPECT_EQ(mote_log_writer_sync("file", PATIENCE), -ENOENT);
	/* Appended to. */
	w.format = NULL;
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	mote_log(MOTE_LOG_ERROR, "more");
	EXPECT_EQ(mote_log_handler_remove("file"), 0);
	text = file_read(path);
	EXPECT_EQ(lines_of(text, "last"), 1);
	EXPECT_EQ(lines_of(text, " error: more pid=<"), 1);
	free(text);
}

static void refused(void)
{
	struct mote_log_writer w = { .size = sizeof(w), .id = "w", .path = "/nowhere/file" };

	EXPECT_EQ(mote_log_writer_add(&w), -ENOENT);
	w.path = NULL;
	w.fd = -1;
	EXPECT_EQ(mote_log_writer_add(&w), -EINVAL);
	w.fd = 12345;
	EXPECT_EQ(mote_log_writer_add(&w), -EBADF);
	w.fd = 1;
	w.id = NULL;
	EXPECT_EQ(mote_log_writer_add(&w), -EINVAL);
	w.id = "w";
	w.drop_qlen = 1;
	EXPECT_EQ(mote_log_writer_add(&w), -EINVAL);
	w.drop_qlen = 5;
	EXPECT_EQ(mote_log_writer_add(&w), -EINVAL);	/* below sync_qlen */
	w.sync_qlen = 5;
	w.flush_qlen = 4;
	EXPECT_EQ(mote_log_writer_add(&w), -EINVAL);
	w.flush_qlen = 5;
	w.level = 33;
	EXPECT_EQ(mote_log_writer_add(&w), -EINVAL);
	EXPECT_EQ(info_now()->id != NULL, 0);
}

/* --- a pipe that blocks --- */

struct tap {
	int fds[2];
	pthread_t thread;
	bool reads;
	char *text;
	size_t size;
};

static void tap_open(struct tap *t)
{
	memset(t, 0, sizeof(*t));
	if (pipe2(t->fds, O_CLOEXEC))
		test_bail_out();
	fcntl(t->fds[1], F_SETPIPE_SZ, 4096);
	t->text = calloc(1, 8 << 20);
}

static void *tap_read(void *arg)
{
	struct tap *t = arg;
	ssize_t n;

	while ((n = read(t->fds[0], t->text + t->size, 65536)) > 0)
		t->size += (size_t)n;
	return NULL;
}

static void tap_drain(struct tap *t)
{
	t->reads = true;
	pthread_create(&t->thread, NULL, tap_read, t);
}

static void tap_close(struct tap *t)
{
	close(t->fds[1]);
	if (t->reads)
		pthread_join(t->thread, NULL);
	close(t->fds[0]);
}

static struct mote_log_writer to_tap(struct tap *t)
{
	return (struct mote_log_writer){ .size = sizeof(struct mote_log_writer), .id = "tap", .fd = t->fds[1], .format = plain,
					 .burst_max = -1,
					 /* Only what the test logs: of a seeded run the library says something. */
					 .level = MOTE_LOG_ERROR };
}

static char filler[5000];

static void wait_blocked(void)
{
	for (int i = 0; i < 60000 && test_info(info_now()->pid).wait != MOTE_WAIT_IO; i++)
		mote_sleep(mote_in_ms(1));
}

/* The writer is in a write that does not end: from here on only the test moves. */
static void block(void)
{
	memset(filler, 'f', sizeof(filler) - 1);
	mote_log(MOTE_LOG_ERROR, "%s", filler);
	wait_blocked();
	EXPECT_EQ(info_now()->queued, 0);
	EXPECT_EQ(info.written, 0);
}

static void log_many(int n, const char *text)
{
	for (int i = 0; i < n; i++)
		mote_log(MOTE_LOG_ERROR, "%s %d", text, i);
}

struct flood {
	int n;
	const char *text;
};

static void *flood_thread(void *arg)
{
	log_many(((struct flood *)arg)->n, ((struct flood *)arg)->text);
	return NULL;
}

/* A foreign thread never waits, whatever the mode. */
static void flood(int n, const char *text)
{
	struct flood f = { n, text };
	pthread_t thread;

	pthread_create(&thread, NULL, flood_thread, &f);
	pthread_join(thread, NULL);
}

static void asynchronous(void)
{
	struct tap t;
	struct mote_log_writer w;

	tap_open(&t);
	w = to_tap(&t);
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	block();
	log_many(11, "a");
	EXPECT_EQ(info_now()->queued, 11);
	EXPECT_EQ(info.mode, MOTE_LOG_ASYNC);
	tap_drain(&t);
	EXPECT_EQ(mote_log_writer_sync("tap", PATIENCE), 0);
	EXPECT_EQ(info_now()->mode, MOTE_LOG_ASYNC);
	EXPECT_EQ(info.written, 12);
	EXPECT_EQ(info.dropped + info.flushed + info.burst_dropped + info.failed, 0);
	EXPECT_EQ(mote_log_handler_remove("tap"), 0);
	tap_close(&t);
	EXPECT_EQ(lines_of(t.text, "a "), 11);
	EXPECT_EQ(lines_of(t.text, "Handler"), 0);
	free(t.text);
}

static _Atomic int logged;

static void log_sync(void *arg)
{
	(void)arg;
	mote_log(MOTE_LOG_ERROR, "waited for");
	atomic_fetch_add(&logged, 1);
}

static void synchronous(void)
{
	struct mote_log_writer w;
	mote_ref ref;
	mote_pid pid;
	struct tap t;

	tap_open(&t);
	w = to_tap(&t);
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	block();
	log_many(11, "a");
	atomic_store(&logged, 0);
	pid = mote_spawn_monitor(log_sync, NULL, &ref);
	for (int i = 0; i < 60000 && info_now()->queued < 12; i++)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(info.queued, 12);
	EXPECT_EQ(info.mode, MOTE_LOG_SYNC);
	for (int i = 0; i < 60000 && test_info(pid).wait != MOTE_WAIT_REF; i++)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(atomic_load(&logged), 0);
	tap_drain(&t);
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&logged), 1);
	EXPECT_EQ(mote_log_writer_sync("tap", PATIENCE), 0);
	EXPECT_EQ(info_now()->written, 13);
	EXPECT_EQ(info.mode, MOTE_LOG_ASYNC);
	EXPECT_EQ(info.dropped, 0);
	EXPECT_EQ(mote_log_handler_remove("tap"), 0);
	tap_close(&t);
	/* To and from sync is not worth a word. */
	EXPECT_EQ(lines_of(t.text, "Handler"), 0);
	free(t.text);
}

static void dropping(void)
{
	struct mote_log_writer w;
	struct tap t;

	tap_open(&t);
	w = to_tap(&t);
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	block();
	flood(201, "kept");
	EXPECT_EQ(info_now()->queued, 201);
	EXPECT_EQ(info.dropped, 0);
	EXPECT_EQ(info.mode, MOTE_LOG_SYNC);
	flood(7, "lost");
	EXPECT_EQ(info_now()->dropped, 7);
	EXPECT_EQ(info.mode, MOTE_LOG_DROP);
	log_many(2, "lost");
	EXPECT_EQ(info_now()->dropped, 9);
	tap_drain(&t);
	EXPECT_EQ(mote_log_writer_sync("tap", PATIENCE), 0);
	EXPECT_EQ(info_now()->mode, MOTE_LOG_ASYNC);
	EXPECT_EQ(info.flushed, 0);
	log_many(1, "there again");
	EXPECT_EQ(mote_log_handler_remove("tap"), 0);
	tap_close(&t);
	EXPECT_EQ(lines_of(t.text, "kept"), 201);
	EXPECT_EQ(lines_of(t.text, "lost"), 0);
	EXPECT_EQ(lines_of(t.text, "there again"), 1);
	EXPECT_EQ(lines_of(t.text, "Handler"), 2);
	EXPECT_EQ(lines_of(t.text, "Handler tap switched from async to drop mode"), 1);
	EXPECT_EQ(lines_of(t.text, "Handler tap switched from drop to sync mode, 9 log events dropped"), 1);
	free(t.text);
}

static void flushing(void)
{
	struct mote_log_writer w;
	struct tap t;

	tap_open(&t);
	w = to_tap(&t);
	w.drop_qlen = 1000;
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	block();
	flood(1001, "a");
	EXPECT_EQ(info_now()->queued, 1001);
	tap_drain(&t);
	EXPECT_EQ(mote_log_writer_sync("tap", PATIENCE), 0);
	EXPECT_EQ(info_now()->flushed, 1001);
	EXPECT_EQ(info.mode, MOTE_LOG_ASYNC);
	EXPECT_EQ(mote_log_handler_remove("tap"), 0);
	tap_close(&t);
	EXPECT_EQ(lines_of(t.text, "a "), 0);
	EXPECT_EQ(lines_of(t.text, "Handler tap flushed 1001 log events"), 1);
	free(t.text);
	/* One fewer is no reason. */
	tap_open(&t);
	w = to_tap(&t);
	w.drop_qlen = 1000;
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	block();
	flood(1000, "a");
	tap_drain(&t);
	EXPECT_EQ(mote_log_writer_sync("tap", PATIENCE), 0);
	EXPECT_EQ(info_now()->flushed, 0);
	EXPECT_EQ(mote_log_handler_remove("tap"), 0);
	tap_close(&t);
	EXPECT_EQ(lines_of(t.text, "a "), 1000);
	free(t.text);
}

static void bursts(void)
{
	struct mote_log_writer w;
	struct tap t;

	tap_open(&t);
	w = to_tap(&t);
	w.burst_max = 0;		/* 500 */
	w.burst_ms = 3600000;
	w.drop_qlen = 900;
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	block();
	flood(600, "some");
	tap_drain(&t);
	EXPECT_EQ(mote_log_writer_sync("tap", PATIENCE), 0);
	EXPECT_EQ(info_now()->burst_dropped, 101);
	EXPECT_EQ(mote_log_handler_remove("tap"), 0);
	tap_close(&t);
	EXPECT_EQ(lines_of(t.text, "some "), 499);
	EXPECT_EQ(lines_of(t.text, "Handler tap dropped 101 log events of a burst"), 1);
	free(t.text);
	/* When it is over, it starts anew. */
	tap_open(&t);
	w = to_tap(&t);
	w.burst_max = 5;
	w.burst_ms = 1;
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	for (int i = 0; i < 10; i++) {
		mote_log(MOTE_LOG_ERROR, "b");
		mote_sleep(mote_in_ms(2));
	}
	tap_drain(&t);
	EXPECT_EQ(mote_log_handler_remove("tap"), 0);
	tap_close(&t);
	EXPECT_EQ(lines_of(t.text, "b"), 10);
	free(t.text);
}

static void overloaded(void)
{
	struct mote_log_writer w;
	struct mote_msg *m;
	mote_ref ref;
	struct tap t;

	tap_open(&t);
	w = to_tap(&t);
	w.overload_kill = true;
	w.kill_qlen = 20;
	w.restart_ms = 1;
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	block();
	ref = mote_monitor(info.pid);
	flood(30, "a");
	EXPECT_EQ(info_now()->queued, 30);
	tap_drain(&t);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(m && mote_msg_down(m)->reason.kind == MOTE_SHUTDOWN);
	mote_msg_free(m);
	for (int i = 0; i < 60000 && !info_now()->id; i++)
		mote_sleep(mote_in_ms(1));
	log_many(1, "after");
	EXPECT_EQ(mote_log_handler_remove("tap"), 0);
	tap_close(&t);
	EXPECT_EQ(lines_of(t.text, "a "), 0);
	EXPECT_EQ(lines_of(t.text, "Handler tap restarted"), 1);
	EXPECT_EQ(lines_of(t.text, "after"), 1);
	free(t.text);
	/* By memory, and for good. */
	tap_open(&t);
	w = to_tap(&t);
	w.overload_kill = true;
	w.kill_memory = 20000;
	w.restart_ms = -1;
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	block();
	ref = mote_monitor(info.pid);
	for (int i = 0; i < 8; i++)
		mote_log(MOTE_LOG_ERROR, "%s", filler);
	tap_drain(&t);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(m && mote_msg_down(m)->reason.kind == MOTE_SHUTDOWN);
	mote_msg_free(m);
	EXPECT_EQ(mote_log_handler_remove("tap"), -ENOENT);
	tap_close(&t);
	free(t.text);
}

static void always_waiting(void)
{
	struct mote_log_writer w = { .size = sizeof(w), .id = "w", .path = path, .format = plain, .sync_qlen = -1 };
	char *text;

	unlink(path);
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(info_now()->mode, MOTE_LOG_SYNC);
		mote_log(MOTE_LOG_ERROR, "next");
		text = file_read(path);
		EXPECT_EQ(lines_of(text, "next"), i + 1);
		free(text);
		mote_sleep(mote_in_ms(i ? 0 : 150));	/* for it to be idle */
	}
	EXPECT_EQ(mote_log_handler_remove("w"), 0);
}

static void failing_writes(void)
{
	struct mote_log_writer w;
	struct tap t;

	signal(SIGPIPE, SIG_IGN);
	tap_open(&t);
	w = to_tap(&t);
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	close(t.fds[0]);
	mote_log(MOTE_LOG_ERROR, "x");
	EXPECT_EQ(mote_log_writer_sync("tap", PATIENCE), -EPIPE);
	EXPECT_EQ(info_now()->failed, 1);
	EXPECT_EQ(mote_log_writer_sync("tap", PATIENCE), 0);
	put_down(info.pid);
	/* Killed, it is no handler any more. */
	EXPECT_EQ(mote_log_handler_remove("tap"), -ENOENT);
	close(t.fds[1]);
	free(t.text);
}

/* --- the end of the runtime --- */

static void last_words(void *arg)
{
	/* The log has been told to stop meanwhile, and waits. */
	mote_sleep(mote_in_ms(30));
	mote_log(MOTE_LOG_ERROR, "%s", (char *)arg);
	mote_exit(mote_reason_error(1, "in a cleanup"));
}

static void ends_late(void *arg)
{
	mote_defer(last_words, "last words");
	mote_send(*(mote_pid *)arg, 1, NULL, 0);
	mote_receive(MOTE_FOREVER);
}

static void leave_all(void)
{
	struct mote_log_writer w = { .size = sizeof(w), .id = "w", .path = path };
	mote_pid self = mote_self();

	unlink(path);
	EXPECT_EQ(mote_log_writer_add(&w), 0);
	for (int i = 0; i < 5; i++) {
		mote_spawn(ends_late, &self);
		EXPECT(got_type(1));
	}
	mote_log(MOTE_LOG_ERROR, "the first process ends");
}

static void after_the_end(void)
{
	char *text = file_read(path);

	EXPECT_EQ(lines_of(text, "the first process ends"), 1);
	EXPECT_EQ(lines_of(text, "last words"), 5);
	free(text);
	EXPECT(!info_now()->id);
	mote_log(MOTE_LOG_ERROR, "nobody is there");
}

static void in_the_child(void)
{
	struct mote_log_writer w = { .size = sizeof(w), .id = "w", .path = path };
	int status;
	pid_t pid;

	EXPECT_EQ(mote_log_writer_add(&w), 0);
	pid = fork();
	if (!pid) {
		mote_log(MOTE_LOG_ERROR, "from the child");
		_exit(info_now()->id ? 1 : 0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(mote_log_handler_remove("w"), 0);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/log", dir);
	selftest_process("a writer writes to a file, in order", to_a_file);
	selftest_process("what it refuses", refused);
	selftest_process("below sync_qlen nobody waits", asynchronous);
	selftest_process("from sync_qlen on each waits", synchronous);
	selftest_process("from drop_qlen on events are dropped, and it is said", dropping);
	selftest_process("at flush_qlen the queue is thrown away", flushing);
	selftest_process("bursts are limited", bursts);
	selftest_process("overload_kill ends it, and it comes back", overloaded);
	selftest_process("sync_qlen may be always", always_waiting);
	selftest_process("writes that fail are counted; one that is killed is gone", failing_writes);
	selftest_process("writers outlive all others when the runtime stops", leave_all);
	selftest_case("and have written all", after_the_end);
	selftest_process("the child of a fork has none", in_the_child);
	unlink(path);
	rmdir(dir);
	return selftest_done();
}
