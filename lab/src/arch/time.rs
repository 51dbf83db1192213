//! Time: the time stamp counter, measured against the interval timer, and the clock chip's date.

use crate::arch::cpu::{inb, outb, rdtsc};
use core::sync::atomic::{AtomicU64, Ordering};

/// Ticks of the timer interrupt in a second.
#[unsafe(no_mangle)]
pub(crate) static hz: i32 = 100;

/// Ticks since boot.
#[unsafe(no_mangle)]
static ticks: AtomicU64 = AtomicU64::new(0);
/// Seconds since 1970, brought up to date at every tick of CPU 0.
#[unsafe(no_mangle)]
static time_second: AtomicU64 = AtomicU64::new(0);
/// Seconds since boot.
#[unsafe(no_mangle)]
static time_uptime: AtomicU64 = AtomicU64::new(1);

static TSC_HZ: AtomicU64 = AtomicU64::new(2_000_000_000);
static TSC_AT_BOOT: AtomicU64 = AtomicU64::new(0);
static SECONDS_AT_BOOT: AtomicU64 = AtomicU64::new(0);

/// Frequency of the interval timer.
const PIT_HZ: u64 = 1_193_182;
/// How long is measured, in milliseconds.
const CALIBRATE_MS: u64 = 20;

/// Measures the counter, and runs `start` and `stop` around the measurement.
pub(crate) fn init(start: impl FnOnce(), stop: impl FnOnce(u64)) {
    TSC_AT_BOOT.store(rdtsc(), Ordering::Relaxed);
    let count = PIT_HZ * CALIBRATE_MS / 1000;
    outb(0x61, inb(0x61) & 0xfc | 1); // channel 2 counts, the speaker is off
    outb(0x43, 0xb0); // channel 2, low and high byte, mode 0
    outb(0x42, count as u8);
    outb(0x42, (count >> 8) as u8);
    start();
    let before = rdtsc();
    while inb(0x61) & 0x20 == 0 {}
    let elapsed = rdtsc() - before;
    stop(CALIBRATE_MS);
    TSC_HZ.store(elapsed * 1000 / CALIBRATE_MS, Ordering::Relaxed);
    SECONDS_AT_BOOT.store(clock_chip(), Ordering::Relaxed);
    update();
}

/// Microseconds since boot.
pub(crate) fn uptime_us() -> u64 {
    let elapsed = rdtsc().wrapping_sub(TSC_AT_BOOT.load(Ordering::Relaxed));
    let per_second = TSC_HZ.load(Ordering::Relaxed);
    elapsed / per_second * 1_000_000 + elapsed % per_second * 1_000_000 / per_second
}

/// Seconds since 1970.
pub(crate) fn seconds() -> u64 {
    SECONDS_AT_BOOT.load(Ordering::Relaxed) + uptime_us() / 1_000_000
}

/// Brings the variables up to date that debuggers read.
pub(crate) fn update() {
    time_second.store(seconds(), Ordering::Relaxed);
    time_uptime.store(uptime_us() / 1_000_000 + 1, Ordering::Relaxed);
}

/// One tick more.
pub(crate) fn tick() {
    ticks.fetch_add(1, Ordering::Relaxed);
    update();
}

pub(crate) fn now_ticks() -> u64 {
    ticks.load(Ordering::Relaxed)
}

/// A point in time to which a polled wait may go on.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) fn after_us(us: u64) -> Self {
        Self(uptime_us() + us)
    }

    pub(crate) fn has_passed(self) -> bool {
        uptime_us() >= self.0
    }
}

/// Waits by turning round.
pub(crate) fn delay_us(us: u64) {
    let deadline = Deadline::after_us(us);
    while !deadline.has_passed() {
        core::hint::spin_loop();
    }
}

/// Seconds since 1970 by the clock chip, whose registers are in decimal digits.
fn clock_chip() -> u64 {
    let register = |index: u8| {
        outb(0x70, index);
        let raw = u64::from(inb(0x71));
        (raw >> 4) * 10 + (raw & 15)
    };
    outb(0x70, 0x0a);
    while inb(0x71) & 0x80 != 0 {} // an update is on its way
    let (second, minute, hour) = (register(0), register(2), register(4));
    let (day, month, year) = (register(7), register(8), 2000 + register(9));
    // Days since 1970 of a year that starts in March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}
