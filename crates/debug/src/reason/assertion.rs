//! A check of the kernel that failed: the variables that its words name, with their values.

use super::{Reason, ReasonKind, Scene, place_of};
use crate::show::Options;
use crate::types::{TypeKind, TypeRef};
use crate::variables::Variable;

/// Names of a message that are looked up.
const MAX_NAMES: usize = 64;
/// Frames in which they are looked for: the compiler may have kept a variable in the caller alone.
const MAX_FRAMES: usize = 3;

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    let message = scene.message?;
    let first = message.lines().next()?;
    let at = scene.culprit.at;
    let names = names(first);
    let named = (at..at.saturating_add(MAX_FRAMES)).find_map(|at| {
        let lists = scene.target.variables(scene.frames, at);
        let list = lists.first()?;
        let names = names.iter().take(MAX_NAMES);
        let found = names.filter_map(|name| value_of(scene, at, list, name));
        let found: Vec<(String, String)> = found.collect();
        (!found.is_empty()).then_some(found)
    })?;
    let (text, value) = named.first()?;
    let place = place_of(scene.frame());
    let headline = format!("`{text}` is {value}{place}, and the check there failed");
    let mut reason = scene.reason(ReasonKind::Assertion, at, headline);
    let said = first.split(" @ ").next().unwrap_or(first);
    reason.evidence.push(said.to_owned());
    for (text, value) in named.iter().skip(1) {
        reason.evidence.push(format!("`{text}` is {value}"));
    }
    let (variable, member) = match text.split_once("->").or_else(|| text.split_once('.')) {
        Some((variable, member)) => (variable, Some(member)),
        None => (text.as_str(), None),
    };
    Some(Reason {
        variable: Some(variable.to_owned()),
        member: member.map(str::to_owned),
        ..reason
    })
}

/// The words of a message that may be names in C: an underscore is in those of members, an arrow or a dot
/// between names. A word of English that is also a variable would be a chance.
fn names(message: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_.->".contains(c);
    let words = message.split(|c: char| !is_part(c));
    let words = words.map(|word| word.trim_matches(['.', '-', '>']));
    let is_name = |word: &&str| {
        let starts = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        starts && (word.contains('_') || word.contains("->"))
    };
    let mut names: Vec<&str> = Vec::new();
    for word in words.filter(is_name) {
        if !names.contains(&word) {
            names.push(word);
        }
    }
    names
}

/// A variable of the frame, or a member of what one points to, by name; as an expression, with its value.
fn value_of(
    scene: &Scene<'_, '_>,
    at: usize,
    list: &[Variable],
    name: &str,
) -> Option<(String, String)> {
    let target = scene.target;
    let evaluate = |text: &str| {
        let value = target.evaluate_in(text, scene.frames, at, 0).ok()?;
        let shown = target.print(&value, &Options::BRIEF).to_string();
        (!shown.contains('\n')).then_some(shown)
    };
    let root = name.split(['-', '.']).next()?;
    if list.iter().any(|variable| variable.name == root) {
        return Some((name.to_owned(), evaluate(name)?));
    }
    if name.contains("->") {
        return None;
    }
    // A member that only one variable leads to.
    let mut found = list.iter().filter_map(|variable| {
        let (to, link) = structure_of(scene, &variable.type_)?;
        target.types().member(&to, name).ok()??;
        let text = format!("{}{link}{name}", variable.name);
        let value = evaluate(&text)?;
        Some((text, value))
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// The structure that a variable is, or points to; how its members are reached.
fn structure_of(scene: &Scene<'_, '_>, type_: &TypeRef) -> Option<(TypeRef, &'static str)> {
    let types = scene.target.types();
    let (_, read) = types.resolve(type_).ok()?;
    match &read.kind {
        TypeKind::Struct(_) | TypeKind::Union(_) => Some((type_.clone(), ".")),
        TypeKind::Pointer(to) => {
            let (_, read) = types.resolve(to).ok()?;
            matches!(read.kind, TypeKind::Struct(_) | TypeKind::Union(_))
                .then(|| (to.clone(), "->"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_are_told_from_words() {
        assert_eq!(
            names("Assertion sb_ccc == sum of mbufs failed: cc 4096 != 2648"),
            ["sb_ccc"]
        );
        assert_eq!(
            names("Assertion m->m_len > 0 && so->so_rcv.sb_mb failed at a.c:1."),
            ["m->m_len", "so->so_rcv.sb_mb"]
        );
        assert_eq!(names("ffs_valloc: dup alloc"), ["ffs_valloc"]);
    }
}
