//! Choosing how to code each tensor: sampling, cost estimates and policies. Knows no codec.
