//! Where a string cannot simply go on, found for 64 bytes at once.
//!
//! Written text is full of escapes, so looking for the next backslash again and again would be most of the work.
//! Here the escapes of a whole block are resolved with a few operations on bit sets, one bit for each byte, the first
//! byte lowest; what is left to look at are closing quotes, rare escapes and mistakes.

/// Bytes that are looked at in one step.
pub const SIZE: usize = 64;

/// What may follow a backslash and is one byte long.
const SIMPLE_ESCAPES: &[u8] = b"\"\\/bfnrt";

/// The block that was looked at last.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    start: usize,
    len: usize,
    /// A bit for each byte at which a string does not simply go on.
    marks: u64,
}

impl Block {
    /// No place in any text is inside of it.
    pub const NONE: Block = Block { start: usize::MAX - SIZE, len: 0, marks: 0 };

    /// The place, at or after `at`, of the next closing quote, control character or backslash of an escape that is not
    /// one of the simple ones; or the end of the text. `at` is inside a string and not inside an escape.
    #[inline(always)]
    pub fn next_mark(&mut self, text: &[u8], mut at: usize, look: impl Fn(&[u8; SIZE]) -> Look) -> usize {
        loop {
            let into = at.wrapping_sub(self.start);
            if into < self.len {
                let ahead = self.marks >> into;
                if ahead != 0 {
                    return at + ahead.trailing_zeros() as usize;
                }
                at = self.start + self.len;
            }
            let rest = text.get(at..).unwrap_or_default();
            let look = match rest.first_chunk() {
                Some(whole) => look(whole),
                None => {
                    // The zeros behind the end are control characters, so that no string goes on beyond it.
                    let mut padded = [0; SIZE];
                    padded[..rest.len()].copy_from_slice(rest);
                    look(&padded)
                }
            };
            *self = look.resolve(at);
        }
    }
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    quotes: u64,
    backslashes: u64,
    controls: u64,
    /// Bytes that may follow a backslash; may be left empty where there is no backslash.
    simple: u64,
}

impl Look {
    /// Resolves the escapes of a block that begins outside of one.
    #[inline(always)]
    fn resolve(self, start: usize) -> Block {
        if self.backslashes == 0 {
            return Block { start, len: SIZE, marks: self.quotes | self.controls };
        }
        let second = escaped(self.backslashes);
        let first = self.backslashes & !second;
        // An escape that is cut by the end of the block belongs to the next one.
        let len = if first >> (SIZE - 1) == 0 { SIZE } else { cut() };
        let whole = first & (u64::MAX >> 1);
        let odd = whole & !(self.simple >> 1);
        Block { start, len, marks: (self.quotes & !second) | self.controls | odd }
    }
}

/// The length of a block whose last byte is left to the next one. A branch, so that the processor goes on to the next
/// block before this one is understood: computing the length would chain all blocks to each other.
#[cold]
#[inline(never)]
fn cut() -> usize {
    SIZE - 1
}

/// The bytes behind backslashes that are not themselves behind one.
///
/// In a run of backslashes every other one is escaped, and so is the byte behind a run of odd length. Adding the first
/// bit of each run that begins at an odd place to all runs clears those runs and marks the bit behind them; of the
/// two kinds of runs one then has its escaped bytes at even places and the other at odd ones.
#[inline(always)]
fn escaped(backslashes: u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let behind = backslashes << 1;
    let begins_odd = backslashes & !EVEN & !behind;
    let cleared = begins_odd.wrapping_add(backslashes);
    (EVEN ^ (cleared << 1)) & behind
}

/// Thirty-two bytes at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
pub fn wide(block: &[u8; SIZE]) -> Look {
    use std::arch::x86_64::{
        __m256i, _mm_setr_epi8, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_max_epu8,
        _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    };
    #[expect(unsafe_code, reason = "bytes are loaded")]
    // SAFETY: both are 64 bytes that mean nothing but themselves.
    let parts: [__m256i; 2] = unsafe { std::mem::transmute(*block) };
    let bits = |found: [__m256i; 2]| -> u64 {
        let half = |part| u64::from(_mm256_movemask_epi8(part) as u32);
        half(found[0]) | half(found[1]) << 32
    };
    let equal = |byte: u8| bits(parts.map(|part| _mm256_cmpeq_epi8(part, _mm256_set1_epi8(byte as i8))));
    let last_control = _mm256_set1_epi8(0x1f);
    let controls = bits(parts.map(|part| _mm256_cmpeq_epi8(_mm256_max_epu8(part, last_control), last_control)));
    let (quotes, backslashes) = (equal(b'"'), equal(b'\\'));
    if backslashes == 0 {
        return Look { quotes, backslashes, controls, simple: 0 };
    }
    // A byte is one of the simple ones when the rows of its two halves share a bit; a bit stands for a high half.
    let low = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 1 | 4 | 8, 0, 8, 0, 4, 0, 0, 0, 0, 0, 2, 0, 4, 1));
    let high = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 1, 0, 0, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0));
    let nibble = _mm256_set1_epi8(0x0f);
    let none = _mm256_setzero_si256();
    let others = bits(parts.map(|part| {
        let row = _mm256_shuffle_epi8(low, _mm256_and_si256(part, nibble));
        let column = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(part, 4), nibble));
        _mm256_cmpeq_epi8(_mm256_and_si256(row, column), none)
    }));
    Look { quotes, backslashes, controls, simple: !others }
}

/// Eight bytes at a time in ordinary registers.
#[inline]
pub fn portable(block: &[u8; SIZE]) -> Look {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = 0x7f * EACH;
    const HIGH: u64 = 0x80 * EACH;
    // The high bit of each byte that is zero; no carry crosses a byte.
    let zeros = |x: u64| !(((x & LOW) + LOW) | x) & HIGH;
    // Gathers the eight high bits in one byte.
    let gather = |found: u64| (found >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let mut look = Look { quotes: 0, backslashes: 0, controls: 0, simple: 0 };
    for (i, part) in block.as_chunks::<8>().0.iter().enumerate() {
        let part = u64::from_le_bytes(*part);
        look.quotes |= gather(zeros(part ^ (0x22 * EACH))) << (8 * i);
        look.backslashes |= gather(zeros(part ^ (0x5c * EACH))) << (8 * i);
        look.controls |= gather(zeros(part & (0xe0 * EACH))) << (8 * i);
    }
    let mut behind = look.backslashes << 1;
    while behind != 0 {
        let at = behind.trailing_zeros() as usize;
        look.simple |= u64::from(SIMPLE_ESCAPES.contains(&block[at])) << at;
        behind &= behind - 1;
    }
    look
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As [`Block::next_mark`], byte by byte.
    fn plain(text: &[u8], mut at: usize) -> usize {
        while let Some(&byte) = text.get(at) {
            match byte {
                b'\\' if text.get(at + 1).is_some_and(|next| SIMPLE_ESCAPES.contains(next)) => at += 2,
                b'"' | b'\\' | 0..0x20 => break,
                _ => at += 1,
            }
        }
        at
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![8 => 0x20u8..=0xff, 6 => Just(b'\\'), 2 => Just(b'"'), 4 => prop::sample::select(SIMPLE_ESCAPES), 1 => 0u8..0x22];
        prop::collection::vec(byte, 0..400)
    }

    fn check(text: &[u8], look: impl Fn(&[u8; SIZE]) -> Look) {
        let (mut block, mut at) = (Block::NONE, 0);
        loop {
            let found = block.next_mark(text, at, &look);
            assert_eq!(found, plain(text, at), "from {at} in {:?}", String::from_utf8_lossy(text));
            if found >= text.len() {
                return;
            }
            // What cannot follow a backslash ends the scan of a real text; here the search goes on behind it.
            at = found + 1;
            block = if text[found] == b'\\' { Block::NONE } else { block };
        }
    }

    proptest! {
        #[test]
        fn marks_are_where_a_plain_search_finds_them(text in text()) {
            check(&text, portable);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "the feature is there")]
                // SAFETY: as just found out.
                check(&text, |block| unsafe { wide(block) });
            }
        }
    }
}
