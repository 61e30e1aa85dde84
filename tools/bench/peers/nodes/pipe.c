/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Pipes: a write for each message, reads of as much as there is.
 * usage: pipe node_pingpong|node_pingpong_one|node_stream_64|node_stream_4k
 */
#include "nodes.h"

#include <fcntl.h>

static int ends[2][2];
static unsigned char buffer[1 << 16];
static size_t at, filled;

void carrier_open(void)
{
	for (int i = 0; i < 2; i++) {
		peer_check(pipe2(ends[i], O_CLOEXEC) == 0, "there are pipes");
		fcntl(ends[i][1], F_SETPIPE_SZ, 1 << 20);
	}
}

void carrier_send(int way, const void *data, size_t size)
{
	peer_check(write(ends[way][1], data, size) == (ssize_t)size, "a message is written whole");
}

void carrier_flush(int way)
{
	(void)way;
}

void carrier_receive(int way, void *data, size_t size)
{
	while (filled - at < size) {
		ssize_t got;

		memmove(buffer, buffer + at, filled - at);
		filled -= at;
		at = 0;
		got = read(ends[way][0], buffer + filled, sizeof(buffer) - filled);
		peer_check(got > 0, "there is more to read");
		filled += (size_t)got;
	}
	memcpy(data, buffer + at, size);
	at += size;
}

int main(int argc, char **argv)
{
	return nodes_main(argc, argv, __VERSION__);
}
