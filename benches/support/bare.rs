//! The baseline: length-framed messages over TCP + Noise + Yamux into an Actix actor, and nothing
//! else. No registry, no order across moves, no acknowledgement, no serde.
//!
//! The wire has a thread of its own at both ends, and the actor has one, as in a hub: a handler that
//! blocks must not stop the link.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::prelude::*;
use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt, future::poll_fn};
use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        muxing::{StreamMuxerBox, StreamMuxerExt},
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
        upgrade::Version,
    },
    identity, noise, tcp, yamux,
};
use tokio::sync::{mpsc, oneshot};

type Wire = Boxed<(PeerId, StreamMuxerBox)>;

fn transport() -> Wire {
    let key = identity::Keypair::generate_ed25519();
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).expect("the key can sign"))
        .multiplex(yamux::Config::default())
        .timeout(Duration::from_secs(10))
        .boxed()
}

struct Echo {
    handled: u64,
}

impl Actor for Echo {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1 << 20);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Frame {
    id: u64,
    /// 0: tell, 1: ask, 2: how many were handled?
    ask: u8,
    payload: Vec<u8>,
    reply: mpsc::UnboundedSender<(u64, Vec<u8>)>,
}

impl Handler<Frame> for Echo {
    type Result = ();

    fn handle(&mut self, frame: Frame, _: &mut Self::Context) {
        match frame.ask {
            0 => self.handled += 1,
            1 => drop(frame.reply.send((frame.id, frame.payload))),
            _ => drop(frame.reply.send((frame.id, self.handled.to_le_bytes().to_vec()))),
        }
    }
}

fn append(buffer: &mut Vec<u8>, id: u64, ask: u8, payload: &[u8]) {
    buffer.extend_from_slice(&(payload.len() as u32 + 9).to_le_bytes());
    buffer.extend_from_slice(&id.to_le_bytes());
    buffer.push(ask);
    buffer.extend_from_slice(payload);
}

/// Drives a connection for ever; a muxer does nothing by itself.
async fn drive(mut muxer: StreamMuxerBox) {
    let _ = poll_fn(|cx| {
        loop {
            match muxer.poll_inbound_unpin(cx) {
                std::task::Poll::Ready(Ok(_)) => {}
                std::task::Poll::Ready(Err(error)) => return std::task::Poll::Ready(error),
                std::task::Poll::Pending => break,
            }
        }
        match muxer.poll_unpin(cx) {
            std::task::Poll::Ready(Err(error)) => std::task::Poll::Ready(error),
            _ => std::task::Poll::Pending,
        }
    })
    .await;
}

/// Serves the baseline and tells its address.
pub async fn serve() -> String {
    let mut wire = transport();
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().expect("a valid address");
    wire.listen_on(ListenerId::next(), address).expect("loopback can be listened on");
    let address = loop {
        if let Some(TransportEvent::NewAddress { listen_addr, .. }) = wire.next().await {
            break listen_addr;
        }
    };
    let echo = Echo::start_in_arbiter(&Arbiter::new().handle(), |_| Echo { handled: 0 });
    actix_rt::spawn(async move {
        while let Some(event) = wire.next().await {
            if let TransportEvent::Incoming { upgrade, .. } = event {
                let echo = echo.clone();
                actix_rt::spawn(async move {
                    let Ok((_, mut muxer)) = upgrade.await else { return };
                    let stream = poll_fn(|cx| {
                        let _ = muxer.poll_unpin(cx);
                        muxer.poll_inbound_unpin(cx)
                    })
                    .await;
                    let Ok(stream) = stream else { return };
                    actix_rt::spawn(drive(muxer));
                    let (mut reader, writer) = stream.split();
                    let (reply, replies) = mpsc::unbounded_channel();
                    actix_rt::spawn(write(writer, replies));
                    read(&mut reader, |id, ask, payload| {
                        echo.do_send(Frame { id, ask, payload, reply: reply.clone() });
                    })
                    .await;
                });
            }
        }
    });
    address.to_string()
}

async fn write(
    mut writer: impl futures_util::AsyncWrite + Unpin,
    mut frames: mpsc::UnboundedReceiver<(u64, Vec<u8>)>,
) {
    let mut buffer = Vec::new();
    while let Some((id, payload)) = frames.recv().await {
        buffer.clear();
        append(&mut buffer, id, 1, &payload);
        while buffer.len() < 64 << 10 {
            let Ok((id, payload)) = frames.try_recv() else { break };
            append(&mut buffer, id, 1, &payload);
        }
        if writer.write_all(&buffer).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

async fn read(
    reader: &mut (impl futures_util::AsyncRead + Unpin),
    mut frame: impl FnMut(u64, u8, Vec<u8>),
) {
    let mut buffer = vec![0; 64 << 10];
    let mut held: Vec<u8> = Vec::new();
    while let Ok(read) = reader.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        held.extend_from_slice(&buffer[..read]);
        let mut at = 0;
        while held.len() - at >= 4 {
            let length = u32::from_le_bytes(held[at..at + 4].try_into().expect("four bytes"));
            let end = at + 4 + length as usize;
            if held.len() < end {
                break;
            }
            let id = u64::from_le_bytes(held[at + 4..at + 12].try_into().expect("eight bytes"));
            frame(id, held[at + 12], held[at + 13..end].to_vec());
            at = end;
        }
        held.drain(..at);
    }
}

/// A client of the baseline.
#[derive(Clone)]
pub struct Client {
    frames: mpsc::Sender<(u64, u8, Vec<u8>)>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

impl Client {
    /// Connects on a thread of its own.
    pub async fn connect(address: &str) -> Self {
        let (tell, told) = oneshot::channel();
        let address = address.to_owned();
        Arbiter::new().spawn(async move {
            let _ = tell.send(Self::connect_here(&address).await);
        });
        told.await.expect("the server answers")
    }

    async fn connect_here(address: &str) -> Self {
        let mut wire = transport();
        let address: Multiaddr = address.parse().expect("the server told a valid address");
        let options = DialOpts { role: libp2p::core::Endpoint::Dialer, port_use: PortUse::New };
        let (_, mut muxer) = wire
            .dial(address, options)
            .expect("the address can be dialled")
            .await
            .expect("the server answers");
        let stream = poll_fn(|cx| {
            let _ = muxer.poll_unpin(cx);
            muxer.poll_outbound_unpin(cx)
        })
        .await
        .expect("a stream opens");
        actix_rt::spawn(drive(muxer));
        let (mut reader, mut writer) = stream.split();
        let (frames, mut queue) = mpsc::channel::<(u64, u8, Vec<u8>)>(4_096);
        let waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>> = Arc::default();
        actix_rt::spawn(async move {
            let mut buffer = Vec::new();
            while let Some((id, ask, payload)) = queue.recv().await {
                buffer.clear();
                append(&mut buffer, id, ask, &payload);
                while buffer.len() < 64 << 10 {
                    let Ok((id, ask, payload)) = queue.try_recv() else { break };
                    append(&mut buffer, id, ask, &payload);
                }
                if writer.write_all(&buffer).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
            }
        });
        let answered = waiting.clone();
        actix_rt::spawn(async move {
            let _wire = wire;
            read(&mut reader, |id, _, payload| {
                let mut waiting = answered.lock().expect("nobody panics with it");
                if let Some(sender) = waiting.remove(&id) {
                    let _ = sender.send(payload);
                }
            })
            .await;
        });
        Self { frames, waiting, next: Arc::default() }
    }

    async fn call(&self, ask: u8, payload: Vec<u8>) -> Vec<u8> {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().expect("nobody panics with it").insert(id, sender);
        self.frames.send((id, ask, payload)).await.expect("the writer runs");
        receiver.await.expect("the server answers")
    }

    pub async fn ask(&self, payload: Vec<u8>) -> Vec<u8> {
        self.call(1, payload).await
    }

    pub async fn tell(&self, payload: Vec<u8>) {
        self.frames.send((0, 0, payload)).await.expect("the writer runs");
    }

    pub async fn handled(&self) -> u64 {
        let bytes = self.call(2, Vec::new()).await;
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }
}
