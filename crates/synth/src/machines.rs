//! Ready-made machines: one of every kind.
//!
//! ```
//! let (dump, kernel) = vmcore_synth::machines::small(vmcore_synth::Arch::I386, 2);
//! assert!(dump.build().len() < 200_000);
//! assert!(kernel.address_of("allproc").is_some());
//! ```

use crate::Arch;
use crate::elf::Kernel;
use crate::machine::{DumpFile, Machine, Options, Shape};
use crate::minidump::Minidump;

/// A small minidump and its kernel, both to be changed before they are built if wanted.
#[must_use]
pub fn small(arch: Arch, version: u32) -> (Minidump, Kernel) {
    let machine = Machine::new(&Options {
        is_tiny: true,
        cpus: 2,
        ..Options::new(arch, version)
    });
    match machine.dump {
        DumpFile::Mini(dump) => (*dump, machine.kernel),
        DumpFile::Full(_) | DumpFile::Regions(_) => (Minidump::new(arch, version), machine.kernel),
    }
}

/// Every kind of machine, with a name for each.
#[must_use]
pub fn all() -> Vec<(String, Options)> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        for version in 1..=arch.newest_version() {
            let name = format!("{}-v{version}", arch.magic_name());
            all.push((name, Options::new(arch, version)));
        }
    }
    let mut add = |name: &str, options: Options| all.push((name.to_owned(), options));
    add(
        "amd64-v3-la57",
        Options {
            la57: true,
            ..Options::new(Arch::Amd64, 3)
        },
    );
    add(
        "amd64-v3-real",
        Options {
            shape: Shape::Real,
            ..Options::new(Arch::Amd64, 3)
        },
    );
    add(
        "amd64-v3-wrapped",
        Options {
            log_repeats: 7,
            ..Options::new(Arch::Amd64, 3)
        },
    );
    add(
        "amd64-v3-unstopped",
        Options {
            unstopped_cpu: Some(3),
            ..Options::new(Arch::Amd64, 3)
        },
    );
    add(
        "arm64-v3-16k",
        Options {
            page_size: 16384,
            ..Options::new(Arch::Arm64, 3)
        },
    );
    add(
        "i386-v1-pae",
        Options {
            pae: true,
            ..Options::new(Arch::I386, 1)
        },
    );
    add(
        "i386-v2-pae",
        Options {
            pae: true,
            ..Options::new(Arch::I386, 2)
        },
    );
    add("amd64-full", Options::full(Arch::Amd64));
    add(
        "amd64-full-old",
        Options {
            version: 1,
            ..Options::full(Arch::Amd64)
        },
    );
    let delta = Options {
        has_delta: true,
        ..Options::full(Arch::Amd64)
    };
    add("amd64-full-delta", delta.clone());
    add(
        "amd64-full-moved",
        Options {
            load_offset: 6 << 20,
            ..delta.clone()
        },
    );
    add(
        "amd64-full-la57",
        Options {
            la57: true,
            ..delta
        },
    );
    add("i386-full", Options::full(Arch::I386));
    add(
        "i386-full-pae",
        Options {
            pae: true,
            ..Options::full(Arch::I386)
        },
    );
    add(
        "i386-full-old",
        Options {
            version: 1,
            ..Options::full(Arch::I386)
        },
    );
    add(
        "i386-full-old-pae",
        Options {
            version: 1,
            pae: true,
            ..Options::full(Arch::I386)
        },
    );
    add("arm-v1", Options::new(Arch::Armv7, 1));
    add("arm-v2", Options::new(Arch::Armv7, 2));
    add("armeb-v2", Options::new(Arch::Armeb, 2));
    add("mips-v1", Options::new(Arch::Mips, 1));
    add("mipsel-v2", Options::new(Arch::Mipsel, 2));
    add(
        "mips-v2-n32",
        Options {
            n32: true,
            ..Options::new(Arch::Mips, 2)
        },
    );
    add("mips64-v1", Options::new(Arch::Mips64, 1));
    add("mips64-v2", Options::new(Arch::Mips64, 2));
    add("mips64el-v2", Options::new(Arch::Mips64el, 2));
    add("powerpc64-v1", Options::new(Arch::Powerpc64, 1));
    for arch in [Arch::Powerpc64, Arch::Powerpc64le] {
        let name = arch.machine_arch();
        add(&format!("{name}-v2"), Options::new(arch, 2));
        let radix = Options {
            radix: true,
            ..Options::new(arch, 2)
        };
        add(&format!("{name}-v2-radix"), radix);
    }
    add("powerpc", Options::full(Arch::Powerpc));
    add("sparc64", Options::full(Arch::Sparc64));
    all
}

/// powerpc64 without large pages, in both byte orders, with a name for each.
#[must_use]
pub fn one_to_one() -> Vec<(String, Options)> {
    let options = |arch: Arch| Options {
        one_to_one: true,
        ..Options::new(arch, 2)
    };
    let name = |arch: Arch| format!("{}-v2-one-to-one", arch.machine_arch());
    [Arch::Powerpc64, Arch::Powerpc64le]
        .map(|arch| (name(arch), options(arch)))
        .into()
}
