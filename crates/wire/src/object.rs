//! Objects that travel as objects. A derived `Deserialize` would take an array of a type's fields in their order as well.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A `T` that was written as a JSON object.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// For `#[serde(deserialize_with)]`: a field that is an object.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// For `#[serde(deserialize_with)]`: a field that is an object, or null.
pub(crate) fn opt_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// For `#[serde(deserialize_with)]`: a list of objects.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ProviderCreate, SecretCreate};
    use crate::sdk::{SecretGrantRequest, TokenRequest};

    fn fails<T: for<'de> Deserialize<'de>>(text: &str) -> bool {
        serde_json::from_str::<Object<T>>(text).is_err()
    }

    #[test]
    fn an_array_of_the_fields_is_no_object() {
        assert!(!fails::<TokenRequest>(r#"{"request":{"method":"GET","url":"u"}}"#));
        assert!(fails::<TokenRequest>(r#"{"request":["GET","u"]}"#));
        assert!(fails::<TokenRequest>(r#"["g",null,null,{"method":"GET","url":"u"}]"#));
        assert!(!fails::<SecretGrantRequest>(r#"{"principal":{"type":"system"},"grant_policy":{}}"#));
        assert!(fails::<SecretGrantRequest>(r#"{"principal":["system","l"]}"#));
        assert!(fails::<SecretGrantRequest>(r#"{"principal":{"type":"system"},"grant_policy":[]}"#));
        let injection = r#"{"target":"header","key":"k","value_source":"token"}"#;
        assert!(!fails::<SecretCreate>(&format!(r#"{{"name":"n","value":"v","injections":[{injection}]}}"#)));
        assert!(fails::<SecretCreate>(r#"{"name":"n","value":"v","injections":[["header","k","token"]]}"#));
        for (custom, is_refused) in [("{}", false), ("null", false), (r#"["https://id.example.com"]"#, true)] {
            let text = format!(r#"{{"provider":"p","client_id":"c","custom":{custom}}}"#);
            assert_eq!(fails::<ProviderCreate>(&text), is_refused, "{custom}");
        }
    }
}
