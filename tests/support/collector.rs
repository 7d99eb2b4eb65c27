//! An OpenTelemetry collector that keeps what it receives.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
    },
    common::v1::{KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs},
    metrics::v1::{AggregationTemporality, ResourceMetrics, Sum, metric::Data, number_data_point},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A collector on a free port.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    received: Received,
    logs: Logs,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Logs(Arc<Mutex<Vec<ResourceLogs>>>);

#[derive(Clone, Debug, Default)]
struct Received(Arc<Mutex<Vec<ResourceMetrics>>>);

impl Collector {
    /// One that takes everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Received::default();
        let logs = Logs::default();
        let serving = Server::builder()
            .add_service(MetricsServiceServer::new(received.clone()))
            .add_service(LogsServiceServer::new(logs.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.expect("the collector serves") });
        Self { address, received, logs, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://IP:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The log records so far, in the order in which they came.
    pub fn logs(&self) -> Vec<LogRecord> {
        let all = self.logs.0.lock().unwrap_or_else(PoisonError::into_inner);
        let scopes = all.iter().flat_map(|resource| &resource.scope_logs);
        scopes.flat_map(|scope| scope.log_records.clone()).collect()
    }

    /// The attributes of the process that sent the last log records.
    pub fn log_resource(&self) -> BTreeMap<String, String> {
        let all = self.logs.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.last().and_then(|last| last.resource.as_ref()).map(|it| named(&it.attributes)).unwrap_or_default()
    }

    /// How often metrics came.
    pub fn exports(&self) -> usize {
        self.received.lock().len()
    }

    /// The attributes of the process that sent the last export.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let last = self.received.lock();
        last.last().and_then(|last| last.resource.as_ref()).map(|it| named(&it.attributes)).unwrap_or_default()
    }

    /// Names of all metrics in the last export.
    pub fn names(&self) -> Vec<String> {
        let received = self.received.lock();
        let metrics = received.last().into_iter().flat_map(|last| &last.scope_metrics).flat_map(|scope| &scope.metrics);
        metrics.map(|metric| metric.name.clone()).collect()
    }

    /// What the cumulative sum `name` was in each export, over the series that have `attributes`; 0 before the first.
    pub fn sums(&self, name: &str, attributes: &[(&str, &str)]) -> Vec<u64> {
        let sum = |export: &ResourceMetrics| {
            let metrics = export.scope_metrics.iter().flat_map(|scope| &scope.metrics);
            metrics.filter(|metric| metric.name == name).map(|metric| value(metric.data.as_ref(), attributes)).sum()
        };
        self.received.lock().iter().map(sum).collect()
    }

    /// What it was in the last export.
    pub fn sum(&self, name: &str, attributes: &[(&str, &str)]) -> u64 {
        self.sums(name, attributes).last().copied().unwrap_or_default()
    }
}

fn value(data: Option<&Data>, attributes: &[(&str, &str)]) -> u64 {
    let Some(Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })) = data else {
        panic!("no sum: {data:?}");
    };
    assert_eq!((*aggregation_temporality, *is_monotonic), (AggregationTemporality::Cumulative as i32, true));
    let matching = data_points.iter().filter(|point| {
        let own = named(&point.attributes);
        attributes.iter().all(|(name, value)| own.get(*name).is_some_and(|it| it == value))
    });
    matching
        .map(|point| match point.value {
            Some(number_data_point::Value::AsInt(number)) => number as u64,
            ref other => panic!("no integer: {other:?}"),
        })
        .sum()
}

/// Attributes by name, as text.
pub fn named(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

impl Received {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ResourceMetrics>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.lock().extend(request.into_inner().resource_metrics);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Logs {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(request.into_inner().resource_logs);
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}
