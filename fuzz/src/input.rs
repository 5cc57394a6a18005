//! The fuzzer's bytes as a stream of choices. When they run out every choice is the first.

pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Input { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }

    /// A number of one to eight bytes: small ones are as likely as large ones.
    pub fn number(&mut self) -> u64 {
        let kind = self.byte();
        let value = match kind & 3 {
            0 => u64::from(self.byte()),
            1 => u64::from(self.u16()),
            2 => u64::from(self.u32()),
            _ => self.u64(),
        };
        if kind & 4 == 0 { value } else { value.wrapping_neg() }
    }

    pub fn below(&mut self, bound: usize) -> usize {
        if bound <= 256 { self.byte() as usize % bound.max(1) } else { self.u32() as usize % bound }
    }

    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// Up to 255 bytes.
    pub fn some(&mut self) -> &'a [u8] {
        let count = self.byte() as usize;
        self.take(count)
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.some()).into_owned()
    }
}
