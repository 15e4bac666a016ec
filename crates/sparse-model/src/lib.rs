//! Model input and output: safetensors files, shards, directories and caches; matching tensors; atomic writes.
