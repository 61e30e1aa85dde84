// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * DWARF call frame information: .eh_frame_hdr has a table of functions, sorted; each leads to an FDE, whose
 * little program says for every address where the caller's registers are. Of its instructions only expressions
 * are not followed: they occur in PLT stubs and in the kernel's signal frames.
 *
 * libgcc's unwinder does the same, but reads whatever the registers point to: after a crash that may be
 * anything.
 */
#include "core/unwind.h"
#include "core/code.h"

#include <string.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
#define REG_FRAME	6
#define REG_STACK	7
#define REG_RETURN	16
#else
#define REG_FRAME	29
#define REG_STACK	31
#define REG_RETURN	30
#endif

#define MAX_REMEMBERED	4
#define MAX_FUNCTION	(UINT64_C(1) << 30)

enum rule_kind { RULE_SAME, RULE_UNDEFINED, RULE_OFFSET, RULE_VALUE_OFFSET, RULE_REGISTER, RULE_EXPRESSION };

struct entry {				/* a CIE and an FDE, read */
	uintptr_t begin, end;
	const uint8_t *cie_program, *cie_end, *program, *program_end;
	uint64_t code_align;
	int64_t data_align;
	bool signal_frame;
};

/*
 * The tables were written by a compiler and are mapped: what is read of them needs no suspicion but for what
 * they hold.
 */

static uint64_t read_uleb(const uint8_t **p)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	uint8_t byte;

	do {
		byte = *(*p)++;
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	return value;
}

static int64_t read_sleb(const uint8_t **p)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	uint8_t byte;

	do {
		byte = *(*p)++;
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (shift < 64 && byte & 0x40)
		value |= ~UINT64_C(0) << shift;
	return (int64_t)value;
}

static uint64_t read_bytes(const uint8_t **p, unsigned int n)
{
	uint64_t value = 0;

	memcpy(&value, *p, n);		/* both machines are little-endian */
	*p += n;
	return value;
}

/*
 * DW_EH_PE: low four bits the format, next three what it is relative to. False: a kind that nobody writes here.
 */
static bool read_encoded(const uint8_t **p, uint8_t encoding, uintptr_t data, uintptr_t *value)
{
	const uint8_t *at = *p;
	uintptr_t v;

	switch (encoding & 0x0f) {
	case 0x00: case 0x04: case 0x0c:
		v = read_bytes(p, 8);
		break;
	case 0x02:
		v = read_bytes(p, 2);
		break;
	case 0x03:
		v = read_bytes(p, 4);
		break;
	case 0x0a:
		v = (uintptr_t)(int64_t)(int16_t)read_bytes(p, 2);
		break;
	case 0x0b:
		v = (uintptr_t)(int64_t)(int32_t)read_bytes(p, 4);
		break;
	default:
		return false;
	}
	switch (encoding & 0xf0) {
	case 0x00:
		break;
	case 0x10:
		v += (uintptr_t)at;
		break;
	case 0x30:
		v += data;
		break;
	default:
		return false;
	}
	*value = v;
	return true;
}

static bool read_cie(const uint8_t *p, struct entry *e, uint8_t *fde_encoding)
{
	uint64_t length = read_bytes(&p, 4);
	const uint8_t *end;
	const char *augmentation;
	uintptr_t ignored;
	uint8_t version;

	if (length == 0xffffffff)
		length = read_bytes(&p, 8);
	end = p + length;
	if (read_bytes(&p, 4))
		return false;
	version = *p++;
	augmentation = (const char *)p;
	p += strlen(augmentation) + 1;
	e->code_align = read_uleb(&p);
	e->data_align = read_sleb(&p);
	if ((version == 1 ? *p++ : read_uleb(&p)) != REG_RETURN)
		return false;
	*fde_encoding = 0;
	e->signal_frame = false;
	if (*augmentation && *augmentation != 'z')
		return false;
	if (*augmentation) {
		uint64_t bytes = read_uleb(&p);
		const uint8_t *program = p + bytes;

		for (const char *c = augmentation + 1; *c; c++) {
			if (*c == 'R')
				*fde_encoding = *p++;
			else if (*c == 'L')
				p++;
			else if (*c == 'S')
				e->signal_frame = true;
			else if (*c == 'P') {
				uint8_t encoding = *p++;

				/* where it points to does not matter, only how long it is */
				if (!read_encoded(&p, encoding & 0x0f, 0, &ignored))
					return false;
			} else if (*c != 'B')
				break;
		}
		p = program;
	}
	e->cie_program = p;
	e->cie_end = end;
	return true;
}

static bool read_fde(const uint8_t *p, struct entry *e)
{
	uint64_t length = read_bytes(&p, 4);
	const uint8_t *end, *id;
	uint8_t encoding;
	uintptr_t range;

	if (length == 0xffffffff)
		length = read_bytes(&p, 8);
	end = p + length;
	id = p;
	/* acts as the offset back to the CIE; 0 would be a CIE */
	range = read_bytes(&p, 4);
	if (!length || !range || !read_cie(id - range, e, &encoding))
		return false;
	if (!read_encoded(&p, encoding, 0, &e->begin) || !read_encoded(&p, encoding & 0x0f, 0, &range) ||
	    range > MAX_FUNCTION)
		return false;
	e->end = e->begin + range;
	p += read_uleb(&p);
	e->program = p;
	e->program_end = end;
	return true;
}

static bool entry_find(uintptr_t pc, struct entry *e)
{
	struct code_object object;
	const uint8_t *header, *p;
	uintptr_t count, ignored;
	const int32_t *table;
	size_t low = 0, high;
	int64_t at;

	if (!code_object(pc, &object) || !object.eh_frame_hdr)
		return false;
	header = p = object.eh_frame_hdr;
	/* version 1; the table as all linkers write it: pairs of 32 bits, relative to the header */
	if (p[0] != 1 || p[3] != 0x3b)
		return false;
	p += 4;
	if (!read_encoded(&p, header[1], (uintptr_t)header, &ignored) ||
	    !read_encoded(&p, header[2], (uintptr_t)header, &count) || !count)
		return false;
	table = (const int32_t *)p;
	at = (int64_t)(pc - (uintptr_t)header);
	high = count;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (table[2 * middle] <= at)
			low = middle;
		else
			high = middle;
	}
	return table[2 * low] <= at && read_fde(header + table[2 * low + 1], e) && pc >= e->begin && pc < e->end;
}

bool unwind_function(uintptr_t pc, uintptr_t *begin, uintptr_t *end)
{
	struct entry e;

	if (!entry_find(pc, &e))
		return false;
	*begin = e.begin;
	*end = e.end;
	return true;
}

static void set_rule(struct unwind_row *row, uint64_t reg, uint8_t kind, int64_t offset)
{
	if (reg >= UNWIND_REGS)
		return;
	row->kinds[reg] = kind;
	row->offsets[reg] = (int32_t)offset;
}

static void restore_rule(struct unwind_row *row, uint64_t reg, const struct unwind_row *initial)
{
	if (reg < UNWIND_REGS && initial)
		set_rule(row, reg, initial->kinds[reg], initial->offsets[reg]);
}

/* Runs the program up to pc. False: it has what is not understood. */
static bool row_run(struct unwind_row *row, const struct entry *e, const uint8_t *p, const uint8_t *end,
		    uintptr_t pc, const struct unwind_row *initial)
{
	struct unwind_row remembered[MAX_REMEMBERED];
	unsigned int depth = 0;
	uintptr_t at = e->begin;
	uint64_t reg;

	while (p < end && at <= pc) {
		uint8_t op = *p++, low = op & 0x3f;

		switch (op & 0xc0) {
		case 0x40:		/* advance_loc */
			at += low * e->code_align;
			continue;
		case 0x80:		/* offset */
			set_rule(row, low, RULE_OFFSET, (int64_t)read_uleb(&p) * e->data_align);
			continue;
		case 0xc0:		/* restore */
			restore_rule(row, low, initial);
			continue;
		}
		switch (op) {
		case 0x00:		/* nop */
			break;
		case 0x01:		/* set_loc: with an encoded pointer; nobody writes it */
			return false;
		case 0x02:		/* advance_loc1, 2, 4 */
			at += read_bytes(&p, 1) * e->code_align;
			break;
		case 0x03:
			at += read_bytes(&p, 2) * e->code_align;
			break;
		case 0x04:
			at += read_bytes(&p, 4) * e->code_align;
			break;
		case 0x05:		/* offset_extended */
			reg = read_uleb(&p);
			set_rule(row, reg, RULE_OFFSET, (int64_t)read_uleb(&p) * e->data_align);
			break;
		case 0x06:		/* restore_extended */
			restore_rule(row, read_uleb(&p), initial);
			break;
		case 0x07:		/* undefined */
			set_rule(row, read_uleb(&p), RULE_UNDEFINED, 0);
			break;
		case 0x08:		/* same_value */
			set_rule(row, read_uleb(&p), RULE_SAME, 0);
			break;
		case 0x09:		/* register */
			reg = read_uleb(&p);
			set_rule(row, reg, RULE_REGISTER, (int64_t)read_uleb(&p));
			break;
		case 0x0a:		/* remember_state */
			if (depth == MAX_REMEMBERED)
				return false;
			remembered[depth++] = *row;
			break;
		case 0x0b:		/* restore_state */
			if (!depth)
				return false;
			*row = remembered[--depth];
			break;
		case 0x0c:		/* def_cfa */
			row->cfa_register = (uint8_t)read_uleb(&p);
			row->cfa_offset = (int64_t)read_uleb(&p);
			row->cfa_expression = false;
			break;
		case 0x0d:		/* def_cfa_register */
			row->cfa_register = (uint8_t)read_uleb(&p);
			break;
		case 0x0e:		/* def_cfa_offset */
			row->cfa_offset = (int64_t)read_uleb(&p);
			break;
		case 0x0f:		/* def_cfa_expression */
			row->cfa_expression = true;
			reg = read_uleb(&p);
			p += reg;
			break;
		case 0x10:		/* expression, val_expression */
		case 0x16:
			set_rule(row, read_uleb(&p), RULE_EXPRESSION, 0);
			reg = read_uleb(&p);
			p += reg;
			break;
		case 0x11:		/* offset_extended_sf */
			reg = read_uleb(&p);
			set_rule(row, reg, RULE_OFFSET, read_sleb(&p) * e->data_align);
			break;
		case 0x12:		/* def_cfa_sf */
			row->cfa_register = (uint8_t)read_uleb(&p);
			row->cfa_offset = read_sleb(&p) * e->data_align;
			row->cfa_expression = false;
			break;
		case 0x13:		/* def_cfa_offset_sf */
			row->cfa_offset = read_sleb(&p) * e->data_align;
			break;
		case 0x14:		/* val_offset, val_offset_sf */
			reg = read_uleb(&p);
			set_rule(row, reg, RULE_VALUE_OFFSET, (int64_t)read_uleb(&p) * e->data_align);
			break;
		case 0x15:
			reg = read_uleb(&p);
			set_rule(row, reg, RULE_VALUE_OFFSET, read_sleb(&p) * e->data_align);
			break;
		case 0x2d:		/* aarch64: negate_ra_state; a code is taken off in any case */
			break;
		case 0x2e:		/* GNU_args_size */
			read_uleb(&p);
			break;
		default:
			return false;
		}
	}
	return true;
}

/* A word of the stack; of a stack whose bounds are unknown, by way of the kernel, which does not fault. */
static bool load(const struct unwind *u, uintptr_t address, uintptr_t *value)
{
	if (address & (sizeof(*value) - 1))
		return false;
	if (u->high) {
		if (address < u->low || address > u->high - sizeof(*value))
			return false;
		/* may be a word that the program's own code is held to touch by type: none of that here */
		memcpy(value, (const void *)address, sizeof(*value));
		return true;
	}
	return process_vm_readv(getpid(), &(struct iovec){ value, sizeof(*value) }, 1,
				&(struct iovec){ (void *)address, sizeof(*value) }, 1, 0) == sizeof(*value);
}

static bool known(const struct unwind *u, unsigned int reg)
{
	return reg < UNWIND_REGS && u->known >> reg & 1;
}

static bool row_for(const struct entry *e, uintptr_t at, struct unwind_row *row)
{
	struct unwind_row initial = { .cfa_register = UNWIND_REGS };

	if (!row_run(&initial, e, e->cie_program, e->cie_end, at, NULL))
		return false;
	*row = initial;
	row->at = at;
	return row_run(row, e, e->program, e->program_end, at, &initial) && !row->cfa_expression;
}

static bool step_by_row(struct unwind *u, const struct unwind_row *row)
{
	uintptr_t regs[UNWIND_REGS], cfa, sp = u->regs[REG_STACK], pc;
	uint64_t still_known = 0;

	if (!known(u, row->cfa_register))
		return false;
	cfa = u->regs[row->cfa_register] + (uintptr_t)row->cfa_offset;
	for (unsigned int reg = 0; reg < UNWIND_REGS; reg++) {
		int32_t offset = row->offsets[reg];
		bool good = false;

		switch (row->kinds[reg]) {
		case RULE_SAME:
			good = known(u, reg);
			regs[reg] = u->regs[reg];
			break;
		case RULE_OFFSET:
			good = load(u, cfa + (uintptr_t)(intptr_t)offset, &regs[reg]);
			break;
		case RULE_VALUE_OFFSET:
			good = true;
			regs[reg] = cfa + (uintptr_t)(intptr_t)offset;
			break;
		case RULE_REGISTER:
			good = known(u, (unsigned int)offset);
			if (good)
				regs[reg] = u->regs[offset];
			break;
		}
		if (good)
			still_known |= UINT64_C(1) << reg;
		else
			regs[reg] = 0;
	}
	pc = regs[REG_RETURN];
#if defined(__x86_64__)
	still_known &= ~(UINT64_C(1) << REG_RETURN);
#else
	pc &= (UINT64_C(1) << 48) - 1;
#endif
	/* A caller's frame lies above; only a function that has not pushed anything yet may share its end. */
	if (!pc || cfa < sp || (cfa == sp && !u->exact))
		return false;
	memcpy(u->regs, regs, sizeof(regs));
	u->regs[REG_STACK] = cfa;
	u->known = still_known | UINT64_C(1) << REG_STACK;
	u->slot = 0;
	if (row->kinds[REG_RETURN] == RULE_OFFSET && pc == regs[REG_RETURN])
		u->slot = cfa + (uintptr_t)(intptr_t)row->offsets[REG_RETURN];
	else if (row->kinds[REG_RETURN] == RULE_SAME && pc == regs[REG_RETURN] && u->exact)
		u->slot = UNWIND_IN_REGISTER;
	u->pc = pc;
	u->exact = false;
	return true;
}

/* Whether pc follows a call: what looks like a return address but doesn't, is none. */
static bool follows_call(uintptr_t pc)
{
	const uint8_t *p = (const uint8_t *)pc;

	if (!code_is_text(pc - 7) || !code_is_text(pc - 1))
		return false;
#if defined(__x86_64__)
	if (p[-5] == 0xe8)
		return true;
	for (int n = 2; n <= 7; n++) {
		if (p[-n] == 0xff && (p[1 - n] & 0x38) == 0x10)
			return true;
	}
	return false;
#else
	uint32_t insn;

	memcpy(&insn, p - 4, sizeof(insn));
	return insn >> 26 == 0x25 || (insn & 0xfffffc1f) == 0xd63f0000;	/* bl, blr */
#endif
}

/* Where execution went astray: the caller is what the call has just left. */
static bool step_out_of_nowhere(struct unwind *u)
{
	uintptr_t pc;

#if defined(__x86_64__)
	if (!load(u, u->regs[REG_STACK], &pc) || !follows_call(pc))
		return false;
	u->slot = u->regs[REG_STACK];
	u->regs[REG_STACK] += sizeof(pc);
#else
	pc = u->regs[REG_RETURN];
	if (!follows_call(pc))
		return false;
	u->known &= ~(UINT64_C(1) << REG_RETURN);
	u->slot = 0;
#endif
	u->pc = pc;
	u->exact = false;
	return true;
}

static bool step_by_frame_pointer(struct unwind *u)
{
	uintptr_t frame = u->regs[REG_FRAME], up, pc;

	if (!known(u, REG_FRAME) || frame < u->regs[REG_STACK] || !load(u, frame, &up) ||
	    !load(u, frame + sizeof(uintptr_t), &pc) || !follows_call(pc))
		return false;
	u->slot = frame + sizeof(uintptr_t);
	u->pc = pc;
	u->exact = false;
	u->known = UINT64_C(1) << REG_FRAME | UINT64_C(1) << REG_STACK;
	u->regs[REG_FRAME] = up;
	u->regs[REG_STACK] = frame + 2 * sizeof(uintptr_t);
	return true;
}

uintptr_t unwind_sp(const struct unwind *u)
{
	return u->regs[REG_STACK];
}

bool unwind_step(struct unwind *u)
{
	uintptr_t at = unwind_at(u);
	struct unwind_row *row = &u->rows[(at ^ at >> 4 ^ at >> 8) % UNWIND_ROWS];
	struct entry e;

	if (row->at == at && at)
		return step_by_row(u, row);
	if (entry_find(at, &e)) {
		u->in_signal = e.signal_frame;
		if (e.signal_frame)
			return false;
		if (row_for(&e, at, row))
			return step_by_row(u, row);
		row->at = 0;
		return false;
	}
	if (u->exact && !code_is_text(u->pc) && step_out_of_nowhere(u))
		return true;
	return step_by_frame_pointer(u);
}

void unwind_begin(struct unwind *u, const void *ucontext, const struct stack *stack)
{
	const mcontext_t *m = &((const ucontext_t *)ucontext)->uc_mcontext;

	u->slot = 0;
	u->exact = true;
	u->in_signal = false;
	u->low = stack ? (uintptr_t)stack->base : 0;
	u->high = stack ? u->low + stack_size(stack) : 0;
	for (int i = 0; i < UNWIND_ROWS; i++)
		u->rows[i].at = 0;
#if defined(__x86_64__)
	static const int by_number[16] = {
		REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
	};

	for (int i = 0; i < 16; i++)
		u->regs[i] = (uintptr_t)m->gregs[by_number[i]];
	u->pc = (uintptr_t)m->gregs[REG_RIP];
	u->known = 0xffff;
#else
	for (int i = 0; i < 31; i++)
		u->regs[i] = m->regs[i];
	u->regs[REG_STACK] = m->sp;
	u->pc = m->pc;
	u->known = 0xffffffff;
#endif
}
