// SPDX-License-Identifier: Apache-2.0
//! gRPC's messages in a body: each is a byte of flags, its length in four, and as many more bytes.

/// Follows the messages of one direction, in whatever pieces they come. What the lengths say is
/// counted and not believed: nothing is kept for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages {
    /// Bytes of the prefix that have been seen, of a message that has begun.
    prefix: u8,
    /// While in the prefix: what it says of the length so far. Then: bytes that are still to come.
    left: u32,
    begun: u64,
}

/// Flags and length.
pub(super) const PREFIX_BYTES: usize = 5;

impl Messages {
    /// Messages that have begun, as Envoy counts them.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Whether all that have begun are whole.
    pub fn is_between(&self) -> bool {
        self.prefix == 0
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            if usize::from(self.prefix) == PREFIX_BYTES {
                let skipped = bytes.len().min(self.left as usize);
                bytes = &bytes[skipped..];
                self.left -= skipped as u32;
            } else {
                match self.prefix {
                    0 => self.begun += 1,
                    _ => self.left = self.left << 8 | u32::from(*byte),
                }
                self.prefix += 1;
                bytes = rest;
            }
            if usize::from(self.prefix) == PREFIX_BYTES && self.left == 0 {
                self.prefix = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
