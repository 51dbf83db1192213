//! What the administrator may choose, before the crash.
//!
//! ```
//! use vmcore_writer::Settings;
//! assert!(Settings::default().minidump);
//! ```

/// How the kernel dumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `debug.minidump`: only the kernel's own pages (default), or all RAM.
    pub minidump: bool,
    /// Version of the minidump; `None` is the newest that is written.
    pub version: Option<u32>,
    /// When the page tables are damaged beyond use: a full dump, if it fits on the device. Otherwise,
    /// and if this is off, the minidump holds the pages of the dump map.
    pub fall_back_to_full: bool,
    /// Records of the extension say what the kernel is, how its addresses are translated, and which
    /// processes, threads and modules there are. Readers that do not know them do not see them; off, the
    /// dump has none of them.
    pub self_describing: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            minidump: true,
            version: None,
            fall_back_to_full: true,
            self_describing: true,
        }
    }
}

/// How long a sink tries. Nothing waits without a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often a write or a flush is tried in all; at least once.
    pub attempts: u32,
    /// Milliseconds after which the device is to give a command up.
    pub timeout_ms: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 3,
            timeout_ms: 5000,
        }
    }
}
