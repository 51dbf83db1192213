//! The key of encrypted dumps. The host makes it, as FreeBSD's `dumpon -k` does, and hands it to the
//! kernel: 64 random bytes, a first initialisation vector, and the bytes once more, encrypted with an
//! RSA public key.

use crate::Result;
use crate::shell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Random bytes: what the cipher's key is made of, and a first initialisation vector.
const CLEAR: usize = 64;
const IV: usize = 32;

/// Draws a key, and writes what the kernel takes to `to`, for the owner alone.
pub(super) fn hand_over(public_key: &Path, to: &Path) -> Result {
    let mut drawn = [0; CLEAR + IV];
    let mut random =
        File::open("/dev/urandom").map_err(|error| format!("/dev/urandom: {error}"))?;
    random
        .read_exact(&mut drawn)
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    let encrypted = encrypt(public_key, &drawn[..CLEAR])?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(to).and_then(|mut file| {
        file.write_all(&drawn)?;
        file.write_all(&encrypted)
    });
    written.map_err(|error| format!("{}: {error}", to.display()))
}

/// Encrypts with RSA: OAEP with SHA-1, which is what FreeBSD's tools expect.
fn encrypt(public_key: &Path, clear: &[u8]) -> Result<Vec<u8>> {
    let mut openssl = Command::new("openssl");
    openssl
        .args(["pkeyutl", "-encrypt", "-pubin", "-inkey"])
        .arg(public_key);
    openssl.args(["-pkeyopt", "rsa_padding_mode:oaep"]);
    openssl.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = openssl
        .spawn()
        .map_err(|error| shell::no_start(&openssl, &error))?;
    if let Some(mut to) = child.stdin.take() {
        // Whether it took all is told by its status.
        let _ = to.write_all(clear);
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("openssl: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!(
            "{} failed: is it an RSA public key?",
            shell::text(&openssl)
        )),
    }
}

/// Makes a private and a public key, as an administrator does once.
pub(super) fn pair(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (private, public) = (folder.join("private.pem"), folder.join("public.pem"));
    let mut generate = Command::new("openssl");
    generate.args(["genrsa", "-out"]).arg(&private).arg("2048");
    shell::said(&mut generate)?;
    let mut extract = Command::new("openssl");
    extract.args(["rsa", "-pubout", "-in"]).arg(&private);
    extract.arg("-out").arg(&public);
    shell::said(&mut extract)?;
    Ok((private, public))
}
