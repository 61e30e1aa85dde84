/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * void mote_switch(void **save, void *to): saves the callee-saved registers on the current stack and the stack pointer
 * in *save, continues at `to`. The rounding modes (mxcsr, x87) are the thread's, not the context's: saving them would
 * double the price.
 *
 * The last step is pop and an indirect jump, not ret: the return-stack predictor holds the address of the other
 * context's caller and would miss each time (2.5 ns against 8).
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
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	.cfi_undefined rip
	popq	%rcx
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
