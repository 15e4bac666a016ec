//! Runs a command under the eyes of its tracer, who lets one system call fail, fall short, or be
//! its last.
//!
//! Linux on x86-64. The tracer looks at calls on files below one folder only, so that loading the
//! program does not count.

use super::lab::{LIMIT, Lab, Ran, prepare};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sparse_core::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

/// Calls that have to do with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Bytes are read.
    Read,
    /// Bytes are written.
    Write,
    /// A file or folder is flushed to the disk.
    Sync,
    /// A name is moved.
    Rename,
    /// A file is opened or created.
    Open,
    /// A folder is made.
    Folder,
    /// A length is set.
    Length,
    /// A file is mapped into memory.
    Map,
    /// A name is removed.
    Remove,
    /// A file is looked at: its length, its type.
    Look,
    /// A folder's names are read.
    List,
}

impl Class {
    /// Whether the file system is changed.
    fn changes(self) -> bool {
        !matches!(self, Class::Read | Class::Map | Class::Look | Class::List)
    }
}

/// Fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails with this error.
    Fail(Errno),
    /// It transfers half of the bytes.
    Short,
    /// The process is killed instead.
    Kill,
}

/// The call to which a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aim {
    /// Class of the call; `None` for all that change the file system.
    pub(super) class: Option<Class>,
    /// Number of the call in its class, from 0 on.
    pub(super) nth: u64,
    /// The fault.
    pub(super) fault: Fault,
}

/// Result of tracing.
#[derive(Clone, Debug)]
pub(super) struct Traced {
    /// How the command ended.
    pub(super) ran: Ran,
    /// Calls of each class.
    pub(super) counts: BTreeMap<Class, u64>,
    /// Whether the fault took place.
    pub(super) hit: bool,
    /// Files that had been written and not flushed when something was moved into place.
    pub(super) unflushed: Vec<String>,
}

impl Traced {
    /// Calls of a class, or of all that change the file system.
    pub(super) fn count(&self, class: Option<Class>) -> u64 {
        match class {
            Some(class) => self.counts.get(&class).copied().unwrap_or(0),
            None => self.counts.iter().filter(|(c, _)| c.changes()).map(|(_, n)| n).sum(),
        }
    }
}

/// Becomes the command that `words` say, traced by the parent process. Returns only when that
/// fails.
pub(super) fn become_traced(words: &[String]) -> Error {
    let Some((program, args)) = words.split_first() else {
        return Error::invalid_argument("no command");
    };
    if let Err(e) = ptrace::traceme() {
        return Error::io("cannot be traced", e.into());
    }
    if let Err(e) = nix::sys::signal::raise(Signal::SIGSTOP) {
        return Error::io("cannot stop", e.into());
    }
    Error::io("cannot start", Command::new(program).args(args).exec()).in_file(program)
}

fn failed(what: &'static str) -> impl Fn(Errno) -> Error {
    move |e| Error::io(what, e.into())
}

/// Runs `sparse` with `words` and one fault, or none. Calls on files below `root` count.
///
/// # Errors
/// `Io` when tracing is not permitted.
pub(super) fn run(
    lab: &Lab,
    words: &[OsString],
    root: &Path,
    (temporary, log): (&Path, &Path),
    aim: Option<Aim>,
) -> Result<Traced> {
    let own = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
    let mut command = Command::new(own);
    command.args(["faults", "--become"]).arg(&lab.sparse).args(words).args(["--threads", "1"]);
    let start = Instant::now();
    let child = prepare(&mut command, temporary, log)?
        .spawn()
        .map_err(|e| Error::io("cannot start a command", e))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    let mut tracer = Tracer {
        main: pid,
        root: root.to_owned(),
        log: log.to_owned(),
        aim,
        inside: BTreeMap::new(),
        counts: BTreeMap::new(),
        hit: false,
        dirty: BTreeSet::new(),
        unflushed: Vec::new(),
    };
    let (done, wait) = channel::<()>();
    let (status, late) = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let late = wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = kill(pid, Signal::SIGKILL);
            }
            late
        });
        let status = tracer.follow();
        drop(done);
        (status, watch.join().unwrap_or(false))
    });
    let (code, signal) = status?;
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let threads = String::new();
    let ran = Ran { code, signal, late, threads, text, wall: start.elapsed() };
    let Tracer { counts, hit, unflushed, .. } = tracer;
    Ok(Traced { ran, counts, hit, unflushed })
}

struct Tracer {
    main: Pid,
    root: PathBuf,
    /// File for its output, which does not count.
    log: PathBuf,
    aim: Option<Aim>,
    /// Threads within a call, and what the call has to return, where that is known better.
    inside: BTreeMap<i32, Option<Errno>>,
    counts: BTreeMap<Class, u64>,
    hit: bool,
    /// Files written and not flushed since.
    dirty: BTreeSet<PathBuf>,
    unflushed: Vec<String>,
}

impl Tracer {
    /// Follows the process and its threads to its end: exit code and signal.
    fn follow(&mut self) -> Result<(Option<i32>, Option<i32>)> {
        loop {
            let status = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL));
            let (pid, deliver) = match status.map_err(failed("cannot follow a process"))? {
                WaitStatus::Exited(pid, code) if pid == self.main => return Ok((Some(code), None)),
                WaitStatus::Signaled(pid, signal, _) if pid == self.main => {
                    return Ok((None, Some(signal as i32)));
                }
                WaitStatus::Stopped(pid, Signal::SIGSTOP) => {
                    if pid == self.main {
                        let all = Options::PTRACE_O_TRACESYSGOOD
                            | Options::PTRACE_O_TRACECLONE
                            | Options::PTRACE_O_TRACEEXEC
                            | Options::PTRACE_O_EXITKILL;
                        ptrace::setoptions(pid, all).map_err(failed("cannot trace"))?;
                    }
                    (pid, None)
                }
                WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
                WaitStatus::PtraceEvent(pid, ..) => (pid, None),
                WaitStatus::PtraceSyscall(pid) => {
                    self.at_call(pid);
                    (pid, None)
                }
                _ => continue,
            };
            match ptrace::syscall(pid, deliver) {
                // It was killed meanwhile; its end is reported next.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => return Err(failed("cannot let a process go on")(e)),
            }
        }
    }

    fn at_call(&mut self, pid: Pid) {
        let Ok(mut regs) = ptrace::getregs(pid) else { return };
        if let Some(returns) = self.inside.remove(&pid.as_raw()) {
            if let Some(errno) = returns {
                regs.rax = (-i64::from(errno as i32)) as u64;
                let _ = ptrace::setregs(pid, regs);
            }
            return;
        }
        let mut returns = None;
        if let Some((class, path)) = self.classify(pid, &regs) {
            self.note(class, path, &regs);
            let changes = class.changes();
            let count = self.counts.entry(class).or_default();
            let nth_of_class = *count;
            *count += 1;
            let nth_of_changes: u64 =
                self.counts.iter().filter(|(c, _)| c.changes()).map(|(_, n)| n).sum::<u64>();
            if let Some(aim) = self.aim.filter(|_| !self.hit) {
                let here = match aim.class {
                    Some(wanted) => wanted == class && aim.nth == nth_of_class,
                    None => changes && aim.nth + 1 == nth_of_changes,
                };
                if here {
                    returns = self.strike(pid, aim.fault, &mut regs);
                }
            }
        }
        self.inside.insert(pid.as_raw(), returns);
    }

    fn strike(
        &mut self,
        pid: Pid,
        fault: Fault,
        regs: &mut libc::user_regs_struct,
    ) -> Option<Errno> {
        match fault {
            Fault::Fail(errno) => {
                regs.orig_rax = u64::MAX;
                self.hit = ptrace::setregs(pid, *regs).is_ok();
                self.hit.then_some(errno)
            }
            Fault::Short => {
                let plain =
                    [libc::SYS_read, libc::SYS_write, libc::SYS_pread64, libc::SYS_pwrite64];
                if plain.contains(&(regs.orig_rax as i64)) && regs.rdx > 1 {
                    regs.rdx /= 2;
                    self.hit = ptrace::setregs(pid, *regs).is_ok();
                }
                None
            }
            Fault::Kill => {
                self.hit = kill(self.main, Signal::SIGKILL).is_ok();
                None
            }
        }
    }

    /// The class of a call on a file below the root, and that file.
    fn classify(&self, pid: Pid, regs: &libc::user_regs_struct) -> Option<(Class, PathBuf)> {
        let of_file = |class| Some((class, descriptor(pid, regs.rdi as i32)?));
        let of_path = |class| Some((class, path_at(pid, libc::AT_FDCWD, regs.rdi)?));
        let of_path_at = |class| Some((class, path_at(pid, regs.rdi as i32, regs.rsi)?));
        let found = match regs.orig_rax as i64 {
            libc::SYS_read | libc::SYS_pread64 | libc::SYS_readv | libc::SYS_preadv => {
                of_file(Class::Read)
            }
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev => {
                of_file(Class::Write)
            }
            libc::SYS_copy_file_range => Some((Class::Write, descriptor(pid, regs.rdx as i32)?)),
            libc::SYS_fsync | libc::SYS_fdatasync => of_file(Class::Sync),
            libc::SYS_rename => of_path(Class::Rename),
            libc::SYS_renameat | libc::SYS_renameat2 => of_path_at(Class::Rename),
            libc::SYS_open => of_path(Class::Open),
            libc::SYS_openat => of_path_at(Class::Open),
            libc::SYS_mkdir => of_path(Class::Folder),
            libc::SYS_mkdirat => of_path_at(Class::Folder),
            libc::SYS_ftruncate | libc::SYS_fallocate => of_file(Class::Length),
            libc::SYS_mmap if (regs.r8 as i32) >= 0 => {
                Some((Class::Map, descriptor(pid, regs.r8 as i32)?))
            }
            libc::SYS_unlink | libc::SYS_rmdir => of_path(Class::Remove),
            libc::SYS_unlinkat => of_path_at(Class::Remove),
            libc::SYS_fstat => of_file(Class::Look),
            libc::SYS_stat | libc::SYS_lstat => of_path(Class::Look),
            libc::SYS_statx | libc::SYS_newfstatat => of_path_at(Class::Look),
            libc::SYS_getdents64 => of_file(Class::List),
            _ => None,
        };
        found.filter(|(_, path)| path.starts_with(&self.root) && *path != self.log)
    }

    /// Keeps account of what was written and not flushed.
    fn note(&mut self, class: Class, path: PathBuf, regs: &libc::user_regs_struct) {
        let writes = libc::O_WRONLY | libc::O_RDWR;
        match class {
            Class::Write | Class::Length => drop(self.dirty.insert(path)),
            Class::Open
                if regs.rdx as i32 & writes != 0 && regs.rdx as i32 & libc::O_CREAT != 0 =>
            {
                self.dirty.insert(path);
            }
            Class::Sync => drop(self.dirty.remove(&path)),
            Class::Remove => drop(self.dirty.remove(&path)),
            Class::Rename => {
                let moved = self.dirty.iter().filter(|d| d.starts_with(&path));
                self.unflushed.extend(moved.map(|d| d.display().to_string()));
            }
            _ => {}
        }
    }
}

/// The file that a descriptor of a process leads to.
fn descriptor(pid: Pid, number: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()
}

/// The path at an address of a process, relative to a folder that it has open. Without a path, the
/// folder itself.
fn path_at(pid: Pid, folder: i32, address: u64) -> Option<PathBuf> {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = [0; 4096];
    // The mapping may end with the page; the bytes until then suffice.
    let have = memory.read_at(&mut bytes, address).unwrap_or(0);
    let path = bytes.get(..have)?.split(|&b| b == 0).next()?;
    let path = Path::new(std::str::from_utf8(path).ok()?);
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let from = match folder {
        libc::AT_FDCWD => std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?,
        folder => descriptor(pid, folder)?,
    };
    Some(if path.as_os_str().is_empty() { from } else { from.join(path) })
}

/// Returns the reason why calls cannot be traced here; `None` if they can.
pub(super) fn hindrance(lab: &Lab) -> Option<String> {
    let log = lab.dir.join("log-trace");
    let tried = run(lab, &["--version".into()], &lab.dir, (&lab.dir, &log), None);
    match tried {
        Ok(traced) if traced.ran.code == Some(0) => None,
        Ok(traced) => Some(format!("a traced command ends with {:?}", traced.ran.code)),
        Err(e) if e.kind() == ErrorKind::Io => Some(e.to_string()),
        Err(e) => Some(format!("tracing fails: {e}")),
    }
}
