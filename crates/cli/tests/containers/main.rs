//! The same dump as it comes: plain, compressed, encrypted, on a device, in a disk image. Every
//! command answers alike, and every page is the same.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stderr
)]

mod disks;
mod found;
mod keys;
mod others;

use disks::{gpt, gpt_of_two, logical, mbr};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use vmcore_synth::Arch;
use vmcore_synth::header::DumpHeader;
use vmcore_synth::machine::Options;
use vmcore_testkit::command::{Folder, line};
use vmcore_testkit::corpus;

/// Runs a stock tool; `None` if it is not installed.
fn tool(folder: &Path, words: &str) -> Option<Vec<u8>> {
    let mut words = words.split(' ');
    let name = words.next().unwrap();
    let run = Command::new(name)
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    let run = match run {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {name} is not installed");
            return None;
        }
        run => run.unwrap(),
    };
    assert!(
        run.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    Some(run.stdout)
}

/// Encrypts as the kernel does, with OpenSSL: the payload, its key block, the private key.
fn encrypt(folder: &Path, name: &str, cipher: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let private = folder.join("private.pem");
    if !private.exists() {
        tool(folder, "openssl genrsa -out private.pem 2048")?;
        tool(
            folder,
            "openssl rsa -in private.pem -pubout -out public.pem",
        )?;
        fs::write(folder.join("clear"), (0..64).collect::<Vec<u8>>()).unwrap();
    }
    let padding = match cipher {
        "aes" => "oaep",
        // As dumpon of older releases did.
        _ => "pkcs1",
    };
    tool(
        folder,
        &format!(
            "openssl pkeyutl -encrypt -pubin -inkey public.pem -in clear -out wrapped \
             -pkeyopt rsa_padding_mode:{padding}"
        ),
    )?;
    let key: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let iv: Vec<u8> = (100..132).collect();
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let (number, options) = match cipher {
        "aes" => (1, format!("-aes-256-cbc -nopad -iv {}", hex(&iv[..16]))),
        // Eight bytes of counter, eight of nonce.
        _ => (
            2,
            format!("-chacha20 -iv {}{}", "00".repeat(8), hex(&iv[..8])),
        ),
    };
    tool(
        folder,
        &format!("openssl enc -e {options} -K {key} -in {name} -out encrypted"),
    )?;
    let wrapped = fs::read(folder.join("wrapped")).unwrap();
    let mut block = vec![number];
    block.extend(&iv);
    block.extend((wrapped.len() as u32).to_be_bytes());
    block.extend(&wrapped);
    block.resize(512, 0);
    Some((fs::read(folder.join("encrypted")).unwrap(), block))
}

/// One form of the dump: its file, and the options that it takes.
struct Form {
    file: String,
    options: &'static str,
}

/// Writes every form of the dump `name` to the folder.
fn forms(folder: &Path, name: &str) -> Vec<Form> {
    let plain = fs::read(folder.join(name)).unwrap();
    let arch = match name.contains("arm64") {
        true => "aarch64",
        false => "amd64",
    };
    let mut forms = Vec::new();
    let mut put = |file: &str, bytes: &[u8], options: &'static str| {
        fs::write(folder.join(file), bytes).unwrap();
        forms.push(Form {
            file: file.to_owned(),
            options,
        });
    };
    let header = DumpHeader::new(arch, plain.len() as u64);
    let media = (plain.len() as u64 + (1 << 20)).next_multiple_of(4096);
    let device = header.device(media, &[], &plain).unwrap();
    put("device.img", &device, "");
    put("gpt.img", &gpt(&device), "");
    put("mbr.img", &mbr(&device), "");
    put("logical.img", &logical(&device), "");
    put(
        "header.img",
        &[header.build().to_vec(), plain.clone()].concat(),
        "",
    );
    // A live dump has its header behind.
    put(
        "live.img",
        &[plain.clone(), header.build().to_vec()].concat(),
        "",
    );
    for cipher in ["aes", "chacha"] {
        let Some((encrypted, block)) = encrypt(folder, name, cipher) else {
            break;
        };
        put(
            // Only its place, or its name, can tell that it is one.
            &format!("./{cipher}-file"),
            &encrypted,
            "--key private.pem --key-block key.block",
        );
        fs::write(folder.join("key.block"), &block).unwrap();
        let mut header = header.clone();
        header.dumpkeysize = 512;
        let device = header.device(media, &block, &encrypted).unwrap();
        put(&format!("{cipher}-device"), &device, "--key private.pem");
    }
    // The first key block is that of AES.
    if let Some((_, block)) = encrypt(folder, name, "aes") {
        fs::write(folder.join("key.7"), &block).unwrap();
        fs::rename(folder.join("aes-file"), folder.join("vmcore_encrypted.7")).unwrap();
        let form = forms
            .iter_mut()
            .find(|form| form.file == "./aes-file")
            .unwrap();
        *form = Form {
            file: "vmcore_encrypted.7".to_owned(),
            options: "--key private.pem",
        };
    }
    for (words, file) in [
        (
            format!("zstd -q -f -3 --no-progress {name} -o one.zst"),
            "one.zst",
        ),
        (format!("gzip -k -f -S .gz {name}"), "packed.gz"),
    ] {
        if tool(folder, &words).is_some() {
            if file == "packed.gz" {
                fs::rename(folder.join(format!("{name}.gz")), folder.join(file)).unwrap();
            }
            forms.push(Form {
                file: file.to_owned(),
                options: "",
            });
        }
    }
    // Images that somebody has packed, each with a tool of its own.
    for (image, file, words) in [
        ("device.img", "device.zst", "zstd -q -f -k"),
        ("gpt.img", "gpt.zst", "zstd -q -f -k"),
        ("logical.img", "logical.gz", "gzip -c"),
    ] {
        let words = match words.starts_with("zstd") {
            true => format!("{words} {image} -o {file}"),
            false => format!("{words} {image}"),
        };
        let Some(output) = tool(folder, &words) else {
            continue;
        };
        if !output.is_empty() {
            fs::write(folder.join(file), output).unwrap();
        }
        forms.push(Form {
            file: file.to_owned(),
            options: "",
        });
    }
    for (method, file) in [("zstd", "frames.zst"), ("gzip", "members.gz")] {
        line(
            folder,
            &format!("convert {name} {file} --compress {method}"),
        )
        .expect(0);
        forms.push(Form {
            file: file.to_owned(),
            options: "",
        });
    }
    // The stock decoders agree.
    for words in [
        "zstd -q -d -f frames.zst -o again",
        "gzip -k -f -d members.gz",
    ] {
        if tool(folder, words).is_some() {
            let again = if words.starts_with("zstd") {
                "again"
            } else {
                "members"
            };
            assert!(fs::read(folder.join(again)).unwrap() == plain, "{words}");
            fs::remove_file(folder.join(again)).unwrap();
        }
    }
    if let Some(disk) = stock_gpt(folder, &device) {
        forms.push(disk);
    }
    forms
}

/// A disk image whose table a stock tool has made.
fn stock_gpt(folder: &Path, device: &[u8]) -> Option<Form> {
    let sectors = device.len() / 512;
    let file = fs::File::create(folder.join("stock")).unwrap();
    file.set_len((sectors as u64 + 8192) * 512).unwrap();
    let words = format!(
        "sgdisk -n 1:2048:4095 -t 1:a501 -n 2:4096:{} -t 2:a502 stock",
        4096 + sectors - 1
    );
    tool(folder, &words)?;
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options()
        .write(true)
        .open(folder.join("stock"))
        .unwrap();
    file.write_all_at(device, 4096 * 512).unwrap();
    Some(Form {
        file: "stock".to_owned(),
        options: "",
    })
}

/// An answer without what names the file, and without what is said of its container.
fn answer(folder: &Path, words: &str, file: &str) -> String {
    let run = line(folder, words);
    // What cannot be answered cannot be in any form.
    let all = format!("{}\n{}\n{}", run.status, run.text(), run.stderr);
    all.replace(file, "DUMP")
}

fn check(folder: &Path, name: &str, kernel: &str) {
    let commands = ["ps", "log", "bt --all", "read version 64", "verify"];
    let of = |file: &str, options: &str| -> Vec<String> {
        commands
            .iter()
            .map(|command| {
                let mut words = command.splitn(2, ' ');
                let first = words.next().unwrap();
                let rest = words.next().unwrap_or_default();
                let words = format!("{first} {file} {rest} -k {kernel} {options}");
                answer(folder, &words, file)
            })
            .collect()
    };
    let expected = of(name, "");
    let plain = fs::read(folder.join(name)).unwrap();
    for form in forms(folder, name) {
        let found = of(&form.file, form.options);
        for ((command, found), expected) in commands.iter().zip(found).zip(&expected) {
            // How much of a dump is missing the header behind it changes.
            if form.file == "live.img" && expected.contains("missing") {
                continue;
            }
            assert_eq!(&found, expected, "{command} of {}", form.file);
        }
        let words = format!(
            "convert {} copy --to plain --force {}",
            form.file, form.options
        );
        line(folder, &words).expect(0);
        let mut copy = fs::read(folder.join("copy")).unwrap();
        copy.truncate(plain.len());
        assert!(copy == plain, "{}: another page", form.file);
        fs::remove_file(folder.join(&form.file)).unwrap();
    }
}

#[test]
fn every_real_dump_answers_alike_in_every_form() {
    let Some(reals) = corpus::unpacked() else {
        return;
    };
    for real in reals {
        let dir = tempfile::tempdir().unwrap();
        for name in [&real.dump, &real.kernel] {
            fs::copy(real.folder.join(name), dir.path().join(name)).unwrap();
        }
        check(dir.path(), &real.dump, &real.kernel);
    }
}

/// A small machine, for what needs no real dump.
fn small() -> (Folder, Vec<u8>) {
    let folder = Folder::new(&Options::new(Arch::Amd64, 3));
    let dump = folder.machine.dump.build();
    (folder, dump)
}

fn path(folder: &Folder, name: &str) -> PathBuf {
    folder.path().join(name)
}

#[test]
fn a_compressed_kernel_answers_as_the_plain_one() {
    let (folder, _) = small();
    let plain = folder.vmcore("ps vmcore.0 kernel").expect(0).text();
    for words in ["zstd -q kernel -o k.zst", "gzip -k -S .packed kernel"] {
        if tool(folder.path(), words).is_none() {
            return;
        }
    }
    for words in [
        "vmcore.0 -k k.zst",
        "k.zst vmcore.0",
        "vmcore.0 kernel.packed",
    ] {
        assert_eq!(
            folder.vmcore(&format!("ps {words}")).expect(0).text(),
            plain
        );
    }
    let packed = fs::read(path(&folder, "k.zst")).unwrap();
    folder.write("cut.zst", &packed[..packed.len() / 2]);
    let refused = folder.vmcore("ps vmcore.0 -k cut.zst").expect(1);
    assert!(
        refused
            .stderr
            .contains("cut.zst: its compression breaks off after"),
        "{}",
        refused.stderr
    );
}

#[test]
fn several_dumps_on_a_disk_are_listed_and_one_is_chosen() {
    let (dir, dump) = small();
    let header = DumpHeader::new("amd64", dump.len() as u64);
    let media = dump.len() as u64 + (1 << 20);
    let device = header.device(media, &[], &dump).unwrap();
    let disk = gpt_of_two(&device, &device);
    fs::write(path(&dir, "disk"), disk).unwrap();
    let run = line(dir.path(), "log disk");
    assert_eq!(run.status, 1);
    for name in ["p3: ", "p4: "] {
        assert!(run.stderr.contains(name), "{}", run.stderr);
    }
    assert!(
        run.stderr.contains("try: vmcore log disk --partition p3"),
        "{}",
        run.stderr
    );
    let plain = line(dir.path(), "log vmcore.0").expect(0).text();
    assert_eq!(
        line(dir.path(), "log disk --partition p4").expect(0).text(),
        plain
    );
    assert_eq!(
        line(dir.path(), "log disk --partition 3").expect(0).text(),
        plain
    );
    assert!(
        line(dir.path(), "info disk --partition 3")
            .expect(0)
            .text()
            .contains("partition p3")
    );
}

#[test]
fn an_encrypted_dump_asks_for_its_key_and_refuses_another() {
    let (dir, _) = small();
    let Some((encrypted, block)) = encrypt(dir.path(), "vmcore.0", "chacha") else {
        return;
    };
    fs::write(path(&dir, "vmcore_encrypted.1"), &encrypted).unwrap();
    fs::write(path(&dir, "key.1"), &block).unwrap();
    let run = line(dir.path(), "log vmcore_encrypted.1");
    assert!(run.stderr.contains("is encrypted"), "{}", run.stderr);
    assert!(run.stderr.contains("--key PRIVATE.pem"), "{}", run.stderr);
    for (bits, words) in [(2048, "not the key"), (3072, "3072 bits")] {
        tool(dir.path(), &format!("openssl genrsa -out other.pem {bits}"));
        let run = line(dir.path(), "log vmcore_encrypted.1 --key other.pem");
        assert_eq!(run.status, 1);
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    let run = line(dir.path(), "log vmcore_encrypted.1 --key key.1");
    assert!(run.stderr.contains("PEM"), "{}", run.stderr);
    line(
        dir.path(),
        "decrypt vmcore_encrypted.1 plain --key private.pem",
    )
    .expect(0);
    let plain = fs::read(path(&dir, "plain")).unwrap();
    assert!(plain == fs::read(path(&dir, "vmcore.0")).unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path(&dir, "plain"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // An encrypted device, whose image is compressed.
    let mut header = DumpHeader::new("amd64", encrypted.len() as u64);
    header.dumpkeysize = 512;
    let media = encrypted.len() as u64 + (1 << 20);
    let device = header.device(media, &block, &encrypted).unwrap();
    fs::write(path(&dir, "swap"), device).unwrap();
    if let Some(packed) = tool(dir.path(), "gzip -c swap") {
        fs::write(path(&dir, "swap.gz"), packed).unwrap();
        let log = line(dir.path(), "log swap.gz --key private.pem").expect(0);
        assert_eq!(log.text(), line(dir.path(), "log vmcore.0").text());
    }
    // Compressed below the encryption.
    if tool(dir.path(), "zstd -q -f vmcore.0 -o vmcore.zst").is_some() {
        let (encrypted, block) = encrypt(dir.path(), "vmcore.zst", "chacha").unwrap();
        fs::write(path(&dir, "vmcore_encrypted.2"), &encrypted).unwrap();
        fs::write(path(&dir, "key.2"), &block).unwrap();
        let log = line(dir.path(), "log vmcore_encrypted.2 --key private.pem").expect(0);
        assert_eq!(
            log.text(),
            line(dir.path(), "log vmcore.0").expect(0).text()
        );
    }
}

#[test]
fn a_cut_file_says_where_it_breaks_off() {
    let (dir, _) = small();
    line(dir.path(), "convert vmcore.0 whole.gz --compress gzip").expect(0);
    let whole = fs::read(path(&dir, "whole.gz")).unwrap();
    fs::write(path(&dir, "cut.gz"), &whole[..whole.len() * 3 / 4]).unwrap();
    let info = line(dir.path(), "info cut.gz");
    assert!(info.text().contains("breaks off"), "{}", info.text());
    let verify = line(dir.path(), "verify cut.gz");
    assert!(verify.text().contains("breaks off"), "{}", verify.text());
    assert_eq!(
        line(dir.path(), "log cut.gz").expect(0).text(),
        line(dir.path(), "log vmcore.0").expect(0).text()
    );
}

#[test]
fn a_redacted_dump_answers_what_was_kept_and_has_nothing_else() {
    let (dir, dump) = small();
    let run = line(dir.path(), "redact vmcore.0 small -k kernel").expect(0);
    assert!(
        run.text().contains("stacks, threads, log"),
        "{}",
        run.text()
    );
    let small = fs::read(path(&dir, "small")).unwrap();
    assert!(small.len() < dump.len());
    for command in ["ps", "log"] {
        let of = |file: &str| {
            line(dir.path(), &format!("{command} {file} -k kernel"))
                .expect(0)
                .text()
        };
        assert_eq!(of("small"), of("vmcore.0"), "{command}");
    }
    let stacks = |file: &str| line(dir.path(), &format!("bt {file} --all -k kernel")).text();
    assert_eq!(stacks("small"), stacks("vmcore.0"));
    let verify = line(dir.path(), "verify small -k kernel --json").json();
    let checks = verify["checks"].as_array().unwrap();
    assert!(
        checks.iter().all(|check| check["verdict"] != "bad"),
        "{verify}"
    );
    assert!(
        checks.iter().any(|check| check["name"] == "page sums"),
        "{verify}"
    );
    // A page that was in the dump and is not any more says so, and gives no zeros.
    let pages =
        |file: &str| line(dir.path(), &format!("info {file} --json")).json()["pages"].clone();
    assert_ne!(pages("small"), pages("vmcore.0"));
    line(dir.path(), "redact vmcore.0 less -k kernel --keep threads").expect(0);
    let less = fs::read(path(&dir, "less")).unwrap();
    assert!(less.len() < small.len());
    let log = line(dir.path(), "log less").text();
    assert_ne!(log, line(dir.path(), "log vmcore.0").text());
    assert_eq!(
        line(dir.path(), "redact vmcore.0 small -k kernel").status,
        1
    );
}

#[test]
fn a_full_dump_is_redacted_by_way_of_a_minidump() {
    let dir = Folder::new(&Options::full(Arch::Amd64));
    let run = line(dir.path(), "redact vmcore.0 small -k kernel").expect(0);
    assert!(run.text().starts_with("  keeps "), "{}", run.text());
    let of = |words: &str| line(dir.path(), words).text();
    assert_eq!(
        of("ps small -k kernel --kernel-order"),
        of("ps vmcore.0 -k kernel --kernel-order")
    );
    assert_eq!(
        of("bt small --all -k kernel"),
        of("bt vmcore.0 --all -k kernel")
    );
    let verify = line(dir.path(), "verify small -k kernel --json").json();
    let checks = verify["checks"].as_array().unwrap();
    assert!(
        checks.iter().all(|check| check["verdict"] != "bad"),
        "{verify}"
    );
    let names = fs::read_dir(dir.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    // By its page, what was kept goes again.
    let stack = line(dir.path(), "redact vmcore.0 x -k kernel --dry-run --json").json();
    let kept = stack["manifest"]["kept_pages"].as_u64().unwrap();
    let words = "redact vmcore.0 x -k kernel --dry-run --json --drop page:zzz";
    assert_eq!(line(dir.path(), words).status, 2);
    let translated = line(dir.path(), "translate small version -k kernel --json").json();
    let pa = translated["physical_address"].as_str().unwrap();
    let words = format!("redact vmcore.0 x -k kernel --dry-run --json --drop page:{pa}");
    let less = line(dir.path(), &words).expect(0).json();
    assert_eq!(less["manifest"]["kept_pages"].as_u64().unwrap(), kept - 1);
    assert_eq!(less["manifest"]["dropped_by_address"], 1);
}

#[test]
fn saving_compresses_on_request() {
    let (dir, dump) = small();
    let header = DumpHeader::new("amd64", dump.len() as u64);
    let device = header
        .device(dump.len() as u64 + (1 << 20), &[], &dump)
        .unwrap();
    fs::write(path(&dir, "swap"), device).unwrap();
    for (option, file) in [("-Z", "vmcore.0.zst"), ("-z", "vmcore.1.gz")] {
        let folder = path(&dir, "crash");
        fs::create_dir_all(&folder).unwrap();
        line(dir.path(), &format!("save swap crash {option} --force")).expect(0);
        assert!(folder.join(file).exists(), "{option}");
        line(
            dir.path(),
            &format!("convert crash/{file} copy --to plain --force"),
        )
        .expect(0);
        assert!(fs::read(path(&dir, "copy")).unwrap() == dump, "{option}");
        // The next run recognises its copy.
        let run = line(dir.path(), &format!("save swap crash {option}")).expect(0);
        assert!(run.text().contains("was there already"), "{}", run.text());
    }
}

#[test]
fn what_the_kernel_compressed_is_expanded_on_request() {
    let (dir, dump) = small();
    for (number, method, name) in [(1, "gzip", "packed.gz"), (2, "zstd", "packed.zst")] {
        let words = format!("convert vmcore.0 {name} --compress {method}");
        line(dir.path(), &words).expect(0);
        let packed = fs::read(path(&dir, name)).unwrap();
        let mut header = DumpHeader::new("amd64", packed.len() as u64);
        header.compression = number;
        header.dumpextent = packed.len().next_multiple_of(512) as u64;
        let mut payload = packed.clone();
        payload.resize(packed.len().next_multiple_of(512), 0);
        let media = payload.len() as u64 + (1 << 20);
        let device = header.device(media, &[], &payload).unwrap();
        fs::write(path(&dir, "swap"), &device).unwrap();
        let crash = path(&dir, method);
        fs::create_dir_all(&crash).unwrap();
        line(dir.path(), &format!("save swap {method} -u")).expect(0);
        assert!(
            fs::read(crash.join("vmcore.0")).unwrap() == dump,
            "{method}"
        );
        let run = line(dir.path(), &format!("save swap {method} -u")).expect(0);
        assert!(run.text().contains("was there already"), "{}", run.text());
        // What is damaged stays on its device, and the next command keeps it as it is.
        let mut damaged = device.clone();
        let at = media as usize - 512 - payload.len() + packed.len() / 2;
        damaged[at..at + 64].fill(0xa5);
        fs::write(path(&dir, "damaged"), &damaged).unwrap();
        let run = line(dir.path(), &format!("save damaged {method} -u")).expect(1);
        assert!(run.stderr.contains("cannot be expanded"), "{}", run.stderr);
        assert!(!crash.join("vmcore.1").exists());
    }
}

#[test]
fn a_host_is_ready_or_told_why_not() {
    let (dir, dump) = small();
    fs::create_dir_all(path(&dir, "crash")).unwrap();
    fs::write(path(&dir, "swap"), vec![0; 2 << 20]).unwrap();
    let run = line(dir.path(), "check swap crash --ram 1").expect(0);
    assert!(
        run.text().contains("even all of RAM fits"),
        "{}",
        run.text()
    );
    fs::write(path(&dir, "tiny"), vec![0; 4096]).unwrap();
    let run = line(dir.path(), "check tiny crash --ram 1 --json").expect(1);
    assert!(
        run.stderr.contains("a dump would be lost"),
        "{}",
        run.stderr
    );
    // A dump that still waits there would be overwritten.
    let header = DumpHeader::new("amd64", dump.len() as u64);
    let device = header
        .device(dump.len() as u64 + (2 << 20), &[], &dump)
        .unwrap();
    fs::write(path(&dir, "swap"), device).unwrap();
    let run = line(dir.path(), "check swap crash --ram 1").expect(0);
    assert!(run.text().contains("save it first"), "{}", run.text());
    if tool(dir.path(), "openssl genrsa -out private.pem 1024").is_some() {
        tool(
            dir.path(),
            "openssl rsa -in private.pem -pubout -out public.pem",
        );
        let run = line(
            dir.path(),
            "check swap crash --ram 1 --public-key public.pem",
        );
        assert_eq!(run.status, 1);
        assert!(run.text().contains("1024 bits"), "{}", run.text());
    }
}
