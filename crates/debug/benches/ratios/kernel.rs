//! A kernel with as much debug information as a real one has: many units, and in each of them the
//! same hundreds of structures, as headers bring them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use vmcore_testkit::TestKernel;
use vmcore_testkit::kernel::crash;

/// Structures in every unit, and their members.
const STRUCTURES: usize = 400;
const MEMBERS: usize = 16;
/// Functions of a unit.
const FUNCTIONS: usize = 40;
/// Bytes of `.debug_info` and what belongs to it of one such unit, about.
const UNIT_BYTES: usize = 99_000;
/// Where more threads are put.
const THREADS_AT: u64 = 0xffff_ffff_9000_0000;
/// RAM of the machine.
const RAM_END: u64 = 8 << 30;

/// A machine that crashed, with about this much debug information and that many threads.
pub(crate) fn crashed(debug_bytes: usize, threads: u64) -> TestKernel {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = objects(folder.path(), debug_bytes / UNIT_BYTES);
    let mut kernel = TestKernel::compile_with("kernel.c", &["-gdwarf-5"], &objects);
    crash(&mut kernel);
    add_threads(&mut kernel, threads);
    kernel.write_dump_of(RAM_END);
    kernel
}

/// Bytes of the sections with debug information in a kernel file.
pub(crate) fn debug_bytes(kernel: &TestKernel) -> u64 {
    use object::{Object as _, ObjectSection as _};
    let bytes = std::fs::read(&kernel.file).expect("the kernel file");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let is_debug = |name: &str| name.starts_with(".debug_");
    let sections = file.sections();
    sections
        .filter(|section| section.name().is_ok_and(is_debug))
        .map(|section| section.size())
        .sum()
}

fn objects(folder: &Path, units: usize) -> Vec<PathBuf> {
    if units == 0 {
        return Vec::new();
    }
    let mut header = String::new();
    for structure in 0..STRUCTURES {
        let _ = writeln!(header, "struct softc_{structure} {{");
        for member in 0..MEMBERS {
            let _ = match member % 3 {
                0 => writeln!(header, "\tint sc_{structure}_{member};"),
                1 => writeln!(
                    header,
                    "\tstruct softc_{} *sc_{structure}_{member};",
                    structure / 2
                ),
                _ => writeln!(
                    header,
                    "\tunsigned char sc_{structure}_{member}[{}];",
                    member + 1
                ),
            };
        }
        header += "};\n";
    }
    std::fs::write(folder.join("softc.h"), header).expect("room");
    let names: Vec<String> = (0..units).map(|unit| format!("unit{unit}.c")).collect();
    for (unit, name) in names.iter().enumerate() {
        let mut source = "#include \"softc.h\"\n".to_owned();
        for function in 0..FUNCTIONS {
            let structure = (unit + function) % STRUCTURES;
            let _ = writeln!(
                source,
                "int attach_{unit}_{function}(struct softc_{structure} *sc, int flags)\n{{\n\t\
                 for (int i = 0; i < flags; i++)\n\t\tsc->sc_{structure}_0 += i;\n\t\
                 return sc->sc_{structure}_0;\n}}"
            );
        }
        std::fs::write(folder.join(name), source).expect("room");
    }
    let status = Command::new("gcc")
        .current_dir(folder)
        .args([
            "-c",
            "-O1",
            "-gdwarf-5",
            "-fno-eliminate-unused-debug-types",
        ])
        .args([
            "-ffreestanding",
            "-mcmodel=kernel",
            "-fno-pic",
            "-fno-omit-frame-pointer",
        ])
        .args(&names)
        .status()
        .expect("gcc");
    assert!(status.success(), "the units are not compiled");
    let object = |name: &String| folder.join(name).with_extension("o");
    names.iter().map(object).collect()
}

/// Threads like the one that crashed, with the same stack, in the list of its process.
fn add_threads(kernel: &mut TestKernel, threads: u64) {
    let first = kernel.address("shell_thread");
    let size = 0x200;
    let read = |kernel: &TestKernel, at: u64, len: usize| -> Vec<u8> {
        let byte = |at: u64| kernel.pages[&(at & !0xfff)][(at & 0xfff) as usize];
        (at..at + len as u64).map(byte).collect()
    };
    let template = read(kernel, first, size);
    let pcb = kernel.address("dumppcb");
    let mut link = first + 16;
    for number in 0..threads {
        let at = THREADS_AT + number * size as u64;
        kernel.write(at, &template);
        let tid = 200_000 + number as u32;
        kernel.write(at + 32, &tid.to_le_bytes());
        let offset = find_word(&template, kernel.address("pcbs") + 2 * 320);
        kernel.write_words(at + offset, &[pcb]);
        kernel.write_words(link, &[at]);
        link = at + 16;
    }
    kernel.write_words(link, &[0]);
}

fn find_word(bytes: &[u8], word: u64) -> u64 {
    let words = bytes.chunks_exact(8);
    let found = words
        .map(|raw| u64::from_le_bytes(raw.try_into().expect("8 bytes")))
        .position(|found| found == word);
    found.expect("the word is there") as u64 * 8
}
