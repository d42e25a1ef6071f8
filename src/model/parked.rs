//! Parked states: their names, what is known of them, and the words that holders exchange.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    child::Epoch,
    id::{ChildId, KindName, NodeId, NodeRun, RequestId},
};

/// The name of a parked state: whose state it is. The same on every node.
///
/// Its text is `<epoch>~<nonce>~<node>~<child>`, the nonce in hexadecimal, so that it can stand in
/// one segment of a URL, percent-encoded.
///
/// ```
/// use actix_hub::ParkedKey;
///
/// let text = "1.0~7~12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq~cart-9";
/// let key: ParkedKey = text.parse().expect("a valid key");
/// assert_eq!(key.child.as_str(), "cart-9");
/// assert_eq!(key.to_string(), text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ParkedKey {
    /// The child.
    pub child: ChildId,
    /// The run of the node whose actor had this state.
    pub run: NodeRun,
    /// The epoch at which that actor lived.
    pub epoch: Epoch,
}

impl fmt::Display for ParkedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { child, run, epoch } = self;
        write!(f, "{epoch}~{:x}~{}~{child}", run.nonce, run.node)
    }
}

/// A text that is no name of a parked state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the key of a parked state: <epoch>~<nonce>~<node>~<child>")]
pub struct InvalidParkedKey;

impl FromStr for ParkedKey {
    type Err = InvalidParkedKey;

    fn from_str(text: &str) -> Result<Self, InvalidParkedKey> {
        let parse = || {
            let mut parts = text.splitn(4, '~');
            let (term, attempt) = parts.next()?.split_once('.')?;
            let epoch = Epoch { term: term.parse().ok()?, attempt: attempt.parse().ok()? };
            let nonce = u64::from_str_radix(parts.next()?, 16).ok()?;
            let node = parts.next()?.parse::<NodeId>().ok()?;
            let child = ChildId::new(parts.next()?).ok()?;
            Some(Self { child, run: NodeRun { node, nonce }, epoch })
        };
        parse().ok_or(InvalidParkedKey)
    }
}

/// A parked state without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedInfo {
    /// Its name.
    pub key: ParkedKey,
    /// The child's kind.
    pub kind: KindName,
    /// The version of the state's form.
    pub state_version: u32,
    /// When it was parked, in milliseconds since 1970, by the clock of the node that did.
    pub at: u64,
    /// Why it was not merged; about 1,000 bytes at most.
    pub reason: String,
}

/// What a transfer of a parked state is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParkedUse {
    /// To be kept, too.
    Keep,
    /// To be given to the child, which the receiver owns; answered with [`ParkedWord::Applied`].
    Apply {
        /// The sender's number.
        request: RequestId,
        /// Whether the child's own state is replaced, and parked in exchange; else it is merged.
        replace: bool,
        /// How long the sender waits.
        wait: Duration,
    },
}

/// Words about parked states. Each list has at most 64 keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParkedWord {
    /// The sender holds these.
    Have {
        /// Their names.
        keys: Vec<ParkedKey>,
        /// Whether a list of all that it holds begins: what it said before is void.
        first: bool,
    },
    /// The sender holds this one no more; it was not disposed of.
    Lost {
        /// Its name.
        key: ParkedKey,
    },
    /// These were discarded, or given to their child: nobody keeps them.
    Dropped {
        /// Their names.
        keys: Vec<ParkedKey>,
    },
    /// The sender has no room for this one.
    NoRoom {
        /// Its name.
        key: ParkedKey,
    },
    /// The answer to [`ParkedUse::Apply`].
    Applied {
        /// From the transfer.
        request: RequestId,
        /// What became of it.
        outcome: Result<(), ApplyFailed>,
    },
}

/// Why a parked state was not given to its child. The child goes on with the state that it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyFailed {
    /// There is no such child, or its owner is not in.
    #[error("there is no such child")]
    NoSuchChild,
    /// The child does not run at this moment, or moves. Try again.
    #[error("the child does not run there at this moment")]
    NotRunning,
    /// The kind does not merge: its own state can only be replaced.
    #[error("its kind does not merge states")]
    NotMerged,
    /// It is being applied, or as many others are as may be.
    #[error("it, or too many others, are being applied")]
    Busy,
    /// It was discarded or applied meanwhile.
    #[error("it was discarded or applied meanwhile")]
    Gone,
    /// The child's node could not read or take it.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

/// What became of a parked state that another node was asked to apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplyAnswer {
    /// The child has it; nobody keeps it any more.
    Applied,
    /// That node does not hold it.
    NotHeld,
    /// The child goes on as before.
    Failed(ApplyFailed),
    /// Nothing was heard of it: the child may have it, or get it still.
    NoAnswer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_key_reads_back_whatever_the_child_is_called() {
        for child in ["c", "a~b~c", "carts/1?x=%20", "ä"] {
            let key = ParkedKey {
                child: ChildId::new(child).expect("a valid id"),
                run: NodeRun { node: NodeId::from_key([7; 32]), nonce: u64::MAX },
                epoch: Epoch { term: 3, attempt: 9 },
            };
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["", "1.0", "1.0~7~x~c", "1~7~12D3KooW~c", "1.0~~~"] {
            assert_eq!(text.parse::<ParkedKey>(), Err(InvalidParkedKey), "{text}");
        }
    }
}
