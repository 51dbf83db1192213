# Traps and interrupts. Each stub builds FreeBSD's struct trapframe (192 bytes) and calls the
# handler with the frame right at the stack pointer; debuggers know these labels and find it there.

.set TF_RDI, 0
.set TF_RSI, 8
.set TF_RDX, 16
.set TF_RCX, 24
.set TF_R8, 32
.set TF_R9, 40
.set TF_RAX, 48
.set TF_RBX, 56
.set TF_RBP, 64
.set TF_R10, 72
.set TF_R11, 80
.set TF_R12, 88
.set TF_R13, 96
.set TF_R14, 104
.set TF_R15, 112
.set TF_TRAPNO, 120
.set TF_FS, 124
.set TF_GS, 126
.set TF_ADDR, 128
.set TF_FLAGS, 136
.set TF_ES, 140
.set TF_DS, 142
.set TF_ERR, 144
.set TF_RIP, 152

.macro SAVE_REGISTERS
    movq %rdi, TF_RDI(%rsp)
    movq %rsi, TF_RSI(%rsp)
    movq %rdx, TF_RDX(%rsp)
    movq %rcx, TF_RCX(%rsp)
    movq %r8, TF_R8(%rsp)
    movq %r9, TF_R9(%rsp)
    movq %rax, TF_RAX(%rsp)
    movq %rbx, TF_RBX(%rsp)
    movq %rbp, TF_RBP(%rsp)
    movq %r10, TF_R10(%rsp)
    movq %r11, TF_R11(%rsp)
    movq %r12, TF_R12(%rsp)
    movq %r13, TF_R13(%rsp)
    movq %r14, TF_R14(%rsp)
    movq %r15, TF_R15(%rsp)
    movw %fs, TF_FS(%rsp)
    movw %gs, TF_GS(%rsp)
    movw %es, TF_ES(%rsp)
    movw %ds, TF_DS(%rsp)
    movl $1, TF_FLAGS(%rsp)
    movq %cr2, %rax
    movq %rax, TF_ADDR(%rsp)
    cld
.endm

# A trap: FreeBSD's number of it, and whether the processor pushes an error code.
.macro TRAP name, trapno, has_err
.globl X\name
X\name:
    .if \has_err == 0
    pushq $0
    .endif
    subq $TF_ERR, %rsp
    movl $\trapno, TF_TRAPNO(%rsp)
    jmp alltraps
.endm

.text
TRAP div, 18, 0
TRAP dbg, 10, 0
TRAP bpt, 3, 0
TRAP ofl, 21, 0
TRAP bnd, 20, 0
TRAP ill, 1, 0
TRAP dna, 22, 0
TRAP tss, 25, 1
TRAP missing, 26, 1
TRAP stk, 27, 1
TRAP prot, 9, 1
TRAP page, 12, 1
TRAP fpu, 6, 0
TRAP align, 14, 1
TRAP xmm, 29, 0
TRAP rsvd, 30, 0

.globl alltraps
alltraps:
    SAVE_REGISTERS
    movq %rsp, %rdi
.globl calltrap
calltrap:
    call trap
.globl doreti
doreti:
    movq TF_RDI(%rsp), %rdi
    movq TF_RSI(%rsp), %rsi
    movq TF_RDX(%rsp), %rdx
    movq TF_RCX(%rsp), %rcx
    movq TF_R8(%rsp), %r8
    movq TF_R9(%rsp), %r9
    movq TF_RAX(%rsp), %rax
    movq TF_RBX(%rsp), %rbx
    movq TF_RBP(%rsp), %rbp
    movq TF_R10(%rsp), %r10
    movq TF_R11(%rsp), %r11
    movq TF_R12(%rsp), %r12
    movq TF_R13(%rsp), %r13
    movq TF_R14(%rsp), %r14
    movq TF_R15(%rsp), %r15
    addq $TF_RIP, %rsp
    iretq

# These three have stacks of their own.
.globl Xnmi
Xnmi:
    pushq $0
    subq $TF_ERR, %rsp
    movl $19, TF_TRAPNO(%rsp)
    SAVE_REGISTERS
    movq %rsp, %rdi
.globl nmi_calltrap
nmi_calltrap:
    call trap
    jmp doreti

.globl Xmchk
Xmchk:
    pushq $0
    subq $TF_ERR, %rsp
    movl $28, TF_TRAPNO(%rsp)
    SAVE_REGISTERS
    movq %rsp, %rdi
.globl mchk_calltrap
mchk_calltrap:
    call trap
    jmp doreti

.globl Xdblfault
Xdblfault:
    subq $TF_ERR, %rsp
    movl $23, TF_TRAPNO(%rsp)
    SAVE_REGISTERS
    movq %rsp, %rdi
    call dblfault_handler
    ud2

.globl Xtimerint
Xtimerint:
    pushq $0
    subq $TF_ERR, %rsp
    movl $0, TF_TRAPNO(%rsp)
    SAVE_REGISTERS
    movq %rsp, %rdi
    call lapic_handle_timer
    jmp doreti

.globl Xspuriousint
Xspuriousint:
    iretq

# The compiler uses the vector registers: keep the interrupted ones while a handler runs. They are
# saved below the trap frame, because debuggers look for that right above the call.
.macro KEEPING_FPU name, handler
.globl \name
.type \name, @function
\name:
    pushq %rbp
    movq %rsp, %rbp
    subq $512, %rsp
    andq $-16, %rsp
    fxsave64 (%rsp)
    call \handler
    fxrstor64 (%rsp)
    leave
    retq
.size \name, . - \name
.endm

KEEPING_FPU trap, trap_handler
KEEPING_FPU lapic_handle_timer, timer_handler
