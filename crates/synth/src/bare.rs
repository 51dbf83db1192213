//! Dumps of the architectures of which no whole machines are made: a message buffer, a few pages of
//! text, and what leads to them. There is no kernel file.
//!
//! ```
//! let all = vmcore_synth::bare::all();
//! let mips64 = all.iter().find(|bare| bare.name == "mips64-v2");
//! assert_eq!(mips64.map(|bare| bare.mapped), Some(0xc000_0000_0000_3000));
//! ```

use crate::Arch;
use crate::bytes::{index, low32};
use crate::elf::FullDump;
use crate::minidump::Minidump;
use crate::msgbuf::{self, Msgbuf};
use std::collections::BTreeMap;

const LOG: &str = "---<<BOOT>>---\nNobody: this machine never existed.\npanic: of imagination\n";
/// Physical addresses of the pages of text.
const PAGES: [u64; 3] = [0x10_1000, 0x23_4000, 0x34_5000];

/// A dump without a machine.
#[derive(Clone, Debug)]
pub struct Bare {
    /// What it is.
    pub name: String,
    /// The file.
    pub file: Vec<u8>,
    /// An address that leads to a page of it.
    pub mapped: u64,
    /// An address that leads to a page that is not in it.
    pub absent: Option<u64>,
}

impl Bare {
    fn minidump(name: &str, dump: &Minidump) -> Self {
        Self {
            name: name.to_owned(),
            file: dump.build(),
            mapped: dump.kernbase + 0x3000,
            absent: Some(dump.kernbase + 0x6000),
        }
    }

    fn core(name: &str, file: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            file,
            mapped: 0xc000_2000,
            absent: None,
        }
    }
}

/// Every such dump.
#[must_use]
pub fn all() -> Vec<Bare> {
    vec![
        Bare::minidump("mipsel-v2", &mips(Arch::Mipsel, 2)),
        Bare::minidump("mips-v1", &mips(Arch::Mips, 1)),
        Bare::minidump("mips64el-v2", &mips(Arch::Mips64el, 2)),
        Bare::minidump("mips64-v2", &mips(Arch::Mips64, 2)),
        Bare::minidump("powerpc64-radix", &radix(Arch::Powerpc64)),
        Bare::minidump("powerpc64le-radix", &radix(Arch::Powerpc64le)),
        Bare::minidump("powerpc64-hashed", &hashed(Arch::Powerpc64)),
        Bare::minidump("powerpc64le-hashed", &hashed(Arch::Powerpc64le)),
        Bare::core("powerpc-core", virtual_core(Arch::Mips, 20)),
        Bare::core("powerpc64-core", virtual_core(Arch::Powerpc64, 21)),
        Bare::core("sparc64", sparc64()),
    ]
}

fn text(pa: u64) -> Vec<u8> {
    format!("This is the page at {pa:#x}, which says panic. ")
        .bytes()
        .cycle()
        .take(4096)
        .collect()
}

/// A minidump with the pages, whose page tables are still missing.
fn minidump(arch: Arch, version: u32) -> Minidump {
    let mut dump = Minidump::new(arch, version);
    let size = 4096 - Msgbuf::len_bytes(arch);
    let (ring, control) = msgbuf::written(low32(size), LOG.as_bytes(), dump.kernbase);
    dump.msgbuf = ring;
    dump.msgbuf_control = Some(control);
    dump.dump_avail = vec![(0x1000, 0x9_f800), (0x10_0800, 0x80_0000)];
    for pa in PAGES {
        dump.pages.insert(pa, text(pa));
    }
    dump
}

/// Writes a number of `width` bytes into the page tables.
fn put(dump: &mut Minidump, at: u64, bytes: &[u8]) {
    dump.page_tables[index(at)..index(at) + bytes.len()].copy_from_slice(bytes);
}

/// Entries 3, 4 and 5 of the kernel map lead to the pages, 6 to none.
fn mips(arch: Arch, version: u32) -> Minidump {
    let mut dump = minidump(arch, version);
    dump.page_tables = vec![0; 4096];
    let width = arch.word_bytes();
    for (number, pa) in (3..).zip(PAGES.into_iter().chain([0x99_9000])) {
        // Global, valid, writable, cached.
        let entry = arch.number(width, pa >> 12 << 6 | 0x1f);
        put(&mut dump, width * number, &entry);
    }
    dump
}

/// Three tables below the root, which is the section.
fn radix(arch: Arch) -> Minidump {
    const VALID: u64 = 1 << 63;
    const LEAF: u64 = 1 << 62;
    let mut dump = minidump(arch, 2);
    dump.page_tables = vec![0; 65536];
    let tables = [0x40_0000, 0x40_1000, 0x40_2000];
    let mut contents = tables.map(|_| vec![0; 4096]);
    contents[0][..8].copy_from_slice(&(VALID | tables[1] | 9).to_be_bytes());
    contents[1][..8].copy_from_slice(&(VALID | tables[2] | 9).to_be_bytes());
    for (number, pa) in (3..).zip(PAGES.into_iter().chain([0x99_9000])) {
        let at = 8 * number;
        contents[2][at..at + 8].copy_from_slice(&(VALID | LEAF | pa | 6).to_be_bytes());
    }
    // The root has 8192 entries of 512 GiB.
    let number = dump.kernbase >> 39 & 8191;
    put(
        &mut dump,
        8 * number,
        &(VALID | tables[0] | 9).to_be_bytes(),
    );
    dump.pages.extend(tables.into_iter().zip(contents));
    dump
}

/// A hashed table of 2048 groups.
fn hashed(arch: Arch) -> Minidump {
    const GROUPS: u64 = 2048;
    let mut dump = minidump(arch, 2);
    dump.mmu_name = "mmu_phyp".to_owned();
    dump.hw_direct_map = false;
    dump.page_tables = vec![0; index(128 * GROUPS)];
    for (number, pa) in (3..).zip(PAGES.into_iter().chain([0x99_9000])) {
        let va: u64 = dump.kernbase + 4096 * number;
        let (esid, page) = (va >> 28, va >> 12 & 0xffff);
        let spread = (esid << 8 | esid >> 28) * 0x13bb;
        let vsid = (spread % (1 << 36)) | 1 << 36;
        // Of 39 bits, of which the lowest choose the group.
        let group = ((vsid & 0x7f_ffff_ffff) ^ page) % GROUPS;
        let words = [vsid << 12 | (page >> 11) << 7 | 1, pa | 2];
        for (word, at) in words.into_iter().zip([0, 8]) {
            put(
                &mut dump,
                128 * group + 16 * (number % 8) + at,
                &arch.u64(word),
            );
        }
    }
    dump
}

/// A core with one segment of virtual memory, in the class and byte order of `like`.
fn virtual_core(like: Arch, machine: u16) -> Vec<u8> {
    let pages = BTreeMap::from([(0x2000, text(0xc000_2000))]);
    let mut dump = FullDump::of_memory(like, &[(0x1000, 0x4000)], &pages);
    dump.e_machine = machine;
    for segment in &mut dump.segments {
        segment.p_vaddr = 0xc000_1000;
        segment.p_paddr = u64::MAX >> if like.is_32_bit() { 32 } else { 0 };
    }
    dump.build()
}

/// A dump of sparc64: two regions, and a translation storage buffer of 512 entries in the first. It
/// maps 0xc0002000 to 0x802000, where `mapped` stands, and 64 KiB from 0xc0100000 on; at 0x402000
/// stands `direct`.
#[must_use]
pub fn sparc64() -> Vec<u8> {
    const TSB: usize = 0x4000;
    let mut first = vec![0_u8; 0x10000];
    let mut second = vec![b'.'; 0x4000];
    first[0x2000..0x2006].copy_from_slice(b"direct");
    second[0x2000..0x2006].copy_from_slice(b"mapped");
    let mut entry = |va: u64, size: u64, pa: u64| {
        let at = TSB + index(va >> 13 & 511) * 32;
        let tag = va >> (13 + 3 * size) << 2 | size;
        let data = 1 << 63 | size << 61 | pa | 2;
        first[at..at + 8].copy_from_slice(&tag.to_be_bytes());
        first[at + 8..at + 16].copy_from_slice(&data.to_be_bytes());
    };
    entry(0xc000_2000, 0, 0x80_2000);
    entry(0xc010_0000, 1, 0x80_0000);
    let mut file = vec![0; 512];
    let words = [512_u64, 0x40_0000 + TSB as u64, 512 * 32, 511, 2 << 32];
    let regions = [
        (0x40_0000_u64, 0x10000_u64, 512_u64),
        (0x80_0000, 0x4000, 512 + 0x10000),
    ];
    let all = words
        .into_iter()
        .chain(regions.into_iter().flat_map(|(pa, len, at)| [pa, len, at]));
    for (number, word) in all.enumerate() {
        file[8 * number..8 * number + 8].copy_from_slice(&word.to_be_bytes());
    }
    file.extend(first);
    file.extend(second);
    file
}
