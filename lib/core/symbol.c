// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Names come from the symbol table of the object's file (.symtab, which has static functions, or else .dynsym):
 * dladdr() knows exported functions only, and takes the loader's lock.
 */
#include "core/symbol.h"
#include "core/code.h"
#include "core/text.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NAME 96

struct file {
	const char *bytes;
	size_t size;
};

static bool file_map(const char *path, struct file *f)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p = MAP_FAILED;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= (off_t)sizeof(Elf64_Ehdr))
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return false;
	*f = (struct file){ p, (size_t)st.st_size };
	return true;
}

/* n things of that size at offset, if the file has them. */
static const void *file_at(const struct file *f, uint64_t offset, uint64_t n, size_t size)
{
	if (offset > f->size || n > (f->size - offset) / size || offset % 8)
		return NULL;
	return f->bytes + offset;
}

static const Elf64_Shdr *section_of_type(const Elf64_Shdr *sections, unsigned int n, uint32_t type)
{
	for (unsigned int i = 0; i < n; i++) {
		if (sections[i].sh_type == type)
			return &sections[i];
	}
	return NULL;
}

/* The function around an address of the file; false: no name for it. */
static bool file_symbol(const struct file *f, uint64_t address, char *name, uint64_t *offset)
{
	const Elf64_Ehdr *header = (const void *)f->bytes;
	const Elf64_Shdr *sections, *table, *strings;
	const Elf64_Sym *symbols, *best = NULL;

	if (memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64 ||
	    header->e_shentsize != sizeof(Elf64_Shdr))
		return false;
	sections = file_at(f, header->e_shoff, header->e_shnum, sizeof(*sections));
	if (!sections)
		return false;
	table = section_of_type(sections, header->e_shnum, SHT_SYMTAB);
	if (!table)
		table = section_of_type(sections, header->e_shnum, SHT_DYNSYM);
	if (!table || table->sh_link >= header->e_shnum)
		return false;
	strings = &sections[table->sh_link];
	symbols = file_at(f, table->sh_offset, table->sh_size / sizeof(*symbols), sizeof(*symbols));
	if (!symbols || strings->sh_offset > f->size || strings->sh_size > f->size - strings->sh_offset ||
	    !strings->sh_size)
		return false;
	for (uint64_t i = 0; i < table->sh_size / sizeof(*symbols); i++) {
		const Elf64_Sym *s = &symbols[i];
		int type = ELF64_ST_TYPE(s->st_info);

		if ((type == STT_FUNC || type == STT_GNU_IFUNC) && s->st_shndx != SHN_UNDEF &&
		    address - s->st_value < s->st_size)
			best = s;
	}
	if (!best || best->st_name >= strings->sh_size)
		return false;
	*offset = address - best->st_value;
	for (size_t i = 0; i < MAX_NAME; i++) {
		uint64_t at = best->st_name + i;

		name[i] = at < strings->sh_size && i < MAX_NAME - 1 ? f->bytes[strings->sh_offset + at] : 0;
		if (!name[i])
			break;
	}
	return name[0];
}

static bool object_symbol(const struct code_object *object, uintptr_t pc, char *name, uint64_t *offset)
{
	bool found;
	struct file f;

	if (!file_map(object->name[0] ? object->name : "/proc/self/exe", &f))
		return false;
	found = file_symbol(&f, pc - object->base, name, offset);
	munmap((void *)f.bytes, f.size);
	return found;
}

size_t symbol_format(uintptr_t pc, char *buf, size_t size)
{
	struct text text = { .buf = buf, .size = size };
	struct code_object object;
	uintptr_t begin = 0;
	char name[MAX_NAME];
	/* What memcpy() and its like are resolved to has no name of its own in the file. */
	const char *known = code_entry_name(pc, &begin), *slash;
	uint64_t offset = pc - begin;

	if (known) {
		text_string(&text, known);
	} else if (!code_object(pc, &object)) {
		text_hex(&text, pc);
		return text_end(&text);
	} else if (object_symbol(&object, pc, name, &offset)) {
		text_string(&text, name);
	} else {
		slash = strrchr(object.name, '/');
		text_string(&text, !object.name[0] ? "program" : slash ? slash + 1 : object.name);
		offset = pc - object.base;
	}
	text_char(&text, '+');
	text_hex(&text, offset);
	return text_end(&text);
}
