//! The kinds of minidump that tests ask everything of: each architecture, version and setting is one
//! line of [`KINDS`].

use vmcore::format::addr::PhysAddr;
use vmcore::memory::PageReadError;
use vmcore_synth::Arch;
use vmcore_synth::minidump::Minidump;

/// The pages of a sound dump, counted from the start of RAM. Its ranges are pages 1 to 255.
pub(crate) const PAGES: [u64; 4] = [1, 5, 9, 255];
/// The page that [`Tables::Named`] uses for its table.
const TABLE_PAGE: u64 = 0xe0;

/// What an architecture, a version and a setting make of the format.
pub(crate) struct FormatCase {
    pub(crate) name: &'static str,
    pub(crate) arch: Arch,
    pub(crate) version: u32,
    /// Bytes of the shortest header of this version.
    pub(crate) header_bytes: usize,
    pub(crate) tables: Tables,
    /// What is not as [`Minidump::new`] has it.
    set: fn(&mut Minidump),
}

/// How the page-table section maps a page of the kernel map.
#[derive(Clone, Copy)]
pub(crate) enum Tables {
    /// By an entry of so many bytes for each page, made from the page's address.
    Flat(u64, fn(u64) -> u64),
    /// By entries that name tables elsewhere in the dump: writes what maps a page to an address.
    Named(fn(&mut Minidump, u64, u64)),
}

const fn kind(
    name: &'static str,
    (arch, version): (Arch, u32),
    header_bytes: usize,
    tables: Tables,
    set: fn(&mut Minidump),
) -> FormatCase {
    FormatCase {
        name,
        arch,
        version,
        header_bytes,
        tables,
        set,
    }
}

const AMD64: Tables = Tables::Flat(8, |pa| pa | 3);
const I386: Tables = Tables::Flat(4, |pa| pa | 0x63);
const PAE: Tables = Tables::Flat(8, |pa| pa | 0x63);
/// A small page that the kernel may write, by either format.
const ARM: Tables = Tables::Flat(4, |pa| pa | 0x12);
const ARM64: Tables = Tables::Flat(8, |pa| pa | 0x703);
/// Valid, may be written, of every address space.
const MIPS: Tables = Tables::Flat(4, |pa| pa >> 12 << 6 | 0x1f);
const MIPS64: Tables = Tables::Flat(8, |pa| pa >> 12 << 6 | 0x1f);
const RISCV64: Tables = Tables::Flat(8, |pa| pa >> 12 << 10 | 0xcf);

fn usual(_: &mut Minidump) {}

/// Physical memory starts at 0, as bits do without ranges: counting from there is quick.
fn from_0(dump: &mut Minidump) {
    dump.dmapphys = 0;
}

fn pae(dump: &mut Minidump) {
    dump.paemode = 1;
}

/// arm's header before 2016: behind `kernbase` there is nothing.
fn short_header(dump: &mut Minidump) {
    dump.patches.push((44, vec![0; 8]));
}

fn arm_v4(dump: &mut Minidump) {
    dump.flags = 1;
}

fn arm_v6(dump: &mut Minidump) {
    dump.flags = 2;
}

/// `dump_avail` as kernels of 2020 wrote it for ten weeks.
fn narrow(dump: &mut Minidump) {
    dump.dump_avail_narrow = true;
}

/// The kernel image is page 1.
fn short_kernel(dump: &mut Minidump) {
    dump.kernel_range = (dump.dmapbase + 0x1000, dump.dmapbase + 0x2000);
}

fn pages_of_16_kib(dump: &mut Minidump) {
    (dump.page_size, dump.flags) = (16384, 1);
}

#[rustfmt::skip]
pub(crate) const KINDS: &[FormatCase] = &[
    kind("amd64 version 1", (Arch::Amd64, 1), 64, AMD64, usual),
    kind("amd64 version 2", (Arch::Amd64, 2), 64, Tables::Named(amd64), usual),
    kind("amd64 version 3", (Arch::Amd64, 3), 68, Tables::Named(amd64), usual),
    kind("i386 version 1", (Arch::I386, 1), 48, I386, usual),
    kind("i386 version 1, PAE", (Arch::I386, 1), 48, PAE, pae),
    kind("i386 version 2", (Arch::I386, 2), 52, I386, usual),
    kind("i386 version 2, PAE", (Arch::I386, 2), 52, PAE, pae),
    kind("arm version 1 of 2008", (Arch::Armv7, 1), 44, ARM, short_header),
    kind("arm version 1, V4", (Arch::Armv7, 1), 52, ARM, arm_v4),
    kind("arm version 1, V6", (Arch::Armv7, 1), 52, ARM, arm_v6),
    kind("arm version 2", (Arch::Armv7, 2), 56, ARM, arm_v6),
    kind("arm version 2, narrow ranges", (Arch::Armv7, 2), 56, ARM, narrow),
    kind("armeb version 1 of 2008", (Arch::Armeb, 1), 44, ARM, short_header),
    kind("armeb version 1, V4", (Arch::Armeb, 1), 52, ARM, arm_v4),
    kind("armeb version 1, V6", (Arch::Armeb, 1), 52, ARM, arm_v6),
    kind("armeb version 2", (Arch::Armeb, 2), 56, ARM, arm_v6),
    kind("armeb version 2, narrow ranges", (Arch::Armeb, 2), 56, ARM, narrow),
    kind("arm64 version 1", (Arch::Arm64, 1), 72, ARM64, from_0),
    kind("arm64 version 2", (Arch::Arm64, 2), 76, ARM64, usual),
    kind("arm64 version 3", (Arch::Arm64, 3), 80, ARM64, usual),
    kind("arm64 version 3, 16 KiB", (Arch::Arm64, 3), 80, ARM64, pages_of_16_kib),
    kind("mips version 1", (Arch::Mips, 1), 64, MIPS, usual),
    kind("mips version 2", (Arch::Mips, 2), 68, MIPS, usual),
    kind("mipsel version 1", (Arch::Mipsel, 1), 64, MIPS, usual),
    kind("mipsel version 2", (Arch::Mipsel, 2), 68, MIPS, usual),
    kind("mips64 version 1", (Arch::Mips64, 1), 64, MIPS64, usual),
    kind("mips64 version 2", (Arch::Mips64, 2), 68, MIPS64, usual),
    kind("mips64el version 1", (Arch::Mips64el, 1), 64, MIPS64, usual),
    kind("mips64el version 2", (Arch::Mips64el, 2), 68, MIPS64, usual),
    kind("powerpc64 version 1", (Arch::Powerpc64, 1), 136, Tables::Named(radix), short_kernel),
    kind("powerpc64 version 2", (Arch::Powerpc64, 2), 140, Tables::Named(radix), short_kernel),
    kind("powerpc64le version 1", (Arch::Powerpc64le, 1), 136, Tables::Named(radix), short_kernel),
    kind("powerpc64le version 2", (Arch::Powerpc64le, 2), 140, Tables::Named(radix), short_kernel),
    kind("riscv64 version 1", (Arch::Riscv64, 1), 72, RISCV64, from_0),
    kind("riscv64 version 2", (Arch::Riscv64, 2), 76, RISCV64, usual),
];

impl FormatCase {
    /// A dump of 256 pages of RAM without the first, of which [`PAGES`] are there, each with its
    /// text; page n of the kernel map is page n of RAM.
    pub(crate) fn sound(&self) -> Minidump {
        let mut dump = self.empty();
        for number in PAGES {
            let pa = page(&dump, number);
            dump.pages.insert(pa, text(pa));
        }
        for number in PAGES {
            let pa = page(&dump, number);
            self.map(&mut dump, number, pa);
        }
        dump
    }

    /// A dump of 256 pages of RAM without the first, of which none are there nor mapped.
    pub(crate) fn empty(&self) -> Minidump {
        let mut dump = Minidump::new(self.arch, self.version);
        (self.set)(&mut dump);
        dump.msgbuf = vec![b'm'; 120];
        dump.dump_avail = vec![(page(&dump, 1), page(&dump, 256))];
        dump
    }

    /// Maps page `number` of the kernel map to `pa`.
    pub(crate) fn map(&self, dump: &mut Minidump, number: u64, pa: u64) {
        match self.tables {
            Tables::Flat(bytes, entry) => {
                let raw = dump.arch.number(bytes, entry(pa));
                put(&mut dump.page_tables, 4096, number * bytes, &raw);
                let whole = dump.page_tables.len().next_multiple_of(at(dump.page_size));
                dump.page_tables.resize(whole, 0);
            }
            Tables::Named(map) => map(dump, number, pa),
        }
    }

    /// Whether the header gives the last address of the direct map, not the one behind it.
    pub(crate) fn has_last_address(&self) -> bool {
        matches!(self.arch, Arch::Powerpc64 | Arch::Powerpc64le)
    }

    /// The last address that its kernel map can have; `None` where something else lies there.
    pub(crate) fn last_va(&self) -> Option<u64> {
        match self.arch {
            Arch::Mips64 | Arch::Mips64el => None,
            arch if arch.is_32_bit() => Some(u32::MAX.into()),
            _ => Some(u64::MAX),
        }
    }

    /// The highest address that its ranges can have.
    pub(crate) fn last_address(&self) -> u64 {
        match self.sound().dump_avail_narrow {
            true => u32::MAX.into(),
            false => u64::MAX,
        }
    }
}

/// Page directory entries, and a table.
fn amd64(dump: &mut Minidump, number: u64, pa: u64) {
    let table = page(dump, TABLE_PAGE);
    put(&mut dump.page_tables, 4096, 0, &(table | 3).to_le_bytes());
    let entries = dump.pages.entry(table).or_default();
    put(entries, 4096, 8 * number, &(pa | 3).to_le_bytes());
}

/// A root, and three tables that it leads to, big-endian in every dump.
fn radix(dump: &mut Minidump, number: u64, pa: u64) {
    const VALID: u64 = 1 << 63;
    const LEAF: u64 = 1 << 62;
    let [high, middle, low] = [0, 1, 2].map(|table| page(dump, TABLE_PAGE + table));
    // kernbase has number 4096 in the root.
    let root = (VALID | high | 9).to_be_bytes();
    put(&mut dump.page_tables, 65536, 8 * 4096, &root);
    for (table, index, entry) in [
        (high, 0, VALID | middle | 9),
        (middle, 0, VALID | low | 9),
        (low, number, VALID | LEAF | pa | 6),
    ] {
        let entries = dump.pages.entry(table).or_default();
        put(entries, 4096, 8 * index, &entry.to_be_bytes());
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// Writes into a section, which grows by whole units.
fn put(section: &mut Vec<u8>, unit: usize, offset: u64, raw: &[u8]) {
    let (start, end) = (at(offset), at(offset) + raw.len());
    if end > section.len() {
        section.resize(end.next_multiple_of(unit), 0);
    }
    section[start..end].copy_from_slice(raw);
}

/// Physical address of a page, counted from the start of RAM.
pub(crate) fn page(dump: &Minidump, number: u64) -> u64 {
    dump.dmapphys + number * dump.page_size
}

/// The address of a page in the kernel map of a sound dump.
pub(crate) fn kernel_va(dump: &Minidump, number: u64) -> u64 {
    dump.kernbase + number * dump.page_size
}

/// The address of a page in the direct map, if the header has one.
pub(crate) fn direct_va(dump: &Minidump, number: u64) -> Option<u64> {
    (dump.dmapend > dump.dmapbase).then(|| dump.dmapbase + number * dump.page_size)
}

/// What the page at `pa` starts with.
pub(crate) fn text(pa: u64) -> Vec<u8> {
    format!("page {pa:#010x}").into_bytes()
}

/// Why a page is absent: it is of RAM, or not.
pub(crate) fn reason(dump: &Minidump, pa: u64) -> PageReadError {
    let pa = pa / dump.page_size * dump.page_size;
    let is_ram = match dump.has_dump_avail() {
        true => dump
            .dump_avail
            .iter()
            .any(|range| (range.0..range.1).contains(&pa)),
        // Every page that the words of the bitmap can have counts as RAM.
        false => {
            let len = dump.bitmap_bytes().len() as u64;
            pa / dump.page_size < 8 * len.next_multiple_of(dump.bitmap_word_bytes())
        }
    };
    let pa = PhysAddr(pa);
    match is_ram {
        true => PageReadError::NotDumped { pa },
        false => PageReadError::NotRam { pa },
    }
}
