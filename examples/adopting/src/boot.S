# From QEMU's PVH entry to Rust. Mapped: the first gigabyte where it is (the image) and from
# 0xffff800000000000 on (the direct map), and 2 MiB of heap at 0x444444400000.

.section .note.Xen, "a", @note
    .long 4, 4, 18
    .asciz "Xen"
    .long start32

.section .boot, "ax", @progbits
.code32
start32:
    movl $pd, %edi
    movl $0x83, %eax                    # present, writable, 2 MiB
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    cmpl $pd + 4096, %edi
    jne 1b
    movl $pd + 3, pdpt
    movl $pdpt + 3, pml4
    movl $pdpt + 3, pml4 + 256 * 8      # 0xffff800000000000
    movl $heap_pdpt + 3, pml4 + 136 * 8 # 0x444444400000
    movl $heap_pd + 3, heap_pdpt + 273 * 8
    movl $0x800083, heap_pd + 34 * 8    # the heap is at 8 MiB
    movl $0x620, %eax                   # PAE, SSE
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax                    # long mode
    wrmsr
    movl %cr0, %eax
    andl $~4, %eax
    orl $0x80000003, %eax
    movl %eax, %cr0
    lgdt gdt_descriptor
    ljmp $8, $start64
.code64
.globl start64
start64:
    .cfi_startproc
    .cfi_undefined %rip
    movl $16, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $stack_end, %esp
    xorl %ebp, %ebp
    call main
    ud2
    .cfi_endproc

# switch_to(from: *mut u64, to: u64): what a task has to keep is on its stack.
.text
.globl switch_to
switch_to:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    retq
    .cfi_endproc

.balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_descriptor:
    .word 23
    .long gdt

.section .bss, "aw", @nobits
.balign 4096
.globl pml4
pml4: .skip 4096
pdpt: .skip 4096
pd: .skip 4096
heap_pdpt: .skip 4096
heap_pd: .skip 4096
.globl stack
stack: .skip 65536
stack_end:
