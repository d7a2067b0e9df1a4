//! Which prompts are waiting, which have been read, and where their keys and values are.
//!
//! A prompt is read once for all requests that have it, also when they are admitted at different times: the requests
//! that come later copy keys and values from a live slot with the same prompt, or from a copy kept here when the last
//! such slot ends.

use std::collections::HashMap;
use std::rc::Rc;

use tch::Tensor;

use super::cache::KeyValue;

/// Prompts by number.
#[derive(Default)]
pub(super) struct Prompts {
    numbers: HashMap<Rc<[i64]>, usize>,
    prompts: HashMap<usize, Prompt>,
    next: usize,
}

/// One distinct prompt that some request still needs.
pub(super) struct Prompt {
    /// Token ids, `[prompt]`.
    pub ids: Rc<[i64]>,
    /// Requests with this prompt that have no slot yet.
    pub waiting: usize,
    /// Logits after the last token, `[1, vocab]`; there while the prompt need not be read again.
    pub logits: Option<Tensor>,
    /// Keys and values of all layers, once no live slot has them any more.
    pub stored: Option<Vec<KeyValue>>,
}

impl Prompts {
    /// Counts a waiting request with prompt `ids`; gives the prompt's number.
    pub fn add(&mut self, ids: &[i64]) -> usize {
        let number = match self.numbers.get(ids) {
            Some(&number) => number,
            None => {
                let ids: Rc<[i64]> = ids.into();
                let prompt = Prompt { ids: ids.clone(), waiting: 0, logits: None, stored: None };
                self.numbers.insert(ids, self.next);
                self.prompts.insert(self.next, prompt);
                self.next += 1;
                self.next - 1
            }
        };
        if let Some(prompt) = self.prompts.get_mut(&number) {
            prompt.waiting += 1;
        }
        number
    }

    /// The prompt, as long as a request waits for it.
    pub fn get(&self, number: usize) -> Option<&Prompt> {
        self.prompts.get(&number)
    }

    pub fn get_mut(&mut self, number: usize) -> Option<&mut Prompt> {
        self.prompts.get_mut(&number)
    }

    /// Counts one request less that waits; a prompt nobody waits for is forgotten.
    pub fn leave(&mut self, number: usize) {
        let Some(prompt) = self.prompts.get_mut(&number) else { return };
        prompt.waiting -= 1;
        if prompt.waiting == 0 {
            self.numbers.remove(&prompt.ids);
            self.prompts.remove(&number);
        }
    }

    /// Prompts whose keys and values are kept here.
    pub fn num_stored(&self) -> usize {
        self.prompts.values().filter(|prompt| prompt.stored.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_prompts_share_a_number_until_nobody_waits() {
        let mut prompts = Prompts::default();
        let (a, b) = (prompts.add(&[1, 2]), prompts.add(&[3]));
        assert_ne!(a, b);
        assert_eq!(prompts.add(&[1, 2]), a);
        prompts.leave(a);
        assert_eq!(prompts.get(a).map(|prompt| prompt.waiting), Some(1));
        prompts.leave(a);
        assert!(prompts.get(a).is_none());
        assert_ne!(prompts.add(&[1, 2]), a, "what is known of the old one is gone");
        assert_eq!((prompts.get(b).map(|prompt| prompt.ids.to_vec()), prompts.num_stored()), (Some(vec![3]), 0));
    }
}
