# Traps and interrupts. Each stub builds FreeBSD's struct trapframe (192 bytes) and calls the
# handler with the frame right at the stack pointer; debuggers of FreeBSD know these labels and find
# it there. Others go by the call frame information, which says where each register is.

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

.set TF_RSP, 176
.set TF_LEN, 192

# Of an entry: what the processor has pushed, an error code included or not.
.macro CFI_ENTRY has_err
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_def_cfa %rsp, TF_LEN - TF_RIP + 8 * \has_err
    .cfi_offset %rip, TF_RIP - TF_LEN
    .cfi_offset %rsp, TF_RSP - TF_LEN
.endm

.macro PUSH_ZERO
    pushq $0
    .cfi_def_cfa_offset TF_LEN - TF_ERR
.endm

.macro MAKE_FRAME trapno
    subq $TF_ERR, %rsp
    .cfi_def_cfa_offset TF_LEN
    movl $\trapno, TF_TRAPNO(%rsp)
.endm

.macro CFI_SAVED
    .cfi_offset %rdi, TF_RDI - TF_LEN
    .cfi_offset %rsi, TF_RSI - TF_LEN
    .cfi_offset %rdx, TF_RDX - TF_LEN
    .cfi_offset %rcx, TF_RCX - TF_LEN
    .cfi_offset %r8, TF_R8 - TF_LEN
    .cfi_offset %r9, TF_R9 - TF_LEN
    .cfi_offset %rax, TF_RAX - TF_LEN
    .cfi_offset %rbx, TF_RBX - TF_LEN
    .cfi_offset %rbp, TF_RBP - TF_LEN
    .cfi_offset %r10, TF_R10 - TF_LEN
    .cfi_offset %r11, TF_R11 - TF_LEN
    .cfi_offset %r12, TF_R12 - TF_LEN
    .cfi_offset %r13, TF_R13 - TF_LEN
    .cfi_offset %r14, TF_R14 - TF_LEN
    .cfi_offset %r15, TF_R15 - TF_LEN
.endm

# A label after which the whole frame is there. Debuggers count from the label, so it starts over.
.macro CFI_WHOLE_FRAME
    .cfi_endproc
    CFI_ENTRY 1
    .cfi_def_cfa_offset TF_LEN
    CFI_SAVED
.endm

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
    CFI_SAVED
.endm

# A trap: FreeBSD's number of it, and whether the processor pushes an error code.
.macro TRAP name, trapno, has_err
.globl X\name
X\name:
    CFI_ENTRY \has_err
    .if \has_err == 0
    PUSH_ZERO
    .endif
    MAKE_FRAME \trapno
    jmp alltraps
    .cfi_endproc
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
    CFI_ENTRY 1
    .cfi_def_cfa_offset TF_LEN
    SAVE_REGISTERS
    movq %rsp, %rdi
.globl calltrap
calltrap:
    CFI_WHOLE_FRAME
    call trap
    nop                                 # so that the return address belongs to calltrap
.globl doreti
doreti:
    CFI_WHOLE_FRAME
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
    .cfi_same_value %rdi
    .cfi_same_value %rsi
    .cfi_same_value %rdx
    .cfi_same_value %rcx
    .cfi_same_value %r8
    .cfi_same_value %r9
    .cfi_same_value %rax
    .cfi_same_value %rbx
    .cfi_same_value %rbp
    .cfi_same_value %r10
    .cfi_same_value %r11
    .cfi_same_value %r12
    .cfi_same_value %r13
    .cfi_same_value %r14
    .cfi_same_value %r15
    addq $TF_RIP, %rsp
    .cfi_def_cfa_offset TF_LEN - TF_RIP
    iretq
    .cfi_endproc

# These three have stacks of their own.
.globl Xnmi
Xnmi:
    CFI_ENTRY 0
    PUSH_ZERO
    MAKE_FRAME 19
    SAVE_REGISTERS
    movq %rsp, %rdi
.globl nmi_calltrap
nmi_calltrap:
    CFI_WHOLE_FRAME
    call trap
    jmp doreti
    .cfi_endproc

.globl Xmchk
Xmchk:
    CFI_ENTRY 0
    PUSH_ZERO
    MAKE_FRAME 28
    SAVE_REGISTERS
    movq %rsp, %rdi
.globl mchk_calltrap
mchk_calltrap:
    CFI_WHOLE_FRAME
    call trap
    jmp doreti
    .cfi_endproc

.globl Xdblfault
Xdblfault:
    CFI_ENTRY 1
    MAKE_FRAME 23
    SAVE_REGISTERS
    movq %rsp, %rdi
    call dblfault_handler
    ud2
    .cfi_endproc

.globl Xtimerint
Xtimerint:
    CFI_ENTRY 0
    PUSH_ZERO
    MAKE_FRAME 0
    SAVE_REGISTERS
    movq %rsp, %rdi
    call lapic_handle_timer
    jmp doreti
    .cfi_endproc

.globl Xspuriousint
Xspuriousint:
    CFI_ENTRY 0
    iretq
    .cfi_endproc

# The compiler uses the vector registers: keep the interrupted ones while a handler runs. They are
# saved below the trap frame, because debuggers look for that right above the call.
.macro KEEPING_FPU name, handler
.globl \name
.type \name, @function
\name:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    subq $512, %rsp
    andq $-16, %rsp
    fxsave64 (%rsp)
    call \handler
    fxrstor64 (%rsp)
    leave
    .cfi_def_cfa %rsp, 8
    retq
    .cfi_endproc
.size \name, . - \name
.endm

KEEPING_FPU trap, trap_check
KEEPING_FPU lapic_handle_timer, timer_handler
