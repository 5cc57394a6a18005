//! Bytes on their way into one connection, cut into frames. Frames are handed on where the read put them; only one that
//! arrives in pieces is copied. Knows no socket and no command.

use std::{ops::Range, time::Duration};

use super::scratch;
use crate::protocol::frame::{self, FrameError, LENGTH};

#[derive(Default)]
pub(super) struct Input {
    /// The beginning of a frame whose end has not been read yet. Grows only as its bytes arrive.
    partial: Vec<u8>,
    /// A chunk that was not used up: the turn was over, or a bound said stop.
    carried: Option<Chunk>,
}

/// What one read brought.
pub(super) struct Chunk {
    pub(super) buffer: Box<[u8]>,
    pub(super) unused: Range<usize>,
    /// Monotonic time of the read.
    pub(super) received: Duration,
}

/// What is to happen after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Pause,
}

impl Input {
    pub(super) fn take_carried(&mut self) -> Option<Chunk> {
        self.carried.take()
    }

    /// Bytes of memory held.
    pub(super) fn held(&self) -> usize {
        self.partial.capacity() + self.carried.as_ref().map_or(0, |chunk| chunk.buffer.len())
    }

    /// A frame has begun and not ended.
    pub(super) fn is_within_frame(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Where the rest of a large frame may be read to directly, and how many bytes it still lacks. `None` where reading
    /// into a chunk serves as well.
    pub(super) fn large(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let missing = self.size()?.checked_sub(self.partial.len())?;
        if missing < scratch::READ_BYTES {
            return None;
        }
        // At most doubled: memory follows the bytes seen, not the length that a peer claims.
        self.partial.reserve_exact(missing.min(self.partial.len().max(scratch::READ_BYTES)));
        let room = missing.min(self.partial.capacity() - self.partial.len());
        Some((&mut self.partial, room))
    }

    /// Size of the partial frame with its length field, once that is known (and checked).
    fn size(&self) -> Option<usize> {
        let length = self.partial.first_chunk::<LENGTH>()?;
        Some(LENGTH + u32::from_be_bytes(*length) as usize)
    }

    /// Hands the contents of complete frames to `on_frame` until it says pause; keeps what is left.
    pub(super) fn consume<E: From<FrameError>>(
        &mut self,
        mut chunk: Chunk,
        size_max: usize,
        mut on_frame: impl FnMut(&[u8], Duration) -> Result<Flow, E>,
    ) -> Result<(), E> {
        let mut flow = Flow::GoOn;
        while flow == Flow::GoOn && !chunk.unused.is_empty() {
            let bytes = &chunk.buffer[chunk.unused.clone()];
            if self.partial.is_empty() {
                match frame::split(bytes, size_max)? {
                    Some((content, size)) => {
                        flow = on_frame(content, chunk.received)?;
                        chunk.unused.start += size;
                    }
                    None => {
                        self.partial.extend_from_slice(bytes);
                        chunk.unused.start = chunk.unused.end;
                    }
                }
            } else {
                let wanted = self.size().unwrap_or(LENGTH) - self.partial.len();
                let step = wanted.min(bytes.len());
                self.partial.extend_from_slice(&bytes[..step]);
                chunk.unused.start += step;
                flow = self.complete(size_max, chunk.received, &mut on_frame)?;
            }
        }
        if chunk.unused.is_empty() {
            scratch::give_read(chunk.buffer);
        } else {
            self.carried = Some(chunk);
        }
        Ok(())
    }

    /// Hands the partial frame on if it is complete by now.
    pub(super) fn complete<E: From<FrameError>>(
        &mut self,
        size_max: usize,
        received: Duration,
        on_frame: &mut impl FnMut(&[u8], Duration) -> Result<Flow, E>,
    ) -> Result<Flow, E> {
        if frame::split(&self.partial, size_max)?.is_none() {
            return Ok(Flow::GoOn);
        }
        let whole = std::mem::take(&mut self.partial);
        on_frame(&whole[LENGTH..], received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: &[u8]) -> Chunk {
        Chunk { buffer: bytes.into(), unused: 0..bytes.len(), received: Duration::ZERO }
    }

    fn framed(content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32).to_be_bytes()[..], content].concat()
    }

    #[test]
    fn frames_survive_any_split() {
        let contents: Vec<Vec<u8>> =
            [4, 100, 5, 3000, 4, 70_000, 12].iter().map(|len| vec![*len as u8; *len]).collect();
        let stream: Vec<u8> = contents.iter().flat_map(|content| framed(content)).collect();
        for step in [1, 2, 3, 5, 107, 4096, 65_536, stream.len()] {
            let (mut input, mut seen) = (Input::default(), Vec::new());
            for bytes in stream.chunks(step) {
                input
                    .consume::<FrameError>(chunk(bytes), 1 << 20, |content, _| {
                        seen.push(content.to_vec());
                        Ok(Flow::GoOn)
                    })
                    .unwrap();
            }
            assert!(seen == contents, "step {step}");
            assert!(!input.is_within_frame() && input.partial.capacity() == 0);
        }
    }

    #[test]
    fn a_pause_carries_the_rest() {
        let stream: Vec<u8> = (0..10u8).flat_map(|number| framed(&[number; 8])).collect();
        let (mut input, mut seen) = (Input::default(), Vec::new());
        let mut next = Some(chunk(&stream));
        let mut turns = 0;
        while let Some(chunk) = next.take().or_else(|| input.take_carried()) {
            turns += 1;
            input
                .consume::<FrameError>(chunk, 100, |content, _| {
                    seen.push(content[0]);
                    Ok(if seen.len() % 3 == 0 { Flow::Pause } else { Flow::GoOn })
                })
                .unwrap();
        }
        assert_eq!((seen, turns), ((0..10).collect(), 4));
    }

    #[test]
    fn lengths_are_checked_before_memory_is_spent() {
        for (head, pieces) in [(&[0x7f, 0xff, 0xff, 0xff][..], 1), (&[0, 0, 0, 3], 2), (&[0xff, 0xff, 0xff, 0xff], 4)] {
            let mut input = Input::default();
            let outcome: Vec<_> = head
                .chunks(4 / pieces)
                .map(|bytes| input.consume::<FrameError>(chunk(bytes), 1 << 24, |_, _| panic!("not a frame")))
                .collect();
            assert!(outcome[pieces - 1].is_err() && outcome[..pieces - 1].iter().all(Result::is_ok), "{head:?}");
            assert!(input.held() < 100);
        }
        // A claim of 16 MiB is no reason to set 16 MiB aside.
        let mut input = Input::default();
        input.consume::<FrameError>(chunk(&[0, 0xff, 0xff, 0, 1]), 1 << 24, |_, _| panic!("not a frame")).unwrap();
        let (_, room) = input.large().unwrap();
        assert_eq!(room, scratch::READ_BYTES);
        assert!(input.held() <= 2 * scratch::READ_BYTES);
    }
}
