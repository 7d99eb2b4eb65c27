//! A mesh in front of a primary: what it passes on to the primary it copies to the sidecar, as Envoy does it.

use std::net::SocketAddr;

use crate::grpc::{Call, Connection, Reply};

/// One route with a mirror.
#[derive(Debug)]
pub struct Mesh {
    primary: Connection,
    shadow: Connection,
    /// Added to both copies, with a number of its own for each call.
    id_header: Option<&'static str>,
    calls: u64,
}

impl Mesh {
    /// From `primary` to `shadow`; with the name of a header that tells its calls apart.
    pub async fn between(primary: SocketAddr, shadow: SocketAddr, id_header: Option<&'static str>) -> Self {
        Self { primary: Connection::open(primary).await, shadow: Connection::open(shadow).await, id_header, calls: 0 }
    }

    fn stamped(&mut self, call: &Call) -> Call {
        self.calls += 1;
        match self.id_header {
            Some(name) => call.clone().header(name, &format!("call-{}", self.calls)),
            None => call.clone(),
        }
    }

    /// The primary's answer, and what the mirror's target said, which no mesh looks at.
    pub async fn call(&mut self, call: &Call) -> (Reply, Reply) {
        let call = self.stamped(call);
        tokio::join!(self.primary.call(&call), self.shadow.call(&call))
    }

    /// The copy only: as if the primary's answer got lost.
    pub async fn copy(&mut self, call: &Call) -> Reply {
        let call = self.stamped(call);
        self.shadow.call(&call).await
    }

    /// The call only: as a mesh that copies a share of them.
    pub async fn call_without_copy(&mut self, call: &Call) -> Reply {
        let call = self.stamped(call);
        self.primary.call(&call).await
    }
}
