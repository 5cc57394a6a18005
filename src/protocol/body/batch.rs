//! The body of a batch of messages: items one behind the other, read without copying. Knows nothing of what is stored.
//!
//! An item, big-endian: total size i32, magic i32, CRC i32, flag i32, body length i32, body, properties length i16,
//! properties. Total size, magic and CRC are not looked at, as in Java: the parts say where an item ends.

/// Bytes of an item without body and properties.
const FIXED: usize = 22;

/// A message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchItem<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    pub properties: &'a [u8],
}

/// What is wrong with a batch, and at which of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("item at byte {at} of the batch: {what}")]
pub struct BatchError {
    pub what: &'static str,
    pub at: usize,
}

/// The items of a batch in order; ends after the first error.
#[derive(Debug, Clone)]
pub struct BatchItems<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> BatchItems<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        BatchItems { rest: body, at: 0 }
    }

    fn item(&self) -> Result<(BatchItem<'a>, usize), &'static str> {
        let int = |at: usize| -> Result<i32, &'static str> {
            let bytes = self.rest.get(at..at + 4).ok_or("shorter than its fixed part")?;
            Ok(i32::from_be_bytes(bytes.try_into().expect("four bytes were taken")))
        };
        let flag = int(12)?;
        let body_length = usize::try_from(int(16)?).map_err(|_| "a negative body length")?;
        let rest = &self.rest[20..];
        let (body, rest) = rest.split_at_checked(body_length).ok_or("its body exceeds the batch")?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or("no room for the properties length")?;
        let length = usize::try_from(i16::from_be_bytes(*length)).map_err(|_| "a negative properties length")?;
        let properties = rest.get(..length).ok_or("its properties exceed the batch")?;
        Ok((BatchItem { flag, body, properties }, FIXED + body.len() + length))
    }
}

impl<'a> Iterator for BatchItems<'a> {
    type Item = Result<BatchItem<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(match self.item() {
            Ok((item, size)) => {
                self.rest = &self.rest[size..];
                self.at += size;
                Ok(item)
            }
            Err(what) => {
                self.rest = &[];
                Err(BatchError { what, at: self.at })
            }
        })
    }
}

impl BatchItem<'_> {
    /// Appends the item as a client writes it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let size = FIXED + self.body.len() + self.properties.len();
        out.extend_from_slice(&(size as i32).to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.flag.to_be_bytes());
        out.extend_from_slice(&(self.body.len() as i32).to_be_bytes());
        out.extend_from_slice(self.body);
        out.extend_from_slice(&(self.properties.len() as i16).to_be_bytes());
        out.extend_from_slice(self.properties);
    }
}
