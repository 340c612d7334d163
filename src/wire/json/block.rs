//! Which bytes of a block end a run of plain string characters: quotes, backslashes and control characters.

/// Bytes that are looked at in one step.
pub const SIZE: usize = 64;

/// Whether a string cannot simply go on with this byte.
#[inline]
pub fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

/// A bit for each special byte, the first byte lowest.
#[inline]
pub fn marks(block: &[u8; SIZE]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "SSE2 is part of every x86-64 processor")]
    // SAFETY: the feature that is asked for is there.
    unsafe {
        sse2(block)
    }
    #[cfg(not(target_arch = "x86_64"))]
    portable(block)
}

/// Sixteen bytes at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn sse2(block: &[u8; SIZE]) -> u64 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let quote = _mm_set1_epi8(0x22);
    let backslash = _mm_set1_epi8(0x5c);
    let last_control = _mm_set1_epi8(0x1f);
    let (parts, _) = block.as_chunks::<16>();
    let mut marks = 0;
    for (i, part) in parts.iter().enumerate() {
        // The halves of one load.
        let whole = u128::from_le_bytes(*part);
        let part: __m128i = _mm_set_epi64x((whole >> 64) as i64, whole as i64);
        let found = _mm_or_si128(
            _mm_or_si128(_mm_cmpeq_epi8(part, quote), _mm_cmpeq_epi8(part, backslash)),
            _mm_cmpeq_epi8(_mm_max_epu8(part, last_control), last_control),
        );
        marks |= u64::from(_mm_movemask_epi8(found) as u16) << (16 * i);
    }
    marks
}

/// Eight bytes at a time in ordinary registers.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable(block: &[u8; SIZE]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = 0x7f * EACH;
    const HIGH: u64 = 0x80 * EACH;
    // The high bit of each byte that is zero; no carry crosses a byte.
    let zeros = |x: u64| !(((x & LOW) + LOW) | x) & HIGH;
    let (parts, _) = block.as_chunks::<8>();
    let mut marks = 0;
    for (i, part) in parts.iter().enumerate() {
        let part = u64::from_le_bytes(*part);
        let found = zeros(part ^ (0x22 * EACH)) | zeros(part ^ (0x5c * EACH)) | zeros(part & (0xe0 * EACH));
        // Gathers the eight high bits in one byte.
        marks |= ((found >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_special_byte_has_its_bit(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0x1eu8..0x22], SIZE)) {
            let block: [u8; SIZE] = bytes.try_into().unwrap();
            let expected = block.iter().enumerate().fold(0, |marks, (i, &b)| marks | u64::from(is_special(b)) << i);
            prop_assert_eq!(marks(&block), expected);
            prop_assert_eq!(portable(&block), expected);
        }
    }
}
