//! Advice where memory cannot be read, and the words for the holes in an answer.

use super::{Advice, opening};
use crate::context::Context;
use crate::outcome::Failure;
use std::fmt;
use std::path::Path;
use vmcore::memory::PageReadError;
use vmcore::translation::TranslationError;

impl Advice for TranslationError {
    fn advice(&self, context: &Context) -> Failure {
        let translate = |va: &dyn fmt::Display| context.suggest(&format!("translate {va}"));
        match self {
            TranslationError::NotMapped {
                va,
                entry,
                table,
                index,
                raw,
                ..
            } => Failure::new(format!("{va} is not mapped"))
                .line(format!("{entry} {index} of {table} is {raw:#x}, not valid"))
                .next(translate(va)),
            TranslationError::TableAbsent {
                va,
                entry,
                table,
                reason,
            } => Failure::new(format!(
                "{va} cannot be translated: its page table is not there"
            ))
            .line(format!("{entry} level, {table}: {reason}"))
            .next(if self.is_loss() {
                context.suggest("verify")
            } else {
                translate(va)
            }),
            TranslationError::PageAbsent {
                va,
                reason: reason @ PageReadError::Truncated { .. },
                ..
            } => Failure::new(format!("{va} is lost: the file ends before it"))
                .line(reason.to_string())
                .next(format!(
                    "{}; copy the file again",
                    context.suggest("verify")
                )),
            TranslationError::PageAbsent { va, reason, .. } if reason.is_loss() => {
                Failure::new(format!("{va} is lost"))
                    .line(reason.to_string())
                    .next(context.suggest("verify"))
            }
            TranslationError::PageAbsent { va, reason, .. } => {
                Failure::new(format!("{va} is not in the dump"))
                    .line(reason.to_string())
                    .next(translate(va))
            }
            TranslationError::NoWindow { va } | TranslationError::Outside { va } => {
                let failure = Failure::new(format!("{va} is not a kernel address of this dump"));
                let failure = match self {
                    TranslationError::Outside { .. } => {
                        failure.line("it is past the end of the kernel map")
                    }
                    _ => failure.line(
                        "user space, or a part of the address space that dumps do not describe",
                    ),
                };
                failure.next(context.suggest("info"))
            }
            other => Failure::new(other.to_string()).next(context.suggest("verify")),
        }
    }
}

impl Advice for PageReadError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            PageReadError::Truncated { pa, .. } => {
                Failure::new(format!("physical {pa} is lost: the file ends before it"))
                    .line(self.to_string())
                    .next(format!(
                        "{}; copy the file again",
                        context.suggest("verify")
                    ))
            }
            PageReadError::SectionTruncated { section } => opening::truncated(
                context.dump().unwrap_or(Path::new("the dump")),
                *section,
                None,
            ),
            PageReadError::NotDumped { pa } | PageReadError::NotRam { pa } => {
                Failure::new(format!("physical {pa} is not in the dump"))
                    .line(self.to_string())
                    .next(context.suggest("map"))
            }
            PageReadError::Lost { pa, .. } => Failure::new(format!("physical {pa} is lost"))
                .line(self.to_string())
                .next(context.suggest("verify")),
            other => Failure::new(format!("the dump cannot be read: {other}"))
                .next(context.suggest("verify")),
        }
    }
}

/// The key and the words for a hole, without its address.
pub(crate) fn hole(error: &TranslationError) -> (&'static str, &'static str) {
    match error {
        TranslationError::NoWindow { .. } => ("no_window", "no address of this kernel"),
        TranslationError::Outside { .. } => ("outside", "past the end of the kernel map"),
        TranslationError::NotMapped { .. } => ("not_mapped", "not mapped"),
        TranslationError::TableAbsent {
            reason: PageReadError::Truncated { .. } | PageReadError::SectionTruncated { .. },
            ..
        } => (
            "table_truncated",
            "page table lost: the file ends before it",
        ),
        TranslationError::TableAbsent {
            reason: PageReadError::Lost { .. },
            ..
        } => ("table_lost", "page table lost: its writer left it out"),
        TranslationError::TableAbsent {
            reason: PageReadError::Damaged { .. },
            ..
        } => (
            "table_damaged",
            "page table lost: the compressed file is damaged there",
        ),
        TranslationError::TableAbsent { .. } => ("table_absent", "page table not in the dump"),
        TranslationError::PageAbsent { reason, .. } => absence_of(reason),
        _ => ("other", "unreadable"),
    }
}

/// The key and the words for physical memory that is not there.
pub(crate) fn absence_of(reason: &PageReadError) -> (&'static str, &'static str) {
    match reason {
        PageReadError::NotRam { .. } => ("not_ram", "not RAM (a hole or device memory)"),
        PageReadError::NotDumped { .. } => {
            ("not_dumped", "not in the dump (free, user or no-dump)")
        }
        PageReadError::Truncated { .. } => ("truncated", "lost: the file ends before it"),
        PageReadError::SectionTruncated { .. } => {
            ("section_truncated", "lost: the bitmap is truncated")
        }
        PageReadError::Lost { .. } => ("lost", "lost: its writer left it out"),
        PageReadError::Damaged { .. } => ("damaged", "lost: the compressed file is damaged here"),
        PageReadError::Io { .. } => ("io_error", "the file cannot be read here"),
        _ => ("other", "unreadable"),
    }
}
