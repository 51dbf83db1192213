//! Tests: headers that are written are read back, field for field, in every version.

use super::*;
use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::endian::Endian;

fn header(arch: Arch, version: u32) -> Header {
    let direct_map = DirectMap {
        base: VirtAddr(0xffff_f800_0000_0000),
        end: VirtAddr(0xffff_fc00_0000_0000),
        phys: PhysAddr(match arch {
            Arch::Amd64 | Arch::Powerpc64 => 0,
            _ => 0x8000_0000,
        }),
    };
    Header {
        arch,
        version,
        endian: Endian::Little,
        page_size: PageSize::SIZE_4K,
        msgbufsize: 98232,
        bitmapsize: 0x1000,
        pmapsize: 0x7f_f000,
        dumpavailsize: has_dump_avail(arch, version).then_some(0x2000),
        kernbase: VirtAddr(match arch {
            Arch::I386 => 0x80_0000,
            Arch::Arm | Arch::Mips => 0xc000_0000,
            Arch::Mips64 => 0xc000_0000_0000_0000,
            _ => 0xffff_fe00_0000_0000,
        }),
        direct_map: (!matches!(arch, Arch::I386 | Arch::Arm | Arch::Mips | Arch::Mips64))
            .then_some(direct_map),
        mmu: match arch {
            Arch::I386 => Mmu::Pae,
            Arch::Powerpc64 => Mmu::Powerpc64(Powerpc64Mmu {
                hashed: false,
                kernend: VirtAddr(0xc008_0007_ffff_ffff),
                hw_direct_map: true,
                startkernel: VirtAddr(0xc000_0000_0050_0100),
                endkernel: VirtAddr(0xc000_0000_0250_0000),
            }),
            _ => Mmu::Usual,
        },
    }
}

#[test]
fn every_version_is_read_back_and_the_rest_of_the_page_is_zero() {
    for arch in Arch::ALL {
        for version in 1..=newest_version(arch) {
            let header = header(arch, version);
            let mut page = [0xaa; 4096];
            for endian in [Endian::Little, Endian::Big] {
                let header = Header { endian, ..header };
                let is_bi_endian = matches!(
                    arch,
                    Arch::Arm | Arch::Mips | Arch::Mips64 | Arch::Powerpc64
                );
                if endian == Endian::Big && !is_bi_endian {
                    continue;
                }
                assert_eq!(header.encode(&mut page), Ok(()));
                assert_eq!(Header::parse(&page), Ok(header));
                let end = if arch == Arch::Powerpc64 { 140 } else { 80 };
                assert!(
                    page[end..].iter().all(|byte| *byte == 0),
                    "{arch} {version}"
                );
            }
        }
    }
}

#[test]
fn amd64_version_3_stands_as_in_the_kernels_header_file() {
    let mut page = [0xaa; 4096];
    header(Arch::Amd64, 3).encode(&mut page).unwrap();
    assert_eq!(&page[..24], b"minidump FreeBSD/amd64\0\0");
    assert_eq!(page[24..28], [3, 0, 0, 0]);
    assert_eq!(page[28..32], 98232u32.to_le_bytes());
    assert_eq!(page[32..36], [0, 0x10, 0, 0]);
    assert_eq!(page[36..40], [0, 0xf0, 0x7f, 0]);
    assert_eq!(page[40..48], 0xffff_fe00_0000_0000u64.to_le_bytes());
    assert_eq!(page[56..64], 0xffff_fc00_0000_0000u64.to_le_bytes());
    assert_eq!(page[64..68], [0, 0x20, 0, 0]);
}

#[test]
fn what_a_version_cannot_say_is_refused() {
    let mut page = [0; 4096];
    let unwritable = |header: Header, page: &mut [u8]| {
        assert!(matches!(
            header.encode(page),
            Err(HeaderError::Unwritable(_))
        ));
    };
    unwritable(
        Header {
            dumpavailsize: None,
            ..header(Arch::Amd64, 3)
        },
        &mut page,
    );
    unwritable(
        Header {
            direct_map: None,
            ..header(Arch::Arm64, 3)
        },
        &mut page,
    );
    unwritable(
        Header {
            page_size: PageSize::SIZE_16K,
            ..header(Arch::Arm64, 2)
        },
        &mut page,
    );
    unwritable(
        Header {
            kernbase: VirtAddr(1 << 32),
            ..header(Arch::I386, 2)
        },
        &mut page,
    );
    let nine = Header {
        version: 9,
        ..header(Arch::Amd64, 3)
    };
    assert!(matches!(
        nine.encode(&mut page),
        Err(HeaderError::BadVersion { .. })
    ));
    let short = header(Arch::Amd64, 3).encode(&mut page[..67]);
    assert_eq!(short, Err(HeaderError::Truncated { have: 67, need: 68 }));
}
