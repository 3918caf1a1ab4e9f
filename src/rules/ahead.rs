//! Which cell a batch makes next, ahead of its job.

/// A shape as the batch knows it: what of a job is fixed when a cell is made.
pub type Kind = [u8; 16];

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Stock<'a> {
    /// The jobs that wait for a slot, first come first.
    pub queued: &'a [Kind],
    /// Cells that wait or are being made, promised to no job yet.
    pub cells: &'a [Kind],
    /// Of the job that began last: the next one, yet unread, is likely to be of the same.
    pub last: Option<Kind>,
    /// How many cells may wait beyond the queue's need.
    pub spare: usize,
    /// How many may wait in all.
    pub most: usize,
}

/// The kind of the next cell to make; `None` where there are enough. `barren` tells kinds of which none can be made now.
pub fn next(stock: Stock<'_>, barren: impl Fn(&Kind) -> bool) -> Option<Kind> {
    let Stock { queued, cells, last, spare, most } = stock;
    if cells.len() >= most {
        return None;
    }
    let count = |all: &[Kind], kind: &Kind| all.iter().filter(|k| *k == kind).count();
    let lacks = |(n, kind): (usize, &Kind)| count(&queued[..=n], kind) > count(cells, kind) && !barren(kind);
    let needed = (0..queued.len()).find(|n| lacks((*n, &queued[*n]))).map(|n| queued[n]);
    needed.or_else(|| last.filter(|kind| count(cells, kind) < count(queued, kind) + spare && !barren(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Kind = [1; 16];
    const B: Kind = [2; 16];

    fn next_of(queued: &[Kind], cells: &[Kind], last: Option<Kind>, spare: usize) -> Option<Kind> {
        next(Stock { queued, cells, last, spare, most: 4 }, |_| false)
    }

    #[test]
    fn the_queue_comes_first_in_its_order() {
        assert_eq!(next_of(&[A, B], &[], None, 0), Some(A));
        assert_eq!(next_of(&[A, B], &[A], Some(A), 1), Some(B));
        assert_eq!(next_of(&[A, B, A], &[A, B], Some(B), 1), Some(A));
        assert_eq!(next_of(&[A], &[A], None, 0), None);
    }

    #[test]
    fn spare_ones_are_like_the_last_job_and_bounded() {
        assert_eq!(next_of(&[], &[], Some(A), 2), Some(A));
        assert_eq!(next_of(&[], &[A], Some(A), 2), Some(A));
        assert_eq!(next_of(&[], &[A, A], Some(A), 2), None);
        assert_eq!(next_of(&[A], &[A, A], Some(A), 2), Some(A), "one of them is the queue's");
        assert_eq!(next_of(&[A], &[B, B, B, B], Some(A), 2), None, "there is no more room");
        assert_eq!(next_of(&[], &[], None, 2), None, "nothing is known yet");
    }

    #[test]
    fn what_cannot_be_made_is_passed_over() {
        let stock = Stock { queued: &[A, B], cells: &[], last: Some(A), spare: 1, most: 4 };
        assert_eq!(next(stock, |kind| *kind == A), Some(B));
        assert_eq!(next(stock, |_| true), None);
    }
}
