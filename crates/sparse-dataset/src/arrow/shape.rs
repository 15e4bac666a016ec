//! What the bytes of nested cells are.

use super::schema::kind_of;
use crate::template::Shape;
use arrow_schema::DataType;
use sparse_core::Result;

/// Returns the shape of a type's cells.
///
/// # Errors
/// `InvalidInput` for types that are not supported.
pub(crate) fn shape_of(dtype: &DataType) -> Result<Shape> {
    Ok(match dtype {
        DataType::Dictionary(_, values) => shape_of(values)?,
        DataType::RunEndEncoded(_, values) => shape_of(values.data_type())?,
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => Shape::List(Box::new(shape_of(f.data_type())?)),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|f| shape_of(f.data_type()));
            Shape::Struct(fields.collect::<Result<_>>()?)
        }
        _ => Shape::Leaf(kind_of(dtype)?),
    })
}
