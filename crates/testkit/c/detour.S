/* A module's function without a frame pointer: only its call frame information tells its caller. */
	.text

	.globl detour, ret_detour
	.type detour, @function
detour:
/* The assemblers of other architectures mark code like this. */
"$x.1":
	.cfi_startproc
	push %rbp
	.cfi_def_cfa_offset 16
	.cfi_offset 6, -16
	/* A number like any other. */
	mov $5, %ebp
	sub $24, %rsp
	.cfi_def_cfa_offset 40
	call hook
ret_detour:
	add $24, %rsp
	.cfi_def_cfa_offset 16
	pop %rbp
	.cfi_restore 6
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
	.size detour, . - detour

	.section .note.GNU-stack, "", @progbits
