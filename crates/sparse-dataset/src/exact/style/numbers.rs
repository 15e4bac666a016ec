//! Fractions as Python and pandas write them.

/// Appends a number without an exponent, if it is a fraction; else as it is.
pub(super) fn as_plain(number: &[u8], out: &mut Vec<u8>) {
    rewrite(number, out, plain);
}

/// Appends a number as Python's `repr` writes it, if it is a fraction; else as it is.
pub(super) fn as_python(number: &[u8], out: &mut Vec<u8>) {
    rewrite(number, out, repr);
}

fn rewrite(number: &[u8], out: &mut Vec<u8>, written: fn(f64) -> String) {
    let is_fraction = number.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
    let text = std::str::from_utf8(number).unwrap_or_default();
    match text.parse::<f64>() {
        Ok(value) if is_fraction && value.is_finite() => out.extend(written(value).bytes()),
        _ => out.extend(number),
    }
}

fn plain(value: f64) -> String {
    let text = format!("{value}");
    if text.contains('.') { text } else { text + ".0" }
}

/// Writes the shortest digits that mean this number: with an exponent below 1e-4 and from 1e16 on.
fn repr(value: f64) -> String {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return plain(value);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_python() {
        for (number, want) in [
            ("0.00001", "1e-05"),
            ("1.5e-7", "1.5e-07"),
            ("0.0001", "0.0001"),
            ("1e16", "1e+16"),
            ("1e15", "1000000000000000.0"),
            ("2.0", "2.0"),
            ("-0.0", "-0.0"),
            ("1e-300", "1e-300"),
            ("17", "17"),
            ("123456789.125", "123456789.125"),
        ] {
            let mut out = Vec::new();
            as_python(number.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want, "{number}");
        }
    }
}
