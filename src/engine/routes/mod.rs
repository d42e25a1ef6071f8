//! Routes: what happens outside or is told inside, and the machines that it goes to.
//!
//! One type for each kind of input, with the machines that may hear of it, by name: it touches no others.
//! What an input does is said by the machine that it goes to.
//!
//! | input | file |
//! |---|---|
//! | words of peers, and of this node to itself | `words` |
//! | requests of users | `requests` |
//! | reports of children's runtimes | `reports` |
//! | states that arrive, or do not | `transfers` |
//! | deadlines that pass | `deadlines` |
//! | what membership wants; a view that is adopted, or settled | `views` |
//! | a member that is reached in another way | `told_again` |
//! | what one machine tells another; a child of which something else is known | `news` |

mod deadlines;
mod news;
mod reports;
mod requests;
mod told_again;
mod transfers;
mod views;
mod words;

use self::{
    deadlines::Deadlines, news::Listeners, reports::Reports, requests::Requests,
    told_again::ToldAgain, transfers::Transfers, views::Views, words::Words,
};
use super::Engine;

/// The machines of an engine that somebody is lent, by name.
macro_rules! lend {
    ($engine:ident, $to:ident, $($machine:ident),+) => {
        $to { $($machine: &mut $engine.$machine),+ }
    };
}

/// Who needs several machines is lent them by name.
impl Engine {
    pub(super) fn words(&mut self) -> Words<'_> {
        lend!(
            self, Words, core, access, membership, probation, sync, settle, returns, homes,
            children, rolls, parked, applies
        )
    }

    pub(super) fn views(&mut self) -> Views<'_> {
        lend!(
            self, Views, core, membership, probation, ways, met, sync, settle, returns, homes,
            children, rolls, parked, applies, rescan
        )
    }

    pub(super) fn told_again(&mut self) -> ToldAgain<'_> {
        lend!(self, ToldAgain, core, membership, ways, sync, settle, homes, children, parked)
    }

    pub(super) fn listeners(&mut self) -> Listeners<'_> {
        lend!(self, Listeners, core, homes, children, rolls, parked)
    }

    pub(super) fn transfers(&mut self) -> Transfers<'_> {
        lend!(self, Transfers, core, children, parked, applies)
    }

    pub(super) fn reports(&mut self) -> Reports<'_> {
        lend!(self, Reports, core, children, parked, applies)
    }

    pub(super) fn requests(&mut self) -> Requests<'_> {
        lend!(self, Requests, core, membership, homes, children, parked, applies, leave, drain)
    }

    pub(super) fn deadlines(&mut self) -> Deadlines<'_> {
        lend!(
            self, Deadlines, core, membership, sync, settle, returns, homes, children, rolls,
            parked, applies, leave, drain
        )
    }
}
