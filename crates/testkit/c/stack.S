/* Functions for stacks that the tests lay out: each ends where its call returns. */
	.text

	.globl doadump, ret_doadump
	.type doadump, @function
doadump:
	.cfi_startproc
	sub $40, %rsp
	.cfi_def_cfa_offset 48
	call savectx
ret_doadump:
	add $40, %rsp
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
	.size doadump, . - doadump

	.globl panic
	.type panic, @function
panic:
	.cfi_startproc
	push %rbx
	.cfi_def_cfa_offset 16
	.cfi_offset 3, -16
	call doadump
	.cfi_endproc
	.size panic, . - panic

	/* The call above does not return: its return address is in the next function. */
	.globl savectx
	.type savectx, @function
savectx:
	ret
	.size savectx, . - savectx

	.globl trap, ret_trap
	.type trap, @function
trap:
	.cfi_startproc
	push %rbp
	.cfi_def_cfa_offset 16
	.cfi_offset 6, -16
	mov %rsp, %rbp
	.cfi_def_cfa_register 6
	sub $32, %rsp
	call panic
ret_trap:
	leave
	ret
	.cfi_endproc
	.size trap, . - trap

	/* Assembly entries and code without call frame information. */
	.globl alltraps, calltrap, ret_calltrap
	.type alltraps, @function
alltraps:
	sub $192, %rsp
calltrap:
	call trap
ret_calltrap:
	add $192, %rsp
	iretq
	.size alltraps, . - alltraps

	.globl leaf
	.type leaf, @function
leaf:
	push %rbp
	mov %rsp, %rbp
	mov 0x18, %rax
	pop %rbp
	ret
	.size leaf, . - leaf

	.globl worker, ret_worker
	.type worker, @function
worker:
	push %rbp
	mov %rsp, %rbp
	sub $16, %rsp
	call leaf
ret_worker:
	leave
	ret
	.size worker, . - worker

	.globl fork_exit, ret_fork_exit
	.type fork_exit, @function
fork_exit:
	push %rbp
	mov %rsp, %rbp
	sub $32, %rsp
	call worker
ret_fork_exit:
	leave
	ret
	.size fork_exit, . - fork_exit

	.globl fork_trampoline, ret_fork_trampoline
	.type fork_trampoline, @function
fork_trampoline:
	call fork_exit
ret_fork_trampoline:
	iretq
	.size fork_trampoline, . - fork_trampoline

	/* No entry, though its name begins like one. */
	.globl XXH64_update, ret_XXH64_update
	.type XXH64_update, @function
XXH64_update:
	push %rbp
	mov %rsp, %rbp
	sub $256, %rsp
	call leaf
ret_XXH64_update:
	leave
	ret
	.size XXH64_update, . - XXH64_update

	/* What kernel threads start in, where the other one is for user threads alone. */
	.globl fork_trampoline_kthread
	.type fork_trampoline_kthread, @function
fork_trampoline_kthread:
	call fork_exit
	ud2
	.size fork_trampoline_kthread, . - fork_trampoline_kthread

	.section .note.GNU-stack, "", @progbits
