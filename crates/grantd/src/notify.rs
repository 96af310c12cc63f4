//! What a service manager is told: that the server is ready, and that it stops (the protocol of `sd_notify`: one datagram).

use std::io;
use std::os::unix::net::UnixDatagram;

use crate::env::Env;

/// Tells the manager that started this process, if one did and asked for it.
pub fn tell(env: &Env, state: &str) {
    let Some(socket) = env.find_filled("NOTIFY_SOCKET") else { return };
    if let Err(e) = send(socket, state) {
        tracing::warn!(error = %e, state, "The service manager could not be told");
    }
}

fn send(socket: &str, state: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // It must not hold up a start or a stop.
    sender.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return sender.send_to_addr(state.as_bytes(), &address).map(drop);
    }
    sender.send_to(state.as_bytes(), socket).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_s_socket_gets_the_word() {
        let path = std::env::temp_dir().join(format!("grantd-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        let env = Env::from_iter([("NOTIFY_SOCKET", path.display().to_string())]);
        tell(&env, "READY=1");
        let mut bytes = [0; 16];
        let length = manager.recv(&mut bytes).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&bytes[..length], b"READY=1");
        assert!(send("/nowhere/socket", "READY=1").is_err());
        tell(&Env::default(), "READY=1");
    }
}
