//! What is trained on does not depend on how it is batched, packed, shared out or made ahead, and an interrupted epoch
//! goes on where it stood.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rl_data::*;

use crate::fixtures::example;

/// A target with all that stands before it in its document.
type Pair = (Vec<i64>, i64);

/// How often each pair is trained.
fn trained(batches: &[StepBatch]) -> BTreeMap<Pair, usize> {
    let mut pairs = BTreeMap::new();
    for packed in batches.iter().flat_map(|batch| &batch.packed) {
        for (&row, &target) in packed.label_rows.iter().zip(&packed.label_ids) {
            let row = row as usize;
            let start = *packed.boundaries.iter().rfind(|&&start| start <= row).unwrap();
            assert_eq!(packed.positions[row] as usize, row - start);
            *pairs.entry((packed.ids[start..=row].to_vec(), target)).or_default() += 1;
        }
    }
    pairs
}

/// The same, from the documents themselves.
fn expected(examples: &[Example], times: usize) -> BTreeMap<Pair, usize> {
    let mut pairs = BTreeMap::new();
    for example in examples {
        let ids: Vec<i64> = example.ids.iter().map(|&id| i64::from(id)).collect();
        for next in (1..ids.len()).filter(|&next| example.trainable[next]) {
            *pairs.entry((ids[..next].to_vec(), ids[next])).or_default() += times;
        }
    }
    pairs
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    batching: Batching,
    num_ranks: usize,
    ahead: Option<usize>,
}

fn run(examples: &Arc<[Example]>, setting: Setting, epochs: u64) -> Vec<StepBatch> {
    let rank = |rank| {
        let shard = Shard::new(rank, setting.num_ranks, Remainder::Uneven).unwrap();
        let start = Cursor::default();
        let batches = Batches::new(Arc::clone(examples), 7, examples.len(), setting.batching, shard, start).unwrap();
        let batches = batches.ending_after(epochs);
        let made: Vec<StepBatch> = match setting.ahead {
            Some(ahead) => batches.prefetch(ahead).unwrap().map(Result::unwrap).collect(),
            None => batches.map(Result::unwrap).collect(),
        };
        made
    };
    (0..setting.num_ranks).flat_map(rank).collect()
}

fn documents() -> impl Strategy<Value = Arc<[Example]>> {
    let document = prop::collection::vec((0_u32..5, any::<bool>()), 1..12);
    prop::collection::vec(document, 1..25).prop_map(|all| all.iter().map(|tokens| example(tokens)).collect())
}

fn batching() -> impl Strategy<Value = Batching> {
    let packing =
        prop::sample::select(vec![Packing::BestFitDecreasing, Packing::BestFitDecreasingSplit, Packing::None]);
    let rows = (1_usize..30, packing, 12_usize..60).prop_map(|(batch_size, packing, max_tokens)| Batching::Rows {
        batch_size,
        packing,
        max_tokens,
    });
    let groups =
        (12_usize..60, 1_usize..30).prop_map(|(max_tokens, window)| Batching::LengthGrouped { max_tokens, window });
    prop_oneof![rows, groups]
}

fn setting() -> impl Strategy<Value = Setting> {
    (batching(), 1_usize..5, prop::option::of(0_usize..4)).prop_map(|(batching, num_ranks, ahead)| Setting {
        batching,
        num_ranks,
        ahead,
    })
}

proptest! {
    #[test]
    fn the_trained_pairs_are_the_same_however_they_are_batched(examples in documents(), setting in setting()) {
        prop_assert_eq!(trained(&run(&examples, setting, 2)), expected(&examples, 2));
    }

    /// Where documents are cut, every token is still there and every lost target is counted.
    #[test]
    fn cuts_lose_only_what_they_count(
        examples in documents(),
        batch_size in 1_usize..30,
        max_tokens in 1_usize..10,
        packing in prop::sample::select(vec![Packing::BestFitDecreasingSplit, Packing::Wrapped]),
    ) {
        let batching = Batching::Rows { batch_size, packing, max_tokens };
        let batches = run(&examples, Setting { batching, num_ranks: 1, ahead: None }, 1);
        let packed: Vec<&PackedBatch> = batches.iter().flat_map(|batch| &batch.packed).collect();
        let counted = |ids: Vec<i64>| {
            let mut counts = BTreeMap::<i64, usize>::new();
            ids.into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
            counts
        };
        let all = examples.iter().flat_map(|example| example.ids.iter().map(|&id| i64::from(id))).collect();
        prop_assert_eq!(counted(packed.iter().flat_map(|packed| packed.ids.clone()).collect()), counted(all));
        let targets: usize = packed.iter().map(|packed| packed.label_ids.len() + packed.cut_targets).sum();
        prop_assert_eq!(targets, examples.iter().map(Example::num_trainable).sum::<usize>());
    }

    #[test]
    fn an_interrupted_epoch_goes_on_where_it_stood(
        examples in documents(),
        batching in batching(),
        ahead in 0_usize..4,
        stop in 0_usize..40,
        remainder in prop::sample::select(vec![Remainder::Uneven, Remainder::Drop, Remainder::Repeat]),
    ) {
        let shard = Shard::new(1, 3, remainder).unwrap();
        let from = |cursor| {
            let rows = examples.len();
            Batches::new(Arc::clone(&examples), 7, rows, batching, shard, cursor).unwrap().ending_after(3)
        };
        let whole: Vec<StepBatch> = from(Cursor::default()).map(Result::unwrap).collect();
        // The steps are made ahead, so the thread stands further than the last step that was used.
        let mut head = from(Cursor::default()).prefetch(ahead).unwrap();
        let mut steps: Vec<StepBatch> = head.by_ref().take(stop).map(Result::unwrap).collect();
        drop(head);
        let saved = serde_json::to_string(&steps.last().map_or(Cursor::default(), |step| step.next)).unwrap();
        steps.extend(from(serde_json::from_str(&saved).unwrap()).map(Result::unwrap));
        prop_assert_eq!(steps, whole);
    }

    #[test]
    fn ranks_have_every_row_once_or_say_what_they_did(
        rows in prop::collection::vec(0_usize..100, 0..40),
        num_ranks in 1_usize..7,
    ) {
        let shares = |remainder| {
            (0..num_ranks).map(|rank| Shard::new(rank, num_ranks, remainder).unwrap().share(&rows)).collect::<Vec<_>>()
        };
        let sorted = |mut rows: Vec<usize>| { rows.sort_unstable(); rows };
        let uneven = shares(Remainder::Uneven);
        prop_assert_eq!(sorted(uneven.iter().flat_map(|share| share.rows.clone()).collect()), sorted(rows.clone()));
        prop_assert!(uneven.iter().all(|share| share.num_repeated == 0 && share.num_dropped == 0));
        let drop = shares(Remainder::Drop);
        prop_assert!(drop.iter().all(|share| share.rows.len() == drop[0].rows.len()));
        let kept: Vec<usize> = drop.iter().flat_map(|share| share.rows.clone()).collect();
        prop_assert_eq!(kept.len() + drop[0].num_dropped, rows.len());
        prop_assert_eq!(sorted(kept.clone()), sorted(rows[..kept.len()].to_vec()));
        let repeat = shares(Remainder::Repeat);
        prop_assert!(repeat.iter().all(|share| share.rows.len() == repeat[0].rows.len()));
        let own = |share: &Share| share.rows[..share.rows.len() - share.num_repeated].to_vec();
        prop_assert_eq!(sorted(repeat.iter().flat_map(own).collect()), sorted(rows));
    }
}

#[test]
fn a_mix_gives_its_counts_through_batches() {
    // Two datasets of 4 and 12 documents; a document's only target names it.
    let examples: Arc<[Example]> = (0..16).map(|row| example(&[(99, false), (row, true)])).collect();
    let mix = Mix::new(&[4, 12], &MixConfig { weights: vec![1.0, 1.0], stop: MixStop::AllExhausted }).unwrap();
    let batching = Batching::Rows { batch_size: 5, packing: Packing::BestFitDecreasing, max_tokens: 8 };
    let batches = Batches::new(Arc::clone(&examples), 1, mix, batching, Shard::alone(), Cursor::default()).unwrap();
    let steps: Vec<StepBatch> = batches.ending_after(1).map(Result::unwrap).collect();
    assert_eq!(steps.iter().map(|step| step.rows.len()).collect::<Vec<_>>(), [5, 5, 5, 5, 4]);
    for (pair, times) in trained(&steps) {
        assert_eq!(times, if pair.1 < 4 { 3 } else { 1 }, "{pair:?}");
    }
}

#[test]
fn settings_that_do_not_fit_the_examples_are_refused() {
    let examples: Arc<[Example]> = (0..10).map(|row| example(&[(1, false), (row, true)])).collect();
    let rows = |batch_size, max_tokens| Batching::Rows { batch_size, packing: Packing::None, max_tokens };
    let make = |epochs: usize, batching, position| {
        Batches::new(Arc::clone(&examples), 1, epochs, batching, Shard::alone(), Cursor { epoch: 0, position })
    };
    assert!(make(10, rows(4, 2), 4).is_ok());
    for (epochs, batching, position, word) in [
        (9, rows(4, 2), 0, "9 rows for 10 examples"),
        (10, rows(0, 2), 0, "batch_size"),
        (10, rows(4, 1), 0, "above the limit 1"),
        (10, rows(4, 0), 0, "capacity"),
        (10, rows(4, 2), 3, "middle of a step"),
        (10, rows(4, 2), 10, "below the number of rows"),
        (10, Batching::LengthGrouped { max_tokens: 1, window: 3 }, 0, "above the limit 1"),
        (10, Batching::LengthGrouped { max_tokens: 9, window: 0 }, 0, "window"),
    ] {
        let error = make(epochs, batching, position).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
