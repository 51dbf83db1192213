//! Call frame information: `.debug_frame` and `.eh_frame` of a file.

use super::Registers;
use crate::arch::machine::Machine;
use crate::budget::Budget;
use crate::dwarf::{Slice, order_of};
use crate::object_file::ObjectFile;
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, Register,
    RegisterRule, UnwindContext, UnwindSection,
};
use vmcore::space::AddressSpace;
use vmcore_format::addr::VirtAddr;

/// What a byte of an unwind program costs when it runs: one may copy all rules of a row.
const PROGRAM_STEPS: u64 = 32;
/// The call frame information of a file, with an index of its functions.
#[derive(Debug)]
pub struct CallFrames<'a> {
    bias: u64,
    budget: &'a Budget,
    debug: DebugFrame<Slice<'a>>,
    eh: EhFrame<Slice<'a>>,
    bases: BaseAddresses,
    /// Functions by ascending address.
    functions: Vec<Function>,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    start: u64,
    end: u64,
    /// Offset of its description in the section.
    offset: usize,
    is_eh: bool,
}

impl<'a> CallFrames<'a> {
    /// Reads the index of a file's call frame information; damaged parts are left out.
    #[must_use]
    pub fn new(file: &'a ObjectFile) -> Self {
        let address_size = u8::try_from(file.arch().word().bytes()).unwrap_or(8);
        let slice = |name| Slice::new(file.section(name), order_of(file));
        let mut debug = DebugFrame::from(slice(".debug_frame"));
        let mut eh = EhFrame::from(slice(".eh_frame"));
        debug.set_address_size(address_size);
        eh.set_address_size(address_size);
        let vendor = Machine::of(file.arch()).vendor;
        debug.set_vendor(vendor);
        eh.set_vendor(vendor);
        let mut bases = BaseAddresses::default();
        if let Some(elf) = file.elf() {
            let address = |name| {
                file.sections_named(&elf, name).next().map_or(0, |section| {
                    file.loaded_at(&section).wrapping_sub(file.bias())
                })
            };
            bases = bases
                .set_eh_frame(address(".eh_frame"))
                .set_text(address(".text"))
                .set_got(address(".got"));
        }
        let mut functions = Vec::new();
        let budget = file.budget();
        let len = |name| file.section(name).len();
        index(
            &debug,
            len(".debug_frame"),
            &bases,
            false,
            budget,
            &mut functions,
        );
        index(&eh, len(".eh_frame"), &bases, true, budget, &mut functions);
        // Of two descriptions of one function the one made for debuggers counts.
        functions.sort_by_key(|function| (function.start, function.is_eh));
        functions.dedup_by_key(|function| function.start);
        Self {
            bias: file.bias(),
            budget,
            debug,
            eh,
            bases,
            functions,
        }
    }

    /// How many functions it describes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether it describes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Whether it describes the function at an address.
    #[must_use]
    pub fn describes(&self, pc: VirtAddr) -> bool {
        self.function(pc).is_some()
    }

    fn function(&self, pc: VirtAddr) -> Option<&Function> {
        let pc = pc.0.wrapping_sub(self.bias);
        let after = self
            .functions
            .partition_point(|function| function.start <= pc);
        let function = self.functions.get(after.checked_sub(1)?)?;
        (pc < function.end).then_some(function)
    }

    /// The address that call frame information gives a frame: that of the caller's stack pointer.
    pub(crate) fn cfa(
        &self,
        machine: &Machine,
        space: AddressSpace<'_>,
        pc: VirtAddr,
        registers: &Registers,
    ) -> Option<u64> {
        let (caller, _) = self.unwind(machine, space, pc, registers)?;
        caller.get(machine.sp)
    }

    /// The registers of the caller, and whether the frame interrupted it.
    pub(super) fn unwind(
        &self,
        machine: &Machine,
        space: AddressSpace<'_>,
        pc: VirtAddr,
        registers: &Registers,
    ) -> Option<(Registers, bool)> {
        let function = self.function(pc)?;
        let pc = pc.0.wrapping_sub(self.bias);
        let offset = function.offset;
        if function.is_eh {
            self.unwind_in(&self.eh, offset, machine, space, pc, registers)
        } else {
            self.unwind_in(&self.debug, offset, machine, space, pc, registers)
        }
    }

    fn unwind_in<S: UnwindSection<Slice<'a>>>(
        &self,
        section: &S,
        offset: usize,
        machine: &Machine,
        space: AddressSpace<'_>,
        pc: u64,
        registers: &Registers,
    ) -> Option<(Registers, bool)> {
        let fde = section
            .fde_from_offset(&self.bases, S::Offset::from(offset), S::cie_from_offset)
            .ok()?;
        let program = fde.entry_len().saturating_add(fde.cie().entry_len());
        let steps = (program as u64).saturating_mul(PROGRAM_STEPS);
        self.budget.work(steps).ok()?;
        let mut context = UnwindContext::new();
        let row = fde
            .unwind_info_for_address(section, &self.bases, &mut context, pc)
            .ok()?;
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => registers
                .get(usize::from(register.0))?
                .wrapping_add(offset.cast_unsigned()),
            CfaRule::Expression(_) => return None,
        };
        let cfa = machine.cut(cfa);
        let mut found = registers.callee_saved(machine);
        found.set(machine.sp, Some(cfa));
        let return_register = fde.cie().return_address_register();
        let column = usize::from(return_register.0);
        // Where no rule says otherwise, the return address is still in the link register.
        let mut return_address = machine.lr.and_then(|lr| registers.get(lr));
        for number in 0..machine.names.len() {
            let register = Register(u16::try_from(number).ok()?);
            let Some(rule) = row.register(register) else {
                continue;
            };
            let value = match rule {
                RegisterRule::Undefined => None,
                RegisterRule::SameValue => registers.get(number),
                RegisterRule::Offset(offset) => {
                    let slot = machine.cut(cfa.wrapping_add(offset.cast_unsigned()));
                    space.read_word(VirtAddr(slot)).ok()
                }
                RegisterRule::ValOffset(offset) => {
                    Some(machine.cut(cfa.wrapping_add(offset.cast_unsigned())))
                }
                RegisterRule::Register(other) => registers.get(usize::from(other.0)),
                RegisterRule::Constant(value) => Some(value),
                _ => None,
            };
            if number == column {
                return_address = value;
            } else {
                found.set(number, value);
            }
        }
        // The caller's own link register is lost: its call has overwritten it.
        found.set(machine.pc, return_address);
        return_address?;
        Some((found, fde.is_signal_trampoline()))
    }
}

/// Adds the functions that a section describes.
fn index<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    len: usize,
    bases: &BaseAddresses,
    is_eh: bool,
    budget: &Budget,
    functions: &mut Vec<Function>,
) {
    let mut steps = budget.steps();
    // Functions that follow each other share their common part.
    let mut common: Option<(S::Offset, gimli::Result<CommonInformationEntry<Slice<'a>>>)> = None;
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let mut bytes = 1;
        let fde = partial.parse(|section, bases, offset| match &common {
            Some((at, cie)) if *at == offset => cie.clone(),
            _ => {
                let cie = section.cie_from_offset(bases, offset);
                bytes += cie.as_ref().map_or(len, CommonInformationEntry::entry_len);
                common = Some((offset, cie.clone()));
                cie
            }
        });
        if steps.spend(bytes as u64).is_err() {
            return;
        }
        let Ok(fde) = fde else {
            continue;
        };
        if fde.len() > 0 {
            if budget.memory(size_of::<Function>() as u64).is_err() {
                return;
            }
            functions.push(Function {
                start: fde.initial_address(),
                end: fde.end_address(),
                offset: fde.offset(),
                is_eh,
            });
        }
    }
}
