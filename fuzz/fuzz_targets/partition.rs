//! Partition tables: GPT, MBR with its chain of logical partitions, BSD label. Whatever they claim,
//! decoding never panics, the walk ends, and the partition that is asked for is the one that is found.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::container::{self, ContainerError, ContainerOptions, Layer, Opened};
use vmcore::format::partition::{
    GPT_ENTRIES_MAX, Gpt, SECTOR_LEN, bsd_partitions, is_extended, mbr_slices,
};
use vmcore_fuzz::file::InputFile;
use vmcore_fuzz::limit;
use vmcore_synth::header::DumpHeader;

/// Bytes of the dump on the disk.
const DUMP: u64 = 1024;
/// Bytes of the partition that it is in.
const DEVICE: u64 = 1 << 17;

fuzz_target!(|data: &[u8]| {
    let Some((form, data)) = data.split_first() else {
        return;
    };
    tables(data);
    let disk = disk(*form, data);
    let file = InputFile::new(&disk);
    limit::memory(disk.len(), || {
        let names = match open(&file, None) {
            Ok(opened) => layer(&opened).into_iter().collect(),
            Err(ContainerError::SeveralDumps { partitions, .. }) => {
                assert!(partitions.len() > 1);
                partitions.into_iter().map(|(name, _)| name).collect()
            }
            Err(_) => Vec::new(),
        };
        for name in names.iter().take(8) {
            match open(&file, Some(name)) {
                Ok(opened) => assert_eq!(layer(&opened).as_ref(), Some(name)),
                // Two slices may have one name only if they are one.
                Err(error) => panic!("{name}: {error}"),
            }
        }
        for name in ["p1", "s1", "s5", "1", "s1a"] {
            let _ = open(&file, Some(name));
        }
    });
});

fn open(file: &InputFile, partition: Option<&str>) -> Result<Opened, ContainerError> {
    let options = ContainerOptions {
        partition: partition.map(str::to_owned),
        ..ContainerOptions::default()
    };
    container::open(file.path(), &options)
}

fn layer(opened: &Opened) -> Option<String> {
    match opened.layers.first() {
        Some(Layer::Disk { partition }) => Some(partition.clone()),
        _ => None,
    }
}

/// Every decoder on the bytes as they are.
fn tables(data: &[u8]) {
    let mut sector = [0; SECTOR_LEN];
    let len = data.len().min(SECTOR_LEN);
    sector[..len].copy_from_slice(&data[..len]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    for slice in mbr_slices(&sector).expect("its magic is right") {
        assert!((1..=4).contains(&slice.number) && slice.sectors > 0);
        let _ = is_extended(slice.kind);
    }
    if let Some(gpt) = Gpt::parse(data) {
        assert!((1..=GPT_ENTRIES_MAX).contains(&gpt.entries));
        for partition in gpt.partitions(data) {
            assert!(partition.sectors > 0 && partition.number > 0);
        }
    }
    if let Some(partitions) = bsd_partitions(data) {
        assert!(partitions.count() <= 20);
    }
}

/// A disk that starts with `data`, made to look like one of the tables, and ends in a dump.
fn disk(form: u8, data: &[u8]) -> Vec<u8> {
    let mut disk = data.to_vec();
    disk.resize(disk.len().clamp(8192, 1 << 15).next_multiple_of(512), 0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    match form % 3 {
        0 => {
            disk[450] = 0xee;
            disk[512..520].copy_from_slice(b"EFI PART");
            // A number and a size of entries that are taken.
            disk[594..596].fill(0);
            disk[596..600].copy_from_slice(&128u32.to_le_bytes());
        }
        1 => {
            // Tables everywhere: chains of any shape.
            disk[450] = 5;
            for sector in disk.chunks_exact_mut(512) {
                sector[510..].copy_from_slice(&[0x55, 0xaa]);
                for entry in [454, 470] {
                    sector[entry + 1..entry + 4].fill(0);
                }
            }
        }
        _ => {
            disk[450] = 0xa5;
            for sector in disk.chunks_exact_mut(512).skip(1) {
                for at in [0, 132] {
                    sector[at..at + 4].copy_from_slice(&0x8256_4557_u32.to_le_bytes());
                }
            }
        }
    }
    let header = DumpHeader::new("amd64", DUMP);
    let device = header.device(DEVICE, &[], &[9; DUMP as usize]);
    disk.extend(device.expect("room"));
    // What a mirror keeps after the header.
    if form & 0x80 != 0 {
        disk.extend(b"GEOM::MIRROR\0\0\0\0");
        disk.resize(disk.len().next_multiple_of(512), 0);
    }
    disk
}
