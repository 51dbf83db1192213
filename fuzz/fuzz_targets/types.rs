//! An expression and an object file: types, their members and sizes, lines, call frames. The first
//! four bytes of the input say how many bytes the expression has.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::format::addr::VirtAddr;
use vmcore::format::arch::Arch;
use vmcore_debug::expr;
use vmcore_debug::lines::Lines;
use vmcore_debug::object_file::ObjectFile;
use vmcore_debug::types::{Tag, Types};
use vmcore_debug::unwind::CallFrames;
use vmcore_fuzz::input::Input;
use vmcore_fuzz::limit;

/// Names that a kernel has.
const NAMES: [&str; 6] = ["proc", "thread", "pid_t", "allproc", "td_states", "int"];

fuzz_target!(|data: &[u8]| {
    let (expression, file) = Input(data).two_files();
    limit::memory(data.len(), || {
        let file = ObjectFile::from_bytes(file.to_vec(), Arch::Amd64);
        let types = Types::of(&[&file]);
        let is_type = |name: &str| types.find(Tag::Plain, name).is_some();
        let _ = expr::parse(&String::from_utf8_lossy(expression), &is_type);
        for name in NAMES {
            for tag in [Tag::Plain, Tag::Struct, Tag::Enum] {
                let Some(type_) = types.find(tag, name) else {
                    continue;
                };
                let _ = types.name_of(&type_);
                let _ = types.size_of(&type_);
                let _ = types.resolve(&type_);
                let _ = types.member(&type_, "p_list");
            }
            let _ = types.variable(name, None);
            let _ = types.enumerator(name);
            let _ = types.offset_of(name, "p_list.le_next");
        }
        let lines = Lines::of(&file);
        let frames = CallFrames::new(&file);
        let _ = frames.is_empty();
        for range in file.text().into_iter().take(4) {
            for address in [range.start, range.end.wrapping_sub(1)] {
                let _ = lines.at(VirtAddr(address));
            }
        }
    });
});
