//! A register as debuggers number it.

/// A register of a target description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its name.
    pub name: &'static str,
    /// Its size in bits.
    pub bits: u32,
    /// Its type in gdb's words.
    pub type_: &'static str,
    /// What lldb calls it by its use: `pc`, `sp`, `fp`, `ra`, `flags`; nothing for most.
    pub generic: &'static str,
    /// Its DWARF number.
    pub dwarf: Option<usize>,
    /// The value in kernel mode, where no kernel saves it.
    pub fixed: Option<u64>,
    /// The feature that it belongs to, if it is not the architecture's own.
    pub feature: Option<&'static str>,
}

impl Register {
    /// An integer of no use that is known.
    pub(crate) const fn plain(name: &'static str, bits: u32, dwarf: Option<usize>) -> Self {
        Self {
            name,
            bits,
            type_: if bits == 32 { "int32" } else { "int64" },
            generic: "",
            dwarf,
            fixed: None,
            feature: None,
        }
    }

    /// The processor's flags, which no PCB has.
    pub(crate) const fn flags(name: &'static str) -> Self {
        Self {
            generic: "flags",
            ..Self::plain(name, 32, None)
        }
    }
}
