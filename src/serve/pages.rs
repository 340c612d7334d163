//! The pages of the program that only its start needed.
//!
//! They are copies of a file, which the kernel maps in sixteens as they are touched, so that a start maps most of the
//! program. Given back, they are mapped again where they are wanted; until then they are no memory of this process.

use rustix::mm::{Advice, madvise};
use std::ops::Range;

/// Gives all of them back.
pub fn give_back() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for pages in of_program(&maps, give_back as *const () as usize) {
        let start = std::ptr::with_exposed_provenance_mut(pages.start);
        #[expect(unsafe_code, reason = "the file is mapped to be read alone, so what comes back is what was there")]
        // What fails leaves everything as it is.
        let _ = unsafe { madvise(start, pages.len(), Advice::LinuxDontNeed) };
    }
}

/// The mappings of the file that holds the code at `place`, but for those that a process has changed: its code, and what
/// stands before it. proc_pid_maps(5) has the form.
fn of_program(maps: &str, place: usize) -> Vec<Range<usize>> {
    let all: Vec<Mapping<'_>> = maps.lines().filter_map(Mapping::of).collect();
    let Some(code) = all.iter().find(|mapping| mapping.pages.contains(&place)) else { return Vec::new() };
    let is_pure = |m: &&Mapping<'_>| m.rights == "r-xp" || (m.rights == "r--p" && m.offset == 0);
    all.iter().filter(|m| m.file == code.file && m.file.1 != "0").filter(is_pure).map(|m| m.pages.clone()).collect()
}

struct Mapping<'a> {
    pages: Range<usize>,
    rights: &'a str,
    offset: usize,
    /// Device and inode.
    file: (&'a str, &'a str),
}

impl<'a> Mapping<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let pages = number(start)?..number(end)?;
        let rights = words.next()?;
        Some(Mapping { pages, rights, offset: number(words.next()?)?, file: (words.next()?, words.next()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_is_given_back() {
        let maps = "\
55d0c0000000-55d0c0600000 r--p 00000000 fe:00 1234                       /usr/bin/gateway
55d0c0600000-55d0c1a00000 r-xp 00600000 fe:00 1234                       /usr/bin/gateway
55d0c1a00000-55d0c1a80000 r--p 01a00000 fe:00 1234                       /usr/bin/gateway
55d0c1a80000-55d0c1a90000 rw-p 01a80000 fe:00 1234                       /usr/bin/gateway
55d0c2000000-55d0c2100000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000020000 r--p 00000000 fe:00 99                         /lib/libc.so.6
7f0000020000-7f0000180000 r-xp 00020000 fe:00 99                         /lib/libc.so.6
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
";
        let first = 0x55d0_c000_0000..0x55d0_c060_0000;
        assert_eq!(of_program(maps, 0x55d0_c070_0000), [first, 0x55d0_c060_0000..0x55d0_c1a0_0000]);
        assert!(of_program(maps, 0x7ffd_0000_1000).is_empty());
        assert!(of_program("what is\nthis", 0).is_empty());
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        give_back();
        assert_eq!("abc".to_uppercase(), "ABC");
    }
}
