//! Amazon's request signatures, version 4, as a pure function of the request, the keys and the time. Source:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use ring::hmac::{self, HMAC_SHA256};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Who signs.
#[derive(Debug, Clone)]
pub struct Keys {
    pub id: String,
    pub secret: SecretString,
    /// Of keys that are good for a while only.
    pub session: Option<SecretString>,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// As it stands on the wire, percent-encoded once.
    pub path: &'a str,
    pub query: &'a str,
    /// In lower case, in the order of their names; `host` and `x-amz-date` among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body, in hexadecimal.
    pub body: &'a str,
}

/// The `Authorization` header of a request at this time (`20260102T030405Z`).
pub fn authorization(keys: &Keys, region: &str, service: &str, time: &str, signed: &Signed<'_>) -> String {
    let date = time.get(..8).unwrap_or(time);
    let names: Vec<&str> = signed.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let headers: String = signed.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    // What is encoded on the wire is encoded once more here, for all services but S3.
    let path = signed.path.replace('%', "%25");
    let canonical = format!("{}\n{path}\n{}\n{headers}\n{names}\n{}", signed.method, signed.query, signed.body);
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let first = format!("AWS4{}", keys.secret.expose_secret()).into_bytes();
    let key = [date, region, service, "aws4_request"].iter().fold(first, |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, text.as_bytes()));
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id)
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// `20260102T030405Z` of seconds since 1970.
pub fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Seconds since 1970 of `2026-01-02T03:04:05Z`.
pub fn seconds(time: &str) -> Option<u64> {
    let number = |at: usize, length: usize| time.get(at..at + length)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + number(11, 2)? * 3600 + number(14, 2)? * 60 + number(17, 2)?)
}

/// Year, month and day of days since 1970, in the Gregorian calendar whose years begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into();
        Keys { id: "AKIDEXAMPLE".to_owned(), secret, session: None }
    }

    fn signature(method: &str, headers: &[(&str, &str)], body: &str) -> String {
        let signed = Signed { method, path: "/", query: "", headers, body: &sha256(body.as_bytes()) };
        let told = authorization(&keys(), "us-east-1", "service", "20150830T123600Z", &signed);
        told.rsplit_once('=').unwrap().1.to_owned()
    }

    /// `get-vanilla`, `post-vanilla` and `post-x-www-form-urlencoded` of Amazon's test suite for signature version 4.
    #[test]
    fn amazons_own_examples_are_met() {
        let plain = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        assert_eq!(signature("GET", &plain, ""), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        assert_eq!(signature("POST", &plain, ""), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        assert_eq!(
            signature("POST", &form, "Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    /// A call of Converse, whose path is encoded twice; checked against two other implementations.
    #[test]
    fn an_encoded_path_is_encoded_again() {
        let body = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;
        let sum = sha256(body.as_bytes());
        assert_eq!(sum, "c3335e07d6e89650bf94cb98664be69f8774dbc3198df221f113db0a59ea14f0");
        let headers = [
            ("content-type", "application/json"),
            ("host", "bedrock-runtime.us-east-1.amazonaws.com"),
            ("x-amz-date", "20260102T030405Z"),
        ];
        let path = "/model/us.anthropic.claude-x-v1%3A0/converse";
        let signed = Signed { method: "POST", path, query: "", headers: &headers, body: &sum };
        assert_eq!(
            authorization(&keys(), "us-east-1", "bedrock", "20260102T030405Z", &signed),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/bedrock/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5cb8c0e54dae1df61a257fb23104c9ce5ba90091b5795eb3de19a08400f688d0"
        );
    }

    #[test]
    fn times_are_written_as_amazon_writes_them() {
        for (seconds, written) in
            [(0, "19700101T000000Z"), (951_827_696, "20000229T123456Z"), (1_767_323_045, "20260102T030405Z")]
        {
            assert_eq!(time(seconds), written);
            let (d, t) = written.split_at(8);
            let other = format!("{}-{}-{}T{}:{}:{}Z", &d[..4], &d[4..6], &d[6..], &t[1..3], &t[3..5], &t[5..7]);
            assert_eq!(self::seconds(&other), Some(seconds), "{other}");
        }
    }
}
