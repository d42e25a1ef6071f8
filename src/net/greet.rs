//! The Hellos that open a link: who is there, and whether it may come in.
//!
//! The dialler opens the control stream and sends its Hello; the other end checks it and sends its
//! own. Then the node with the lower id chooses (`Use`), the other agrees (`Using`), and the link
//! stands on both ends. Whoever refuses says why before it closes.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::watch,
    time::timeout,
};

use super::{
    Announcement,
    birth::{Age, Birth},
    carrier::{Connection, Stream},
    control::{CONTROL_STREAM, CloseWord, ControlReader, Frame, put_frame, put_preface},
};
use crate::{
    model::{
        access::AccessList,
        address::ip_of,
        id::{HubName, Incarnation, NodeId},
        member::{Hello, Member},
    },
    wire,
};

/// How long a closed connection is kept for the other end to read why.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// A connection whose Hellos were exchanged and found good.
pub(super) struct Greeted {
    pub(super) reader: ControlReader<ReadHalf<Stream>>,
    pub(super) writer: WriteHalf<Stream>,
    pub(super) connection: Connection,
    pub(super) hello: Hello,
    /// When the Hello came.
    since: Instant,
}

impl Greeted {
    /// How old the other end's run is by now.
    pub(super) fn age(&self) -> Age {
        let nonce = self.hello.me.incarnation.nonce;
        Age::new(self.hello.up, nonce).after(self.since.elapsed())
    }

    /// How long ago the Hello came.
    pub(super) fn since(&self) -> Duration {
        self.since.elapsed()
    }
}

/// Why a connection came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GreetFailure {
    /// One end does not admit the other.
    Refused(String),
    /// This node's incarnation is fenced up to this one.
    Fenced(Incarnation),
    /// Another connection of the same two runs is in use.
    Duplicate,
    /// The other end has a link to another process with this node's key, at this address, that was
    /// there first.
    Twin(String),
    /// The other end closed it before it said anything.
    Unanswered,
    /// It broke, or took too long.
    Broken(String),
}

impl From<io::Error> for GreetFailure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// An error of a connection whose other end has said nothing yet.
fn unanswered(error: io::Error) -> GreetFailure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => GreetFailure::Unanswered,
        _ => error.into(),
    }
}

impl From<CloseWord> for GreetFailure {
    fn from(word: CloseWord) -> Self {
        match word {
            CloseWord::Closed(reason) => Self::Broken(reason),
            CloseWord::Refused(reason) => Self::Refused(reason),
            CloseWord::Fenced(incarnation) => Self::Fenced(incarnation),
            CloseWord::Duplicate => Self::Duplicate,
            CloseWord::Twin(address) => Self::Twin(address),
        }
    }
}

/// What a node checks Hellos against.
pub(super) struct Greeter {
    pub(super) me: NodeId,
    pub(super) version: u16,
    pub(super) birth: Birth,
    /// Whether a link to a node stands.
    pub(super) is_linked: Box<dyn Fn(NodeId) -> bool + Send + Sync>,
    pub(super) hub: HubName,
    pub(super) access: watch::Receiver<AccessList>,
    pub(super) announcement: watch::Receiver<Option<Announcement>>,
    pub(super) deadline: Duration,
}

/// What is said to the other end, and what is made of it here.
struct Refusal {
    there: CloseWord,
    here: GreetFailure,
}

impl Refusal {
    fn both(reason: String) -> Self {
        Self { there: CloseWord::Refused(reason.clone()), here: GreetFailure::Refused(reason) }
    }
}

impl Greeter {
    /// Exchanges the Hellos. The node with the higher id has heard `Use` when this returns; the
    /// one with the lower id has not said it yet.
    pub(super) async fn greet(&self, connection: Connection) -> Result<Greeted, GreetFailure> {
        let late = |_| GreetFailure::Broken("no Hello within the deadline".to_owned());
        let mut greeted =
            timeout(self.deadline, self.exchange(connection)).await.map_err(late)??;
        if self.me > greeted.connection.peer {
            // The other may have to find out first whether an older link is dead.
            let late = |_| GreetFailure::Broken("not chosen within the deadline".to_owned());
            match timeout(2 * self.deadline, greeted.reader.next()).await.map_err(late)?? {
                Frame::Use => {}
                Frame::Close(word) => return Err(word.into()),
                _ => return Err(GreetFailure::Broken("another word than Use".to_owned())),
            }
        }
        greeted.reader.set_limit(wire::CONTROL_LIMIT);
        Ok(greeted)
    }

    async fn exchange(&self, mut connection: Connection) -> Result<Greeted, GreetFailure> {
        let mut announcement = self.announcement.clone();
        let mine = announcement.wait_for(Option::is_some).await.ok().and_then(|a| a.clone());
        let Some(mine) = mine else {
            return Err(GreetFailure::Broken("the network is shutting down".to_owned()));
        };
        let dialled = connection.dialled;
        let stream = if dialled {
            connection.streams.open().await.map_err(unanswered)?
        } else {
            let ended = || GreetFailure::Broken("it closed before its Hello".to_owned());
            let mut stream = connection.incoming.recv().await.ok_or_else(ended)?;
            if stream.read_u8().await? != CONTROL_STREAM {
                return Err(GreetFailure::Broken("the first stream is not control".to_owned()));
            }
            stream
        };
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = ControlReader::new(reader, wire::HELLO_LIMIT);
        let mut out = BytesMut::new();
        if dialled {
            out.extend_from_slice(&[CONTROL_STREAM]);
        }
        put_preface(&mut out, self.version);
        if dialled {
            if let Err(refusal) = self.admits(connection.peer) {
                return Err(turn_away(connection, writer, out, refusal).await);
            }
            put_frame(&mut out, &Frame::Hello(self.hello(&mine, &connection)?));
            writer.write_all(&out.split()).await.map_err(unanswered)?;
            writer.flush().await.map_err(unanswered)?;
        }
        let version = match reader.preface().await {
            Err(error) if dialled => return Err(unanswered(error)),
            version => version?,
        };
        let first = reader.next().await?;
        let since = Instant::now();
        let hello = match first {
            // That there is another process with this node's key only who has its Hello can say.
            Frame::Close(word @ CloseWord::Twin(_)) => {
                return Err(GreetFailure::Broken(word.reason()));
            }
            Frame::Close(word) => return Err(word.into()),
            frame => self.check(connection.peer, version, frame, &mine),
        };
        let hello = match hello {
            Ok(hello) => hello,
            Err(refusal) => return Err(turn_away(connection, writer, out, refusal).await),
        };
        if !dialled {
            put_frame(&mut out, &Frame::Hello(self.hello(&mine, &connection)?));
            writer.write_all(&out).await?;
            writer.flush().await?;
        }
        Ok(Greeted { reader, writer, connection, hello, since })
    }

    /// This node's Hello for the other end, encoded. As many known members as there is room for.
    fn hello(
        &self,
        mine: &Announcement,
        connection: &Connection,
    ) -> Result<bytes::Bytes, GreetFailure> {
        let fenced = mine.fenced.iter().filter(|(node, _)| *node == connection.peer);
        let mut hello = Hello {
            version: self.version,
            hub: self.hub.clone(),
            me: mine.me.clone(),
            fenced: fenced.map(|(_, incarnation)| *incarnation).max(),
            known: mine.known.iter().take(1_024).cloned().collect(),
            dialled: connection.dialled.then(|| connection.address.clone()),
            seen: ip_of(&connection.address).filter(|_| !connection.dialled),
            up: self.birth.age().up(),
            linked: (self.is_linked)(connection.peer),
        };
        if !connection.is_local() {
            // There it would lead to whoever listens on that machine.
            hello.me.forget_loopback();
            hello.known.iter_mut().for_each(Member::forget_loopback);
        }
        loop {
            match wire::encode_hello(&hello) {
                Ok(bytes) => return Ok(bytes),
                Err(_) if !hello.known.is_empty() => hello.known.truncate(hello.known.len() / 2),
                Err(error) => return Err(GreetFailure::Broken(error.to_string())),
            }
        }
    }

    /// Why a node is not admitted; `None` if it is.
    pub(super) fn refusal(&self, node: NodeId) -> Option<&'static str> {
        self.access.borrow().refusal(node)
    }

    /// The carrier asks as well, and may not know yet what has just changed.
    fn admits(&self, peer: NodeId) -> Result<(), Refusal> {
        match self.refusal(peer) {
            Some(reason) => Err(Refusal::both(reason.to_owned())),
            None => Ok(()),
        }
    }

    fn check(
        &self,
        peer: NodeId,
        version: u16,
        frame: Frame,
        mine: &Announcement,
    ) -> Result<Hello, Refusal> {
        let me = self.me;
        self.admits(peer)?;
        let versions = |theirs: u16| {
            Refusal::both(format!(
                "{peer} speaks wire version {theirs}, {me} speaks {}",
                self.version
            ))
        };
        if version != self.version {
            return Err(versions(version));
        }
        let Frame::Hello(bytes) = frame else {
            return Err(Refusal::both(format!("{peer} began with another word than Hello")));
        };
        let hello = wire::decode_hello(&bytes)
            .map_err(|error| Refusal::both(format!("the Hello of {peer} is malformed: {error}")))?;
        if hello.version != self.version {
            return Err(versions(hello.version));
        }
        if hello.hub != self.hub {
            let (theirs, ours) = (&hello.hub, &self.hub);
            return Err(Refusal::both(format!("{peer} is of hub {theirs}, {me} of hub {ours}")));
        }
        if hello.me.id != peer {
            return Err(Refusal::both(format!("the Hello of {peer} names {}", hello.me.id)));
        }
        let theirs = hello.me.incarnation;
        let fenced = mine.fenced.iter().filter(|(node, i)| *node == peer && theirs <= *i);
        if let Some(fenced) = fenced.map(|(_, incarnation)| *incarnation).max() {
            return Err(Refusal {
                there: CloseWord::Fenced(fenced),
                here: GreetFailure::Refused(format!("{peer} came with a fenced incarnation")),
            });
        }
        if let Some(fenced) = hello.fenced.filter(|fenced| mine.me.incarnation <= *fenced) {
            let reason = format!("{me} comes with an incarnation that {peer} has fenced");
            return Err(Refusal {
                there: CloseWord::Refused(reason),
                here: GreetFailure::Fenced(fenced),
            });
        }
        Ok(hello)
    }
}

async fn turn_away(
    connection: Connection,
    writer: WriteHalf<Stream>,
    before: BytesMut,
    refusal: Refusal,
) -> GreetFailure {
    say_and_close(connection, writer, before, refusal.there).await;
    refusal.here
}

/// Writes the last word, gives the other end a moment to read it, and closes.
pub(super) async fn say_and_close(
    mut connection: Connection,
    mut writer: WriteHalf<Stream>,
    mut before: BytesMut,
    word: CloseWord,
) {
    put_frame(&mut before, &Frame::Close(word));
    let _ = timeout(LINGER, async {
        writer.write_all(&before).await?;
        writer.shutdown().await?;
        while connection.incoming.recv().await.is_some() {}
        io::Result::Ok(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        model::{id::NodeName, member::MemberState},
        net::carrier::Streams,
    };

    struct NoStreams;

    #[async_trait]
    impl Streams for NoStreams {
        async fn open(&self) -> io::Result<Stream> {
            Err(io::ErrorKind::NotConnected.into())
        }
        fn close(&self) {}
    }

    fn member(n: u8) -> Member {
        Member {
            id: NodeId::from_key([n; 32]),
            incarnation: Incarnation { started: 1, nonce: 1 },
            name: NodeName::new(format!("node-{n}")).expect("a name"),
            addresses: [format!("/ip4/10.0.0.{n}/tcp/1"), "/ip4/127.0.0.1/tcp/1".to_owned()].into(),
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            labels: Default::default(),
            revision: 0,
        }
    }

    fn greeter(announcement: watch::Receiver<Option<Announcement>>) -> Greeter {
        Greeter {
            me: member(1).id,
            version: 1,
            birth: Birth::now(1),
            is_linked: Box::new(|_| false),
            hub: HubName::new("hub").expect("a name"),
            access: watch::channel(AccessList::open()).1,
            announcement,
            deadline: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn that_there_is_a_second_process_is_not_taken_from_who_has_no_hello_of_this_one() {
        let mine = Announcement { me: member(1), known: Vec::new(), fenced: Vec::new() };
        let (_keeper, announcement) = watch::channel(Some(mine));
        let (stream, mut theirs) = tokio::io::duplex(4_096);
        let (incoming, of_peer) = mpsc::channel(1);
        incoming.send(Box::new(stream) as Stream).await.expect("there is room");
        let connection = Connection {
            peer: member(2).id,
            address: "/memory/2".to_owned(),
            dialled: false,
            streams: Arc::new(NoStreams),
            incoming: of_peer,
        };
        let mut out = BytesMut::from(&[CONTROL_STREAM][..]);
        put_preface(&mut out, 1);
        put_frame(&mut out, &Frame::Close(CloseWord::Twin("/memory/3".to_owned())));
        theirs.write_all(&out).await.expect("it is read");
        let failure = greeter(announcement).greet(connection).await.err();
        assert!(matches!(failure, Some(GreetFailure::Broken(_))), "{failure:?}");
    }

    #[test]
    fn a_hello_tells_loopback_over_loopback_alone_and_each_end_what_it_cannot_know_of_its_address()
    {
        let (_, announcement) = watch::channel(None);
        let greeter = greeter(announcement);
        let mine = Announcement { me: member(1), known: vec![member(2)], fenced: Vec::new() };
        for (address, dialled, told) in [
            ("/ip4/127.0.0.1/tcp/5", true, 2),
            ("/ip6/::1/tcp/5", false, 2),
            ("/memory/1", false, 2),
            ("/ip4/10.0.0.3/tcp/5", true, 1),
            ("/ip6/fd00::3/tcp/5", false, 1),
        ] {
            let connection = Connection {
                peer: member(3).id,
                address: address.to_owned(),
                dialled,
                streams: Arc::new(NoStreams),
                incoming: mpsc::channel(1).1,
            };
            let hello = greeter.hello(&mine, &connection).expect("it fits");
            let hello = wire::decode_hello(&hello).expect("it is one");
            assert_eq!(hello.me.addresses, member(1).addresses[..told], "{address}");
            assert_eq!(hello.known[0].addresses, member(2).addresses[..told], "{address}");
            assert_eq!(hello.dialled.as_deref(), dialled.then_some(address));
            // Who accepts says where the connection comes from.
            assert_eq!(hello.seen, ip_of(address).filter(|_| !dialled), "{address}");
        }
    }
}
