//! The columns of a recording, in the one order in which they are written and read.

use std::sync::Arc;

use bytes::Bytes;
use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    errors::{ParquetError, Result},
    file::{properties::WriterProperties, reader::RowGroupReader, writer::SerializedRowGroupWriter},
    schema::{parser::parse_message_type, types::Type},
};
use understudy::v1::{Exchange, Method};

const SCHEMA: &str = "
message exchange {
  REQUIRED INT64 sequence (INTEGER(64,false));
  REQUIRED INT64 arrived (TIMESTAMP(NANOS,true));
  REQUIRED BYTE_ARRAY method (STRING);
  REQUIRED BYTE_ARRAY model (STRING);
  REQUIRED BYTE_ARRAY version (STRING);
  REQUIRED INT32 status;
  REQUIRED INT32 rows;
  REQUIRED INT64 latency_nanos;
  REQUIRED INT64 deadline_nanos;
  REQUIRED BYTE_ARRAY request_id (STRING);
  REQUIRED BYTE_ARRAY shadow_id (STRING);
  REQUIRED BYTE_ARRAY traceparent (STRING);
  REQUIRED BYTE_ARRAY request;
  REQUIRED BYTE_ARRAY response;
}";

pub(super) fn schema() -> Result<Arc<Type>> {
    parse_message_type(SCHEMA).map(Arc::new)
}

pub(super) fn properties(description: String) -> WriterProperties {
    let description = parquet::file::metadata::KeyValue::new(super::DESCRIPTION.to_owned(), description);
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("understudy {}", understudy::VERSION))
        .set_key_value_metadata(Some(vec![description]))
        .build()
}

/// One row group.
pub(super) fn write<W: std::io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    exchanges: &[Exchange],
) -> Result<()> {
    let mut column = Columns { group };
    column.put::<Int64Type>(exchanges, |exchange| exchange.sequence as i64)?;
    column.put::<Int64Type>(exchanges, |exchange| exchange.arrived_unix_nanos as i64)?;
    column.put::<ByteArrayType>(exchanges, |exchange| match exchange.method() {
        Method::Predict => "Predict".into(),
        Method::ModelInfer | Method::Unspecified => "ModelInfer".into(),
    })?;
    column.text(exchanges, |exchange| &exchange.model)?;
    column.text(exchanges, |exchange| &exchange.version)?;
    column.put::<Int32Type>(exchanges, |exchange| exchange.status as i32)?;
    column.put::<Int32Type>(exchanges, |exchange| exchange.rows as i32)?;
    column.put::<Int64Type>(exchanges, |exchange| exchange.latency_nanos as i64)?;
    column.put::<Int64Type>(exchanges, |exchange| exchange.deadline_nanos as i64)?;
    column.text(exchanges, |exchange| &exchange.request_id)?;
    column.text(exchanges, |exchange| &exchange.shadow_id)?;
    column.text(exchanges, |exchange| &exchange.traceparent)?;
    column.put::<ByteArrayType>(exchanges, |exchange| exchange.request.clone().into())?;
    column.put::<ByteArrayType>(exchanges, |exchange| exchange.response.clone().into())
}

struct Columns<'a, 'b, W: std::io::Write> {
    group: &'a mut SerializedRowGroupWriter<'b, W>,
}

impl<W: std::io::Write + Send> Columns<'_, '_, W> {
    fn put<T: DataType>(&mut self, exchanges: &[Exchange], value: impl Fn(&Exchange) -> T::T) -> Result<()> {
        let mut column = self.group.next_column()?.ok_or_else(|| ParquetError::General("a column too many".into()))?;
        let values: Vec<T::T> = exchanges.iter().map(value).collect();
        column.typed::<T>().write_batch(&values, None, None)?;
        column.close()
    }

    fn text(&mut self, exchanges: &[Exchange], value: impl Fn(&Exchange) -> &str) -> Result<()> {
        self.put::<ByteArrayType>(exchanges, |exchange| value(exchange).into())
    }
}

/// The exchanges of one row group.
pub(super) fn read(group: &dyn RowGroupReader) -> Result<Vec<Exchange>> {
    let rows =
        usize::try_from(group.metadata().num_rows()).map_err(|_| ParquetError::General("rows below 0".into()))?;
    let numbers = |column| values::<Int64Type>(group, column, rows);
    let small = |column| values::<Int32Type>(group, column, rows);
    let texts = |column| values::<ByteArrayType>(group, column, rows);
    let (sequence, arrived, method) = (numbers(0)?, numbers(1)?, texts(2)?);
    let (model, version, status, row_counts) = (texts(3)?, texts(4)?, small(5)?, small(6)?);
    let (latency, deadline) = (numbers(7)?, numbers(8)?);
    let (request_id, shadow_id, traceparent) = (texts(9)?, texts(10)?, texts(11)?);
    let (requests, responses) = (texts(12)?, texts(13)?);
    let text = |value: &ByteArray| value.as_utf8().map(str::to_owned);
    (0..rows)
        .map(|row| {
            let method = match method[row].as_utf8()? {
                "Predict" => Method::Predict,
                "ModelInfer" => Method::ModelInfer,
                other => return Err(ParquetError::General(format!("row {row}: unknown method {other:?}"))),
            };
            Ok(Exchange {
                sequence: sequence[row] as u64,
                method: method.into(),
                model: text(&model[row])?,
                version: text(&version[row])?,
                request: Bytes::copy_from_slice(requests[row].data()),
                response: Bytes::copy_from_slice(responses[row].data()),
                status: status[row] as u32,
                rows: row_counts[row] as u32,
                arrived_unix_nanos: arrived[row] as u64,
                latency_nanos: latency[row] as u64,
                deadline_nanos: deadline[row] as u64,
                request_id: text(&request_id[row])?,
                shadow_id: text(&shadow_id[row])?,
                traceparent: text(&traceparent[row])?,
                // What is part of a rehearsal is never recorded.
                marked: false,
                shadow_via: String::new(),
            })
        })
        .collect()
}

fn values<T: DataType>(group: &dyn RowGroupReader, column: usize, rows: usize) -> Result<Vec<T::T>> {
    let mut reader = parquet::column::reader::get_typed_column_reader::<T>(group.get_column_reader(column)?);
    // Not reserved by what the file claims: it grows with what is really there.
    let mut values = Vec::new();
    let (read, _, _) = reader.read_records(rows, None, None, &mut values)?;
    if read == rows && values.len() == rows {
        return Ok(values);
    }
    Err(ParquetError::General(format!("column {column}: expected {rows} values, got {}", values.len())))
}
