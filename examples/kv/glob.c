/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "resp.h"

/* [a-z], [^a-z], escapes inside; an unclosed class ends with the pattern. *p is moved behind it. */
static bool class_match(const char **p, const char *end, unsigned char c)
{
	const char *s = *p + 1;
	bool not = s < end && *s == '^', match = false;

	for (s += not; s < end && *s != ']'; s++) {
		if (*s == '\\' && end - s >= 2) {
			s++;
			match |= (unsigned char)*s == c;
		} else if (end - s >= 3 && s[1] == '-') {
			unsigned char a = s[0], b = s[2];

			match |= a < b ? c >= a && c <= b : c >= b && c <= a;
			s += 2;
		} else {
			match |= (unsigned char)*s == c;
		}
	}
	*p = s < end ? s + 1 : end;
	return match != not;
}

static bool one_matches(const char **p, const char *end, char c)
{
	if (**p == '[')
		return class_match(p, end, c);
	if (**p == '?')
		return ++*p, true;
	if (**p == '\\' && end - *p >= 2)
		++*p;
	return *(*p)++ == c;
}

/* Only the latest star can want more: going back to an earlier one would match no more than it. Hence no recursion. */
bool glob_match(const char *p, size_t plen, const char *s, size_t len)
{
	const char *pend = p + plen, *end = s + len, *star = NULL, *from = NULL;

	while (s < end) {
		const char *next = p;

		if (p < pend && *p == '*') {
			star = ++p;
			from = s;
		} else if (p < pend && one_matches(&next, pend, *s)) {
			p = next;
			s++;
		} else if (star) {
			p = star;
			s = ++from;
		} else {
			return false;
		}
	}
	while (p < pend && *p == '*')
		p++;
	return p == pend;
}
