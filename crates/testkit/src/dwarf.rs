//! Debug information by hand: ELF files, units, abbreviations, line programs.

/// An ELF file of these sections: name, flags, contents.
pub fn elf(sections: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let mut names = vec![0];
    let mut bytes = vec![0; 64];
    let mut headers = vec![0; 64];
    let mut add = |name: &str, kind: u32, flags: u64, contents: &[u8], bytes: &mut Vec<u8>| {
        headers.extend((names.len() as u32).to_le_bytes());
        names.extend(name.as_bytes());
        names.push(0);
        headers.extend(kind.to_le_bytes());
        for word in [flags, 0, bytes.len() as u64] {
            headers.extend(word.to_le_bytes());
        }
        let contents = if kind == 3 {
            names.clone()
        } else {
            contents.to_vec()
        };
        for word in [contents.len() as u64, 0, 1, 0] {
            headers.extend(word.to_le_bytes());
        }
        bytes.extend(contents);
    };
    for (name, flags, contents) in sections {
        add(name, 1, *flags, contents, &mut bytes);
    }
    add(".shstrtab", 3, 0, &[], &mut bytes);
    let at = bytes.len() as u64;
    bytes.extend(&headers);
    let ident = [0x7f, b'E', b'L', b'F', 2, 1, 1, 9];
    bytes[..8].copy_from_slice(&ident);
    let halves = |at: usize, values: &[u16], bytes: &mut Vec<u8>| {
        for (position, value) in values.iter().enumerate() {
            bytes[at + 2 * position..][..2].copy_from_slice(&value.to_le_bytes());
        }
    };
    halves(16, &[2, 62, 1, 0], &mut bytes);
    bytes[40..48].copy_from_slice(&at.to_le_bytes());
    let count = sections.len() as u16 + 2;
    halves(52, &[64, 56, 0, 64, count, count - 1], &mut bytes);
    bytes
}

/// A number in LEB128.
pub fn uleb(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// An abbreviation table; abbreviations are numbered from 1.
#[derive(Default)]
pub struct Abbreviations {
    bytes: Vec<u8>,
    count: u64,
}

impl Abbreviations {
    /// Adds one: tag, children, names and forms of its attributes. Returns its code.
    pub fn add(&mut self, tag: u64, children: bool, attributes: &[(u64, u64)]) -> Vec<u8> {
        self.count += 1;
        self.bytes.extend(uleb(self.count));
        self.bytes.extend(uleb(tag));
        self.bytes.push(children.into());
        for (name, form) in attributes {
            self.bytes.extend(uleb(*name));
            self.bytes.extend(uleb(*form));
        }
        self.bytes.extend([0, 0]);
        uleb(self.count)
    }

    pub fn table(&self) -> Vec<u8> {
        [self.bytes.as_slice(), &[0]].concat()
    }
}

/// A unit of DWARF up to version 4, whose header has 11 bytes, with its entries.
pub fn unit(version: u16, abbreviations: u32, entries: &[u8]) -> Vec<u8> {
    let mut unit = (entries.len() as u32 + 7).to_le_bytes().to_vec();
    unit.extend(version.to_le_bytes());
    unit.extend(abbreviations.to_le_bytes());
    unit.push(8);
    unit.extend(entries);
    unit
}

/// A line program with one file, `a.c`, that starts at an address; special opcode 33 moves on by one
/// line and one byte.
pub fn line_program(address: u64, opcodes: &[u8]) -> Vec<u8> {
    // Shortest instruction, operations, statements, line base and range, first special opcode.
    let mut header = vec![1, 1, 1, 0xfb, 14, 13];
    header.extend([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1]);
    header.extend(b"\0a.c\0\0\0\0\0");
    let mut program = vec![0, 9, 2];
    program.extend(address.to_le_bytes());
    program.extend(opcodes);
    program.extend([2, 1, 0, 1, 1]);
    let mut lines = 4_u16.to_le_bytes().to_vec();
    lines.extend((header.len() as u32).to_le_bytes());
    lines.extend(header);
    lines.extend(program);
    [&(lines.len() as u32).to_le_bytes()[..], &lines].concat()
}
