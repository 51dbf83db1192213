//! A panic of Rust code: a check of the language or its libraries, or of the code itself. Its words are in
//! the log.

use super::{Reason, ReasonKind, Scene, base_name, place_of};
use crate::report::functions::{is_of_library, is_panic_handler};

/// Lines of the log, from the end, in which the words are looked for.
const MAX_LINES: usize = 200;

pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Reason> {
    // Kernels that keep their message say more themselves.
    if scene.target.symbols.find("panicstr").is_some() {
        return None;
    }
    let at = scene.culprit.at;
    let inner = scene.frames.get(..at)?;
    let mut functions = inner.iter().filter_map(|frame| frame.function());
    functions.find(|name| is_panic_handler(name))?;
    let words = words(scene)?;
    let place = place_of(scene.frame());
    let headline = format!("the code panicked{place}: {words}");
    let mut reason = scene.reason(ReasonKind::Assertion, at, headline);
    // The library's function that found it: `Option<T>::expect`.
    let by = scene.frame()?.places.iter();
    let by = by.take_while(|place| is_of_library(&place.function)).last();
    if let Some(by) = by {
        let name = base_name(&by.function);
        reason.evidence.push(format!("{name} found it"));
    }
    Some(reason)
}

/// What was said: after the line that tells where, in older kernels before it.
fn words(scene: &Scene<'_, '_>) -> Option<String> {
    let said = |lines: &mut dyn Iterator<Item = &str>| {
        let mut last = None;
        while let Some(line) = lines.next() {
            if let Some((_, rest)) = line.split_once("panicked at ") {
                // `panicked at 'words', file:line:column` until Rust 1.72.
                let quoted = rest
                    .strip_prefix('\'')
                    .and_then(|rest| rest.split_once('\''));
                last = match quoted {
                    Some((words, _)) => Some(words.to_owned()),
                    None => lines.next().map(|words| words.trim().to_owned()),
                };
            }
        }
        last.filter(|words| !words.is_empty())
    };
    let skipped = scene.log.len().saturating_sub(MAX_LINES);
    let mut log = scene.log.iter().skip(skipped).map(String::as_str);
    said(&mut log)
}
