# Switching threads, saving a context, and copying from memory that may not be there.
# Offsets are those of FreeBSD's struct pcb.

.set PCB_R15, 0
.set PCB_R14, 8
.set PCB_R13, 16
.set PCB_R12, 24
.set PCB_RBP, 32
.set PCB_RSP, 40
.set PCB_RBX, 48
.set PCB_RIP, 56
.set PCB_FSBASE, 64
.set PCB_GSBASE, 72
.set PCB_KGSBASE, 80
.set PCB_CR0, 88
.set PCB_CR2, 96
.set PCB_CR3, 104
.set PCB_CR4, 112
.set PCB_DR0, 120
.set PCB_DR6, 152
.set PCB_DR7, 160

.macro SAVE_CALLEE pcb
    movq (%rsp), %rax
    movq %rax, PCB_RIP(\pcb)
    movq %r15, PCB_R15(\pcb)
    movq %r14, PCB_R14(\pcb)
    movq %r13, PCB_R13(\pcb)
    movq %r12, PCB_R12(\pcb)
    movq %rbp, PCB_RBP(\pcb)
    movq %rsp, PCB_RSP(\pcb)
    movq %rbx, PCB_RBX(\pcb)
.endm

.text
# cpu_switch(old, new): leaves one thread where it is and goes on where the other one was.
.globl cpu_switch
.type cpu_switch, @function
cpu_switch:
    .cfi_startproc
    SAVE_CALLEE %rdi
    movq PCB_R15(%rsi), %r15
    movq PCB_R14(%rsi), %r14
    movq PCB_R13(%rsi), %r13
    movq PCB_R12(%rsi), %r12
    movq PCB_RBP(%rsi), %rbp
    movq PCB_RSP(%rsi), %rsp
    movq PCB_RBX(%rsi), %rbx
    movq PCB_RIP(%rsi), %rax
    movq %rax, (%rsp)
    retq
    .cfi_endproc
.size cpu_switch, . - cpu_switch

# Where a new thread begins: function in r12, argument in rbx, an empty trap frame on the stack.
.globl fork_trampoline
.type fork_trampoline, @function
fork_trampoline:
    .cfi_startproc
    .cfi_undefined %rip
    movq %r12, %rdi
    movq %rbx, %rsi
    movq %rsp, %rdx
    call fork_exit
    ud2
    .cfi_endproc
.size fork_trampoline, . - fork_trampoline

# savectx(pcb): the caller's registers, and what belongs to the processor.
.globl savectx
.type savectx, @function
savectx:
    .cfi_startproc
    SAVE_CALLEE %rdi
    movq %cr0, %rax
    movq %rax, PCB_CR0(%rdi)
    movq %cr2, %rax
    movq %rax, PCB_CR2(%rdi)
    movq %cr3, %rax
    movq %rax, PCB_CR3(%rdi)
    movq %cr4, %rax
    movq %rax, PCB_CR4(%rdi)
    movq %dr6, %rax
    movq %rax, PCB_DR6(%rdi)
    movq %dr7, %rax
    movq %rax, PCB_DR7(%rdi)
    movl $0xc0000101, %ecx              # GS base
    rdmsr
    movl %eax, PCB_GSBASE(%rdi)
    movl %edx, PCB_GSBASE + 4(%rdi)
    retq
    .cfi_endproc
.size savectx, . - savectx

# probe_copy(to, from, len) -> 0, or 1 if a page of `from` (or `to`) is not there. The page-fault
# handler goes on at pc_onfault. Whole words as far as they go: the emulator is slow with `rep`.
.set PC_ONFAULT, 16
.globl probe_copy
.type probe_copy, @function
probe_copy:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    movq $probe_fault, %gs:PC_ONFAULT
    cmpq $32, %rdx
    jb 2f
1:  movq (%rsi), %rax
    movq 8(%rsi), %rcx
    movq 16(%rsi), %r8
    movq 24(%rsi), %r9
    movq %rax, (%rdi)
    movq %rcx, 8(%rdi)
    movq %r8, 16(%rdi)
    movq %r9, 24(%rdi)
    addq $32, %rsi
    addq $32, %rdi
    subq $32, %rdx
    cmpq $32, %rdx
    jae 1b
2:  testq %rdx, %rdx
    jz 4f
3:  movb (%rsi), %al
    movb %al, (%rdi)
    incq %rsi
    incq %rdi
    decq %rdx
    jnz 3b
4:  movq $0, %gs:PC_ONFAULT
    xorl %eax, %eax
    popq %rbp
    .cfi_remember_state
    .cfi_def_cfa %rsp, 8
    retq
    .cfi_restore_state
probe_fault:
    movq $0, %gs:PC_ONFAULT
    movl $1, %eax
    popq %rbp
    .cfi_def_cfa %rsp, 8
    retq
    .cfi_endproc
.size probe_copy, . - probe_copy
