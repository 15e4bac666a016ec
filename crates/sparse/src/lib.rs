//! Store a fine-tuned model as a small delta against its base and restore it bit for bit.
