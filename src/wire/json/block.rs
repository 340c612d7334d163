//! Which bytes of a block end a run of plain string characters: quotes, backslashes and control characters.

/// Bytes that are looked at in one step.
const SIZE: usize = 64;

/// The block that was looked at last. Written text is full of escapes, so runs are short: the marks of a whole block
/// are found at once and kept, and the next run in it costs a shift.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    start: usize,
    /// A bit for each byte that ends a run.
    marks: u64,
}

impl Block {
    /// No place in any text is inside of it.
    pub const NONE: Block = Block { start: usize::MAX - SIZE, marks: 0 };

    /// The place of the next quote, backslash or control character at or after `at`, or the end of the text.
    #[inline]
    pub fn next_mark(&mut self, text: &[u8], mut at: usize) -> usize {
        loop {
            let into = at.wrapping_sub(self.start);
            if into < SIZE {
                let ahead = self.marks >> into;
                if ahead != 0 {
                    return at + ahead.trailing_zeros() as usize;
                }
                at = self.start + SIZE;
            }
            let rest = text.get(at..).unwrap_or_default();
            let marks = match rest.first_chunk() {
                Some(whole) => marks(whole),
                None => {
                    // The zeros behind the end are marks, so that no run goes on beyond it.
                    let mut padded = [0; SIZE];
                    padded[..rest.len()].copy_from_slice(rest);
                    marks(&padded)
                }
            };
            *self = Block { start: at, marks };
        }
    }
}

/// A bit for each special byte, the first byte lowest.
#[inline]
fn marks(block: &[u8; SIZE]) -> u64 {
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

    fn is_special(byte: u8) -> bool {
        byte == b'"' || byte == b'\\' || byte < 0x20
    }
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_special_byte_has_its_bit(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0x1eu8..0x22], SIZE)) {
            let block: [u8; SIZE] = bytes.try_into().unwrap();
            let expected = block.iter().enumerate().fold(0, |marks, (i, &b)| marks | u64::from(is_special(b)) << i);
            prop_assert_eq!(marks(&block), expected);
            prop_assert_eq!(portable(&block), expected);
        }

        #[test]
        fn the_next_mark_is_where_a_plain_search_finds_it(text in prop::collection::vec(prop_oneof![8 => 0x20u8..0xff, 1 => Just(b'"'), 1 => 0u8..0x22], 0..300), steps in prop::collection::vec(0usize..9, 0..40)) {
            let (mut block, mut at) = (Block::NONE, 0);
            for step in steps {
                at = (at + step).min(text.len());
                let plain = text[at..].iter().position(|&b| is_special(b)).map_or(text.len(), |n| at + n);
                at = block.next_mark(&text, at);
                prop_assert_eq!(at, plain);
            }
        }
    }
}
