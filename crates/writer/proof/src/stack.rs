//! How much stack a call takes: it runs on a painted one.

use core::arch::asm;

/// Bytes of the painted stack.
const LEN: usize = 64 << 10;
const PAINT: u64 = 0x5ca1_ab1e_0ddb_a11a;

#[repr(align(16))]
struct Stack([u64; LEN / 8]);

static mut STACK: Stack = Stack([0; LEN / 8]);

/// Calls `body` on its own stack, and returns how many bytes of it were written.
#[cfg(target_arch = "x86_64")]
pub(crate) fn used(body: &mut dyn FnMut()) -> usize {
    let stack = &raw mut STACK;
    // SAFETY: `used` does not call itself, and there is one thread: nothing else has the stack.
    let stack = unsafe { &mut *stack };
    stack.0.fill(PAINT);
    let mut body = body;
    let argument = &raw mut body;
    // SAFETY: the new stack is large enough (what is not painted any more at its far end would show
    // as all of it used), aligned as the ABI wants it before a call, and lives on. R12 is preserved by
    // the callee and holds the old stack pointer. The argument outlives the call.
    unsafe {
        asm!(
            "xchg rsp, r12",
            "call {call}",
            "mov rsp, r12",
            call = sym call,
            in("rdi") argument,
            inout("r12") stack.0.as_mut_ptr_range().end => _,
            clobber_abi("C"),
        );
    }
    let clean = stack.0.iter().take_while(|word| **word == PAINT).count();
    LEN - clean * 8
}

extern "C" fn call(body: *mut &mut dyn FnMut()) {
    // SAFETY: `used` passes a pointer to its own closure reference, which outlives the call.
    unsafe { (*body)() }
}
