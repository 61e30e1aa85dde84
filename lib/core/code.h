/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/code.h: whose code is at an address. All of it may be called from signal handlers, but for code_start().
 */
#ifndef CORE_CODE_H
#define CORE_CODE_H

#include <stdbool.h>
#include <stdint.h>

enum code_class {
	CODE_UNKNOWN,		/* no loaded object is there: made at run time, or no code at all */
	CODE_PROCESS,		/* the program, and libraries that are not named below */
	CODE_RUNTIME,		/* libmote and liburing */
	CODE_LEAF,		/* touches nothing but its arguments: mem*, str*, libm, the vDSO */
	CODE_LIBC,		/* the rest of libc, and what else may hold locks: an allocator, libgcc */
	CODE_LOADER,
};

struct code_object {
	uintptr_t begin, end;		/* what it has mapped */
	uintptr_t base;			/* what the addresses in its file are relative to */
	const void *eh_frame_hdr;	/* or NULL */
	const char *name;		/* path; "": the program */
};

/* Once, before any of the others; any thread. */
void code_start(void);

/* The loaded object that pc is in. */
bool code_object(uintptr_t pc, struct code_object *object);
enum code_class code_classify(uintptr_t pc);

/* pc is in what an object has for execution, which can be read, too. */
bool code_is_text(uintptr_t pc);

/* What of an object can be executed; false: pc is in no object. Not for signal handlers. */
bool code_object_text(uintptr_t pc, uintptr_t *begin, uintptr_t *end);

/* What may be under way in libc when code is called from there, or a signal comes from there. */
enum code_entry {
	CODE_ENTRY_NONE,
	CODE_ENTRY_LEAF,	/* a function of class CODE_LEAF */
	CODE_ENTRY_CALLBACK,	/* calls back with nothing locked: qsort, bsearch, the unwinder */
	CODE_ENTRY_ABORT,	/* abort, raise, a failed assertion: when the signal comes nothing is locked */
};

/* What the function of libc around pc is. */
enum code_entry code_entry(uintptr_t pc);

/* Its name, if it is one of those, and where it begins; else NULL. */
const char *code_entry_name(uintptr_t pc, uintptr_t *begin);

#endif
