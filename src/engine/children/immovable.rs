//! Why a child's state cannot go, as its latest encoding showed.

use crate::engine::io::FreezeFailure;

/// What is known of one child's state.
#[derive(Debug, Default)]
pub(crate) struct Immovable {
    reason: Option<String>,
}

impl Immovable {
    /// Why it cannot go; `None`: it could, or was not encoded yet.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The state was encoded, or could not be. Gives the reason if that is news: told once, until it
    /// could be encoded again.
    pub(crate) fn note(&mut self, outcome: &Result<u64, FreezeFailure>) -> Option<String> {
        match outcome {
            Ok(_) => self.reason = None,
            Err(failure) if failure.is_of_state() => {
                let known = self.reason.replace(failure.to_string());
                return if known.is_none() { self.reason.clone() } else { None };
            }
            // The handlers were not done: nothing is known of the state.
            Err(_) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [FreezeFailure; 5] {
        [
            FreezeFailure::Panicked { message: "it did".into() },
            FreezeFailure::TooLarge { size: 9, limit: 8 },
            FreezeFailure::Encode { message: "a".into() },
            FreezeFailure::NotReadBack { message: "b".into() },
            FreezeFailure::Gone,
        ]
    }

    #[test]
    fn what_is_wrong_with_a_state_is_told_once_and_kept_until_it_is_right() {
        for failure in all().into_iter().filter(FreezeFailure::is_of_state) {
            let mut known = Immovable::default();
            let outcome = Err(failure.clone());
            assert_eq!(known.note(&outcome), Some(failure.to_string()));
            assert_eq!(known.note(&outcome), None, "it was told");
            let other = Err(FreezeFailure::Encode { message: "another".into() });
            assert_eq!(known.note(&other), None, "that it cannot go was told");
            assert_eq!(known.reason(), Some("the state could not be encoded: another"));
            assert_eq!(known.note(&Ok(1)), None);
            assert_eq!(known.reason(), None);
            assert!(known.note(&outcome).is_some(), "it is wrong again");
        }
    }

    #[test]
    fn a_freeze_that_came_to_no_state_says_nothing_of_it() {
        let mut known = Immovable::default();
        let too_slow = Err(FreezeFailure::Retention {
            unresolved: 1,
            longest: std::time::Duration::from_secs(5),
        });
        assert_eq!(known.note(&too_slow), None);
        assert_eq!(known.note(&Err(FreezeFailure::Gone)), None);
        assert_eq!(known.reason(), None);
        known.note(&Err(FreezeFailure::Encode { message: "a".into() }));
        assert_eq!(known.note(&too_slow), None);
        assert!(known.reason().is_some());
    }
}
