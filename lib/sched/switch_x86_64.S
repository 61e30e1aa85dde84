/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * void mote_switch(void **save, void *to): saves the callee-saved registers on the current stack and the stack pointer
 * in *save, continues at `to`. The rounding modes (mxcsr, x87) are the thread's, not the context's: saving them would
 * double the price.
 *
 * The last step is pop and an indirect jump, not ret: the return-stack predictor holds the address of the other
 * context's caller and would miss each time (2.5 ns against 8).
 *
 * Both stacks look the same where one is left for the other, so the call frame information holds throughout. It has to:
 * the pushes may overflow a stack.
 */
	.text
	.p2align 6
	.globl	mote_switch
	.hidden	mote_switch
	.type	mote_switch, @function
mote_switch:
	.cfi_startproc
	endbr64
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbp, 0
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	pushq	%r12
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r12, 0
	pushq	%r13
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r13, 0
	pushq	%r14
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r14, 0
	pushq	%r15
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r15, 0
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	popq	%r15
	.cfi_adjust_cfa_offset -8
	.cfi_restore r15
	popq	%r14
	.cfi_adjust_cfa_offset -8
	.cfi_restore r14
	popq	%r13
	.cfi_adjust_cfa_offset -8
	.cfi_restore r13
	popq	%r12
	.cfi_adjust_cfa_offset -8
	.cfi_restore r12
	popq	%rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbx
	popq	%rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbp
	popq	%rcx
	.cfi_adjust_cfa_offset -8
	.cfi_register rip, rcx
	jmp	*%rcx
	.cfi_endproc
	.size	mote_switch, .-mote_switch

/* Where a fresh context begins: see context_prepare(). r12: argument, r13: function, which never returns. */
	.p2align 4
	.globl	mote_switch_entry
	.hidden	mote_switch_entry
	.type	mote_switch_entry, @function
mote_switch_entry:
	.cfi_startproc
	.cfi_undefined rip
	endbr64
	xorl	%ebp, %ebp
	movq	%r12, %rdi
	call	*%r13
	ud2
	.cfi_endproc
	.size	mote_switch_entry, .-mote_switch_entry

	.section .note.GNU-stack, "", @progbits
