/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * players.h: programs that play scenarios: one on mote, started for each run, and one on the BEAM, started once. What
 * goes between is two files.
 */
#ifndef CONFORMANCE_PLAYERS_H
#define CONFORMANCE_PLAYERS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE	30		/* seconds: only a hang lasts as long */

enum player { MOTE, MOTE_SEEDED, BEAM, NR_PLAYERS };

static const char *const player_names[] = { "mote", "mote, seeded", "the BEAM" };

static struct {
	uint64_t seed;
	unsigned int count, runs;
	const char *file, *dir, *mote, *beam;
} args = { .seed = 1, .runs = 1 };

static char scenarios_path[512], outcomes_path[512];
static pid_t beam_pid;
static FILE *beam_in;
static int beam_out = -1;

static void bail_out(const char *format, ...)
{
	va_list list;

	printf("Bail out! ");
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	printf("\n");
	if (beam_pid)
		kill(beam_pid, SIGKILL);
	exit(1);
}

static bool mote_play(uint64_t seed, bool seeded)
{
	char text[32];
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (!freopen(scenarios_path, "r", stdin) || !freopen(outcomes_path, "w", stdout))
			_exit(3);
		snprintf(text, sizeof(text), "%llu", (unsigned long long)seed);
		if (seeded)
			setenv("MOTE_SEED", text, 1);
		else
			unsetenv("MOTE_SEED");
		setenv("MOTE_SCHEDULERS", seeded && seed % 3 == 0 ? "3" : "2", 1);
		alarm(PATIENCE);
		execl(args.mote, args.mote, text, NULL);
		_exit(3);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		bail_out("no process for the player");
	if (status)
		printf("# the player on mote: %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return !status;
}

static void beam_start(void)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		bail_out("no pipes");
	fflush(stdout);
	beam_pid = fork();
	if (!beam_pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		execl("/bin/sh", "sh", "-c", args.beam, NULL);
		_exit(3);
	}
	close(to[0]);
	close(from[1]);
	beam_in = fdopen(to[1], "w");
	beam_out = from[0];
}

static void beam_stop(void)
{
	if (!beam_pid)
		return;
	/* It ends at the end of its input. */
	fclose(beam_in);
	close(beam_out);
	waitpid(beam_pid, NULL, 0);
	beam_pid = 0;
}

static bool beam_play(uint64_t seed)
{
	struct pollfd p = { .events = POLLIN };
	char said[256];
	ssize_t n;

	if (!beam_pid)
		beam_start();
	p.fd = beam_out;
	fprintf(beam_in, "%llu %s %s\n", (unsigned long long)seed, scenarios_path, outcomes_path);
	fflush(beam_in);
	if (poll(&p, 1, PATIENCE * 1000) != 1) {
		kill(beam_pid, SIGKILL);
		beam_stop();
		printf("# the player on the BEAM hangs\n");
		return false;
	}
	n = read(beam_out, said, sizeof(said) - 1);
	said[n > 0 ? n : 0] = 0;
	if (!strcmp(said, "done\n"))
		return true;
	printf("# the player on the BEAM: %s\n", said);
	beam_stop();
	return false;
}

/* Plays what is in scenarios_path, into outcomes_path. False: it crashed, or hung. */
static bool player_run(enum player player, uint64_t seed)
{
	unlink(outcomes_path);
	return player == BEAM ? beam_play(seed) : mote_play(seed, player == MOTE_SEEDED);
}

/* --seed N --count N --runs N --file SCENARIOS --dir SCRATCH --mote PLAYER --beam COMMAND. False: that is not right. */
static bool args_parse(int argc, char **argv)
{
	static const struct { const char *word; const char **text; } texts[] = {
		{ "--file", &args.file }, { "--dir", &args.dir }, { "--mote", &args.mote }, { "--beam", &args.beam },
	};

	for (int i = 1; i + 1 < argc; i += 2) {
		unsigned int t = 0;

		while (t < 4 && strcmp(argv[i], texts[t].word))
			t++;
		if (t < 4)
			*texts[t].text = argv[i + 1];
		else if (!strcmp(argv[i], "--seed"))
			args.seed = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--count"))
			args.count = strtoul(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--runs"))
			args.runs = strtoul(argv[i + 1], NULL, 0);
		else
			return false;
	}
	if (argc % 2 == 0 || !args.dir || !args.mote)
		return false;
	signal(SIGPIPE, SIG_IGN);
	snprintf(scenarios_path, sizeof(scenarios_path), "%s/scenarios", args.dir);
	snprintf(outcomes_path, sizeof(outcomes_path), "%s/outcomes", args.dir);
	return true;
}

#endif
