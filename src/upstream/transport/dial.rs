//! A TCP connection to a server, or through a proxy to it, as its options say.

use super::jobs::Fault;
use super::proxy::{self, Destination};
use super::race;
use super::target::Target;
use crate::config::{Proxy, UpstreamHost, UpstreamOptions};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

/// Connects to a server.
pub(super) async fn connect(target: &Target) -> Result<TcpStream, Fault> {
    let options = &target.options;
    let connect = |address| one(address, options);
    let stream = match proxy::choose(options, target)? {
        Proxy::None | Proxy::Env => first(&target.addresses().await?, connect).await?,
        Proxy::Socks5(server) => {
            let stream = first(&target.proxy_addresses(&server).await?, connect)
                .await
                .map_err(|fault| fault.of_proxy(&server))?;
            proxy::socks5(stream, &server, destination(target)).await?
        }
        Proxy::Http(server) => {
            let stream = first(&target.proxy_addresses(&server).await?, connect)
                .await
                .map_err(|fault| fault.of_proxy(&server))?;
            proxy::http(stream, &server, destination(target)).await?
        }
    };
    // Messages are written whole, so waiting for more to send only delays them.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns what a proxy is asked for: a name is for the proxy to find.
fn destination(target: &Target) -> Destination {
    match &target.host {
        UpstreamHost::Address(ip, _) => Destination { host: ip.to_string(), ip: Some(*ip), port: target.port },
        UpstreamHost::Name(name) => {
            let host = name.to_string().trim_end_matches('.').to_owned();
            Destination { host, ip: None, port: target.port }
        }
    }
}

/// Connects to the first address that takes it.
pub(super) async fn first<T, F: Future<Output = Result<T, Fault>>>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Fault> {
    race::first(addresses, "it has no address", |address| connect(*address)).await
}

async fn one(to: SocketAddr, options: &UpstreamOptions) -> Result<TcpStream, Fault> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    prepare(&socket, to, options)?;
    Ok(TcpSocket::from_std_stream(socket.into()).connect(to).await?)
}

/// Gives a socket its interface, mark and source address.
pub(super) fn prepare(socket: &Socket, to: SocketAddr, options: &UpstreamOptions) -> Result<(), Fault> {
    if let Some(interface) = &options.interface {
        socket.bind_device(Some(interface.as_bytes())).map_err(|error| refused("interface", interface, &error))?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark).map_err(|error| refused("mark", &mark.to_string(), &error))?;
    }
    if let Some(source) = options.source {
        if matches!((source, to), (IpAddr::V4(_), SocketAddr::V6(_)) | (IpAddr::V6(_), SocketAddr::V4(_))) {
            return Err(Fault::told(format!("`source` {source} is of another address family than {}", to.ip())));
        }
        let bound = socket.bind(&SocketAddr::new(source, 0).into());
        bound.map_err(|error| refused("source", &source.to_string(), &error))?;
    }
    Ok(())
}

fn refused(key: &str, value: &str, error: &io::Error) -> Fault {
    Fault::told(format!("`{key}` {value}: {error}"))
}
