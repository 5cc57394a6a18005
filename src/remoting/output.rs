//! Bytes on their way out of one connection: headers and small bodies in one buffer, slices of the log beside them
//! uncopied. Knows no socket: it offers slices to write and is told how many bytes went.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::scratch;
use crate::protocol::command::{Response, Serialization, encode_response};

/// What one vectored write may carry.
pub(super) const SLICES_MAX: usize = 64;
/// Below it copying a body is cheaper than a slice of its own in the vectored write.
const COPY_BELOW_BYTES: usize = 1024;
/// A buffer whose written head is longer than this moves its rest to the front rather than growing on.
const COMPACT_BYTES: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Output {
    /// Everything that is not a slice of its own, in order; written up to `buffer_written`.
    buffer: Vec<u8>,
    buffer_written: usize,
    parts: VecDeque<Part>,
    /// The sum of `parts`.
    queued: usize,
}

enum Part {
    /// So many bytes of the buffer, behind those of the parts before.
    Buffered(usize),
    Slice(Bytes),
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Bytes that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Whole frames, encoded by `encode`.
    pub(super) fn push_encoded(&mut self, frames: &[u8]) {
        self.buffered(|buffer| buffer.extend_from_slice(frames));
    }

    pub(super) fn push_response(&mut self, response: Response, opaque: i32, serialization: Serialization) {
        self.buffered(|buffer| encode(&response, opaque, serialization, buffer));
        for body in response.body {
            if body.len() < COPY_BELOW_BYTES {
                self.buffered(|buffer| buffer.extend_from_slice(&body));
            } else {
                self.queued += body.len();
                self.parts.push_back(Part::Slice(body));
            }
        }
    }

    pub(super) fn push_frame(&mut self, frame: Vec<u8>) {
        if frame.len() < COPY_BELOW_BYTES {
            self.buffered(|buffer| buffer.extend_from_slice(&frame));
        } else {
            self.queued += frame.len();
            self.parts.push_back(Part::Slice(frame.into()));
        }
    }

    fn buffered(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        if self.buffer.capacity() == 0 {
            self.buffer = scratch::take_write();
        } else if self.buffer_written >= COMPACT_BYTES {
            self.buffer.drain(..self.buffer_written);
            self.buffer_written = 0;
        }
        let before = self.buffer.len();
        append(&mut self.buffer);
        let added = self.buffer.len() - before;
        self.queued += added;
        match self.parts.back_mut() {
            Some(Part::Buffered(len)) => *len += added,
            _ if added > 0 => self.parts.push_back(Part::Buffered(added)),
            _ => {}
        }
    }

    /// What to write next.
    pub(super) fn slices(&self) -> SmallVec<[IoSlice<'_>; SLICES_MAX]> {
        let mut at = self.buffer_written;
        let slice = |part| match part {
            &Part::Buffered(len) => {
                at += len;
                IoSlice::new(&self.buffer[at - len..at])
            }
            Part::Slice(bytes) => IoSlice::new(bytes),
        };
        self.parts.iter().take(SLICES_MAX).map(slice).collect()
    }

    /// So many bytes of the slices were written.
    pub(super) fn on_written(&mut self, bytes: usize) {
        assert!(bytes <= self.queued, "{bytes} written of {} queued", self.queued);
        self.queued -= bytes;
        let mut left = bytes;
        while left > 0 {
            let front = self.parts.front_mut().expect("the parts sum up to what was queued");
            match front {
                Part::Buffered(len) => {
                    let step = left.min(*len);
                    *len -= step;
                    self.buffer_written += step;
                    left -= step;
                    if *len > 0 {
                        return;
                    }
                }
                Part::Slice(slice) => {
                    let step = left.min(slice.len());
                    slice.advance(step);
                    left -= step;
                    if !slice.is_empty() {
                        return;
                    }
                }
            }
            self.parts.pop_front();
        }
        if self.queued == 0 {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        assert!(self.parts.is_empty(), "an empty part was queued");
        scratch::give_write(std::mem::take(&mut self.buffer));
        self.buffer_written = 0;
        // A connection that answers pulls holds a few slices at a time; one that once held thousands gives them back.
        if self.parts.capacity() > SLICES_MAX {
            self.parts = VecDeque::new();
        }
    }
}

/// Appends the frame of `response` up to its body.
pub(super) fn encode(response: &Response, opaque: i32, serialization: Serialization, out: &mut Vec<u8>) {
    let opaque = if plant!(WrongOpaque) && opaque % 7 == 3 { opaque - 1 } else { opaque };
    encode_response(response, opaque, serialization, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `steps` bytes at a time in turn and collects what was offered.
    fn drained(output: &mut Output, steps: &[usize]) -> Vec<u8> {
        let mut seen = Vec::new();
        for step in steps.iter().cycle() {
            if output.is_empty() {
                break;
            }
            let before = seen.len();
            for slice in output.slices() {
                let left = step.saturating_sub(seen.len() - before);
                seen.extend_from_slice(&slice[..left.min(slice.len())]);
            }
            output.on_written(seen.len() - before);
        }
        seen
    }

    #[test]
    fn order_survives_any_split() {
        for steps in [&[1][..], &[7, 1000], &[4096], &[usize::MAX], &[1, 100_000]] {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for number in 0..200usize {
                let frame = vec![number as u8; [3, 900, 1024, 5000][number % 4]];
                expected.extend_from_slice(&frame);
                output.push_frame(frame);
                if number % 3 == 0 {
                    let mut head = Vec::new();
                    let response = Response::success().with_body(vec![1; 10]).with_body(vec![2; 2000]);
                    encode_response(&response, number as i32, Serialization::Json, &mut head);
                    expected.extend_from_slice(&head);
                    expected.extend_from_slice(&[1; 10]);
                    expected.extend_from_slice(&[2; 2000]);
                    output.push_response(response, number as i32, Serialization::Json);
                }
            }
            assert_eq!(output.queued(), expected.len());
            assert!(drained(&mut output, steps) == expected, "steps {steps:?}");
            assert!(output.parts.is_empty() && output.buffer.capacity() == 0, "an idle connection owns no buffer");
        }
    }

    #[test]
    fn a_long_queue_does_not_keep_what_was_written() {
        let mut output = Output::default();
        for _ in 0..1_000 {
            output.push_frame(vec![7; 1000]);
            output.push_frame(vec![8; 1000]);
            output.on_written(1999);
        }
        assert!(output.buffer.capacity() < 4 * COMPACT_BYTES, "{}", output.buffer.capacity());
        assert_eq!(drained(&mut output, &[100]).len(), 1000);
    }
}
