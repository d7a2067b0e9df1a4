//! Matrices, their ranks and determinants, against arithmetic that is written differently.

use num_rational::Ratio;
use proptest::prelude::*;
use rl_envs::matrix_tasks::{DatasetConfig, Matrix, MatrixTask, MatrixTasks, MatrixTasksConfig};
use rl_envs::{Environment, Error};

fn entries(matrix: &Matrix) -> Vec<Vec<i64>> {
    matrix.rows().map(<[i64]>::to_vec).collect()
}

/// Rank by elimination with fractions.
fn rank(matrix: &[Vec<i64>]) -> usize {
    let mut rows: Vec<Vec<Ratio<i128>>> =
        matrix.iter().map(|row| row.iter().map(|&entry| Ratio::from(i128::from(entry))).collect()).collect();
    let mut rank = 0;
    for column in 0..rows.first().map_or(0, Vec::len) {
        let Some(pivot) = (rank..rows.len()).find(|&row| rows[row][column] != Ratio::from(0)) else { continue };
        rows.swap(rank, pivot);
        for row in rank + 1..rows.len() {
            let factor = rows[row][column] / rows[rank][column];
            for place in 0..rows[row].len() {
                let upper = rows[rank][place];
                rows[row][place] -= factor * upper;
            }
        }
        rank += 1;
    }
    rank
}

/// Determinant by expansion along the first row.
fn determinant(matrix: &[Vec<i64>]) -> i128 {
    if matrix.is_empty() {
        return 1;
    }
    let minor = |without: usize| -> Vec<Vec<i64>> {
        let drop = |row: &Vec<i64>| row.iter().enumerate().filter(|(j, _)| *j != without).map(|(_, &x)| x).collect();
        matrix[1..].iter().map(drop).collect()
    };
    let sign = |j: usize| if j.is_multiple_of(2) { 1 } else { -1 };
    (0..matrix.len()).map(|j| sign(j) * i128::from(matrix[0][j]) * determinant(&minor(j))).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn elimination_is_right(rows in 1_usize..=6, columns in 1_usize..=6, numbers in prop::collection::vec(-3_i64..=3, 36)) {
        let matrix = Matrix::from_fn(rows, columns, |i, j| numbers[6 * i + j]);
        prop_assert_eq!(matrix.rank(), rank(&entries(&matrix)));
        let expected = (rows == columns).then(|| determinant(&entries(&matrix)));
        prop_assert_eq!(matrix.determinant(), expected);
    }
}

#[test]
fn the_largest_matrices_do_not_overflow() {
    let signs = |i: usize, j: usize| if (i * j + i).is_multiple_of(3) { -9_600 } else { 9_599 - (i * 6 + j) as i64 };
    let matrix = Matrix::from_fn(6, 6, signs);
    assert_eq!(matrix.determinant(), Some(determinant(&entries(&matrix))));
}

#[test]
fn ranks_are_uniform_and_right() {
    for config in [MatrixTasksConfig::rank(), MatrixTasksConfig::rank().shifted()] {
        let mut counts = [0_f64; 5];
        for index in 0..4000 {
            let problem = config.task.problem(11, index).unwrap();
            let rows = entries(&problem.matrix);
            assert_eq!(rank(&rows) as i64, problem.answer, "{}", problem.matrix);
            counts[problem.answer as usize] += 1.0;
            let shape = (rows.len(), rows[0].len());
            assert_eq!(shape, if config == MatrixTasksConfig::rank() { (4, 5) } else { (5, 4) });
            // Products of factors up to 4 or 5, summed over the rank.
            let limit = if shape == (4, 5) { 16 } else { 25 } * problem.answer.max(1);
            assert!(rows.iter().flatten().all(|entry| entry.abs() <= limit), "{}", problem.matrix);
        }
        let chi_square: f64 = counts.iter().map(|count| (count - 800.0_f64).powi(2) / 800.0).sum();
        // 99.9 % quantile of chi-square with 4 degrees of freedom.
        assert!(chi_square < 18.467, "{counts:?}");
    }
}

#[test]
fn determinants_are_right_and_never_zero() {
    let plain = MatrixTasksConfig::determinant();
    let symmetric = MatrixTask::Determinant { size: 3, max_entry: 5, symmetric: true };
    for task in [plain.task, plain.shifted().task, symmetric] {
        for index in 0..2000 {
            let problem = task.problem(3, index).unwrap();
            let rows = entries(&problem.matrix);
            assert_eq!(i128::from(problem.answer), determinant(&rows), "{}", problem.matrix);
            assert_ne!(problem.answer, 0);
            let limit = if task == plain.task { 4 } else { 5 };
            assert!(rows.iter().flatten().all(|entry| entry.abs() <= limit), "{}", problem.matrix);
            if task == symmetric {
                assert!((0..3).all(|i| (0..3).all(|j| rows[i][j] == rows[j][i])), "{}", problem.matrix);
            }
        }
    }
}

#[test]
fn episodes_are_judged_and_paid() {
    let mut game = MatrixTasks::new(MatrixTasksConfig { max_attempts: 3, ..MatrixTasksConfig::determinant() }).unwrap();
    let observation = game.reset(1, 0).unwrap();
    let problem = game.problem().unwrap().clone();
    assert!(observation.messages[0].content.contains(&problem.matrix.to_string()), "{observation:?}");
    let wrong = game.step(&format!("{}", problem.answer + 1)).unwrap();
    assert_eq!((wrong.outcome, wrong.reward, wrong.ended()), ("wrong", -1.0, false));
    let told = format!("That answer failed: {} is not the determinant. Please try again.", problem.answer + 1);
    assert_eq!(wrong.feedback.unwrap().content, told);
    let none = game.step("I cannot say").unwrap();
    assert_eq!((none.outcome, none.reward), ("no_answer", -1.0));
    let last = game.step("0").unwrap();
    assert_eq!((last.outcome, last.reward, last.truncated), ("wrong", -2.0, true));
    game.reset(1, 0).unwrap();
    let right = game.step(&format!("It is {}.", problem.answer)).unwrap();
    assert_eq!((right.outcome, right.reward, right.success, right.terminated), ("correct", 5.0, true, true));
    assert!(matches!(game.step("0"), Err(Error::EpisodeEnded { .. })));
}

#[test]
fn rows_are_the_environments_prompts_with_right_answers() {
    let environment = MatrixTasksConfig::rank();
    let config = DatasetConfig { out: "x.jsonl".into(), seed: 4, num_rows: 50, first_index: 100, environment };
    let rows = config.rows().unwrap();
    let mut game = MatrixTasks::new(config.environment.clone()).unwrap();
    for (index, row) in (100..150).zip(&rows) {
        assert_eq!(row.messages[..1], game.reset(4, index).unwrap().messages);
        assert!(game.step(&row.messages[1].content).unwrap().success);
        assert_eq!(config.row(index).unwrap(), *row);
    }
    assert_eq!(rows.len(), 50);
}

#[test]
fn what_cannot_be_is_refused() {
    let with = |task| MatrixTasks::new(MatrixTasksConfig { task, ..MatrixTasksConfig::rank() }).map(drop);
    for (task, key) in [
        (MatrixTask::Rank { rows: 0, columns: 5, max_factor: 4 }, "task.rows"),
        (MatrixTask::Rank { rows: 4, columns: 7, max_factor: 4 }, "task.columns"),
        (MatrixTask::Rank { rows: 4, columns: 5, max_factor: 41 }, "task.max_factor"),
        (MatrixTask::Determinant { size: 7, max_entry: 4, symmetric: false }, "task.size"),
        (MatrixTask::Determinant { size: 2, max_entry: 0, symmetric: false }, "task.max_entry"),
    ] {
        assert!(matches!(with(task), Err(Error::Config { key: found, .. }) if found == key), "{task:?}");
    }
}
