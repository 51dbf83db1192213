//! Expressions over kernel memory, in the words of C: `allproc.lh_first->p_pid`,
//! `*(struct proc *)0xfffff80002f13528`, `sizeof(struct thread)`, `cc_cpu[3].cc_lock`.
//!
//! Variables come from the symbols and their types, enumerators are numbers. A dot and an arrow
//! both reach through pointers. There are no assignments and no calls: nothing is changed.
//!
//! ```no_run
//! use vmcore_debug::Target;
//! # fn show(target: &Target<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! let value = target.evaluate("allproc.lh_first->p_pid")?;
//! println!("{}", target.print(&value, &Default::default()));
//! # Ok(())
//! # }
//! ```

mod eval;
mod parse;

pub(crate) use eval::member_value;
pub use eval::{Evaluator, Location, Pieces, SymbolSource, Value};
pub use parse::{Expr, TypeName, parse};

use crate::types::TypeError;
use serde::Serialize;
use thiserror::Error;
use vmcore::translation::TranslationError;

/// Why a variable, or a part of it, has no value in a frame.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "missing", content = "reason")]
#[non_exhaustive]
pub enum NoValue {
    /// The compiler kept it nowhere at this program counter.
    #[error("optimized out")]
    OptimizedOut,
    /// It is in memory that the dump lacks.
    #[error("not in the dump: {0}")]
    NotInDump(String),
    /// It was in a register whose contents are lost in this frame.
    #[error("needs register {0}, which is lost in this frame")]
    NeedsRegister(String),
    /// A pointer to an object that has no address: the compiler kept only its value.
    #[error("synthetic pointer")]
    Synthetic,
    /// The debug information says it in a way that is not understood, or is damaged.
    #[error("unknown location: {0}")]
    Unknown(String),
}

/// Why an expression has no value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// It is not an expression.
    #[error("at character {}: {reason}", at + 1)]
    Syntax {
        /// Bytes from the start.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A name that nothing has.
    #[error("there is no {what} {name}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A variable whose type is not known.
    #[error("the type of {name} is not known: cast its address, such as *(int *)&{name}")]
    Untyped {
        /// The variable.
        name: String,
    },
    /// No such member.
    #[error("{type_} has no member {member}")]
    NoMember {
        /// The type.
        type_: String,
        /// The name.
        member: String,
    },
    /// A variant that the value is not.
    #[error("the value is not {asked}, but {}", present.as_deref().unwrap_or("none of the variants known"))]
    OtherVariant {
        /// What was asked for.
        asked: String,
        /// Which one it is.
        present: Option<String>,
    },
    /// An operation that the type does not have.
    #[error("{type_} {reason}")]
    Unfit {
        /// The type.
        type_: String,
        /// What cannot be done with it.
        reason: &'static str,
    },
    /// Division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A variable of a frame that has none there.
    #[error(transparent)]
    NoValue(#[from] NoValue),
    /// Memory that is not there.
    #[error(transparent)]
    Unreadable(#[from] TranslationError),
    /// Debug information that is damaged or lacks something.
    #[error(transparent)]
    Type(#[from] TypeError),
}
