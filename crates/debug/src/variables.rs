//! Parameters and local variables of a frame, those of inlined functions too.
//!
//! Debug information gives where each variable is at a program counter: in memory, in a register, in
//! pieces of both, as a constant, or computed from the value that a register had when the function
//! was entered, which the caller's call site may tell. Registers are those that were unwound for that
//! very frame; one that is lost makes no value, rather than a wrong one.
//!
//! ```no_run
//! use vmcore_debug::Target;
//! # fn show(target: &Target<'_>, thread: &vmcore::process::Thread) {
//! let stack = target.stack(thread);
//! for function in target.variables(&stack.frames, 0) {
//!     for variable in function {
//!         println!("{} {:?}", variable.name, variable.value);
//!     }
//! }
//! # }
//! ```

mod bits;
mod call_site;
mod locate;
mod scope;

use crate::expr::{EvalError, Evaluator, Location, NoValue, Value};
use crate::show::{Options, Shown};
use crate::stack::NamedFrame;
use crate::target::Target;
use crate::types::TypeRef;
use crate::unwind::Frame;
use locate::Locator;
use scope::Scopes;
use serde::Serialize;

/// Characters of a value in a line.
const MAX_LINE: usize = 80;

/// A parameter or a local variable of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether it is a parameter.
    pub is_parameter: bool,
    /// How many blocks of its function it is in: a variable in a deeper one hides those of its name.
    pub depth: usize,
    /// Its type.
    pub type_: TypeRef,
    /// Its value, or why it has none.
    pub value: Result<Value, NoValue>,
    /// Where the value is.
    pub storage: Option<Storage>,
}

/// Where the value of a variable is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "in", content = "name")]
pub enum Storage {
    /// In memory.
    Memory,
    /// In a register.
    Register(String),
    /// Nowhere: it is a constant, or computed.
    Computed,
    /// It is what the caller passed: a register had it when the function was entered.
    EntryValue,
    /// In several places.
    Pieces,
}

/// A variable for people and machines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownVariable {
    /// Its name.
    pub name: String,
    /// Whether it is a parameter.
    pub is_parameter: bool,
    /// Where its value is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Its value; or its type alone, and why there is no value.
    #[serde(flatten)]
    pub value: ShownValue,
}

/// A value, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ShownValue {
    /// The value.
    Value(Shown),
    /// None.
    Missing {
        /// The name of the type.
        #[serde(rename = "type")]
        type_: String,
        /// Why.
        #[serde(flatten)]
        why: NoValue,
    },
}

impl ShownVariable {
    /// In one line: `name=value`.
    #[must_use]
    pub fn in_line(&self) -> String {
        format!("{}={}", self.name, self.value.in_line())
    }
}

impl ShownValue {
    /// In one line.
    #[must_use]
    pub fn in_line(&self) -> String {
        match self {
            Self::Value(shown) => {
                let text = shown.to_string();
                let lines: Vec<&str> = text.lines().map(str::trim).collect();
                let text = lines.join(" ").replace(", }", "}").replace("{ ", "{");
                match text.char_indices().nth(MAX_LINE) {
                    Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
                    None => text,
                }
            }
            Self::Missing { why, .. } => format!("<{why}>"),
        }
    }
}

impl Target<'_> {
    /// The variables in scope in a frame of a stack: one list for each function at its program counter,
    /// in the order of [`NamedFrame::places`]; parameters first, then variables in the order of their
    /// declaration. Empty without debug information.
    #[must_use]
    pub fn variables(&self, frames: &[NamedFrame], number: usize) -> Vec<Vec<Variable>> {
        let Some(locator) = Locator::new(self, frames, number) else {
            return Vec::new();
        };
        let Ok(scopes) = Scopes::at(&locator.function, locator.address) else {
            return Vec::new();
        };
        let lists = scopes.functions.into_iter();
        lists
            .map(|declared| {
                let list = declared.into_iter();
                list.filter_map(|declared| locator.variable(declared))
                    .collect()
            })
            .collect()
    }

    /// The value of an expression in a frame of a stack, and at one of the functions that are there, the
    /// innermost first. Names are those of its blocks first, then those of its file, its module, the kernel.
    ///
    /// # Errors
    /// Returns an error if it is no expression, or a name, a type or memory is missing.
    pub fn evaluate_in(
        &self,
        expression: &str,
        frames: &[NamedFrame],
        number: usize,
        level: usize,
    ) -> Result<Value, EvalError> {
        let mut lists = self.variables(frames, number);
        let locals = match level < lists.len() {
            true => lists.swap_remove(level),
            false => Vec::new(),
        };
        let evaluator = Evaluator {
            locals: &locals,
            ..self.evaluator()
        };
        evaluator.evaluate(expression)
    }

    /// The variables of a frame, read.
    #[must_use]
    pub fn shown_variables(
        &self,
        frames: &[NamedFrame],
        number: usize,
        options: &Options,
    ) -> Vec<Vec<ShownVariable>> {
        let lists = self.variables(frames, number).into_iter();
        lists
            .map(|list| {
                let list = list.into_iter();
                list.map(|variable| self.shown_variable(variable, options))
                    .collect()
            })
            .collect()
    }

    fn shown_variable(&self, variable: Variable, options: &Options) -> ShownVariable {
        let value = match variable.value {
            Ok(value) if matches!(value.location, Location::Synthetic { .. }) => {
                Err(NoValue::Synthetic)
            }
            other => other,
        };
        ShownVariable {
            value: match value {
                Ok(value) => ShownValue::Value(self.print(&value, options)),
                Err(why) => ShownValue::Missing {
                    type_: self.types.name_of(&variable.type_),
                    why,
                },
            },
            name: variable.name,
            is_parameter: variable.is_parameter,
            storage: variable.storage,
        }
    }
}

impl Frame {
    /// The registers as the frame's function sees them: right after a call that saved them on some
    /// machines, the saved stack pointer still points to the return address.
    pub(crate) fn stack_pointer(
        &self,
        machine: &crate::arch::Machine,
        is_first: bool,
    ) -> Option<u64> {
        let sp = self.registers.get(machine.sp)?;
        let saved = is_first && self.how == crate::unwind::How::Pcb;
        match saved && machine.pushes_return_address() {
            true => Some(sp.wrapping_add(machine.word_bytes())),
            false => Some(sp),
        }
    }
}
