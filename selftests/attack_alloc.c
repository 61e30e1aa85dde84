// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Every n-th allocation fails, for many n: each call works or says clearly that it did not, what was promised comes all the
 * same, nothing leaks, nothing crashes, and when there is memory again everything works. Only in the build that attacks
 * itself: make ATTACK=1.
 *
 * Each n is a program of its own, this one, run under a seed: MOTE_SEED=s attack_alloc run n fails every n-th from where the
 * runtime has started, attack_alloc start n also before.
 */
#include "proc.h"

#include <dirent.h>
#include <malloc.h>
#include <sys/wait.h>

#ifndef MOTE_ATTACK

static void skipped(void)
{
	selftest_skip("it needs the build that attacks itself: make ATTACK=1");
}

int main(void)
{
	selftest_case("every n-th allocation fails", skipped);
	return selftest_done();
}

#else

void attack_fail_every(uint64_t n);	/* the library's */

static unsigned long nr_refused, nr_worked;
static unsigned long every;
static bool from_the_start;
static bool plenty;			/* no more fail */

/* Of a call: 0 or more is good, and so is -ENOMEM while memory is short. */
static bool went(long long result, const char *what)
{
	if (result >= 0) {
		nr_worked++;
		return true;
	}
	nr_refused++;
	if (result != -ENOMEM || plenty) {
		selftest_complain(__FILE__, __LINE__, what);
		test_note("%lld", result);
	}
	return false;
}

#define WENT(call) went(call, #call)
#define MADE(what) went((what) ? 0 : mote_errno(), #what)

enum { ASK = 1, HELLO, TICK, BYE, LARGE };

static void answerer(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type == BYE)
			mote_exit(MOTE_REASON_SHUTDOWN);
		if (m->type == ASK)
			mote_reply(mote_msg_from(m), ASK, m->data, m->size);
		mote_msg_free(m);
	}
}

static void call(void *state, struct mote_from from, const struct mote_msg *m)
{
	++*(int *)state;
	mote_reply(from, ASK, m->data, m->size);
}

static const struct mote_handler_ops server = { .size = sizeof(server), .state_size = 100, .call = call };

/* A process may also die because there was no stack, or no state, for it: that is said. */
static bool no_memory(const struct mote_reason *reason)
{
	return !plenty && reason->kind == MOTE_ERROR && reason->code == ENOMEM;
}

/* The promise: a monitor that was given fires, whatever memory there is. */
static void down_comes(mote_ref ref, mote_pid pid, uint32_t kind)
{
	struct mote_msg *m = mote_receive_ref(ref, PATIENCE);
	const struct mote_down_info *d = m ? mote_msg_down(m) : NULL;

	if (!EXPECT(d && mote_pid_equal(d->pid, pid) && (d->reason.kind == kind || no_memory(&d->reason))))
		test_describe(m);
	mote_msg_free(m);
}

static void asks(mote_pid pid, bool may_be_gone)
{
	for (int i = 0; i < 5; i++) {
		struct mote_msg *m = NULL;
		int err = mote_call(pid, ASK, &i, sizeof(i), &m, mote_in_ms(50));

		/* The answer may not have been made. */
		if (!plenty && (err == -ETIMEDOUT || (may_be_gone && (err == -EPIPE || err == -ESRCH))))
			continue;
		if (WENT(err)) {
			EXPECT(m && m->type == ASK && *(int *)m->data == i);
			mote_msg_free(m);
		}
	}
}

static void meets(mote_fn fn, const struct mote_handler_ops *ops)
{
	mote_ref ref;
	mote_pid p = mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), .fn = fn,
		.handler = ops, .flags = MOTE_MONITOR, .ref = &ref, .name = "met", .label = "the met" });

	if (!MADE(mote_pid_valid(p)))
		return;
	asks(p, true);
	mote_exit_pid(p, MOTE_REASON_KILL);
	while (!plenty && mote_alive(p) && WENT(mote_exit_pid(p, MOTE_REASON_KILL)) == false)
		mote_yield();
	down_comes(ref, p, MOTE_KILLED);
	EXPECT(!mote_pid_valid(mote_whereis("met")));
}

static void links(void)
{
	mote_pid p = mote_spawn(answerer, NULL);
	struct mote_msg *m;
	int err;

	if (!MADE(mote_pid_valid(p)))
		return;
	err = mote_link(p);
	if (WENT(err)) {
		while (!WENT(mote_send(p, BYE, NULL, 0)))
			mote_yield();
		/* It comes, or there is nothing left to make one of; the test of that is the monitors'. */
		m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
		EXPECT(m && mote_msg_exit(m) && mote_pid_equal(mote_msg_exit(m)->pid, p));
		mote_msg_free(m);
	} else {
		while (mote_exit_pid(p, MOTE_REASON_KILL))
			mote_yield();
	}
}

/* What was sent arrives, once, in order; what was not does not. */
static void sends(void)
{
	static char large[10000];
	unsigned long sent = 0, got = 0;
	mote_pid self = mote_self();
	struct mote_msg *m;

	for (int i = 0; i < 40; i++) {
		if (i % 4 == 0) {
			m = mote_msg_new(HELLO, (size_t)i * 300);
			if (!MADE(m))
				continue;
			if (WENT(mote_send_msg(self, m)))
				sent++;
			else
				mote_msg_free(m);
			continue;
		}
		sent += WENT(mote_send(self, HELLO, large, i % 4 == 1 ? sizeof(large) : (size_t)i));
	}
	while ((m = mote_receive_type(HELLO, MOTE_NOW))) {
		got++;
		mote_msg_free(m);
	}
	EXPECT_EQ(sent, got);
}

static void timers(void)
{
	unsigned long set = 0, got = 0;

	for (int i = 0; i < 20; i++) {
		mote_timer t = mote_send_after(mote_in_us(100 * i), mote_self(), TICK, &i, sizeof(i));

		if (!MADE(t.id))
			continue;
		set++;
		if (i % 3 == 0 && mote_timer_cancel(t, NULL) == 0)
			set--;
	}
	for (struct mote_msg *m; got < set && (m = mote_receive_type(TICK, PATIENCE)); got++)
		mote_msg_free(m);
	EXPECT_EQ(set, got);
	mote_sleep(mote_in_ms(3));
	EXPECT(!mote_receive_type(TICK, MOTE_NOW));
}

static void names(void)
{
	char name[32];
	int made = 0;

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "name.%d", i);
		if (WENT(mote_register(name, mote_self()))) {
			EXPECT(mote_pid_equal(mote_whereis(name), mote_self()));
			made++;
		} else {
			EXPECT(!mote_pid_valid(mote_whereis(name)));
		}
	}
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "name.%d", i);
		made -= mote_unregister(name) == 0;
	}
	EXPECT_EQ(made, 0);
}

static _Atomic int cleaned;

static void clean(void *arg)
{
	(void)arg;
	atomic_fetch_add(&cleaned, 1);
}

static void uses_memory(void *arg)
{
	(void)arg;
	for (size_t size = 1; size < 100000; size *= 3) {
		char *mem = mote_alloc(size), *more;

		if (!MADE(mem))
			continue;
		memset(mem, 7, size);
		more = mote_realloc(mem, 2 * size);
		if (MADE(more))
			EXPECT(more[0] == 7 && more[size - 1] == 7);
	}
	for (int i = 0; i < 5; i++) {
		if (WENT(mote_defer(clean, NULL)))
			atomic_fetch_sub(&cleaned, 1);
	}
}

static void memory(void)
{
	mote_ref ref;
	mote_pid p;

	atomic_store(&cleaned, 0);
	p = mote_spawn_monitor(uses_memory, NULL, &ref);
	if (MADE(mote_pid_valid(p)))
		down_comes(ref, p, MOTE_NORMAL);
	EXPECT_EQ(atomic_load(&cleaned), 0);
}

static void aliases(void)
{
	mote_ref refs[40];
	int n = 0;

	for (int i = 0; i < 40; i++) {
		refs[n] = i & 1 ? mote_alias(0) : mote_monitor(mote_self());
		if (i & 1 && MADE(refs[n].id))
			n++;
	}
	for (int i = 0; i < n; i++) {
		if (WENT(mote_send_alias(refs[i], HELLO, NULL, 0))) {
			struct mote_msg *m = mote_receive_ref(refs[i], PATIENCE);

			EXPECT(m);
			mote_msg_free(m);
		}
		EXPECT_EQ(mote_unalias(refs[i]), 1);
	}
}

static void crowd_member(void *arg)
{
	(void)arg;
	mote_yield();
}

static void crowd(void)
{
	mote_ref refs[80];
	mote_pid p[80];
	int n = 0;

	for (int i = 0; i < 80; i++) {
		p[n] = mote_spawn_monitor(crowd_member, NULL, &refs[n]);
		if (MADE(mote_pid_valid(p[n])))
			n++;
	}
	while (n-- > 0)
		down_comes(refs[n], p[n], MOTE_NORMAL);
}

static void all(void)
{
	meets(answerer, NULL);
	meets(NULL, &server);
	links();
	sends();
	timers();
	names();
	memory();
	aliases();
	crowd();
}

static void work(void *arg)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	(void)arg;
	if (!from_the_start)
		attack_fail_every(every);
	mote_trap_exit(true);
	all();
	attack_fail_every(0);
	plenty = true;
	/* Late answers, and exits of those that could not be linked, are none of the next round's. */
	for (struct mote_msg *m; (m = mote_receive(mote_in_ms(60))); )
		mote_msg_free(m);
	all();
	EXPECT_EQ(mote_runtime_info(&info), 0);
	EXPECT_EQ(info.processes, 1);
}

static int nr_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static size_t mapped(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (f && fscanf(f, "%lu", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages;
}

static size_t allocated(void)
{
#if SANITIZED
	return 0;		/* LeakSanitizer counts */
#else
	struct mallinfo2 info;

	malloc_trim(0);
	info = mallinfo2();
	return info.uordblks + info.hblkhd;
#endif
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Exit status: 0 it is as it should be, 3 the runtime did not start for lack of memory, 1 otherwise. */
static int work_once(void)
{
	size_t bytes, pages;
	int err, fds;
	char n[32];

	/* What is made once and stays is there. */
	mote_run(nothing, NULL, NULL);
	mote_run(nothing, NULL, NULL);
	test_note("every %lu. fails%s", every, from_the_start ? ", from the start" : "");
	snprintf(n, sizeof(n), "%lu", from_the_start ? every : 0);
	setenv("MOTE_ATTACK_ALLOC", n, 1);
	fds = nr_fds();
	bytes = allocated();
	pages = mapped();
	err = mote_run(work, NULL, NULL);
	if (err < 0)
		EXPECT_EQ(err, -ENOMEM);
	else
		EXPECT_EQ(err, 0);
	EXPECT_EQ(allocated(), bytes);
	if (!SANITIZED)
		EXPECT(mapped() <= pages + 64);		/* malloc's own top may have grown */
	EXPECT_EQ(nr_fds(), fds);
	test_note("%lu calls worked, %lu were refused", nr_worked, nr_refused);
	return atomic_load(&selftest_failed) ? 1 : err < 0 ? 3 : 0;
}

static unsigned long all_worked, all_refused;

/* False: it was not as it should be; what it printed is shown. */
static bool run_with(const char *how, unsigned long n, int *status)
{
	unsigned long worked, refused;
	char command[200], line[300], said[20][300];
	unsigned int lines = 0;
	FILE *f;

	/* What threads keep for their next allocations would count as in use. */
	snprintf(command, sizeof(command), "GLIBC_TUNABLES=glibc.malloc.tcache_count=0 MOTE_SEED=%lu timeout 60 "
		 "/proc/%d/exe %s %lu 2>&1", n, (int)getpid(), how, n);
	f = popen(command, "re");
	if (!EXPECT(f))
		return false;
	while (fgets(line, sizeof(line), f)) {
		memcpy(said[lines++ % 20], line, sizeof(line));
		if (sscanf(line, "# %lu calls worked, %lu were refused", &worked, &refused) == 2) {
			all_worked += worked;
			all_refused += refused;
		}
	}
	*status = pclose(f);
	if (WIFEXITED(*status) && (WEXITSTATUS(*status) == 0 || WEXITSTATUS(*status) == 3))
		return true;
	test_note("GLIBC_TUNABLES=glibc.malloc.tcache_count=0 MOTE_SEED=%lu %s %s %lu: status %#x", n,
		  program_invocation_name, how, n, *status);
	for (unsigned int i = lines > 20 ? lines - 20 : 0; i < lines; i++)
		printf("#   %s", said[i % 20]);
	return false;
}

static void try_all(const char *how, unsigned long last, unsigned long *started, unsigned long *refused)
{
	unsigned int bad = 0;

	*started = *refused = all_worked = all_refused = 0;
	/* Were there none at all, nothing that is running could ever be ended. */
	for (unsigned long n = 2; n < last && bad < 3; n += 1 + n / 20) {
		int status = 0;

		if (!EXPECT(run_with(how, n, &status)))
			bad++;
		*started += status == 0;
		*refused += WEXITSTATUS(status) == 3;
	}
	test_note("%lu runtimes started, %lu were refused; %lu calls worked, %lu were refused", *started, *refused, all_worked,
		  all_refused);
}

static void while_it_runs(void)
{
	unsigned long started, refused;

	try_all("run", 300, &started, &refused);
	EXPECT(started > 0 && refused == 0 && all_worked > 0 && all_refused > 0);
}

static void from_start(void)
{
	unsigned long started, refused;

	try_all("start", 1500, &started, &refused);
	EXPECT(started > 0 && refused > 0);
}

static void none(void)
{
	int status = -1;

	EXPECT(run_with("run", 0, &status));
	EXPECT_EQ(status, 0);
}

int main(int argc, char **argv)
{
	if (argc > 2) {
		every = strtoul(argv[2], NULL, 0);
		from_the_start = !strcmp(argv[1], "start");
		return work_once();
	}
	selftest_case("with memory", none);
	selftest_case("every n-th allocation fails, once the runtime has started", while_it_runs);
	selftest_case("every n-th allocation fails, from the start", from_start);
	return selftest_done();
}

#endif
