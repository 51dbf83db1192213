# What the compiler calls. Targets without an operating system have it of their own; this kernel is built
# for the host's, so that an ordinary toolchain is enough.

.text
.globl memcpy, memmove, memset, memcmp, bcmp, rust_eh_personality
memmove:
    movq %rdi, %rax
    subq %rsi, %rax
    cmpq %rdx, %rax
    jae memcpy
    leaq -1(%rdi, %rdx), %rdi           # they overlap: from the end down
    leaq -1(%rsi, %rdx), %rsi
    movq %rdx, %rcx
    std
    rep movsb
    cld
    leaq 1(%rdi), %rax
    retq
memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    rep movsb
    retq
memset:
    movq %rdi, %r8
    movl %esi, %eax
    movq %rdx, %rcx
    rep stosb
    movq %r8, %rax
    retq
memcmp:
bcmp:
    xorl %eax, %eax
    xorl %ecx, %ecx
    testq %rdx, %rdx
    jz 1f
2:  movzbl (%rdi), %eax
    movzbl (%rsi), %ecx
    subl %ecx, %eax
    jnz 1f
    incq %rdi
    incq %rsi
    decq %rdx
    jnz 2b
1:  retq
rust_eh_personality:
    ud2
