//! Disks of our own making around a partition that ends in a dump: GPT, MBR with a BSD label, MBR with
//! logical partitions.

/// A GPT of our own: one partition for data, one that ends in a dump. Its checksums are not looked
/// at by anybody here.
pub(crate) fn gpt(partition: &[u8]) -> Vec<u8> {
    let sectors = partition.len() as u64 / 512;
    let mut disk = vec![0; 40 * 512];
    disk[446 + 4] = 0xee;
    disk[446 + 8..446 + 12].copy_from_slice(&1u32.to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&u32::MAX.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[512 + 72..512 + 80].copy_from_slice(&2u64.to_le_bytes());
    disk[512 + 80..512 + 84].copy_from_slice(&4u32.to_le_bytes());
    disk[512 + 84..512 + 88].copy_from_slice(&128u32.to_le_bytes());
    for (number, first, last) in [(0, 34u64, 39u64), (2, 40, 40 + sectors - 1)] {
        let at = 1024 + number * 128;
        disk[at..at + 16].fill(7);
        disk[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
        disk[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
    }
    disk.extend(partition);
    disk.extend(vec![0; 34 * 512]);
    disk
}

/// A GPT whose third and fourth partitions end in dumps.
pub(crate) fn gpt_of_two(third: &[u8], fourth: &[u8]) -> Vec<u8> {
    let mut disk = gpt(&[third, fourth].concat());
    let between = 40 + third.len() as u64 / 512;
    let entry = 1024 + 2 * 128;
    disk.copy_within(entry..entry + 128, entry + 128);
    disk[entry + 40..entry + 48].copy_from_slice(&(between - 1).to_le_bytes());
    disk[entry + 160..entry + 168].copy_from_slice(&between.to_le_bytes());
    disk
}

/// An MBR with one FreeBSD slice, in which a label has the swap partition `b`.
pub(crate) fn mbr(partition: &[u8]) -> Vec<u8> {
    let sectors = partition.len() as u32 / 512;
    let slice = 16 + sectors;
    let mut disk = vec![0; (63 + 16) * 512];
    disk[446 + 4] = 0xa5;
    disk[446 + 8..446 + 12].copy_from_slice(&63u32.to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&slice.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let label = 64 * 512;
    for at in [0, 132] {
        disk[label + at..label + at + 4].copy_from_slice(&0x8256_4557_u32.to_le_bytes());
    }
    disk[label + 138] = 3;
    for (index, size, offset) in [(1, sectors, 63 + 16), (2, slice, 63u32)] {
        let at = label + 148 + index * 16;
        disk[at..at + 4].copy_from_slice(&size.to_le_bytes());
        disk[at + 4..at + 8].copy_from_slice(&offset.to_le_bytes());
    }
    disk.extend(partition);
    disk
}

/// An MBR with an extended slice, in which the second logical partition ends in a dump.
pub(crate) fn logical(partition: &[u8]) -> Vec<u8> {
    let sectors = partition.len() as u32 / 512;
    let mut disk = vec![0; 80 * 512];
    let mut table = |at: usize, entries: &[(u8, u32, u32)]| {
        for (number, (kind, first, sectors)) in entries.iter().enumerate() {
            let entry = at * 512 + 446 + number * 16;
            disk[entry + 4] = *kind;
            disk[entry + 8..entry + 12].copy_from_slice(&first.to_le_bytes());
            disk[entry + 12..entry + 16].copy_from_slice(&sectors.to_le_bytes());
        }
        disk[at * 512 + 510..at * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    };
    table(0, &[(0x83, 1, 10), (0x0f, 20, 60 + sectors)]);
    table(20, &[(0x83, 4, 10), (0x05, 40, 20 + sectors)]);
    // The second says that the first comes next: a chain without an end.
    table(60, &[(0xa5, 20, sectors), (0x05, 0, 60)]);
    disk.extend(partition);
    disk
}
