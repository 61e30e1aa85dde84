/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote-bench: measures what mote costs. usage: mote-bench [--json] [--seconds S] [--runs N] [--list] [NAME...]
 *
 * A line per figure: name, value (the median), unit, then min, median and max over the runs, CPU time, and runs.
 * NAME may be a shell pattern. `--against PID PORT echo|kv` measures a server that runs already. `--rounds N NAME`
 * does a fixed amount of work here, in this OS process, and only says how many operations that was: for tools that
 * count instead of timing.
 */
#include "bench.h"

#include <errno.h>
#include <fnmatch.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_FIGURES 16
#define MAX_RUNS 64
#define CHILD_SECONDS 120

struct figure {
	char name[48];
	char unit[8];
	double value, cpu;
};

struct series {
	char name[48];
	char unit[8];
	unsigned int runs;
	double value[MAX_RUNS], cpu[MAX_RUNS];
};

static const struct bench *const groups[] = {
	bench_messages, bench_receive, bench_spawn, bench_memory, bench_timers, bench_skynet, bench_echo,
	bench_kv, bench_two, bench_supervise, bench_neighbour, bench_node, bench_overseer, bench_activation, bench_task,
	bench_registry, bench_supervisor,
};

static double seconds = 0.25;
static unsigned int runs = 7;
static uint64_t rounds;
static bool json;
static int cpus[2];
static int nr_cpus;
static int report_fd = -1;

/* --- what benchmarks call */

int64_t bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int64_t bench_cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int64_t bench_rss(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long total, resident = -1;

	if (f) {
		if (fscanf(f, "%ld %ld", &total, &resident) != 2)
			resident = -1;
		fclose(f);
	}
	bench_check(resident >= 0, "/proc/self/statm can be read");
	return resident * sysconf(_SC_PAGESIZE);
}

uint64_t bench_alive(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	bench_check(mote_runtime_info(&info) == 0, "the runtime can be asked");
	return info.processes;
}

void bench_check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "mote-bench: not so: %s\n", what);
	_exit(1);
}

_Noreturn void bench_done(void)
{
	_exit(0);
}

void bench_figure(const char *name, double value, const char *unit, double cpu)
{
	struct figure f = { .value = value, .cpu = cpu };

	snprintf(f.name, sizeof(f.name), "%s", name);
	snprintf(f.unit, sizeof(f.unit), "%s", unit);
	if (rounds)
		return;
	bench_check(write(report_fd, &f, sizeof(f)) == sizeof(f), "the parent takes figures");
}

void bench_begin(struct bench_clock *clock)
{
	clock->operations = 0;
	clock->rounds = 0;
	clock->cpu = bench_cpu();
	clock->wall = bench_now();
}

bool bench_more(struct bench_clock *clock, uint64_t n)
{
	clock->operations += n;
	if (rounds)
		return ++clock->rounds < rounds;
	return (double)(bench_now() - clock->wall) < seconds * 1e9;
}

void bench_end(struct bench_clock *clock, const char *name)
{
	int64_t wall = bench_now() - clock->wall;
	int64_t cpu = bench_cpu() - clock->cpu;

	if (rounds) {
		printf("%s %llu operations\n", name, (unsigned long long)clock->operations);
		fflush(stdout);
	}
	bench_figure(name, (double)wall / clock->operations, "ns", (double)cpu / clock->operations);
}

double bench_seconds(void)
{
	return seconds;
}

void bench_gate_open(struct bench_gate *gate, uint64_t n)
{
	gate->count = 0;
	gate->n = n;
	gate->waiter = mote_self();
}

void bench_gate_pass(struct bench_gate *gate)
{
	if (atomic_fetch_add_explicit(&gate->count, 1, memory_order_release) + 1 == gate->n)
		mote_send(gate->waiter, 1, NULL, 0);
}

void bench_gate_wait(struct bench_gate *gate)
{
	struct mote_msg *m = mote_receive(MOTE_FOREVER);

	bench_check(m && m->type == 1, "the gate opens");
	bench_check(atomic_load_explicit(&gate->count, memory_order_acquire) == gate->n, "all have passed the gate");
	mote_msg_free(m);
}

struct echo {
	uint64_t casts;
};

static void echo_call(struct echo *e, struct mote_from from, const struct mote_msg *m)
{
	const struct bench_payload *p = m->data;

	(void)e;
	bench_check(m->size == sizeof(*p) && bench_payload_is(p, p->word[0]), "the request is whole");
	mote_reply(from, m->type, p, sizeof(*p));
}

static void echo_cast(struct echo *e, const struct mote_msg *m)
{
	bench_check(m->size == sizeof(struct bench_payload) && bench_payload_is(m->data, e->casts++), "the cast is whole");
}

MOTE_SERVER(echo, struct echo, .handle_call = echo_call, .handle_cast = echo_cast);

mote_pid bench_echo_start(void)
{
	mote_pid pid;

	bench_check(mote_server_start_link(&echo.ops, NULL, NULL, &pid) == 0, "the server starts");
	return pid;
}

void bench_call(mote_pid server, uint64_t seed, mote_deadline deadline)
{
	struct bench_payload p = bench_payload(seed);
	struct mote_msg *reply;

	bench_check(mote_call(server, 2, &p, sizeof(p), &reply, deadline) == 0, "the call is answered");
	bench_check(reply->size == sizeof(p) && bench_payload_is(reply->data, seed), "the answer is right");
	mote_msg_free(reply);
}

/* --- placement */

static void find_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return;
	for (int i = CPU_SETSIZE - 1; i >= 0 && nr_cpus < 2; i--) {
		if (CPU_ISSET(i, &set))
			cpus[nr_cpus++] = i;
	}
	if (nr_cpus == 1)
		cpus[1] = cpus[0];
}

/* The last CPU is ours: the first usually has the interrupts. */
int bench_server_cpu(void)
{
	return cpus[0];
}

int bench_load_cpu(void)
{
	return cpus[1];
}

void bench_pin(int first, int last)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(first, &set);
	CPU_SET(last, &set);
	bench_check(sched_setaffinity(0, sizeof(set), &set) == 0, "CPUs can be chosen");
}

/* --- running */

static void run_child(const struct bench *b, unsigned int schedulers)
{
	char text[16];

	alarm(CHILD_SECONDS);
	snprintf(text, sizeof(text), "%u", schedulers);
	setenv("MOTE_SCHEDULERS", text, 1);
	if (b->host) {
		b->host();
	} else {
		bench_pin(bench_server_cpu(), schedulers > 1 ? bench_load_cpu() : bench_server_cpu());
		bench_check(mote_run(b->run, NULL, NULL) == 0, "the runtime starts, and its first process ends well");
	}
	_exit(0);
}

/* One run: returns the number of figures, or -1. */
static int run_once(const struct bench *b, unsigned int schedulers, struct figure *figures)
{
	int fds[2], n = 0, status;
	ssize_t got;
	pid_t pid;

	if (pipe(fds))
		return -1;
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return -1;
	if (pid == 0) {
		close(fds[0]);
		report_fd = fds[1];
		run_child(b, schedulers);
	}
	close(fds[1]);
	while (n < MAX_FIGURES && (got = read(fds[0], &figures[n], sizeof(figures[n]))) != 0) {
		if (got == (ssize_t)sizeof(figures[n]))
			n++;
		else if (got > 0 || errno != EINTR)
			break;
	}
	close(fds[0]);
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return n;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 4)
		return 0;
	fprintf(stderr, "mote-bench: %s failed (%s %d)\n", b->name, WIFSIGNALED(status) ? "signal" : "exit",
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return -1;
}

static void series_add(struct series *all, int *nr, const struct figure *f)
{
	struct series *s = all;

	while (s < all + *nr && strcmp(s->name, f->name))
		s++;
	if (s == all + *nr) {
		if (*nr == MAX_FIGURES)
			return;
		memset(s, 0, sizeof(*s));
		memcpy(s->name, f->name, sizeof(s->name));
		memcpy(s->unit, f->unit, sizeof(s->unit));
		++*nr;
	}
	if (s->runs < MAX_RUNS) {
		s->cpu[s->runs] = f->cpu;
		s->value[s->runs++] = f->value;
	}
}

static int run_pair(const struct bench *b, struct series *all, int *nr)
{
	struct figure one[MAX_FIGURES], two[MAX_FIGURES], speedup = { .unit = "x" };
	char base[40];

	if (run_once(b, 1, one) < 1 || run_once(b, 2, two) < 1)
		return -1;
	snprintf(base, sizeof(base), "%.30s", one[0].name);
	snprintf(speedup.name, sizeof(speedup.name), "%s_speedup", base);
	speedup.value = one[0].value / two[0].value;
	snprintf(one[0].name, sizeof(one[0].name), "%s_one", base);
	snprintf(two[0].name, sizeof(two[0].name), "%s_two", base);
	series_add(all, nr, &one[0]);
	series_add(all, nr, &two[0]);
	series_add(all, nr, &speedup);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* --- printing */

static char machine[256], placement[128];

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static void describe(void)
{
	char model[128] = "unknown CPU", line[256];
	struct utsname u;
	FILE *f = fopen("/proc/cpuinfo", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "model name : %127[^\n]", model) == 1)
			break;
	}
	if (f)
		fclose(f);
	uname(&u);
	snprintf(machine, sizeof(machine), "%s, %ld CPUs, Linux %.64s", model, sysconf(_SC_NPROCESSORS_ONLN), u.release);
	snprintf(placement, sizeof(placement), "one scheduler on CPU %d; two on %d,%d; load generators on CPU %d",
		 cpus[0], cpus[0], cpus[1], cpus[1]);
	if (json)
		return;
	printf("# machine: %s\n# compiler: %s\n# placement: %s\n", machine, COMPILER, placement);
	printf("# mote %u, %u runs of about %g s each\n", mote_version(), runs, seconds);
	if (nr_cpus < 2)
		printf("# only one CPU: two schedulers and load generators share it\n");
}

static void print_series(struct series *s)
{
	static bool first = true;
	double mid = median(s->value, s->runs), cpu = median(s->cpu, s->runs);
	double min = s->value[0], max = s->value[s->runs - 1];

	if (!json) {
		printf("%-22s %10.2f %-5s min %.2f median %.2f max %.2f cpu %.2f runs %u\n", s->name, mid, s->unit, min,
		       mid, max, cpu, s->runs);
	} else {
		printf("%s\n {\"name\": \"%s\", \"value\": %.4f, \"unit\": \"%s\", \"min\": %.4f, \"median\": %.4f, "
		       "\"max\": %.4f, \"cpu\": %.4f, \"runs\": %u, \"machine\": \"%s\", \"compiler\": \"%s\", "
		       "\"placement\": \"%s\"}", first ? "[" : ",", s->name, mid, s->unit, min, mid, max, cpu, s->runs,
		       machine, COMPILER, placement);
		first = false;
	}
	fflush(stdout);
}

static int bench_one(const struct bench *b)
{
	static struct series all[MAX_FIGURES];
	struct figure figures[MAX_FIGURES];
	unsigned int n = b->runs && b->runs < runs ? b->runs : runs;
	int nr = 0, err = 0;

	for (unsigned int r = 0; r < n && !err; r++) {
		int got;

		if (b->pair) {
			err = run_pair(b, all, &nr);
			continue;
		}
		got = run_once(b, b->schedulers ? b->schedulers : 1, figures);
		err = got < 0 ? -1 : 0;
		for (int i = 0; i < got; i++)
			series_add(all, &nr, &figures[i]);
	}
	for (int i = 0; i < nr; i++)
		print_series(&all[i]);
	return err;
}

static bool wanted(const char *name, int nr, char **patterns)
{
	for (int i = 0; i < nr; i++) {
		if (!fnmatch(patterns[i], name, 0))
			return true;
	}
	return nr == 0;
}

static int against(pid_t pid, unsigned short port, const char *what)
{
	static struct series all[MAX_FIGURES];
	struct figure figures[MAX_FIGURES];
	int fds[2], nr = 0;
	ssize_t got;

	if (pipe(fds))
		return 1;
	report_fd = fds[1];
	bench_pin(bench_load_cpu(), bench_load_cpu());
	for (int depth = 1; depth <= 16; depth += 15) {
		if (strcmp(what, "kv"))
			bench_load_echo(pid, port, depth);
		else
			bench_load_kv(pid, port, depth);
	}
	close(fds[1]);
	while ((got = read(fds[0], figures, sizeof(figures[0]))) == sizeof(figures[0]))
		series_add(all, &nr, &figures[0]);
	for (int i = 0; i < nr; i++)
		print_series(&all[i]);
	return 0;
}

static int fixed(const char *name)
{
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
		for (const struct bench *b = groups[g]; b->name; b++) {
			if (!strcmp(b->name, name) && b->run)
				return mote_run(b->run, NULL, NULL);
		}
	}
	return 2;
}

static int usage(void)
{
	fprintf(stderr, "usage: mote-bench [--json] [--seconds S] [--runs N] [--list] [NAME...]\n"
		"       mote-bench [--seconds S] --against PID PORT echo|kv\n"
		"       mote-bench --rounds N NAME\n");
	return 2;
}

int main(int argc, char **argv)
{
	bool list = false, matched = false;
	int i, failed = 0;

	find_cpus();
	for (i = 1; i < argc && !strncmp(argv[i], "--", 2); i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (!strcmp(argv[i], "--list"))
			list = true;
		else if (!strcmp(argv[i], "--seconds") && i + 1 < argc && atof(argv[i + 1]) > 0)
			seconds = atof(argv[++i]);
		else if (!strcmp(argv[i], "--runs") && i + 1 < argc && atoi(argv[i + 1]) > 0 &&
			 atoi(argv[i + 1]) <= MAX_RUNS)
			runs = atoi(argv[++i]);
		else if (!strcmp(argv[i], "--against") && i + 4 == argc)
			return against(atoi(argv[i + 1]), atoi(argv[i + 2]), argv[i + 3]);
		else if (!strcmp(argv[i], "--rounds") && i + 3 == argc && (rounds = strtoull(argv[i + 1], NULL, 10)))
			return fixed(argv[i + 2]);
		else
			return usage();
	}
	if (!list)
		describe();
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
		for (const struct bench *b = groups[g]; b->name; b++) {
			if (!wanted(b->name, argc - i, argv + i))
				continue;
			matched = true;
			if (list)
				printf("%s\n", b->name);
			else if (bench_one(b))
				failed = 1;
		}
	}
	if (json)
		printf("\n]\n");
	if (!matched)
		fprintf(stderr, "mote-bench: no such benchmark; --list names them\n");
	return matched ? failed : 2;
}
