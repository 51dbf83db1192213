//! What the stock tools make of a dump's file: `openssl`, `gzip`, `zstd`, where they are installed.

use super::{CLEAR_KEY, Layers};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use vmcore_format::kerneldump::Compression;
use vmcore_format::kerneldumpkey::{Cipher, KeyBlock};

/// Runs a tool with a file as its input; `None` if it is not installed.
fn tool(input: &Path, name: &str, args: &[&str]) -> Option<Vec<u8>> {
    let run = Command::new(name)
        .args(args)
        .stdin(Stdio::from(fs::File::open(input).unwrap()))
        .output();
    let run = match run {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("left out: {name} is not installed");
            return None;
        }
        run => run.unwrap(),
    };
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {said}");
    Some(run.stdout)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decrypts with OpenSSL, as decryptcore does.
fn decrypt(file: &Path, block: &KeyBlock<'_>) -> Option<Vec<u8>> {
    let (name, iv) = match block.cipher {
        Cipher::Aes256Cbc => ("-aes-256-cbc", hex(&block.aes_iv())),
        // Eight bytes of counter, eight of nonce.
        Cipher::ChaCha20 => (
            "-chacha20",
            format!("{}{}", "00".repeat(8), hex(&block.chacha20_nonce())),
        ),
    };
    let key = hex(&CLEAR_KEY[..32]);
    let args = ["enc", "-d", name, "-nopad", "-K", &key, "-iv", &iv];
    tool(file, "openssl", &args)
}

/// The file, and `key.N` beside it if it is encrypted, are `plain` to the tools.
pub(crate) fn check(file: &Path, key: Option<&Path>, layers: Layers, plain: &[u8], when: &str) {
    let decrypted = file.with_file_name("decrypted");
    let file = match (key, layers.cipher) {
        (Some(key), Some(cipher)) => {
            let block = fs::read(key).unwrap();
            let block = KeyBlock::parse(&block).unwrap();
            assert_eq!(block.cipher, cipher, "{when}");
            let Some(bytes) = decrypt(file, &block) else {
                return;
            };
            fs::write(&decrypted, bytes).unwrap();
            &decrypted
        }
        (None, None) => file,
        (key, cipher) => panic!("{when}: {key:?} and {cipher:?}"),
    };
    let expanded = match layers.compression {
        Compression::Gzip => tool(file, "gzip", &["-d", "-c"]),
        Compression::Zstd => tool(file, "zstd", &["-d", "-q", "-c"]),
        _ => Some(fs::read(file).unwrap()),
    };
    if let Some(expanded) = expanded {
        assert!(expanded == plain, "{when}: the stock tools differ");
    }
}
