// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The report of a crash that ends the OS process. Locks may be held by anyone, lists be half changed, so:
 * system calls only, on memory that is known to be there. What only helps to read the report comes last.
 */
#include "core/crash.h"
#include "core/code.h"
#include "core/process.h"
#include "core/symbol.h"
#include "core/text.h"
#include "core/unwind.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_LINES	64
#define LINE		512
#define BLOCKED_MS	2000		/* how long a full pipe at stderr may hold the end up */
#define BACKSTOP_S	10

static _Atomic bool reporting;

static void line_write(struct text *t)
{
	static int patience = BLOCKED_MS;
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	size_t length;

	text_char(t, '\n');
	length = t->length < t->size ? t->length : t->size;
	/* A pipe that is said to be writable takes a line whole. */
	while (patience > 0 && poll(&out, 1, 100) == 0)
		patience -= 100;
	if (patience > 0 && write(STDERR_FILENO, t->buf, length) < 0)
		patience = 0;
	t->length = 0;
}

/*
 * A string that the program has given long ago: by way of the kernel, which does not fault where it has gone.
 * (Not by write(): a sanitizer looks at what that is given.)
 */
static bool string_copy(char *to, size_t size, const char *from)
{
	ssize_t n = 0;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return false;
	while (n < (ssize_t)size - 1 && syscall(SYS_write, ends[1], from + n, 1) == 1)
		n++;
	n = read(ends[0], to, (size_t)n);
	to[n > 0 ? n : 0] = 0;
	close(ends[0]);
	close(ends[1]);
	return n > 0;
}

static void put_process(struct text *t, const struct task *task)
{
	const struct process *p = container_of(task, const struct process, task);
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);
	const char *label = extra ? atomic_load_explicit(&extra->label, memory_order_relaxed) : NULL;
	char copy[64];

	text_string(t, "process <0.");
	text_number(t, task->slot);
	text_char(t, '.');
	text_number(t, process_serial(p));
	text_char(t, '>');
	if (label && string_copy(copy, sizeof(copy), label)) {
		text_string(t, " \"");
		text_string(t, copy);
		text_char(t, '"');
	}
}

static void put_signal(struct text *t, const struct crash_scene *scene)
{
	const siginfo_t *info = scene->info;

	text_string(t, "signal ");
	text_number(t, (uint64_t)scene->signal);
	text_string(t, " (");
	text_string(t, crash_signal_name(scene->signal));
	text_char(t, ')');
	if (info->si_code > 0 && info->si_code != SI_KERNEL) {
		text_string(t, " at address ");
		text_hex(t, (uintptr_t)info->si_addr);
	} else if (info->si_code <= 0 && info->si_pid != getpid()) {
		text_string(t, " from OS process ");
		text_number(t, (uint64_t)info->si_pid);
	}
}

static void put_address(struct text *t, uintptr_t pc, uintptr_t at)
{
	struct code_object object;
	const char *slash;
	char name[128];

	text_hex(t, pc);
	if (code_object(at, &object)) {
		slash = strrchr(object.name, '/');
		text_char(t, ' ');
		text_string(t, !object.name[0] ? "program" : slash ? slash + 1 : object.name);
		text_char(t, '+');
		text_hex(t, pc - object.base);
		text_char(t, ' ');
		symbol_format(at, name, sizeof(name));
		text_string(t, name);
	}
}

/* Whatever happens from here on: it ends. */
static void backstop(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct itimerspec when = { .it_value.tv_sec = BACKSTOP_S };
	int timer;

	if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0)
		syscall(SYS_timer_settime, timer, 0, &when, NULL);
}

/* Of a recursion one line. */
static void report_frames(struct text *t, struct unwind *u)
{
	unsigned int depth = 0, same;
	uintptr_t pc, at;
	bool more;

	for (int lines = 0; lines < MAX_LINES; lines++) {
		pc = u->pc;
		at = unwind_at(u);
		same = 0;
		do {
			same++;
			more = unwind_step(u);
		} while (more && u->pc == pc);
		text_string(t, "mote:   #");
		text_number(t, depth);
		text_char(t, ' ');
		put_address(t, pc, at);
		if (same > 1) {
			text_string(t, " (");
			text_number(t, same);
			text_string(t, " times)");
		}
		line_write(t);
		depth += same;
		if (!more)
			break;
	}
}

void crash_report(const struct crash_scene *scene)
{
	struct timespec pause = { .tv_sec = 1 };
	char line[LINE];
	struct text t = { .buf = line, .size = sizeof(line) };
	struct unwind u;

	/* seq_cst: one reports; others that crash meanwhile wait for the end */
	if (atomic_exchange(&reporting, true)) {
		for (int i = 0; i < 2 * BACKSTOP_S; i++)
			nanosleep(&pause, NULL);
		crash_die(scene->signal);
	}
	backstop();
	unwind_begin(&u, scene->ucontext, scene->task ? scene->task->stack : NULL);
	text_string(&t, "mote: ");
	if (scene->task) {
		put_process(&t, scene->task);
	} else {
		text_string(&t, "thread ");
		text_number(&t, (uint64_t)syscall(SYS_gettid));
	}
	text_string(&t, ": ");
	put_signal(&t, scene);
	text_string(&t, ", at ");
	text_hex(&t, u.pc);
	text_string(&t, ", ");
	text_string(&t, scene->why);
	text_string(&t, ": the program ends");
	line_write(&t);
	report_frames(&t, &u);
}

void crash_die(int sig)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t set;

	sigaction(sig, &plain, NULL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
	/* The status says what it was, and a core file has this thread first. */
	syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, 8);
	for (;;)
		syscall(SYS_exit_group, 128 + sig);
}
