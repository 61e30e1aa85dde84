// SPDX-License-Identifier: MIT OR GPL-2.0
/* Streams of tasks: Task.async_stream. A row of features.md C5 each. */
#include "proc.h"

/* Items: 0, 1, ... n - 1, as pointers. */
struct numbers {
	uintptr_t next, n;
};

static bool next_number(void *it, void **item)
{
	struct numbers *numbers = it;

	if (numbers->next == numbers->n)
		return false;
	*item = (void *)numbers->next++;
	return true;
}

static int64_t same(void *item)
{
	return (int64_t)(intptr_t)item;
}

static struct mote_task_stream *stream_of(mote_task_fn fn, struct numbers *numbers, unsigned int max_concurrency)
{
	return mote_task_stream(&(struct mote_task_stream_opts){
		.size = sizeof(struct mote_task_stream_opts), .fn = fn, .next = next_number, .it = numbers,
		.max_concurrency = max_concurrency });
}

static bool is_value(struct mote_task_stream *stream, int64_t value)
{
	struct mote_task_result r;
	int err = mote_task_stream_next(stream, &r, PATIENCE);

	if (!err && !r.err && r.value == value && !r.m && r.item == (void *)(intptr_t)value)
		return true;
	test_note("%d: item %p, err %d, value %lld; not %lld", err, r.item, r.err, (long long)r.value,
		  (long long)value);
	return false;
}

static bool is_end(struct mote_task_stream *stream)
{
	struct mote_task_result r;

	return mote_task_stream_next(stream, &r, PATIENCE) == -ENOENT;
}

static void in_order(void)
{
	for (unsigned int max = 0; max < 20; max += 3) {
		struct numbers numbers = { .n = 100 };
		struct mote_task_stream *stream = stream_of(same, &numbers, max);

		mote_send(mote_self(), 5, NULL, 0);
		for (int i = 0; i < 100; i++)
			EXPECT(is_value(stream, i));
		EXPECT(is_end(stream));
		EXPECT(is_end(stream));
		EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
		EXPECT(got_type(5));
	}
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(mote_task_stream_stop(NULL, PATIENCE), 0);
}

static void nothing_at_all(void)
{
	struct numbers numbers = { .n = 0 };
	struct mote_task_stream *stream = stream_of(same, &numbers, 1);

	EXPECT(is_end(stream));
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
}

/* Each waits to be told: then it answers. */
static mote_pid waiting[16];

static int64_t when_told(void *item)
{
	struct mote_msg *m;

	waiting[(uintptr_t)item] = mote_self();
	m = mote_receive_type(1, MOTE_FOREVER);
	mote_msg_free(m);
	return (int64_t)(intptr_t)item;
}

/* Of those that are started, this one is told. */
static void tell(int item)
{
	while (!mote_pid_valid(waiting[item]))
		mote_sleep(mote_in_ms(1));
	mote_send(waiting[item], 1, NULL, 0);
}

static void run_ahead(struct mote_task_stream *stream)
{
	struct mote_task_result r;

	EXPECT_EQ(mote_task_stream_next(stream, &r, mote_in_ms(1)), -EAGAIN);
}

static void unordered(void)
{
	struct numbers numbers = { .n = 3 };
	struct mote_task_stream *stream;

	if (test_one_thread())
		return;
	memset(waiting, 0, sizeof(waiting));
	stream = mote_task_stream(&(struct mote_task_stream_opts){
		.size = sizeof(struct mote_task_stream_opts), .fn = when_told, .next = next_number, .it = &numbers,
		.max_concurrency = 3, .unordered = true });
	run_ahead(stream);
	tell(2);
	EXPECT(is_value(stream, 2));
	tell(0);
	EXPECT(is_value(stream, 0));
	tell(1);
	EXPECT(is_value(stream, 1));
	EXPECT(is_end(stream));
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
}

/* Items are taken when there is room for their tasks, and not before the caller asks. */
static void lazy(void)
{
	struct numbers numbers = { .n = 10 };
	struct mote_task_stream *stream;

	if (test_one_thread())
		return;
	memset(waiting, 0, sizeof(waiting));
	stream = stream_of(when_told, &numbers, 2);
	EXPECT_EQ(numbers.next, 0);
	run_ahead(stream);
	EXPECT_EQ(numbers.next, 2);
	run_ahead(stream);
	EXPECT_EQ(numbers.next, 2);
	tell(0);
	EXPECT(is_value(stream, 0));
	/* What is done is not taken as room until the caller comes again. */
	EXPECT_EQ(numbers.next, 2);
	run_ahead(stream);
	EXPECT_EQ(numbers.next, 3);
	/* A slow head keeps its place; those behind it wait, done, and others run. */
	tell(2);
	while (numbers.next < 4)
		run_ahead(stream);
	tell(3);
	while (numbers.next < 5)
		run_ahead(stream);
	tell(1);
	EXPECT(is_value(stream, 1));
	EXPECT(is_value(stream, 2));
	EXPECT(is_value(stream, 3));
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	EXPECT(mailbox_is_empty());
}

static _Atomic int at_once, most;

static int64_t counts(void *item)
{
	int n = atomic_fetch_add(&at_once, 1) + 1, seen = atomic_load(&most);

	while (n > seen && !atomic_compare_exchange_weak(&most, &seen, n))
		;
	mote_yield();
	atomic_fetch_sub(&at_once, 1);
	return (int64_t)(intptr_t)item;
}

static void max_concurrency(void)
{
	struct numbers numbers = { .n = 300 };
	struct mote_task_stream *stream = stream_of(counts, &numbers, 5);

	for (int i = 0; i < 300; i++)
		EXPECT(is_value(stream, i));
	EXPECT(atomic_load(&most) <= 5 && atomic_load(&most) >= 2);
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	/* As many as schedulers. */
	numbers = (struct numbers){ .n = 16 };
	memset(waiting, 0, sizeof(waiting));
	stream = stream_of(when_told, &numbers, 0);
	run_ahead(stream);
	EXPECT_EQ(numbers.next, 3);
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
}

static bool next_shared(void *it, void **item)
{
	static int shared;

	shared = (int)(uintptr_t)((struct numbers *)it)->next;
	if (!next_number(it, item))
		return false;
	*item = &shared;
	return true;
}

static int64_t read_int(void *item)
{
	return *(int *)item;
}

static void copied_items(void)
{
	struct numbers numbers = { .n = 50 };
	struct mote_task_stream *stream = mote_task_stream(&(struct mote_task_stream_opts){
		.size = sizeof(struct mote_task_stream_opts), .fn = read_int, .next = next_shared, .it = &numbers,
		.item_size = sizeof(int), .max_concurrency = 8 });

	for (int i = 0; i < 50; i++) {
		struct mote_task_result r;

		EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), 0);
		EXPECT_EQ(r.value, i);
	}
	EXPECT(is_end(stream));
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
}

static int64_t bytes(void *item)
{
	char text[200];

	memset(text, 'a' + (int)(uintptr_t)item, sizeof(text));
	return mote_task_reply(text, (uintptr_t)item * 10);
}

static void bytes_as_answers(void)
{
	struct numbers numbers = { .n = 15 };
	struct mote_task_stream *stream = stream_of(bytes, &numbers, 4);

	for (uint32_t i = 0; i < 10; i++) {
		struct mote_task_result r;

		EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), 0);
		EXPECT(!r.err && r.m && r.m->type == MOTE_MSG_TASK_DATA && r.m->size == 10 * i);
		EXPECT(!i || (r.m && *(char *)r.m->data == (char)('a' + i)));
		mote_msg_free(r.m);
	}
	/* The others' go with the stream. */
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	EXPECT(mailbox_is_empty());
}

static int64_t second_fails(void *item)
{
	if (item == (void *)1)
		mote_exit((struct mote_reason){ .kind = MOTE_CUSTOM, .code = 4 });
	return (int64_t)(intptr_t)item;
}

static void failing_owner(void *arg)
{
	struct numbers numbers = { .n = 3 };
	struct mote_task_stream *stream = stream_of(second_fails, &numbers, 2);
	struct mote_task_result r;

	mote_trap_exit(arg != NULL);
	while (mote_task_stream_next(stream, &r, PATIENCE) != -ENOENT)
		if (r.err == -EPIPE) {
			EXPECT(r.item == (void *)1 && mote_msg_down(r.m)->reason.kind == MOTE_CUSTOM);
			mote_msg_free(r.m);
		} else {
			EXPECT(!r.err && r.item == (void *)(intptr_t)r.value);
		}
	/* No EXIT is left behind by any of them. */
	EXPECT(mailbox_is_empty());
	mote_exit(MOTE_REASON_SHUTDOWN);
}

static void crash(void)
{
	mote_ref ref;
	mote_pid pid = mote_spawn_monitor(failing_owner, NULL, &ref);

	EXPECT(got_down(ref, pid, MOTE_CUSTOM));
	pid = mote_spawn_monitor(failing_owner, &ref, &ref);
	EXPECT(got_down(ref, pid, MOTE_SHUTDOWN));
}

static void nolink(void)
{
	struct numbers numbers = { .n = 3 };
	struct mote_task_stream *stream = mote_task_stream(&(struct mote_task_stream_opts){
		.size = sizeof(struct mote_task_stream_opts), .fn = second_fails, .next = next_number, .it = &numbers,
		.max_concurrency = 3, .nolink = true });
	struct mote_task_result r;

	EXPECT(is_value(stream, 0));
	EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), 0);
	EXPECT(r.err == -EPIPE && r.item == (void *)1 && r.m && mote_msg_down(r.m)->reason.code == 4);
	mote_msg_free(r.m);
	EXPECT(is_value(stream, 2));
	EXPECT(is_end(stream));
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	EXPECT(mailbox_is_empty());
}

static int64_t second_hangs(void *item)
{
	if (item == (void *)1)
		mote_receive(MOTE_FOREVER);
	return (int64_t)(intptr_t)item;
}

static void timeouts(void)
{
	struct mote_task_stream_opts opts = { .size = sizeof(opts), .fn = second_hangs, .next = next_number,
					      .max_concurrency = 2, .timeout_ms = 20, .on_timeout = MOTE_TASK_KILL };
	struct numbers numbers = { .n = 4 };
	struct mote_task_stream *stream;
	struct mote_task_result r;
	uintptr_t taken;

	opts.it = &numbers;
	stream = mote_task_stream(&opts);
	EXPECT(is_value(stream, 0));
	EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), 0);
	EXPECT(r.err == -ETIMEDOUT && !r.m && r.item == (void *)1);
	EXPECT(is_value(stream, 2));
	EXPECT(is_value(stream, 3));
	EXPECT(is_end(stream));
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	/* Elixir: exit. The stream ends, the others are killed. */
	numbers = (struct numbers){ .n = 4 };
	opts.on_timeout = MOTE_TASK_NOTHING;
	opts.max_concurrency = 1;
	stream = mote_task_stream(&opts);
	EXPECT(is_value(stream, 0));
	EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), -ETIMEDOUT);
	EXPECT(r.item == (void *)1);
	taken = numbers.next;
	EXPECT(is_end(stream));
	EXPECT_EQ(numbers.next, taken);
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	/* Never. */
	numbers = (struct numbers){ .next = 1, .n = 2 };
	opts.timeout_ms = -1;
	stream = mote_task_stream(&opts);
	EXPECT_EQ(mote_task_stream_next(stream, &r, mote_in_ms(50)), -EAGAIN);
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	EXPECT(mailbox_is_empty());
}

static _Atomic int cleanups;

static void cleanup(void *arg)
{
	(void)arg;
	atomic_fetch_add(&cleanups, 1);
}

static int64_t hangs(void *item)
{
	(void)item;
	mote_trap_exit(true);
	mote_defer(cleanup, NULL);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		bool exit = m->type == MOTE_MSG_EXIT;
		uint32_t kind = exit ? mote_msg_exit(m)->reason.kind : 0;

		mote_msg_free(m);
		if (exit && kind == MOTE_CUSTOM)
			return 0;
	}
}

/* Killed, also those that trap exits; all are gone when it returns. */
static void stopped_early(void)
{
	struct numbers numbers = { .n = 10 };
	struct mote_task_stream *stream = stream_of(hangs, &numbers, 4);
	int before = atomic_load(&cleanups), err;
	struct mote_task_result r;

	EXPECT_EQ(mote_task_stream_next(stream, &r, mote_in_ms(30)), -EAGAIN);
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	EXPECT(atomic_load(&cleanups) <= before + 4);
	EXPECT_EQ(numbers.next, 4);
	EXPECT(mailbox_is_empty());
	stream = stream_of(hangs, &numbers, 1);
	EXPECT_EQ(mote_task_stream_stop(stream, MOTE_NOW), 0);
	/* Not waited for: what comes of them is not wanted any more. */
	numbers = (struct numbers){ .n = 1 };
	stream = stream_of(hangs, &numbers, 1);
	EXPECT_EQ(mote_task_stream_next(stream, &r, mote_in_ms(5)), -EAGAIN);
	err = mote_task_stream_stop(stream, MOTE_NOW);
	EXPECT(err == -ETIMEDOUT || !err);
	for (int i = 0; i < 200 && atomic_load(&cleanups) < before + 5; i++)
		mote_sleep(mote_in_ms(1));
	mote_sleep(mote_in_ms(5));
	EXPECT(mailbox_is_empty());
}

static void hanging_owner(void *arg)
{
	struct numbers numbers = { .n = 4 };
	struct mote_task_stream *stream = stream_of(hangs, &numbers, 4);
	struct mote_task_result r;

	(void)arg;
	mote_task_stream_next(stream, &r, MOTE_FOREVER);
}

/* They get the owner's reason, as by a link: those that trap it may go on. */
static void owner_dies(void)
{
	mote_deadline patience = PATIENCE;
	mote_ref ref;
	mote_pid pid;

	if (test_one_thread())
		return;
	atomic_store(&cleanups, 0);
	pid = mote_spawn_monitor(hanging_owner, NULL, &ref);
	mote_sleep(mote_in_ms(20));
	mote_exit_pid(pid, (struct mote_reason){ .kind = MOTE_CUSTOM });
	EXPECT(got_down(ref, pid, MOTE_CUSTOM));
	while (atomic_load(&cleanups) < 4 && mote_now().ns < patience.ns)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(atomic_load(&cleanups), 4);
}

struct theft {
	struct mote_task_stream *stream;
	mote_pid owner;
};

static void thief(void *arg)
{
	struct theft *theft = arg;
	struct mote_task_result r;

	EXPECT_EQ(mote_task_stream_next(theft->stream, &r, PATIENCE), -EPERM);
	EXPECT_EQ(mote_task_stream_stop(theft->stream, PATIENCE), -EPERM);
	mote_send(theft->owner, 1, NULL, 0);
}

static void only_the_owner(void)
{
	struct numbers numbers = { .n = 1 };
	struct theft theft = { stream_of(same, &numbers, 1), mote_self() };

	mote_spawn(thief, &theft);
	EXPECT(got_type(1));
	EXPECT(is_value(theft.stream, 0));
	EXPECT_EQ(mote_task_stream_stop(theft.stream, PATIENCE), 0);
}

static void bad_options(void)
{
	struct mote_task_stream_opts opts = { .size = sizeof(opts), .fn = same };

	EXPECT(!mote_task_stream(NULL) && mote_errno() == -EINVAL);
	EXPECT(!mote_task_stream(&opts) && mote_errno() == -EINVAL);
	opts.next = next_number;
	opts.on_timeout = MOTE_TASK_IGNORE;
	EXPECT(!mote_task_stream(&opts) && mote_errno() == -EINVAL);
}

/* Many streams on all schedulers, of which some are left early. */
static int64_t some_time(void *item)
{
	uint64_t random = (uint64_t)(uintptr_t)item * 77 + 1;

	test_jitter(&random);
	if (!((uintptr_t)item % 13))
		mote_exit((struct mote_reason){ .kind = MOTE_SHUTDOWN });
	return (int64_t)(intptr_t)item;
}

static void storm_owner(void *arg)
{
	uint64_t random = test_seed() ^ (uint64_t)(uintptr_t)arg << 9;
	unsigned long rounds = test_rounds(60);

	for (unsigned long i = 0; i < rounds; i++) {
		struct numbers numbers = { .n = 100 };
		struct mote_task_stream *stream = mote_task_stream(&(struct mote_task_stream_opts){
			.size = sizeof(struct mote_task_stream_opts), .fn = some_time, .next = next_number,
			.it = &numbers, .max_concurrency = 1 + test_random(&random) % 20, .nolink = true,
			.unordered = i & 1 });
		uint32_t take = test_random(&random) % 130;
		uint64_t seen = 0, sum = 0;
		struct mote_task_result r;

		for (uint32_t n = 0; n < take && !mote_task_stream_next(stream, &r, PATIENCE); n++) {
			EXPECT_EQ(r.err, (uintptr_t)r.item % 13 ? 0 : -EPIPE);
			EXPECT(i & 1 || (uintptr_t)r.item == n);
			EXPECT(r.err || r.value == (int64_t)(intptr_t)r.item);
			mote_msg_free(r.m);
			sum += (uintptr_t)r.item;
			seen++;
		}
		EXPECT(seen < 100 || sum == 4950);
		EXPECT_EQ(seen, take < 100 ? take : 100);
		EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	}
	EXPECT(mailbox_is_empty());
}

static void storm(void)
{
	mote_ref ref[4];

	for (uintptr_t i = 0; i < 4; i++)
		mote_spawn_monitor(storm_owner, (void *)i, &ref[i]);
	for (int i = 0; i < 4; i++)
		mote_msg_free(mote_receive_ref(ref[i], MOTE_FOREVER));
}

static _Atomic bool streaming;

static int64_t sleeps(void *item)
{
	(void)item;
	mote_sleep(MOTE_FOREVER);
	return 0;
}

static void streaming_owner(void *arg)
{
	struct numbers numbers = { .n = 200 };
	struct mote_task_stream *stream = stream_of(sleeps, &numbers, 200);
	struct mote_task_result r;

	(void)arg;
	atomic_store(&streaming, true);
	mote_task_stream_next(stream, &r, MOTE_FOREVER);
}

/* Killed while it starts them: each task ends with it, the one that is just being started, too. */
static void race_owner(void)
{
	uint64_t random = test_seed();
	mote_ref ref;
	mote_pid pid;

	for (unsigned long i = 0; i < test_rounds(1500); i++) {
		atomic_store(&streaming, false);
		pid = mote_spawn_monitor(streaming_owner, NULL, &ref);
		while (!atomic_load(&streaming))
			mote_yield();
		test_spin(test_random(&random) % 60000);
		mote_exit_pid(pid, MOTE_REASON_KILL);
		mote_msg_free(mote_receive_ref(ref, PATIENCE));
		while (!mote_pid_equal(mote_process_next(MOTE_NOBODY), mote_self()) ||
		       mote_pid_valid(mote_process_next(mote_self())))
			mote_sleep(mote_in_us(100));
	}
}

int main(void)
{
	selftest_process("results in order", in_order);
	selftest_process("no items", nothing_at_all);
	selftest_process_opts("unordered results", unordered, SCHEDULERS(2));
	selftest_process_opts("items are taken when there is room", lazy, SCHEDULERS(2));
	selftest_process_opts("max_concurrency", max_concurrency, SCHEDULERS(3));
	selftest_process("items may be copied", copied_items);
	selftest_process("bytes as answers", bytes_as_answers);
	selftest_process("a crash ends the owner, or is a result to one that traps exits", crash);
	selftest_process("nolink: a crash is a result", nolink);
	selftest_process("timeout and on_timeout", timeouts);
	selftest_process("a stream that is left early stops its tasks", stopped_early);
	selftest_process("tasks end with their owner", owner_dies);
	selftest_process("only the owner may take results", only_the_owner);
	selftest_process("options that cannot be", bad_options);
	selftest_process("streams in a storm", storm);
	selftest_process_opts("race: kill against the start of tasks: none is left behind", race_owner, SCHEDULERS(2));
	return selftest_done();
}
