//! Private keys as they are kept: with text around them, with other keys, of other kinds.

use super::{encrypt, path, small, tool};
use std::fs;
use vmcore_testkit::command::line;

#[test]
fn the_private_key_is_found_whatever_is_around_it() {
    let (dir, _) = small();
    let Some((encrypted, block)) = encrypt(dir.path(), "vmcore.0", "aes") else {
        return;
    };
    fs::write(path(&dir, "vmcore_encrypted.3"), &encrypted).unwrap();
    fs::write(path(&dir, "key.3"), &block).unwrap();
    tool(dir.path(), "openssl genrsa -out other.pem 2048");
    tool(dir.path(), "openssl genrsa -out longer.pem 3072");
    tool(
        dir.path(),
        "openssl rsa -in private.pem -traditional -out pkcs1.pem",
    );
    let read = |name: &str| fs::read_to_string(path(&dir, name)).unwrap();
    let private = read("private.pem");
    let plain = line(dir.path(), "log vmcore.0").expect(0).text();
    for (what, key) in [
        ("text after", format!("{private}trailing\n")),
        (
            "text before",
            format!("Bag Attributes\n  x: 1\n\u{fffd}\n{private}"),
        ),
        ("public after", private.clone() + &read("public.pem")),
        ("public before", read("public.pem") + &private),
        ("another of the length before", read("other.pem") + &private),
        ("another of other length", read("longer.pem") + &private),
        (
            "PKCS#1, text around",
            format!("a\n{}b\n", read("pkcs1.pem")),
        ),
        ("indented", private.replace('\n', "\n  ")),
        ("spaces at the ends", private.replace('\n', " \t\n")),
        ("empty lines", private.replace('\n', "\n\n")),
        ("lines of DOS", private.replace('\n', "\r\n") + "more\r\n"),
    ] {
        fs::write(path(&dir, "k.pem"), key).unwrap();
        let log = line(dir.path(), "log vmcore_encrypted.3 --key k.pem").expect(0);
        assert_eq!(log.text(), plain, "{what}");
    }
    tool(
        dir.path(),
        "openssl ecparam -name prime256v1 -genkey -out ec.pem",
    );
    tool(
        dir.path(),
        "openssl rsa -in private.pem -outform DER -out der",
    );
    tool(
        dir.path(),
        "openssl rsa -in private.pem -aes128 -passout pass:x -out locked.pem",
    );
    for (name, words) in [
        ("public.pem", "a public key"),
        ("ec.pem", "elliptic curves"),
        ("der", "openssl rsa -inform DER -in der"),
        ("locked.pem", "openssl rsa -in locked.pem -out PLAIN"),
        ("vmcore.0", "not an RSA private key in PEM form"),
        ("other.pem", "not the key"),
        ("longer.pem", "3072 bits"),
    ] {
        let run = line(dir.path(), &format!("log vmcore_encrypted.3 --key {name}")).expect(1);
        assert!(run.stderr.contains(words), "{name}: {}", run.stderr);
    }
    // A key that a kernel cannot have made.
    fs::write(path(&dir, "short"), [1; 32]).unwrap();
    let words = "openssl pkeyutl -encrypt -pubin -inkey public.pem -in short -out wrapped \
                 -pkeyopt rsa_padding_mode:oaep";
    if tool(dir.path(), words).is_some() {
        let mut odd = block.clone();
        let wrapped = fs::read(path(&dir, "wrapped")).unwrap();
        let at = 37;
        odd[at..at + wrapped.len()].copy_from_slice(&wrapped);
        fs::write(path(&dir, "key.3"), odd).unwrap();
        let run = line(dir.path(), "log vmcore_encrypted.3 --key private.pem").expect(1);
        assert!(
            run.stderr.contains("32 bytes, and a kernel's has 64"),
            "{}",
            run.stderr
        );
    }
    // Without the encrypted key nothing helps.
    fs::remove_file(path(&dir, "key.3")).unwrap();
    for words in ["", " --key private.pem"] {
        let run = line(dir.path(), &format!("log vmcore_encrypted.3{words}")).expect(1);
        for words in ["key.3 is not there", "--key-block KEY.N"] {
            assert!(run.stderr.contains(words), "{}", run.stderr);
        }
    }
    let words = "log vmcore_encrypted.3 --key private.pem --key-block kept";
    fs::write(path(&dir, "kept"), &block).unwrap();
    assert_eq!(line(dir.path(), words).expect(0).text(), plain);
}
