// SPDX-License-Identifier: MIT OR GPL-2.0
/* A kill acts at the victim's next runtime call, whichever that is: all public functions are gone through. */
#include "proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

/* What the calls are made with. Of the victim, but `other` and `name`. */
struct props {
	mote_pid other;			/* takes messages */
	mote_ref ref;			/* an alias */
	mote_ref monitor;		/* of other */
	struct mote_msg *m, *received;
	mote_timer timer;
	int in, out;			/* a pipe's */
	int spare;			/* has no owner */
	int udp, listener, stream, file;
	struct mote_child child;
	struct mote_addr addr;
	char name[32], buf[64];
	void *mem;
};

static void nothing(void *arg)
{
	(void)arg;
}

static int64_t no_job(void *arg)
{
	return arg != NULL;
}

static bool any(const struct mote_msg *m, void *arg)
{
	(void)arg;
	return m != NULL;
}

static bool no_more(const char *name, mote_pid pid, void *arg)
{
	(void)name;
	(void)pid;
	(void)arg;
	return false;
}

static bool no_more_nodes(mote_node node, const char *name, int state, void *arg)
{
	(void)node;
	(void)name;
	(void)state;
	(void)arg;
	return false;
}

enum acts {
	ACTS,			/* the victim ends there */
	LOOKS,			/* does not act: only looks, as docs/processes.md says */
	ENDS,			/* mote_exit() */
	FOREIGN,		/* not for processes */
};

/* name, what a kill does there, how it is called */
#define EACH(CALL) \
	CALL(mote_now, LOOKS, mote_now()) \
	CALL(mote_in_ns, LOOKS, mote_in_ns(1)) \
	CALL(mote_in_us, LOOKS, mote_in_us(1)) \
	CALL(mote_in_ms, LOOKS, mote_in_ms(1)) \
	CALL(mote_reason_error, LOOKS, mote_reason_error(1, NULL)) \
	CALL(mote_reason_format, LOOKS, mote_reason_format(&MOTE_REASON_KILL, p->name, sizeof(p->name))) \
	CALL(mote_reason_crash, LOOKS, \
	     mote_reason_crash(&MOTE_REASON_KILL, &(struct mote_crash){ .size = sizeof(size_t) })) \
	CALL(mote_errno, LOOKS, mote_errno()) \
	CALL(mote_version, LOOKS, mote_version()) \
	CALL(mote_self, LOOKS, mote_self()) \
	CALL(mote_in_process, LOOKS, mote_in_process()) \
	CALL(mote_run, FOREIGN, (void)0) \
	CALL(mote_start, FOREIGN, (void)0) \
	CALL(mote_stop, FOREIGN, (void)0) \
	CALL(mote_blocking, ACTS, mote_blocking(no_job, NULL, NULL, MOTE_FOREVER)) \
	CALL(mote_runtime_info, LOOKS, mote_runtime_info(&(struct mote_runtime_info){ .size = sizeof(size_t) })) \
	CALL(mote_process_info, LOOKS, test_info(p->other)) \
	CALL(mote_process_next, LOOKS, mote_process_next(MOTE_NOBODY)) \
	CALL(mote_alive, LOOKS, mote_alive(p->other)) \
	CALL(mote_spawn, ACTS, mote_spawn(nothing, NULL)) \
	CALL(mote_spawn_link, ACTS, mote_spawn_link(nothing, NULL)) \
	CALL(mote_spawn_monitor, ACTS, mote_spawn_monitor(nothing, NULL, &p->ref)) \
	CALL(mote_spawn_opts, ACTS, spawn_pinned(nothing, NULL, 0, 0, NULL)) \
	CALL(mote_exit, ENDS, mote_exit(MOTE_REASON_NORMAL)) \
	CALL(mote_exit_pid, ACTS, mote_exit_pid(p->other, MOTE_REASON_NORMAL)) \
	CALL(mote_exit_alias, ACTS, mote_exit_alias(p->ref, MOTE_REASON_NORMAL)) \
	CALL(mote_label_set, ACTS, mote_label_set("victim")) \
	CALL(mote_yield, ACTS, mote_yield()) \
	CALL(mote_check, ACTS, mote_check()) \
	CALL(mote_async_code, LOOKS, mote_async_code(NULL, NULL)) \
	CALL(mote_nokill_begin, LOOKS, mote_nokill_begin()) \
	CALL(mote_nokill_end, ACTS, mote_nokill_begin(); mote_nokill_end()) \
	CALL(mote_trap_exit, ACTS, mote_trap_exit(true)) \
	CALL(mote_link, ACTS, mote_link(p->other)) \
	CALL(mote_unlink, ACTS, mote_unlink(p->other)) \
	CALL(mote_monitor, ACTS, mote_monitor(p->other)) \
	CALL(mote_monitor_name, ACTS, mote_monitor_name("nobody")) \
	CALL(mote_demonitor, ACTS, mote_demonitor(p->monitor, 0)) \
	CALL(mote_alias, ACTS, mote_alias(0)) \
	CALL(mote_unalias, ACTS, mote_unalias(p->ref)) \
	CALL(mote_defer, ACTS, mote_defer(nothing, NULL)) \
	CALL(mote_undefer, ACTS, mote_undefer(nothing, NULL)) \
	CALL(mote_alloc, ACTS, mote_alloc(1)) \
	CALL(mote_zalloc, ACTS, mote_zalloc(1)) \
	CALL(mote_realloc, ACTS, mote_realloc(p->mem, 12)) \
	CALL(mote_free, ACTS, mote_free(p->mem)) \
	CALL(mote_local_set, ACTS, mote_local_set(p, p)) \
	CALL(mote_local_get, LOOKS, mote_local_get(p)) \
	CALL(mote_register, ACTS, mote_register(p->name, mote_self())) \
	CALL(mote_unregister, ACTS, mote_unregister("nobody")) \
	CALL(mote_whereis, LOOKS, mote_whereis("nobody")) \
	CALL(mote_name_each, LOOKS, mote_name_each(no_more, NULL)) \
	CALL(mote_msg_exit, LOOKS, mote_msg_exit(p->m)) \
	CALL(mote_msg_down, LOOKS, mote_msg_down(p->m)) \
	CALL(mote_msg_ref, LOOKS, mote_msg_ref(p->m)) \
	CALL(mote_msg_from, LOOKS, mote_msg_from(p->m)) \
	CALL(mote_msg_new, ACTS, mote_msg_new(1, 1)) \
	CALL(mote_msg_free, LOOKS, mote_msg_free(p->m)) \
	CALL(mote_msg_keep, LOOKS, mote_msg_keep(p->m)) \
	CALL(mote_send, ACTS, mote_send(p->other, 1, NULL, 0)) \
	CALL(mote_send_until, ACTS, mote_send_until(p->other, 1, NULL, 0, MOTE_NOW)) \
	CALL(mote_send_name, ACTS, mote_send_name("nobody", 1, NULL, 0)) \
	CALL(mote_send_alias, ACTS, mote_send_alias(p->ref, 1, NULL, 0)) \
	CALL(mote_send_msg, ACTS, mote_send_msg(p->other, p->m)) \
	CALL(mote_send_msg_until, ACTS, mote_send_msg_until(p->other, p->m, MOTE_NOW)) \
	CALL(mote_receive, ACTS, mote_receive(MOTE_NOW)) \
	CALL(mote_receive_type, ACTS, mote_receive_type(9, MOTE_NOW)) \
	CALL(mote_receive_match, ACTS, mote_receive_match(any, NULL, MOTE_NOW)) \
	CALL(mote_receive_ref, ACTS, mote_receive_ref(p->ref, MOTE_NOW)) \
	CALL(mote_call, ACTS, mote_call(p->other, 1, NULL, 0, NULL, MOTE_NOW)) \
	CALL(mote_request, ACTS, mote_request(p->other, 1, NULL, 0)) \
	CALL(mote_request_msg, ACTS, mote_request_msg(p->other, p->m)) \
	CALL(mote_call_cycle, LOOKS, mote_call_cycle(NULL, 0)) \
	CALL(mote_from_pass, LOOKS, mote_from_pass(mote_msg_from(p->received))) \
	CALL(mote_reply, ACTS, mote_reply(mote_msg_from(p->received), 1, NULL, 0)) \
	CALL(mote_reply_msg, ACTS, mote_reply_msg(mote_msg_from(p->received), p->m)) \
	CALL(mote_send_after, ACTS, mote_send_after(mote_in_ms(1), p->other, 1, NULL, 0)) \
	CALL(mote_send_every, ACTS, mote_send_every(1000000000, p->other, 1, NULL, 0)) \
	CALL(mote_timer_cancel, ACTS, mote_timer_cancel(p->timer, NULL)) \
	CALL(mote_timer_left, ACTS, mote_timer_left(p->timer)) \
	CALL(mote_sleep, ACTS, mote_sleep(MOTE_NOW)) \
	CALL(mote_fd_close, ACTS, mote_fd_close(p->in)) \
	CALL(mote_fd_give, ACTS, mote_fd_give(p->in, p->other)) \
	CALL(mote_fd_adopt, ACTS, mote_fd_adopt(p->spare)) \
	CALL(mote_fd_release, ACTS, if (!mote_fd_release(p->in)) close(p->in)) \
	CALL(mote_fd_owner, LOOKS, mote_fd_owner(p->in)) \
	CALL(mote_fd_wait, ACTS, mote_fd_wait(p->out, MOTE_FD_OUT, MOTE_NOW)) \
	CALL(mote_file_open, ACTS, mote_file_open("/dev/null", O_RDONLY, 0)) \
	CALL(mote_file_read, ACTS, mote_file_read(p->file, p->buf, 1, 0, MOTE_NOW)) \
	CALL(mote_file_write, ACTS, mote_file_write(p->file, p->buf, 1, 0, MOTE_NOW)) \
	CALL(mote_file_writev, ACTS, mote_file_writev(p->file, &(struct iovec){ p->buf, 1 }, 1, 0, MOTE_NOW)) \
	CALL(mote_file_sync, ACTS, mote_file_sync(p->file, true)) \
	CALL(mote_file_stat, ACTS, mote_file_stat(p->file, NULL, &(struct statx){ 0 })) \
	CALL(mote_file_truncate, ACTS, mote_file_truncate(p->file, 0)) \
	CALL(mote_file_rename, ACTS, mote_file_rename("/dev/null/a", "/dev/null/b")) \
	CALL(mote_file_unlink, ACTS, mote_file_unlink("/dev/null/a")) \
	CALL(mote_file_mkdir, ACTS, mote_file_mkdir("/dev/null/a", 0700)) \
	CALL(mote_addr_parse, LOOKS, mote_addr_parse(&p->addr, ":1")) \
	CALL(mote_addr_format, LOOKS, mote_addr_format(&p->addr, p->buf, sizeof(p->buf))) \
	CALL(mote_resolve, ACTS, mote_resolve("127.0.0.1", 1, &p->addr, 1, MOTE_FOREVER)) \
	CALL(mote_net_listen, ACTS, mote_net_listen(&p->addr, 0)) \
	CALL(mote_net_accept, ACTS, mote_net_accept(p->listener, NULL, MOTE_NOW)) \
	CALL(mote_net_connect, ACTS, mote_net_connect(&p->addr, MOTE_NOW)) \
	CALL(mote_net_recv, ACTS, mote_net_recv(p->stream, p->buf, 1, MOTE_NOW)) \
	CALL(mote_net_send, ACTS, mote_net_send(p->stream, p->buf, 1, MOTE_NOW)) \
	CALL(mote_net_sendv, ACTS, mote_net_sendv(p->stream, &(struct iovec){ p->buf, 1 }, 1, MOTE_NOW)) \
	CALL(mote_net_send_msg, ACTS, mote_net_send_msg(p->stream, p->m, MOTE_NOW)) \
	CALL(mote_net_udp, ACTS, mote_net_udp(AF_INET, NULL)) \
	CALL(mote_net_recvfrom, ACTS, mote_net_recvfrom(p->udp, p->buf, 1, NULL, MOTE_NOW)) \
	CALL(mote_net_sendto, ACTS, mote_net_sendto(p->udp, p->buf, 1, &p->addr, MOTE_NOW)) \
	CALL(mote_net_shutdown, ACTS, mote_net_shutdown(p->stream, SHUT_RDWR)) \
	CALL(mote_net_local, ACTS, mote_net_local(p->udp, &p->addr)) \
	CALL(mote_net_peer, ACTS, mote_net_peer(p->stream, &p->addr)) \
	CALL(mote_child_start, ACTS, mote_child_start(&p->child, (const char *[]){ "true", NULL }, NULL, NULL)) \
	CALL(mote_child_wait, ACTS, mote_child_wait(&p->child, NULL, MOTE_NOW)) \
	CALL(mote_child_kill, ACTS, mote_child_kill(&p->child, 0)) \
	CALL(mote_os_signal, ACTS, mote_os_signal(SIGUSR1, true)) \
	CALL(mote_node_self, LOOKS, mote_node_self()) \
	CALL(mote_node_name, LOOKS, mote_node_name()) \
	CALL(mote_node_info, LOOKS, \
	     mote_node_info((mote_node){ 1 }, &(struct mote_node_info){ .size = sizeof(size_t) })) \
	CALL(mote_node_each, LOOKS, mote_node_each(no_more_nodes, NULL)) \
	CALL(mote_node_connect, ACTS, mote_node_connect("nobody", MOTE_NOW)) \
	CALL(mote_node_disconnect, ACTS, mote_node_disconnect((mote_node){ 1 })) \
	CALL(mote_node_watch, ACTS, mote_node_watch(false)) \
	CALL(mote_whereis_on, ACTS, mote_whereis_on((mote_node){ 1 }, "nobody", MOTE_NOW)) \
	CALL(mote_send_name_on, ACTS, mote_send_name_on((mote_node){ 1 }, "nobody", 1, NULL, 0)) \
	CALL(mote_monitor_name_on, ACTS, mote_monitor_name_on((mote_node){ 1 }, "nobody")) \
	CALL(mote_entry_register, LOOKS, mote_entry_register("nobody", NULL)) \
	CALL(mote_spawn_on, ACTS, mote_spawn_on((mote_node){ 1 }, &(struct mote_spawn_on_opts){ \
		.size = sizeof(struct mote_spawn_on_opts), .entry = "nobody" }, MOTE_NOW)) \
	CALL(mote_node_start, ACTS, mote_node_start(&(struct mote_node_start_opts){ \
		.size = sizeof(struct mote_node_start_opts) }, &(mote_node){ 0 }, MOTE_NOW))

#define DEFINE(name, acts, ...) \
	static void do_##name(struct props *p) { (void)p; __VA_ARGS__; }
EACH(DEFINE)

static const struct call {
	const char *name;
	enum acts acts;
	void (*make)(struct props *p);
} calls[] = {
#define ROW(name, acts, ...) { #name, acts, do_##name },
	EACH(ROW)
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* Between the victim and a foreign thread: the victim makes no runtime call until the kill has arrived. */
static mote_pid victim;
static int spare_fd;
static _Atomic int stage;		/* 0: idle, 1: victim is ready, 2: killed, -1: the thread has to end */
static _Atomic bool survived;

static void *killer(void *arg)
{
	int now;

	while ((now = atomic_load(&stage)) >= 0) {
		if (now == 1) {
			mote_exit_pid(victim, MOTE_REASON_KILL);
			atomic_store(&stage, 2);
		}
		sched_yield();
	}
	return arg;
}

static void prepare(struct props *p, size_t i)
{
	int fds[2], file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	snprintf(p->name, sizeof(p->name), "kill/%zu", i);
	p->ref = mote_alias(0);
	p->monitor = mote_monitor(p->other);
	p->m = mote_msg_new(1, 16);
	mote_send(mote_self(), 2, "x", 1);
	p->received = mote_receive_type(2, PATIENCE);
	p->timer = mote_send_after(mote_in_ms(100000), p->other, 1, NULL, 0);
	p->mem = mote_alloc(10);
	mote_defer(nothing, NULL);
	EXPECT(p->m && p->received && p->mem && p->timer.id);
	EXPECT_EQ(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	p->in = fds[0];
	p->out = fds[1];
	EXPECT_EQ(mote_fd_adopt(p->in), 0);
	EXPECT_EQ(mote_fd_adopt(p->out), 0);
	p->file = file;
	EXPECT_EQ(mote_fd_adopt(p->file), 0);
	p->spare = spare_fd;
	p->udp = mote_net_udp(AF_INET, NULL);
	EXPECT_EQ(mote_addr_parse(&p->addr, "127.0.0.1:0"), 0);
	p->listener = mote_net_listen(&p->addr, 0);
	EXPECT_EQ(mote_net_local(p->listener, &p->addr), 0);
	p->stream = mote_net_connect(&p->addr, PATIENCE);
	EXPECT(p->udp >= 0 && p->stream >= 0);
	EXPECT_EQ(mote_child_start(&p->child, (const char *[]){ "sleep", "0", NULL }, NULL, NULL), 0);
}

/* Each receive of the table finds something at once: a DOWN, a message of type 9, one to the alias. */
static void fill_mailbox(struct props *p)
{
	mote_monitor((mote_pid){ 1, 0, 1 });
	mote_send(mote_self(), 9, NULL, 0);
	mote_send_alias(p->ref, 1, NULL, 0);
	mote_sleep(MOTE_NOW);
	EXPECT_EQ(test_info(mote_self()).mailbox, 3);
}

struct job {
	size_t i;
	bool messages;			/* the victim's mailbox holds what it receives */
	mote_pid other;
};

static void victim_main(void *arg)
{
	struct job *job = arg;
	struct props p = { .other = job->other };

	prepare(&p, job->i);
	if (job->messages)
		fill_mailbox(&p);
	victim = mote_self();
	atomic_store(&stage, 1);
	while (atomic_load(&stage) != 2)
		sched_yield();
	calls[job->i].make(&p);
	atomic_store(&survived, true);
	mote_check();
	selftest_complain(__FILE__, __LINE__, "alive after mote_check()");
}

static void go_through_all(bool messages)
{
	/* Victims link to it. */
	struct job job = { .messages = messages, .other = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = sink, .flags = MOTE_TRAP_EXIT }) };
	pthread_t thread;

	atomic_store(&stage, 0);
	pthread_create(&thread, NULL, killer, NULL);
	for (job.i = 0; job.i < CALLS; job.i++) {
		const struct call *c = &calls[job.i];
		mote_ref ref;
		mote_pid pid;
		bool down;

		if (c->acts == FOREIGN)
			continue;
		atomic_store(&stage, 0);
		atomic_store(&survived, false);
		spare_fd = dup(STDERR_FILENO);
		pid = mote_spawn_monitor(victim_main, &job, &ref);
		down = EXPECT(got_down(ref, pid, c->acts == ENDS ? MOTE_NORMAL : MOTE_KILLED));
		if (!EXPECT(atomic_load(&survived) == (c->acts == LOOKS)) || !down)
			test_note("%s: %s", c->name, atomic_load(&survived) ? "did not act" : "acted");
		/* unless it went with the victim that had adopted it */
		if (strcmp(c->name, "mote_fd_adopt"))
			close(spare_fd);
	}
	atomic_store(&stage, -1);
	pthread_join(thread, NULL);
	EXPECT(mote_alive(job.other));
	put_down(job.other);
}

static void every_call(void)
{
	go_through_all(false);
}

static void every_call_with_messages(void)
{
	go_through_all(true);
}

static bool in_table(const char *name, size_t length)
{
	for (size_t i = 0; i < CALLS; i++) {
		if (strlen(calls[i].name) == length && !memcmp(calls[i].name, name, length))
			return true;
	}
	return false;
}

/* The names before a parenthesis in lines that say MOTE_API. */
static int check_header(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[512], *at;
	int n = 0;

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		at = strstr(line, "MOTE_API ");
		if (!at || !(at = strstr(at, " mote_")) || line[0] == '#')
			continue;
		while (at) {
			char *name = at + strspn(at, " *");
			size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

			if (name[length] == '(') {
				n++;
				if (!EXPECT(in_table(name, length)))
					test_note("%s: %.*s is not in the table", path, (int)length, name);
				break;
			}
			at = strstr(name, "mote_");
			if (at == name)
				at = strstr(name + 1, "mote_");
		}
	}
	fclose(f);
	return n;
}

/* Headers of rooms above core: what they declare acts where the calls act that it is made of. */
static bool is_above_core(const char *name)
{
	static const char *const above[] = {
		"agent.h", "event.h", "field.h", "log.h", "pg.h", "program.h", "pubsub.h", "registry.h", "server.h", "statem.h",
		"supervisor.h", "sys.h", "task.h", "telemetry.h",
	};

	for (size_t i = 0; i < sizeof(above) / sizeof(above[0]); i++) {
		if (!strcmp(name, above[i]))
			return true;
	}
	return false;
}

static void table_is_complete(void)
{
	DIR *dir = opendir("include/mote");
	struct dirent *e;
	char path[512];
	int n = 0;

	if (!dir) {
		selftest_skip("not run from the top of the source tree: include/mote is not there");
		return;
	}
	while ((e = readdir(dir))) {
		if (is_above_core(e->d_name))
			continue;
		snprintf(path, sizeof(path), "include/mote/%s", e->d_name);
		n += check_header(path);
	}
	closedir(dir);
	EXPECT(n >= 90);
}

int main(void)
{
	selftest_process("a kill acts at every runtime call but those that only look", every_call);
	selftest_process("also if what it receives is there already", every_call_with_messages);
	selftest_case("no public function is missing from that test", table_is_complete);
	return selftest_done();
}
