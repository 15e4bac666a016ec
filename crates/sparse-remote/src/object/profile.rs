//! Credentials of S3 from the files that Amazon's own tools write (`aws configure`).

use sparse_core::{Error, ErrorKind, Result};
use std::fmt;
use std::path::PathBuf;

/// Longest file that is read.
const MOST: u64 = 1 << 20;
/// Settings by which Amazon's tools get credentials in ways that are not ours.
const INDIRECT: [&str; 4] = ["credential_process", "role_arn", "sso_session", "sso_start_url"];

/// What a profile says; the environment counts more.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) key_id: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) token: Option<String>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest is secret.
        f.debug_struct("Profile").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Profile {
    /// Reads the profile that `AWS_PROFILE` names, or `default`.
    ///
    /// Files that are not there say nothing. `variable` looks a variable up.
    ///
    /// # Errors
    /// `NotFound` for a profile that was named and is in neither file; `AccessDenied` for one whose
    /// credentials come from a program or another service; `Io` for a file that cannot be read.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Profile> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let file = |name: &str, standard: &str| -> Result<String> {
            let home = || Some(std::env::home_dir()?.join(standard));
            match set(name).map(PathBuf::from).or_else(home) {
                Some(path) => text_of(path),
                None => Ok(String::new()),
            }
        };
        let named = set("AWS_PROFILE");
        let name = named.as_deref().unwrap_or("default");
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?;
        let config = file("AWS_CONFIG_FILE", ".aws/config")?;
        let found = Profile::of(name, &credentials, &config)?;
        if found.is_none() && named.is_some() {
            let e = format!("there is no profile {name:?} (AWS_PROFILE) in ~/.aws");
            return Err(Error::new(ErrorKind::NotFound, e));
        }
        Ok(found.unwrap_or_default())
    }

    /// Returns the profile `name` of both files, if one has it.
    fn of(name: &str, credentials: &str, config: &str) -> Result<Option<Profile>> {
        let full = format!("profile {name}");
        let section = if name == "default" { name } else { &full };
        let settings = [settings(credentials, name), settings(config, section)];
        if settings.iter().all(Option::is_none) {
            return Ok(None);
        }
        let get = |key: &str| {
            let mut all = settings.iter().flatten().flatten();
            all.find(|(k, v)| *k == key && !v.is_empty()).map(|(_, v)| (*v).to_owned())
        };
        let profile = Profile {
            key_id: get("aws_access_key_id"),
            secret: get("aws_secret_access_key"),
            token: get("aws_session_token"),
            region: get("region"),
            endpoint: get("endpoint_url"),
        };
        if profile.key_id.is_none()
            && let Some(way) = INDIRECT.into_iter().find(|way| get(way).is_some())
        {
            let e = format!(
                "the profile {name:?} has no keys, but {way}: set the variables that \
                 `aws configure export-credentials --profile {name} --format env` prints"
            );
            return Err(Error::new(ErrorKind::AccessDenied, e));
        }
        Ok(Some(profile))
    }
}

/// Returns the settings of a section, or nothing if it is not there.
fn settings<'a>(text: &'a str, section: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut found = None;
    let mut inside = false;
    for line in text.lines() {
        let content = line.trim();
        if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = name.split_whitespace().eq(section.split_whitespace());
            if inside {
                found.get_or_insert_with(Vec::new);
            }
        } else if inside
            // Indented ones belong to a setting of several lines.
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((key, value)) = content.split_once('=')
        {
            found.get_or_insert_with(Vec::new).push((key.trim(), value.trim()));
        }
    }
    found
}

/// Reads a file; one that is not there is empty.
fn text_of(path: PathBuf) -> Result<String> {
    let place = |e: Error| e.in_file(path.display().to_string());
    match std::fs::metadata(&path) {
        Ok(found) if found.len() > MOST => {
            let e = format!("the file is longer than {MOST} bytes");
            Err(place(Error::new(ErrorKind::LimitExceeded, e)))
        }
        Ok(_) => std::fs::read_to_string(&path)
            .map_err(|e| place(Error::io("cannot read the credentials", e))),
        Err(_) => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\
# mine
[default]
aws_access_key_id = AKIA1
aws_secret_access_key=s3cret=1

[ other ]
aws_access_key_id = AKIA2
aws_secret_access_key = s3cret2
aws_session_token = token
";
    const CONFIG: &str = "\
[default]
region = eu-west-1
s3 =
  endpoint_url = https://not.this
[profile other]
endpoint_url = https://s3.example
[profile login]
sso_session = mine
";

    #[test]
    fn profiles_are_put_together_from_both_files() {
        let profile = Profile::of("default", CREDENTIALS, CONFIG).unwrap().unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!((&profile.key_id, &profile.secret), (&some("AKIA1"), &some("s3cret=1")));
        assert_eq!((&profile.region, &profile.endpoint), (&some("eu-west-1"), &None));
        let other = Profile::of("other", CREDENTIALS, CONFIG).unwrap().unwrap();
        assert_eq!((&other.key_id, &other.token), (&some("AKIA2"), &some("token")));
        assert_eq!(other.endpoint, some("https://s3.example"));
        assert_eq!(Profile::of("third", CREDENTIALS, CONFIG).unwrap(), None);
        assert_eq!(Profile::of("default", "", "").unwrap(), None);
        assert!(!format!("{profile:?}{other:?}").contains("s3cret"));
    }

    #[test]
    fn ways_that_are_not_ours_are_named() {
        let e = Profile::of("login", CREDENTIALS, CONFIG).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AccessDenied);
        assert!(e.to_string().contains("sso_session"), "{e}");
    }

    #[test]
    fn files_are_found_by_their_variables() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("credentials"), CREDENTIALS).unwrap();
        let read = |profile: &str| {
            Profile::read(|name| match name {
                "AWS_SHARED_CREDENTIALS_FILE" => Some(path("credentials")),
                "AWS_CONFIG_FILE" => Some(path("missing")),
                "AWS_PROFILE" => Some(profile.to_owned()),
                _ => None,
            })
        };
        assert_eq!(read("").unwrap().key_id.as_deref(), Some("AKIA1"));
        assert_eq!(read("other").unwrap().key_id.as_deref(), Some("AKIA2"));
        assert_eq!(read("third").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
