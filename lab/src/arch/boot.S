# From QEMU's PVH entry to Rust: long mode, the first gigabyte mapped three times (identity,
# direct map, kernel image), a stack. Linked high, loaded low: before paging is on, every address
# is SYMBOL - KERNBASE.

.set KERNBASE, 0xffffffff80000000
.set PG_V, 1
.set PG_RW, 2
.set PG_PS, 0x80

# What QEMU looks for: the 32-bit physical entry point.
.section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_start - KERNBASE

# What tells debuggers that this is a kernel with FreeBSD's debugging interface.
.section .note.tag, "a", @note
    .balign 4
    .long 8, 4, 1
    .asciz "FreeBSD"
    .long 1501000
.section .interp, "a", @progbits
    .asciz "/red/herring"

.section .boot, "ax", @progbits
.code32
.globl pvh_start
pvh_start:
    cld
    cli
    movl %ebx, %esi                     # hvm_start_info
    movl $(boot_stack_end - KERNBASE), %esp

    # 512 pages of 2 MiB.
    movl $(boot_pd - KERNBASE), %edi
    movl $(PG_V | PG_RW | PG_PS), %eax
    movl $512, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b

    movl $(boot_pd - KERNBASE + PG_V + PG_RW), %eax
    movl %eax, boot_pdpt_low - KERNBASE            # identity and direct map
    movl %eax, boot_pdpt_high - KERNBASE + 510 * 8 # kernel image
    movl $(boot_pdpt_low - KERNBASE + PG_V + PG_RW), %eax
    movl %eax, boot_pml4 - KERNBASE
    movl %eax, boot_pml4 - KERNBASE + 496 * 8
    movl $(boot_pdpt_high - KERNBASE + PG_V + PG_RW), %eax
    movl %eax, boot_pml4 - KERNBASE + 511 * 8

    movl $0x620, %eax                   # PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $(boot_pml4 - KERNBASE), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              # EFER: long mode, no-execute
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl %cr0, %eax
    andl $~4, %eax                      # EM off
    orl $0x80010022, %eax               # PG, WP, NE, MP
    movl %eax, %cr0
    lgdt boot_gdt_descriptor - KERNBASE
    ljmp $8, $(1f - KERNBASE)
.code64
1:  movw $16, %ax
    movw %ax, %ss
    movw %ax, %ds
    movw %ax, %es
    movabsq $btext, %rax
    jmp *%rax

# The end of every backtrace of thread 0.
.globl btext
btext:
    .cfi_startproc
    .cfi_undefined %rip
    movabsq $boot_stack_end, %rsp
    xorl %ebp, %ebp
    movl %esi, %edi
    call hammer_time                    # returns the top of thread 0's stack
    movq %rax, %rsp
    xorl %ebp, %ebp
    call mi_startup
    ud2
    .cfi_endproc

.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 64-bit code
    .quad 0x00cf93000000ffff            # data
boot_gdt_descriptor:
    .word boot_gdt_descriptor - boot_gdt - 1
    .quad boot_gdt - KERNBASE

# At the kernel's own address, but still on the boot tables: change to the kernel's.
.globl mp_entry
mp_entry:
    .cfi_startproc
    .cfi_undefined %rip
    movw $16, %ax
    movw %ax, %ss
    movw %ax, %ds
    movw %ax, %es
    movq KPML4phys(%rip), %rax
    movq %rax, %cr3
    movq mp_boot_stack(%rip), %rsp
    movl mp_boot_cpu(%rip), %edi
    xorl %ebp, %ebp
    call init_secondary
    ud2
    .cfi_endproc

# An application processor starts in real mode; this piece is copied to physical MP_TRAMPOLINE.
.set MP_TRAMPOLINE, 0x8000
.globl mp_trampoline, mp_trampoline_end
.code16
mp_trampoline:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl mp_gdt_descriptor - mp_trampoline + MP_TRAMPOLINE
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $(1f - mp_trampoline + MP_TRAMPOLINE)
.code32
1:  movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x620, %eax
    movl %eax, %cr4
    movl $(boot_pml4 - KERNBASE), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl %cr0, %eax
    andl $~0x60000004, %eax             # caches on, EM off
    orl $0x80010022, %eax
    movl %eax, %cr0
    ljmp $24, $(1f - mp_trampoline + MP_TRAMPOLINE)
.code64
1:  movabsq $mp_entry, %rax
    jmp *%rax
.balign 8
mp_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            # 32-bit code
    .quad 0x00cf93000000ffff            # data
    .quad 0x00af9b000000ffff            # 64-bit code
mp_gdt_descriptor:
    .word mp_gdt_descriptor - mp_gdt - 1
    .long mp_gdt - mp_trampoline + MP_TRAMPOLINE
mp_trampoline_end:

.section .bss.boot, "aw", @nobits
.balign 4096
boot_pml4: .skip 4096
boot_pdpt_low: .skip 4096
boot_pdpt_high: .skip 4096
boot_pd: .skip 4096
boot_stack: .skip 16384
boot_stack_end:
