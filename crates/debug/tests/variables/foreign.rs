//! Variables in code of clang for other architectures, which runs in an emulator: gdb says what they are
//! at each place, right there.

use crate::{PLACES, VALUES, Values, compare_values, found_in_stack};
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_debug::arch::Machine;
use vmcore_debug::stack::NamedFrame;
use vmcore_debug::unwind::{Registers, Start};
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::arch::Arch;
use vmcore_testkit::foreign::{self, ARM64, Foreign, POWERPC64, Place, RISCV64};

/// Compares what gdb says with what is found in the dump.
fn compare(machine: &foreign::Machine, arch: Arch, compiler: &str, flags: &[&str]) {
    let tools = [compiler, "ld.lld", "gdb-multiarch", machine.emulator];
    if !tools.iter().all(|tool| vmcore_testkit::has(tool)) {
        return;
    }
    // Those that gdb has as numbers, by the same names.
    let registers: Vec<&str> = Machine::of(arch).names.to_vec();
    let registers: Vec<&str> = registers
        .into_iter()
        .filter(|name| !(name.starts_with('f') && name.len() > 1 && *name != "fp"))
        .collect();
    let recorded = foreign::interrupted(machine, compiler, flags, PLACES, VALUES, &registers);
    let (witness, found) = values(&recorded, arch);
    let counts = compare_values(&witness, &found);
    let said = format!("{} {compiler} {flags:?}: {counts:?}", machine.target);
    assert!(counts.same > 2000, "{said}");
    // What is after a call has a register that it changes; see the same of amd64.
    assert!(counts.overwritten < 150, "{said}");
}

fn values(recorded: &Foreign, arch: Arch) -> (Values, Values) {
    let choice = KernelChoice::Given(&recorded.kernel);
    let session = Session::open(&recorded.dump, choice, &OpenOptions::default()).unwrap();
    let session = session.with_force(true);
    let files = DebugFiles::of(&session).unwrap();
    let target = Target::new(&session, &files).unwrap();
    let (mut witness, mut found) = (Values::new(), Values::new());
    for (number, place) in recorded.places.iter().enumerate() {
        let frames = frames(&target, arch, place);
        found_in_stack(&target, &number.to_string(), &frames, &mut found);
        for (name, value) in &place.values {
            let name = format!("{number} {name}");
            let here = found
                .get(&name)
                .filter(|here| place.same(&name, value, here));
            let value = here.unwrap_or(value).clone();
            witness.insert(name, value);
        }
    }
    (witness, found)
}

/// The frames of a place: as of a CPU that stopped there.
fn frames(target: &Target<'_>, arch: Arch, place: &Place) -> Vec<NamedFrame> {
    let mut registers = Registers::default();
    for (number, name) in Machine::of(arch).names.iter().enumerate() {
        registers.set(number, place.registers.get(*name).copied());
    }
    let start = Start {
        registers,
        never_ran: false,
        interrupted: true,
    };
    let walked = target.unwinder().walk(&start).frames.into_iter();
    let named = walked.map(|frame| NamedFrame {
        places: target.places(frame.lookup()),
        frame,
    });
    named.collect()
}

/// Both compilers, each version of DWARF, each way to optimize.
fn compare_all(machine: &foreign::Machine, arch: Arch) {
    // For powerpc64 gcc saves registers in code of the linker's, which has no frame information.
    let for_size = match arch {
        Arch::Powerpc64 => "-O1",
        _ => "-Os",
    };
    compare(machine, arch, "clang", &["-O0", "-gdwarf-5"]);
    compare(machine, arch, "clang", &["-O2", "-gdwarf-4"]);
    compare(machine, arch, "clang", &["-Os", "-gdwarf-5"]);
    compare(machine, arch, machine.gcc, &["-O0", "-gdwarf-4"]);
    compare(machine, arch, machine.gcc, &["-O2", "-gdwarf-5"]);
    compare(machine, arch, machine.gcc, &[for_size, "-gdwarf-4"]);
}

#[test]
fn code_for_arm64() {
    compare_all(&ARM64, Arch::Arm64);
}

#[test]
fn code_for_riscv64() {
    compare_all(&RISCV64, Arch::Riscv64);
}

#[test]
fn code_for_powerpc64_in_big_endian() {
    compare_all(&POWERPC64, Arch::Powerpc64);
}
