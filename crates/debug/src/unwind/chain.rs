//! Frames that are chained on the stack: by the frame pointer, or by powerpc's stack pointer.

use super::{Caller, End, How, Registers, Unwinder};
use crate::arch::machine::Chain;
use vmcore::translation::TranslationError;
use vmcore_format::addr::VirtAddr;

impl Unwinder<'_> {
    /// powerpc: each stack frame begins with the address of its caller's.
    fn by_back_chain(&self, sp: u64, saved_lr: u64) -> Result<Caller, End> {
        let machine = self.machine;
        let read = |at: u64| {
            self.space
                .read_word(VirtAddr(at))
                .map_err(|fault| End::Unreadable {
                    at: VirtAddr(at),
                    reason: fault.to_string(),
                })
        };
        let above = read(sp)?;
        if above == 0 {
            return Err(End::FramePointerZero);
        }
        let pc = read(above.wrapping_add(saved_lr))?;
        if pc == 0 {
            return Err(End::Zeros {
                at: VirtAddr(above),
            });
        }
        let mut found = Registers::default();
        found.set(machine.sp, Some(above));
        found.set(machine.pc, Some(pc));
        Ok(Caller {
            registers: found,
            how: How::BackChain,
            exact: false,
        })
    }

    /// The caller's frame by the frame pointer, which chains them.
    pub(super) fn by_frame_pointer(&self, registers: &Registers) -> Result<Caller, End> {
        let machine = self.machine;
        let fp = registers.get(machine.fp).ok_or(End::NoRegisters)?;
        if fp == 0 {
            return Err(End::FramePointerZero);
        }
        let word = machine.word_bytes();
        let bad = End::BadFramePointer { fp: VirtAddr(fp) };
        if self.is_user(VirtAddr(fp)) {
            return Err(End::UserMode);
        }
        if fp % word != 0 {
            return Err(bad);
        }
        // Above the record is the stack of the caller.
        let (record, sp) = match machine.chain {
            Chain::Record => (fp, fp.wrapping_add(2 * word)),
            Chain::RecordBelow => (fp.wrapping_sub(2 * word), fp),
            Chain::BackChain { saved_lr } => return self.by_back_chain(fp, saved_lr),
            Chain::Unknown => return Err(End::NoRegisters),
        };
        let unreadable = |fault: TranslationError| End::Unreadable {
            at: VirtAddr(record),
            reason: fault.to_string(),
        };
        let saved = self.space.read_word(VirtAddr(record)).map_err(unreadable)?;
        let pc = self
            .space
            .read_word(VirtAddr(record.wrapping_add(word)))
            .map_err(unreadable)?;
        if saved == 0 && pc == 0 {
            return Err(End::Zeros { at: VirtAddr(fp) });
        }
        let mut found = Registers::default();
        found.set(machine.fp, Some(saved));
        found.set(machine.sp, Some(sp));
        found.set(machine.pc, Some((machine.strip)(pc)));
        Ok(Caller {
            registers: found,
            how: How::FramePointer,
            exact: false,
        })
    }
}
