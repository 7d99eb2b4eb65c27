//! `understudy predict`: rows to a server, or to a package right here, answers to the terminal.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use tonic::Request;
use understudy::v1::{PredictRequest, PredictResponse, prediction_service_client::PredictionServiceClient};

use crate::{
    connect,
    output::{self, Output},
};

mod answers;
pub(crate) mod input;
mod local;

/// Rows in a request, unless the caller says otherwise: what a package allows by default.
const BATCH: u32 = 100;
/// For one request; goes to the server as its deadline.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Send rows to a server, or evaluate them with a package right here, and show what is predicted
///
/// The rows of the table, of --json and of errors count from 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// HOST:PORT, http://HOST:PORT or unix:PATH
    #[arg(long, env = "UNDERSTUDY_SERVER", value_name = "ADDRESS", default_value = "http://127.0.0.1:8001")]
    server: String,
    #[command(flatten)]
    shown: connect::Shown,
    /// A package directory: evaluate the rows right here, without a server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "version"])]
    package: Option<PathBuf>,
    /// With --package: what happens to values that do not fit [default: as the package says]
    #[arg(long, requires = "package", value_enum)]
    policy: Option<local::Policy>,
    /// Which model; not needed when the server has one only
    #[arg(long, value_name = "NAME", default_value = "")]
    model: String,
    /// Which version [default: the newest]
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    version: String,
    /// Print one JSON object for each row instead of a table
    #[arg(long)]
    json: bool,
    /// Rows in a request, at most
    #[arg(long, value_name = "N", default_value_t = BATCH, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// A JSON object ('{"age": 39, ...}'), a .csv file with a header, a file of JSON objects, or - for JSON objects from
    /// standard input
    #[arg(value_name = "INPUT")]
    input: String,
}

/// # Errors
/// The input is wrong, nobody listens, or the server refuses.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let rows = input::read(&arguments.input)?;
    if let Some(package) = &arguments.package {
        let response = local::predict(package, arguments.policy, &rows)?;
        let lines = if arguments.json { answers::json(&response, 0) } else { answers::table(&[response], output) };
        output::lines(&lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let mut client = PredictionServiceClient::new(arguments.shown.connect(&arguments.server).await?);
        let mut answered = Vec::new();
        let mut row = 0;
        // Also without any row: then the server says what it thinks of that.
        let mut rest = rows;
        loop {
            let next = rest.split_off(rest.len().min(arguments.batch as usize));
            let sent = rest.len();
            let response = ask(&mut client, arguments, rest, row).await?;
            if arguments.json {
                output::lines(&answers::json(&response, row))?;
            } else {
                answered.push(response);
            }
            row += sent;
            rest = next;
            if rest.is_empty() {
                break;
            }
        }
        if !arguments.json {
            output::lines(&answers::table(&answered, output))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// One request; `first` is the row with which it begins.
async fn ask(
    client: &mut PredictionServiceClient<connect::Service>,
    arguments: &Arguments,
    rows: Vec<understudy::v1::Row>,
    first: usize,
) -> anyhow::Result<PredictResponse> {
    let (model, version) = (arguments.model.clone(), arguments.version.clone());
    let mut request = Request::new(PredictRequest { model, version, rows, ..PredictRequest::default() });
    request.set_timeout(TIMEOUT);
    let response = client.predict(request).await;
    response.map(tonic::Response::into_inner).map_err(|status| connect::failed(&status, first))
}
