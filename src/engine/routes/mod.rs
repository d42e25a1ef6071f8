//! Routes: what happens outside or is told inside, and the machines that it goes to.
//!
//! One type for each kind of input, with the machines that may hear of it, by name: it touches no others.
//! What an input does is said by the machine that it goes to.
//!
//! | input | file |
//! |---|---|
//! | words of peers, and of this node to itself | `words` |
//! | a link that stands, or is gone | `links` |
//! | requests of users | `requests` |
//! | reports of children's runtimes | `reports` |
//! | states that arrive, or do not | `transfers` |
//! | deadlines that pass | `deadlines` |
//! | what membership wants; a view that is adopted, or settled | `views` |
//! | a member that is reached in another way | `told_again` |
//! | what one machine tells another; a child of which something else is known | `news` |
//! | the end of a batch of events: what goes out together | `outgoing` |

mod deadlines;
mod links;
mod news;
mod outgoing;
mod reports;
mod requests;
mod told_again;
mod transfers;
mod views;
mod words;

pub(super) use self::{
    deadlines::Deadlines, links::Links, news::Listeners, outgoing::Outgoing, reports::Reports,
    requests::Requests, told_again::ToldAgain, transfers::Transfers, views::Views, words::Words,
};
