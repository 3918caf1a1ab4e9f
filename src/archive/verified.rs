//! Bytes held against the digest and the size that they were promised with, while they are read.

use super::refusal::mismatch;
use crate::model::fault::Fault;
use crate::model::reference::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};

/// Counts and hashes what passes.
pub(super) struct Tallied<R> {
    from: R,
    hash: Sha256,
    size: u64,
}

impl<R> Tallied<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, hash: Sha256::new(), size: 0 }
    }

    /// Digest and size of all that has passed.
    pub(super) fn sum(&self) -> (Digest, u64) {
        (Digest::of_sha256(self.hash.clone().finalize().into()), self.size)
    }
}

impl<R: Read> Read for Tallied<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.hash.update(&into[..n]);
        self.size += n as u64;
        Ok(n)
    }
}

/// A blob that is read to its end is what was promised; else reading fails with an `archive:mismatch` inside.
pub(super) struct Verified<R> {
    from: Tallied<R>,
    digest: Digest,
    size: u64,
}

impl<R> Verified<R> {
    pub(super) fn new(from: R, digest: Digest, size: u64) -> Self {
        Self { from: Tallied::new(from), digest, size }
    }

    fn judge(&self, over: bool) -> Result<(), Fault> {
        let (digest, size) = self.from.sum();
        if size > self.size || (over && size != self.size) {
            let more = if over { "" } else { "more than " };
            return Err(mismatch(format!("blob {} has {more}{size} bytes; its descriptor says {}", self.digest, self.size)));
        }
        if over && digest != self.digest {
            return Err(mismatch(format!("blob {} has other content: {digest}", self.digest)).hint("copy or download it again"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        // What is read too much must not be used either.
        if (n == 0 && !into.is_empty()) || self.from.size > self.size {
            self.judge(n == 0).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_what_their_descriptors_say() {
        let digest = Digest::of_sha256(Sha256::digest(b"hello").into());
        let read = |bytes: &[u8], size| {
            let mut out = Vec::new();
            Verified::new(bytes, digest.clone(), size).read_to_end(&mut out).map(|_| out).map_err(super::super::refusal::reading)
        };
        assert_eq!(read(b"hello", 5), Ok(b"hello".to_vec()));
        for (bytes, size, says) in
            [(&b"hello"[..], 4, "5 bytes"), (b"hello", 6, "5 bytes"), (b"hullo", 5, "other content"), (b"", 5, "0 bytes")]
        {
            let fault = read(bytes, size).expect_err(says);
            assert!(fault.code == "archive:mismatch" && fault.message.contains(says), "{fault:?}");
        }
    }
}
