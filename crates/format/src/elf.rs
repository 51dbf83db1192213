//! ELF structures of full dumps, and of the cores that we write.
//!
//! Source: the System V ABI, chapter 4; FreeBSD's `sys/kern/kern_dump.c` for what its full dumps
//! put there (`e_version` 0, OSABI 255, `p_vaddr` = `p_paddr`). One structure for each class,
//! generic over the byte order; [`FileHeader`] and [`Segment`] are what they mean, without class
//! and order.
//!
//! ```
//! use vmcore_format::elf::{ElfError, FileHeader};
//! assert_eq!(FileHeader::parse(b"\x7fELF\x05"), Err(ElfError::BadClass(5)));
//! ```

use crate::endian::{Endian, Width};
use thiserror::Error;
use zerocopy::byteorder::{BE, ByteOrder, LE, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of every ELF file.
pub const ELF_MAGIC: &[u8; 4] = b"\x7fELF";
/// Object types and other constants, by their ABI names.
pub const ET_EXEC: u16 = 2;
/// A core file.
pub const ET_CORE: u16 = 4;
/// A loadable segment.
pub const PT_LOAD: u32 = 1;
/// Notes.
pub const PT_NOTE: u32 = 4;
/// FreeBSD's header that says where the kernel was loaded; see [`crate::elf`] users.
pub const PT_DUMP_DELTA: u32 = 0x6fb5_d000;
/// `e_phnum` when the real number is in `sh_info` of section 0.
pub const PN_XNUM: u16 = 0xffff;
/// Owner of the note that says where a core comes from, with its NUL.
pub const ORIGIN_OWNER: &[u8; 7] = b"vmcore\0";
/// Its type: lines of `name=value`. Not a number that readelf takes for one of its own.
pub const NT_VMCORE_ORIGIN: u32 = 0x766d_0001;
/// The name of the line that says how far the kernel ran from the addresses in its file: a hexadecimal
/// number. Absent if it ran where it was linked.
pub const ORIGIN_DISPLACEMENT: &str = "displacement";
/// `ELFOSABI_LINUX`.
const ELFOSABI_LINUX: u8 = 3;
/// Segment may be executed.
pub const PF_X: u32 = 1;
/// Segment may be written.
pub const PF_W: u32 = 2;
/// Segment may be read.
pub const PF_R: u32 = 4;

/// `Elf32_Ehdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the ABI's")]
pub struct Elf32Ehdr<O: ByteOrder> {
    pub e_ident: [u8; 16],
    pub e_type: U16<O>,
    pub e_machine: U16<O>,
    pub e_version: U32<O>,
    pub e_entry: U32<O>,
    pub e_phoff: U32<O>,
    pub e_shoff: U32<O>,
    pub e_flags: U32<O>,
    pub e_ehsize: U16<O>,
    pub e_phentsize: U16<O>,
    pub e_phnum: U16<O>,
    pub e_shentsize: U16<O>,
    pub e_shnum: U16<O>,
    pub e_shstrndx: U16<O>,
}

/// `Elf64_Ehdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the ABI's")]
pub struct Elf64Ehdr<O: ByteOrder> {
    pub e_ident: [u8; 16],
    pub e_type: U16<O>,
    pub e_machine: U16<O>,
    pub e_version: U32<O>,
    pub e_entry: U64<O>,
    pub e_phoff: U64<O>,
    pub e_shoff: U64<O>,
    pub e_flags: U32<O>,
    pub e_ehsize: U16<O>,
    pub e_phentsize: U16<O>,
    pub e_phnum: U16<O>,
    pub e_shentsize: U16<O>,
    pub e_shnum: U16<O>,
    pub e_shstrndx: U16<O>,
}

/// `Elf32_Phdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the ABI's")]
pub struct Elf32Phdr<O: ByteOrder> {
    pub p_type: U32<O>,
    pub p_offset: U32<O>,
    pub p_vaddr: U32<O>,
    pub p_paddr: U32<O>,
    pub p_filesz: U32<O>,
    pub p_memsz: U32<O>,
    pub p_flags: U32<O>,
    pub p_align: U32<O>,
}

/// `Elf64_Phdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the ABI's")]
pub struct Elf64Phdr<O: ByteOrder> {
    pub p_type: U32<O>,
    pub p_flags: U32<O>,
    pub p_offset: U64<O>,
    pub p_vaddr: U64<O>,
    pub p_paddr: U64<O>,
    pub p_filesz: U64<O>,
    pub p_memsz: U64<O>,
    pub p_align: U64<O>,
}

/// `Elf32_Shdr`, of which only section 0 matters here.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the ABI's")]
pub struct Elf32Shdr<O: ByteOrder> {
    pub sh_name: U32<O>,
    pub sh_type: U32<O>,
    pub sh_flags: U32<O>,
    pub sh_addr: U32<O>,
    pub sh_offset: U32<O>,
    pub sh_size: U32<O>,
    pub sh_link: U32<O>,
    pub sh_info: U32<O>,
    pub sh_addralign: U32<O>,
    pub sh_entsize: U32<O>,
}

/// `Elf64_Shdr`, of which only section 0 matters here.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the ABI's")]
pub struct Elf64Shdr<O: ByteOrder> {
    pub sh_name: U32<O>,
    pub sh_type: U32<O>,
    pub sh_flags: U64<O>,
    pub sh_addr: U64<O>,
    pub sh_offset: U64<O>,
    pub sh_size: U64<O>,
    pub sh_link: U32<O>,
    pub sh_info: U32<O>,
    pub sh_addralign: U64<O>,
    pub sh_entsize: U64<O>,
}

const _: () = {
    assert!(size_of::<Elf32Ehdr<LE>>() == 52 && size_of::<Elf64Ehdr<LE>>() == 64);
    assert!(size_of::<Elf32Phdr<LE>>() == 32 && size_of::<Elf64Phdr<LE>>() == 56);
    assert!(size_of::<Elf32Shdr<LE>>() == 40 && size_of::<Elf64Shdr<LE>>() == 64);
    assert!(core::mem::offset_of!(Elf64Ehdr<LE>, e_phoff) == 32);
    assert!(core::mem::offset_of!(Elf32Ehdr<LE>, e_phnum) == 44);
    assert!(core::mem::offset_of!(Elf64Phdr<LE>, p_paddr) == 24);
    assert!(core::mem::offset_of!(Elf64Shdr<LE>, sh_info) == 44);
};

/// Why bytes are not an ELF file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ElfError {
    /// Not an ELF file at all.
    #[error("not an ELF file")]
    NotElf,
    /// Neither 32 nor 64 bits.
    #[error("ELF class {0}: neither 32 nor 64 bits")]
    BadClass(u8),
    /// Neither byte order.
    #[error("ELF data encoding {0}: neither byte order")]
    BadEndian(u8),
    /// The file ends inside the header.
    #[error("truncated inside the ELF header")]
    Truncated,
}

/// What an ELF file header says, in either class and byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Class: width of addresses.
    pub class: Width,
    /// Byte order.
    pub endian: Endian,
    /// `e_type`.
    pub e_type: u16,
    /// `e_machine`.
    pub e_machine: u16,
    /// File offset of the program headers.
    pub e_phoff: u64,
    /// Bytes of a program header.
    pub e_phentsize: u16,
    /// Number of program headers, or [`PN_XNUM`].
    pub e_phnum: u16,
    /// File offset of the section headers.
    pub e_shoff: u64,
}

impl FileHeader {
    /// Bytes that suffice for either class.
    pub const MAX_LEN: usize = 64;

    /// Decodes the header at the start of `bytes`. `e_version` is not looked at: FreeBSD's full
    /// dumps leave it 0.
    ///
    /// # Errors
    /// Returns an error if the magic, class or encoding is wrong, or bytes are missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        if !bytes.starts_with(ELF_MAGIC) {
            return Err(ElfError::NotElf);
        }
        let ident = |index: usize| bytes.get(index).copied().ok_or(ElfError::Truncated);
        let class = match ident(4)? {
            1 => Width::W32,
            2 => Width::W64,
            other => return Err(ElfError::BadClass(other)),
        };
        match ident(5)? {
            1 => Self::decode::<LE>(bytes, class, Endian::Little),
            2 => Self::decode::<BE>(bytes, class, Endian::Big),
            other => Err(ElfError::BadEndian(other)),
        }
    }

    fn decode<O: ByteOrder>(bytes: &[u8], class: Width, endian: Endian) -> Result<Self, ElfError> {
        match class {
            Width::W32 => {
                let raw: &Elf32Ehdr<O> = view(bytes).ok_or(ElfError::Truncated)?;
                Ok(Self {
                    class,
                    endian,
                    e_type: raw.e_type.get(),
                    e_machine: raw.e_machine.get(),
                    e_phoff: u64::from(raw.e_phoff.get()),
                    e_phentsize: raw.e_phentsize.get(),
                    e_phnum: raw.e_phnum.get(),
                    e_shoff: u64::from(raw.e_shoff.get()),
                })
            }
            Width::W64 => {
                let raw: &Elf64Ehdr<O> = view(bytes).ok_or(ElfError::Truncated)?;
                Ok(Self {
                    class,
                    endian,
                    e_type: raw.e_type.get(),
                    e_machine: raw.e_machine.get(),
                    e_phoff: raw.e_phoff.get(),
                    e_phentsize: raw.e_phentsize.get(),
                    e_phnum: raw.e_phnum.get(),
                    e_shoff: raw.e_shoff.get(),
                })
            }
        }
    }

    /// Writes the file header of a full dump to the start of `out`: OSABI 255 (standalone), version 0,
    /// no sections, as `sys/kern/kern_dump.c` has it. Returns its length in bytes, or `None` if `out`
    /// is too short or an offset does not fit the class.
    #[must_use]
    pub fn encode_full_dump(&self, out: &mut [u8]) -> Option<usize> {
        match self.endian {
            Endian::Little => self.encode::<LE>([1, 255], 0, out),
            Endian::Big => self.encode::<BE>([2, 255], 0, out),
        }
    }

    /// Writes the file header of a core for debuggers to the start of `out`: version 1, and one section
    /// if `e_phnum` is [`PN_XNUM`]. Its OSABI is Linux', whose notes it has, for lldb reads none without;
    /// on big-endian machines, of which lldb knows no such notes and ends itself, 0. Returns its length in bytes, or `None` if `out` is
    /// too short or an offset does not fit the class.
    #[must_use]
    pub fn encode_core(&self, out: &mut [u8]) -> Option<usize> {
        match self.endian {
            Endian::Little => self.encode::<LE>([1, ELFOSABI_LINUX], 1, out),
            Endian::Big => self.encode::<BE>([2, 0], 1, out),
        }
    }

    fn encode<O: ByteOrder>(
        &self,
        [data, osabi]: [u8; 2],
        version: u32,
        out: &mut [u8],
    ) -> Option<usize> {
        let [m0, m1, m2, m3] = *ELF_MAGIC;
        let ident = |class| {
            [
                m0, m1, m2, m3, class, data, 1, osabi, 0, 0, 0, 0, 0, 0, 0, 0,
            ]
        };
        let e_shnum = u16::from(self.e_phnum == PN_XNUM);
        match self.class {
            Width::W32 => put(
                &Elf32Ehdr::<O> {
                    e_ident: ident(1),
                    e_type: U16::new(self.e_type),
                    e_machine: U16::new(self.e_machine),
                    e_version: U32::new(version),
                    e_entry: U32::new(0),
                    e_phoff: U32::new(u32::try_from(self.e_phoff).ok()?),
                    e_shoff: U32::new(u32::try_from(self.e_shoff).ok()?),
                    e_flags: U32::new(0),
                    e_ehsize: U16::new(52),
                    e_phentsize: U16::new(self.e_phentsize),
                    e_phnum: U16::new(self.e_phnum),
                    e_shentsize: U16::new(40),
                    e_shnum: U16::new(e_shnum),
                    e_shstrndx: U16::new(0),
                },
                out,
            ),
            Width::W64 => put(
                &Elf64Ehdr::<O> {
                    e_ident: ident(2),
                    e_type: U16::new(self.e_type),
                    e_machine: U16::new(self.e_machine),
                    e_version: U32::new(version),
                    e_entry: U64::new(0),
                    e_phoff: U64::new(self.e_phoff),
                    e_shoff: U64::new(self.e_shoff),
                    e_flags: U32::new(0),
                    e_ehsize: U16::new(64),
                    e_phentsize: U16::new(self.e_phentsize),
                    e_phnum: U16::new(self.e_phnum),
                    e_shentsize: U16::new(64),
                    e_shnum: U16::new(e_shnum),
                    e_shstrndx: U16::new(0),
                },
                out,
            ),
        }
    }

    /// Bytes of a program header of this class.
    #[must_use]
    pub const fn phdr_len(&self) -> usize {
        match self.class {
            Width::W32 => size_of::<Elf32Phdr<LE>>(),
            Width::W64 => size_of::<Elf64Phdr<LE>>(),
        }
    }

    /// The program header at the start of `bytes`.
    #[must_use]
    pub fn segment(&self, bytes: &[u8]) -> Option<Segment> {
        match self.endian {
            Endian::Little => Segment::decode::<LE>(bytes, self.class),
            Endian::Big => Segment::decode::<BE>(bytes, self.class),
        }
    }

    /// `sh_info` of the section header at the start of `bytes`: the number of program headers when
    /// `e_phnum` is [`PN_XNUM`].
    #[must_use]
    pub fn section_info(&self, bytes: &[u8]) -> Option<u32> {
        self.endian.u32_at(bytes, self.section_info_offset())
    }

    /// Where `sh_info` is in a section header.
    #[must_use]
    pub const fn section_info_offset(&self) -> usize {
        match self.class {
            Width::W32 => core::mem::offset_of!(Elf32Shdr<LE>, sh_info),
            Width::W64 => core::mem::offset_of!(Elf64Shdr<LE>, sh_info),
        }
    }
}

/// A program header, in either class and byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the ABI's")]
pub struct Segment {
    pub p_type: u32,
    pub p_flags: u32,
    pub p_offset: u64,
    pub p_vaddr: u64,
    pub p_paddr: u64,
    pub p_filesz: u64,
    pub p_memsz: u64,
    pub p_align: u64,
}

impl Segment {
    /// Writes the program header to the start of `out`. Returns its length in bytes, or `None` if
    /// `out` is too short or a number does not fit the class.
    #[must_use]
    pub fn encode(&self, class: Width, endian: Endian, out: &mut [u8]) -> Option<usize> {
        match endian {
            Endian::Little => self.encode_in::<LE>(class, out),
            Endian::Big => self.encode_in::<BE>(class, out),
        }
    }

    fn encode_in<O: ByteOrder>(&self, class: Width, out: &mut [u8]) -> Option<usize> {
        let narrow = |value: u64| u32::try_from(value).ok().map(U32::<O>::new);
        match class {
            Width::W32 => put(
                &Elf32Phdr::<O> {
                    p_type: U32::new(self.p_type),
                    p_offset: narrow(self.p_offset)?,
                    p_vaddr: narrow(self.p_vaddr)?,
                    p_paddr: narrow(self.p_paddr)?,
                    p_filesz: narrow(self.p_filesz)?,
                    p_memsz: narrow(self.p_memsz)?,
                    p_flags: U32::new(self.p_flags),
                    p_align: narrow(self.p_align)?,
                },
                out,
            ),
            Width::W64 => put(
                &Elf64Phdr::<O> {
                    p_type: U32::new(self.p_type),
                    p_flags: U32::new(self.p_flags),
                    p_offset: U64::new(self.p_offset),
                    p_vaddr: U64::new(self.p_vaddr),
                    p_paddr: U64::new(self.p_paddr),
                    p_filesz: U64::new(self.p_filesz),
                    p_memsz: U64::new(self.p_memsz),
                    p_align: U64::new(self.p_align),
                },
                out,
            ),
        }
    }

    fn decode<O: ByteOrder>(bytes: &[u8], class: Width) -> Option<Self> {
        Some(match class {
            Width::W32 => {
                let raw: &Elf32Phdr<O> = view(bytes)?;
                Self {
                    p_type: raw.p_type.get(),
                    p_flags: raw.p_flags.get(),
                    p_offset: u64::from(raw.p_offset.get()),
                    p_vaddr: u64::from(raw.p_vaddr.get()),
                    p_paddr: u64::from(raw.p_paddr.get()),
                    p_filesz: u64::from(raw.p_filesz.get()),
                    p_memsz: u64::from(raw.p_memsz.get()),
                    p_align: u64::from(raw.p_align.get()),
                }
            }
            Width::W64 => {
                let raw: &Elf64Phdr<O> = view(bytes)?;
                Self {
                    p_type: raw.p_type.get(),
                    p_flags: raw.p_flags.get(),
                    p_offset: raw.p_offset.get(),
                    p_vaddr: raw.p_vaddr.get(),
                    p_paddr: raw.p_paddr.get(),
                    p_filesz: raw.p_filesz.get(),
                    p_memsz: raw.p_memsz.get(),
                    p_align: raw.p_align.get(),
                }
            }
        })
    }
}

fn view<T: FromBytes + KnownLayout + Immutable + Unaligned>(bytes: &[u8]) -> Option<&T> {
    T::ref_from_prefix(bytes).ok().map(|(view, _)| view)
}

fn put<T: IntoBytes + Immutable>(raw: &T, out: &mut [u8]) -> Option<usize> {
    raw.write_to_prefix(out).ok().map(|()| size_of::<T>())
}

#[cfg(test)]
mod encoded;
#[cfg(test)]
mod tests;
