//! Offsets of FreeBSD's releases, for kernels that tell neither by constants nor by types.
//!
//! Options of a kernel move what follows its fixed members, so these are guesses, and said to be.

use vmcore_format::arch::Arch;

/// `__FreeBSD_version` from which on, and below which, a release's offsets hold.
const SINCE_13: (i32, i32) = (1_300_000, 1_400_000);
const SINCE_15: (i32, i32) = (1_500_000, 1_600_000);

/// The releases whose offsets are known.
const KNOWN: &[(Arch, Release)] = &[
    (
        Arch::Amd64,
        Release::new(SINCE_15, [0x3e0, 0x2dc, 0x6fc, 0x480, 0x140]),
    ),
    (
        Arch::Amd64,
        Release::new(SINCE_13, [0x3d8, 0x2bc, 0x6bc, 0x438, 0x140]),
    ),
    (
        Arch::Arm64,
        Release::new(SINCE_15, [0x3e0, 0x2dc, 0x5f4, 0x480, 0x4e0]),
    ),
    (
        Arch::Arm64,
        Release::new(SINCE_13, [0x3d8, 0x2bc, 0x52c, 0x438, 0x560]),
    ),
    (
        Arch::Riscv64,
        Release::new(SINCE_15, [0x3e0, 0x2dc, 0x56c, 0x480, 0x298]),
    ),
];

/// The kernels of some releases on an architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    dates: (i32, i32),
    p_comm: u64,
    td_name: u64,
    td_oncpu: u64,
    td_pcb: u64,
    pcb: u64,
}

impl Release {
    /// Offsets of `p_comm`, `td_name`, `td_oncpu` and `td_pcb`, and the size of `struct pcb`.
    const fn new(dates: (i32, i32), later: [u64; 5]) -> Self {
        let [p_comm, td_name, td_oncpu, td_pcb, pcb] = later;
        Self {
            dates,
            p_comm,
            td_name,
            td_oncpu,
            td_pcb,
            pcb,
        }
    }

    /// The release of a kernel, if its offsets are known.
    pub(super) fn of(arch: Arch, date: i32) -> Option<Self> {
        let holds = |(of, release): &&(Arch, Self)| {
            let (from, below) = release.dates;
            *of == arch && (from..below).contains(&date)
        };
        KNOWN.iter().find(holds).map(|(_, release)| *release)
    }

    /// The offset of a member, or the size of `pcb`.
    pub(super) fn offset(&self, name: &str) -> Option<u64> {
        Some(match name {
            // The same in all of them.
            "p_list" => 0,
            "p_threads" | "td_plist" => 0x10,
            "p_pid" => 0xc4,
            "p_hash" => 0xc8,
            "td_tid" => 0xa0,
            "p_comm" => self.p_comm,
            "td_name" => self.td_name,
            "td_oncpu" => self.td_oncpu,
            "td_pcb" => self.td_pcb,
            "pcb" => self.pcb,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_holds_for_its_own_kernels_only() {
        let offset = |arch, date| Release::of(arch, date)?.offset("td_oncpu");
        assert_eq!(offset(Arch::Amd64, 1_501_000), Some(0x6fc));
        assert_eq!(offset(Arch::Amd64, 1_302_001), Some(0x6bc));
        assert_eq!(offset(Arch::Riscv64, 1_302_001), None);
        assert_eq!(offset(Arch::Amd64, 1_400_097), None);
    }
}
