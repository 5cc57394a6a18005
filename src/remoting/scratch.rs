//! Spare buffers of a worker thread, lent to whichever connection is at work, so that an idle connection owns none.

use std::{cell::RefCell, collections::VecDeque};

use super::kept::Waiting;

/// What one read may bring.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// More than this many are not kept: they would be memory that nobody uses.
const SPARES_MAX: usize = 4;
/// A buffer that grew beyond this is given back to the allocator.
const SPARE_BYTES_MAX: usize = 256 * 1024;
/// A queue of answers that grew beyond this, likewise.
const SPARE_WAITING_MAX: usize = 1024;

thread_local! {
    static SPARES: RefCell<Spares> =
        const { RefCell::new(Spares { reads: Vec::new(), writes: Vec::new(), waiting: Vec::new() }) };
}

struct Spares {
    reads: Vec<Box<[u8]>>,
    writes: Vec<Vec<u8>>,
    waiting: Vec<VecDeque<Waiting>>,
}

/// A buffer of `READ_BYTES` with arbitrary content.
pub(super) fn take_read() -> Box<[u8]> {
    SPARES.with_borrow_mut(|spares| spares.reads.pop()).unwrap_or_else(|| vec![0; READ_BYTES].into_boxed_slice())
}

pub(super) fn give_read(buffer: Box<[u8]>) {
    SPARES.with_borrow_mut(|spares| {
        if spares.reads.len() < SPARES_MAX {
            spares.reads.push(buffer);
        }
    });
}

/// An empty buffer, perhaps with room.
pub(super) fn take_write() -> Vec<u8> {
    SPARES.with_borrow_mut(|spares| spares.writes.pop()).unwrap_or_default()
}

pub(super) fn give_write(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > SPARE_BYTES_MAX {
        return;
    }
    buffer.clear();
    SPARES.with_borrow_mut(|spares| {
        if spares.writes.len() < SPARES_MAX {
            spares.writes.push(buffer);
        }
    });
}

/// An empty queue, perhaps with room.
pub(super) fn take_waiting() -> VecDeque<Waiting> {
    SPARES.with_borrow_mut(|spares| spares.waiting.pop()).unwrap_or_default()
}

pub(super) fn give_waiting(queue: VecDeque<Waiting>) {
    assert!(queue.is_empty(), "{} answers were left in a queue given back", queue.len());
    if queue.capacity() == 0 || queue.capacity() > SPARE_WAITING_MAX {
        return;
    }
    SPARES.with_borrow_mut(|spares| {
        if spares.waiting.len() < SPARES_MAX {
            spares.waiting.push(queue);
        }
    });
}
