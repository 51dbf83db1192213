//! What has an address that a panic message names: the variable of a stack, from the frame at fault
//! outward to the caller that first had it; else what is there.

use super::access::address_of;
use super::origin::Tracker;
use super::{Reason, Scene, words_of_place};
use crate::instructions::Operand;
use crate::lines::SourcePlace;
use crate::report::base_name;
use crate::types::TypeRef;
use crate::variables;
use crate::whatis::{self, Fact};
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;

/// Frames that are looked at, outward from the one at fault.
const MAX_FRAMES: usize = 8;

/// What has an address.
pub(super) struct Held {
    /// The variables, from the frame at fault outward.
    variables: Vec<Variable>,
    /// What is at the address, where no variable has it.
    what: String,
}

/// A variable with an address, or with that of a structure in which the address is.
pub(super) struct Variable {
    name: String,
    /// Its type, a pointer.
    type_: TypeRef,
    /// The member at the address: `cr_ref`.
    member: Option<String>,
    /// Its function and line.
    place: String,
}

/// What has an address in the functions for which `counts` is true.
pub(super) fn find(scene: &Scene<'_, '_>, address: u64, counts: impl Fn(&str) -> bool) -> Held {
    let from = scene.culprit.at;
    let frames = from..scene.frames.len().min(from.saturating_add(MAX_FRAMES));
    let mut variables: Vec<Variable> = frames
        .flat_map(|at| in_frame(scene, at, address, &counts))
        .collect();
    if variables.is_empty() {
        variables.extend(passed_to_panic(scene, &counts));
    }
    if variables.is_empty() {
        variables.extend(spilled(scene, address, &counts));
    }
    let what = match variables.is_empty() {
        false => String::new(),
        true => {
            let facts = whatis::at(scene.target, scene.list, VirtAddr(address));
            let is_telling = |fact: &&Fact| matches!(fact, Fact::Symbol { .. } | Fact::Memory(_));
            let fact = facts.iter().find(is_telling);
            fact.map_or_else(String::new, |fact| format!(" ({fact})"))
        }
    };
    Held { variables, what }
}

impl Held {
    /// As the subject of a sentence.
    pub(super) fn subject(&self) -> String {
        match self.variables.first() {
            Some(first) => format!("`{}`", first.text()),
            None => format!("what the panic message names{}", self.what),
        }
    }

    /// Bytes of what the variable points to.
    pub(super) fn size(&self, scene: &Scene<'_, '_>) -> Option<u64> {
        let types = scene.target.types();
        types
            .size_of(&types.pointee(&self.variables.first()?.type_)?)
            .ok()
    }

    /// Adds the variable to a reason, with the way that it came.
    pub(super) fn complete(&self, mut reason: Reason, address: u64) -> Reason {
        let lines = self.variables.iter().map(|one| {
            let text = one.text();
            format!("`{text}` in {} leads to {address:#x}", one.place)
        });
        reason.evidence.extend(lines);
        let first = self.variables.first();
        Reason {
            variable: first.map(|first| first.name.clone()),
            member: first.and_then(|first| first.member.clone()),
            ..reason
        }
    }
}

impl Variable {
    /// One that has the address itself.
    pub(super) fn plain(variable: &variables::Variable, place: &SourcePlace) -> Self {
        Self {
            name: variable.name.clone(),
            type_: variable.type_.clone(),
            member: None,
            place: words_of_place(place),
        }
    }

    /// As an expression for the value itself: `ep`, `cr->cr_ref`.
    fn text(&self) -> String {
        match &self.member {
            Some(member) => format!("{}->{member}", self.name),
            None => self.name.clone(),
        }
    }
}

fn in_frame(
    scene: &Scene<'_, '_>,
    at: usize,
    address: u64,
    counts: impl Fn(&str) -> bool,
) -> Vec<Variable> {
    let target = scene.target;
    let evaluator = target.evaluator();
    let lists = target.variables(scene.frames, at);
    let places = scene.frames.get(at).map(|frame| &frame.places);
    let functions = lists.iter().zip(places.into_iter().flatten());
    let functions = functions.filter(|(_, place)| counts(&place.function));
    let found = functions.filter_map(|(list, place)| {
        list.iter().find_map(|variable| {
            let value = variable.value.as_ref().ok()?;
            let to = target.types().pointee(&variable.type_)?;
            let pointer = evaluator.load(value).ok()?;
            let pointer = target.machine().cut(u64::try_from(pointer).ok()?);
            let size = target.types().size_of(&to).unwrap_or(0);
            let offset = address.checked_sub(pointer)?;
            if offset != 0 && offset >= size {
                return None;
            }
            Some(Variable {
                name: variable.name.clone(),
                member: match offset {
                    0 => None,
                    offset => target.types().member_at(&variable.type_, offset),
                },
                type_: variable.type_.clone(),
                place: words_of_place(place),
            })
        })
    });
    found.collect()
}

/// The variable at fault that is in the register of the first value that panic prints: what it held is
/// lost after the call, and in the message.
fn passed_to_panic(scene: &Scene<'_, '_>, counts: &dyn Fn(&str) -> bool) -> Option<Variable> {
    let at = scene.culprit.at;
    let callee = scene.frames.get(at.checked_sub(1)?)?;
    let callee = callee.function().map(base_name)?;
    if !["panic", "kassert_panic"].contains(&callee) {
        return None;
    }
    let register = match scene.target.arch() {
        Arch::Amd64 => "rsi",
        Arch::Arm64 => "x1",
        Arch::Arm => "r1",
        Arch::Riscv64 => "a1",
        Arch::Powerpc | Arch::Powerpc64 => "r4",
        _ => return None,
    };
    let tracker = Tracker::new(scene.target, scene.frames, at);
    let call = tracker.in_front_of(scene.frame()?.frame.pc)?;
    let mut names = scene.target.machine().names.iter();
    let register = names.position(|name| *name == register)?;
    let (variable, offset) = tracker.pointer_before(register, call.address, counts)?;
    Some(Variable {
        member: match offset {
            0 => None,
            offset => scene.target.types().member_at(&variable.type_, offset),
        },
        ..variable
    })
}

/// The variable that was in a register when that was stored to the place in the frame at fault that still
/// has the address.
fn spilled(scene: &Scene<'_, '_>, address: u64, counts: &dyn Fn(&str) -> bool) -> Option<Variable> {
    let tracker = Tracker::new(scene.target, scene.frames, scene.culprit.at);
    let frame = &scene.frame()?.frame;
    let machine = scene.target.machine();
    let in_frame = |number: usize| {
        let is_frame = [machine.sp, machine.fp].contains(&number);
        is_frame.then(|| frame.registers.get(number))?
    };
    tracker.code().iter().find_map(|one| {
        let memory = one.operands.iter().find_map(Operand::memory)?;
        let slot = address_of(memory, in_frame)?;
        if word_at(scene, slot.0) != Some(address) {
            return None;
        }
        let stored = one.operands.iter().find_map(|operand| match operand {
            Operand::Register { number, .. } => *number,
            _ => None,
        })?;
        tracker.variable_in(stored, one.address, counts)
    })
}

/// A word of the memory.
pub(super) fn word_at(scene: &Scene<'_, '_>, address: u64) -> Option<u64> {
    scene.target.space().read_word(VirtAddr(address)).ok()
}
