/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kv_client.h: starting a server to test, and a plain client that sees each reply's exact bytes.
 *
 * The server is $KV, or else $BUILD/examples/kv (BUILD: `build`). A redis-server works as well: that is how
 * these tests are themselves tested.
 */
#ifndef KV_CLIENT_H
#define KV_CLIENT_H

#include "selftest.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define REDIS_SERVER "/usr/bin/redis-server"
#define SERVER_ARGS 32

struct server {
	pid_t pid;
	int port;
	char log[300];		/* what it says */
};

static char temp_dir[64];
static pid_t temp_owner;

static inline void sleep_ms(int ms)
{
	nanosleep(&(struct timespec) { ms / 1000, ms % 1000 * 1000000L }, NULL);
}

static inline double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

static inline const char *build_path(const char *name)
{
	static char path[4][512];
	static int turn;
	const char *build = getenv("BUILD");
	char *out = path[turn++ % 4];

	snprintf(out, sizeof(path[0]), "%s/%s", build ? build : "build", name);
	return out;
}

static inline const char *kv_path(void)
{
	const char *kv = getenv("KV");

	return kv ? kv : build_path("examples/kv");
}

static inline bool is_redis(const char *program)
{
	const char *base = strrchr(program, '/');

	return !strcmp(base ? base + 1 : program, "redis-server");
}

static inline void temp_remove(void)
{
	char command[128];

	if (getpid() != temp_owner)
		return;
	snprintf(command, sizeof(command), "rm -rf %s", temp_dir);
	if (system(command))
		printf("# could not remove %s\n", temp_dir);
}

/* A shell outside our process group removes the directory when we are gone, also when we were killed. */
static inline void temp_watch(void)
{
	char command[256];
	int ends[2];

	snprintf(command, sizeof(command), "read end; rm -rf %s || { sleep 1; rm -rf %s; }", temp_dir,
		 temp_dir);
	if (pipe2(ends, O_CLOEXEC) || fork())
		return;
	setsid();
	dup2(ends[0], STDIN_FILENO);
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	execl("/bin/sh", "sh", "-c", command, NULL);
	_exit(127);
}

/* A path below this program's own directory, which goes when the program ends. The string stays. */
static inline const char *temp_path(const char *name)
{
	static char *paths[64];
	char path[256];
	int i;

	if (!temp_dir[0]) {
		snprintf(temp_dir, sizeof(temp_dir), "/tmp/kvtest.XXXXXX");
		if (!mkdtemp(temp_dir)) {
			perror(temp_dir);
			exit(1);
		}
		temp_owner = getpid();
		atexit(temp_remove);
		temp_watch();
	}
	snprintf(path, sizeof(path), "%s/%s", temp_dir, name);
	for (i = 0; i < 63 && paths[i]; i++)
		if (!strcmp(paths[i], path))
			return paths[i];
	return paths[i] = strdup(path);
}

static inline const char *temp_subdir(const char *name)
{
	const char *path = temp_path(name);

	mkdir(path, 0755);
	return path;
}

/*
 * A port that was free a moment ago, and that is unlikely to be taken in the next: below those that
 * connections get by themselves, and away from what another process would choose.
 */
static inline int port_free(void)
{
	static unsigned int turn;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	for (int tries = 0; tries < 20000; tries++) {
		int port = 10000 + (getpid() * 131u + turn++) % 20000;
		int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), taken;

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		at.sin_port = htons(port);
		taken = bind(fd, (struct sockaddr *)&at, sizeof(at));
		close(fd);
		if (!taken)
			return port;
	}
	printf("# no free port\n");
	exit(1);
}

static inline int port_connect(int port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct timeval limit = { .tv_sec = 20 };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&at, sizeof(at))) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static inline pid_t child_start(char *const *argv, const char *output)
{
	pid_t parent = getpid(), pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (output) {
		int fd = open(output, O_WRONLY | O_CREAT | O_APPEND, 0644);

		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		close(fd);
	}
	execv(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

static inline void file_show(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[256];

	for (int lines = 0; lines < 30 && file && fgets(line, sizeof(line), file); lines++)
		printf("#   %s%s", line, strchr(line, '\n') ? "" : "\n");
	if (file)
		fclose(file);
}

/* Waits for a child's end; false after `ms`. */
static inline bool child_ended(pid_t pid, int *status, int ms)
{
	double limit = seconds_now() + ms * 1e-3;

	while (waitpid(pid, status, WNOHANG) != pid) {
		if (seconds_now() > limit)
			return false;
		sleep_ms(2);
	}
	return true;
}

/* A sanitizer's report is a failure, wherever the server went on to. */
static inline void server_log_done(struct server *server)
{
	FILE *file = fopen(server->log, "r");
	char line[1024];

	while (file && fgets(line, sizeof(line), file)) {
		if (!strstr(line, "Sanitizer") && !strstr(line, "runtime error:"))
			continue;
		selftest_complain(__FILE__, __LINE__, "a sanitizer's report");
		for (int lines = 0; lines < 60; lines++)
			if (!lines || fgets(line, sizeof(line), file))
				printf("#   %.200s%s", line, strchr(line, '\n') ? "" : "\n");
		break;
	}
	if (file)
		fclose(file);
	unlink(server->log);
}

static inline void server_kill(struct server *server)
{
	if (server->pid > 0) {
		kill(server->pid, SIGKILL);
		waitpid(server->pid, NULL, 0);
		server->pid = 0;
	}
	server_log_done(server);
}

static inline void server_exec(struct server *server, const char *program, va_list options)
{
	static int count;
	char port[16];
	char *argv[SERVER_ARGS] = { (char *)program, "--port", port, "--bind", "127.0.0.1" };
	int argc = 5;

	server->port = port_free();
	temp_path("");
	snprintf(server->log, sizeof(server->log), "%s/server.%d.log", temp_dir, ++count);
	snprintf(port, sizeof(port), "%d", server->port);
	if (is_redis(program)) {
		argv[argc++] = "--save";
		argv[argc++] = "";
	}
	while (argc < SERVER_ARGS - 1 && (argv[argc] = va_arg(options, char *)))
		argc++;
	server->pid = child_start(argv, server->log);
}

/*
 * One look: 1 when it serves, 0 when not yet, -1 when it ended. A server may listen before its file is loaded,
 * so PING must say PONG.
 */
static inline int server_ready(struct server *server)
{
	char answer[8] = "";
	int fd, status;
	bool up;

	if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
		server->pid = 0;
		printf("# the server ended with status 0x%x\n", status);
		return -1;
	}
	fd = port_connect(server->port);
	if (fd < 0)
		return 0;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = 10 },
		   sizeof(struct timeval));
	up = write(fd, "PING\r\n", 6) == 6 && recv(fd, answer, 7, MSG_WAITALL) == 7 &&
	     !memcmp(answer, "+PONG\r\n", 7);
	close(fd);
	return up;
}

/* Options end with NULL. Returns at once. */
static inline void server_begin(struct server *server, const char *program, ...)
{
	va_list options;

	va_start(options, program);
	server_exec(server, program, options);
	va_end(options);
}

/* Waits until it serves. False, with its output shown, when it ended or was not ready within 20 s. */
static inline bool server_wait(struct server *server)
{
	double limit = seconds_now() + 20;
	int ready;

	while (!(ready = server_ready(server)) && seconds_now() < limit)
		sleep_ms(5);
	if (ready > 0)
		return true;
	if (!ready)
		printf("# the server does not answer\n");
	file_show(server->log);
	server_kill(server);
	return false;
}

#define server_start(server, ...) (server_begin(server, __VA_ARGS__), server_wait(server))

/* Started with a file it must refuse: true when it ended by itself, not with 0, and said something. */
static inline bool server_refuses(const char *program, ...)
{
	struct server server;
	struct stat info;
	int status = 0;
	va_list options;
	bool good;

	va_start(options, program);
	server_exec(&server, program, options);
	va_end(options);
	if (!child_ended(server.pid, &status, 10000)) {
		printf("# %s goes on\n", program);
		server_kill(&server);
		return false;
	}
	server.pid = 0;
	good = WIFEXITED(status) && WEXITSTATUS(status) && !stat(server.log, &info) && info.st_size;
	if (!good) {
		printf("# %s ended with status 0x%x and said:\n", program, status);
		file_show(server.log);
	}
	server_log_done(&server);
	return good;
}

/* A number of /proc/PID/status, such as VmRSS in KiB. */
static inline long server_status(const struct server *server, const char *field)
{
	char path[64], line[256];
	size_t length = strlen(field);
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", server->pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, length) && line[length] == ':')
			value = atol(line + length + 1);
	if (file)
		fclose(file);
	return value;
}

static inline int server_descriptors(const struct server *server)
{
	char path[64];
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", server->pid);
	dir = opendir(path);
	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/* VmHWM starts anew from what there is now. */
static inline void server_peak_reset(const struct server *server)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", server->pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "5", 1) != 1)
		printf("# the peak of memory could not be reset\n");
	close(fd);
}

struct client {
	int fd;
	char *bytes;
	size_t start, end, room;
	char *reply;		/* the last one, with a NUL behind it */
	size_t reply_size;
};

/* NULL: there is no server. */
static inline struct client *client_try(int port)
{
	int fd = port_connect(port);
	struct client *client;

	if (fd < 0)
		return NULL;
	client = calloc(1, sizeof(*client));
	client->fd = fd;
	return client;
}

/* For where there is no going on without. */
static inline struct client *client_open(int port)
{
	struct client *client = client_try(port);

	if (!client) {
		printf("# connect: %s\n", strerror(errno));
		exit(1);
	}
	return client;
}

static inline void client_close(struct client *client)
{
	close(client->fd);
	free(client->bytes);
	free(client->reply);
	free(client);
}

static inline bool client_send(struct client *client, const void *bytes, size_t size)
{
	while (size) {
		ssize_t n = send(client->fd, bytes, size, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		bytes = (const char *)bytes + n;
		size -= n;
	}
	return true;
}

static inline bool client_say(struct client *client, const char *text)
{
	return client_send(client, text, strlen(text));
}

/* The size of the reply at `bytes`; 0 when it is not complete, -1 when it is none. RESP2 and RESP3. */
static inline long reply_size(const char *bytes, size_t size)
{
	const char *line_end = size ? memchr(bytes, '\n', size) : NULL;
	long used, count, part;

	if (!line_end)
		return 0;
	used = line_end - bytes + 1;
	if (line_end == bytes || line_end[-1] != '\r')
		return -1;
	switch (bytes[0]) {
	case '+': case '-': case ':': case '_': case ',': case '#': case '(':
		return used;
	case '$': case '=':
		count = atol(bytes + 1);
		if (count < 0)
			return used;
		used += count + 2;
		return (size_t)used <= size ? used : 0;
	case '*': case '~': case '>': case '%':
		count = atol(bytes + 1);
		if (bytes[0] == '%')
			count *= 2;
		while (count-- > 0) {
			part = reply_size(bytes + used, size - used);
			if (part <= 0)
				return part;
			used += part;
		}
		return used;
	default:
		return -1;
	}
}

/* The next reply, or NULL: connection closed, 20 s of silence, or bytes that are none (.reply has them). */
static inline const char *client_reply(struct client *client)
{
	for (;;) {
		size_t have = client->end - client->start;
		long size = reply_size(client->bytes + client->start, have);
		ssize_t n;

		if (size) {
			client->reply_size = size > 0 ? (size_t)size : have;
			client->reply = realloc(client->reply, client->reply_size + 1);
			memcpy(client->reply, client->bytes + client->start, client->reply_size);
			client->reply[client->reply_size] = 0;
			client->start += client->reply_size;
			return size > 0 ? client->reply : NULL;
		}
		if (client->start) {
			memmove(client->bytes, client->bytes + client->start, have);
			client->start = 0;
			client->end = have;
		}
		if (client->end == client->room) {
			client->room = client->room ? client->room * 2 : 16384;
			client->bytes = realloc(client->bytes, client->room);
		}
		n = recv(client->fd, client->bytes + client->end, client->room - client->end, 0);
		if (n <= 0)
			return NULL;
		client->end += n;
	}
}

/* Sends one command as an array of strings that may hold any bytes. */
static inline bool client_args(struct client *client, int argc, const char *const *argv, const size_t *sizes)
{
	size_t room = 32, used;
	char *text;
	bool sent;

	for (int i = 0; i < argc; i++)
		room += sizes[i] + 32;
	text = malloc(room);
	used = sprintf(text, "*%d\r\n", argc);
	for (int i = 0; i < argc; i++) {
		used += sprintf(text + used, "$%zu\r\n", sizes[i]);
		memcpy(text + used, argv[i], sizes[i]);
		used += sizes[i];
		text[used++] = '\r';
		text[used++] = '\n';
	}
	sent = client_send(client, text, used);
	free(text);
	return sent;
}

/* One command, its words parted by single spaces, and the reply to it. */
static inline const char *client_call(struct client *client, const char *format, ...)
{
	const char *argv[64];
	size_t sizes[64];
	char text[4096], *rest;
	va_list values;
	int argc = 0;

	va_start(values, format);
	vsnprintf(text, sizeof(text), format, values);
	va_end(values);
	for (char *word = strtok_r(text, " ", &rest); word && argc < 64; word = strtok_r(NULL, " ", &rest)) {
		argv[argc] = word;
		sizes[argc++] = strlen(word);
	}
	if (!client_args(client, argc, argv, sizes))
		return NULL;
	return client_reply(client);
}

/* Bytes made readable for a report. */
static inline const char *shown(const char *bytes, size_t size)
{
	static char out[4][256];
	static int turn;
	char *text = out[turn++ % 4];
	size_t used = 0;

	for (size_t i = 0; i < size && used < 200; i++) {
		unsigned char c = bytes[i];

		if (c == '\r')
			used += sprintf(text + used, "\\r");
		else if (c == '\n')
			used += sprintf(text + used, "\\n");
		else
			used += sprintf(text + used, c < 32 || c > 126 ? "\\x%02x" : "%c", c);
	}
	text[used] = 0;
	return text;
}

static inline bool reply_is_at(const char *file, int line, const char *reply, const char *wanted)
{
	if (reply && !strcmp(reply, wanted))
		return true;
	selftest_complain(file, line, "reply");
	printf("#   wanted %s\n#   got    %s\n", shown(wanted, strlen(wanted)),
	       reply ? shown(reply, strlen(reply)) : "nothing");
	return false;
}

#define REPLY_IS(reply, wanted) reply_is_at(__FILE__, __LINE__, reply, wanted)

/* Says why and leaves with the status of a skip when the program is not there. */
static inline void program_needed(const char *path)
{
	if (!access(path, X_OK))
		return;
	printf("TAP version 13\n1..0 # SKIP %s: %s\n", path, strerror(errno));
	exit(4);
}

#endif
