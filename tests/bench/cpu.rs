//! What a process tree has cost so far: processor time and memory, read from /proc.

use std::fs;
use std::io;
use std::time::Duration;

/// Processor time of every living thread of `root` and its descendants, as the scheduler counts it.
///
/// `schedstat` counts nanoseconds that were really run; the ticks of `stat` are too coarse here. Fails on a kernel
/// without it.
pub fn spent(root: u32) -> io::Result<Duration> {
    let mut sum = 0;
    for pid in tree(root)? {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            sum += first_number(&text)?;
        }
    }
    Ok(Duration::from_nanos(sum))
}

/// Processor time of the whole machine since its start, to a hundredth of a second.
pub fn machine() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let words = text.split_whitespace().skip(1).take(7);
    let ticks = words.map(first_number).collect::<io::Result<Vec<_>>>()?;
    // user, nice, system, idle, waiting for a disk, interrupts, soft interrupts
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&at| ticks.get(at)).sum();
    Ok(Duration::from_millis(busy * 10))
}

/// Resident memory of the tree now, in bytes; pages that its processes share count once for each.
pub fn resident(root: u32) -> io::Result<u64> {
    status_sum(root, "VmRSS:")
}

/// The largest resident memory of each process of the tree since its start, summed, in bytes.
pub fn peak(root: u32) -> io::Result<u64> {
    status_sum(root, "VmHWM:")
}

fn status_sum(root: u32, field: &str) -> io::Result<u64> {
    let mut sum = 0;
    for pid in tree(root)? {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(field));
        sum += first_number(value.unwrap_or_default())? * 1024;
    }
    Ok(sum)
}

/// `root` and all its descendants.
fn tree(root: u32) -> io::Result<Vec<u32>> {
    let parents = parents()?;
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(parents.iter().filter(|p| p.1 == parent).map(|p| p.0));
        next += 1;
    }
    Ok(tree)
}

/// Every process with its parent.
fn parents() -> io::Result<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // The name in parentheses may hold spaces; state and parent come after the last one.
        let after = stat.rsplit(')').next().unwrap_or_default();
        if let Some(parent) = after.split_whitespace().nth(1).and_then(|p| p.parse().ok()) {
            found.push((pid, parent));
        }
    }
    Ok(found)
}

fn first_number(text: &str) -> io::Result<u64> {
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::other("a field of /proc is missing or no number"))
}
