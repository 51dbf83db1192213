//! Programs of other architectures, which run in an emulator under gdb and are interrupted: the registers of
//! each place, what gdb says of the variables there, and one dump with the stacks of all places.

use crate::kernel::write;
use crate::source;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;
use vmcore_synth::tables::{Frames, Mapping, Paging, Tree};

/// Where the program is loaded, and from where on the kernel's base the same one is as a kernel.
const NATIVE: u64 = 0x1020_0000;
const IMAGE: u64 = 0x20_0000;
/// Bytes that an image may have.
const IMAGE_LEN: u64 = 0x10_0000;
/// Bytes of stack that are kept of each place, and where the stacks of the dump begin.
const STACK_LEN: u64 = 0x1000;
const STACKS: u64 = 0x40_0000;
/// Where every kernel of powerpc64 is linked, by the header of its dump.
const LINKED_AT: u64 = 0x10_0100;
/// Where RAM starts, and how much the page tables of the dump map.
const RAM: u64 = 0x8000_0000;
const MAPPED: u64 = 0x80_0000;

/// An architecture that is emulated.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its name for clang.
    pub target: &'static str,
    /// gcc for it.
    pub gcc: &'static str,
    /// The emulator.
    pub emulator: &'static str,
    /// More flags of both compilers, and of each.
    flags: &'static [&'static str],
    clang_flags: &'static [&'static str],
    gcc_flags: &'static [&'static str],
    /// What gdb calls the frame pointer: by `fp` it may mean what it found out itself.
    frame_pointer: &'static str,
    arch: Arch,
    /// Where the kernel's addresses begin.
    base: u64,
    /// How far the kernel runs from where it was linked.
    moved_by: u64,
    paging: Option<Paging>,
    version: u32,
    is_big_endian: bool,
}

pub const ARM64: Machine = Machine {
    target: "aarch64-linux-gnu",
    emulator: "qemu-aarch64",
    gcc: "aarch64-linux-gnu-gcc",
    flags: &["-mgeneral-regs-only"],
    clang_flags: &[],
    gcc_flags: &["-mno-outline-atomics"],
    frame_pointer: "x29",
    arch: Arch::Arm64,
    base: 0xffff_0000_0000_0000,
    moved_by: 0,
    paging: Some(Paging::Arm64Page4K),
    version: 3,
    is_big_endian: false,
};

pub const RISCV64: Machine = Machine {
    target: "riscv64-linux-gnu",
    emulator: "qemu-riscv64",
    gcc: "riscv64-linux-gnu-gcc",
    flags: &["-march=rv64imac", "-mabi=lp64", "-mcmodel=medany"],
    clang_flags: &["-mno-relax"],
    gcc_flags: &["-mno-relax"],
    frame_pointer: "s0",
    arch: Arch::Riscv64,
    base: 0xffff_ffc0_0000_0000,
    moved_by: 0,
    paging: Some(Paging::Riscv64),
    version: 2,
    is_big_endian: false,
};

/// Big-endian, in the direct map, which needs no tables.
pub const POWERPC64: Machine = Machine {
    target: "powerpc64-unknown-freebsd14.0",
    emulator: "qemu-ppc64",
    gcc: "powerpc64-linux-gnu-gcc",
    flags: &["-mno-altivec", "-mno-vsx", "-msoft-float"],
    clang_flags: &[],
    gcc_flags: &["-mabi=elfv2", "-mcmodel=medium"],
    frame_pointer: "r31",
    arch: Arch::Powerpc64,
    base: 0xc000_0000_8000_0000,
    moved_by: 0xc << 60,
    paging: None,
    version: 2,
    is_big_endian: true,
};

/// A dump and its kernel, and where they were interrupted.
#[derive(Debug)]
pub struct Foreign {
    pub dir: TempDir,
    pub kernel: PathBuf,
    pub dump: PathBuf,
    pub places: Vec<Place>,
}

/// Where the program was.
#[derive(Debug, Default)]
pub struct Place {
    /// Its registers, by gdb's names.
    pub registers: BTreeMap<String, u64>,
    /// What gdb says: `FRAME FUNCTION VARIABLE` and the value.
    pub values: BTreeMap<String, String>,
    stack: Vec<u8>,
    moves: Moves,
}

/// Where addresses of the program are in the dump.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    /// Start and end of the stack in the program, and its end in the dump.
    stack: (u64, u64, u64),
    /// From the program's image to the kernel's.
    bias: u64,
}

impl Moves {
    const fn apply(&self, word: u64) -> u64 {
        let (start, end, moved_end) = self.stack;
        if word >= start && word <= end {
            word + (moved_end - end)
        } else if word >= NATIVE && word < NATIVE + IMAGE_LEN {
            word.wrapping_add(self.bias)
        } else {
            word
        }
    }
}

impl Place {
    /// Whether a value that gdb read in the program is one of the dump: the same, or an address that was
    /// moved, or bits of one, in memory that nothing has initialised yet. Bits for which the compiler gives
    /// no place gdb shows as zeros.
    ///
    /// Off by little is not the same: only bit-fields, by name, may have any bits of an address.
    pub fn same(&self, name: &str, gdb: &str, here: &str) -> bool {
        let (Ok(gdb), Ok(here)) = (gdb.parse::<i128>(), here.parse::<i128>()) else {
            let unmapped =
                gdb.starts_with("error: Cannot access") && here.contains("is not mapped");
            return unmapped || gdb == "0" && here == "optimized out";
        };
        let [gdb, here] = [gdb, here].map(|value| value.cast_unsigned() as u64);
        let moved = self.moves.apply(gdb);
        // Half of an address is a number of 32 bits, which has a sign here or not. The upper half of one of
        // the program is 0, and that of one of the kernel is the same for all.
        let is_half = |half: u64| half as u32 == here as u32;
        let is_lower = moved != gdb && is_half(moved);
        let is_upper = gdb == 0 && is_half(self.moves.apply(NATIVE) >> 32);
        let is_field = name.contains(" bits.");
        moved == here || gdb == here || is_lower || is_upper || is_field && self.has_bits(gdb, here)
    }

    /// Whether bits of an address of the program became others when it was moved.
    fn has_bits(&self, gdb: u64, here: u64) -> bool {
        let (_, end, moved_end) = self.moves.stack;
        [self.moves.bias, moved_end - end].iter().any(|by| {
            // The lower bits may have carried one.
            let parts = (0..64).flat_map(|shift| [by >> shift, (by >> shift).wrapping_add(1)]);
            let mut sums = parts.map(|part| gdb.wrapping_add(part));
            sums.any(|sum| (sum ^ here) << 32 == 0)
        })
    }
}

/// Runs the functions with variables of every kind and interrupts them so often. `flat` is the function in
/// gdb's Python that gives all values of frames.
pub fn interrupted(
    machine: &Machine,
    compiler: &str,
    flags: &[&str],
    places: usize,
    flat: &str,
    registers: &[&str],
) -> Foreign {
    let dir = tempfile::tempdir().unwrap();
    let [object, rest, native, image, kernel] =
        ["variables.o", "foreign.o", "native", "image", "kernel"].map(|name| dir.path().join(name));
    for (name, to) in [("variables.c", &object), ("foreign.c", &rest)] {
        let mut compile = match compiler {
            "clang" => {
                let mut clang = Command::new("clang");
                clang.arg(format!("--target={}", machine.target));
                clang.args(machine.clang_flags);
                clang
            }
            gcc => {
                let mut gcc = Command::new(gcc);
                gcc.args(machine.gcc_flags);
                gcc
            }
        };
        compile.args(["-c", "-g", "-ffreestanding", "-fno-pic"]);
        compile.args(["-fno-stack-protector", "-fno-optimize-sibling-calls"]);
        compile.args(machine.flags).args(flags);
        run(compile.arg("-o").args([to, &source(name)]));
    }
    let high = machine.base + IMAGE;
    let linked = [
        (NATIVE, &native),
        (high, &image),
        (high - machine.moved_by, &kernel),
    ];
    for (base, to) in linked {
        let mut link = Command::new("ld.lld");
        link.args(["-static", "-e", "native_start", "--build-id"]);
        link.arg(format!("--image-base={base:#x}"));
        run(link.arg("-o").args([to, &object, &rest]));
    }
    if machine.arch == Arch::Powerpc64 && compiler == "clang" {
        name_halves_for_gdb(&native);
    }
    let mut all = record(machine, &native, dir.path(), places, flat, registers);
    let stacks_end = symbol(&native, "stacks") + 3 * 16384;
    let dump = write_dump(machine, &image, dir.path(), &mut all, stacks_end);
    Foreign {
        dir,
        kernel,
        dump,
        places: all,
    }
}

/// LLVM calls the lower half of register N of powerpc64 1200 + N in locations, which gdb takes for a vector
/// register that is not there: `DW_OP_regx` and `DW_OP_bregx` of it, in gdb's file, become those of N.
fn name_halves_for_gdb(file: &Path) {
    use object::{Object as _, ObjectSection as _};
    let mut bytes = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let lists = [".debug_loc", ".debug_loclists", ".debug_info"];
    let ranges: Vec<_> = lists
        .iter()
        .filter_map(|name| elf.section_by_name(name)?.file_range())
        .collect();
    for (start, len) in ranges {
        let section = &mut bytes[start as usize..(start + len) as usize];
        for at in 0..section.len().saturating_sub(2) {
            if let [0x90 | 0x92, low @ 0xb0..=0xcf, 0x09] = section[at..at + 3] {
                section[at + 1..at + 3].copy_from_slice(&[(low - 0xb0) | 0x80, 0]);
            }
        }
    }
    std::fs::write(file, bytes).unwrap();
}

fn run(command: &mut Command) {
    let output = command.output().expect("a compiler");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
}

fn symbol(file: &Path, name: &str) -> u64 {
    use object::{Object as _, ObjectSymbol as _};
    let bytes = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    elf.symbol_by_name(name).unwrap().address()
}

/// Runs the program, and interrupts it in so many places.
fn record(
    machine: &Machine,
    native: &Path,
    dir: &Path,
    places: usize,
    flat: &str,
    registers: &[&str],
) -> Vec<Place> {
    let [socket, script, out] = ["socket", "record.py", "places"].map(|name| dir.join(name));
    let end = symbol(native, "stacks") + 3 * 16384;
    let mut file = std::fs::File::create(&script).unwrap();
    write!(
        file,
        "{flat}\n\
         out = open({out:?}, 'w')\n\
         while not (gdb.newest_frame().name() or '').startswith('v_'):\n\
         \x20   gdb.execute('stepi', to_string=True)\n\
         step = 7\n\
         for place in range({places}):\n\
         \x20   step = (step * 1103515245 + 12345) & 0x7fffffff\n\
         \x20   gdb.execute('stepi %d' % (1 + (step >> 8) % 23), to_string=True)\n\
         \x20   out.write('P\\n')\n\
         \x20   for name in {registers:?}:\n\
         \x20       of_gdb = {{'fp': {fp:?}}}.get(name, name)\n\
         \x20       value = int(gdb.parse_and_eval('(unsigned long)$' + of_gdb))\n\
         \x20       out.write('R %s %d\\n' % (name, value & 0xffffffffffffffff))\n\
         \x20   memory = gdb.selected_inferior().read_memory({start}, {STACK_LEN})\n\
         \x20   out.write('S %s\\n' % bytes(memory).hex())\n\
         \x20   for line in values_of_frames():\n\
         \x20       out.write('V %s\\n' % line)\n\
         out.close()\n\
         gdb.execute('kill')\n",
        out = out.to_str().unwrap(),
        start = end - STACK_LEN,
        fp = machine.frame_pointer,
    )
    .unwrap();
    let mut emulator = Command::new(machine.emulator)
        .arg("-g")
        .args([&socket, native])
        .stdin(Stdio::null())
        .spawn()
        .expect(machine.emulator);
    let output = Command::new("gdb-multiarch")
        .args(["-nx", "-batch"])
        .args(["-ex", "set confirm off", "-ex", "set osabi none"])
        .args([
            "-ex",
            "set print entry-values no",
            "-ex",
            "set tcp connect-timeout 20",
        ])
        .arg("-ex")
        .arg(format!("file {}", native.display()))
        .arg("-ex")
        .arg(format!(
            "python\nimport time, os\nwhile not os.path.exists({socket:?}): time.sleep(0.01)\nend"
        ))
        .arg("-ex")
        .arg(format!("target remote {}", socket.display()))
        .arg("-ex")
        .arg(format!("source {}", script.display()))
        .output()
        .expect("gdb-multiarch");
    let _ = emulator.kill();
    emulator.wait().unwrap();
    let text = std::fs::read_to_string(&out).unwrap_or_default();
    let mut all: Vec<Place> = Vec::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        if kind == "P" {
            all.push(Place::default());
            continue;
        }
        let place = all.last_mut().unwrap();
        match kind {
            "R" => {
                let (name, value) = rest.split_once(' ').unwrap();
                place
                    .registers
                    .insert(name.to_owned(), value.parse().unwrap());
            }
            "S" => {
                let digits = rest.as_bytes().chunks(2);
                let byte = |two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
                place.stack = digits.map(byte).collect();
            }
            _ => {
                let (name, value) = rest.split_once(" = ").unwrap();
                place.values.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    assert_eq!(all.len(), places, "{output:?}");
    all
}

/// Writes the dump; addresses of the program become those of the kernel.
fn write_dump(machine: &Machine, image: &Path, dir: &Path, all: &mut [Place], end: u64) -> PathBuf {
    use object::{Object as _, ObjectSegment as _};
    let bias = (machine.base + IMAGE).wrapping_sub(NATIVE);
    let mut memory: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let bytes = std::fs::read(image).unwrap();
    for segment in object::File::parse(&*bytes).unwrap().segments() {
        let mut content = segment.data().unwrap().to_vec();
        content.resize(usize::try_from(segment.size()).unwrap(), 0);
        write(&mut memory, segment.address(), &content);
    }
    for (number, place) in (0..).zip(all.iter_mut()) {
        let stack_end = machine.base + STACKS + (number + 1) * STACK_LEN * 2;
        place.moves = Moves {
            stack: (end - STACK_LEN, end, stack_end),
            bias,
        };
        let moves = place.moves;
        let moved = |word: u64| moves.apply(word);
        let stack = place.stack.chunks(8).flat_map(|word| {
            let word = word.try_into().unwrap();
            match machine.is_big_endian {
                true => moved(u64::from_be_bytes(word)).to_be_bytes(),
                false => moved(u64::from_le_bytes(word)).to_le_bytes(),
            }
        });
        let stack: Vec<u8> = stack.collect();
        write(&mut memory, stack_end - STACK_LEN, &stack);
        place
            .registers
            .values_mut()
            .for_each(|value| *value = moved(*value));
    }
    let mut dump = Minidump::new(machine.arch, machine.version);
    dump.kernbase = machine.base;
    dump.dump_avail = vec![(RAM, RAM + 2 * MAPPED)];
    match machine.paging {
        Some(paging) => {
            let frames = Frames::new(&[(RAM, RAM + 0x10_0000)], 4096);
            let mut tree = Tree::new(paging, frames);
            for (pa, (va, content)) in (RAM + 0x10_0000..).step_by(4096).zip(memory) {
                tree.map(&Mapping::page(va, pa, 4096));
                dump.pages.insert(pa, content);
            }
            dump.page_tables = tree.section(machine.version, machine.base, machine.base + MAPPED);
        }
        None => {
            let direct = |va: u64| va & !(0xc << 60);
            dump.hw_direct_map = true;
            dump.kernel_range = (LINKED_AT + machine.moved_by, machine.base + MAPPED);
            dump.pages.extend(
                memory
                    .into_iter()
                    .map(|(va, content)| (direct(va), content)),
            );
        }
    }
    let path = dir.join("vmcore.0");
    std::fs::write(&path, dump.build()).unwrap();
    path
}
