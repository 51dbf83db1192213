//! What the kernel said before it died. All of it is invented.

use super::truth::{CRASH_TIME, HOST, PANIC, UPTIME_TEXT};
use std::fmt::Write as _;

/// The messages of a boot and of the panic that ended it.
///
/// One line has an escape character and letters outside ASCII in it, as devices' names do; two have
/// priority marks.
pub(super) fn text(version: &str, cpus: u32, crashed_cpu: u32, trace: &[String]) -> Vec<u8> {
    let mut text = String::new();
    text.push_str("---<<BOOT>>---\n");
    text.push_str("Copyright (c) 2026 Nobody: this machine never existed.\n");
    text.push_str(version);
    text.push_str("CPU: Synthetic Processor @ 2100.00 MHz (invented)\n");
    text.push_str("real memory  = 8589934592 (8192 MB)\n");
    text.push_str("avail memory = 8236544000 (7854 MB)\n");
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
