//! A client's datagrams to the netdump server, as any host may send them: they change nothing but
//! the client's own files, within the limits, and no dump with a hole is called complete.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;
use vmcore_format::netdump::Message;
use vmcore_fuzz::file::output_folder;
use vmcore_fuzz::input::Input;
use vmcore_fuzz::limit;
use vmcore_pipeline::serve::{Limits, Outcome, Reception};
use vmcore_synth::header::DumpHeader;

const LIMITS: Limits = Limits {
    dump_bytes: 1 << 20,
    free_bytes: 0,
};

fuzz_target!(|data: &[u8]| {
    let datagrams = datagrams(data);
    let sent: usize = datagrams.iter().map(Vec::len).sum();
    let folder = output_folder();
    let client: SocketAddr = "192.0.2.1:20024".parse().expect("an address");
    let herald = message(1, 1, 0, &[]);
    let herald = Message::parse(&herald).expect("a herald");
    let ended = limit::memory(sent, || {
        let directory = folder.path().to_owned();
        let mut reception = Reception::new(directory, LIMITS, client, &herald, 1);
        for datagram in &datagrams {
            let reply = reception.datagram(datagram);
            assert!(reply.acks.len() <= 64, "more acks than datagrams");
            if reply.ended {
                break;
            }
            reception.tick();
        }
        reception.end(Outcome::TimedOut, 2, || {})
    });
    for entry in std::fs::read_dir(folder.path()).expect("the folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name in ASCII");
        let own = name == "bounds.192.0.2.1"
            || name.contains(".192.0.2.1.0")
            || name.ends_with(".192.0.2.1.last");
        assert!(own, "{name}");
        let len = entry.metadata().expect("it is there").len();
        assert!(len <= LIMITS.dump_bytes, "{name} has {len} bytes");
    }
    let Some(record) = ended.map(|ended| ended.record) else {
        return;
    };
    if record.outcome == Outcome::Complete {
        assert!(record.gaps.is_empty());
        let header = record.header.expect("a complete dump has a header");
        let core = folder.path().join(&record.core_file);
        let len = std::fs::metadata(core).expect("it is there").len();
        assert_eq!(len, header.dumplength);
    } else {
        assert!(
            record.core_file.ends_with(".incomplete"),
            "{}",
            record.core_file
        );
    }
});

fn message(kind: u32, seqno: u32, offset: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("small");
    let mut bytes = [kind.to_be_bytes(), seqno.to_be_bytes()].concat();
    bytes.extend(offset.to_be_bytes());
    bytes.extend([len.to_be_bytes(), [0; 4]].concat());
    bytes.extend(payload);
    bytes
}

/// What the input sends: mostly the next datagram of a dump, sometimes anything else.
fn datagrams(data: &[u8]) -> Vec<Vec<u8>> {
    let mut input = Input(data);
    let mut datagrams = Vec::new();
    let (mut seqno, mut offset) = (2u32, 0u64);
    while !input.0.is_empty() && datagrams.len() < 400 {
        let what = input.byte();
        let payload = match what >> 4 & 3 {
            0 => vec![what; 1448],
            1 => vec![0; 4096],
            2 => vec![what; usize::from(input.byte())],
            _ => Vec::new(),
        };
        match what % 12 {
            0..=5 => {
                let end = offset.wrapping_add(payload.len() as u64);
                datagrams.push(message(3, seqno, offset, &payload));
                offset = end;
            }
            6 => {
                let mut header = DumpHeader::new("amd64", offset);
                header.dumpkeysize = u32::from(what >> 6) * 512;
                header.compression = what >> 6 & 3;
                datagrams.push(message(4, seqno, 0, &header.build()));
            }
            7 => datagrams.push(message(2, seqno, 0, &[])),
            8 => datagrams.push(message(5, seqno, u64::from(input.byte()) * 64, &payload)),
            9 => {
                // Again, or too early.
                seqno = seqno.wrapping_add_signed(i32::from(input.byte().cast_signed()));
                continue;
            }
            10 => offset = input.u64() >> (input.byte() % 64),
            _ => {
                let len = usize::from(input.byte()).min(input.0.len());
                let (raw, rest) = input.0.split_at(len);
                datagrams.push(raw.to_vec());
                input.0 = rest;
            }
        }
        seqno = seqno.wrapping_add(1);
    }
    datagrams
}
