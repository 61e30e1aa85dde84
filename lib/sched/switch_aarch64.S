/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * void mote_switch(void **save, void *to): saves the callee-saved registers (AAPCS64: x19 to x30, d8 to d15) on the
 * current stack and the stack pointer in *save, continues at `to`. FPCR is the thread's, not the context's.
 */
	.text
	.p2align 6
	.globl	mote_switch
	.hidden	mote_switch
	.type	mote_switch, %function
mote_switch:
	.cfi_startproc
	hint	#34			/* bti c */
	sub	sp, sp, #160
	.cfi_def_cfa_offset 160
	stp	x19, x20, [sp, #0]
	stp	x21, x22, [sp, #16]
	stp	x23, x24, [sp, #32]
	stp	x25, x26, [sp, #48]
	stp	x27, x28, [sp, #64]
	stp	x29, x30, [sp, #80]
	stp	d8, d9, [sp, #96]
	stp	d10, d11, [sp, #112]
	stp	d12, d13, [sp, #128]
	stp	d14, d15, [sp, #144]
	mov	x9, sp
	str	x9, [x0]
	mov	sp, x1
	ldp	x19, x20, [sp, #0]
	ldp	x21, x22, [sp, #16]
	ldp	x23, x24, [sp, #32]
	ldp	x25, x26, [sp, #48]
	ldp	x27, x28, [sp, #64]
	ldp	x29, x30, [sp, #80]
	ldp	d8, d9, [sp, #96]
	ldp	d10, d11, [sp, #112]
	ldp	d12, d13, [sp, #128]
	ldp	d14, d15, [sp, #144]
	add	sp, sp, #160
	.cfi_def_cfa_offset 0
	br	x30
	.cfi_endproc
	.size	mote_switch, .-mote_switch

/* Where a fresh context begins: see context_prepare(). x19: argument, x20: function, which never returns. */
	.p2align 4
	.globl	mote_switch_entry
	.hidden	mote_switch_entry
	.type	mote_switch_entry, %function
mote_switch_entry:
	.cfi_startproc
	.cfi_undefined x30
	hint	#36			/* bti j */
	mov	x29, xzr
	mov	x0, x19
	blr	x20
	brk	#1
	.cfi_endproc
	.size	mote_switch_entry, .-mote_switch_entry

	.section .note.GNU-stack, "", %progbits
