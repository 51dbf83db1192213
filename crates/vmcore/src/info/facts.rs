//! What all sources together say about the crash: those around the dump, its identity block, the
//! kernel's memory.

use super::identity;
use crate::around::{
    Surroundings, add, duration, first_line, from_header, from_info_file, from_log,
};
use crate::message_buffer::Log;
use crate::session::Session;
use crate::source::utc;

/// The longest string that is taken from the kernel's memory.
const STRING_MAX: usize = 1024;

pub(crate) fn gather(session: &Session, log: Option<&Log>) -> Surroundings {
    let mut facts = Surroundings::default();
    let dump = session.dump();
    if let Some(identity) = dump.identity() {
        let seconds = u64::try_from(identity.time_seconds).ok();
        let time = seconds.filter(|seconds| *seconds > 0).map(utc);
        add(&mut facts.crashed, identity::SOURCE, time);
        let uptime = identity.uptime_us / 1_000_000;
        let uptime = (identity.uptime_us > 0).then(|| duration(uptime));
        add(&mut facts.uptime, identity::SOURCE, uptime);
    }
    if let Some(header) = dump.device_header() {
        from_header(&mut facts, header);
    }
    from_info_file(&mut facts, dump.path());
    if let Some(log) = log {
        from_log(&mut facts, log);
    }
    from_memory(&mut facts, session);
    facts
}

/// Variables of the kernel, where a matching kernel file says where they are.
fn from_memory(facts: &mut Surroundings, session: &Session) {
    let Ok(space) = session.space() else {
        return;
    };
    let source = "kernel memory";
    let address = |name: &str| session.symbol(name).ok().map(|symbol| symbol.address);
    let string = |va| {
        let text = space.read_string(va, STRING_MAX).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    // `time_t` is as wide as a word: 32 bits on i386, 64 elsewhere.
    let seconds = |name: &str| {
        let value = space.read_word(address(name)?).ok()?;
        (value != 0).then_some(value)
    };
    let panicstr = address("panicstr").and_then(|va| space.read_pointer(va).ok());
    add(
        &mut facts.panic,
        source,
        panicstr.filter(|va| va.0 != 0).and_then(string),
    );
    add(
        &mut facts.version,
        source,
        address("version").and_then(string).map(first_line),
    );
    add(&mut facts.crashed, source, seconds("time_second").map(utc));
    add(
        &mut facts.uptime,
        source,
        seconds("time_uptime").map(duration),
    );
}
