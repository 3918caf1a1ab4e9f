//! Which images and stages go, and in what order: least recently used first, and never what anybody needs.

use crate::model::reference::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// Something that keeps layers in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    pub what: What,
    /// Milliseconds since 1970.
    pub used_ms: u64,
    /// A name points to it, or somebody uses it right now.
    pub needed: bool,
    pub layers: Vec<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Image(Digest),
    /// A stage of a recipe, by its key.
    Stage(String),
}

/// What the operator wants to be gone. Both together: what is unused for so long, and further as many as it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The most that layers may occupy afterwards, in bytes.
    pub keep_bytes: Option<u64>,
    pub unused_for_ms: Option<u64>,
}

/// What goes, in order; and the layers that nobody needs then, whoever it was that left them.
///
/// `layers` are all that lie in the store, with their sizes in bytes.
pub fn choose(keepers: Vec<Keeper>, layers: &BTreeMap<Digest, u64>, wishes: Wishes, now_ms: u64) -> (Vec<What>, Vec<Digest>) {
    let mut order = keepers;
    order.sort_by(|a, b| (a.used_ms, &a.what).cmp(&(b.used_ms, &b.what)));
    let mut gone = Vec::new();
    let mut left = order;
    while let Some(at) = next(&left, layers, wishes, now_ms) {
        gone.push(left.remove(at).what);
    }
    let needed = needed(&left);
    (gone, layers.keys().filter(|layer| !needed.contains(layer)).cloned().collect())
}

fn needed(keepers: &[Keeper]) -> BTreeSet<&Digest> {
    keepers.iter().flat_map(|k| &k.layers).collect()
}

/// The first that may go and is to go.
fn next(left: &[Keeper], layers: &BTreeMap<Digest, u64>, wishes: Wishes, now_ms: u64) -> Option<usize> {
    let needed = needed(left);
    let occupied: u64 = layers.iter().filter(|(layer, _)| needed.contains(layer)).map(|(_, bytes)| bytes).sum();
    let too_much = wishes.keep_bytes.is_some_and(|most| occupied > most);
    let too_old = |k: &Keeper| wishes.unused_for_ms.is_some_and(|most| now_ms.saturating_sub(k.used_ms) >= most);
    // To make room, only what frees some: an image whose layers others keep would go for nothing.
    let frees = |at: usize| {
        let others: BTreeSet<&Digest> =
            left.iter().enumerate().filter(|(n, k)| *n != at && k.needed).flat_map(|(_, k)| &k.layers).collect();
        left[at].layers.iter().any(|layer| !others.contains(layer) && layers.get(layer).is_some_and(|bytes| *bytes > 0))
    };
    (0..left.len()).find(|at| !left[*at].needed && (too_old(&left[*at]) || (too_much && frees(*at))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(n: u8) -> Digest {
        Digest::of_sha256([n; 32])
    }

    fn image(n: u8, used_ms: u64, needed: bool, layers: &[u8]) -> Keeper {
        Keeper { what: What::Image(layer(n)), used_ms, needed, layers: layers.iter().map(|l| layer(*l)).collect() }
    }

    fn store() -> (Vec<Keeper>, BTreeMap<Digest, u64>) {
        let keepers = vec![
            image(101, 50, false, &[1, 2]),
            image(102, 10, true, &[1, 3]),
            image(103, 20, false, &[1, 4]),
            Keeper { what: What::Stage("s".into()), used_ms: 30, needed: false, layers: vec![layer(5)] },
        ];
        (keepers, [(1, 100), (2, 20), (3, 30), (4, 40), (5, 50), (6, 60)].map(|(n, bytes)| (layer(n), bytes)).into())
    }

    #[test]
    fn without_wishes_only_what_nobody_keeps_goes() {
        let (keepers, layers) = store();
        assert_eq!(choose(keepers, &layers, Wishes::default(), 100), (vec![], vec![layer(6)]));
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_needed_never() {
        let (keepers, layers) = store();
        let wishes = |keep| Wishes { keep_bytes: Some(keep), unused_for_ms: None };
        // 240 bytes are kept by somebody.
        assert_eq!(choose(keepers.clone(), &layers, wishes(240), 100).0, vec![]);
        assert_eq!(choose(keepers.clone(), &layers, wishes(239), 100).0, vec![What::Image(layer(103))]);
        let (gone, freed) = choose(keepers.clone(), &layers, wishes(150), 100);
        assert_eq!(gone, [What::Image(layer(103)), What::Stage("s".into())]);
        assert_eq!(freed, [layer(4), layer(5), layer(6)]);
        let (gone, freed) = choose(keepers, &layers, wishes(0), 100);
        assert_eq!((gone.len(), freed), (3, vec![layer(2), layer(4), layer(5), layer(6)]), "102 stays with its layers");
    }

    #[test]
    fn age_alone_is_enough() {
        let (keepers, layers) = store();
        let wishes = Wishes { keep_bytes: None, unused_for_ms: Some(70) };
        assert_eq!(choose(keepers, &layers, wishes, 100).0, [What::Image(layer(103)), What::Stage("s".into())]);
    }

    #[test]
    fn what_frees_nothing_does_not_go_to_make_room() {
        let keepers = vec![image(1, 1, false, &[1]), image(2, 2, true, &[1])];
        let layers = [(layer(1), 100)].into();
        let wishes = Wishes { keep_bytes: Some(0), unused_for_ms: None };
        assert_eq!(choose(keepers, &layers, wishes, 100).0, vec![]);
    }
}
