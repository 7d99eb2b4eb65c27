//! A receiver of OTLP metrics that only counts, and takes log records: for the demo, where no collector is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
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
    common::v1::KeyValue,
    metrics::v1::{metric::Data, number_data_point},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, codec::CompressionEncoding, transport::Server};

/// What has come. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    exports: u64,
    names: BTreeSet<String>,
    /// By metric and stream, the latest point of each integer sum: its time and value.
    sums: BTreeMap<(String, String), (u64, i64)>,
}

impl Received {
    /// Calls of the exporter.
    pub(crate) fn exports(&self) -> u64 {
        self.with(|counts| counts.exports)
    }

    /// Names of the metrics, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.with(|counts| counts.names.iter().cloned().collect())
    }

    /// The last value of each stream of a cumulative sum, added up; absent when nothing of that name has come.
    pub(crate) fn sum(&self, name: &str) -> Option<u64> {
        self.with(|counts| {
            let streams = counts.sums.iter().filter(|((metric, _), _)| metric == name);
            streams.map(|(_, (_, value))| u64::try_from(*value).unwrap_or_default()).reduce(|a, b| a + b)
        })
    }

    fn with<T>(&self, read: impl FnOnce(&Counts) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, request: &ExportMetricsServiceRequest) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.exports += 1;
        for resource in &request.resource_metrics {
            let from = resource.resource.as_ref().map(|resource| canonical(&resource.attributes)).unwrap_or_default();
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                counts.names.insert(metric.name.clone());
                let Some(Data::Sum(sum)) = &metric.data else { continue };
                for point in &sum.data_points {
                    let Some(number_data_point::Value::AsInt(value)) = point.value else { continue };
                    let stream = format!("{from} of {}", canonical(&point.attributes));
                    let last = counts.sums.entry((metric.name.clone(), stream)).or_default();
                    if point.time_unix_nano >= last.0 {
                        *last = (point.time_unix_nano, value);
                    }
                }
            }
        }
    }
}

/// A stream is named by its attributes, whose order means nothing and differs from export to export.
fn canonical(attributes: &[KeyValue]) -> String {
    let mut pairs: Vec<String> = attributes.iter().map(|pair| format!("{} {:?}", pair.key, pair.value)).collect();
    pairs.sort_unstable();
    pairs.join(", ")
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.take(request.get_ref());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Received {
    async fn export(
        &self,
        _: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

/// A receiver that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// `http://IP:PORT`.
    pub(crate) endpoint: String,
    pub(crate) received: Received,
    _task: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Receiver {
    /// Listens on a free port of this machine.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the OTLP receiver can't listen")?;
        let endpoint = format!("http://{}", listener.local_addr().context("the OTLP receiver has no address")?);
        let received = Received::default();
        let metrics = MetricsServiceServer::new(received.clone()).accept_compressed(CompressionEncoding::Gzip);
        let logs = LogsServiceServer::new(received.clone()).accept_compressed(CompressionEncoding::Gzip);
        let mut task = JoinSet::new();
        let server = Server::builder().add_service(metrics).add_service(logs);
        task.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { endpoint, received, _task: task })
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::metrics::v1::metrics_service_client::MetricsServiceClient,
        common::v1::{AnyValue, any_value},
        metrics::v1::{Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum},
    };

    use super::*;

    fn export(epoch: &str, time: u64, value: i64) -> ExportMetricsServiceRequest {
        let pair = |key: &str, text: &str| {
            let value = Some(AnyValue { value: Some(any_value::Value::StringValue(text.into())) });
            KeyValue { key: key.into(), value, ..KeyValue::default() }
        };
        let mut attributes = vec![pair("epoch", epoch), pair("model", "adult")];
        if time.is_multiple_of(2) {
            attributes.reverse();
        }
        let point = NumberDataPoint {
            attributes,
            time_unix_nano: time,
            value: Some(number_data_point::Value::AsInt(value)),
            ..NumberDataPoint::default()
        };
        let data = Some(Data::Sum(Sum { data_points: vec![point], aggregation_temporality: 2, is_monotonic: true }));
        let metric = Metric { name: "shadow.compared".into(), data, ..Metric::default() };
        let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
        let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![resource] }
    }

    #[tokio::test]
    async fn the_last_value_of_each_stream_counts() {
        let receiver = Receiver::start().await.expect("a receiver");
        let mut client = MetricsServiceClient::connect(receiver.endpoint.clone()).await.expect("a connection");
        assert_eq!(receiver.received.sum("shadow.compared"), None);
        for (epoch, time, value) in [("1", 1, 10), ("1", 2, 30), ("2", 3, 4), ("1", 1, 10)] {
            client.export(export(epoch, time, value)).await.expect("an answer");
        }
        assert_eq!(receiver.received.exports(), 4);
        assert_eq!(receiver.received.names(), ["shadow.compared"]);
        assert_eq!(receiver.received.sum("shadow.compared"), Some(34));
        assert_eq!(receiver.received.sum("shadow.agreed"), None);
    }
}
