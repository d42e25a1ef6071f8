//! The secret that the nodes of a hub share.

use std::{
    fmt, fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// How much of a file is read: a secret and some white space around it.
const FILE: u64 = 1_024;

/// 32 bytes that all nodes of a hub know and nobody else does.
///
/// Never shown, compared in constant time, and overwritten when it is dropped. What libp2p makes of
/// it while the node runs is not.
///
/// ```
/// use actix_hub::Secret;
///
/// let secret = Secret::from_hex(&"0f".repeat(32))?;
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// # Ok::<(), actix_hub::InvalidSecret>(())
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

/// A secret that could not be read. Shows nothing of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// It has another shape.
    #[error("a secret must be 64 hexadecimal characters, as `openssl rand -hex 32` prints them")]
    Shape,
    /// The file has no secret in it.
    #[error("{path:?} must hold 64 hexadecimal characters and nothing else")]
    FileShape {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the secret cannot be read from {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The environment variable is not set.
    #[error("the environment variable {name} is not set, which should hold the secret")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The environment variable holds something else.
    #[error("the environment variable {name} must hold 64 hexadecimal characters")]
    EnvShape {
        /// The variable.
        name: String,
    },
}

impl Secret {
    /// Wraps 32 bytes; random ones, not a password.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads 64 hexadecimal characters, upper or lower case (`openssl rand -hex 32`).
    ///
    /// # Errors
    /// [`InvalidSecret::Shape`] when it is something else.
    pub fn from_hex(text: impl AsRef<str>) -> Result<Self, InvalidSecret> {
        Self::parse(text.as_ref().as_bytes()).ok_or(InvalidSecret::Shape)
    }

    /// Reads a file of 64 hexadecimal characters; white space around them does not matter.
    ///
    /// # Errors
    /// [`InvalidSecret::File`] and [`InvalidSecret::FileShape`] name the file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, InvalidSecret> {
        let path = path.as_ref();
        let failed = |source| InvalidSecret::File { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        // As large as it can get: growing would leave copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * FILE as usize));
        file.take(FILE + 1).read_to_end(&mut text).map_err(failed)?;
        let shape = || InvalidSecret::FileShape { path: path.to_owned() };
        Self::parse(text.trim_ascii()).ok_or_else(shape)
    }

    /// Reads an environment variable of 64 hexadecimal characters.
    ///
    /// # Errors
    /// [`InvalidSecret::Unset`] and [`InvalidSecret::EnvShape`] name the variable.
    pub fn from_env(name: impl AsRef<str>) -> Result<Self, InvalidSecret> {
        let name = name.as_ref();
        let unset = || InvalidSecret::Unset { name: name.to_owned() };
        let text = std::env::var_os(name).ok_or_else(unset)?;
        let text = Zeroizing::new(text.into_encoded_bytes());
        let shape = || InvalidSecret::EnvShape { name: name.to_owned() };
        Self::parse(text.trim_ascii()).ok_or_else(shape)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut secret = Self::new([0; 32]);
        if text.len() != 2 * secret.0.len() {
            return None;
        }
        for (byte, pair) in secret.0.iter_mut().zip(text.chunks(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            let (high, low) = (digit(pair[0])?, digit(pair[1])?);
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(secret)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Secret {
    fn from(mut bytes: [u8; 32]) -> Self {
        let secret = Self::new(bytes);
        bytes.zeroize();
        secret
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_hexadecimal_text() {
        let secret = Secret::from_hex("0aF1".repeat(16)).expect("64 characters");
        assert_eq!(secret.bytes()[..4], [0x0a, 0xf1, 0x0a, 0xf1]);
        assert_eq!(secret, Secret::new(*secret.bytes()));
        assert_ne!(secret, Secret::new([0; 32]));
        for text in ["0a".to_owned(), "xx".repeat(32), "ä".repeat(32), "0a".repeat(33)] {
            let error = Secret::from_hex(&text).expect_err("it has another shape");
            assert!(!error.to_string().contains(&text) && !format!("{error:?}").contains(&text));
        }
        assert!(!format!("{secret:?}").contains("f1"));
    }

    #[test]
    fn a_secret_is_read_from_a_file_and_its_errors_name_the_file() {
        let name = format!("actix-hub-secret-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let said = |outcome: Result<Secret, InvalidSecret>| {
            outcome.expect_err("it holds no secret").to_string()
        };
        assert!(said(Secret::from_file(&path)).contains("actix-hub-secret"));
        let text = "0a".repeat(32);
        fs::write(&path, format!(" {text}\n")).expect("it is written");
        assert_eq!(Secret::from_file(&path).expect("a secret"), Secret::new([10; 32]));
        for wrong in [format!("{text}0a"), text.repeat(100), "secret word".to_owned()] {
            fs::write(&path, &wrong).expect("it is written");
            let error = said(Secret::from_file(&path));
            assert!(error.contains("actix-hub-secret") && !error.contains(&wrong), "{error}");
        }
        fs::remove_file(&path).expect("it was there");
    }

    #[test]
    fn a_variable_that_holds_no_secret_is_named() {
        let error = Secret::from_env("ACTIX_HUB_NO_SUCH_SECRET").expect_err("it is not set");
        assert!(error.to_string().contains("ACTIX_HUB_NO_SUCH_SECRET"));
        // Whatever it holds, it is no secret.
        let error = Secret::from_env("PATH").expect_err("it is no secret");
        let path = std::env::var("PATH").expect("it is set");
        assert!(error.to_string().contains("PATH") && !error.to_string().contains(&path));
    }
}
