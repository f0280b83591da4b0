//! XdbcTypeInfo: the types of Databricks SQL as ODBC and JDBC describe types.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};
use flightpath_types::{Error, Result};

pub(crate) fn schema() -> SchemaRef {
    XdbcTypeInfoDataBuilder::new().schema()
}

pub(crate) fn answer(data_type: Option<i32>) -> Result<RecordBatch> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    types().into_iter().for_each(|info| builder.append(info));
    builder.build().and_then(|data| data.record_batch(data_type)).map_err(|e| Error::internal(format!("type info: {e}")))
}

fn types() -> Vec<XdbcTypeInfo> {
    use XdbcDataType::*;
    let text = || (Some("'".to_string()), Some("'".to_string()));
    let prefixed = |p: &str| (Some(p.to_string()), Some("'".to_string()));
    let bare = || (None, None);
    vec![
        base("BOOLEAN", XdbcBit, 1, bare()),
        number("TINYINT", XdbcTinyint, 3, 10),
        number("SMALLINT", XdbcSmallint, 5, 10),
        number("INT", XdbcInteger, 10, 10),
        number("BIGINT", XdbcBigint, 19, 10),
        number("FLOAT", XdbcReal, 24, 2),
        number("DOUBLE", XdbcDouble, 53, 2),
        XdbcTypeInfo {
            create_params: Some(vec!["precision".into(), "scale".into()]),
            minimum_scale: Some(0),
            maximum_scale: Some(38),
            ..number("DECIMAL", XdbcDecimal, 38, 10)
        },
        XdbcTypeInfo { case_sensitive: true, searchable: Searchable::Full, ..base("STRING", XdbcVarchar, i32::MAX, text()) },
        base("BINARY", XdbcVarbinary, i32::MAX, prefixed("X'")),
        datetime("DATE", XdbcDate, 10, XdbcDatetimeSubcode::XdbcSubcodeYear, prefixed("DATE '")),
        XdbcTypeInfo {
            minimum_scale: Some(6),
            maximum_scale: Some(6),
            ..datetime("TIMESTAMP", XdbcTimestamp, 26, XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone, prefixed("TIMESTAMP '"))
        },
        XdbcTypeInfo {
            minimum_scale: Some(6),
            maximum_scale: Some(6),
            ..datetime("TIMESTAMP_NTZ", XdbcTimestamp, 26, XdbcDatetimeSubcode::XdbcSubcodeTimestamp, prefixed("TIMESTAMP_NTZ '"))
        },
    ]
}

fn base(name: &str, data_type: XdbcDataType, column_size: i32, literal: (Option<String>, Option<String>)) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        data_type,
        column_size: Some(column_size),
        literal_prefix: literal.0,
        literal_suffix: literal.1,
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Basic,
        unsigned_attribute: None,
        fixed_prec_scale: false,
        auto_increment: None,
        local_type_name: Some(name.into()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: data_type,
        datetime_subcode: None,
        num_prec_radix: None,
        interval_precision: None,
    }
}

fn number(name: &str, data_type: XdbcDataType, precision: i32, radix: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        num_prec_radix: Some(radix),
        ..base(name, data_type, precision, (None, None))
    }
}

fn datetime(
    name: &str,
    data_type: XdbcDataType,
    column_size: i32,
    subcode: XdbcDatetimeSubcode,
    literal: (Option<String>, Option<String>),
) -> XdbcTypeInfo {
    XdbcTypeInfo {
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        ..base(name, data_type, column_size, literal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_are_listed_and_one_can_be_asked_for() {
        assert_eq!(answer(None).unwrap().num_rows(), types().len());
        assert_eq!(answer(Some(XdbcDataType::XdbcTimestamp as i32)).unwrap().num_rows(), 2);
        assert_eq!(answer(Some(XdbcDataType::XdbcTime as i32)).unwrap().num_rows(), 0);
        assert_eq!(answer(None).unwrap().schema(), schema());
    }
}
