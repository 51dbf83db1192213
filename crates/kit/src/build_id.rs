//! The build id of a kernel, from the note that its linker wrote (`--build-id`).
//!
//! ```
//! let note = [&[4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0", &[0xab, 0xcd]].concat();
//! assert_eq!(vmcore_kit::build_id::of_note(&note).bytes(), [0xab, 0xcd]);
//! ```

use vmcore_writer::format::identity::BuildId;

/// `NT_GNU_BUILD_ID`.
const NT_GNU_BUILD_ID: u32 = 3;

/// The build id in the bytes of the section `.note.gnu.build-id`, which a linker script puts between two
/// symbols; an empty one if there is none.
#[must_use]
pub fn of_note(note: &[u8]) -> BuildId {
    let word = |at: usize| {
        let bytes = note.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let id = || {
        let [name, len, kind] = [word(0)?, word(4)?, word(8)?];
        let start = 12 + usize::try_from(name).ok()?.checked_next_multiple_of(4)?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        note.get(start..end).filter(|_| kind == NT_GNU_BUILD_ID)
    };
    BuildId::new(id().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_note_has_no_build_id() {
        for note in [&[][..], &[4; 12], &[0xff; 40], &[0; 40]] {
            assert_eq!(of_note(note).bytes(), []);
        }
    }
}
