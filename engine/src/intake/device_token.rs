//! What a device token looks like on each platform, before any provider is asked.
//! It must not know whether a device token is registered, and never repeats one in an error.

use thiserror::Error;

use crate::limits::DEVICE_TOKEN_MAX;
use crate::model::Platform;

/// Shortest and longest APNs device token, in hexadecimal digits: 32 bytes today, and Apple asks not to rely on it.
const APNS_DIGITS: std::ops::RangeInclusive<usize> = 64..=200;
/// Shortest FCM registration token, in characters; real ones have more than a hundred.
const FCM_CHARACTERS_MIN: usize = 32;

/// Why a text is not a device token. The messages never repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DeviceTokenError {
    /// Not what Apple hands to an app.
    #[error(
        "an APNs device token is an even number of hexadecimal digits, 64 to 200: write the bytes \
         that the app received as hexadecimal text"
    )]
    Apns,
    /// Not what Google hands to an app.
    #[error(
        "an FCM registration token has 32 to 4096 of the characters A-Z a-z 0-9 _ - : and no others: \
         send it as the app received it"
    )]
    Fcm,
}

/// The device token as it is stored: hexadecimal digits in lower case for Apple, unchanged for Google.
///
/// # Errors
/// [`DeviceTokenError`], by platform.
pub fn check_device_token(platform: Platform, text: &str) -> Result<Box<str>, DeviceTokenError> {
    if platform.is_apple() {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !APNS_DIGITS.contains(&text.len()) || !text.len().is_multiple_of(2) {
            return Err(DeviceTokenError::Apns);
        }
        return Ok(text.to_ascii_lowercase().into_boxed_str());
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':');
    if !(FCM_CHARACTERS_MIN..=DEVICE_TOKEN_MAX).contains(&text.len()) || !text.bytes().all(fits) {
        return Err(DeviceTokenError::Fcm);
    }
    Ok(text.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn apple_tokens_are_hexadecimal_and_stored_in_lower_case() {
        let (ios, watch) = (Platform::Ios, Platform::Watchos);
        assert_eq!(
            &*check_device_token(ios, &"AB".repeat(32)).unwrap(),
            "ab".repeat(32)
        );
        assert!(check_device_token(watch, &"0f".repeat(100)).is_ok());
        for bad in [
            "",
            "abc",
            "zz",
            &"ab".repeat(31),
            &"ab".repeat(101),
            &"abc".repeat(23),
        ] {
            assert_eq!(
                check_device_token(ios, bad),
                Err(DeviceTokenError::Apns),
                "{bad}"
            );
        }
        assert!(check_device_token(ios, &format!("{}\0", "ab".repeat(32))).is_err());
        assert!(check_device_token(ios, &"é".repeat(32)).is_err());
    }

    #[test]
    fn google_tokens_keep_their_case_and_their_colon() {
        let token = format!("cF3x_A-9:APA91b{}", "Zz0_-".repeat(20));
        assert_eq!(
            &*check_device_token(Platform::Android, &token).unwrap(),
            token
        );
        for bad in [
            "",
            "short",
            &format!("{token}/x"),
            &format!("{token}\n"),
            &"a".repeat(4097),
        ] {
            assert_eq!(
                check_device_token(Platform::Android, bad),
                Err(DeviceTokenError::Fcm)
            );
        }
    }
}
