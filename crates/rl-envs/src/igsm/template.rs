//! What a problem is apart from names, numbers and letters, as a hash: problems with equal templates are the same exercise.
//!
//! The necessary parameters are hashed from their kinds, operators and parents, parents first, so the hash does not depend
//! on which topological order the solution has. The digest is SHA-256 of the sorted parameter hashes. Redundant parameters do
//! not count: they change nothing about the solution.

use sha2::{Digest, Sha256};

use super::parameter::{MAX_PARAMETERS, ParameterKind};
use super::problem::{Operator, Problem, Shape};

/// The template of `problem` as 32 bytes.
pub fn template_digest(problem: &Problem) -> [u8; 32] {
    let mut hashes = [0_u64; MAX_PARAMETERS];
    let mut sorted = Vec::with_capacity(problem.necessary().len());
    let mut node = Vec::with_capacity(80);
    for &parameter in problem.necessary() {
        node.clear();
        let operands = problem.operands(parameter);
        let operands = operands.as_slice();
        match parameter.kind() {
            ParameterKind::Abstract { layer, category, .. } => {
                node.extend([b'A', (layer - category) as u8]);
                let mut terms: Vec<[u64; 2]> = if layer - category == 1 {
                    operands.iter().map(|operand| [hashes[operand.index()], 0]).collect()
                } else {
                    operands.chunks_exact(2).map(|pair| [hashes[pair[0].index()], hashes[pair[1].index()]]).collect()
                };
                terms.sort_unstable();
                node.extend(terms.into_iter().flatten().flat_map(u64::to_be_bytes));
            }
            ParameterKind::Instance { .. } => {
                let definition = problem.definition(parameter);
                let joined = definition.and_then(|d| d.constant.map(|_| d.operator)).filter(|_| !operands.is_empty());
                let shape = definition.map_or(Shape::Single, |definition| definition.shape);
                node.push(b'I');
                node.push(match (joined, definition.is_some_and(|definition| definition.constant.is_some())) {
                    (Some(Operator::Plus), _) => b'+',
                    (Some(Operator::Times), _) => b'*',
                    (None, true) => b'0',
                    (None, false) => b'=',
                });
                let mut parents: Vec<u64> = operands.iter().map(|operand| hashes[operand.index()]).collect();
                if shape == Shape::Difference {
                    node.push(b'-');
                } else {
                    parents.sort_unstable();
                }
                node.extend(parents.into_iter().flat_map(u64::to_be_bytes));
            }
        }
        let digest = Sha256::digest(&node);
        let hash = digest.iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte));
        hashes[parameter.index()] = hash;
        sorted.push(hash);
    }
    sorted.sort_unstable();
    let mut all = Sha256::new();
    for hash in sorted {
        all.update(hash.to_be_bytes());
    }
    all.finalize().into()
}

/// The template of `problem` in hexadecimal.
pub fn template_hash(problem: &Problem) -> String {
    template_digest(problem).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest as a number, modulo `num_bins`.
pub fn template_bin(problem: &Problem, num_bins: u32) -> u32 {
    bin_of(&template_digest(problem), num_bins)
}

/// A digest as a number, modulo `num_bins`; 0 of no bins.
pub fn bin_of(digest: &[u8; 32], num_bins: u32) -> u32 {
    let bins = u64::from(num_bins.max(1));
    digest.iter().fold(0, |rest, &byte| (rest << 8 | u64::from(byte)) % bins) as u32
}
