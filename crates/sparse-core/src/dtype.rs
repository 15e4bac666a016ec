//! Element types.

use crate::{Error, ErrorKind, Result};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $bits:literal,
        $class:expr;)*) => {
        /// Element type of a tensor: every type that safetensors names.
        ///
        /// The numeric code ([`Dtype::code`]) is what a delta file stores; it never changes
        /// meaning.
        ///
        /// # Examples
        ///
        /// ```
        /// use sparse_core::Dtype;
        ///
        /// assert_eq!(Dtype::from_name("BF16"), Some(Dtype::Bf16));
        /// assert_eq!((Dtype::Bf16.bits(), Dtype::Bf16.code()), (16, 10));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Dtype { $($(#[$doc])* $variant,)* }

        impl Dtype {
            /// All types, in order of code.
            pub const ALL: &'static [Dtype] = &[$(Dtype::$variant,)*];

            /// Returns the code under which a delta file stores this type.
            pub const fn code(self) -> u8 { match self { $(Dtype::$variant => $code,)* } }

            /// Returns the type with this code, if there is one.
            pub const fn from_code(code: u8) -> Option<Dtype> {
                match code { $($code => Some(Dtype::$variant),)* _ => None }
            }

            /// Returns the name that safetensors headers use.
            pub const fn name(self) -> &'static str { match self { $(Dtype::$variant => $name,)* } }

            /// Returns the type that a safetensors header calls `name`.
            pub fn from_name(name: &str) -> Option<Dtype> {
                match name { $($name => Some(Dtype::$variant),)* _ => None }
            }

            /// Returns the bits of one element; less than 8 for the packed types.
            pub const fn bits(self) -> u32 { match self { $(Dtype::$variant => $bits,)* } }

            /// Returns the layout of the bits of one element.
            pub const fn class(self) -> DtypeClass { match self { $(Dtype::$variant => $class,)* } }
        }
    };
}

/// Layout of an element's bits, as far as a coder cares.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, DtypeClass};
///
/// assert_eq!(Dtype::Bf16.class(), DtypeClass::Float { exponent: 8, mantissa: 7 });
/// assert_eq!(Dtype::F4.class(), DtypeClass::Opaque);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DtypeClass {
    /// A sign bit, then `exponent` bits, then `mantissa` bits; ordered by magnitude.
    Float {
        /// Width of the exponent field in bits.
        exponent: u32,
        /// Width of the mantissa field in bits.
        mantissa: u32,
    },
    /// A two's complement or unsigned integer (booleans included).
    Integer,
    /// Several values packed in a byte, or a type without a useful order: coded as bytes.
    Opaque,
}

const fn float(exponent: u32, mantissa: u32) -> DtypeClass {
    DtypeClass::Float { exponent, mantissa }
}

dtypes! {
    /// Boolean, one byte.
    Bool = 0, "BOOL", 8, DtypeClass::Integer;
    /// Unsigned 8-bit integer.
    U8 = 1, "U8", 8, DtypeClass::Integer;
    /// Signed 8-bit integer.
    I8 = 2, "I8", 8, DtypeClass::Integer;
    /// Unsigned 16-bit integer.
    U16 = 3, "U16", 16, DtypeClass::Integer;
    /// Signed 16-bit integer.
    I16 = 4, "I16", 16, DtypeClass::Integer;
    /// Unsigned 32-bit integer.
    U32 = 5, "U32", 32, DtypeClass::Integer;
    /// Signed 32-bit integer.
    I32 = 6, "I32", 32, DtypeClass::Integer;
    /// Unsigned 64-bit integer.
    U64 = 7, "U64", 64, DtypeClass::Integer;
    /// Signed 64-bit integer.
    I64 = 8, "I64", 64, DtypeClass::Integer;
    /// IEEE binary16.
    F16 = 9, "F16", 16, float(5, 10);
    /// bfloat16: the upper half of a binary32.
    Bf16 = 10, "BF16", 16, float(8, 7);
    /// IEEE binary32.
    F32 = 11, "F32", 32, float(8, 23);
    /// IEEE binary64.
    F64 = 12, "F64", 64, float(11, 52);
    /// 8-bit float, 4 exponent and 3 mantissa bits.
    F8E4M3 = 13, "F8_E4M3", 8, float(4, 3);
    /// 8-bit float, 5 exponent and 2 mantissa bits.
    F8E5M2 = 14, "F8_E5M2", 8, float(5, 2);
    /// 8-bit power of two, used as a block scale.
    F8E8M0 = 15, "F8_E8M0", 8, DtypeClass::Integer;
    /// `F8_E4M3` without infinities and negative zero.
    F8E4M3Fnuz = 16, "F8_E4M3FNUZ", 8, float(4, 3);
    /// `F8_E5M2` without infinities and negative zero.
    F8E5M2Fnuz = 17, "F8_E5M2FNUZ", 8, float(5, 2);
    /// Packed 6-bit float, 2 exponent and 3 mantissa bits.
    F6E2M3 = 18, "F6_E2M3", 6, DtypeClass::Opaque;
    /// Packed 6-bit float, 3 exponent and 2 mantissa bits.
    F6E3M2 = 19, "F6_E3M2", 6, DtypeClass::Opaque;
    /// Packed 4-bit float.
    F4 = 20, "F4", 4, DtypeClass::Opaque;
    /// Complex: two binary32.
    C64 = 21, "C64", 64, DtypeClass::Opaque;
}

impl Dtype {
    /// Returns the bytes of one *storage element*, which codecs count in.
    ///
    /// It is the element itself for types of whole bytes up to eight, and one byte for packed
    /// types. Complex numbers are stored as their parts would be, four bytes each.
    pub const fn storage_bytes(self) -> usize {
        match self {
            Dtype::C64 => 4,
            _ => match self.bits() {
                16 => 2,
                32 => 4,
                64 => 8,
                _ => 1,
            },
        }
    }

    /// Returns the layout of one storage element.
    pub const fn storage_class(self) -> DtypeClass {
        match self {
            Dtype::C64 => float(8, 23),
            _ => self.class(),
        }
    }

    /// Computes the bytes of `elements` elements.
    ///
    /// # Errors
    /// `InvalidArgument` when the size overflows or, for packed types, is not a whole number of
    /// bytes.
    pub fn byte_len(self, elements: u64) -> Result<u64> {
        let bits = elements.checked_mul(u64::from(self.bits())).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "the size of the tensor overflows 64 bits")
        })?;
        if !bits.is_multiple_of(8) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{elements} elements of {self} are not a whole number of bytes"),
            ));
        }
        Ok(bits / 8)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_bijective() {
        for &dtype in Dtype::ALL {
            assert_eq!(Dtype::from_code(dtype.code()), Some(dtype));
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
            assert_eq!(dtype.bits() as usize * 8 % dtype.storage_bytes(), 0);
        }
        assert_eq!(Dtype::from_code(255), None);
    }

    #[test]
    fn packed_types_need_whole_bytes() {
        assert_eq!(Dtype::F4.byte_len(6).unwrap(), 3);
        assert!(Dtype::F4.byte_len(3).is_err());
        assert_eq!(Dtype::F6E2M3.byte_len(4).unwrap(), 3);
        assert!(Dtype::F64.byte_len(u64::MAX / 8).is_err());
    }

    #[test]
    fn float_fields_fill_the_storage_element() {
        for &dtype in Dtype::ALL {
            if let DtypeClass::Float { exponent, mantissa } = dtype.storage_class() {
                assert_eq!(
                    (1 + exponent + mantissa) as usize,
                    8 * dtype.storage_bytes(),
                    "{dtype}"
                );
            }
        }
    }
}
