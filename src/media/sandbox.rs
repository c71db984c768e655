//! Shuts a decoder child in before it reads its first byte: little memory, few descriptors, no network, no programs.
//!
//! The codecs read hostile bytes. A child that is taken over can read and write files as its user, and nothing else.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter_all_threads};

use super::MediaError;

/// Private memory that may be written to: heap, stacks, the program's own data.
const DATA_BYTES: u64 = 56 * 1024 * 1024;
/// All mapped memory, the program's text and shared libraries included.
const ADDRESS_BYTES: u64 = 512 * 1024 * 1024;
/// An access copy of 24 hours in stereo at the highest bitrate has 1.7 GB.
const FILE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Three standard streams, one input, two outputs, and some air.
const DESCRIPTORS: u64 = 24;

/// Limits this process and all its threads, for good. Call it before any foreign byte is read.
pub fn shut_in() -> Result<(), MediaError> {
    for (resource, limit) in [
        (Resource::Data, DATA_BYTES),
        (Resource::As, ADDRESS_BYTES),
        (Resource::Fsize, FILE_BYTES),
        (Resource::Nofile, DESCRIPTORS),
        (Resource::Core, 0),
    ] {
        let both = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        setrlimit(resource, both)
            .map_err(|e| MediaError::Sandbox(format!("setting limit {resource:?}: {e}")))?;
    }
    let filter = filter().map_err(|e| MediaError::Sandbox(format!("building the filter: {e}")))?;
    apply_filter_all_threads(&filter)
        .map_err(|e| MediaError::Sandbox(format!("installing the filter: {e}")))
}

/// Grants `seconds` of CPU time from now on; the kernel kills the process when they are used up.
pub fn grant_cpu(seconds: u64) -> Result<(), MediaError> {
    let current = used_cpu_seconds()
        .map_err(|e| MediaError::Sandbox(format!("reading the time used: {e}")))?
        .saturating_add(seconds)
        .max(1);
    let limit = Rlimit {
        current: Some(current),
        maximum: None,
    };
    setrlimit(Resource::Cpu, limit)
        .map_err(|e| MediaError::Sandbox(format!("setting the CPU limit: {e}")))
}

/// CPU seconds of all threads so far, rounded up (proc(5): fields 14 and 15 of stat, 100 ticks a second on Linux).
fn used_cpu_seconds() -> std::io::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, field 2, may hold anything; the fields after it are counted from its closing bracket.
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(ticks.div_ceil(100))
}

/// What decoding a file to a file takes; everything else (sockets, programs, processes, signals to others, debugging)
/// answers "operation not permitted".
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    #[rustfmt::skip]
    let allowed = [
        // files
        libc::SYS_read, libc::SYS_readv, libc::SYS_pread64, libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64,
        libc::SYS_lseek, libc::SYS_openat, libc::SYS_close, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx,
        libc::SYS_fcntl, libc::SYS_ftruncate, libc::SYS_unlinkat, libc::SYS_ppoll, libc::SYS_readlinkat,
        // memory
        libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
        // threads that exist already, time, limits, the end
        libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_rseq, libc::SYS_set_robust_list,
        libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_nanosleep, libc::SYS_restart_syscall,
        libc::SYS_getrandom, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_gettid, libc::SYS_tgkill,
        libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
        libc::SYS_exit, libc::SYS_exit_group,
        #[cfg(target_arch = "x86_64")] libc::SYS_open,
        #[cfg(target_arch = "x86_64")] libc::SYS_stat,
        #[cfg(target_arch = "x86_64")] libc::SYS_lstat,
        #[cfg(target_arch = "x86_64")] libc::SYS_poll,
        #[cfg(target_arch = "x86_64")] libc::SYS_unlink,
        #[cfg(target_arch = "x86_64")] libc::SYS_readlink,
    ];
    let mut rules: std::collections::BTreeMap<_, _> =
        allowed.into_iter().map(|call| (call, Vec::new())).collect();
    // Limits of this process may be moved within what `shut_in` fixed; those of others not.
    rules.insert(libc::SYS_prlimit64, vec![own_process()?]);
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
}

fn own_process() -> Result<seccompiler::SeccompRule, seccompiler::BackendError> {
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
    let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0)?;
    SeccompRule::new(vec![own])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_here() {
        assert!(!filter().unwrap().is_empty());
    }

    #[test]
    fn cpu_seconds_can_be_read() {
        // Nothing to compare with; a test run has used less than a day.
        assert!(used_cpu_seconds().unwrap() < 86_400);
    }
}
