//! A result cut into chunks and encoded: Arrow streams, bare or as several LZ4 frames one after the
//! other, or JSON rows. Holds at most one chunk in memory; what a limit cuts off is said to be
//! truncated, never passed off as whole.

use std::io::Write;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use flightpath_types::{Error, Result};
use futures::StreamExt;
use serde_json::{Value as Json, json};

use crate::config::Settings;
use crate::json_rows;
use crate::lakehouse::Answer;
use crate::spool::{Spool, Stored};
use crate::types;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    JsonArray,
    ArrowStream,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Format::JsonArray => "JSON_ARRAY",
            Format::ArrowStream => "ARROW_STREAM",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    Inline,
    ExternalLinks,
    InlineOrExternalLinks,
}

/// How a client wants its result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub format: Format,
    pub disposition: Disposition,
    pub lz4: bool,
    pub row_limit: Option<u64>,
    pub byte_limit: Option<u64>,
}

/// A finished result.
#[derive(Debug)]
pub(crate) struct ResultSet {
    pub schema: SchemaRef,
    pub wanted: Wanted,
    pub chunks: Vec<Chunk>,
    pub rows: u64,
    pub bytes: u64,
    pub truncated: bool,
    /// What was read for it.
    pub read_bytes: u64,
    /// Whether chunks are handed out in answers, not by links.
    pub inline: bool,
}

#[derive(Debug)]
pub(crate) struct Chunk {
    pub index: usize,
    pub row_offset: u64,
    pub row_count: u64,
    /// Before compression.
    pub byte_count: u64,
    pub stored: Arc<Stored>,
}

impl ResultSet {
    pub fn manifest(&self) -> Json {
        let fields = self.schema.fields();
        let columns: Vec<Json> = fields.iter().enumerate().map(|(i, f)| types::manifest_column(f, i)).collect();
        let schema =
            if columns.is_empty() { json!({"column_count": 0}) } else { json!({"column_count": columns.len(), "columns": columns}) };
        let mut manifest = json!({
            "format": self.wanted.format.as_str(), "schema": schema, "total_chunk_count": self.chunks.len(),
            "total_row_count": self.rows, "total_byte_count": self.bytes, "truncated": self.truncated,
        });
        if !self.chunks.is_empty() {
            let chunk = |c: &Chunk| json!({"chunk_index": c.index, "row_offset": c.row_offset, "row_count": c.row_count, "byte_count": c.byte_count});
            manifest["chunks"] = self.chunks.iter().map(chunk).collect();
        }
        if self.wanted.lz4 {
            manifest["result_compression"] = json!("LZ4_FRAME");
        }
        manifest
    }
}

/// Runs an answer to its end and stores it.
pub(crate) async fn collect(answer: Answer, wanted: Wanted, settings: &Settings, spool: &Spool) -> Result<ResultSet> {
    let mut collector = Collector {
        settings,
        spool,
        open: None,
        result: ResultSet {
            schema: answer.schema,
            wanted,
            chunks: Vec::new(),
            rows: 0,
            bytes: 0,
            truncated: false,
            read_bytes: 0,
            inline: false,
        },
    };
    let mut batches = answer.batches;
    while let Some(batch) = batches.next().await {
        if !collector.take(&batch?).await? {
            break;
        }
    }
    collector.result.read_bytes = answer.findings.read_bytes().unwrap_or(0);
    collector.finish().await
}

struct Collector<'a> {
    settings: &'a Settings,
    spool: &'a Spool,
    open: Option<Open>,
    result: ResultSet,
}

/// The chunk being written.
struct Open {
    body: Body,
    rows: u64,
}

enum Body {
    Json(Vec<u8>),
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Body {
    fn bytes(&self) -> usize {
        match self {
            Body::Json(rows) => rows.len() + 2,
            Body::Arrow(writer) => writer.get_ref().len(),
        }
    }
}

impl Collector<'_> {
    /// False when a limit is reached and nothing more is wanted.
    async fn take(&mut self, batch: &RecordBatch) -> Result<bool> {
        let mut at = 0;
        while at < batch.num_rows() {
            let open_rows = self.open.as_ref().map_or(0, |o| o.rows as usize);
            let mut rows = self.settings.chunk_rows.max(1).saturating_sub(open_rows).min(batch.num_rows() - at);
            let so_far = self.result.rows + open_rows as u64;
            if let Some(limit) = self.result.wanted.row_limit {
                rows = rows.min(usize::try_from(limit.saturating_sub(so_far)).unwrap_or(usize::MAX));
                if rows == 0 {
                    self.result.truncated = true;
                    return Ok(false);
                }
            }
            self.write(&batch.slice(at, rows))?;
            at += rows;
            let open = self.open.as_ref().map_or((0, 0), |o| (o.body.bytes(), o.rows as usize));
            let bytes = self.result.bytes + open.0 as u64;
            if let Some(limit) = self.byte_limit()
                && bytes >= limit
            {
                self.close().await?;
                self.result.truncated |= bytes > limit;
                return Ok(bytes <= limit);
            }
            if open.0 >= self.settings.chunk_bytes || open.1 >= self.settings.chunk_rows {
                self.close().await?;
            }
        }
        Ok(true)
    }

    fn byte_limit(&self) -> Option<u64> {
        let own = match self.result.wanted.disposition {
            // Fails instead, at the end of `write`.
            Disposition::Inline => None,
            Disposition::ExternalLinks | Disposition::InlineOrExternalLinks => Some(self.settings.external_bytes_max),
        };
        [own, self.result.wanted.byte_limit].into_iter().flatten().min()
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.open.is_none() {
            let body = match self.result.wanted.format {
                Format::JsonArray => Body::Json(Vec::new()),
                Format::ArrowStream => Body::Arrow(Box::new(StreamWriter::try_new(Vec::new(), &self.result.schema).map_err(encoding)?)),
            };
            self.open = Some(Open { body, rows: 0 });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        match &mut open.body {
            Body::Json(rows) => json_rows::append(batch, rows)?,
            Body::Arrow(writer) => writer.write(batch).map_err(encoding)?,
        }
        open.rows += batch.num_rows() as u64;
        let bytes = self.result.bytes + open.body.bytes() as u64;
        let limit = self.settings.inline_bytes_max;
        if self.result.wanted.disposition == Disposition::Inline && bytes > limit {
            return Err(Error::invalid(format!(
                "Inline byte limit exceeded. Statements executed with disposition=INLINE can have a result size of at most {limit} bytes. \
                 Please execute the statement with disposition=EXTERNAL_LINKS if you want to download the full result."
            )));
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let plain = match open.body {
            Body::Json(rows) => [b"[".as_slice(), &rows, b"]"].concat(),
            Body::Arrow(writer) => writer.into_inner().map_err(encoding)?,
        };
        let byte_count = plain.len() as u64;
        let body = if self.result.wanted.lz4 { lz4_frames(&plain, self.settings.lz4_frame_bytes)? } else { plain };
        let stored = Arc::new(self.spool.store(body).await?);
        let (index, row_offset) = (self.result.chunks.len(), self.result.rows);
        self.result.chunks.push(Chunk { index, row_offset, row_count: open.rows, byte_count, stored });
        self.result.rows += open.rows;
        self.result.bytes += byte_count;
        Ok(())
    }

    async fn finish(mut self) -> Result<ResultSet> {
        self.close().await?;
        let mut result = self.result;
        result.inline = match result.wanted.disposition {
            Disposition::Inline => true,
            Disposition::ExternalLinks => false,
            Disposition::InlineOrExternalLinks => {
                result.chunks.len() <= 1 && result.chunks.iter().all(|c| c.stored.bytes <= self.settings.attachment_bytes_max)
            }
        };
        Ok(result)
    }
}

/// Several frames, as Databricks sends them: a reader that stops after the first loses rows.
pub(crate) fn lz4_frames(plain: &[u8], frame_bytes: usize) -> Result<Vec<u8>> {
    let frame = frame_bytes.min(plain.len().div_ceil(2)).max(1);
    let mut out = Vec::with_capacity(plain.len() / 2);
    for part in plain.chunks(frame) {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut out);
        encoder.write_all(part).map_err(encoding)?;
        encoder.finish().map_err(encoding)?;
    }
    Ok(out)
}

fn encoding(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("a result chunk can't be encoded: {error}"))
}
