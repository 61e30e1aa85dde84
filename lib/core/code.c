// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Objects are found by _dl_find_object(), which needs no lock and knows what was loaded a moment ago (glibc
 * 2.35); without it, in a list made at the start. What each object is was looked up at the start by name: those
 * that matter are all loaded by then.
 *
 * The functions of libc that matter are looked up by name, too; dlsym() gives what an IFUNC was resolved to,
 * and the call frame information where it ends.
 */
#include "core/code.h"
#include "core/unwind.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OBJECTS	64
#define MAX_FUNCTIONS	256
#define PAGE		4096

static struct known_object {
	struct code_object object;
	enum code_class class;
} objects[MAX_OBJECTS];
static unsigned int nr_objects;

static struct function {
	uintptr_t begin, end;
	enum code_entry entry;
	const char *name;
} functions[MAX_FUNCTIONS];
static unsigned int nr_functions;

/*
 * Where the linker has put what the Makefile renames libmote's .text to, and the frames that processes begin
 * in.
 */
extern const char __start_mote_text[] __attribute__((weak, visibility("hidden")));
extern const char __stop_mote_text[] __attribute__((weak, visibility("hidden")));
extern const char __start_mote_entry[] __attribute__((weak, visibility("hidden")));
extern const char __stop_mote_entry[] __attribute__((weak, visibility("hidden")));

static const char *const leaves[] = {
	"memcpy", "memmove", "mempcpy", "memset", "memcmp", "memchr", "memrchr", "rawmemchr", "memccpy", "memmem",
	"memfrob", "bcopy", "bzero", "explicit_bzero", "bcmp", "swab",
	"strlen", "strnlen", "strcpy", "strncpy", "stpcpy", "stpncpy", "strcat", "strncat", "strcmp", "strncmp",
	"strcasecmp", "strncasecmp", "strchr", "strrchr", "strchrnul", "index", "rindex", "strstr", "strcasestr",
	"strspn", "strcspn", "strpbrk", "strtok_r", "strsep", "strverscmp", "strlcpy", "strlcat",
	"wcslen", "wcsnlen", "wcscpy", "wcsncpy", "wcscmp", "wcsncmp", "wcschr", "wcsrchr", "wcscat", "wcsstr",
	"wmemcpy", "wmemmove", "wmemset", "wmemcmp", "wmemchr",
	"__memcpy_chk", "__memmove_chk", "__mempcpy_chk", "__memset_chk", "__explicit_bzero_chk", "__strcpy_chk",
	"__strncpy_chk", "__stpcpy_chk", "__stpncpy_chk", "__strcat_chk", "__strncat_chk", "__longjmp_chk",
	"strtol", "strtoul", "strtoll", "strtoull", "strtoimax", "strtoumax", "strtod", "strtof", "strtold",
	"__isoc23_strtol", "__isoc23_strtoul", "__isoc23_strtoll", "__isoc23_strtoull",
	"atoi", "atol", "atoll", "atof", "clock_gettime", "gettimeofday", "time",
};
static const char *const callbacks[] = { "qsort", "qsort_r", "bsearch", "lfind", "lsearch" };
/* Of libgcc: an exception that nobody may catch ends in a call of terminate() from in there. */
static const char *const unwinders[] = { "_Unwind_RaiseException", "_Unwind_Resume", "_Unwind_Resume_or_Rethrow",
	"_Unwind_ForcedUnwind", "_Unwind_Backtrace" };
static const char *const aborts[] = {
	"abort", "raise", "gsignal", "pthread_kill", "__assert_fail", "__assert_perror_fail", "__assert",
	"__stack_chk_fail", "__chk_fail", "__fortify_fail",
};

static bool begins(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static enum code_class class_by_name(const char *path)
{
	static const char *const locked[] = {
		"libc.so", "libc-", "libpthread", "libdl.", "librt", "libgcc_s", "libasan", "libtsan", "libubsan",
		"liblsan", "libjemalloc", "libtcmalloc", "libmimalloc",
	};
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	if (begins(name, "ld-linux") || begins(name, "ld-2") || begins(name, "ld.so"))
		return CODE_LOADER;
	if (begins(name, "libmote.so") || begins(name, "liburing.so"))
		return CODE_RUNTIME;
	if (begins(name, "libm.so") || begins(name, "libm-") || begins(name, "linux-vdso"))
		return CODE_LEAF;
	for (size_t i = 0; i < sizeof(locked) / sizeof(locked[0]); i++) {
		if (begins(name, locked[i]))
			return CODE_LIBC;
	}
	return CODE_PROCESS;
}

static int note_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct known_object *o = &objects[nr_objects];

	(void)size;
	(void)arg;
	if (nr_objects == MAX_OBJECTS)
		return 1;
	*o = (struct known_object){ .object = { UINTPTR_MAX, 0, info->dlpi_addr, NULL, info->dlpi_name } };
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t at = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type == PT_GNU_EH_FRAME)
			o->object.eh_frame_hdr = (const void *)at;
		if (ph->p_type != PT_LOAD)
			continue;
		if (at < o->object.begin)
			o->object.begin = at;
		if (at + ph->p_memsz > o->object.end)
			o->object.end = at + ph->p_memsz;
	}
	o->class = class_by_name(info->dlpi_name);
	nr_objects++;
	return 0;
}

static struct known_object *object_known(uintptr_t pc)
{
	for (unsigned int i = 0; i < nr_objects; i++) {
		if (pc - objects[i].object.begin < objects[i].object.end - objects[i].object.begin)
			return &objects[i];
	}
	return NULL;
}

static bool noted(uintptr_t begin)
{
	for (unsigned int i = 0; i < nr_functions; i++) {
		if (functions[i].begin == begin)
			return true;
	}
	return false;
}

static void note_functions(void *library, const char *const *names, size_t n, enum code_entry entry)
{
	for (size_t i = 0; i < n; i++) {
		uintptr_t at = (uintptr_t)dlsym(library, names[i]);
		struct function *f = &functions[nr_functions];

		/* Some are the same under two names: the first counts. */
		if (at && nr_functions < MAX_FUNCTIONS && unwind_function(at, &f->begin, &f->end) &&
		    !noted(f->begin)) {
			f->entry = entry;
			f->name = names[i];
			nr_functions++;
		}
	}
}

static int by_begin(const void *a, const void *b)
{
	uintptr_t x = ((const struct function *)a)->begin, y = ((const struct function *)b)->begin;

	return x < y ? -1 : x > y;
}

/* Also an allocator that the program has brought along holds locks. */
static void note_allocator(void)
{
	static const char *const names[] = { "malloc", "free", "calloc", "realloc" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct known_object *o = object_known((uintptr_t)dlsym(RTLD_DEFAULT, names[i]));

		if (o && o->object.name[0] && o->class == CODE_PROCESS)
			o->class = CODE_LIBC;
	}
}

static void look_around(void)
{
	void *libc;

	dl_iterate_phdr(note_object, NULL);
	libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	if (!libc) {
		/*
		 * libc is in the program itself, and its functions cannot be told from the program's: nothing
		 * is contained
		 */
		for (unsigned int i = 0; i < nr_objects; i++)
			objects[i].class = CODE_LIBC;
		return;
	}
	note_allocator();
	note_functions(libc, leaves, sizeof(leaves) / sizeof(leaves[0]), CODE_ENTRY_LEAF);
	note_functions(libc, callbacks, sizeof(callbacks) / sizeof(callbacks[0]), CODE_ENTRY_CALLBACK);
	note_functions(RTLD_DEFAULT, unwinders, sizeof(unwinders) / sizeof(unwinders[0]), CODE_ENTRY_CALLBACK);
	note_functions(libc, aborts, sizeof(aborts) / sizeof(aborts[0]), CODE_ENTRY_ABORT);
	qsort(functions, nr_functions, sizeof(functions[0]), by_begin);
	dlclose(libc);
}

bool code_object(uintptr_t pc, struct code_object *object)
{
	struct known_object *known;
#ifdef DLFO_STRUCT_HAS_EH_DBASE
	struct dl_find_object found;

	if (_dl_find_object((void *)pc, &found) == 0) {
		*object = (struct code_object){
			(uintptr_t)found.dlfo_map_start, (uintptr_t)found.dlfo_map_end,
			found.dlfo_link_map->l_addr, found.dlfo_eh_frame, found.dlfo_link_map->l_name };
		return true;
	}
#endif
	known = object_known(pc);
	if (known)
		*object = known->object;
	return known != NULL;
}

void code_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, look_around);
}

static bool within(uintptr_t pc, const char *begin, const char *end)
{
	return pc - (uintptr_t)begin < (uintptr_t)end - (uintptr_t)begin;
}

enum code_class code_classify(uintptr_t pc)
{
	struct known_object *known = object_known(pc);
	struct code_object object;

	if (within(pc, __start_mote_text, __stop_mote_text) || within(pc, __start_mote_entry, __stop_mote_entry))
		return CODE_RUNTIME;
	if (!known)
		return code_object(pc, &object) ? CODE_PROCESS : CODE_UNKNOWN;
	if (known->class == CODE_LIBC && code_entry(pc) == CODE_ENTRY_LEAF)
		return CODE_LEAF;
	return known->class;
}

/* By the program headers, which are mapped in front of everything else. */
bool code_is_text(uintptr_t pc)
{
	struct code_object object;
	const ElfW(Ehdr) *header;
	const ElfW(Phdr) *ph;

	if (!code_object(pc, &object))
		return false;
	header = (const void *)object.begin;
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_phentsize != sizeof(*ph) ||
	    header->e_phoff + header->e_phnum * sizeof(*ph) > PAGE)
		return false;
	ph = (const void *)(object.begin + header->e_phoff);
	for (int i = 0; i < header->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD && ph[i].p_flags & PF_X && ph[i].p_flags & PF_R &&
		    pc - object.base - ph[i].p_vaddr < ph[i].p_memsz)
			return true;
	}
	return false;
}

static const struct function *function_around(uintptr_t pc)
{
	unsigned int low = 0, high = nr_functions;

	while (low < high) {
		unsigned int middle = low + (high - low) / 2;

		if (pc < functions[middle].begin)
			high = middle;
		else if (pc >= functions[middle].end)
			low = middle + 1;
		else
			return &functions[middle];
	}
	return NULL;
}

enum code_entry code_entry(uintptr_t pc)
{
	const struct function *f = function_around(pc);

	return f ? f->entry : CODE_ENTRY_NONE;
}

const char *code_entry_name(uintptr_t pc, uintptr_t *begin)
{
	const struct function *f = function_around(pc);

	if (!f)
		return NULL;
	*begin = f->begin;
	return f->name;
}

struct text_search {
	uintptr_t pc, begin, end;
};

static int find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct text_search *search = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t at = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type == PT_LOAD && ph->p_flags & PF_X && search->pc - at < ph->p_memsz) {
			search->begin = at;
			search->end = at + ph->p_memsz;
			return 1;
		}
	}
	return 0;
}

bool code_object_text(uintptr_t pc, uintptr_t *begin, uintptr_t *end)
{
	struct text_search search = { .pc = pc };

	if (!dl_iterate_phdr(find_text, &search))
		return false;
	*begin = search.begin;
	*end = search.end;
	return true;
}
