/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/spec.h: specifications of children, in one piece with all that is copied of them: so they travel in messages of
 * this node, and lie in a supervisor's heap.
 */
#ifndef OTP_SPEC_H
#define OTP_SPEC_H

#include <mote/supervisor.h>

/* Followed by id, name and argument, where the offsets say; 0: none. */
struct spec {
	struct mote_child_spec child;		/* first: by its address mote_supervisor_get_childspec()'s is freed */
	struct mote_server_opts opts;
	size_t size;				/* of all */
	size_t id_at, name_at, arg_at;
	uint32_t refs;				/* children of a template share it */
};

/* 0, or -EINVAL, -E2BIG. dynamic: it needs no id. auto_shutdown: -1: not known. Any thread. */
int spec_check(const struct mote_child_spec *spec, int auto_shutdown, bool dynamic);

/* Its id; NULL: it has none. Any thread. */
const char *spec_id(const struct mote_child_spec *spec);

/*
 * A copy in the caller's process heap, with one reference; prefix goes before its argument, each from a multiple of 16
 * on. The specification was checked. NULL: out of memory, or too large.
 */
struct spec *spec_new(const struct mote_child_spec *spec, const void *prefix, size_t prefix_size);

/* After it was moved: points into itself again. */
void spec_settle(struct spec *spec);

/* As it came in a message. */
bool spec_whole(const struct spec *spec, size_t size);

static inline struct spec *spec_get(struct spec *spec)
{
	spec->refs++;
	return spec;
}

void spec_put(struct spec *spec);

#endif
