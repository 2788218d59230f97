//! Runs work that blocks in a thread, so that this process goes on answering interrupts.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::thread::{Builder, JoinHandle};

use pgrx::prelude::*;

/// Runs `work` in a thread of its own and waits for it. Interrupts are answered meanwhile: a
/// SIGTERM ends the process. `work` must not call PostgreSQL. None: it panicked, or there was no
/// thread to be had.
///
/// Where an interrupt raises an error, the thread is left to itself and its value is lost.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (ours, theirs) = UnixStream::pair().ok()?;
    let thread = spawn(move || {
        // Closed when the work is over, by a panic too; that is what is waited for.
        let _end = theirs;
        work()
    });
    let thread = thread.ok()?;
    while !is_closed(&ours) {}
    thread.join().ok()
}

/// Starts a thread that gets no signals: the server's handlers are for the main thread alone. The
/// threads that it starts itself are like it.
fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // SAFETY: sets of signals are plain data, filled in before they are read; this thread's own set
    // is put back whether or not there is a new thread.
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

/// Waits until the other end is closed or something else happens, and answers interrupts; true: it
/// is closed. The process ends with the server.
fn is_closed(stream: &UnixStream) -> bool {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: waits for the process's own latch, and for a socket that is open as long as this.
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
