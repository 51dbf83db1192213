//! Which variable a register holds at a program counter: as the debug information says it, else by the
//! instruction that loaded it.

use super::{Certainty, address_of};
use crate::arch::machine::Machine;
use crate::expr::Location;
use crate::instructions::Flow;
use crate::instructions::{Instruction, Operand};
use crate::stack::NamedFrame;
use crate::target::Target;
use crate::types::{Kind, TypeRef};
use crate::variables::{Storage, Variable};
use vmcore_format::addr::VirtAddr;

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
}

/// Follows registers back in one frame.
pub(super) struct Tracker<'c, 'a> {
    target: &'c Target<'a>,
    frames: &'c [NamedFrame],
    at: usize,
    /// The instructions of the function up to the program counter.
    code: Vec<Instruction>,
}

impl<'c, 'a> Tracker<'c, 'a> {
    pub(super) fn new(target: &'c Target<'a>, frames: &'c [NamedFrame], at: usize) -> Self {
        let pc = frames.get(at).map_or(VirtAddr(0), |frame| frame.frame.pc);
        let start = target.function_around(pc).map(|(start, _)| start);
        let len = start.map(|start| pc.0.wrapping_sub(start.0));
        let code = match (start, len) {
            (Some(start), Some(len)) if len > 0 && len <= MAX_FUNCTION => {
                target.instructions_of(start, len).list
            }
            _ => Vec::new(),
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
        self.pointer(register, pc, 0)
    }

    fn pointer(&self, register: usize, pc: VirtAddr, loads: usize) -> Option<Origin> {
        let name = *self.machine().names.get(register)?;
        let lists = self.variables_at(pc);
        let held = |variable: &Variable| {
            variable.storage == Some(Storage::Register(name.to_owned()))
                && self.is_pointer(&variable.type_)
        };
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
        if loads >= MAX_LOADS {
            return None;
        }
        let (load, is_straight) = self.load_of(register, pc)?;
        let certainty = match is_straight {
            true => Certainty::Sure,
            false => Certainty::Likely,
        };
        let memory = load.operands.iter().find_map(|operand| match operand {
            Operand::Memory(memory) => Some(memory),
            _ => None,
        })?;
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
        let base = memory.base_number.filter(|number| !is_frame(*number))?;
        let outer = self.pointer(base, load.address, loads + 1)?;
        let offset = u64::try_from(memory.displacement).ok()?;
        let types = self.target.types();
        let (member, type_) = types.pointer_at(&outer.type_, offset)?;
        let mut all = outer.evidence;
        all.push(evidence);
        Some(Origin {
            text: format!("{}->{member}", outer.text),
            type_,
            certainty: certainty.min(outer.certainty),
            evidence: all,
            parameter: None,
            level: outer.level,
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
        matches!(resolved, Ok((_, type_)) if matches!(type_.kind, Kind::Pointer(_)))
    }

    /// The last instruction before `pc` that writes a register, if it is a load; and whether nothing
    /// between the two jumps, or is jumped to.
    fn load_of(&self, register: usize, pc: VirtAddr) -> Option<(&Instruction, bool)> {
        let before = self.code.iter().rev();
        let mut is_straight = true;
        for one in before.filter(|one| one.address < pc) {
            if self.writes(one, register) {
                let is_target = |other: &Instruction| {
                    let to = other.refers_to.as_ref().map(|to| to.address);
                    other.flow == Flow::Jump && to.is_some_and(|to| to > one.address && to <= pc)
                };
                is_straight &= !self.code.iter().any(is_target);
                let is_load = one
                    .operands
                    .iter()
                    .any(|operand| matches!(operand, Operand::Memory(_)));
                return (is_load && is_load_name(&one.text)).then_some((one, is_straight));
            }
            match one.flow {
                Flow::Next => {}
                // What is after a call has only the registers that it leaves alone.
                Flow::Call if self.machine().callee_saved.contains(&register) => {}
                Flow::Call | Flow::Return => return None,
                Flow::Jump => is_straight = false,
            }
        }
        None
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

/// Whether an instruction only copies memory to a register.
fn is_load_name(text: &str) -> bool {
    let name = text.split_whitespace().next().unwrap_or_default();
    [
        "mov", "ldr", "ld", "lw", "lwz", "ldx", "ldur", "c.ld", "c.ldsp",
    ]
    .contains(&name)
        || ["movq", "movl"].contains(&name)
}

/// The only variable of which something is true.
fn only(lists: &[Vec<Variable>], is_it: impl Fn(&Variable) -> bool) -> Option<(usize, &Variable)> {
    let all = lists.iter().enumerate();
    let mut found = all.flat_map(|(level, list)| list.iter().map(move |one| (level, one)));
    // A parameter of an inlined function is often one of the function around it: the innermost counts.
    found.find(|(_, variable)| is_it(variable))
}
