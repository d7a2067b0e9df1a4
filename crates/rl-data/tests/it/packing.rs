//! Packing at scale: every document in one row, no row above capacity, labels as without packing.

use proptest::prelude::*;
use rl_data::*;

proptest! {
    #[test]
    fn every_document_is_in_one_row_that_holds_it(lengths in prop::collection::vec(1_usize..=50, 0..80)) {
        let rows = pack(Packing::BestFitDecreasing, &lengths, 50).unwrap();
        let mut seen: Vec<usize> = rows.concat();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        let sums: Vec<usize> = rows.iter().map(|row| row.iter().map(|&document| lengths[document]).sum()).collect();
        prop_assert!(sums.iter().all(|&sum| sum <= 50));
        // No two rows could have been one, which any fit rule guarantees.
        let mut sorted = sums.clone();
        sorted.sort_unstable();
        prop_assert!(sorted.len() < 2 || sorted[0] + sorted[1] > 50);
    }

    #[test]
    fn packed_labels_are_those_of_the_documents(
        documents in prop::collection::vec(prop::collection::vec((0_u32..9, any::<bool>()), 1..9), 1..6),
    ) {
        let examples: Vec<Example> = documents
            .iter()
            .map(|tokens| Example {
                ids: tokens.iter().map(|token| token.0).collect(),
                trainable: tokens.iter().map(|token| token.1).collect(),
                roles: vec![None; tokens.len()],
            })
            .collect();
        let batch = PackedBatch::new(&examples).unwrap();
        let mut labels = Vec::new();
        let mut start = 0;
        for tokens in &documents {
            for (at, pair) in tokens.windows(2).enumerate() {
                if pair[1].1 {
                    labels.push(((start + at) as i64, i64::from(pair[1].0)));
                }
            }
            start += tokens.len();
        }
        let found: Vec<_> = batch.label_rows.iter().copied().zip(batch.label_ids.iter().copied()).collect();
        prop_assert_eq!(found, labels);
        prop_assert_eq!(*batch.boundaries.last().unwrap(), start);
        prop_assert_eq!(batch.labels_by_document().last().unwrap().end, batch.label_ids.len());
    }
}
