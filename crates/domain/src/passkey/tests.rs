use std::collections::BTreeSet;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use cbor4ii::core::enc::Encode as _;
use cbor4ii::core::utils::BufWriter;

use super::vectors as known;
use super::*;

const EXPECTED: Expected<'static> =
    Expected { challenge: b"a challenge", origin: "https://vault.example.com", host: "vault.example.com" };
const SEEN: u8 = PRESENT | VERIFIED;

/// What a device makes.
struct Device {
    key: Vec<(i64, Value)>,
    sign: Sign,
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

impl Device {
    fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let key = vec![
            (1, int(2)),
            (3, int(-7)),
            (-1, int(1)),
            (-2, Value::Bytes(point[1..33].to_vec())),
            (-3, Value::Bytes(point[33..].to_vec())),
        ];
        let sign = move |message: &[u8]| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        Self { key, sign: Box::new(sign) }
    }

    fn eddsa() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = Value::Bytes(pair.public_key().as_ref().to_vec());
        let key = vec![(1, int(1)), (3, int(-8)), (-1, int(6)), (-2, x)];
        Self { key, sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()) }
    }

    fn rs256() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // Behind nine bytes that say what it is, in DER.
        let n = Value::Bytes(pair.public_key().as_ref()[9..265].to_vec());
        let key = vec![(1, int(3)), (3, int(-257)), (-1, n), (-2, Value::Bytes(vec![1, 0, 1]))];
        let sign = move |message: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        };
        Self { key, sign: Box::new(sign) }
    }

    fn all() -> [Self; 3] {
        [Self::es256(), Self::eddsa(), Self::rs256()]
    }

    fn written_key(&self) -> Vec<u8> {
        written(&Value::Map(self.key.iter().map(|(label, value)| (int(*label), value.clone())).collect()))
    }

    /// The key with another entry under this label.
    fn with(mut self, label: i64, value: Value) -> Self {
        let entry = self.key.iter_mut().find(|(known, _)| *known == label);
        entry.expect("every key has it").1 = value;
        self
    }

    fn made_data(&self, flags: u8, id: &[u8]) -> Vec<u8> {
        device_data(EXPECTED.host, flags, 0, &attested(id, &self.written_key()))
    }

    fn answer(&self, flags: u8, stored: u32, counter: u32) -> Result<u32, Wrong> {
        let (client, data) = (client("webauthn.get"), device_data(EXPECTED.host, flags, counter, b""));
        let signature = (self.sign)(&signed_message(&data, &client));
        signed(EXPECTED, &client, &data, &signature, &self.passkey(stored))
    }

    fn passkey(&self, counter: u32) -> Made {
        Made { id: b"id".to_vec(), public_key: self.written_key(), counter }
    }
}

fn int(number: i64) -> Value {
    Value::Integer(number.into())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn written(value: &Value) -> Vec<u8> {
    let mut writer = BufWriter::new(Vec::new());
    value.encode(&mut writer).unwrap();
    writer.into_inner()
}

fn client_of(kind: &str, challenge: &[u8], origin: &str) -> Vec<u8> {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
    serde_json::json!({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false, "other": 1})
        .to_string()
        .into_bytes()
}

fn client(kind: &str) -> Vec<u8> {
    client_of(kind, EXPECTED.challenge, EXPECTED.origin)
}

fn device_data(host: &str, flags: u8, counter: u32, behind: &[u8]) -> Vec<u8> {
    [&sha256(host.as_bytes())[..], &[flags], &counter.to_be_bytes(), behind].concat()
}

fn attested(id: &[u8], key: &[u8]) -> Vec<u8> {
    [&[7; 16], &u16::try_from(id.len()).unwrap().to_be_bytes()[..], id, key].concat()
}

fn object(format: &str, statement: Vec<(Value, Value)>, data: &[u8]) -> Vec<u8> {
    written(&Value::Map(vec![
        (text("fmt"), text(format)),
        (text("attStmt"), Value::Map(statement)),
        (text("authData"), Value::Bytes(data.to_vec())),
    ]))
}

/// What comes of a key that was made with this data.
fn made_of(data: &[u8]) -> Result<Made, Wrong> {
    made(EXPECTED, &client("webauthn.create"), &object("none", vec![], data))
}

#[test]
fn a_passkey_of_each_algorithm_is_made_and_signs() {
    for device in Device::all() {
        let id = vec![9; 32];
        let passkey = made_of(&device.made_data(SEEN | ATTESTED, &id)).unwrap();
        assert_eq!(passkey, Made { id, public_key: device.written_key(), counter: 0 });
        assert_eq!(device.answer(SEEN, 0, 0), Ok(0));
        // Not what was signed; not by this key; not a signature.
        let (client, data) = (client("webauthn.get"), device_data(EXPECTED.host, SEEN, 0, b""));
        let mut signature = (device.sign)(&signed_message(&data, &client));
        assert_eq!(signed(EXPECTED, &client, &data, &signature, &passkey), Ok(0));
        let other = device_data(EXPECTED.host, SEEN, 1, b"");
        assert_eq!(signed(EXPECTED, &client, &other, &signature, &passkey), Err(Wrong::Signature));
        for other in Device::all() {
            let result = signed(EXPECTED, &client, &data, &signature, &other.passkey(0));
            assert_eq!(result, Err(Wrong::Signature));
        }
        let last = signature.len() - 1;
        signature[last] ^= 1;
        for signature in [&signature[..], b"", &[0; limits::PASSKEY_DATA_BYTES_MAX]] {
            assert_eq!(signed(EXPECTED, &client, &data, signature, &passkey), Err(Wrong::Signature));
        }
        let long = [0; limits::PASSKEY_DATA_BYTES_MAX + 1];
        assert_eq!(signed(EXPECTED, &client, &data, &long, &passkey), Err(Wrong::Malformed));
    }
}

#[test]
fn a_counter_goes_on_or_the_passkey_was_copied() {
    let device = Device::es256();
    for (stored, counter, good) in
        [(0, 0, true), (0, 1, true), (1, 2, true), (1, u32::MAX, true), (1, 1, false), (2, 1, false), (1, 0, false)]
    {
        let expected = if good { Ok(counter) } else { Err(Wrong::Counter) };
        assert_eq!(device.answer(SEEN, stored, counter), expected, "{stored} {counter}");
    }
    // Whoever cannot sign learns nothing of the counter.
    let (client, data) = (client("webauthn.get"), device_data(EXPECTED.host, SEEN, 0, b""));
    assert_eq!(signed(EXPECTED, &client, &data, b"", &device.passkey(5)), Err(Wrong::Signature));
}

#[test]
fn what_the_browser_says_is_of_this_challenge_and_this_page() {
    let device = Device::eddsa();
    let both = |client: &[u8], kind: &str| {
        let data = device_data(EXPECTED.host, SEEN, 0, b"");
        let signature = (device.sign)(&signed_message(&data, client));
        match kind {
            "webauthn.get" => signed(EXPECTED, client, &data, &signature, &device.passkey(0)).err(),
            _ => made(EXPECTED, client, &object("none", vec![], &device.made_data(SEEN | ATTESTED, b"id"))).err(),
        }
    };
    for (kind, other) in [("webauthn.get", "webauthn.create"), ("webauthn.create", "webauthn.get")] {
        let right = String::from_utf8(client(kind)).unwrap();
        assert_eq!(both(right.as_bytes(), kind), None);
        for (client, wrong) in [
            (client(other), Wrong::Malformed),
            (client_of(kind, b"another", EXPECTED.origin), Wrong::Challenge),
            (client_of(kind, b"", EXPECTED.origin), Wrong::Challenge),
            (client_of(kind, EXPECTED.challenge, "https://evil.example"), Wrong::Origin),
            (client_of(kind, EXPECTED.challenge, "http://vault.example.com"), Wrong::Origin),
            (client_of(kind, EXPECTED.challenge, "https://vault.example.com:8443"), Wrong::Origin),
            (client_of(kind, EXPECTED.challenge, "https://vault.example.com/"), Wrong::Origin),
            (right.replace("\"crossOrigin\":false", "\"crossOrigin\":true").into_bytes(), Wrong::Origin),
            (right.replace("\"other\":1", "\"topOrigin\":\"https://a.example\"").into_bytes(), Wrong::Origin),
            (right.replace("\"other\":1", "\"origin\":\"https://a.example\"").into_bytes(), Wrong::Malformed),
            (right.replace('{', "").into_bytes(), Wrong::Malformed),
            (b"{}".to_vec(), Wrong::Malformed),
            (vec![0xff; 20], Wrong::Malformed),
            (b"[".repeat(5_000), Wrong::Malformed),
        ] {
            assert_eq!(both(&client, kind), Some(wrong), "{}", String::from_utf8_lossy(&client));
        }
        // At the limit, and one past it.
        let long = |len: usize| right.replace("\"other\":1", &format!("\"other\":1{}", " ".repeat(len - right.len())));
        assert_eq!(both(long(limits::PASSKEY_DATA_BYTES_MAX).as_bytes(), kind), None);
        assert_eq!(both(long(limits::PASSKEY_DATA_BYTES_MAX + 1).as_bytes(), kind), Some(Wrong::Malformed));
    }
}

#[test]
fn what_the_device_says_is_of_this_host_and_of_its_owner() {
    let device = Device::eddsa();
    for flags in [0, PRESENT, VERIFIED, PRESENT | BACKUP_ELIGIBLE] {
        assert_eq!(device.answer(flags, 0, 0), Err(Wrong::Unverified));
        assert_eq!(made_of(&device.made_data(flags | ATTESTED, b"id")), Err(Wrong::Unverified));
    }
    for (flags, good) in [
        (SEEN | BACKUP_ELIGIBLE, true),
        (SEEN | BACKUP_ELIGIBLE | BACKED_UP, true),
        // What is backed up may be.
        (SEEN | BACKED_UP, false),
    ] {
        assert_eq!(device.answer(flags, 0, 0), if good { Ok(0) } else { Err(Wrong::Malformed) });
        assert_eq!(made_of(&device.made_data(flags | ATTESTED, b"id")).is_ok(), good);
    }
    let client = client("webauthn.get");
    let answer = |data: &[u8]| {
        let signature = (device.sign)(&signed_message(data, &client));
        signed(EXPECTED, &client, data, &signature, &device.passkey(0))
    };
    for host in ["evil.example", "example.com", "VAULT.example.com", ""] {
        assert_eq!(answer(&device_data(host, SEEN, 0, b"")), Err(Wrong::Origin));
        let data = device_data(host, SEEN | ATTESTED, 0, &attested(b"id", &device.written_key()));
        assert_eq!(made_of(&data), Err(Wrong::Origin));
    }
    // What it says beyond what was asked is passed over, if it is whole.
    let extensions = written(&Value::Map(vec![(text("credProtect"), int(2))]));
    assert_eq!(answer(&device_data(EXPECTED.host, SEEN | EXTENDED, 0, &extensions)), Ok(0));
    let data = [device.made_data(SEEN | ATTESTED | EXTENDED, b"id"), extensions.clone()].concat();
    assert!(made_of(&data).is_ok());
    for (flags, behind) in [
        (SEEN, &b"\0"[..]),
        (SEEN, &extensions),
        (SEEN | EXTENDED, b""),
        (SEEN | EXTENDED, &written(&int(1))),
        (SEEN | EXTENDED, &extensions[..5]),
        (SEEN | EXTENDED, &[&extensions[..], b"\0"].concat()),
        (SEEN | ATTESTED, b""),
    ] {
        assert_eq!(answer(&device_data(EXPECTED.host, flags, 0, behind)), Err(Wrong::Malformed), "{flags} {behind:?}");
    }
    let whole = device_data(EXPECTED.host, SEEN, 0, b"");
    (0..whole.len()).for_each(|len| assert_eq!(answer(&whole[..len]), Err(Wrong::Malformed), "{len}"));
}

#[test]
fn a_key_is_taken_only_whole_and_of_an_algorithm_that_was_asked_for() {
    let whole = Device::es256().made_data(SEEN | ATTESTED, b"id");
    assert!(made_of(&whole).is_ok());
    (0..whole.len()).for_each(|len| assert_eq!(made_of(&whole[..len]), Err(Wrong::Malformed), "{len}"));
    assert_eq!(made_of(&device_data(EXPECTED.host, SEEN, 0, b"")), Err(Wrong::Malformed), "no key at all");
    let longest = vec![7; limits::PASSKEY_ID_BYTES_MAX];
    let of_id = |id: &[u8]| made_of(&Device::es256().made_data(SEEN | ATTESTED, id)).map(|made| made.id);
    assert_eq!(of_id(&longest), Ok(longest.clone()));
    assert_eq!((of_id(&[&longest[..], &[7]].concat()), of_id(b"")), (Err(Wrong::Malformed), Err(Wrong::Malformed)));
    let of_key = |device: &Device| made_of(&device.made_data(SEEN | ATTESTED, b"id")).err();
    let bytes = |len: usize| Value::Bytes(vec![0xff; len]);
    let other_x = Device::es256().key[3].1.clone();
    for broken in [
        Device::es256().with(3, int(-35)),
        Device::es256().with(3, int(-8)),
        Device::es256().with(1, int(1)),
        Device::es256().with(-1, int(2)),
        Device::es256().with(-1, text("P-256")),
        // On no curve; the point of another key; too short, too long, no bytes.
        Device::es256().with(-2, bytes(32)),
        Device::es256().with(-2, other_x),
        Device::es256().with(-2, bytes(31)),
        Device::es256().with(-3, bytes(33)),
        Device::es256().with(-3, Value::Bool(true)),
        Device::eddsa().with(-1, int(4)),
        Device::eddsa().with(-2, bytes(31)),
        Device::eddsa().with(-2, bytes(44)),
        // Of 1,024 bits, of 2,040, of 2,047, longer than any.
        Device::rs256().with(-1, bytes(128)),
        Device::rs256().with(-1, bytes(255)),
        Device::rs256().with(-1, Value::Bytes([&[0x7f][..], &[0xff; 255]].concat())),
        Device::rs256().with(-1, bytes(1_025)),
        Device::rs256().with(-2, bytes(0)),
        Device { key: vec![], ..Device::es256() },
    ] {
        assert_eq!(of_key(&broken), Some(Wrong::Key), "{:?}", broken.key);
        let kept = Made { public_key: broken.written_key(), ..broken.passkey(0) };
        let (client, data) = (client("webauthn.get"), device_data(EXPECTED.host, SEEN, 0, b""));
        assert_eq!(signed(EXPECTED, &client, &data, b"", &kept), Err(Wrong::Key));
    }
    // As long as a key may be written, and one byte longer.
    let padded = |len: usize| {
        let mut device = Device::rs256();
        let without = device.written_key().len();
        // The label, and how long it is, take four bytes.
        device.key.push((-9, Value::Bytes(vec![0; len - without - 4])));
        assert_eq!(device.written_key().len(), len);
        of_key(&device)
    };
    assert_eq!(padded(limits::PASSKEY_KEY_BYTES_MAX), None);
    assert_eq!(padded(limits::PASSKEY_KEY_BYTES_MAX + 1), Some(Wrong::Malformed));
}

#[test]
fn no_make_is_asked_for_and_the_keys_own_signature_must_be_right() {
    let (device, client) = (Device::eddsa(), client("webauthn.create"));
    let data = device.made_data(SEEN | ATTESTED, b"id");
    let signature = Value::Bytes((device.sign)(&signed_message(&data, &client)));
    let of =
        |format: &str, statement: Vec<(Value, Value)>| made(EXPECTED, &client, &object(format, statement, &data)).err();
    let (algorithm, signed) = ((text("alg"), int(-8)), (text("sig"), signature.clone()));
    assert_eq!(of("none", vec![]), None);
    assert_eq!(of("packed", vec![algorithm.clone(), signed.clone()]), None);
    for (format, statement) in [
        ("none", vec![algorithm.clone()]),
        ("packed", vec![]),
        ("packed", vec![algorithm.clone(), algorithm.clone()]),
        ("packed", vec![(text("alg"), int(-7)), signed.clone()]),
        ("packed", vec![algorithm.clone(), (text("sig"), Value::Bytes(vec![0; 64]))]),
        ("packed", vec![algorithm.clone(), signed.clone(), (text("x5c"), Value::Array(vec![]))]),
        ("fido-u2f", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(of(format, statement.clone()), Some(Wrong::Attestation), "{format} {statement:?}");
    }
}

#[test]
fn what_is_no_attestation_is_refused_and_nothing_panics() {
    let client = client("webauthn.create");
    let whole = object("none", vec![], &Device::eddsa().made_data(SEEN | ATTESTED, b"id"));
    assert!(made(EXPECTED, &client, &whole).is_ok());
    (0..whole.len()).for_each(|len| assert_eq!(made(EXPECTED, &client, &whole[..len]), Err(Wrong::Malformed)));
    // Each byte as something else. Some of them say nothing that counts, such as which make the device is of.
    let mut seen = BTreeSet::new();
    for (at, other) in (0..whole.len()).flat_map(|at| [0x00, 0x1f, 0x5f, 0x7b, 0xbf, 0xff].map(|other| (at, other))) {
        let mut broken = whole.clone();
        broken[at] = other;
        seen.insert(made(EXPECTED, &client, &broken).map_or_else(|wrong| wrong.to_string(), |_| String::new()));
    }
    assert!(seen.len() > 4, "{seen:?}");
    for broken in [
        &b""[..],
        b"garbage",
        &[0x9f; 5_000],
        &[0xa1; 5_000],
        &[&whole[..], b"\0"].concat(),
        &written(&Value::Map(vec![])),
        &written(&Value::Map(vec![(text("authData"), text("text"))])),
        &vec![0; limits::PASSKEY_DATA_BYTES_MAX + 1],
    ] {
        assert_eq!(made(EXPECTED, &client, broken), Err(Wrong::Malformed));
    }
    // At the limit, and one past it.
    let long = |len: usize| {
        let data = Device::eddsa().made_data(SEEN | ATTESTED | EXTENDED, b"id");
        let pad = |pad: usize| {
            let extensions = written(&Value::Map(vec![(text("x"), Value::Bytes(vec![0; pad]))]));
            object("none", vec![], &[&data[..], &extensions].concat())
        };
        let short = pad(1_000).len();
        let long = pad(1_000 + len - short);
        assert_eq!(long.len(), len);
        made(EXPECTED, &client, &long).err()
    };
    assert_eq!(long(limits::PASSKEY_DATA_BYTES_MAX), None);
    assert_eq!(long(limits::PASSKEY_DATA_BYTES_MAX + 1), Some(Wrong::Malformed));
}

/// The bytes that a vector says.
fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// What a vector's browser says that it was asked.
fn challenge_of(client: &str) -> Vec<u8> {
    let said: ClientData = serde_json::from_str(client).unwrap();
    BASE64_URL_SAFE_NO_PAD.decode(said.challenge).unwrap()
}

#[test]
fn the_vectors_of_the_specification_hold() {
    let with = |client: &str, check: &dyn Fn(Expected<'_>)| {
        let challenge = challenge_of(client);
        check(Expected { challenge: &challenge, origin: "https://example.org", host: "example.org" });
    };
    with(known::SELF_MADE_CLIENT, &|expected| {
        let (client, mut object) = (known::SELF_MADE_CLIENT.as_bytes(), hex(known::SELF_MADE));
        let made_key = made(expected, client, &object).unwrap();
        assert_eq!(made_key.id, hex("455ef34e2043a87db3d4afeb39bbcb6cc32df9347c789a865ecdca129cbef58c"));
        assert_eq!((made_key.counter, made_key.public_key.len()), (0, 77));
        // A byte of the signature, which begins behind 36 others.
        object[60] ^= 1;
        assert_eq!(made(expected, client, &object), Err(Wrong::Attestation));
    });
    with(known::PRESENT_MADE_CLIENT, &|expected| {
        let (client, mut object) = (known::PRESENT_MADE_CLIENT.as_bytes(), hex(known::PRESENT_MADE));
        assert_eq!(made(expected, client, &object), Err(Wrong::Unverified));
        // As if the device had seen whom. Nothing signs a key without an attestation.
        let at = object.len() - 164 + 32;
        object[at] |= VERIFIED;
        assert!(made(expected, client, &object).is_ok());
    });
    with(known::CROSSED_CLIENT, &|expected| {
        assert_eq!(check_client(expected, known::CROSSED_CLIENT.as_bytes(), "webauthn.get"), Err(Wrong::Origin));
    });
    let kept = |key: &str| Made { id: b"id".to_vec(), public_key: hex(key), counter: 0 };
    let said = |flags: u8| [hex(known::HOST_HASH), vec![flags], vec![0; 4]].concat();
    with(known::ES256_CLIENT, &|expected| {
        let (client, key) = (known::ES256_CLIENT.as_bytes(), kept(known::ES256_KEY));
        let signature = hex(known::ES256_SIGNATURE);
        assert_eq!(signed(expected, client, &said(0x0d), &signature, &key), Ok(0));
        assert_eq!(signed(expected, client, &said(0x05), &signature, &key), Err(Wrong::Signature));
    });
    for (client, flags, key, signature) in [
        (known::RS256_CLIENT, 0x19, known::RS256_KEY, known::RS256_SIGNATURE),
        (known::EDDSA_CLIENT, 0x01, known::EDDSA_KEY, known::EDDSA_SIGNATURE),
    ] {
        with(client, &|expected| {
            let (client, data, signature) = (client.as_bytes(), said(flags), hex(signature));
            assert_eq!(signed(expected, client, &data, &signature, &kept(key)), Err(Wrong::Unverified));
            let (_, key) = key::parse(&cbor::read_whole(&hex(key)).unwrap()).unwrap();
            assert_eq!(verify(&key, &signed_message(&data, client), &signature), Ok(()));
        });
    }
}
