//! Stores from the environment.

use super::error;
use super::kind::StoreKind;
use super::profile::Profile;
use super::transport::Connector;
use crate::Url;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use sparse_core::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// Variables whose values become part of a header.
const IN_HEADERS: [&str; 8] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
];
/// Variables whose values are URLs.
const ENDPOINTS: [&str; 6] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT",
    "AZURE_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
];

/// A store, twice.
#[derive(Clone, Debug)]
pub(super) struct Stores {
    pub(super) plain: Arc<dyn ObjectStore>,
    /// Its uploads replace nothing, where the store can promise that.
    pub(super) create_only: Arc<dyn ObjectStore>,
}

impl Stores {
    /// Sets up requests to a bucket, by what the environment says. Sends none.
    ///
    /// # Errors
    /// `AccessDenied` when credentials are missing in part; `InvalidArgument` when the environment
    /// says what makes no sense; what reading the certificates reports.
    pub(super) fn from_environment(kind: StoreKind, bucket: &str) -> Result<Stores> {
        check_environment(variable)?;
        let connector = Connector::new()?;
        let plain = store(kind, bucket, connector.clone())?;
        let create_only = store(kind, bucket, connector.create_only(kind))?;
        Ok(Stores { plain, create_only })
    }
}

fn store(kind: StoreKind, bucket: &str, connector: Connector) -> Result<Arc<dyn ObjectStore>> {
    let built = match kind {
        StoreKind::S3 => s3()?
            .with_bucket_name(bucket)
            .with_retry(retry())
            .with_http_connector(connector)
            .build()
            .map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
        StoreKind::Google => GoogleCloudStorageBuilder::from_env()
            // The library allows it by default, for the service of machines, which we allow anyway.
            .with_client_options(ClientOptions::new().with_allow_http(is_true("GOOGLE_ALLOW_HTTP")))
            .with_bucket_name(bucket)
            .with_retry(retry())
            .with_http_connector(connector)
            .build()
            .map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
        StoreKind::Azure => MicrosoftAzureBuilder::from_env()
            .with_container_name(bucket)
            .with_retry(retry())
            .with_http_connector(connector)
            .build()
            .map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
    };
    built.map_err(|e| unusable(kind, &e))
}

/// Returns what the environment says of S3, and the files of Amazon's tools where it says nothing.
fn s3() -> Result<AmazonS3Builder> {
    use AmazonS3ConfigKey as Key;
    let mut builder = AmazonS3Builder::from_env();
    let has = |builder: &AmazonS3Builder, keys: &[Key]| {
        keys.iter().any(|key| builder.get_config_value(key).is_some())
    };
    let own = [
        Key::AccessKeyId,
        Key::WebIdentityTokenFile,
        Key::ContainerCredentialsRelativeUri,
        Key::ContainerCredentialsFullUri,
    ];
    let unsigned = builder.get_config_value(&Key::SkipSignature).is_some_and(|v| v == "true");
    let needs_keys = !unsigned && !has(&builder, &own);
    let profile = match Profile::read(variable) {
        Err(e) if needs_keys => return Err(e),
        profile => profile.unwrap_or_default(),
    };
    let texts = [&profile.key_id, &profile.secret, &profile.token, &profile.region];
    let good = texts.into_iter().flatten().all(|text| fits_header(text))
        && profile.endpoint.as_ref().is_none_or(|url| Url::parse(url).is_ok());
    if !good {
        let e = "the profile of AWS has a strange character, or an endpoint_url that is no URL";
        return Err(Error::invalid_argument(e));
    }
    if needs_keys && let (Some(id), Some(secret)) = (&profile.key_id, &profile.secret) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        if let Some(token) = &profile.token {
            builder = builder.with_token(token);
        }
    }
    if !has(&builder, &[Key::Region, Key::DefaultRegion])
        && let Some(region) = &profile.region
    {
        builder = builder.with_region(region);
    }
    if !has(&builder, &[Key::Endpoint, Key::S3Endpoint])
        && let Some(endpoint) = &profile.endpoint
    {
        builder = builder.with_endpoint(endpoint);
    }
    Ok(builder)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn is_true(name: &str) -> bool {
    variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Refuses values that no request can have in it, where the library would panic.
///
/// # Errors
/// `InvalidArgument`, naming the variable and not its value.
fn check_environment(value: impl Fn(&str) -> Option<String>) -> Result<()> {
    for name in IN_HEADERS {
        // Often a line break at the end, of a file that was read into the variable.
        if value(name).is_some_and(|v| !fits_header(&v)) {
            let e = format!("the variable {name} has a line break or another strange character");
            return Err(Error::invalid_argument(e));
        }
    }
    for name in ENDPOINTS {
        if value(name).is_some_and(|v| Url::parse(&v).is_err()) {
            let e = format!("the variable {name} is no URL: write https://host or http://host");
            return Err(Error::invalid_argument(e));
        }
    }
    Ok(())
}

/// Returns whether a header can have this text in it.
fn fits_header(text: &str) -> bool {
    text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// Returns how often requests are repeated: for about 12 s, and none begins after a minute.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(4),
            base: 2.0,
        },
        max_retries: 6,
        retry_timeout: Duration::from_secs(60),
    }
}

/// Explains why a store cannot be set up. The text of `e` may repeat a variable's value.
fn unusable(kind: StoreKind, e: &object_store::Error) -> Error {
    let variables = match kind {
        StoreKind::S3 => "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
        StoreKind::Google => "GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_SERVICE_ACCOUNT",
        StoreKind::Azure => "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
    };
    let cause = error::explain(e);
    let text = format!("the store cannot be set up: check the variables {variables}");
    match cause.kind() {
        sparse_core::ErrorKind::AccessDenied => cause,
        _ => Error::invalid_argument(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_no_request_can_have_are_refused() {
        let check = |name: &'static str, value: &'static str| {
            check_environment(|asked| (asked == name).then(|| value.to_owned()))
        };
        check("AWS_SECRET_ACCESS_KEY", "a+b/c=").unwrap();
        check("AWS_ENDPOINT_URL", "http://127.0.0.1:5000").unwrap();
        let e = check("AWS_SECRET_ACCESS_KEY", "s3cret\n").unwrap_err();
        assert!(e.to_string().contains("AWS_SECRET_ACCESS_KEY"), "{e}");
        assert!(!e.to_string().contains("s3cret"), "{e}");
        for bad in ["no address", "localhost:5000", "ftp://host", ""] {
            let e = check("AWS_ENDPOINT_URL", bad).unwrap_err();
            assert!(e.to_string().contains("AWS_ENDPOINT_URL"), "{e}");
        }
    }

    #[test]
    fn every_kind_can_be_opened() {
        for kind in [StoreKind::S3, StoreKind::Google] {
            Stores::from_environment(kind, "box").unwrap();
        }
        // An account has no default.
        if std::env::vars().all(|(name, _)| !name.starts_with("AZURE_")) {
            let e = Stores::from_environment(StoreKind::Azure, "box").unwrap_err();
            assert!(e.to_string().contains("AZURE_STORAGE_ACCOUNT_NAME"), "{e}");
        }
    }
}
