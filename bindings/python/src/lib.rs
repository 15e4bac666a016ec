//! The extension module of the Python package `sparse-llm`: `sparse_llm._core`.
//!
//! Thin on purpose. Here are threads, signals, progress and bytes; names, defaults, arrays and
//! everything that needs another Python package is in `py_src/sparse_llm`. Reports cross the border
//! as JSON, tensors as `bytearray`, rows through the Arrow C stream interface.

mod cache;
mod datasets;
mod errors;
mod evaluation;
mod job;
mod memory;
mod models;
mod options;
mod reader;
mod tensors;

use pyo3::prelude::*;

/// Module `sparse_llm._core`.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<cache::CachedModel>()?;
    module.add_class::<cache::DeltaCache>()?;
    module.add_class::<cache::Prefetch>()?;
    module.add_class::<datasets::DatasetReader>()?;
    module.add_class::<datasets::RowStream>()?;
    module.add_class::<reader::DeltaReader>()?;
    for function in [
        wrap_pyfunction!(datasets::compress_dataset, module)?,
        wrap_pyfunction!(datasets::estimate_dataset, module)?,
        wrap_pyfunction!(datasets::restore_dataset, module)?,
        wrap_pyfunction!(datasets::verify_dataset, module)?,
        wrap_pyfunction!(evaluation::evaluate, module)?,
        wrap_pyfunction!(evaluation::join_prompts, module)?,
        wrap_pyfunction!(evaluation::optimize, module)?,
        wrap_pyfunction!(evaluation::route, module)?,
        wrap_pyfunction!(models::compress, module)?,
        wrap_pyfunction!(models::compress_adapter, module)?,
        wrap_pyfunction!(models::compress_tensors, module)?,
        wrap_pyfunction!(models::estimate, module)?,
        wrap_pyfunction!(models::export_adapter, module)?,
        wrap_pyfunction!(models::info, module)?,
        wrap_pyfunction!(models::quality, module)?,
        wrap_pyfunction!(models::restore, module)?,
        wrap_pyfunction!(models::verify, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
