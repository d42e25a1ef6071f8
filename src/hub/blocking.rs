//! States that are encoded and decoded on a blocking thread, while their arbiter serves others.

use actix_rt::task::spawn_blocking;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::{
    bound::{self, Bound},
    codec::Rules,
    hot_swap::HotSwap,
    panics::guarded,
    parcel::Parcel,
    state::{encode_state, read_state},
};
use crate::engine::io::{BuildFailure, FreezeFailure};

/// A state that comes back with its bytes, or with the reason that there are none. No state: the system
/// ends, and the thread never ran.
type Encoded<S> = (Option<S>, Result<Bytes, FreezeFailure>);

/// What comes back from a blocking thread.
type Back<T> = LocalBoxFuture<'static, T>;

type Encode<S> = fn(S, Rules) -> Back<Encoded<S>>;
type Decode<S> = fn(Parcel) -> Back<Result<S, BuildFailure>>;

/// How states of a kind get to a blocking thread and back. There is one only for kinds whose state is
/// `Send`.
pub(crate) struct BlockingCodec<A: HotSwap> {
    encode: Encode<A::State>,
    decode: Decode<A::State>,
}

impl<A: HotSwap> Clone for BlockingCodec<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: HotSwap> Copy for BlockingCodec<A> {}

impl<A: HotSwap> BlockingCodec<A>
where
    A::State: Send,
{
    pub(crate) fn new() -> Self {
        Self { encode: encode::<A>, decode: decode::<A> }
    }
}

impl<A: HotSwap> BlockingCodec<A> {
    /// Encodes a state. A panic of its `Serialize` is a failure like any other.
    pub(crate) async fn encode(self, state: A::State, rules: Rules) -> Encoded<A::State> {
        (self.encode)(state, rules).await
    }

    /// Decodes a state. A panic of its `Deserialize` is a failure like any other.
    pub(crate) async fn decode(self, parcel: Parcel) -> Result<A::State, BuildFailure> {
        (self.decode)(parcel).await
    }
}

fn encode<A: HotSwap>(state: A::State, rules: Rules) -> Back<Encoded<A::State>>
where
    A::State: Send,
{
    Box::pin(async move {
        let hub = bound::of_thread();
        let encoding = spawn_blocking(move || {
            let _bound = Bound::to(&hub);
            let encoded = encode_state::<A>(&state, rules);
            (Some(state), encoded)
        });
        encoding.await.unwrap_or_else(|error| {
            (None, Err(FreezeFailure::Encode { message: error.to_string() }))
        })
    })
}

fn decode<A: HotSwap>(parcel: Parcel) -> Back<Result<A::State, BuildFailure>>
where
    A::State: Send,
{
    Box::pin(async move {
        let hub = bound::of_thread();
        let decoding = spawn_blocking(move || {
            let _bound = Bound::to(&hub);
            guarded(|| read_state::<A>(&parcel)).unwrap_or_else(|panic| {
                Err(BuildFailure::passing(format!("it panicked while it was decoded: {panic}")))
            })
        });
        decoding.await.unwrap_or_else(|error| Err(BuildFailure::passing(error.to_string())))
    })
}
