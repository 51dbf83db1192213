//! What the kernel said before it died. All of it is invented.

use super::Options;
use super::truth::{CRASH_TIME, HOST, PANIC, UPTIME_TEXT};
use std::fmt::Write as _;

/// The messages of a boot and of the panic that ended it.
///
/// One line has an escape character and letters outside ASCII in it, as devices' names do; two have
/// priority marks.
pub(super) fn text(
    version: &str,
    options: &Options,
    crashed_cpu: u32,
    trace: &[String],
) -> Vec<u8> {
    let (cpus, ram) = (options.cpus, options.ram_bytes);
    let mut text = String::new();
    text.push_str("---<<BOOT>>---\n");
    text.push_str("Copyright (c) 2026 Nobody: this machine never existed.\n");
    text.push_str(version);
    text.push_str("CPU: Synthetic Processor @ 2100.00 MHz (invented)\n");
    let free = ram / 100 * 97;
    let _ = writeln!(text, "real memory  = {ram} ({} MB)", ram >> 20);
    let _ = writeln!(text, "avail memory = {free} ({} MB)", free >> 20);
    let _ = writeln!(text, "Multiprocessor: {cpus} CPUs detected");
    text.push_str("random: entropy from the imagination\n");
    text.push_str("nexus0\n");
    text.push_str("pci0: <Made-up PCI bus> on nexus0\n");
    text.push_str("vtblk0: <Imaginary block device> on pci0\n");
    text.push_str("vtblk0: 65536MB (134217728 512 byte sectors)\n");
    text.push_str("vtnet0: <Imaginary network device> on pci0\n");
    text.push_str("vtnet0: link state changed to UP\n");
    text.push_str("ugen0.2: <Gerät für Ωhm \u{1b}[31mred> at usbus0\n");
    let _ = writeln!(text, "SMP: AP CPUs 1-{} launched", cpus.saturating_sub(1));
    text.push_str("Root is on zfs:zroot/ROOT/default\n");
    let _ = writeln!(text, "<118>Setting hostname: {HOST}.");
    text.push_str("<118>Starting syslogd.\n");
    text.push_str("<6>arp: 192.0.2.17 moved from 02:00:5e:00:53:01 to 02:00:5e:00:53:02\n");
    let _ = writeln!(text, "panic: {PANIC}");
    let _ = writeln!(text, "cpuid = {crashed_cpu}");
    let _ = writeln!(text, "time = {CRASH_TIME}");
    text.push_str("KDB: stack backtrace:\n");
    for (number, line) in trace.iter().enumerate() {
        let _ = writeln!(text, "#{number} {line}");
    }
    let _ = writeln!(text, "Uptime: {UPTIME_TEXT}");
    text.into_bytes()
}
