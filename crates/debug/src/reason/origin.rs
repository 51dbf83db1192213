//! Which variable a register holds at a program counter: as the debug information says it, else by the
//! instruction that loaded it.

use super::Certainty;
use super::access::address_of;
use super::held;
use crate::arch::machine::Machine;
use crate::expr::Location;
use crate::instructions::Flow;
use crate::instructions::{Instruction, Memory, Operand};
use crate::stack::NamedFrame;
use crate::target::Target;
use crate::types::{TypeKind, TypeRef};
use crate::variables::{Storage, Variable};
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

/// Copies between registers that are followed back.
const MAX_COPIES: usize = 8;
/// Loads that are followed back: `a->b->c->d`.
const MAX_LOADS: usize = 4;
/// Bytes of a function that are decoded.
const MAX_FUNCTION: u64 = 1 << 14;

/// What a pointer is in the source.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// As an expression: `so->so_proto`.
    pub(super) text: String,
    /// The type of the pointer.
    pub(super) type_: TypeRef,
    pub(super) certainty: Certainty,
    pub(super) evidence: Vec<String>,
    /// Its number among the parameters of its function, from 1.
    pub(super) parameter: Option<usize>,
    /// Its function among those at the program counter, the innermost first.
    pub(super) level: usize,
    /// The pointer through which it was read: `so` of `so->so_proto`.
    pub(super) read_from: Option<String>,
}

impl Origin {
    /// As the subject of a sentence.
    pub(super) fn subject(&self) -> String {
        let likely = match self.certainty {
            Certainty::Likely => "likely ",
            Certainty::Sure => "",
        };
        format!("{likely}`{}`", self.text)
    }
}

/// Follows registers back in one frame.
pub(super) struct Tracker<'c, 'a> {
    target: &'c Target<'a>,
    frames: &'c [NamedFrame],
    at: usize,
    /// The instructions of the function.
    code: Vec<Instruction>,
}

impl<'c, 'a> Tracker<'c, 'a> {
    pub(super) fn new(target: &'c Target<'a>, frames: &'c [NamedFrame], at: usize) -> Self {
        let pc = frames
            .get(at)
            .map_or(VirtAddr(0), |frame| frame.frame.lookup());
        let code = match target.function_around(pc) {
            Some((start, len)) if len <= MAX_FUNCTION => target.instructions_of(start, len).list,
            // Of a large function as much as leads there.
            Some((start, _)) => match pc.0.wrapping_sub(start.0) {
                len if len <= MAX_FUNCTION => target.instructions_of(start, len).list,
                _ => Vec::new(),
            },
            None => Vec::new(),
        };
        Self {
            target,
            frames,
            at,
            code,
        }
    }

    fn machine(&self) -> &'static Machine {
        self.target.machine()
    }

    /// What the pointer in a register is, right before the instruction at `pc` runs.
    pub(super) fn pointer_in(&self, register: usize, pc: VirtAddr) -> Option<Origin> {
        self.value(register, pc, true, 0)
    }

    /// What the value in a register is.
    pub(super) fn value_in(&self, register: usize, pc: VirtAddr) -> Option<Origin> {
        self.value(register, pc, false, 0)
    }

    /// The instructions of the function.
    pub(super) fn code(&self) -> &[Instruction] {
        &self.code
    }

    /// The pointer that a register holds at an address, by the debug information, in a function for which
    /// `counts` is true.
    pub(super) fn variable_in(
        &self,
        register: usize,
        pc: VirtAddr,
        counts: &dyn Fn(&str) -> bool,
    ) -> Option<held::Variable> {
        let name = *self.machine().names.get(register)?;
        let places = self.target.places(pc);
        let lists = self.variables_at(pc);
        let mut functions = lists.iter().zip(&places);
        functions.find_map(|(list, place)| {
            let is_it = |variable: &&Variable| self.is_in(variable, name, true);
            let variable = list
                .iter()
                .find(is_it)
                .filter(|_| counts(&place.function))?;
            Some(held::Variable::plain(variable, place))
        })
    }

    /// The instruction in front of an address.
    pub(super) fn in_front_of(&self, address: VirtAddr) -> Option<&Instruction> {
        let at = self.code.partition_point(|one| one.address < address);
        self.code.get(at.checked_sub(1)?)
    }

    fn value(
        &self,
        register: usize,
        pc: VirtAddr,
        is_pointer: bool,
        loads: usize,
    ) -> Option<Origin> {
        let name = *self.machine().names.get(register)?;
        let lists = self.variables_at(pc);
        let held = |variable: &Variable| self.is_in(variable, name, is_pointer);
        if let Some((level, variable)) = only(&lists, held) {
            return Some(self.origin_of(
                &lists,
                level,
                variable,
                Certainty::Sure,
                format!(
                    "{name} holds `{}` there, by the debug information",
                    variable.name
                ),
            ));
        }
        self.loaded(register, pc, is_pointer, loads)
    }

    /// Whether a register has a variable, by the debug information, and that is a pointer if it must be.
    fn is_in(&self, variable: &Variable, register: &str, is_pointer: bool) -> bool {
        let is_there =
            matches!(&variable.storage, Some(Storage::Register(name)) if name == register);
        is_there && (!is_pointer || self.is_pointer(&variable.type_))
    }

    /// Where the value in a register was loaded from, whatever variable it is in now.
    pub(super) fn pointer_loaded(&self, register: usize, pc: VirtAddr) -> Option<Origin> {
        self.loaded(register, pc, true, 0)
    }

    fn loaded(
        &self,
        register: usize,
        pc: VirtAddr,
        is_pointer: bool,
        loads: usize,
    ) -> Option<Origin> {
        let name = *self.machine().names.get(register)?;
        let fits = |type_: &TypeRef| !is_pointer || self.is_pointer(type_);
        if loads >= MAX_LOADS {
            return None;
        }
        let (load, is_straight) = self.load_of(register, pc)?;
        let certainty = match is_straight {
            true => Certainty::Sure,
            false => Certainty::Likely,
        };
        let memory = load.operands.iter().find_map(Operand::memory)?;
        // A variable in memory that is loaded.
        let lists = self.variables_at(load.address);
        let frame = &self.frames.get(self.at)?.frame;
        let is_frame = |number: usize| [self.machine().sp, self.machine().fp].contains(&number);
        let address = address_of(memory, |number| {
            is_frame(number).then(|| frame.registers.get(number))?
        });
        let stored = |variable: &Variable| {
            let location = variable.value.as_ref().ok().map(|value| &value.location);
            matches!(location, Some(Location::Memory(at)) if Some(*at) == address)
                && self.is_pointer(&variable.type_)
        };
        let evidence = format!("{} at {} loaded {name}", load.text, load.address);
        if address.is_some()
            && let Some((level, variable)) = only(&lists, stored)
        {
            return Some(self.origin_of(&lists, level, variable, certainty, evidence));
        }
        // A member of what another pointer points to.
        let mut member = self.member(memory, load.address, loads + 1)?;
        if !fits(&member.type_) {
            return None;
        }
        member.evidence.push(evidence);
        member.certainty = member.certainty.min(certainty);
        Some(member)
    }

    /// The member of what a pointer points to that an operand in memory is, right before the instruction
    /// at `pc` runs.
    pub(super) fn member_in(&self, memory: &Memory, pc: VirtAddr) -> Option<Origin> {
        self.member(memory, pc, 0)
    }

    fn member(&self, memory: &Memory, pc: VirtAddr, loads: usize) -> Option<Origin> {
        let is_frame = |number: usize| [self.machine().sp, self.machine().fp].contains(&number);
        let base = memory.base_number.filter(|number| !is_frame(*number))?;
        if memory.index.is_some() {
            return None;
        }
        let outer = self.value(base, pc, true, loads)?;
        let offset = u64::try_from(memory.displacement).ok()?;
        let (member, type_) = self.target.types().part_at(&outer.type_, offset)?;
        Some(Origin {
            text: format!("{}->{member}", outer.text),
            type_,
            certainty: outer.certainty,
            evidence: outer.evidence,
            parameter: None,
            level: outer.level,
            read_from: Some(outer.text),
        })
    }

    fn origin_of(
        &self,
        lists: &[Vec<Variable>],
        level: usize,
        variable: &Variable,
        certainty: Certainty,
        evidence: String,
    ) -> Origin {
        let list = lists.get(level).map_or(&[][..], Vec::as_slice);
        let mut parameters = list.iter().filter(|one| one.is_parameter);
        let number = parameters.position(|one| one.name == variable.name);
        Origin {
            text: variable.name.clone(),
            type_: variable.type_.clone(),
            certainty,
            evidence: vec![evidence],
            parameter: number.filter(|_| variable.is_parameter).map(|at| at + 1),
            level,
            read_from: None,
        }
    }

    /// The variables in scope at another place of the same frame. Where they are is right there; the
    /// values of registers are not.
    fn variables_at(&self, pc: VirtAddr) -> Vec<Vec<Variable>> {
        let Some(frame) = self.frames.get(self.at) else {
            return Vec::new();
        };
        let mut moved = frame.clone();
        moved.frame.pc = pc;
        moved.frame.exact = true;
        let outer = self.frames.get(self.at + 1);
        let frames: Vec<NamedFrame> = std::iter::once(moved).chain(outer.cloned()).collect();
        self.target.variables(&frames, 0)
    }

    fn is_pointer(&self, type_: &TypeRef) -> bool {
        let resolved = self.target.types().resolve(type_);
        matches!(resolved, Ok((_, type_)) if matches!(type_.kind, TypeKind::Pointer(_)))
    }

    /// The load that put into a register what it has at `pc`, and whether no other way leads there.
    fn load_of(&self, mut register: usize, mut pc: VirtAddr) -> Option<(&Instruction, bool)> {
        let mut is_only = true;
        for _ in 0..MAX_COPIES {
            let (one, only) = self.writer_of(register, pc)?;
            is_only &= only;
            match self.copied_from(one) {
                Some(copied) => (register, pc) = (copied, one.address),
                None => {
                    let is_load = one.operands.iter().any(|one| one.memory().is_some());
                    return (is_load && is_load_name(&one.text)).then_some((one, is_only));
                }
            }
        }
        None
    }

    /// The last instruction before `pc` that writes a register, and whether no other way leads to `pc`.
    fn writer_of(&self, register: usize, pc: VirtAddr) -> Option<(&Instruction, bool)> {
        let mut at = self.code.partition_point(|one| one.address < pc);
        let mut is_only = !HAS_DELAY_SLOTS.contains(&self.target.arch());
        for _ in 0..self.code.len() {
            (at, is_only) = self.before(at, is_only)?;
            let one = self.code.get(at)?;
            if self.writes(one, register) {
                return Some((one, is_only));
            }
            // What is after a call has only the registers that it leaves alone.
            if one.flow == Flow::Call && !self.machine().callee_saved.contains(&register) {
                return None;
            }
        }
        None
    }

    /// The variable from which the value of a register at `pc` was computed, and by how many bytes it is
    /// further: of a function for which `counts` is true.
    pub(super) fn pointer_before(
        &self,
        mut register: usize,
        mut pc: VirtAddr,
        counts: &dyn Fn(&str) -> bool,
    ) -> Option<(held::Variable, u64)> {
        let mut offset = 0_u64;
        for _ in 0..MAX_COPIES {
            if let Some(found) = self.variable_in(register, pc, counts) {
                return Some((found, offset));
            }
            let (one, true) = self.writer_of(register, pc)? else {
                return None;
            };
            pc = one.address;
            if let Some(copied) = self.copied_from(one) {
                register = copied;
                continue;
            }
            let added;
            (register, added) = sum(one, register)?;
            offset = offset.wrapping_add(added.cast_unsigned());
        }
        None
    }

    /// The register that an instruction only copies to another one.
    fn copied_from(&self, one: &Instruction) -> Option<usize> {
        let names = ["mov", "movl", "movq", "movslq", "mv", "c.mv", "mr"];
        let name = one.text.split_whitespace().next().unwrap_or_default();
        let [
            Operand::Register { number: first, .. },
            Operand::Register { number: last, .. },
        ] = one.operands.as_slice()
        else {
            return None;
        };
        let source = match self.machine().pushes_return_address() {
            true => first,
            false => last,
        };
        source.filter(|_| names.contains(&name))
    }

    /// The instruction that ran before another one; if there are several, the one in front of it, which
    /// makes what follows from it less than sure.
    fn before(&self, at: usize, is_only: bool) -> Option<(usize, bool)> {
        let address = self.code.get(at)?.address;
        let in_front = at.checked_sub(1).filter(|before| {
            let before = self.code.get(*before);
            before.is_some_and(|one| one.flow != Flow::Return && !always_jumps(one))
        });
        let mut jumps = self.code.iter().enumerate().filter(|(_, one)| {
            let to = one.refers_to.as_ref().map(|to| to.address);
            one.flow == Flow::Jump && to == Some(address)
        });
        match (in_front, jumps.next()) {
            (Some(before), None) => Some((before, is_only)),
            (Some(before), Some(_)) => Some((before, false)),
            (None, Some((before, _))) => Some((before, is_only && jumps.next().is_none())),
            (None, None) => None,
        }
    }

    /// Whether an instruction writes a register: its last operand on x86, its first elsewhere.
    fn writes(&self, one: &Instruction, register: usize) -> bool {
        let is_x86 = self.machine().pushes_return_address();
        let written = match is_x86 {
            true => one.operands.last(),
            false => one.operands.first(),
        };
        // Comparisons and stores read it.
        let reads = ["cmp", "test", "push", "st", "sb", "sh", "sw", "sd"];
        let only_reads = reads.iter().any(|prefix| one.text.starts_with(prefix));
        match written {
            Some(Operand::Register { number, .. }) => *number == Some(register) && !only_reads,
            _ => false,
        }
    }
}

/// Machines that run the instruction after a jump before they jump.
const HAS_DELAY_SLOTS: [Arch; 3] = [Arch::Mips, Arch::Mips64, Arch::Sparc64];

/// The register to which an instruction adds a constant to make another one, or the same.
fn sum(one: &Instruction, register: usize) -> Option<(usize, i64)> {
    let name = one.text.split_whitespace().next().unwrap_or_default();
    let is_sum = ["add", "addi", "c.addi"].contains(&name) || name.starts_with("addq");
    match one.operands.as_slice() {
        [Operand::Memory(memory), Operand::Register { .. }] if name.starts_with("lea") => {
            let base = memory.base_number.filter(|_| memory.index.is_none())?;
            Some((base, memory.displacement))
        }
        [Operand::Immediate { value }, Operand::Register { .. }]
        | [Operand::Register { .. }, Operand::Immediate { value }]
            if is_sum =>
        {
            Some((register, *value))
        }
        [
            _,
            Operand::Register { number, .. },
            Operand::Immediate { value },
        ] if is_sum => Some(((*number)?, *value)),
        _ => None,
    }
}

/// Whether a jump has no condition.
fn always_jumps(one: &Instruction) -> bool {
    let name = one.text.split_whitespace().next().unwrap_or_default();
    let names = ["jmp", "b", "br", "j", "jr", "c.j", "c.jr", "ba", "bctr"];
    one.flow == Flow::Jump && (names.contains(&name) || name.starts_with("jmp"))
}

/// Whether an instruction only copies memory to a register.
fn is_load_name(text: &str) -> bool {
    let name = text.split_whitespace().next().unwrap_or_default();
    [
        "mov", "ldr", "ld", "lw", "lwz", "ldx", "ldur", "c.ld", "c.ldsp", "movq", "movl", "movzbl",
        "movzwl", "movslq",
    ]
    .contains(&name)
}

/// The only variable of which something is true.
fn only(lists: &[Vec<Variable>], is_it: impl Fn(&Variable) -> bool) -> Option<(usize, &Variable)> {
    let all = lists.iter().enumerate();
    let mut found = all.flat_map(|(level, list)| list.iter().map(move |one| (level, one)));
    // A parameter of an inlined function is often one of the function around it: the innermost counts.
    found.find(|(_, variable)| is_it(variable))
}
