//! Where a dump goes, and through which layers: what `dumpon` says, at boot what the tunables say.
//!
//! The names are FreeBSD's where it has them: the flags of dumpon(8), `dumpdev`, `net.dump.*`.

use crate::dev::{vtblk, vtnet};
use crate::dump::layers;
use crate::kern::setting::DUMP_DEVICE_NAME;
use crate::sys::console::printf;
use crate::sys::lock::SpinLock;
use crate::sys::tunable;
use core::net::Ipv4Addr;
use core::str::SplitAsciiWhitespace;
use vmcore_format::kerneldump::Compression;
use vmcore_format::kerneldumpkey::Cipher;
use vmcore_writer::netdump::NetConfig;

/// Where a dump goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    Off,
    Disk,
    Net,
}

/// Names as people type them.
const DEVICES: [(&str, Device); 3] = [
    ("off", Device::Off),
    ("vtblk0", Device::Disk),
    ("vtnet0", Device::Net),
];
const COMPRESSIONS: [(&str, Compression); 3] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
];
const CIPHERS: [(&str, Option<Cipher>); 3] = [
    ("none", None),
    ("chacha20", Some(Cipher::ChaCha20)),
    ("aes-256-cbc", Some(Cipher::Aes256Cbc)),
];

pub(crate) const USAGE: &str =
    "dumpon [-z | -Z] [-C CIPHER] [-s SERVER] [-c CLIENT] [-g GATEWAY] [-p PORT] DEVICE";

/// Who talks to whom over the network.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    server: Option<Ipv4Addr>,
    client: Option<Ipv4Addr>,
    gateway: Option<Ipv4Addr>,
    port: Option<u16>,
}

/// Where a dump goes, and how.
#[derive(Clone, Copy)]
pub(crate) struct Config {
    pub(crate) device: Device,
    pub(crate) compression: Compression,
    pub(crate) cipher: Option<Cipher>,
    addresses: Addresses,
}

static CONFIG: SpinLock<Config> = SpinLock::new(c"dumpon", Config::OFF);

/// The value that has a name.
fn named<T: Copy>(names: &[(&'static str, T)], name: &str) -> Option<T> {
    let found = names.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// The name of a value.
fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    let found = names.iter().find(|(_, known)| known == value);
    found.map_or("?", |(name, _)| name)
}

impl Config {
    /// To the disk, without layers.
    pub(crate) const PLAIN_DISK: Self = Self {
        device: Device::Disk,
        ..Self::OFF
    };
    const OFF: Self = Self {
        device: Device::Off,
        compression: Compression::None,
        cipher: None,
        addresses: Addresses {
            server: None,
            client: None,
            gateway: None,
            port: None,
        },
    };

    /// As it is, but to the disk.
    pub(crate) const fn on_disk(self) -> Self {
        Self {
            device: Device::Disk,
            ..self
        }
    }

    /// As it is, without layers.
    pub(crate) const fn plain(self) -> Self {
        Self {
            compression: Compression::None,
            cipher: None,
            ..self
        }
    }

    /// Whether a layer may panic: gzip, which was not shown to be free of that.
    pub(crate) fn may_panic(&self) -> bool {
        self.compression == Compression::Gzip
    }

    /// As it is, but not compressed. What was to be encrypted is encrypted.
    pub(crate) const fn without_compression(self) -> Self {
        Self {
            compression: Compression::None,
            ..self
        }
    }

    /// The other end of a dump over the network.
    pub(crate) fn network(&self) -> Option<NetConfig<'static>> {
        let mut config = NetConfig::new(self.addresses.client?, self.addresses.server?);
        config.gateway = self.addresses.gateway;
        if let Some(port) = self.addresses.port {
            config.server_port = port;
        }
        Some(config)
    }

    /// Takes the boot tunables.
    fn from_tunables() -> Self {
        let disk = if vtblk::media_bytes() > 0 {
            Device::Disk
        } else {
            Device::Off
        };
        let address = |name| tunable::with(name, |text| text.parse().ok());
        Self {
            device: tunable::with("dumpdev", |name| named(&DEVICES, name)).unwrap_or(disk),
            compression: tunable::with("lab.dump_compression", |name| named(&COMPRESSIONS, name))
                .unwrap_or(Compression::None),
            cipher: tunable::with("lab.dump_cipher", |name| named(&CIPHERS, name)).flatten(),
            addresses: Addresses {
                server: address("net.dump.server"),
                client: address("net.dump.client"),
                gateway: address("net.dump.gateway"),
                port: tunable::with("lab.netdump_port", |text| text.parse().ok()),
            },
        }
    }

    /// Takes a flag and its value; says why not.
    fn flag(
        &mut self,
        flag: &str,
        words: &mut SplitAsciiWhitespace<'_>,
    ) -> Result<(), &'static str> {
        match flag {
            "-z" => self.compression = Compression::Gzip,
            "-Z" => self.compression = Compression::Zstd,
            _ => {
                let value = words.next().ok_or(USAGE)?;
                let address = || value.parse().map(Some).map_err(|_| "not an IPv4 address");
                let net = &mut self.addresses;
                match flag {
                    "-C" => {
                        self.cipher = named(&CIPHERS, value).ok_or("no such cipher")?;
                    }
                    "-s" => net.server = address()?,
                    "-c" => net.client = address()?,
                    "-g" => net.gateway = address()?,
                    "-p" => net.port = Some(value.parse().map_err(|_| "not a port")?),
                    "-i" => self.device = named(&DEVICES, value).ok_or("no such interface")?,
                    _ => return Err(USAGE),
                }
            }
        }
        Ok(())
    }

    /// Says what would keep every dump from being written.
    fn check(&self) -> Result<(), &'static str> {
        match self.device {
            Device::Disk if vtblk::media_bytes() == 0 => return Err("no disk"),
            Device::Net if !vtnet::is_there() => return Err("no network device"),
            Device::Net if self.network().is_none() => {
                return Err("the addresses of server (-s) and client (-c) are needed");
            }
            _ => {}
        }
        match self.cipher {
            Some(_) if !layers::has_key() => Err("no key was handed over at boot"),
            _ => Ok(()),
        }
    }

    /// Says what it is.
    fn show(&self) {
        printf!(
            "dumps go to {}, compression {}, encryption {}\n",
            name_of(&DEVICES, &self.device),
            name_of(&COMPRESSIONS, &self.compression),
            name_of(&CIPHERS, &self.cipher)
        );
    }
}

/// The present configuration.
pub(crate) fn get() -> Config {
    *CONFIG.lock()
}

/// Puts another in its place; returns the old one.
pub(crate) fn replace(config: Config) -> Config {
    *DUMP_DEVICE_NAME.lock() = name_of(&DEVICES, &config.device);
    core::mem::replace(&mut *CONFIG.lock(), config)
}

/// Takes what the boot tunables say, if it can be used.
pub(crate) fn init() {
    let config = Config::from_tunables();
    if let Err(why) = config.check() {
        printf!("dumpon: {why}\n");
        return;
    }
    replace(config);
    config.show();
}

/// `dumpon`: without words it says where dumps go. What is not said is off; addresses are as they
/// were.
pub(crate) fn dumpon(line: &str) {
    let parse = || {
        let mut config = Config {
            addresses: get().addresses,
            ..Config::OFF
        };
        let mut device = None;
        let mut words = line.split_ascii_whitespace();
        while let Some(word) = words.next() {
            if word.starts_with('-') {
                config.flag(word, &mut words)?;
            } else {
                device = Some(named(&DEVICES, word).ok_or("no such device")?);
            }
        }
        config.device = device.ok_or(USAGE)?;
        config.check()?;
        Ok(config)
    };
    if !line.is_empty() && line != "-l" {
        match parse() {
            Ok(config) => _ = replace(config),
            Err(why) => {
                let why: &str = why;
                printf!("dumpon: {why}\n");
                return;
            }
        }
    }
    get().show();
}

/// For the debugger's `netdump`: the present configuration, over the network.
pub(crate) fn over_network(line: &str) -> Result<Config, &'static str> {
    let mut config = get();
    let mut words = line.split_ascii_whitespace();
    while let Some(word) = words.next() {
        config.flag(word, &mut words)?;
    }
    config.device = Device::Net;
    config.check()?;
    Ok(config)
}
