//! Frames: a total length of four bytes (not counting itself), then the content.

/// Bytes of the length field.
pub const LENGTH: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {size} bytes exceeds the {size_max} bytes that `frame_size_max_bytes` allows")]
    TooLarge { size: u64, size_max: u64 },
    #[error("frame length {0} is below the 4 bytes that every frame has")]
    TooShort(i32),
}

/// The next frame's content at the head of `buffer` and the bytes it takes with its length field; `None` asks for more.
/// `size_max` bounds length field and content together (Java: 16,777,216).
pub fn split(buffer: &[u8], size_max: usize) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH>() else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    if length < 4 {
        return Err(FrameError::TooShort(length));
    }
    let size = length as u64 + LENGTH as u64;
    if size > size_max as u64 {
        return Err(FrameError::TooLarge { size, size_max: size_max as u64 });
    }
    let size = size as usize;
    Ok(buffer.get(LENGTH..size).map(|content| (content, size)))
}
