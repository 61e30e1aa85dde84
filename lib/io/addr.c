// SPDX-License-Identifier: MIT OR GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <mote/net.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define UNIX_PREFIX	"unix:"
#define UNIX_HEAD	offsetof(struct sockaddr_un, sun_path)

static int parse_unix(struct mote_addr *addr, const char *path)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&addr->sa;
	size_t size = strlen(path);
	bool abstract = *path == '@';

	/* A path ends with a NUL, an abstract name with the length. */
	if (!size || size + !abstract > sizeof(un->sun_path))
		return -EINVAL;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, size);
	if (abstract)
		un->sun_path[0] = 0;
	addr->len = UNIX_HEAD + size + !abstract;
	return 0;
}

static int parse_port(const char *text)
{
	char *end;
	long port;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	port = strtol(text, &end, 10);
	return *end || port > 65535 ? -EINVAL : (int)port;
}

int mote_addr_parse(struct mote_addr *addr, const char *text)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr->sa;
	struct sockaddr_in *in = (struct sockaddr_in *)&addr->sa;
	char host[INET6_ADDRSTRLEN];
	const char *colon, *begin = text;
	int port, six = *text == '[';
	size_t size;

	memset(addr, 0, sizeof(*addr));
	if (!strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)))
		return parse_unix(addr, text + strlen(UNIX_PREFIX));
	colon = strrchr(text, ':');
	if (!colon)
		return -EINVAL;
	port = parse_port(colon + 1);
	if (port < 0)
		return port;
	if (six && (colon == text || colon[-1] != ']'))
		return -EINVAL;
	begin += six;
	size = colon - begin - six;
	if (size >= sizeof(host))
		return -EINVAL;
	memcpy(host, begin, size);
	host[size] = 0;
	if (six) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		addr->len = sizeof(*in6);
		return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1 ? 0 : -EINVAL;
	}
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	addr->len = sizeof(*in);
	if (!size)
		return 0;	/* INADDR_ANY */
	return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? 0 : -EINVAL;
}

static int format_unix(const struct mote_addr *addr, char *buf, size_t size)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->sa;
	int n = addr->len > UNIX_HEAD ? (int)(addr->len - UNIX_HEAD) : 0;

	if (n && !un->sun_path[0])
		return snprintf(buf, size, UNIX_PREFIX "@%.*s", n - 1, un->sun_path + 1);
	return snprintf(buf, size, UNIX_PREFIX "%.*s", n, un->sun_path);
}

int mote_addr_format(const struct mote_addr *addr, char *buf, size_t size)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->sa;
	const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->sa;
	char host[INET6_ADDRSTRLEN];

	switch (addr->sa.ss_family) {
	case AF_UNIX:
		return format_unix(addr, buf, size);
	case AF_INET:
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		return snprintf(buf, size, "%s:%u", host, ntohs(in->sin_port));
	case AF_INET6:
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		return snprintf(buf, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	}
	return -EINVAL;
}
