//! Reading certificates: what an index says of how near restored weights are.

use crate::Seed;
use sparse_codecs::certificate::Certificate;

/// Read; what was read is written, and read again the same, and every question has an answer.
pub fn run(data: &[u8]) {
    let Ok(certificate) = Certificate::read(data) else { return };
    let mut again = Vec::new();
    certificate.write(&mut again);
    let back = Certificate::read(&again).expect("what was written can be read");
    let mut twice = Vec::new();
    back.write(&mut twice);
    assert!(again == twice, "it is written the same");
    for x in [certificate.relative_error(), certificate.norm_ratio(), certificate.exact_rate()] {
        assert!(x.is_nan() || x >= 0.0, "{x}");
    }
    let cosine = certificate.cosine();
    assert!(cosine.is_nan() || (-1.0..=1.0).contains(&cosine), "{cosine}");
    let _ = certificate.agrees(&back);
    let _ = certificate.is_plausible(certificate.weights, certificate.restored);
}

/// Of a tensor that lost something, of one that lost nothing, and of none.
pub fn seeds() -> Vec<Seed> {
    let some = |change: f64, error: f64, exact: u64, ulps: u64| {
        let mut c = Certificate::default();
        (c.weights, c.exact, c.max_ulps, c.p99_ulps) = (2560, exact, ulps, ulps / 2);
        (c.change, c.restored, c.error, c.max_error) = (change, change, error, error / 3.0);
        let mut out = Vec::new();
        c.write(&mut out);
        out
    };
    vec![
        ("lossy".into(), some(1.25, 0.01, 1900, 40)),
        ("exact".into(), some(0.5, 0.0, 2560, 0)),
        ("infinite".into(), some(f64::INFINITY, 1e30, 0, u64::MAX)),
        ("zero".into(), some(0.0, 0.0, 2560, 0)),
    ]
}
