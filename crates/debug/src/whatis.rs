//! What is at an address: a symbol, a module, a process, a thread, its stack, a page.
//!
//! ```no_run
//! use vmcore::format::addr::VirtAddr;
//! use vmcore_debug::{Target, whatis};
//! # fn show(target: &Target<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! let list = vmcore::process::list(target.session())?;
//! for fact in whatis::at(target, &list, VirtAddr(0xffff_f800_02f1_3528)) {
//!     println!("{fact}");
//! }
//! # Ok(())
//! # }
//! ```

use crate::details::Details;
use crate::target::Target;
use crate::types::Tag;
use crate::zones::{self, Allocation, Unknown};
use serde::Serialize;
use std::fmt;
use vmcore::process::ProcessList;
use vmcore_format::addr::{FileOffset, PhysAddr, VirtAddr};

/// Bytes of a structure whose size is not known.
const UNKNOWN_SIZE: u64 = 1;

/// Something that is known of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Fact {
    /// Inside a symbol of the kernel or a module.
    Symbol {
        /// `name+0x10`.
        name: String,
    },
    /// In a module's memory.
    Module {
        /// The module.
        name: String,
        /// Bytes from its start.
        offset: u64,
    },
    /// In a `struct proc`.
    Process {
        /// The process.
        pid: i32,
        /// Its command name.
        comm: String,
        /// Bytes from the start of the structure.
        offset: u64,
        /// The member there, if types tell.
        #[serde(skip_serializing_if = "Option::is_none")]
        member: Option<String>,
    },
    /// In a `struct thread`.
    Thread {
        /// The thread.
        tid: i32,
        /// Bytes from the start of the structure.
        offset: u64,
        /// The member there, if types tell.
        #[serde(skip_serializing_if = "Option::is_none")]
        member: Option<String>,
    },
    /// On the kernel stack of a thread.
    Stack {
        /// The thread.
        tid: i32,
        /// Bytes below the top of the stack.
        below_top: u64,
    },
    /// In memory of the zone allocator.
    Memory(Allocation),
    /// In memory that may be the allocator's, but what is needed to tell is missing.
    Untold {
        /// What cannot be told, and why.
        reason: String,
    },
    /// In memory that is mapped.
    Mapped {
        /// Where to.
        physical: PhysAddr,
        /// Where in the dump.
        #[serde(skip_serializing_if = "Option::is_none")]
        file_offset: Option<FileOffset>,
    },
    /// In memory that is not there.
    Missing {
        /// Why.
        reason: String,
    },
}

/// Everything that is known of an address, the most telling first.
#[must_use]
pub fn at(target: &Target<'_>, list: &ProcessList, address: VirtAddr) -> Vec<Fact> {
    let mut facts = Vec::new();
    facts.extend(target.name_at(address).map(|name| Fact::Symbol { name }));
    for file in target.files().modules() {
        if file.range().contains(&address.0) {
            facts.push(Fact::Module {
                name: file.module.name.clone(),
                offset: address.0 - file.range().start,
            });
        }
    }
    let size = |name: &str| {
        let type_ = target.types().find(Tag::Struct, name);
        let size = type_.and_then(|type_| target.types().size_of(&type_).ok());
        size.unwrap_or(UNKNOWN_SIZE)
    };
    let (proc_size, thread_size) = (size("proc"), size("thread"));
    let inside = |start: VirtAddr, len: u64| {
        let offset = address.checked_sub(start)?;
        (start.0 != 0 && offset < len).then_some(offset)
    };
    let details = Details::of(target);
    for process in &list.processes {
        if let Some(offset) = inside(process.address, proc_size) {
            facts.push(Fact::Process {
                pid: process.pid,
                comm: String::from_utf8_lossy(&process.comm).into_owned(),
                offset,
                member: target.member_at("proc", offset),
            });
        }
        for thread in &process.threads {
            if let Some(offset) = inside(thread.address, thread_size) {
                facts.push(Fact::Thread {
                    tid: thread.tid,
                    offset,
                    member: target.member_at("thread", offset),
                });
            }
            if let Some((start, len)) = details.thread(thread).stack
                && let Some(offset) = inside(start, len)
            {
                facts.push(Fact::Stack {
                    tid: thread.tid,
                    below_top: len - offset,
                });
            }
        }
    }
    // What has a name is in no zone.
    if !facts
        .iter()
        .any(|fact| matches!(fact, Fact::Symbol { .. } | Fact::Module { .. }))
    {
        facts.extend(memory(target, address));
    }
    facts.push(match target.space().locate(address) {
        Ok((found, offset)) => Fact::Mapped {
            physical: found.leaf.pa,
            file_offset: Some(offset),
        },
        Err(vmcore::translation::TranslationError::PageAbsent { pa, .. }) => Fact::Mapped {
            physical: pa,
            file_offset: None,
        },
        Err(fault) => Fact::Missing {
            reason: fault.to_string(),
        },
    });
    facts
}

/// The item of a zone that an address is in.
fn memory(target: &Target<'_>, address: VirtAddr) -> Option<Fact> {
    let untold = |reason: &str| {
        Some(Fact::Untold {
            reason: reason.to_owned(),
        })
    };
    match zones::find(target, address) {
        Ok(found) => found.map(Fact::Memory),
        // Nothing is to be told of what is not mapped.
        Err(_) if target.physical(address).is_none() => None,
        Err(Unknown::NoTypes) => {
            untold("its zone: the kernel file has no types (try kernel.debug)")
        }
        Err(Unknown::NoZones) => {
            untold("its zone: the kernel has no uma_kegs, or no types of them")
        }
    }
}

impl Target<'_> {
    /// Where an address is mapped to, whether or not that page is in the dump.
    pub(crate) fn physical(&self, address: VirtAddr) -> Option<PhysAddr> {
        match self.space.locate(address) {
            Ok((found, _)) => Some(found.leaf.pa),
            Err(vmcore::translation::TranslationError::PageAbsent { pa, .. }) => Some(pa),
            Err(_) => None,
        }
    }

    /// The member of a structure that covers a byte.
    fn member_at(&self, structure: &str, offset: u64) -> Option<String> {
        use crate::types::TypeKind;
        let type_ = self.types.find(Tag::Struct, structure)?;
        let (_, read) = self.types.resolve(&type_).ok()?;
        let TypeKind::Struct(members) = &read.kind else {
            return None;
        };
        let before = members
            .iter()
            .filter(|member| member.bit_offset / 8 <= offset);
        let member = before.max_by_key(|member| member.bit_offset)?;
        member.name.clone()
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dotted = |member: &Option<String>| match member {
            Some(member) => format!(", in {member}"),
            None => String::new(),
        };
        match self {
            Self::Symbol { name } => write!(f, "symbol {name}"),
            Self::Module { name, offset } => write!(f, "module {name}+{offset:#x}"),
            Self::Process {
                pid,
                comm,
                offset,
                member,
            } => write!(
                f,
                "struct proc of {pid} ({comm})+{offset:#x}{}",
                dotted(member)
            ),
            Self::Thread {
                tid,
                offset,
                member,
            } => write!(f, "struct thread of {tid}+{offset:#x}{}", dotted(member)),
            Self::Stack { tid, below_top } => {
                write!(f, "kernel stack of {tid}, {below_top:#x} below its top")
            }
            Self::Memory(found) => write!(f, "{found}"),
            Self::Untold { reason } => write!(f, "unknown: {reason}"),
            Self::Mapped {
                physical,
                file_offset: Some(offset),
            } => write!(f, "mapped to physical {physical}, at file offset {offset}"),
            Self::Mapped { physical, .. } => {
                write!(f, "mapped to physical {physical}, which is not in the dump")
            }
            Self::Missing { reason } => write!(f, "{reason}"),
        }
    }
}
