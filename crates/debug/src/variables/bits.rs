//! Bits of values that are put together of pieces.

use crate::expr::NoValue;

/// The bits of a value on the stack of an expression.
pub(super) fn bits_of(value: gimli::Value) -> Result<u64, NoValue> {
    Ok(match value {
        gimli::Value::F32(value) => u64::from(value.to_bits()),
        gimli::Value::F64(value) => value.to_bits(),
        gimli::Value::I8(value) => i64::from(value).cast_unsigned(),
        gimli::Value::I16(value) => i64::from(value).cast_unsigned(),
        gimli::Value::I32(value) => i64::from(value).cast_unsigned(),
        other => other.to_u64(u64::MAX)?,
    })
}

/// Copies so many bits of some bytes, from the bit `first` on, to a place in others: counted from the least
/// significant bit of each byte, on big-endian machines from the most significant one.
pub(super) fn copy_bits(from: &[u8], first: u64, to: &mut [u8], at: u64, bits: u64, is_big: bool) {
    let start = usize::try_from(at / 8).unwrap_or(usize::MAX);
    if first == 0 && at.is_multiple_of(8) && bits.is_multiple_of(8) {
        let to = to.get_mut(start..).unwrap_or_default();
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
        return;
    }
    let mask = |bit: u64| match is_big {
        true => 0x80_u8 >> (bit % 8),
        false => 1 << (bit % 8),
    };
    for bit in 0..bits {
        let index = |bit: u64| usize::try_from(bit / 8).unwrap_or(usize::MAX);
        let is_set = from
            .get(index(first + bit))
            .is_some_and(|byte| byte & mask(first + bit) != 0);
        if let (Some(byte), true) = (to.get_mut(index(at + bit)), is_set) {
            *byte |= mask(at + bit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::copy_bits;

    #[test]
    fn pieces_may_begin_and_end_at_any_bit() {
        let copied = |first, at, bits, is_big| {
            let mut to = [0; 3];
            copy_bits(
                &[0b1011_0100, 0b0110_1101],
                first,
                &mut to,
                at,
                bits,
                is_big,
            );
            to
        };
        assert_eq!(copied(0, 8, 16, false), [0, 0b1011_0100, 0b0110_1101]);
        // The five bits from bit 2 on: 01101, from the lowest up 1, 0, 1, 1, 0.
        assert_eq!(copied(2, 0, 5, false), [0b0_1101, 0, 0]);
        assert_eq!(copied(2, 6, 5, false), [0b0100_0000, 0b011, 0]);
        assert_eq!(copied(6, 0, 4, false), [0b0110, 0, 0]);
        // From the highest down: 11010.
        assert_eq!(copied(2, 0, 5, true), [0b1101_0000, 0, 0]);
        assert_eq!(copied(2, 6, 5, true), [0b0000_0011, 0b0100_0000, 0]);
    }
}
