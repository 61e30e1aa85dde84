/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * load port				prints a port that is free
 * load run PORT NOTES CONNECTIONS	changes keys until the server goes away; notes what was acknowledged
 * load run PORT NOTES CONNECTIONS SECONDS	for that long; a connection that ends before is an error
 * load say PORT NOTES CONNECTIONS	the same as without, but prints what is acknowledged as it happens
 * load check PORT NOTES CONNECTIONS	compares the server's keys with the notes
 *
 * kv_load.h as a program, for scripts. Exit status 0: all as promised.
 */
#include "../kv_load.h"

static bool notes(struct load *load, const char *path, const char *how)
{
	FILE *file = fopen(path, how);

	if (!file)
		return how[0] == 'r';
	for (int i = 0; i < load->count; i++)
		for (int key = 0; key < LOAD_KEYS; key++) {
			struct load_key *state = &load->connections[i].keys[key];

			if (how[0] == 'w')
				fprintf(file, "%u %u\n", state->acked, state->sent);
			else if (fscanf(file, "%u %u", &state->acked, &state->sent) != 2)
				return false;
		}
	return !fclose(file);
}

static int usage(void)
{
	fprintf(stderr, "usage: load port | load run|say|check PORT NOTES CONNECTIONS [SECONDS]\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct load load = { 0 };
	unsigned long changes, keys = 0;
	double begun;
	int wrong, seconds = argc == 6 ? atoi(argv[5]) : 0;

	if (argc == 2 && !strcmp(argv[1], "port")) {
		printf("%d\n", port_free());
		return 0;
	}
	if ((argc != 5 && argc != 6) || atoi(argv[4]) < 1 || atoi(argv[4]) > 1000)
		return usage();
	load_init(&load, atoi(argv[4]));
	load.unsure = true;
	if (!notes(&load, argv[3], "r")) {
		fprintf(stderr, "%s: no notes of so many connections\n", argv[3]);
		return 2;
	}
	load.aloud = !strcmp(argv[1], "say");
	if (!strcmp(argv[1], "run") || load.aloud) {
		begun = seconds_now();
		load_start(&load, atoi(argv[2]));
		sleep_ms(seconds * 1000);
		changes = seconds ? load_stop(&load) : load_wait(&load);
		printf("%lu changes acknowledged in %.1f s by %d connections", changes,
		       seconds_now() - begun, load.count);
		if (seconds)
			printf(", %d of them cut off; the slowest answer took %.0f ms", load_cuts(&load),
			       load_worst_ms(&load));
		if (load.looked_up)
			printf("; of %d keys nobody knew whether they were changed, and they were looked up", load.looked_up);
		printf("\n");
		if (!notes(&load, argv[3], "w") || (seconds && load_cuts(&load)))
			return 2;
	} else if (!strcmp(argv[1], "check")) {
		for (int i = 0; i < load.count; i++)
			for (int key = 0; key < LOAD_KEYS; key++)
				keys += load.connections[i].keys[key].sent > 0;
		wrong = load_check(&load, atoi(argv[2]));
		printf("%lu keys compared, %d wrong\n", keys, wrong);
		if (wrong || !keys || !notes(&load, argv[3], "w"))
			return 1;
	} else {
		return usage();
	}
	load_free(&load);
	return atomic_load(&selftest_failed) != 0;
}
