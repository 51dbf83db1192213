//! Headers written byte by byte at the offsets of the specification, not by the structures here.

use super::*;
use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::endian::Endian;
use proptest::prelude::*;
use std::string::ToString as _;
use std::{vec, vec::Vec};

/// A header page: the magic, and fields written little-endian at their offsets.
fn page(magic: &str, version: u32, fields: &[(usize, Field)]) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[..magic.len()].copy_from_slice(magic.as_bytes());
    page[24..28].copy_from_slice(&version.to_le_bytes());
    for (offset, field) in fields {
        match field {
            U32(value) => page[*offset..offset + 4].copy_from_slice(&value.to_le_bytes()),
            U64(value) => page[*offset..offset + 8].copy_from_slice(&value.to_le_bytes()),
        }
    }
    page
}

#[derive(Clone, Copy)]
enum Field {
    U32(u32),
    U64(u64),
}
use Field::{U32, U64};

const MIB: u64 = 1 << 20;

/// Bytes of each architecture's newest structure: what must be there.
const STRUCT_LEN: [(&str, u32, usize); 4] = [
    ("minidump FreeBSD/amd64", 3, 68),
    ("minidump FreeBSD/arm64", 3, 80),
    ("minidump FreeBSD/i386", 2, 52),
    ("minidump FreeBSD/riscv", 2, 76),
];

#[test]
fn amd64_fields_lie_at_the_offsets_of_each_version() {
    let fields = [
        (28, U32(98232)),
        (32, U32(0x1000)),
        (36, U32(0x7f_f000)),
        (40, U64(0xffff_fe00_0000_0000)),
        (48, U64(0xffff_f800_0000_0000)),
        (56, U64(0xffff_fc00_0000_0000)),
        (64, U32(0x2000)),
    ];
    for version in 1..=3 {
        let bytes = page("minidump FreeBSD/amd64", version, &fields);
        let expected = Header {
            arch: Arch::Amd64,
            version,
            endian: Endian::Little,
            page_size: PageSize::SIZE_4K,
            msgbufsize: 98232,
            bitmapsize: 0x1000,
            pmapsize: 0x7f_f000,
            // Whatever is there, versions 1 and 2 do not have it.
            dumpavailsize: (version == 3).then_some(0x2000),
            kernbase: VirtAddr(0xffff_fe00_0000_0000),
            direct_map: Some(DirectMap {
                base: VirtAddr(0xffff_f800_0000_0000),
                end: VirtAddr(0xffff_fc00_0000_0000),
                phys: PhysAddr(0),
            }),
            mmu: Mmu::Usual,
        };
        assert_eq!(Header::parse(&bytes), Ok(expected));
    }
}

#[test]
fn arm64_fields_lie_at_the_offsets_of_each_version() {
    let fields = [
        (28, U32(98232)),
        (32, U32(0x2000)),
        (36, U32(0x6a_e000)),
        (40, U64(0xffff_0000_0000_0000)),
        (48, U64(0x4000_0000)),
        (56, U64(0xffff_a000_0000_0000)),
        (64, U64(0xffff_ff00_0000_0000)),
        (72, U32(0x3000)),
        (76, U32(1)),
    ];
    for version in 1..=3 {
        let bytes = page("minidump FreeBSD/arm64", version, &fields);
        let expected = Header {
            arch: Arch::Arm64,
            version,
            endian: Endian::Little,
            // The flags exist from version 3 on.
            page_size: if version == 3 {
                PageSize::SIZE_16K
            } else {
                PageSize::SIZE_4K
            },
            msgbufsize: 98232,
            bitmapsize: 0x2000,
            pmapsize: 0x6a_e000,
            dumpavailsize: (version >= 2).then_some(0x3000),
            kernbase: VirtAddr(0xffff_0000_0000_0000),
            direct_map: Some(DirectMap {
                base: VirtAddr(0xffff_a000_0000_0000),
                end: VirtAddr(0xffff_ff00_0000_0000),
                phys: PhysAddr(0x4000_0000),
            }),
            mmu: Mmu::Usual,
        };
        assert_eq!(Header::parse(&bytes), Ok(expected));
    }
}

#[test]
fn i386_fields_lie_at_the_offsets_of_each_version() {
    for (version, paemode) in [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, u32::MAX)] {
        let fields = [
            (28, U32(98248)),
            (32, U32(0x1000)),
            (36, U32(0xe_c000)),
            (40, U32(0x80_0000)),
            (44, U32(paemode)),
            (48, U32(0x1000)),
        ];
        let bytes = page("minidump FreeBSD/i386", version, &fields);
        let expected = Header {
            arch: Arch::I386,
            version,
            endian: Endian::Little,
            page_size: PageSize::SIZE_4K,
            msgbufsize: 98248,
            bitmapsize: 0x1000,
            pmapsize: 0xe_c000,
            dumpavailsize: (version == 2).then_some(0x1000),
            kernbase: VirtAddr(0x80_0000),
            direct_map: None,
            mmu: if paemode == 0 { Mmu::Usual } else { Mmu::Pae },
        };
        assert_eq!(Header::parse(&bytes), Ok(expected));
    }
}

#[test]
fn riscv64_fields_lie_at_the_offsets_of_each_version() {
    let fields = [
        (28, U32(98232)),
        (32, U32(0x4000)),
        (36, U32(0x10_0000)),
        (40, U64(0xffff_ffc0_0000_0000)),
        (48, U64(0x8000_0000)),
        (56, U64(0xffff_ffd0_0000_0000)),
        (64, U64(0xffff_fff0_0000_0000)),
        (72, U32(0x1000)),
        // Where arm64 has its flags there is nothing here.
        (76, U32(2)),
    ];
    for version in 1..=2 {
        let bytes = page("minidump FreeBSD/riscv", version, &fields);
        let expected = Header {
            arch: Arch::Riscv64,
            version,
            endian: Endian::Little,
            page_size: PageSize::SIZE_4K,
            msgbufsize: 98232,
            bitmapsize: 0x4000,
            pmapsize: 0x10_0000,
            dumpavailsize: (version == 2).then_some(0x1000),
            kernbase: VirtAddr(0xffff_ffc0_0000_0000),
            direct_map: Some(DirectMap {
                base: VirtAddr(0xffff_ffd0_0000_0000),
                end: VirtAddr(0xffff_fff0_0000_0000),
                phys: PhysAddr(0x8000_0000),
            }),
            mmu: Mmu::Usual,
        };
        assert_eq!(Header::parse(&bytes), Ok(expected));
    }
}

#[test]
fn each_of_the_seven_magics_is_told_apart() {
    for (magic, arch) in [
        ("minidump FreeBSD/amd64", Arch::Amd64),
        ("minidump FreeBSD/arm64", Arch::Arm64),
        ("minidump FreeBSD/i386", Arch::I386),
        ("minidump FreeBSD/riscv", Arch::Riscv64),
        ("minidump FreeBSD/arm", Arch::Arm),
        ("minidump FreeBSD/mips", Arch::Mips),
    ] {
        assert_eq!(
            Header::parse(&page(magic, 1, &[])).map(|header| header.arch),
            Ok(arch)
        );
    }
    let radix = powerpc64(1, Endian::Little, b"mmu_radix", 0);
    assert_eq!(
        Header::parse(&radix).map(|header| header.arch),
        Ok(Arch::Powerpc64)
    );
    let dragonfly = page("minidump DFlyBSD/x86_64", 1, &[]);
    assert!(matches!(
        Header::parse(&dragonfly),
        Err(HeaderError::UnsupportedArch(_))
    ));
}

#[test]
fn the_terminating_nul_decides_between_arm_and_arm64() {
    let mut bytes = page("minidump FreeBSD/arm64", 1, &[]);
    assert_eq!(
        Header::parse(&bytes).map(|header| header.arch),
        Ok(Arch::Arm64)
    );
    bytes[20] = 0;
    bytes[24] = 0;
    assert_eq!(
        Header::parse(&bytes),
        Err(HeaderError::BadVersion {
            arch: "arm",
            version: 0,
            newest: 2
        })
    );
    bytes[..22].copy_from_slice(b"minidump FreeBSD/arm6\0");
    assert!(matches!(
        Header::parse(&bytes),
        Err(HeaderError::UnknownMagic(_))
    ));
}

#[test]
fn bytes_after_the_magics_nul_do_not_count() {
    let mut bytes = page("minidump FreeBSD/amd64", 3, &[]);
    bytes[23] = b'!';
    assert!(Header::parse(&bytes).is_ok());
}

#[test]
fn a_magic_field_without_nul_is_refused_and_named() {
    let mut bytes = page("minidump FreeBSD/amd64xy", 3, &[]);
    assert_eq!(
        Header::parse(&bytes),
        Err(HeaderError::UnknownMagic(*b"minidump FreeBSD/amd64xy"))
    );
    bytes[24] = b'\n';
    let error = Header::parse(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "a minidump with the unknown magic \"minidump FreeBSD/amd64xy\""
    );
    let error = Header::parse(&page("minidump\n\x1b[31m", 3, &[]))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "a minidump with the unknown magic \"minidump\\n\\x1b[31m\""
    );
}

#[test]
fn other_files_are_no_minidumps() {
    for bytes in [
        &b""[..],
        b"\x7fELF",
        b"minidum",
        b"Minidump FreeBSD/amd64\0\0\x03\0\0\0",
    ] {
        assert_eq!(Header::parse(bytes), Err(HeaderError::NotMinidump));
    }
}

#[test]
fn a_header_cut_at_any_length_is_truncated() {
    for (magic, version, need) in STRUCT_LEN {
        let bytes = page(magic, version, &[]);
        for have in 0..=need + 1 {
            let expected = match have {
                0..8 => Some(HeaderError::NotMinidump),
                8..24 => Some(HeaderError::Truncated { have, need: 24 }),
                _ if have < need => Some(HeaderError::Truncated { have, need }),
                _ => None,
            };
            assert_eq!(
                Header::parse(&bytes[..have]).err(),
                expected,
                "{magic} cut at {have}"
            );
        }
    }
}

/// The architectures of one byte order.
const LITTLE: [Arch; 4] = [Arch::Amd64, Arch::Arm64, Arch::I386, Arch::Riscv64];

/// A header page of powerpc64.
fn powerpc64(version: u32, endian: Endian, mmu: &[u8], pmapsize: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..26].copy_from_slice(b"minidump FreeBSD/powerpc64");
    bytes[32..32 + mmu.len()].copy_from_slice(mmu);
    for (at, value) in [
        (64, version),
        (68, 98232),
        (72, 0x2000),
        (76, pmapsize),
        (112, 1),
        (136, 0x1000),
    ] {
        bytes[at..at + 4].copy_from_slice(&endian.bytes32(value));
    }
    for (at, value) in [
        (80, 0xc008_0000_0000_0000),
        (88, 0xc008_0007_ffff_ffff),
        (96, 0xc000_0000_0000_0000),
        (104, 0xc007_ffff_ffff_ffff),
        (120, 0xc000_0000_0050_0100),
        (128, 0xc000_0000_0250_0000),
    ] {
        bytes[at..at + 8].copy_from_slice(&endian.bytes64(value));
    }
    bytes
}

#[test]
fn powerpc64_has_its_fields_elsewhere_in_both_byte_orders() {
    for endian in [Endian::Little, Endian::Big] {
        for (mmu, hashed, pmapsize) in [(&b"mmu_phyp"[..], true, 8 << 20), (b"mmu_radix", false, 0)]
        {
            for version in [1, 2] {
                let header = Header::parse(&powerpc64(version, endian, mmu, pmapsize)).unwrap();
                assert_eq!((header.endian, header.version), (endian, version));
                assert_eq!((header.msgbufsize, header.bitmapsize), (98232, 0x2000));
                assert_eq!(header.pmapsize, pmapsize);
                assert_eq!(header.dumpavailsize, (version == 2).then_some(0x1000));
                assert_eq!(header.kernbase, VirtAddr(0xc008_0000_0000_0000));
                let map = header.direct_map.unwrap();
                // The last address of the direct map belongs to it.
                let last = VirtAddr(0xc007_ffff_ffff_ffff);
                assert_eq!(map.phys_of(last), Some(PhysAddr(0x7_ffff_ffff_ffff)));
                let Mmu::Powerpc64(found) = header.mmu else {
                    panic!("{header:?}")
                };
                assert_eq!((found.hashed, found.hw_direct_map), (hashed, true));
                assert_eq!(header.displacement(), 0xc000_0000_0040_0000);
                let order = match endian {
                    Endian::Little => WordOrder::Little,
                    Endian::Big => WordOrder::Big64,
                };
                assert_eq!(header.bitmap_order(), order);
            }
        }
    }
}

#[test]
fn a_hashed_table_of_an_odd_size_is_refused() {
    for pmapsize in [0, 64, 129, 384, 0x8_0001, u32::MAX] {
        let bytes = powerpc64(2, Endian::Big, b"mmu_g5", pmapsize);
        assert_eq!(
            Header::parse(&bytes),
            Err(HeaderError::HashedTable(pmapsize))
        );
    }
    assert!(Header::parse(&powerpc64(2, Endian::Big, b"mmu_g5", 128)).is_ok());
}

#[test]
fn arm_has_two_byte_orders_and_two_kinds_of_entries() {
    for endian in [Endian::Little, Endian::Big] {
        for (version, mmuformat, mmu) in
            [(1, 0, Mmu::Usual), (1, 1, Mmu::ArmV4), (2, 2, Mmu::Usual)]
        {
            let mut bytes = page("minidump FreeBSD/arm", 0, &[]);
            for (at, value) in [
                (24, version),
                (28, 120),
                (32, 0x1000),
                (36, 0x800),
                (40, 0xc000_0000),
                (44, 7),
                (48, mmuformat),
                (52, 0x1000),
            ] {
                bytes[at..at + 4].copy_from_slice(&endian.bytes32(value));
            }
            let header = Header::parse(&bytes).unwrap();
            assert_eq!((header.arch, header.endian), (Arch::Arm, endian));
            assert_eq!((header.version, header.mmu), (version, mmu));
            assert_eq!((header.pmapsize, header.kernbase.0), (0x800, 0xc000_0000));
            assert_eq!(header.dumpavailsize, (version == 2).then_some(0x1000));
            let order = match endian {
                Endian::Little => WordOrder::Little,
                Endian::Big => WordOrder::Big32,
            };
            assert_eq!(header.bitmap_order(), order);
        }
    }
}

#[test]
fn the_start_of_its_kernel_map_tells_a_64_bit_mips() {
    for (endian, version, kernbase, arch, order) in [
        (
            Endian::Little,
            1,
            0xc000_0000,
            Arch::Mips,
            WordOrder::Little,
        ),
        (Endian::Big, 2, 0xc000_0000, Arch::Mips, WordOrder::Big32),
        (
            Endian::Big,
            2,
            0xffff_ffff_c000_0000,
            Arch::Mips,
            WordOrder::Big32,
        ),
        (
            Endian::Big,
            1,
            0xc000_0000_0000_0000,
            Arch::Mips64,
            WordOrder::Big32,
        ),
        (
            Endian::Big,
            2,
            0xc000_0000_0000_0000,
            Arch::Mips64,
            WordOrder::Big64,
        ),
        (
            Endian::Little,
            2,
            0xc000_0000_0000_0000,
            Arch::Mips64,
            WordOrder::Little,
        ),
    ] {
        let mut bytes = page("minidump FreeBSD/mips", 0, &[]);
        bytes[24..28].copy_from_slice(&endian.bytes32(version));
        bytes[40..48].copy_from_slice(&endian.bytes64(kernbase));
        bytes[64..68].copy_from_slice(&endian.bytes32(0x1000));
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.arch, header.endian), (arch, endian));
        assert_eq!(header.bitmap_order(), order);
        let wide = u64::from(u32::MAX);
        let expected = if arch == Arch::Mips {
            kernbase & wide
        } else {
            kernbase
        };
        assert_eq!(header.kernbase, VirtAddr(expected));
        assert_eq!(header.dumpavailsize, (version == 2).then_some(0x1000));
    }
}

#[test]
fn unknown_versions_are_refused() {
    for arch in LITTLE.into_iter().chain([Arch::Arm, Arch::Mips]) {
        let newest = newest_version(arch);
        for version in [0, newest + 1, 17, u32::MAX] {
            assert_eq!(
                Header::parse(&page(magic(arch), version, &[])),
                Err(HeaderError::BadVersion {
                    arch: arch.name(),
                    version,
                    newest
                })
            );
        }
    }
}

#[test]
fn versions_in_the_other_byte_order_are_recognised() {
    for arch in LITTLE {
        for version in 1..=newest_version(arch) {
            let bytes = page(magic(arch), version.swap_bytes(), &[]);
            let expected = HeaderError::OtherEndian {
                arch: arch.name(),
                version,
            };
            assert_eq!(Header::parse(&bytes), Err(expected));
            assert!(expected.to_string().contains("other byte order"));
        }
        // Beyond the newest version, swapping explains nothing.
        let bytes = page(magic(arch), 0x0900_0000, &[]);
        assert!(matches!(
            Header::parse(&bytes),
            Err(HeaderError::BadVersion { .. })
        ));
    }
}

#[test]
fn the_page_size_flags_of_arm64_are_two_bits() {
    for (flags, expected) in [
        (0, Ok(PageSize::SIZE_4K)),
        (1, Ok(PageSize::SIZE_16K)),
        (2, Err(HeaderError::PageSize(2))),
        (3, Err(HeaderError::PageSize(3))),
        (0xffff_fffc, Ok(PageSize::SIZE_4K)),
        (5, Ok(PageSize::SIZE_16K)),
    ] {
        let bytes = page("minidump FreeBSD/arm64", 3, &[(76, U32(flags))]);
        assert_eq!(
            Header::parse(&bytes).map(|header| header.page_size),
            expected
        );
    }
    let error = HeaderError::PageSize(2).to_string();
    assert!(error.starts_with("unsupported page size"), "{error}");
}

#[test]
fn a_direct_map_is_linear_inside_its_bounds() {
    let map = DirectMap {
        base: VirtAddr(0xffff_a000_0000_0000),
        end: VirtAddr(0xffff_a000_0000_0000 + 64 * MIB),
        phys: PhysAddr(0x4000_0000),
    };
    for (va, pa) in [
        (map.base.0, Some(0x4000_0000)),
        (map.base.0 + 0x123, Some(0x4000_0123)),
        (map.end.0 - 1, Some(0x4000_0000 + 64 * MIB - 1)),
        (map.base.0 - 1, None),
        (map.end.0, None),
    ] {
        assert_eq!(map.phys_of(VirtAddr(va)), pa.map(PhysAddr));
    }
    assert_eq!(
        map.virt_of(PhysAddr(0x4000_0123)),
        Some(VirtAddr(map.base.0 + 0x123))
    );
    for unreached in [0, 0x3fff_ffff, 0x4000_0000 + 64 * MIB, u64::MAX] {
        assert_eq!(map.virt_of(PhysAddr(unreached)), None);
    }
}

#[test]
fn a_direct_map_at_the_ends_of_both_spaces_does_not_overflow() {
    let (base, end) = (VirtAddr(u64::MAX - 0xfff), VirtAddr(u64::MAX));
    let map = DirectMap {
        base,
        end,
        phys: PhysAddr(u64::MAX - 1),
    };
    assert_eq!(map.phys_of(base), Some(PhysAddr(u64::MAX - 1)));
    assert_eq!(map.phys_of(VirtAddr(base.0 + 2)), None);
    assert_eq!(map.virt_of(PhysAddr(u64::MAX)), Some(VirtAddr(base.0 + 1)));
    let reversed = DirectMap {
        base: end,
        end: base,
        phys: PhysAddr(0),
    };
    assert_eq!(
        (reversed.phys_of(base), reversed.phys_of(end)),
        (None, None)
    );
    assert_eq!(reversed.virt_of(PhysAddr(0)), None);
}

proptest! {
    #[test]
    fn what_follows_the_prefix_is_decoded_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
        arch in prop::sample::select(&Arch::ALL[..]),
        keep in 0usize..40,
    ) {
        let magic = magic(arch).as_bytes();
        for (to, from) in bytes.iter_mut().zip(&magic[..keep.min(magic.len())]) {
            *to = *from;
        }
        if let Ok(header) = Header::parse(&bytes) {
            prop_assert!((1..=newest_version(header.arch)).contains(&header.version));
            prop_assert!(keep >= magic.len() && !magic.is_empty());
        }
    }
}
