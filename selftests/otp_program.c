// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * OS processes as children: what they print, how they end, and how they are ended.
 */
#include "proc.h"
#include <mote/log.h>
#include <mote/program.h>

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define LINES 64

static struct {
	pthread_mutex_t mutex;
	_Atomic int n;
	struct {
		char text[128];
		size_t size;
		int level;
		char stream[8], program[32];
		int64_t os_pid;
	} lines[LINES];
	size_t bytes;
	char crash_at[32];
	bool slow;
} out = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static int hear(const struct mote_log_event *e, void *config)
{
	static int *volatile nowhere = (int *)8;

	(void)config;
	if (e->report != MOTE_LOG_PROGRAM)
		return 0;
	if (out.slow)
		mote_sleep(mote_in_ms(20));
	if (out.crash_at[0] && !strcmp(e->text, out.crash_at))
		*nowhere = 1;
	pthread_mutex_lock(&out.mutex);
	if (out.n < LINES) {
		memcpy(out.lines[out.n].text, e->text, e->text_size < 127 ? e->text_size + 1 : 127);
		out.lines[out.n].size = e->text_size;
		out.lines[out.n].level = e->level;
		snprintf(out.lines[out.n].stream, 8, "%s", mote_field_find(e->fields, "stream")->value.text);
		snprintf(out.lines[out.n].program, 32, "%s", mote_field_find(e->fields, "program")->value.text);
		out.lines[out.n].os_pid = mote_field_find(e->fields, "os_pid")->value.integer;
	}
	out.bytes += e->text_size;
	out.n++;
	pthread_mutex_unlock(&out.mutex);
	return 0;
}

static void listen_anew(void)
{
	memset((char *)&out + offsetof(typeof(out), n), 0, sizeof(out) - offsetof(typeof(out), n));
	mote_log_handler_remove("out");
	mote_log_set_level(MOTE_LOG_ALL);
	EXPECT_EQ(mote_log_handler_add(&(struct mote_log_handler){
		.size = sizeof(struct mote_log_handler), .id = "out", .log = hear }), 0);
}

static bool has_line(const char *text, const char *stream)
{
	bool found = false;

	pthread_mutex_lock(&out.mutex);
	for (int i = 0; i < out.n && i < LINES; i++)
		found |= !strcmp(out.lines[i].text, text) && !strcmp(out.lines[i].stream, stream);
	pthread_mutex_unlock(&out.mutex);
	return found;
}

static bool wait_line(const char *text)
{
	for (int i = 0; i < 60000; i++) {
		if (has_line(text, "stdout"))
			return true;
		mote_sleep(mote_in_ms(1));
	}
	return false;
}

static int start_with(const struct mote_program *more, const char *script, mote_pid *keeper)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	struct mote_program p = *more;

	p.size = sizeof(p);
	p.argv = argv;
	return mote_program_start_link(&p, keeper);
}

static mote_pid start(const char *script)
{
	mote_pid keeper;

	EXPECT_EQ(start_with(&(struct mote_program){ 0 }, script, &keeper), 0);
	return keeper;
}

/* The next EXIT is of that one, with such a reason. */
static bool ended(mote_pid keeper, uint32_t kind, int code, const char *text)
{
	struct mote_msg *m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
	const struct mote_exit_info *e = m ? mote_msg_exit(m) : NULL;
	bool ok = e && mote_pid_equal(e->pid, keeper) && e->reason.kind == kind && e->reason.code == code &&
		  (!text || (e->reason.size == strlen(text) && !memcmp(e->reason.data, text, e->reason.size)));

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

static int fds_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void output(void)
{
	mote_pid keeper;

	mote_trap_exit(true);
	listen_anew();
	EXPECT_EQ(start_with(&(struct mote_program){ .label = "prog", .stderr_level = MOTE_LOG_ERROR },
			     "echo one; echo two >&2; printf 'a\\0b\\n\\nlast'", &keeper), 0);
	EXPECT(ended(keeper, MOTE_NORMAL, 0, NULL));
	/* All of it is logged by now. */
	EXPECT_EQ(out.n, 5);
	EXPECT(has_line("one", "stdout"));
	EXPECT(has_line("two", "stderr"));
	EXPECT(has_line("", "stdout"));
	EXPECT(has_line("last", "stdout"));	/* without a line's end */
	for (int i = 0; i < 5; i++) {
		bool error = !strcmp(out.lines[i].stream, "stderr");

		EXPECT_EQ(out.lines[i].level, error ? MOTE_LOG_ERROR : MOTE_LOG_INFO);
		EXPECT(!strcmp(out.lines[i].program, "prog"));
		EXPECT(out.lines[i].os_pid > 1 && out.lines[i].os_pid == out.lines[0].os_pid);
		if (out.lines[i].text[0] == 'a') {
			EXPECT_EQ(out.lines[i].size, 3);
			EXPECT(!memcmp(out.lines[i].text, "a\0b", 3));
		}
	}
	listen_anew();
	keeper = start("echo default; echo default >&2");
	EXPECT(ended(keeper, MOTE_NORMAL, 0, NULL));
	EXPECT_EQ(out.n, 2);
	EXPECT_EQ(out.lines[0].level + out.lines[1].level, MOTE_LOG_INFO + MOTE_LOG_NOTICE);
	EXPECT(!strcmp(out.lines[0].program, "sh"));
	/* Too long: cut; exactly as long: not. */
	listen_anew();
	EXPECT_EQ(start_with(&(struct mote_program){ .line_max = 10 },
			     "printf '0123456789abcdefghijKLM\\n012345678\\nx'", &keeper), 0);
	EXPECT(ended(keeper, MOTE_NORMAL, 0, NULL));
	EXPECT_EQ(out.n, 5);
	EXPECT(has_line("0123456789", "stdout") && has_line("abcdefghij", "stdout") && has_line("KLM", "stdout"));
	EXPECT(has_line("012345678", "stdout") && has_line("x", "stdout"));
	/* To /dev/null. */
	listen_anew();
	EXPECT_EQ(start_with(&(struct mote_program){ .stdout_level = MOTE_LOG_NONE }, "echo one; echo two >&2", &keeper), 0);
	EXPECT(ended(keeper, MOTE_NORMAL, 0, NULL));
	EXPECT_EQ(out.n, 1);
	EXPECT(has_line("two", "stderr"));
	/* More than pipes hold. */
	listen_anew();
	keeper = start("x=0123456789; i=0; while [ $i -lt 3000 ]; do echo $x$x$x$x'012345678'; i=$((i+1)); done");
	EXPECT(ended(keeper, MOTE_NORMAL, 0, NULL));
	EXPECT_EQ(out.n, 3000);
	EXPECT_EQ(out.bytes, 3000 * 49);
	/* The program has ended long before all is logged; the keeper ends after that. */
	listen_anew();
	out.slow = true;
	keeper = start("echo a; echo b; echo c; echo d");
	EXPECT(ended(keeper, MOTE_NORMAL, 0, NULL));
	EXPECT_EQ(out.n, 4);
	out.slow = false;
	/* Input is empty. */
	keeper = start("read x && exit 9; exit 4");
	EXPECT(ended(keeper, MOTE_ERROR, 4, "exit status 4"));
	EXPECT(mailbox_is_empty());
	mote_log_handler_remove("out");
}

static void ends(void)
{
	mote_pid keeper;

	mote_trap_exit(true);
	EXPECT(ended(start("exit 0"), MOTE_NORMAL, 0, NULL));
	EXPECT(ended(start("exit 3"), MOTE_ERROR, 3, "exit status 3"));
	EXPECT(ended(start("kill -9 $$"), MOTE_ERROR, 128 + 9, "signal 9 (SIGKILL)"));
	EXPECT(ended(start("kill -TERM $$"), MOTE_ERROR, 128 + 15, "signal 15 (SIGTERM)"));
	keeper = start("sleep 1000");
	mote_unlink(keeper);
	put_down(keeper);
	EXPECT(mailbox_is_empty());
}

static void environment(void)
{
	static const char *const env[] = { "A=b", "MOTE_NODE=x", NULL };
	mote_pid keeper;

	mote_trap_exit(true);
	listen_anew();
	EXPECT_EQ(start_with(&(struct mote_program){ .cwd = "/", .envp = env }, "pwd; echo $A $MOTE_NODE", &keeper), 0);
	EXPECT(ended(keeper, MOTE_NORMAL, 0, NULL));
	EXPECT(has_line("/", "stdout") && has_line("b x", "stdout"));
	setenv("MOTE_TEST_HERE", "yes", 1);
	keeper = start("echo $MOTE_TEST_HERE");
	EXPECT(ended(keeper, MOTE_NORMAL, 0, NULL));
	EXPECT(has_line("yes", "stdout"));
	mote_log_handler_remove("out");
}

static void refused(void)
{
	struct mote_program p = { .size = sizeof(p), .argv = (const char *const[]){ "/nowhere/prog", NULL } };
	mote_pid keeper;
	int before;

	mote_trap_exit(true);
	before = fds_open();
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -ENOENT);
	EXPECT(!mote_pid_valid(keeper));
	p.argv = (const char *const[]){ "/etc/passwd", NULL };
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -EACCES);
	p.argv = (const char *const[]){ "true", NULL };
	p.cwd = "/nowhere";
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -ENOENT);
	p.cwd = NULL;
	p.stdout_level = 44;
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -EINVAL);
	p.stdout_level = 0;
	p.line_max = 70000;
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -EINVAL);
	p.line_max = 0;
	p.node = "no node here";
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -EINVAL);
	p.node = "name";
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -ENETDOWN);
	p.node = NULL;
	p.argv = NULL;
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -EINVAL);
	p.size = 1;
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -EINVAL);
	EXPECT(mailbox_is_empty());
	for (int i = 0; i < 10000 && fds_open() > before; i++)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(fds_open(), before);
}

static void stopping(void)
{
	mote_pid keeper;

	mote_trap_exit(true);
	listen_anew();
	/* A signal that it sees, and acts on. */
	keeper = start("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done");
	EXPECT(wait_line("up"));
	mote_exit_pid(keeper, MOTE_REASON_SHUTDOWN);
	EXPECT(ended(keeper, MOTE_SHUTDOWN, 0, NULL));
	EXPECT(has_line("bye", "stdout"));
	/* Another one. */
	EXPECT_EQ(start_with(&(struct mote_program){ .stop_signal = SIGUSR1 },
			     "trap 'echo usr; exit 0' USR1; echo up2; while :; do sleep 0.01; done", &keeper), 0);
	EXPECT(wait_line("up2"));
	mote_exit_pid(keeper, mote_reason_error(7, "why"));
	EXPECT(ended(keeper, MOTE_ERROR, 7, "why"));
	EXPECT(has_line("usr", "stdout"));
	/* One that does not listen is killed. */
	EXPECT_EQ(start_with(&(struct mote_program){ .stop_ms = 20 },
			     "trap '' TERM; echo up3; while :; do sleep 0.01; done", &keeper), 0);
	EXPECT(wait_line("up3"));
	mote_exit_pid(keeper, MOTE_REASON_SHUTDOWN);
	EXPECT(ended(keeper, MOTE_SHUTDOWN, 0, NULL));
	EXPECT_EQ(start_with(&(struct mote_program){ .stop_ms = -1 },
			     "trap '' TERM; echo up4; while :; do sleep 0.01; done", &keeper), 0);
	EXPECT(wait_line("up4"));
	mote_exit_pid(keeper, MOTE_REASON_SHUTDOWN);
	EXPECT(ended(keeper, MOTE_SHUTDOWN, 0, NULL));
	mote_log_handler_remove("out");
}

static bool os_process_gone(pid_t pid)
{
	for (int i = 0; i < 60000; i++) {
		if (kill(pid, 0) && errno == ESRCH)
			return true;
		mote_sleep(mote_in_ms(1));
	}
	return false;
}

static pid_t os_pid_of_line(void)
{
	pid_t pid;

	pthread_mutex_lock(&out.mutex);
	pid = out.n ? (pid_t)out.lines[0].os_pid : 0;
	pthread_mutex_unlock(&out.mutex);
	return pid;
}

static void parent_of_program(void *arg)
{
	mote_pid keeper;

	start_with(&(struct mote_program){ .stop_ms = 3600000 }, "trap '' TERM; echo up; while :; do sleep 0.01; done",
		   &keeper);
	*(mote_pid *)arg = keeper;
	mote_receive(MOTE_FOREVER);
}

static void killing(void)
{
	static mote_pid keeper;
	mote_pid parent;
	pid_t pid;

	/* It would not listen for an hour; to be killed is another thing. */
	listen_anew();
	parent = mote_spawn(parent_of_program, &keeper);
	EXPECT(wait_line("up"));
	pid = os_pid_of_line();
	EXPECT(pid > 1 && !kill(pid, 0));
	mote_exit_pid(keeper, MOTE_REASON_KILL);
	EXPECT(os_process_gone(pid));
	put_down(parent);
	/* Also when it was told more politely before. */
	listen_anew();
	parent = mote_spawn(parent_of_program, &keeper);
	EXPECT(wait_line("up"));
	pid = os_pid_of_line();
	mote_exit_pid(keeper, MOTE_REASON_SHUTDOWN);
	mote_sleep(mote_in_ms(20));
	EXPECT(!kill(pid, 0));
	mote_exit_pid(keeper, MOTE_REASON_KILL);
	EXPECT(os_process_gone(pid));
	put_down(parent);
	/* The caller's end is the program's. */
	listen_anew();
	parent = mote_spawn(parent_of_program, &keeper);
	EXPECT(wait_line("up"));
	pid = os_pid_of_line();
	put_down(parent);
	EXPECT(os_process_gone(pid));
	mote_log_handler_remove("out");
}

/* Ends its process with this in the middle of it. */
static void grandchildren(void)
{
	mote_pid keeper;
	pid_t pid;

	mote_trap_exit(true);
	listen_anew();
	/* It has the pipes still; nobody waits for it. */
	keeper = start("sleep 1000 & echo $!; exit 5");
	EXPECT(ended(keeper, MOTE_ERROR, 5, "exit status 5"));
	EXPECT_EQ(out.n, 1);
	pid = atoi(out.lines[0].text);
	EXPECT(pid > 1 && !kill(pid, 0));
	kill(pid, SIGKILL);
	/* One that prints for ever. */
	listen_anew();
	out.slow = true;
	EXPECT_EQ(start_with(&(struct mote_program){ .line_max = 10000 }, "yes 0123456789012345678901234567890123456789"
			     " | tr -d '\\n' & echo $! >&2; exit 6", &keeper), 0);
	EXPECT(ended(keeper, MOTE_ERROR, 6, "exit status 6"));
	for (int i = 0; i < out.n && i < LINES; i++) {
		if (!strcmp(out.lines[i].stream, "stderr") && out.lines[i].text[0] >= '1' && out.lines[i].text[0] <= '9')
			kill(atoi(out.lines[i].text), SIGKILL);
	}
	mote_log_handler_remove("out");
}

static void broken_handler(void)
{
	mote_pid keeper;

#if SANITIZED
	selftest_skip("a sanitizer's program ends with a crash");
	return;
#endif
	mote_trap_exit(true);
	listen_anew();
	strcpy(out.crash_at, "crash");
	keeper = start("echo crash; while [ ! -e $0.x ]; do sleep 0.01; echo tick; done");
	/* The handler is gone with the reader; another one reads on. */
	for (int i = 0; i < 60000 && mote_log_handler_set_level("out", 0) != -ENOENT; i++)
		mote_sleep(mote_in_ms(1));
	out.crash_at[0] = 0;
	EXPECT_EQ(mote_log_handler_add(&(struct mote_log_handler){
		.size = sizeof(struct mote_log_handler), .id = "out", .log = hear }), 0);
	EXPECT(wait_line("tick"));
	mote_exit_pid(keeper, MOTE_REASON_SHUTDOWN);
	EXPECT(ended(keeper, MOTE_SHUTDOWN, 0, NULL));
	mote_log_handler_remove("out");
}

static void leaves_nothing(void)
{
	int before, rounds = (int)test_rounds(20);

	mote_trap_exit(true);
	ended(start("exit 0"), MOTE_NORMAL, 0, NULL);
	before = fds_open();
	for (int i = 0; i < rounds; i++) {
		mote_pid keeper = start(i % 2 ? "exit 0" : "sleep 1000");

		if (!(i % 2))
			mote_exit_pid(keeper, i % 4 ? MOTE_REASON_SHUTDOWN : MOTE_REASON_KILL);
		mote_msg_free(mote_receive_type(MOTE_MSG_EXIT, PATIENCE));
	}
	for (int i = 0; i < 10000 && (fds_open() > before || waitid(P_ALL, 0, &(siginfo_t){ 0 },
								    WEXITED | WNOHANG | WNOWAIT) == 0);
	     i++)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(fds_open(), before);
	EXPECT_EQ(waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED | WNOHANG | WNOWAIT), -1);
}

static _Atomic int killed_rounds;

static void starts(void *arg)
{
	mote_pid keeper;

	(void)arg;
	start_with(&(struct mote_program){ .stop_ms = -1 }, "sleep 1000", &keeper);
	atomic_fetch_add(&killed_rounds, 1);
	mote_receive(MOTE_FOREVER);
}

/* Wherever it is in its start. */
static void killed_in_the_middle(void)
{
	int before, rounds = (int)test_rounds(40);
	uint64_t seed = test_seed();

	mote_trap_exit(true);
	ended(start("exit 0"), MOTE_NORMAL, 0, NULL);
	before = fds_open();
	for (int i = 0; i < rounds; i++) {
		mote_pid pid = mote_spawn(starts, NULL);

		mote_sleep(mote_in_us(test_random(&seed) % 4000));
		put_down(pid);
	}
	for (int i = 0; i < 20000 && (fds_open() > before || waitid(P_ALL, 0, &(siginfo_t){ 0 },
								    WEXITED | WNOHANG | WNOWAIT) == 0);
	     i++)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(fds_open(), before);
	EXPECT_EQ(waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED | WNOHANG | WNOWAIT), -1);
	test_note("%d of %d had started", atomic_load(&killed_rounds), rounds);
}

/* --- as a node --- */

static void node_main(void *arg)
{
	(void)arg;
	mote_register("there", mote_self());
	for (int i = 0; i < 3000; i++)
		puts("0123456789012345678901234567890123456789012345678");
	fflush(stdout);
	mote_os_signal(SIGTERM, true);
	mote_msg_free(mote_receive_type(MOTE_MSG_OS_SIGNAL, MOTE_FOREVER));
}

static char **self_argv;
static char dir[] = "/tmp/otp-program-XXXXXX";

static void as_a_node(void)
{
	struct mote_program p = { .size = sizeof(p), .argv = (const char *const[]){ self_argv[0], "node", NULL } };
	char name[40];
	mote_node node;
	mote_pid keeper;

	mote_trap_exit(true);
	listen_anew();
	snprintf(name, sizeof(name), "otp-program-%d", getpid());
	p.node = name;
	EXPECT_EQ(mote_program_start_link(&p, &keeper), 0);
	node = mote_node_connect(name, PATIENCE);
	EXPECT(node.id);
	for (int i = 0; i < 60000 && !mote_pid_valid(mote_whereis_on(node, "there", PATIENCE)); i++)
		mote_sleep(mote_in_ms(1));
	for (int i = 0; i < 60000 && out.n < 3000; i++)
		mote_sleep(mote_in_ms(1));
	mote_exit_pid(keeper, MOTE_REASON_SHUTDOWN);
	EXPECT(ended(keeper, MOTE_SHUTDOWN, 0, NULL));
	EXPECT_EQ(out.n, 3000);
	/* One that never becomes a node. */
	p.argv = (const char *const[]){ "sleep", "1000", NULL };
	p.start_ms = 50;
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -ETIMEDOUT);
	p.argv = (const char *const[]){ "true", NULL };
	p.start_ms = 0;
	EXPECT_EQ(mote_program_start_link(&p, &keeper), -ECHILD);
	mote_log_handler_remove("out");
}

int main(int argc, char **argv)
{
	struct mote_opts node = { .size = sizeof(node) };
	char name[40];

	self_argv = argv;
	if (argc > 1)
		return mote_run(node_main, NULL, NULL);
	snprintf(name, sizeof(name), "otp-keeper-%d", getpid());
	node.node = name;
	if (!mkdtemp(dir) || setenv("MOTE_DIR", dir, 1))
		return 1;
	selftest_process("what it prints is logged, line by line", output);
	selftest_process("its end is the keeper's", ends);
	selftest_process("directory and environment", environment);
	selftest_process("what can't be started", refused);
	selftest_process("told to exit: a signal, then SIGKILL", stopping);
	selftest_process("killed: SIGKILL; and so ends what its caller has left", killing);
	selftest_process("those that it leaves behind are not waited for", grandchildren);
	selftest_process("a handler of the log that crashes takes nothing along", broken_handler);
	selftest_process("no descriptor and no zombie is left", leaves_nothing);
	selftest_process("nor when the caller is killed in the middle", killed_in_the_middle);
	if (getenv("MOTE_SEED"))
		test_note("MOTE_SEED: no nodes");
	else
		selftest_process_opts("a program that is a node", as_a_node, &node);
	rmdir(dir);
	return selftest_done();
}
