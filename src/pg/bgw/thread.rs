//! Runs blocking work in a thread, while the process continues to process interrupts.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::thread::{Builder, JoinHandle};

use pgrx::prelude::*;

/// Runs `work` in a thread and waits for it. Interrupts are processed meanwhile: SIGTERM ends the
/// process. `work` must not call PostgreSQL. `None`: it panicked, or no thread could be started.
///
/// If an interrupt raises an error, the thread continues alone and its value is lost.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (ours, theirs) = UnixStream::pair().ok()?;
    let thread = spawn(move || {
        // This end is closed when the work is over, also by a panic. The loop below waits for that.
        let _end = theirs;
        work()
    });
    let thread = thread.ok()?;
    while !is_closed(&ours) {}
    thread.join().ok()
}

/// Starts a thread that receives no signals, because the server's handlers must run in the main
/// thread. Threads that it starts inherit this.
fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // SAFETY: a set of signals is plain data: zeros are a value, and each one is written before it is
    // read. A null pointer asks for no old set. This thread's own set is put back whether or not
    // there is a new thread.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let thread = Builder::new().spawn(work);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        thread
    }
}

/// Waits until the other end is closed or the latch is set, and processes interrupts. Returns
/// whether the other end is closed. The process ends if the postmaster has died.
fn is_closed(stream: &UnixStream) -> bool {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: `MyLatch` is this process's own latch, which exists from its start to its end. The
    // socket is borrowed, so it is open during the call.
    let happened = unsafe {
        let happened = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as c_int,
            stream.as_raw_fd(),
            -1,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        happened as u32
    };
    pg_sys::check_for_interrupts!();
    happened & pg_sys::WL_SOCKET_READABLE != 0
}
