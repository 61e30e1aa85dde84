// SPDX-License-Identifier: MIT OR GPL-2.0
/* Crashes that end their process and nobody else: what the reason says, what is given back, what goes on. */
#include "proc.h"

#include <assert.h>
#include <fcntl.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { GO = 1, WORD, ASK };

#ifdef __clang__
#define OPTIMIZE(how)
#define KEEP __attribute__((noinline, no_sanitize("thread")))
#else
#define OPTIMIZE(how) __attribute__((optimize(how)))
/* Under its own name; and ThreadSanitizer would look such addresses up. */
#define KEEP __attribute__((noinline, noipa, no_sanitize("thread")))
#endif

static volatile int zero;
static char *unmapped;
static volatile size_t many = 300;

KEEP static void crash_here(void *arg)
{
	(void)arg;
	*(volatile int *)(uintptr_t)(0x18 + zero) = 1;
}

KEEP static int recurse(int n)
{
	volatile char frame[300];

	frame[0] = (char)n;
	return n < 0 ? 0 : recurse(n + 1) + frame[0];
}

KEEP static void overflow(void *arg)
{
	(void)arg;
	recurse(zero);
}

KEEP static void large_frame(void *arg)
{
	volatile char frame[1 << 20];

	(void)arg;
	frame[zero] = 1;
	frame[sizeof(frame) - 1] = frame[zero];
}

#if defined(__x86_64__)		/* elsewhere the machine has an answer */
KEEP static void divide(void *arg)
{
	(void)arg;
	zero = 5 / zero;
}
#endif

KEEP static void give_up(void *arg)
{
	(void)arg;
	abort();
}

KEEP static void raise_it(void *arg)
{
	(void)arg;
	raise(SIGABRT);
	__asm__ volatile("" ::: "memory");
}

KEEP static void assert_wrong(void *arg)
{
	assert(arg != NULL);
}

KEEP static void trap(void *arg)
{
	(void)arg;
	__builtin_trap();
}

KEEP static void in_memset(void *arg)
{
	memset(unmapped + zero, 1, many);
	__asm__ volatile("" : : "r"(arg) : "memory");
}

KEEP static void in_strlen(void *arg)
{
	volatile size_t n = strlen(unmapped + zero);

	(void)arg;
	(void)n;
}

KEEP static void jump_away(void *arg)
{
	((void (*)(void))(unmapped + zero))();
	__asm__ volatile("" : : "r"(arg) : "memory");
}

KEEP static void call_null(void *arg)
{
	((void (*)(void))(uintptr_t)zero)();
	__asm__ volatile("" : : "r"(arg) : "memory");
}

OPTIMIZE("omit-frame-pointer") KEEP static void no_frame_pointer(void *arg)
{
	crash_here(arg);
	__asm__ volatile("" ::: "memory");
}

#if defined(__x86_64__)
KEEP static void not_canonical(void *arg)
{
	(void)arg;
	*(volatile int *)((uintptr_t)0xdead << 48 | (uintptr_t)zero) = 1;
}
#endif

KEEP static void wild_stack_pointer(void *arg)
{
	(void)arg;
#if defined(__x86_64__)
	__asm__ volatile("movq $8, %%rsp\n\tpushq $1" ::: "memory");
#elif defined(__aarch64__)
	__asm__ volatile("mov x9, #16\n\tmov sp, x9\n\tstr x9, [sp]" ::: "x9", "memory");
#endif
	__builtin_unreachable();
}

KEEP static void other_stack_pointer(void *arg)
{
	(void)arg;
	/* into memory that is there, but no stack of the process's */
#if defined(__x86_64__)
	__asm__ volatile("movq %0, %%rsp\n\tmovl $1, (%1)" : : "r"(unmapped + 4096 + 2048), "r"(0L) : "memory");
#elif defined(__aarch64__)
	__asm__ volatile("mov sp, %0\n\tstr wzr, [%1]" : : "r"(unmapped + 4096 + 2048), "r"(0L) : "memory");
#endif
	__builtin_unreachable();
}

#if defined(__x86_64__)		/* elsewhere the return address is below the array */
OPTIMIZE("no-stack-protector") KEEP static void smash_stack(void *arg)
{
	volatile uintptr_t words[4];

	(void)arg;
	/* away with all that the callers have left there: the return goes nowhere */
	for (volatile uintptr_t *p = words; p < words + 12 + zero; p++)
		*p = 0x10;
}
#endif

extern void __stack_chk_fail(void);

KEEP static void smash_noticed(void *arg)
{
	(void)arg;
	__stack_chk_fail();
	__asm__ volatile("" ::: "memory");
}

static int compare(const void *a, const void *b)
{
	const int *x = a, *y = b;

	if (*x == 77 || *y == 77)
		crash_here(NULL);
	return *x - *y;
}

/* Large enough that qsort() takes memory for it. */
KEEP static void in_qsort(void *arg)
{
	static int large[4096];
	int few[16];

	for (int i = 0; i < 4096; i++)
		large[i] = 4096 - i;
	for (int i = 0; i < 16; i++)
		few[i] = 70 + i;
	if (arg)
		qsort(large, 4096, sizeof(large[0]), compare);
	qsort(few, 16, sizeof(few[0]), compare);
}

KEEP static void in_bsearch(void *arg)
{
	static const int numbers[] = { 1, 5, 77, 80, 90 };
	volatile const void *found = bsearch(&(int){ 80 }, numbers, 5, sizeof(numbers[0]), compare);

	(void)arg;
	(void)found;
}

struct expected {
	const char *name;
	mote_fn fn;
	void *arg;
	int signal, other;
	const char *says;
	unsigned int flags;
	bool bare;		/* sanitizers catch it themselves, or put functions of their own between it and libc */
};

static const struct expected kinds[] = {
	{ "a store to NULL", crash_here, NULL, SIGSEGV, 0, " at 0x18 in crash_here+", 0, false },
	{ "infinite recursion", overflow, NULL, SIGSEGV, 0, "stack overflow in recurse+", MOTE_CRASH_OVERFLOW, false },
	{ "a frame of 1 MiB", large_frame, NULL, SIGSEGV, 0, "stack overflow in large_frame+", MOTE_CRASH_OVERFLOW,
	  false },
#if defined(__x86_64__)
	{ "division by zero", divide, NULL, SIGFPE, 0, "(SIGFPE) in divide+", 0, true },
	{ "a smashed stack", smash_stack, NULL, SIGSEGV, SIGBUS, "signal", 0, true },
	{ "an address of no kind", not_canonical, NULL, SIGSEGV, 0, "(SIGSEGV) in not_canonical+",
	  MOTE_CRASH_NO_ADDRESS, false },
#endif
	{ "abort()", give_up, NULL, SIGABRT, 0, "< give_up+", MOTE_CRASH_NO_ADDRESS, true },
	{ "raise(SIGABRT)", raise_it, NULL, SIGABRT, 0, "< raise_it+", MOTE_CRASH_NO_ADDRESS, true },
	{ "assert()", assert_wrong, NULL, SIGABRT, 0, "< assert_wrong+", MOTE_CRASH_NO_ADDRESS, true },
	{ "a trap", trap, NULL, SIGILL, SIGTRAP, " in trap+", 0, false },
	{ "memset()", in_memset, NULL, SIGSEGV, 0, "< in_memset+", 0, true },
	{ "strlen()", in_strlen, NULL, SIGSEGV, 0, "< in_strlen+", 0, true },
	{ "a jump to data", jump_away, NULL, SIGSEGV, 0, "< jump_away+", 0, false },
	{ "a call of NULL", call_null, NULL, SIGSEGV, 0, " at 0x0 in 0x0 < call_null+", 0, false },
	{ "code without frame pointers", no_frame_pointer, NULL, SIGSEGV, 0, "crash_here+0x", 0, false },
	{ "a wild stack pointer", wild_stack_pointer, NULL, SIGSEGV, SIGBUS, " in wild_stack_pointer+", 0, false },
	{ "another stack", other_stack_pointer, NULL, SIGSEGV, 0, " at 0x0 in other_stack_pointer+", 0, false },
	{ "a smashed stack, noticed", smash_noticed, NULL, SIGABRT, 0, "smash_noticed+", MOTE_CRASH_NO_ADDRESS, true },
	{ "qsort()'s callback", in_qsort, NULL, SIGSEGV, 0, "< in_qsort+", 0, true },
	{ "qsort()'s callback, with memory", in_qsort, "", SIGSEGV, 0, "< in_qsort+", 0, true },
	{ "bsearch()'s callback", in_bsearch, NULL, SIGSEGV, 0, "< in_bsearch+", 0, true },
};

/* One process crashes; its reason tells. */
static void one_kind(const struct expected *e)
{
	struct mote_crash crash = { .size = sizeof(crash) };
	char text[1024] = "";
	struct mote_msg *m;
	mote_ref ref;
	mote_pid p;

	p = mote_spawn_monitor(e->fn, e->arg, &ref);
	m = mote_receive_ref(ref, PATIENCE);
	if (!is_down(m, ref, p, MOTE_SIGNAL)) {
		test_note("%s:", e->name);
		test_describe(m);
		selftest_complain(__FILE__, __LINE__, e->name);
		mote_msg_free(m);
		return;
	}
	EXPECT_EQ(mote_reason_crash(&mote_msg_down(m)->reason, &crash), 0);
	EXPECT_EQ(crash.signal, mote_msg_down(m)->reason.code);
	if (!EXPECT(crash.signal == e->signal || (e->other && crash.signal == e->other)) ||
	    !EXPECT((crash.flags & e->flags) == e->flags) || !EXPECT(crash.nr_frames >= 1))
		test_note("%s: signal %d, flags %#x, %u frames", e->name, crash.signal, crash.flags, crash.nr_frames);
	mote_reason_format(&mote_msg_down(m)->reason, text, sizeof(text));
	if (!EXPECT(strstr(text, e->says)))
		test_note("%s: \"%s\" is not in \"%s\"", e->name, e->says, text);
	mote_msg_free(m);
}

static void all_kinds(void)
{
	mote_pid healthy = mote_spawn(mirror, NULL);

	for (int turn = 0; turn < 3; turn++) {
		for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
			if (SANITIZED && kinds[i].bare)
				continue;
			one_kind(&kinds[i]);
			EXPECT(ping(healthy));
		}
	}
	put_down(healthy);
}

static void links_fire(void)
{
	struct mote_crash crash = { .size = sizeof(crash) };
	struct mote_msg *m;
	mote_pid middle, p;
	mote_ref ref;

	mote_trap_exit(true);
	p = mote_spawn_link(crash_here, NULL);
	m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
	EXPECT(is_exit(m, p, MOTE_SIGNAL));
	EXPECT(m && mote_reason_crash(&mote_msg_exit(m)->reason, &crash) == 0 && crash.address == 0x18);
	mote_msg_free(m);
	/* whoever does not trap goes with it, of the same reason */
	middle = mote_spawn_monitor(sink, NULL, &ref);
	p = mote_spawn(mirror, NULL);
	EXPECT(ping(p));
	mote_exit_pid(middle, (struct mote_reason){ MOTE_SIGNAL, SIGSEGV, "made up", 7 });
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(is_down(m, ref, middle, MOTE_SIGNAL));
	/* and what is made up is no crash */
	EXPECT_EQ(mote_reason_crash(&mote_msg_down(m)->reason, &crash), -ENOENT);
	mote_msg_free(m);
	crash.size = 4;
	EXPECT_EQ(mote_reason_crash(&MOTE_REASON_NORMAL, &crash), -EINVAL);
	put_down(p);
}

static void links_and_crashes(void *arg)
{
	mote_link(*(mote_pid *)arg);
	crash_here(NULL);
}

static void links_take_along(void)
{
	mote_ref ref;
	mote_pid peer = mote_spawn_monitor(sink, NULL, &ref), p;
	struct mote_crash crash = { .size = sizeof(crash) };
	struct mote_msg *m;

	p = mote_spawn(links_and_crashes, &peer);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(is_down(m, ref, peer, MOTE_SIGNAL));
	EXPECT(m && mote_reason_crash(&mote_msg_down(m)->reason, &crash) == 0 && crash.signal == SIGSEGV);
	mote_msg_free(m);
	(void)p;
}

/* What it had. */
struct holder {
	mote_pid boss;
	mote_fn how;
	int fd;
};

static _Atomic int cleaned;

static void cleaning(void *arg)
{
	atomic_fetch_add(&cleaned, *(int *)arg);
}

static void holds_much(void *arg)
{
	struct holder *h = arg;
	int ones = 1;		/* the cleanup's argument is a local: it has to survive the crash */

	EXPECT_EQ(mote_defer(cleaning, &ones), 0);
	mote_register("crash.holder", mote_self());
	memset(mote_alloc(100000), 1, 100000);
	memset(mote_alloc(100), 1, 100);
	h->fd = mote_file_open("/dev/null", O_RDWR, 0);
	EXPECT(h->fd >= 0);
	mote_send_after(mote_in_ms(3600000), mote_self(), WORD, NULL, 0);
	mote_monitor(h->boss);
	mote_send(h->boss, GO, NULL, 0);
	mote_receive_type(GO, MOTE_FOREVER);
	mote_receive_type(ASK, MOTE_FOREVER);
	h->how(NULL);
}

static void all_is_given_back(void)
{
	static const mote_fn hows[] = { crash_here, overflow, wild_stack_pointer, in_qsort };
	unsigned long n = test_rounds(400);

	for (unsigned long i = 0; i < n; i++) {
		struct holder h = { mote_self(), hows[i % (SANITIZED ? 3 : 4)], -1 };
		mote_pid p = mote_spawn(holds_much, &h);
		struct mote_msg *reply = NULL;
		mote_ref ref = mote_monitor(p);
		int before = atomic_load(&cleaned);

		EXPECT(got_type(GO));
		EXPECT(mote_pid_equal(mote_whereis("crash.holder"), p));
		EXPECT(fcntl(h.fd, F_GETFD) >= 0);
		mote_send(p, GO, NULL, 0);
		/* the request that it has in its hands ends, too */
		EXPECT_EQ(mote_call(p, ASK, NULL, 0, &reply, PATIENCE), -EPIPE);
		EXPECT(got_down(ref, p, MOTE_SIGNAL));
		EXPECT(!mote_pid_valid(mote_whereis("crash.holder")));
		EXPECT(fcntl(h.fd, F_GETFD) < 0);
		EXPECT_EQ(atomic_load(&cleaned), before + 1);
		EXPECT_EQ(test_info(mote_self()).monitored_by, 0);
		if (atomic_load(&selftest_failed))
			break;
	}
}

static char trace[256];
static _Atomic unsigned int traced;

static void note(void *arg)
{
	trace[atomic_fetch_add(&traced, 1) % (sizeof(trace) - 1)] = *(const char *)arg;
}

static void note_and_crash(void *arg)
{
	note(arg);
	crash_here(NULL);
}

static void note_and_overflow(void *arg)
{
	note(arg);
	overflow(NULL);
}

static void cleanups_crash(void *arg)
{
	char letters[] = "abcdefg";

	mote_defer(note, &letters[0]);
	mote_defer(note_and_crash, &letters[1]);
	mote_defer(note, &letters[2]);
	mote_defer(note_and_overflow, &letters[3]);
	for (int i = 0; i < 200; i++)
		mote_defer(note_and_crash, &letters[4]);
	mote_defer(note_and_crash, &letters[5]);
	mote_defer(note, &letters[6]);
	if (arg) {
		char data[] = "of data on the stack";

		mote_exit((struct mote_reason){ MOTE_CUSTOM, 7, data, sizeof(data) });
	}
	crash_here(NULL);
}

static void crash_in_cleanups(void)
{
	char want[256] = "gf";
	struct mote_msg *m;
	mote_ref ref;
	mote_pid p;

	memset(want + 2, 'e', 200);
	strcat(want, "dcba");
	for (int turn = 0; turn < 2; turn++) {
		memset(trace, 0, sizeof(trace));
		atomic_store(&traced, 0);
		p = mote_spawn_monitor(cleanups_crash, turn ? "" : NULL, &ref);
		m = mote_receive_ref(ref, PATIENCE);
		EXPECT(is_down(m, ref, p, turn ? MOTE_CUSTOM : MOTE_SIGNAL));
		if (turn && m)
			EXPECT(mote_msg_down(m)->reason.size == 21 &&
			       !memcmp(mote_msg_down(m)->reason.data, "of data on the stack", 21));
		mote_msg_free(m);
		if (!EXPECT(!strcmp(trace, want)))
			test_note("%s", trace);
	}
}

/* Servers: the argument says where. */
struct server_state {
	char where;
};

static int server_init(void *state, void *arg)
{
	struct server_state *s = state;

	s->where = *(char *)arg;
	if (s->where == 'i')
		crash_here(NULL);
	return 0;
}

static void server_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct server_state *s = state;

	if (s->where == 'c')
		overflow(NULL);
	mote_reply(from, m->type, m->data, m->size);
}

static void server_info(void *state, const struct mote_msg *m)
{
	struct server_state *s = state;

	(void)m;
	if (s->where == 'm')
		crash_here(NULL);
	mote_exit(mote_reason_error(EIO, "as told"));
}

static void server_terminate(void *state, const struct mote_reason *why)
{
	struct server_state *s = state;

	atomic_fetch_add(&traced, why->kind == MOTE_SIGNAL ? 100 : 1);
	if (s->where == 't')
		crash_here(NULL);
}

static const struct mote_handler_ops server_ops = {
	.size = sizeof(struct mote_handler_ops), .state_size = sizeof(struct server_state), .init = server_init,
	.call = server_call, .info = server_info, .terminate = server_terminate,
};

static void servers_crash(void)
{
	static const struct {
		char where;
		int call;		/* what a call gives */
		uint32_t kind;
		unsigned int terminated;
	} cases[] = {
		{ 'i', -EPIPE, MOTE_SIGNAL, 0 },
		{ 'c', -EPIPE, MOTE_SIGNAL, 100 },
		{ 'm', 0, MOTE_SIGNAL, 100 },
		{ 't', 0, MOTE_ERROR, 1 },
	};

	for (int turn = 0; turn < 20; turn++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct mote_msg *reply = NULL;
			mote_ref ref;
			mote_pid p;
			int got;

			atomic_store(&traced, 0);
			p = mote_spawn_opts(&(struct mote_spawn_opts){
				.size = sizeof(struct mote_spawn_opts), .handler = &server_ops,
				.arg = (void *)&cases[i].where, .flags = MOTE_MONITOR, .ref = &ref });
			got = mote_call(p, ASK, "x", 1, &reply, PATIENCE);
			mote_msg_free(reply);
			EXPECT(got == cases[i].call || (got == -ESRCH && cases[i].where == 'i'));
			mote_send(p, WORD, NULL, 0);
			EXPECT(got_down(ref, p, cases[i].kind));
			EXPECT_EQ(atomic_load(&traced), cases[i].terminated);
		}
	}
}

static bool match_and_crash(const struct mote_msg *m, void *arg)
{
	(void)arg;
	if (m->type == GO)
		crash_here(NULL);
	return false;
}

/* The wait has a timer under way, which must not outlive it. */
static void matches(void *arg)
{
	mote_receive_match(match_and_crash, arg, mote_in_ms(40));
}

static void crash_in_match(void)
{
	unsigned long n = test_rounds(200);

	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(matches, NULL, &ref);

		mote_send(p, WORD, NULL, 0);
		while (mote_alive(p) && test_info(p).state != MOTE_WAITING)
			mote_yield();
		mote_send(p, WORD, NULL, 0);
		mote_send(p, GO, "x", 1);
		if (!EXPECT(got_down(ref, p, MOTE_SIGNAL)))
			break;
	}
	mote_sleep(mote_in_ms(60));
}

/* The thread is left as it was found: all on one scheduler. */
KEEP static void disturbs(void *arg)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fesetround(FE_UPWARD);
#if defined(__x86_64__)
	feenableexcept(FE_DIVBYZERO);
	__asm__ volatile("fld1; fld1; fld1; std" ::: "memory");
	*(volatile int *)(uintptr_t)(0x18 + zero) = 1;
	__asm__ volatile("cld");
#endif
	crash_here(arg);
}

static void traps_numbers(void *arg)
{
	volatile double number = 1, none = 0;

	(void)arg;
#if defined(__x86_64__)
	feenableexcept(FE_DIVBYZERO);
#endif
	number = number / none;
	crash_here(NULL);
	(void)number;
}

static void is_undisturbed(void *arg)
{
	sigset_t now;
	char a[64] = "a string", b[64];

	(void)arg;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	EXPECT(!sigismember(&now, SIGUSR1) && !sigismember(&now, SIGTERM) && !sigismember(&now, SIGSEGV));
	EXPECT_EQ(fegetround(), FE_TONEAREST);
#if defined(__x86_64__)
	unsigned long flags;
	long double deep = 1;
	uint32_t mxcsr;
	uint16_t x87;

	EXPECT_EQ(fegetexcept(), 0);
	__asm__ volatile("pushfq; popq %0" : "=r"(flags));
	EXPECT(!(flags & 0x400));
	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	EXPECT_EQ(mxcsr & ~0x3fu, 0x1f80);
	__asm__ volatile("fnstcw %0" : "=m"(x87));
	EXPECT_EQ(x87, 0x37f);
	/* eight deep: nothing of the dead process's may be left on the x87 stack */
	__asm__ volatile("fld1; fld1; fld1; fld1; fld1; fld1; fld1; fld1;"
			 "faddp; faddp; faddp; faddp; faddp; faddp; faddp; fstpt %0" : "=m"(deep));
	EXPECT(deep == 8);
#endif
	memcpy(b, a, sizeof(a));
	EXPECT(!strcmp(a, b));
}

static void the_thread_is_sane(void *arg)
{
	static const mote_fn hows[] = { disturbs, traps_numbers, overflow };
	mote_ref ref;
	mote_pid p;

	(void)arg;
	for (int i = 0; i < 60; i++) {
		p = spawn_pinned(hows[i % 3], NULL, 0, MOTE_MONITOR, &ref);
		EXPECT(got_down(ref, p, MOTE_SIGNAL));
		p = spawn_pinned(is_undisturbed, NULL, 0, MOTE_MONITOR, &ref);
		EXPECT(got_down(ref, p, MOTE_NORMAL));
	}
}

static void sane(void)
{
	on_first_scheduler(the_thread_is_sane, NULL);
}

static _Atomic bool go;

static void hogs_and_crashes(void *arg)
{
	while (!atomic_load(&go))
		test_spin(100);
	((mote_fn)arg)(NULL);
}

/* Its scheduler has been taken away by then. */
static void crash_while_detached(void)
{
	static const mote_fn hows[] = { crash_here, overflow, trap };

	if (test_one_thread())
		return;
	for (int i = 0; i < 6; i++) {
		mote_ref ref;
		mote_pid p;

		atomic_store(&go, false);
		p = mote_spawn_monitor(hogs_and_crashes, (void *)hows[i % 3], &ref);
		/* this timer is the hog's scheduler's, too */
		while (test_info(p).state != MOTE_DETACHED)
			mote_sleep(mote_in_ms(1));
		atomic_store(&go, true);
		EXPECT(got_down(ref, p, MOTE_SIGNAL));
	}
}

/*
 * Recursions whose steps call what must not be torn. Wherever the stack ends, the process does, and nothing
 * else.
 */
struct recursion {
	int what;
	size_t step;		/* how far one step goes down, more or less */
	mote_pid peer;
};

KEEP static int step_down(const struct recursion *r, int depth)
{
	volatile char *pad = __builtin_alloca(r->step);
	char text[64] = "";
	void *mem;

	pad[0] = (char)depth;
	switch (r->what) {
	case 0:
		snprintf(text, sizeof(text), "%d %g %s", depth, (double)depth, "text");
		break;
	case 1:
		mem = malloc((size_t)(depth % 5000));
		memset(text, 0, sizeof(text));
		free(mem);
		break;
	case 2:
		mem = mote_alloc((size_t)(depth % 5000));
		mote_free(mem);
		break;
	case 3:
		mote_send(r->peer, WORD, text, sizeof(text));
		break;
	case 4:
		mote_yield();
		break;
	}
	return depth < 0 ? 0 : step_down(r, depth + 1) + pad[0];
}

static void recursion_main(void *arg)
{
	step_down(arg, 1);
}

static void overflow_inside(void)
{
	mote_pid peer = mote_spawn(sink, NULL);
	unsigned long inside = 0, n = 0;

	for (int turn = 0; turn < 3; turn++) {
		for (int what = 0; what < 5; what++) {
			for (size_t step = 16; step < 1000; step += 64 + (size_t)turn) {
				struct recursion r = { what, step, peer };
				struct mote_crash crash = { .size = sizeof(crash) };
				struct mote_msg *m;
				mote_ref ref;
				mote_pid p;

				p = mote_spawn_opts(&(struct mote_spawn_opts){
					.size = sizeof(struct mote_spawn_opts), .fn = recursion_main, .arg = &r,
					.flags = MOTE_MONITOR, .ref = &ref, .stack_size = 16384u << turn });
				m = mote_receive_ref(ref, PATIENCE);
				if (!is_down(m, ref, p, MOTE_SIGNAL) ||
				    mote_reason_crash(&mote_msg_down(m)->reason, &crash) ||
				    !(crash.flags & MOTE_CRASH_OVERFLOW)) {
					selftest_complain(__FILE__, __LINE__, "no overflow");
					test_describe(m);
				}
				mote_msg_free(m);
				inside += crash.frames[0] - (uintptr_t)step_down > 4096;
				n++;
			}
		}
	}
	test_note("%lu of %lu overflows were inside of libc or mote", inside, n);
	EXPECT(inside > n / 10);
	put_down(peer);
}

static void runtime_ends(void *arg)
{
	mote_defer(note, "x");
	crash_here(arg);
}

static void logged(int level, const char *text, void *arg)
{
	if (level == MOTE_LOG_ERROR && strstr(text, "main") && strstr(text, "SIGSEGV") && strstr(text, "crash_here"))
		atomic_fetch_add((_Atomic int *)arg, 1);
}

static void the_first_process(void)
{
	_Atomic int lines = 0;

	atomic_store(&traced, 0);
	EXPECT_EQ(mote_run(runtime_ends, NULL, &(struct mote_opts){
		.size = sizeof(struct mote_opts), .log = logged, .log_arg = &lines }), 1);
	EXPECT_EQ(atomic_load(&traced), 1);
	EXPECT_EQ(atomic_load(&lines), 1);
}

static void sanitized(void)
{
	selftest_skip("a sanitizer puts functions of its own between the process and libc");
}

static _Atomic int vforks_cleanups;

static void counts_cleanup(void *unused)
{
	(void)unused;
	atomic_fetch_add(&vforks_cleanups, 1);
}

/* The child has its parent's memory, and is not its parent's process. */
static void vforks(void *status)
{
	pid_t pid;

	mote_defer(counts_cleanup, NULL);
	pid = vfork();
	if (!pid) {
		crash_here(NULL);
		_exit(0);
	}
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	EXPECT_EQ(atomic_load(&vforks_cleanups), 0);
}

static void child_of_vfork(void)
{
	pid_t self = getpid();
	int status = 0;
	mote_ref ref;
	mote_pid p;

	if (SANITIZED) {
		selftest_skip("sanitizers intercept vfork(), and report crashes themselves");
		return;
	}
	atomic_store(&vforks_cleanups, 0);
	p = mote_spawn_monitor(vforks, &status, &ref);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	if (getpid() != self)
		test_bail_out();
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	EXPECT_EQ(atomic_load(&vforks_cleanups), 1);
}

int main(void)
{
	unmapped = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (unmapped == MAP_FAILED || mprotect(unmapped + 4096, 4096, PROT_READ | PROT_WRITE))
		test_bail_out();
	/* What assert() and the like say on stderr is expected. */
	if (!getenv("SHOW") && !freopen("/dev/null", "w", stderr))
		test_bail_out();
	selftest_process("each kind of crash, and what its reason says", all_kinds);
	selftest_process("a crash reaches those who are linked", links_fire);
	selftest_process("a crash takes those along who are linked and don't trap", links_take_along);
	selftest_process("what a crashed process had is given back; cleanups find their arguments", all_is_given_back);
	selftest_process("a crash in a cleanup skips to the next, and the first reason stands", crash_in_cleanups);
	selftest_process("servers crash in each of their callbacks", servers_crash);
	selftest_process("a crash in a match function", crash_in_match);
	selftest_process("signal mask, rounding, and flags are not the crashed process's", sane);
	selftest_process("the child of vfork() crashes alone", child_of_vfork);
	selftest_process_opts("a crash of a process whose scheduler was taken away", crash_while_detached,
			      SCHEDULERS(1));
	selftest_process("a stack overflows inside of libc, inside of mote", SANITIZED ? sanitized : overflow_inside);
	selftest_case("a crash of the first process ends mote_run(), and is logged", the_first_process);
	return selftest_done();
}
