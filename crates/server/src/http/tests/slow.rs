//! Peers that ask and do not take, that take back what they asked, that ask for too much at once; and a system that refuses.

use std::io;
use std::sync::Mutex;

use grantd_wire::limits::{H2_RESETS_MAX, H2_STREAMS_MAX};
use tokio::io::duplex;

use super::super::stall::Stallable;
use super::*;

const RST_STREAM: u8 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const INITIAL_WINDOW_SIZE: u8 = 4;

async fn tls_server() -> Server {
    Server::start(Some(tls_config(CERT.as_bytes(), KEY.as_bytes()).unwrap()), CONNECTIONS_MAX).await
}

#[tokio::test(start_paused = true)]
async fn an_http1_peer_that_takes_nothing_is_dropped() {
    let server = Server::plain().await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    server.given_up.notified().await;
    assert!(begun.elapsed() >= WRITE_STALL, "{:?}", begun.elapsed());
    drop(stream);
    until(|| server.dropped("stalled")).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_little_in_time_is_waited_for_and_one_that_takes_it_too_late_is_not() {
    let late = Duration::from_millis(1);
    let write = |pause: Duration| async move {
        let (writer, mut reader) = duplex(1);
        let mut writer = Stallable::new(writer, WRITE_STALL);
        let writing = tokio::spawn(async move { writer.write_all(b"abcd").await });
        for _ in 0..4 {
            tokio::time::sleep(pause).await;
            // It fails when the writer has given up.
            let _read = reader.read_u8().await;
        }
        writing.await.unwrap()
    };
    write(WRITE_STALL.checked_sub(late).unwrap()).await.unwrap();
    assert_eq!(write(WRITE_STALL + late).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_that_opens_no_window_is_dropped() {
    let server = tls_server().await;
    let mut h2 = H2::connect(&server).await;
    h2.send(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE, 0, 0, 0, 0]).await;
    h2.send_get("/endless", &[]).await;
    let begun = Instant::now();
    while h2.frame().await.is_some() {}
    server.given_up.notified().await;
    assert!(begun.elapsed() >= WRITE_STALL, "{:?}", begun.elapsed());
    until(|| server.dropped("stalled")).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_that_answers_no_ping_is_dropped_with_its_requests() {
    let server = tls_server().await;
    let mut h2 = H2::connect(&server).await;
    h2.send_get("/slow", &[]).await;
    server.arrived.notified().await;
    read_all(&mut h2.stream).await;
    server.stop().await;
}

#[tokio::test]
async fn an_http2_peer_may_take_back_so_many_requests_and_no_more() {
    let server = tls_server().await;
    let mut h2 = H2::connect(&server).await;
    for _ in 0..H2_RESETS_MAX {
        h2.take_back(&server).await;
    }
    assert_eq!(h2.get(&[]).await.1, "any", "at the bound it is served, and an answer earns one more");
    h2.take_back(&server).await;
    assert_eq!(h2.get(&[]).await.1, "any");
    h2.take_back(&server).await;
    h2.take_back(&server).await;
    while h2.frame().await.is_some() {}
    until(|| server.dropped("resets")).await;
    server.stop().await;
}

#[tokio::test]
async fn requests_in_flight_on_one_http2_connection_are_bounded() {
    let server = tls_server().await;
    let mut h2 = H2::connect(&server).await;
    for _ in 0..H2_STREAMS_MAX {
        h2.send_get("/slow", &[]).await;
        server.arrived.notified().await;
        h2.next_stream += 2;
    }
    h2.send_get("/slow", &[]).await;
    let (id, why) = loop {
        let (kind, _, id, payload) = h2.frame().await.unwrap();
        if kind == RST_STREAM {
            break (id, u32::from_be_bytes(payload.try_into().unwrap()));
        }
    };
    assert_eq!((id, why), (h2.next_stream, REFUSED_STREAM));
    server.shutdown.cut.cancel();
    server.stop().await;
}

#[tokio::test]
async fn new_connections_get_the_new_certificate() {
    let slot = TlsSlot::new(tls_config(CERT.as_bytes(), KEY.as_bytes()).unwrap());
    let server = Server::start_with(Some(slot.clone()), CONNECTIONS_MAX).await;
    let mut first = H2::connect(&server).await;
    let only_http1 = {
        let mut config = (*tls_config(CERT.as_bytes(), KEY.as_bytes()).unwrap()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    };
    slot.replace(only_http1);
    let second = server.connect_tls(&[b"h2", b"http/1.1"]).await;
    assert_eq!(second.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "what is served is the new one");
    assert_eq!(first.get(&[]).await.1, "any", "who is there stays");
    drop((first, second));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_word_to_end_cuts_what_is_in_flight_at_once() {
    let server = Server::plain().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    server.arrived.notified().await;
    let begun = Instant::now();
    server.shutdown.cut.cancel();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(read_all(&mut busy).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_system_that_refuses_connections_is_asked_again_at_longer_intervals() {
    let too_many_files = || io::Error::from_raw_os_error(24);
    let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
    // In this order, from the end: gone ones cost no pause, refused ones pause ever longer.
    let answers = Mutex::new(vec![Ok("accepted")]);
    answers.lock().unwrap().extend((0..7).map(|_| Err(too_many_files())));
    answers.lock().unwrap().extend((0..3).map(|_| Err(gone())));
    let begun = Instant::now();
    let meters = Meters::default();
    let accepted = next(|| std::future::ready(answers.lock().unwrap().pop().unwrap()), &meters).await;
    assert_eq!(accepted, "accepted");
    let pauses: Duration = [50, 100, 200, 400, 800, 1000, 1000].map(Duration::from_millis).iter().sum();
    assert_eq!(begun.elapsed().as_millis(), pauses.as_millis());
}

/// The task that closed a connection counts it, too, a moment sooner or later.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

impl H2 {
    /// Sends a request, and takes it back when it has arrived.
    async fn take_back(&mut self, server: &Server) {
        self.send_get("/slow", &[]).await;
        server.arrived.notified().await;
        self.send(RST_STREAM, 0, self.next_stream, &CANCEL.to_be_bytes()).await;
        self.next_stream += 2;
    }
}
