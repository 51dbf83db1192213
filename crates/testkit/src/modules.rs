//! A module, compiled and loaded.

use crate::kernel::TestKernel;
use object::{Object as _, ObjectSection as _, SectionFlags};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the module is loaded.
pub const ADDRESS: u64 = 0xffff_ffff_8300_0000;

/// Compiles `flow.c` and loads it by hand: sections in the order of the file, notes left out.
/// Returns the address of its `.text`.
pub fn load(kernel: &mut TestKernel, file: &Path) -> u64 {
    load_source(kernel, "flow.c", file)
}

/// The same of another source.
pub fn load_source(kernel: &mut TestKernel, source: &str, file: &Path) -> u64 {
    load_with(kernel, source, &[], file)
}

/// The same, compiled with more flags.
pub fn load_with(kernel: &mut TestKernel, source: &str, flags: &[&str], file: &Path) -> u64 {
    let status = Command::new("gcc")
        .args([
            "-c",
            "-g",
            "-O1",
            "-ffreestanding",
            "-mcmodel=kernel",
            "-fno-pic",
        ])
        .args(flags)
        .args(["-fno-stack-protector", "-o"])
        .args([file, &crate::source(source)])
        .status();
    assert!(status.unwrap().success());
    let bytes = fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let (mut at, mut text) = (ADDRESS, 0);
    for section in elf.sections() {
        let SectionFlags::Elf {
            sh_flags, sh_type, ..
        } = section.flags()
        else {
            panic!("no ELF section");
        };
        // Allocated; contents, zeros or unwind tables.
        if sh_flags.0 & 2 == 0 || section.size() == 0 || !matches!(sh_type.0, 1 | 8 | 0x7000_0001) {
            continue;
        }
        at = at.next_multiple_of(section.align());
        if section.name() == Ok(".text") {
            text = at;
        }
        kernel.write(at, section.data().unwrap());
        at += section.size();
    }
    let address_at = kernel.address("module_entry") + 64;
    kernel.write_words(address_at, &[ADDRESS, at - ADDRESS]);
    text
}
