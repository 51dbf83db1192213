//! The identity block, with a checksum that is right: whatever decodes encodes to the same meaning.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore_format::checksum::checksum;
use vmcore_format::identity::{
    BUILD_ID_MAX, IDENTITY_LEN, IDENTITY_MAGIC, IDENTITY_MAX_LEN, Identity,
};

fuzz_target!(|data: &[u8]| {
    check(data);
    // Magic, version, length and checksum put right.
    let mut block = data[..data.len().min(IDENTITY_MAX_LEN)].to_vec();
    block.resize(block.len().max(IDENTITY_LEN), 0);
    let len = u32::try_from(block.len()).expect("below 3072");
    block[..8].copy_from_slice(&IDENTITY_MAGIC);
    block[8] = block[8].max(1);
    block[12..16].copy_from_slice(&len.to_le_bytes());
    let (summed, sum) = block.split_last_chunk_mut::<8>().expect("192 bytes");
    *sum = checksum(summed).to_le_bytes();
    assert!(check(&block), "a sound block is refused");
});

fn check(block: &[u8]) -> bool {
    let Ok(identity) = Identity::parse(block) else {
        return false;
    };
    assert!(identity.build_id.bytes().len() <= BUILD_ID_MAX);
    assert_eq!(Identity::parse(&identity.encode()), Ok(identity));
    true
}
