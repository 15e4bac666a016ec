//! From one crate's arrays to the other's, by the Arrow C data interface.
//!
//! Both crates define the interface's two structures, with the same layout: it is fixed in C. A
//! structure that one of them exported is reinterpreted as the other's, and with it goes the duty
//! to release it, which its owner does when it is dropped.
#![allow(unsafe_code)]

use arrow_array::ffi::{FFI_ArrowArray, from_ffi, to_ffi};
use arrow_array::{Array as _, ArrayRef, make_array, new_null_array};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, DataType as Known, IntervalUnit};
use arrow2::array::growable::make_growable;
use arrow2::array::{Array, NullArray};
use arrow2::datatypes::{DataType, Field, PhysicalType};
use arrow2::ffi::{
    ArrowArray, ArrowSchema, export_array_to_c, export_field_to_c, import_array_from_c,
    import_field_from_c,
};
use sparse_core::{Error, ErrorKind, Result};
use std::mem::transmute;
use std::panic::{AssertUnwindSafe, catch_unwind};

// `transmute` compares sizes; this, alignment.
const _: () = assert!(align_of::<ArrowArray>() == align_of::<FFI_ArrowArray>());
const _: () = assert!(align_of::<ArrowSchema>() == align_of::<FFI_ArrowSchema>());

fn refused(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("column {name:?} cannot be passed on: {why}"))
}

fn refused_by_arrow(name: &str) -> impl Fn(ArrowError) -> Error + '_ {
    move |e| refused(name, "arrow-rs refuses it").with_source(e)
}

/// Returns true if arrow2 reads this type as it is meant. It does not look at the width of
/// decimals, for one, and would take those of 32 bits for 128: what it knows is therefore listed.
fn passes(data_type: &Known) -> bool {
    use Known::*;
    match data_type {
        Null | Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => true,
        Float16 | Float32 | Float64 | Decimal128(..) | Decimal256(..) => true,
        Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) | Duration(_) => true,
        // arrow2 cannot export those of months, days and nanoseconds.
        Interval(unit) => *unit != IntervalUnit::MonthDayNano,
        Utf8 | LargeUtf8 | Binary | LargeBinary | FixedSizeBinary(_) => true,
        List(item) | LargeList(item) | FixedSizeList(item, _) | Map(item, _) => {
            passes(item.data_type())
        }
        Struct(fields) => fields.iter().all(|f| passes(f.data_type())),
        Dictionary(key, value) => key.is_integer() && passes(value),
        _ => false,
    }
}

/// Runs code of arrow2, which gives up by panics here and there.
fn without_panic<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(refused(name, "arrow2 panicked")))
}

fn exported_field(field: &Field) -> FFI_ArrowSchema {
    // SAFETY: both are the C structure `ArrowSchema`, and own what it points to.
    unsafe { transmute::<ArrowSchema, FFI_ArrowSchema>(export_field_to_c(field)) }
}

/// Returns true if arrow2 can export this type.
fn exports(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Interval(arrow2::datatypes::IntervalUnit::MonthDayNano) => false,
        List(item) | LargeList(item) | FixedSizeList(item, _) | Map(item, _) => {
            exports(&item.data_type)
        }
        Struct(fields) | Union(fields, ..) => fields.iter().all(|f| exports(&f.data_type)),
        Dictionary(_, value, _) | Extension(_, value, _) => exports(value),
        _ => true,
    }
}

pub(crate) fn field_to_arrow(field: &Field) -> Result<arrow_schema::Field> {
    if !exports(&field.data_type) {
        return Err(refused(
            &field.name,
            "arrow2 cannot export intervals of months, days and nanoseconds",
        ));
    }
    let exported = without_panic(&field.name, || Ok(exported_field(field)))?;
    arrow_schema::Field::try_from(&exported).map_err(refused_by_arrow(&field.name))
}

pub(crate) fn field_from_arrow(field: &arrow_schema::Field) -> Result<Field> {
    if !passes(field.data_type()) {
        return Err(refused(field.name(), &format!("arrow2 does not know {}", field.data_type())));
    }
    let exported = FFI_ArrowSchema::try_from(field).map_err(refused_by_arrow(field.name()))?;
    // SAFETY: both are the C structure `ArrowSchema`, and own what it points to.
    let exported = unsafe { transmute::<FFI_ArrowSchema, ArrowSchema>(exported) };
    without_panic(field.name(), || {
        // SAFETY: arrow-rs made it from a field, so it is well formed; what arrow2 does not know,
        // it refuses.
        unsafe { import_field_from_c(&exported) }
            .map_err(|e| refused(field.name(), "arrow2 does not know its type").with_source(e))
    })
}

/// Returns true if slices of this type are exported wrongly: arrow2 gives the offset of the
/// validity bitmap as that of the members, too.
fn is_sliced_wrongly(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Struct(_) | FixedSizeList(..) | Map(..) => true,
        List(item) | LargeList(item) => is_sliced_wrongly(&item.data_type),
        Dictionary(_, value, _) | Extension(_, value, _) => is_sliced_wrongly(value),
        _ => false,
    }
}

pub(crate) fn array_to_arrow(field: &Field, array: Box<dyn Array>) -> Result<ArrayRef> {
    if array.data_type().to_physical_type() == PhysicalType::Null {
        // arrow2 gives it a buffer, which the interface does not have.
        return Ok(new_null_array(&Known::Null, array.len()));
    }
    let exported = without_panic(&field.name, || {
        if !is_sliced_wrongly(array.data_type()) {
            return Ok(export_array_to_c(array));
        }
        let mut whole = make_growable(&[&*array], false, array.len());
        whole.extend(0, 0, array.len());
        Ok(export_array_to_c(whole.as_box()))
    })?;
    // SAFETY: both are the C structure `ArrowArray`, and own what it points to.
    let exported = unsafe { transmute::<ArrowArray, FFI_ArrowArray>(exported) };
    // SAFETY: arrow2 made it from an array of the field's type, as the caller compared.
    let data = unsafe { from_ffi(exported, &exported_field(field)) };
    let mut data = data.map_err(refused_by_arrow(&field.name))?;
    data.align_buffers();
    data.validate_full().map_err(refused_by_arrow(&field.name))?;
    Ok(make_array(data))
}

pub(crate) fn array_from_arrow(
    field: &arrow_schema::Field,
    array: &ArrayRef,
) -> Result<Box<dyn Array>> {
    let known = field_from_arrow(field)?;
    if array.data_type() != field.data_type() {
        return Err(refused(field.name(), "its type is not that of its field"));
    }
    if known.data_type.to_physical_type() == PhysicalType::Null {
        return Ok(NullArray::new(known.data_type, array.len()).boxed());
    }
    let (exported, _) = to_ffi(&array.to_data()).map_err(refused_by_arrow(field.name()))?;
    // SAFETY: both are the C structure `ArrowArray`, and own what it points to.
    let exported = unsafe { transmute::<FFI_ArrowArray, ArrowArray>(exported) };
    without_panic(field.name(), || {
        // SAFETY: arrow-rs made it from a valid array of that type.
        unsafe { import_array_from_c(exported, known.data_type) }
            .map_err(|e| refused(field.name(), "arrow2 refuses it").with_source(e))
    })
}
