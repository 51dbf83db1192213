//! The signature of a crash: equal for crashes with the same cause, and comparable for ever.
//!
//! Version 1 is the hash of lines: the kind, the template of the panic message, and module and
//! function of the first five frames after the panic, without offsets and inlined functions. Frames that
//! are not code do not count, and every jump to one is a page fault; the functions of a recursion count
//! once, from the alphabetically first.
//!
//! Version 2 is the hash of what the mistake is and of the function of the source in which it was made:
//! the callers, and what a compiler put into what, make no other signature. Without a reason it is the kind
//! and the template with that function.

use super::crash::Crash;
use super::culprit::{self, Culprit};
use super::kind::CrashKind;
use super::recursion;
use crate::reason::{Reason, source_function};
use crate::stack::NamedFrame;
use crate::target::Target;
use crate::unwind::Doubt;
use serde::Serialize;
use vmcore_format::addr::VirtAddr;

/// Frames that count.
const FRAMES: usize = 5;

/// A signature and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// `v1:` and 12 hexadecimal digits.
    pub text: String,
    /// `v2:` and 12 hexadecimal digits.
    pub v2: String,
    /// What kind of crash.
    pub kind: CrashKind,
    /// The panic message without what differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The module of the first frame; `kernel` for the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The frames that count, without offsets.
    pub functions: Vec<String>,
    /// Build id of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The same frames without symbols, to be looked up later.
    pub addresses: Vec<CodePlace>,
}

/// An address in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodePlace {
    /// The module, or `kernel`.
    pub module: String,
    /// Bytes from where it was loaded; for the kernel, from the start of its first section.
    pub offset: u64,
}

/// The signature of a crash on this stack.
pub(super) fn of(
    target: &Target<'_>,
    crash: &Crash,
    frames: &[NamedFrame],
    culprit: Option<Culprit>,
    reason: Option<&Reason>,
) -> Signature {
    let from = culprit.map_or(0, |found| found.at);
    let (mut functions, mut addresses) = (Vec::new(), Vec::new());
    for frame in counting(frames.get(from..).unwrap_or_default()) {
        let place = place(target, frame.frame.pc);
        let name = frame.frame.name.as_deref().map(culprit::base_name);
        functions.push(match name {
            Some(name) => name.to_owned(),
            None => format!("{}+{:#x}", place.module, place.offset),
        });
        addresses.push(place);
    }
    let build_id = target.session().build_ids().and_then(|ids| ids.certain());
    let mut signature = Signature {
        text: String::new(),
        v2: String::new(),
        kind: match crash.is_wild_jump {
            true => CrashKind::PageFault,
            false => crash.kind,
        },
        template: crash.template.clone(),
        module: addresses.first().map(|place| place.module.clone()),
        functions,
        build_id: build_id.map(|id| id.to_string()),
        addresses,
    };
    signature.text = signature.hash();
    let inner = frames.get(from).and_then(source_function);
    let inner = inner.map(culprit::base_name);
    signature.v2 = match reason {
        Some(reason) => v2_of(reason),
        None => signature.v2_without_reason(inner),
    };
    signature
}

/// The signature of a crash whose reason is known.
#[must_use]
pub fn v2_of(reason: &Reason) -> String {
    let module = reason.module.as_deref().unwrap_or("kernel");
    let function = reason.function.as_deref().unwrap_or_default();
    hashed("v2", &[&format!("{:?}", reason.kind), module, function])
}

/// A version and the hash of lines.
fn hashed(version: &str, lines: &[&str]) -> String {
    let hash = xxhash_rust::xxh3::xxh3_64(lines.join("\n").as_bytes());
    format!("{version}:{:012x}", hash >> 16)
}

/// The frames that count.
fn counting(frames: &[NamedFrame]) -> Vec<&NamedFrame> {
    let mut counting = Vec::new();
    for part in recursion::fold(frames) {
        let round = frames.get(part.start..part.start + part.shown);
        let mut round: Vec<&NamedFrame> = round.unwrap_or_default().iter().collect();
        if part.len > part.shown {
            // Where in the round the stack ended is chance.
            let first = (0..round.len()).min_by_key(|at| round.get(*at).and_then(|f| f.function()));
            round.rotate_left(first.unwrap_or(0));
        }
        counting.extend(round);
    }
    counting.retain(|frame| frame.frame.doubt != Some(Doubt::NotCode));
    counting.truncate(FRAMES);
    counting
}

fn place(target: &Target<'_>, pc: VirtAddr) -> CodePlace {
    let module = target.loaded(pc).and_then(|loaded| loaded.module);
    match module {
        Some(module) => CodePlace {
            module: module.module.name.clone(),
            offset: pc.0 - module.range().start,
        },
        None => {
            let start = target
                .files()
                .kernel()
                .extent()
                .map_or(0, |range| range.start);
            CodePlace {
                module: "kernel".to_owned(),
                offset: pc.0.wrapping_sub(start),
            }
        }
    }
}

impl Signature {
    fn hash(&self) -> String {
        let kind = format!("{:?}", self.kind);
        let places = self.functions.iter().zip(&self.addresses);
        let places: Vec<String> = places
            .map(|(function, place)| format!("{} {function}", place.module))
            .collect();
        let mut lines = vec![&*kind, self.template.as_deref().unwrap_or_default()];
        lines.extend(places.iter().map(String::as_str));
        hashed("v1", &lines)
    }

    fn v2_without_reason(&self, inner: Option<&str>) -> String {
        let function = inner.or(self.functions.first().map(String::as_str));
        hashed(
            "v2",
            &[
                &format!("{:?}", self.kind),
                self.template.as_deref().unwrap_or_default(),
                self.module.as_deref().unwrap_or_default(),
                function.unwrap_or_default(),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_of_a_reason_stays_for_ever() {
        let reason = |function: &str| Reason {
            kind: crate::reason::ReasonKind::NullPointer,
            headline: String::new(),
            bad: None,
            variable: None,
            member: None,
            certainty: None,
            function: Some(function.to_owned()),
            module: None,
            evidence: Vec::new(),
        };
        assert_eq!(v2_of(&reason("ether_output")), "v2:f3b60d16d6ba");
        assert_ne!(v2_of(&reason("ip_input")), v2_of(&reason("ether_output")));
    }

    #[test]
    fn the_signature_of_a_crash_stays_for_ever() {
        let mut signature = Signature {
            text: String::new(),
            v2: String::new(),
            kind: CrashKind::PageFault,
            template: Some("page fault".to_owned()),
            module: Some("kernel".to_owned()),
            functions: vec!["flow_lookup".to_owned()],
            build_id: None,
            addresses: vec![CodePlace {
                module: "kernel".to_owned(),
                offset: 0x1234,
            }],
        };
        let first = signature.hash();
        // Another build of the same kernel has other addresses.
        signature.addresses[0].offset = 0x5678;
        assert_eq!(signature.hash(), first);
        assert_eq!(first, "v1:8ba2550d5540");
        signature.functions[0] = "flow_insert".to_owned();
        assert_ne!(signature.hash(), first);
    }
}
