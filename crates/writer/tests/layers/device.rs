//! Layers above a disk: where header, key and compressed bytes are, and what becomes of too small a
//! partition. Positions are those of the specification's section 1.5.

use crate::memory::{Stretch, fill, send};
use crate::zstd_frames;
use vmcore_format::kerneldump::{Compression, DumpHeader};
use vmcore_format::kerneldumpkey::{Cipher, KeyBlock};
use vmcore_writer::device::{BlockDevice, DeviceError, Geometry};
use vmcore_writer::disk::DiskSink;
use vmcore_writer::encrypt::{DumpKey, ENCRYPTION_MEMORY_BYTES, Encrypted};
use vmcore_writer::settings::Patience;
use vmcore_writer::sink::SinkError;
use vmcore_writer::zstd::Zstd;

/// A disk of memory.
#[derive(Debug)]
struct Disk {
    bytes: Vec<u8>,
    block: u32,
    written: usize,
}

impl BlockDevice for &mut Disk {
    fn geometry(&self) -> Geometry {
        Geometry {
            block_bytes: self.block,
            max_transfer_bytes: 64 << 10,
            media_offset: 0,
            media_bytes: self.bytes.len() as u64,
        }
    }

    fn prepare(&mut self, _: u32) -> Result<(), DeviceError> {
        Ok(())
    }

    fn submit(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        assert!(data.len().is_multiple_of(self.block as usize));
        self.bytes[offset as usize..][..data.len()].copy_from_slice(data);
        self.written = data.len();
        Ok(())
    }

    fn complete(&mut self, _: u32) -> Result<usize, DeviceError> {
        Ok(self.written)
    }

    fn flush(&mut self, _: u32) -> Result<(), DeviceError> {
        Ok(())
    }
}

fn disk(len: usize, block: u32) -> Disk {
    Disk {
        bytes: vec![0x5a; len],
        block,
        written: 0,
    }
}

/// Sends `plain` through zstd and ChaCha20 to the disk.
fn dump(disk: &mut Disk, plain: &[u8]) -> Result<(), SinkError> {
    let mut key = DumpKey::new(Cipher::ChaCha20, &[9; 64], &[0xee; 512], [1; 32]).unwrap();
    let mut memory = vec![0; ENCRYPTION_MEMORY_BYTES];
    let mut words = zstd_frames::memory();
    let sink = DiskSink::new(disk, Patience::default());
    let layer = Encrypted::new(sink, &mut key, &mut memory).unwrap();
    let mut layer = Zstd::new(layer, zstd_frames::bytes(&mut words)).unwrap();
    send(&mut layer, plain, 128 << 10)
}

#[test]
fn header_key_and_payload_lie_where_freebsds_tools_look() {
    let plain = fill(&[(Stretch::Text(3, 20), 50_000); 40]);
    for block in [512, 4096] {
        for media in [8 << 20, plain.len() / 4 * 3] {
            let media = media.next_multiple_of(4096);
            let mut disk = disk(media, block);
            dump(&mut disk, &plain).unwrap();
            let block = block as usize;
            let trailer = &disk.bytes[media - block..];
            let header = DumpHeader::parse(trailer).unwrap();
            assert_eq!(header.compression, Compression::Zstd);
            assert_eq!(header.blocksize as usize, block);
            let key_len = 549usize.next_multiple_of(block);
            assert_eq!(header.dumpkeysize as usize, key_len);
            assert!(header.dumplength < plain.len() as u64 && header.dumplength > 0);
            let data = media - block - header.dumpextent as usize;
            let leader = data - key_len - block;
            assert_eq!(disk.bytes[leader..][..512], trailer[..512]);
            let key = KeyBlock::parse(&disk.bytes[leader + block..][..key_len]).unwrap();
            assert_eq!(
                (key.cipher, key.encrypted_key),
                (Cipher::ChaCha20, &[0xee; 512][..])
            );
            // What was never to be touched is as it was.
            assert!(disk.bytes[..64 << 10].iter().all(|byte| *byte == 0x5a));
            let used = header.dumplength as usize;
            let rest = &disk.bytes[data + used.next_multiple_of(4096)..media - block];
            assert!(rest.iter().all(|byte| *byte == 0x5a), "beyond the dump");
        }
    }
}

#[test]
fn a_dump_that_outgrows_its_partition_leaves_no_header() {
    let noise: Vec<_> = (0..40).map(|seed| (Stretch::Noise(seed), 65_000)).collect();
    let noise = fill(&noise);
    let mut disk = disk(1 << 20, 512);
    let error = dump(&mut disk, &noise).unwrap_err();
    assert!(matches!(error, SinkError::Outgrown { .. }), "{error}");
    assert!(DumpHeader::parse(&disk.bytes[(1 << 20) - 512..]).is_err());
    assert!(disk.bytes[..64 << 10].iter().all(|byte| *byte == 0x5a));
}
