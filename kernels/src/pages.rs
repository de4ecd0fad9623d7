//! Large pages for large memory: fewer of them have to be made ready, and to be looked up when memory is read in streams.

/// Bytes of such a page on most processors.
const PAGE: usize = 2 << 20;

/// Asks for large pages under `memory`, where the system has some left and it is not too small for that. Best before
/// anything is written; the contents stay what they are.
pub(crate) fn ask_for_large<T>(memory: &[T]) {
    let (bytes, address) = (size_of_val(memory), memory.as_ptr().addr());
    // Whole pages only: what lies beside them is somebody else's.
    let (start, end) = (address.next_multiple_of(PAGE), (address + bytes) / PAGE * PAGE);
    if start < end {
        advise(memory, start - address..end - address);
    }
}

#[cfg(target_os = "linux")]
fn advise<T>(memory: &[T], bytes: std::ops::Range<usize>) {
    use nix::sys::mman::{MmapAdvise, madvise};
    use std::ptr::NonNull;
    let start = NonNull::from(memory).cast::<u8>();
    // SAFETY: the range is inside of `memory`; this advice changes neither what lies there nor who may use it. Without
    // such pages the system refuses, and nothing is lost.
    unsafe { madvise(start.byte_add(bytes.start).cast(), bytes.len(), MmapAdvise::MADV_HUGEPAGE) }.unwrap_or_default();
}

#[cfg(not(target_os = "linux"))]
fn advise<T>(_: &[T], _: std::ops::Range<usize>) {}

#[cfg(test)]
mod tests {
    use super::{PAGE, ask_for_large};

    #[test]
    fn memory_keeps_what_it_holds() {
        for bytes in [0, 1, PAGE - 1, PAGE, 5 * PAGE + 3] {
            let mut memory = vec![7_u8; bytes];
            for from in [0, 1.min(bytes), bytes] {
                ask_for_large(&memory[from..]);
            }
            assert!(memory.iter().all(|x| *x == 7));
            memory.fill(8);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn whole_pages_inside_are_asked_for_and_nothing_beside_them() {
        let settings = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        if !settings.contains("[madvise]") && !settings.contains("[always]") {
            return;
        }
        // Read where addresses of memory are told with their advice.
        let Ok(before) = asked_for() else { return };
        let memory = vec![1_u8; 9 * PAGE];
        ask_for_large(&memory);
        let inside = |range: &(usize, usize)| {
            let (start, end) = (memory.as_ptr().addr(), memory.as_ptr().addr() + memory.len());
            range.0 < end && range.1 > start
        };
        let found: Vec<_> = asked_for().expect("it could be read before").into_iter().filter(inside).collect();
        let [(start, end)] = found[..] else { panic!("one range is asked for: {found:?}, before {before:?}") };
        assert!(start >= memory.as_ptr().addr() && end <= memory.as_ptr().addr() + memory.len());
        assert!(end - start >= 8 * PAGE && start.is_multiple_of(PAGE) && end.is_multiple_of(PAGE));
    }

    /// The ranges of this process under which large pages are asked for.
    #[cfg(target_os = "linux")]
    fn asked_for() -> std::io::Result<Vec<(usize, usize)>> {
        let text = std::fs::read_to_string("/proc/self/smaps")?;
        let (mut range, mut found) = ((0, 0), Vec::new());
        for line in text.lines() {
            let first = line.split(' ').next().unwrap_or_default();
            let ends = first.split_once('-').map(|(a, b)| (usize::from_str_radix(a, 16), usize::from_str_radix(b, 16)));
            if let Some((Ok(start), Ok(end))) = ends {
                range = (start, end);
            } else if line.starts_with("VmFlags:") && line.split(' ').any(|flag| flag == "hg") {
                found.push(range);
            }
        }
        Ok(found)
    }
}
